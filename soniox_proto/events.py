"""The events of a session, which the calls that feed return.

Every message of the service is a `Result`, whatever it contains; events with a meaning of their own
follow it, in the order of the tokens that cause them. A program that only wants text can look at
`Result` alone, and one that wants to act on endpoints never looks at tokens. Events are mutable
dataclasses with slots, because making frozen ones takes three times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from soniox_proto.errors import SonioxRealtimeError, SonioxServerError
from soniox_proto.messages import RealtimeEvent
from soniox_proto.stats import SessionStats

__all__ = [
    "Closed",
    "EndpointDetected",
    "Event",
    "Finalized",
    "Finished",
    "Opened",
    "Outcome",
    "Reconnected",
    "Reconnecting",
    "Result",
    "RolledOver",
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
    """The server closed with code 1000 or 1001 without a finished response, so the end of the
    transcript may be missing."""
    LOST = "lost"
    """Any other end: no close frame, an abnormal code, a protocol violation, a missed deadline."""
    CLOSED_LOCALLY = "closed_locally"
    """`close()` was called, and no finished response or error message came before the end."""
    ABORTED = "aborted"
    """`abort()` was called before a finished response or an error message came."""


@dataclass(slots=True)
class Opened:
    """The session is open: the upgrade was accepted and the start message is queued."""

    subprotocol: str | None
    """The subprotocol that the server selected, if any."""
    headers: dict[str, str]
    """Headers of the server's answer, names in lower case."""


@dataclass(slots=True)
class Result:
    """A message of the service, of any kind. Events for what it contains follow."""

    message: RealtimeEvent
    """The parsed message."""
    raw: str | bytes
    """The message as it was received, except that an API key echoed in an error is redacted."""


@dataclass(slots=True)
class EndpointDetected:
    """An `<end>` token: an utterance is over (Soniox docs, "Endpoint detection")."""

    message: RealtimeEvent
    """The message that holds the token."""
    token_index: int
    """Where the token stands in `message.tokens`."""
    position_ms: int | None
    """When speech ended, in ms on the service's clock; None if no token said so.

    This is the end of the last final original token before the marker, even if that came in an
    earlier message. The marker's own times are 0, absent, or that end."""


@dataclass(slots=True)
class Finalized:
    """A `<fin>` token: a finalize has been answered (Soniox docs, "Manual finalization")."""

    message: RealtimeEvent
    """The message that holds the token."""
    token_index: int
    """Where the token stands in `message.tokens`."""
    finalize_index: int | None
    """Which call of `finalize` it answers, counted from 0; None if none was outstanding.

    The marker does not say. Answers are matched to calls in order. With a raw audio format, a call
    that the position of the answer rules out is passed over: its answer was lost or never given.
    So are calls that were held while a connection was missing, if another one followed them without
    audio in between: one answer is enough for all of them."""
    round_trip: float | None
    """Seconds from that call, or from the opening of the session if that was later, to this answer;
    None if none was outstanding."""


@dataclass(slots=True)
class Finished:
    """The finished response: the transcript is complete.

    Not reported after an error message, since the first end of a session decides.
    """

    message: RealtimeEvent
    """The finished response."""


@dataclass(slots=True)
class ServerError:
    """An error message, after which the service closes (Soniox docs, "Error handling").

    Not reported after the finished response, since the first end of a session decides.
    """

    error: SonioxServerError
    """The message as an exception, ready to be raised."""
    message: RealtimeEvent
    """The error message."""


@dataclass(slots=True)
class Closed:
    """The session is over. This is the last event, and comes exactly once.

    The outcome says how the session ended, not the close code: the service closes with code 1000
    after errors too.
    """

    outcome: Outcome
    """How the session ended."""
    code: int | None
    """WebSocket close code (RFC 6455 section 7.4); 1006 without a close frame; None if the session
    never opened or was aborted."""
    reason: str
    """Reason of the close frame, or ``""``."""
    error: SonioxRealtimeError | None
    """The error that ended the session, if an error did."""


@dataclass(slots=True)
class Reconnecting:
    """The connection is gone, and a new one will be made. Only with a `ReconnectPolicy`."""

    attempt: int
    """Which attempt in a row this is, from 1."""
    delay: float
    """Seconds until it begins."""
    cause: SonioxRealtimeError
    """What ended the connection, or the attempt before."""


@dataclass(slots=True)
class Reconnected:
    """A new connection is open, and the session goes on. Only with a `ReconnectPolicy`."""

    attempt: int
    """Which attempt in a row succeeded, from 1."""
    replayed_ms: int
    """Audio that was sent before and is sent again, in ms."""
    lost_ms: int
    """Audio that is lost because no more could be kept, in ms; its words are missing."""
    gap: float
    """Seconds for which there was no connection."""


@dataclass(slots=True)
class RolledOver:
    """The audio goes to a new connection from now on. Only with a `ReconnectPolicy`.

    Nothing was lost: the connection before is read to its end first.
    """

    replayed_ms: int
    """Audio that was sent before and is sent again, in ms."""


Event: TypeAlias = (
    Opened
    | Result
    | EndpointDetected
    | Finalized
    | Finished
    | ServerError
    | Reconnecting
    | Reconnected
    | RolledOver
    | Closed
)
"""Everything that the feeding calls of the core return."""
