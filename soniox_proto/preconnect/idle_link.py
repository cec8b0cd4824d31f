"""One connection that is upgraded and then waits for a session, without a start message.

The service closes a connection on which nothing happens, so a keepalive goes out every five
seconds, together with a ping. The pong is for us: a connection that a router has forgotten looks
like an idle one until something is sent on it, and the first thing sent should not be somebody's
audio. Without a pong by the time of the next keepalive the link counts as dead.

Before its start message the service has nothing to say. Any message is therefore an error message,
and ends the link, as a close frame does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wsproto import ConnectionType

from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import (
    SonioxConnectionError,
    SonioxProtocolError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxTimeoutError,
)
from soniox_proto.events import Event
from soniox_proto.messages import KEEPALIVE_MESSAGE, EventParser
from soniox_proto.options import DEFAULT_KEEPALIVE_INTERVAL
from soniox_proto.upgrade import UpgradeRequest
from soniox_proto.websocket.connection import (
    Accepted,
    CloseReceived,
    PongReceived,
    Rejected,
    Violation,
    WebSocket,
    WebSocketEvent,
)

__all__ = ["KEPT_ALIVE_FOR", "IdleLink", "reported_error"]

KEPT_ALIVE_FOR: Final = 3 * DEFAULT_KEEPALIVE_INTERVAL
"""Seconds after the last sign of life in which a link may still be handed out. Longer ago, whatever
should have kept it alive was suspended, and the service has most likely given it up."""


class IdleLink:
    """A `Link` that opens a connection, upgrades it, and keeps it alive until it is taken.

    Times are seconds (float) on any monotonic clock. It returns no events: look at `is_open` and
    `closed` after each call that feeds.

    Args:
        endpoint: Where to connect to.
        open_by: When the upgrade must have been accepted, or None for no limit.
    """

    __slots__ = (
        "_endpoint",
        "_error",
        "_headers",
        "_heard_at",
        "_keepalive_at",
        "_open_by",
        "_opened_at",
        "_pings",
        "_proven",
        "_request",
        "_taken",
        "_waits_for_pong",
        "_websocket",
    )

    def __init__(self, endpoint: Endpoint, *, open_by: float | None = None) -> None:
        self._endpoint = endpoint
        self._open_by = open_by
        self._request: UpgradeRequest | None = None
        self._websocket = WebSocket(ConnectionType.CLIENT)
        self._headers: dict[str, str] = {}
        self._opened_at: float | None = None
        self._heard_at = float("-inf")
        self._keepalive_at: float | None = None
        self._pings = 0
        self._waits_for_pong = False
        self._proven = False
        self._taken = False
        self._error: SonioxRealtimeError | None = None

    # Views

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect the byte stream to."""
        return self._endpoint

    @property
    def open_by(self) -> float | None:
        """When to give up opening the byte stream; None for no limit."""
        return self._open_by

    @property
    def closed(self) -> bool:
        """Whether the byte stream may be closed, or need not be opened any more."""
        return self._error is not None

    @property
    def error(self) -> SonioxRealtimeError | None:
        """Why the link is closed; None while it is not."""
        return self._error

    @property
    def is_open(self) -> bool:
        """Whether the service has accepted the upgrade, and the link has not ended since."""
        return self._opened_at is not None and not self.closed

    @property
    def opened_at(self) -> float | None:
        """When the upgrade was accepted, in seconds; None before."""
        return self._opened_at

    @property
    def proven(self) -> bool:
        """Whether the connection has been of use: it was kept alive, or handed out."""
        return self._proven

    @property
    def taken(self) -> bool:
        """Whether it was handed out."""
        return self._taken

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer to the upgrade."""
        return self._headers

    @property
    def websocket(self) -> WebSocket:
        """The WebSocket, for whoever takes the link."""
        return self._websocket

    @property
    def upgrade_request(self) -> UpgradeRequest:
        """What to put into an upgrade request that somebody else makes."""
        assert self._request is not None, "connect comes first"
        return self._request

    def can_be_taken(self, now: float) -> bool:
        """Return whether a session can start on it: open, alive lately, and between two frames."""
        return (
            self.is_open
            and self._websocket.open
            and now <= self._heard_at + KEPT_ALIVE_FOR
            and self._websocket.between_frames
        )

    # Calls by whoever wants the connection

    def connect(self, request: UpgradeRequest) -> None:
        """Queue the upgrade request, before the byte stream is used."""
        if self.closed:
            return
        self._request = request
        self._websocket.request_upgrade(
            host=self._endpoint.host_header,
            target=self._endpoint.target,
            headers=request.headers(),
            subprotocols=request.subprotocols(),
        )

    def take(self) -> None:
        """Hand the connection over. From now on its bytes are somebody else's."""
        self._taken = self._proven = True

    def retire(self) -> None:
        """End the link, because it is not needed any more: with a close frame, if it is open."""
        self._websocket.send_close(1000)
        self._end(SonioxConnectionError("the idle connection is not needed any more"))

    # As a Link

    def opened(self, now: float) -> list[Event]:
        """Note that the byte stream is open. The upgrade request was queued by `connect`."""
        return []

    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        """Note that the byte stream is open, and a WebSocket already, made by somebody else."""
        self._websocket.data_to_send()
        self._handle(self._websocket.adopt(headers or {}), now)
        return []

    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        """Note that the byte stream could not be opened, or broke."""
        self._websocket.data_to_send()
        self._end(error)
        return []

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, ``b""`` when there are none."""
        return self._websocket.data_to_send()

    def buffers_to_send(self) -> list[bytes]:
        """Return what `data_to_send` returns, as several buffers where that saves a copy."""
        return self._websocket.buffers_to_send()

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the server, cut anywhere."""
        if not self.closed:
            for event in self._websocket.receive_data(data):
                self._handle(event, now)
                if self.closed:
                    break
        return []

    def receive_eof(self, now: float) -> list[Event]:
        """Note the end of the byte stream."""
        for event in self._websocket.receive_eof():
            self._handle(event, now)
        return self.failed(SonioxConnectionError("the idle connection was lost"), now)

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        if self.closed or self._taken:
            return None
        return self._open_by if self._opened_at is None else self._keepalive_at

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        due = self.next_timeout()
        if due is None or now < due:
            return
        if self._opened_at is None:
            late = "api_key, a function, has not returned a key"
            if self._request is not None:
                late = "the server did not accept the WebSocket upgrade"
            self._end(SonioxTimeoutError(f"{late} in time", operation="connect"))
        elif self._waits_for_pong:
            self._end(
                SonioxTimeoutError(
                    "the idle connection did not answer a ping within "
                    f"{DEFAULT_KEEPALIVE_INTERVAL} s",
                    operation="ping",
                )
            )
        else:
            self._pings += 1
            self._waits_for_pong = True
            self._websocket.send_message(KEEPALIVE_MESSAGE)
            self._websocket.send_ping(self._ping_payload())
            self._keepalive_at = now + DEFAULT_KEEPALIVE_INTERVAL

    # Inside

    def _handle(self, event: WebSocketEvent, now: float) -> None:
        match event:
            case Accepted():
                self._headers = event.headers
                if event.subprotocol is not None:
                    self._headers["sec-websocket-protocol"] = event.subprotocol
                self._opened_at = self._heard_at = now
                self._keepalive_at = now + DEFAULT_KEEPALIVE_INTERVAL
            case PongReceived():
                self._heard_at = now
                if event.payload == self._ping_payload():
                    self._waits_for_pong = False
                    self._proven = True
            case CloseReceived():
                self._websocket.send_close(1000 if event.code == 1005 else event.code)
                reason = self.upgrade_request.redact(event.reason)
                self._end(
                    SonioxConnectionError(
                        f"the server closed the idle connection with code {event.code}",
                        close_code=event.code,
                        reason=reason,
                    )
                )
            case Rejected():
                request = self.upgrade_request
                self._end(request.refusal(event.status_code, event.headers, event.body))
            case Violation():
                self._end(self.upgrade_request.violation(event))
            case list():
                self._websocket.send_close(1000)
                self._end(
                    reported_error(event[0], self.upgrade_request)
                    or SonioxProtocolError("the service spoke before it got a start message")
                )
            case _:  # pragma: no cover
                raise AssertionError(f"a client got {type(event).__name__}")

    def _ping_payload(self) -> bytes:
        # Unlike those of a session, which may get a late answer.
        return b"idle%d" % self._pings

    def _end(self, error: SonioxRealtimeError) -> None:
        self._error = self._error or error


def reported_error(message: str | bytes, request: UpgradeRequest) -> SonioxServerError | None:
    """Return the error in a message of the service, without the key; None if it holds none."""
    try:
        event = EventParser().parse(message)
    except SonioxProtocolError:
        return None
    if event.error_code is None and event.error_message is None:
        return None

    def redacted(text: str | None) -> str | None:
        return None if text is None else request.redact(text)

    return SonioxServerError.from_message(
        error_code=event.error_code,
        error_type=redacted(event.error_type),
        error_message=redacted(event.error_message),
        request_id=redacted(event.request_id),
        more_info=redacted(event.more_info),
    )
