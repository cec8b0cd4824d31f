"""The links of a session that begins on a connection opened before: that one, and its substitute.

Both stand between the session's own link and a byte stream. `warm_stream.py` explains why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, AnyStr, Final

from typing_extensions import override

from soniox_proto.credentials import APIKey
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import SonioxAuthenticationError, SonioxRealtimeError, SonioxServerError
from soniox_proto.events import Event
from soniox_proto.preconnect.idle_link import IdleLink, reported_error
from soniox_proto.stream import Link
from soniox_proto.upgrade import UpgradeRequest
from soniox_proto.websocket.connection import CloseReceived, PongReceived, Violation
from soniox_proto.websocket.http_head import HeadScanner

if TYPE_CHECKING:
    from soniox_proto.preconnect.warm_stream import WarmStream

__all__ = ["TRIAL_SECONDS", "SubstituteLink", "TrialLink"]

TRIAL_SECONDS: Final = 3.0
"""Seconds that a connection which was waiting may take to answer before a new one is opened."""

_PING: Final = b"warm"
"""Payload of the ping that ends the trial. Those of sessions and idle links differ."""


class SessionKey(APIKey):
    """The key that a session got, which also hides the one that its connection really has.

    A substitute is authenticated with a key of its own. The session was told another one, and once
    it has begun it takes no more, but what the service says goes through its hands.
    """

    __slots__ = ("successor",)

    def __init__(self, key: APIKey) -> None:
        super().__init__(key.reveal())
        self.successor: APIKey | None = None
        """The key of the substitute, if there is one."""

    @override
    def redact(self, echo: AnyStr) -> AnyStr:
        redacted = super().redact(echo)
        return redacted if self.successor is None else self.successor.redact(redacted)


class TrialLink(Link):
    """A link of the session on a connection that was waiting, until that has proven to be alive."""

    def __init__(self, link: Link, idle: IdleLink, owner: WarmStream) -> None:
        self.link = link
        self.deadline: float | None = None
        """When the connection counts as dead; None before it is used."""
        self.kept = 0
        """Bytes that are kept for another connection."""
        self.asked_key: SessionKey | None = None
        """The key that the session got, if its key is asked for with each connection."""
        self._idle = idle
        self._owner = owner
        # None once the trial is over. What was sent is kept as it was framed.
        self._sent: list[bytes] | None = []
        self._received: list[bytes] = []
        self._pinged = self._replaced = False

    @property
    @override
    def endpoint(self) -> Endpoint:
        return self.link.endpoint

    @property
    @override
    def open_by(self) -> float | None:
        return self.link.open_by

    @property
    @override
    def upgrade_request(self) -> UpgradeRequest:
        return self.link.upgrade_request

    @property
    @override
    def closed(self) -> bool:
        return self._replaced or self.link.closed

    @property
    @override
    def asks_for_key(self) -> bool:
        return False

    @override
    def authenticate(self, api_key: str | APIKey) -> None:
        self.link.authenticate(api_key)

    @override
    def opened(self, now: float) -> list[Event]:
        key = self._idle.upgrade_request.api_key
        if self.link.asks_for_key and key is not None:
            # The connection has been authenticated with it.
            self.asked_key = SessionKey(key)
            self.link.authenticate(self.asked_key)
        self.begin(now)
        return self.link.upgraded(now, self._idle.headers)

    @override
    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        return self.opened(now)

    def begin(self, now: float) -> None:
        """Give the connection time to answer, from now on."""
        self.deadline = now + TRIAL_SECONDS

    @override
    def data_to_send(self) -> bytes:
        return b"".join(self.buffers_to_send())

    @override
    def buffers_to_send(self) -> list[bytes]:
        if self._replaced:
            return []
        buffers = self.link.buffers_to_send()
        if self._sent is None or not buffers:
            return buffers
        self._sent += buffers
        self.kept += sum(map(len, buffers))
        if not self._pinged:
            self._pinged = True
            self._idle.websocket.send_ping(_PING)
            # Together with a keepalive that was due, it goes in front of nothing else.
            return [*buffers, self._idle.data_to_send()]
        return buffers

    @override
    def receive_data(self, data: bytes, now: float) -> list[Event]:
        if self._replaced:
            return []
        if self._sent is None or self.link.closed:
            return self.link.receive_data(data, now)
        self._received.append(data)
        for event in self._idle.websocket.receive_data(data):
            match event:
                case PongReceived(payload=payload) if payload == _PING:
                    return self._pass(now)
                case list():
                    if _asks_for_another(reported_error(event[0], self.upgrade_request)):
                        return self.end(now)
                    return self._pass(now)
                case CloseReceived() | Violation():
                    return self.end(now)
                case _:
                    pass
        return []

    @override
    def receive_eof(self, now: float) -> list[Event]:
        events = self.end(now)
        return events if self._replaced else events + self.link.receive_eof(now)

    @override
    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        events = self.end(now)
        return events if self._replaced else events + self.link.failed(error, now)

    def end(self, now: float) -> list[Event]:
        """Do without this connection if it is still on trial, and the session goes on."""
        if self._sent is None or self.closed:
            return []
        if self._owner.ending:
            return self._pass(now)
        # What the session has made since goes the same way.
        sent = [*self._sent, *self.link.buffers_to_send()]
        self._sent, self._replaced = None, True
        self._owner.replace(self, sent, now)
        return []

    def _pass(self, now: float) -> list[Event]:
        """End the trial, and give the session what has come so far."""
        self._sent = None
        self._owner.settle(self)
        received, self._received = b"".join(self._received), []
        return self.link.receive_data(received, now) if received else []


class SubstituteLink(Link):
    """A new connection for a session whose first one was dead: it gets everything sent on that."""

    def __init__(
        self,
        link: Link,
        idle: IdleLink,
        sent: list[bytes],
        owner: WarmStream,
        *,
        asked_key: SessionKey | None,
    ) -> None:
        self._asked_key = asked_key
        self._link = link
        self._idle = idle
        self._sent = sent
        self._owner = owner
        self._head = HeadScanner()

    @property
    def kept(self) -> int:
        """Bytes that wait for the connection."""
        self._sent += self._link.buffers_to_send()
        return sum(map(len, self._sent))

    @property
    @override
    def endpoint(self) -> Endpoint:
        return self._link.endpoint

    @property
    @override
    def open_by(self) -> float | None:
        return self._idle.open_by

    @property
    @override
    def upgrade_request(self) -> UpgradeRequest:
        return self._idle.upgrade_request

    @property
    @override
    def asks_for_key(self) -> bool:
        return self._asked_key is not None

    @override
    def authenticate(self, api_key: str | APIKey) -> None:
        request = self._link.upgrade_request.with_key(api_key)
        self._idle.connect(request)
        assert self._asked_key is not None, "it asks for its key once"
        self._asked_key.successor = request.api_key
        self._asked_key = None

    @property
    @override
    def closed(self) -> bool:
        return self._link.closed

    def next_timeout(self) -> float | None:
        """Return when to give up opening, in seconds; None for never."""
        return self._idle.open_by

    def handle_timeout(self, now: float) -> list[Event]:
        """Give up if opening takes too long."""
        self._idle.handle_timeout(now)
        return self._settle(now)

    @override
    def opened(self, now: float) -> list[Event]:
        return self._idle.opened(now)

    @override
    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        self._idle.upgraded(now, headers)
        return self._settle(now)

    @override
    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        if self._idle.is_open:
            return self._link.failed(error, now)
        self._idle.failed(error, now)
        return self._settle(now)

    @override
    def data_to_send(self) -> bytes:
        return b"".join(self.buffers_to_send())

    @override
    def buffers_to_send(self) -> list[bytes]:
        if not self._idle.is_open:
            return self._idle.buffers_to_send()
        if not self._sent:
            return self._link.buffers_to_send()
        sent, self._sent = self._sent, []
        return [*sent, *self._link.buffers_to_send()]

    @override
    def receive_data(self, data: bytes, now: float) -> list[Event]:
        while data and not self._idle.is_open:
            # Cut behind the head, because the frames that follow it are the session's.
            size = self._head.scan(data)
            self._idle.receive_data(data[:size], now)
            if self._idle.closed:
                return self._settle(now)
            data = data[size:]
        events = self._settle(now)
        return events + self._link.receive_data(data, now) if data else events

    @override
    def receive_eof(self, now: float) -> list[Event]:
        if self._idle.is_open:
            return self._link.receive_eof(now)
        self._idle.receive_eof(now)
        return self._settle(now)

    def _settle(self, now: float) -> list[Event]:
        """Stop watching once it is certain whether the connection opens."""
        error = self._idle.error
        if error is None and not self._idle.is_open:
            return []
        self._owner.settle(self)
        return [] if error is None else self._link.failed(error, now)


def _asks_for_another(error: SonioxServerError | None) -> bool:
    """Return whether an error speaks against the connection, and not against the session."""
    if error is None:
        return False
    return isinstance(error, SonioxAuthenticationError) or (
        error.retryable and not error.retry_after
    )
