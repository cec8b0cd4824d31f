"""The events of the server's state machine: what a client did.

Each says which call answers it. None is answered automatically, so that a test can also answer
late, wrongly or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.credentials import APIKey

__all__ = [
    "AudioReceived",
    "ClientClosed",
    "EndOfAudioReceived",
    "FinalizeReceived",
    "KeepAliveReceived",
    "RequestRefused",
    "ServerEvent",
    "StartReceived",
    "UpgradeReceived",
]


@dataclass(slots=True)
class RequestRefused:
    """The client did something wrong or too late; answer with `send_error`.

    The fields are the service's words for it. The client's further messages are dropped.
    """

    error_code: int
    """Number of the error, with the meaning of an HTTP status."""
    error_type: str
    """Stable name of the error."""
    error_message: str
    """Description for a person."""


@dataclass(slots=True)
class UpgradeReceived:
    """A client asks for a WebSocket; answer with `accept` or `reject`."""

    target: str
    """Path and query of the request."""
    headers: dict[str, str]
    """Headers of the request, with names in lower case and without the key."""
    subprotocols: list[str]
    """Subprotocols that the client offers, without the key."""
    api_key: APIKey | None
    """The key that came with the request, in a header or as a subprotocol."""
    refusal: RequestRefused | None = None
    """What is already wrong with the request, if anything. The service accepts the upgrade all the
    same and then sends an error, so this is reported again, as an event of its own, when the
    client's first message arrives."""


@dataclass(slots=True)
class StartReceived:
    """A valid start message: the stream begins.

    Nothing answers it but results. Whether the key is valid has not been checked.
    """

    config: RealtimeSTTConfig
    """The configuration in the message."""
    api_key: APIKey | None
    """The key in the message (deprecated), or else that of the upgrade request."""
    unknown_fields: dict[str, object] = field(default_factory=dict[str, object], compare=False)
    """Fields of the message that this library does not know. The service ignores such fields."""


@dataclass(slots=True)
class AudioReceived:
    """A chunk of audio, never empty."""

    data: bytes
    """The audio, in the declared format."""


@dataclass(slots=True)
class KeepAliveReceived:
    """A keepalive. It needs no answer, and has already postponed the idle timeout."""


@dataclass(slots=True)
class FinalizeReceived:
    """A finalize; answer with the pending tokens as final ones and a final `<fin>` token."""

    trailing_silence_ms: int | None
    """Silence that the client already sent after the speech, in ms."""


@dataclass(slots=True)
class EndOfAudioReceived:
    """End of the audio, reported once; answer with the remaining results, then `finish`."""


@dataclass(slots=True)
class ClientClosed:
    """The connection is over. This is the last event, and comes at most once."""

    code: int
    """Close code of the client; 1006 if it left without a close frame or broke the protocol."""
    reason: str
    """Reason of the close frame, or a description of what went wrong."""


ServerEvent: TypeAlias = (
    UpgradeReceived
    | StartReceived
    | AudioReceived
    | KeepAliveReceived
    | FinalizeReceived
    | EndOfAudioReceived
    | RequestRefused
    | ClientClosed
)
"""Everything that the calls that feed the server's state machine return."""
