"""One connection of a session that recovers, and how far along the audio it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from soniox_proto.clock_map import ClockMap
from soniox_proto.connection import RealtimeSTTConnection
from soniox_proto.credentials import APIKey
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import SonioxRealtimeError
from soniox_proto.events import Event
from soniox_proto.recovery.heard import LinkTranscript
from soniox_proto.state import SessionState
from soniox_proto.upgrade import UpgradeRequest

__all__ = ["RecoverableLink"]

_Took: TypeAlias = "Callable[[RecoverableLink, list[Event], float], list[Event]]"

_ENDING: Final = (SessionState.CLOSING, SessionState.CLOSED)


class RecoverableLink:
    """A connection whose events go through the session before they are given out.

    It is a `Link`. Its fields belong to the session; positions are in bytes of the user's audio.
    """

    __slots__ = (
        "_connection",
        "_took",
        "abandoned",
        "begins",
        "begins_ms",
        "begun_at",
        "caught_up",
        "clock",
        "cursor",
        "end_sent",
        "held",
        "number",
        "opened_at",
        "owes_head",
        "paced_bytes",
        "received_messages",
        "sent_keepalives",
        "sent_pings",
        "transcript",
    )

    clock: ClockMap
    """Set when audio begins to be sent on it."""
    transcript: LinkTranscript
    """Set when the link's results are read: once it is open, and the link before is done with."""

    def __init__(
        self, connection: RealtimeSTTConnection, took: _Took, *, declares_container: bool
    ) -> None:
        self._connection = connection
        self._took = took
        self.abandoned = False
        """Whether the session has given this connection up."""
        self.opened_at: float | None = None
        """When the service accepted the connection, in seconds; None before."""
        self.begun_at = 0.0
        """When audio began to be sent on it."""
        self.begins = 0
        """Where its audio begins."""
        self.begins_ms = 0.0
        """The same in ms."""
        self.number = 0
        """Which connection of the session it is, from 1; set when it opens."""
        self.held: list[Event] = []
        """Its events that wait until the link before is done with."""
        self.owes_head = declares_container
        """Whether it has to get the header of a container before the audio."""
        self.cursor = 0
        """Up to where audio has been sent on it."""
        self.paced_bytes = 0
        """Audio sent on it before it caught up."""
        self.caught_up = False
        """Whether it has sent everything that was held, so that audio goes out as it comes."""
        self.end_sent = False
        """Whether end-of-audio has been sent on it."""
        self.received_messages = self.sent_keepalives = self.sent_pings = 0
        """What of its counters the session has added to its own."""

    @property
    def connection(self) -> RealtimeSTTConnection:
        """The machine of this connection."""
        return self._connection

    @property
    def is_open(self) -> bool:
        """Whether audio and controls can be sent on it.

        Not after an error message, although the service has yet to close the connection.
        """
        return self.opened_at is not None and self._connection.state not in _ENDING

    def abandon(self, now: float) -> None:
        """Give the connection up; what it still says is ignored."""
        self.abandoned = True
        self._connection.abort(now)

    # As a Link

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect the byte stream to."""
        return self._connection.endpoint

    @property
    def open_by(self) -> float | None:
        """When to give up opening the byte stream; None for no limit."""
        return self._connection.open_by

    @property
    def upgrade_request(self) -> UpgradeRequest:
        """What to put into an upgrade request that somebody else makes; see `upgraded`."""
        return self._connection.upgrade_request

    @property
    def asks_for_key(self) -> bool:
        """Whether `authenticate` has to be called before the byte stream is used."""
        return self._connection.asks_for_key

    def authenticate(self, api_key: str | APIKey) -> None:
        """Give the API key that this connection asks for."""
        self._connection.authenticate(api_key)

    @property
    def closed(self) -> bool:
        """Whether the byte stream may be closed, or need not be opened any more."""
        return self._connection.closed

    def opened(self, now: float) -> list[Event]:
        """Note that the byte stream is open."""
        return self._took(self, self._connection.opened(now), now)

    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        """Note that the byte stream is open, and a WebSocket already, made by somebody else."""
        return self._took(self, self._connection.upgraded(now, headers), now)

    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        """Note that the byte stream could not be opened, or broke, because of `error`."""
        return self._took(self, self._connection.failed(error, now), now)

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, ``b""`` when there are none."""
        return self._connection.data_to_send()

    def buffers_to_send(self) -> list[bytes]:
        """Return what `data_to_send` returns, as several buffers where that saves a copy."""
        return self._connection.buffers_to_send()

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the server, cut anywhere."""
        return self._took(self, self._connection.receive_data(data, now), now)

    def receive_eof(self, now: float) -> list[Event]:
        """Note the end of the byte stream."""
        return self._took(self, self._connection.receive_eof(now), now)
