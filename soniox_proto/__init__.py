"""Sans-I/O core of the Soniox realtime speech-to-text protocol.

`RealtimeSTTConnection` speaks bytes, `RealtimeSTTProtocol` whole WebSocket messages; both are pure
state machines that are driven with data and time. Nothing here opens a socket or reads a clock.
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
    Result,
    ServerError,
    SessionStats,
)
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
from soniox_proto.timers import Timer

if typing.TYPE_CHECKING:
    from soniox_proto.connection import RealtimeSTTConnection
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

__version__ = "0.1.0"

__all__ = [
    "API_KEY_ENVIRONMENT_VARIABLE",
    "DEFAULT_CLOSE_TIMEOUT",
    "DEFAULT_CONNECT_TIMEOUT",
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
    "AudioReceived",
    "Authentication",
    "AuthenticationInput",
    "ClientClosed",
    "Closed",
    "EndOfAudioReceived",
    "Endpoint",
    "EndpointDetected",
    "Event",
    "FinalizeReceived",
    "Finalized",
    "Finished",
    "HeadersInput",
    "KeepAliveReceived",
    "LanguageCode",
    "Link",
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
    "RequestRefused",
    "Result",
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
    "Timer",
    "Token",
    "TranslationConfig",
    "TranslationType",
    "UpgradeReceived",
    "__version__",
    "render_tokens",
    "websocket_url",
]


_LOADED_LATER = {
    "RealtimeSTTConnection": "connection",
    **dict.fromkeys(("Link", "RealtimeSTTStream", "Stream"), "stream"),
}

if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # What speaks bytes is loaded when it is asked for, and wsproto with it: whoever has a
        # WebSocket needs neither, clients need no server, and programs start sooner.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _LOADED_LATER.get(name, "server")
        value: object = getattr(importlib.import_module(f"soniox_proto.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
