"""What the server's core reports, as slots dataclasses in one union."""

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
    """The client did something wrong or too late; `send_error` answers. Its input is over."""

    error_code: int
    """Number of the error."""
    error_type: str
    """Stable name of the error."""
    error_message: str
    """Description for a person."""


@dataclass(slots=True)
class UpgradeReceived:
    """A client asks for the WebSocket; `accept` or `reject` answers."""

    target: str
    """Path and query of the request."""
    headers: dict[str, str]
    """Headers of the request, names in lower case; the key is taken out."""
    subprotocols: list[str]
    """Subprotocols that the client offers; the key is taken out."""
    api_key: APIKey | None
    """The key that came with the request, in a header or as a subprotocol."""
    refusal: RequestRefused | None = None
    """What is already wrong with the request: the service accepts the upgrade all the same and
    then sends this error. The core reports it again as the answer to the client's first message."""


@dataclass(slots=True)
class StartReceived:
    """The start message: the stream begins."""

    config: RealtimeSTTConfig
    """The checked configuration."""
    api_key: APIKey | None
    """The key in the message (deprecated), or else the one of the upgrade request."""
    unknown_fields: dict[str, object] = field(default_factory=dict[str, object], compare=False)
    """Fields of the message that this library does not know. The service ignores such fields."""


@dataclass(slots=True)
class AudioReceived:
    """A chunk of audio, never empty."""

    data: bytes
    """The audio, in the declared format."""


@dataclass(slots=True)
class KeepAliveReceived:
    """A keepalive."""


@dataclass(slots=True)
class FinalizeReceived:
    """A finalize; a final `<fin>` token answers it."""

    trailing_silence_ms: int | None
    """Silence that the client already sent after the speech, in ms."""


@dataclass(slots=True)
class EndOfAudioReceived:
    """End of the audio; the rest of the results and `finish` answer it."""


@dataclass(slots=True)
class ClientClosed:
    """The connection is over. Comes exactly once, last."""

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
"""Everything that the feeding calls of the server's core return."""
