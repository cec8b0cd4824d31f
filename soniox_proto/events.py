"""What the core tells its driver: the events of a session."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from soniox_proto.errors import SonioxRealtimeError, SonioxServerError
from soniox_proto.messages import RealtimeEvent

__all__ = [
    "Closed",
    "EndpointDetected",
    "Event",
    "Finalized",
    "Finished",
    "Opened",
    "Outcome",
    "Result",
    "ServerError",
    "SessionStats",
]


class Outcome(Enum):
    """How a session ended."""

    FINISHED = "finished"
    """The finished response came: the transcript is complete."""
    SERVER_ERROR = "server_error"
    """The service sent an error message."""
    REJECTED = "rejected"
    """The server refused the WebSocket upgrade with an HTTP status."""
    CLOSED_BY_SERVER = "closed_by_server"
    """The server closed with code 1000 or 1001, without a finished response."""
    LOST = "lost"
    """Any other end: no close frame, an abnormal code, a violation, a deadline."""
    CLOSED_LOCALLY = "closed_locally"
    """`close()` was called before the finished response came."""
    ABORTED = "aborted"
    """`abort()` was called before the finished response came."""


@dataclass(slots=True)
class Opened:
    """The session is open: the upgrade was accepted and the start message is queued."""

    subprotocol: str | None
    """The subprotocol that the server selected, if any."""
    headers: dict[str, str]
    """Headers of the server's answer, names in lower case."""


@dataclass(slots=True)
class Result:
    """A message of the service, of whatever kind. Its special events follow it."""

    message: RealtimeEvent
    """The parsed message."""
    raw: str | bytes
    """The message as it was received."""


@dataclass(slots=True)
class EndpointDetected:
    """An `<end>` token: an utterance is over."""

    message: RealtimeEvent
    """The message that holds the token."""
    token_index: int
    """Where the token stands in `message.tokens`."""
    position_ms: int | None
    """When speech ended, in ms of audio: the end of the last final original token before the
    marker, in whatever message; None if there was none. The marker's own times mean nothing."""


@dataclass(slots=True)
class Finalized:
    """A `<fin>` token: a finalize has been answered."""

    message: RealtimeEvent
    """The message that holds the token."""
    token_index: int
    """Where the token stands in `message.tokens`."""
    finalize_index: int | None
    """Which call of `finalize` it answers, counted from 0; None if none was outstanding."""
    round_trip: float | None
    """Seconds from that call to this answer; None if none was outstanding."""


@dataclass(slots=True)
class Finished:
    """The finished response: the transcript is complete. The first end of a session decides."""

    message: RealtimeEvent
    """The finished response."""


@dataclass(slots=True)
class ServerError:
    """An error message: the service ends the session. The first end of a session decides."""

    error: SonioxServerError
    """The error to raise."""
    message: RealtimeEvent
    """The error message."""


@dataclass(slots=True)
class Closed:
    """The session is over. Comes exactly once, last."""

    outcome: Outcome
    """How it ended."""
    code: int | None
    """WebSocket close code; 1006 without a close frame; None if the session never opened."""
    reason: str
    """Reason of the close frame, or ``""``."""
    error: SonioxRealtimeError | None
    """The error that ended it; None where the end is no error."""


Event: TypeAlias = Opened | Result | EndpointDetected | Finalized | Finished | ServerError | Closed
"""Everything that the feeding calls of the core return."""


@dataclass(slots=True)
class SessionStats:
    """Running account of a session."""

    sent_audio_bytes: int = 0
    """Audio accepted for sending, in bytes."""
    sent_audio_chunks: int = 0
    """Audio messages accepted for sending."""
    dropped_while_paused_bytes: int = 0
    """Audio dropped because the session was paused, in bytes."""
    sent_keepalives: int = 0
    """Keepalive messages sent, by timer or by call."""
    sent_finalizes: int = 0
    """Finalize messages sent."""
    received_messages: int = 0
    """Messages received from the service."""
    latency: float | None = None
    """Round trip of the latest answered WebSocket ping, in seconds."""
