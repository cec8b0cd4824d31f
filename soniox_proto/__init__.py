"""Sans-I/O core of the Soniox realtime speech-to-text protocol.

Nothing here opens a socket, starts a thread or reads a clock: these are state machines, fed with
data and with the current time, which return what to send and what happened. Choose by what you
have:

- a WebSocket of any library: `RealtimeSTTProtocol` speaks whole messages;
- a byte stream: `RealtimeSTTConnection` adds the handshake, frames and pings;
- nothing yet: `RealtimeSTTStream` also asks for the byte streams that it needs;
- a client to test: `RealtimeSTTServerConnection` is the server's end.

Import names from here. The modules inside may change.
"""

import importlib
import typing

from soniox_proto.config import (
    LanguageCode,
    RealtimeSTTAudioFormat,
    RealtimeSTTConfig,
    RealtimeSTTHeaderFormat,
    RealtimeSTTRawFormat,
    StructuredContext,
    StructuredContextGeneralItem,
    StructuredContextTranslationTerm,
    TranslationConfig,
    TranslationType,
)
from soniox_proto.credentials import (
    API_KEY_ENVIRONMENT_VARIABLE,
    APIKey,
    Authentication,
    AuthenticationInput,
    HeadersInput,
)
from soniox_proto.endpoint import DEFAULT_WEBSOCKET_URL, REGIONS, Endpoint, websocket_url
from soniox_proto.errors import (
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxDurationLimitError,
    SonioxError,
    SonioxHandshakeError,
    SonioxInvalidRequestError,
    SonioxProtocolError,
    SonioxQuotaError,
    SonioxRateLimitError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxServerTimeoutError,
    SonioxServiceUnavailableError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.events import (
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    Opened,
    Outcome,
    Reconnected,
    Reconnecting,
    Result,
    RolledOver,
    ServerError,
    SessionStats,
)
from soniox_proto.flight_recorder import FlightNote, FlightRecord, FlightRecorder
from soniox_proto.latency import Latency
from soniox_proto.messages import (
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    RealtimeControlType,
    RealtimeEvent,
    Token,
)
from soniox_proto.options import (
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_IDLE_MAX_LIFETIME,
    DEFAULT_IDLE_REFRESH_BEFORE,
    DEFAULT_KEEPALIVE_INTERVAL,
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_MAX_PENDING_AUDIO,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PING_TIMEOUT,
)
from soniox_proto.protocol import RealtimeSTTProtocol
from soniox_proto.rendering import render_tokens
from soniox_proto.state import (
    SERVER_TRANSITIONS,
    TRANSITIONS,
    ServerInput,
    ServerState,
    SessionInput,
    SessionState,
)
from soniox_proto.stats import Measurement
from soniox_proto.timers import Timer

if typing.TYPE_CHECKING:
    from soniox_proto.connection import RealtimeSTTConnection
    from soniox_proto.recovery.policy import ReconnectPolicy
    from soniox_proto.recovery.stream import RecoveringSTTStream
    from soniox_proto.server import (
        AudioReceived,
        ClientClosed,
        EndOfAudioReceived,
        FinalizeReceived,
        KeepAliveReceived,
        RealtimeSTTServerConnection,
        RequestRefused,
        ServerEvent,
        StartReceived,
        UpgradeReceived,
    )
    from soniox_proto.stream import Link, RealtimeSTTStream, Stream
    from soniox_proto.subtitles import Cue, Subtitles
    from soniox_proto.transcript import (
        Addition,
        Segment,
        TextEdit,
        Transcript,
        TranscriptUpdate,
        Utterance,
        UtteranceEnd,
        Word,
    )
    from soniox_proto.upgrade import UpgradeRequest
    from soniox_proto.writers import JSONWriter, TableWriter, TextWriter, TranscriptWriter

__version__ = "0.1.0"

__all__ = [
    "API_KEY_ENVIRONMENT_VARIABLE",
    "DEFAULT_CLOSE_TIMEOUT",
    "DEFAULT_CONNECT_TIMEOUT",
    "DEFAULT_IDLE_MAX_LIFETIME",
    "DEFAULT_IDLE_REFRESH_BEFORE",
    "DEFAULT_KEEPALIVE_INTERVAL",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "DEFAULT_MAX_PENDING_AUDIO",
    "DEFAULT_PING_INTERVAL",
    "DEFAULT_PING_TIMEOUT",
    "DEFAULT_WEBSOCKET_URL",
    "REGIONS",
    "SERVER_TRANSITIONS",
    "TOKEN_TEXT_END",
    "TOKEN_TEXT_FIN",
    "TRANSITIONS",
    "APIKey",
    "Addition",
    "AudioReceived",
    "Authentication",
    "AuthenticationInput",
    "ClientClosed",
    "Closed",
    "Cue",
    "EndOfAudioReceived",
    "Endpoint",
    "EndpointDetected",
    "Event",
    "FinalizeReceived",
    "Finalized",
    "Finished",
    "FlightNote",
    "FlightRecord",
    "FlightRecorder",
    "HeadersInput",
    "JSONWriter",
    "KeepAliveReceived",
    "LanguageCode",
    "Latency",
    "Link",
    "Measurement",
    "Opened",
    "Outcome",
    "RealtimeControlType",
    "RealtimeEvent",
    "RealtimeSTTAudioFormat",
    "RealtimeSTTConfig",
    "RealtimeSTTConnection",
    "RealtimeSTTHeaderFormat",
    "RealtimeSTTProtocol",
    "RealtimeSTTRawFormat",
    "RealtimeSTTServerConnection",
    "RealtimeSTTStream",
    "ReconnectPolicy",
    "Reconnected",
    "Reconnecting",
    "RecoveringSTTStream",
    "RequestRefused",
    "Result",
    "RolledOver",
    "Segment",
    "ServerError",
    "ServerEvent",
    "ServerInput",
    "ServerState",
    "SessionInput",
    "SessionState",
    "SessionStats",
    "SonioxAuthenticationError",
    "SonioxConnectionError",
    "SonioxDurationLimitError",
    "SonioxError",
    "SonioxHandshakeError",
    "SonioxInvalidRequestError",
    "SonioxProtocolError",
    "SonioxQuotaError",
    "SonioxRateLimitError",
    "SonioxRealtimeError",
    "SonioxServerError",
    "SonioxServerTimeoutError",
    "SonioxServiceUnavailableError",
    "SonioxStateError",
    "SonioxTimeoutError",
    "SonioxValidationError",
    "StartReceived",
    "Stream",
    "StructuredContext",
    "StructuredContextGeneralItem",
    "StructuredContextTranslationTerm",
    "Subtitles",
    "TableWriter",
    "TextEdit",
    "TextWriter",
    "Timer",
    "Token",
    "Transcript",
    "TranscriptUpdate",
    "TranscriptWriter",
    "TranslationConfig",
    "TranslationType",
    "UpgradeReceived",
    "UpgradeRequest",
    "Utterance",
    "UtteranceEnd",
    "Word",
    "__version__",
    "render_tokens",
    "websocket_url",
]


_LOADED_LATER = {
    "RealtimeSTTConnection": "connection",
    "ReconnectPolicy": "recovery.policy",
    "RecoveringSTTStream": "recovery.stream",
    "UpgradeRequest": "upgrade",
    **dict.fromkeys(("Cue", "Subtitles"), "subtitles"),
    **dict.fromkeys(("JSONWriter", "TableWriter", "TextWriter", "TranscriptWriter"), "writers"),
    **dict.fromkeys(("Link", "RealtimeSTTStream", "Stream"), "stream"),
    **dict.fromkeys(
        (
            "Addition",
            "Segment",
            "TextEdit",
            "Transcript",
            "TranscriptUpdate",
            "Utterance",
            "UtteranceEnd",
            "Word",
        ),
        "transcript",
    ),
}

if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # What not every program needs is loaded when first asked for: the modules that speak bytes,
        # wsproto with them, and the transcript. So every program starts sooner.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _LOADED_LATER.get(name, "server")
        value: object = getattr(importlib.import_module(f"soniox_proto.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
