"""Blocking, asyncio and trio sessions for Soniox realtime speech-to-text, on `soniox_proto`.

Everything that `soniox_proto` exports is here too.
"""

import typing

import soniox_proto
from soniox_adapters.async_.session import AsyncRealtimeSTTSession
from soniox_adapters.audio.pacing import (
    stream_audio,
    stream_audio_async,
    throttle_audio,
    throttle_audio_async,
)
from soniox_adapters.blocking.audio_thread import start_audio_thread
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.client import (
    AsyncRealtimeAPI,
    AsyncRealtimeSTTClient,
    AsyncSonioxClient,
    RealtimeAPI,
    RealtimeSTTClient,
    SonioxClient,
)
from soniox_proto import (
    API_KEY_ENVIRONMENT_VARIABLE,
    DEFAULT_WEBSOCKET_URL,
    REGIONS,
    SERVER_TRANSITIONS,
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    TRANSITIONS,
    APIKey,
    Authentication,
    Closed,
    Endpoint,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    HeadersInput,
    LanguageCode,
    Opened,
    Outcome,
    RealtimeControlType,
    RealtimeEvent,
    RealtimeSTTAudioFormat,
    RealtimeSTTConfig,
    RealtimeSTTHeaderFormat,
    RealtimeSTTProtocol,
    RealtimeSTTRawFormat,
    Result,
    ServerError,
    ServerInput,
    ServerState,
    SessionInput,
    SessionState,
    SessionStats,
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
    StructuredContext,
    StructuredContextGeneralItem,
    StructuredContextTranslationTerm,
    Timer,
    Token,
    TranslationConfig,
    TranslationType,
    __version__,
    websocket_url,
)
from soniox_proto.rendering import render_tokens

if typing.TYPE_CHECKING:
    from soniox_proto import (
        AudioReceived,
        ClientClosed,
        EndOfAudioReceived,
        FinalizeReceived,
        KeepAliveReceived,
        RealtimeSTTConnection,
        RealtimeSTTServerConnection,
        RequestRefused,
        ServerEvent,
        StartReceived,
        UpgradeReceived,
    )

__all__ = [
    "API_KEY_ENVIRONMENT_VARIABLE",
    "DEFAULT_WEBSOCKET_URL",
    "REGIONS",
    "SERVER_TRANSITIONS",
    "TOKEN_TEXT_END",
    "TOKEN_TEXT_FIN",
    "TRANSITIONS",
    "APIKey",
    "AsyncRealtimeAPI",
    "AsyncRealtimeSTTClient",
    "AsyncRealtimeSTTSession",
    "AsyncSonioxClient",
    "AudioReceived",
    "Authentication",
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
    "Opened",
    "Outcome",
    "RealtimeAPI",
    "RealtimeControlType",
    "RealtimeEvent",
    "RealtimeSTTAudioFormat",
    "RealtimeSTTClient",
    "RealtimeSTTConfig",
    "RealtimeSTTConnection",
    "RealtimeSTTHeaderFormat",
    "RealtimeSTTProtocol",
    "RealtimeSTTRawFormat",
    "RealtimeSTTServerConnection",
    "RealtimeSTTSession",
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
    "SonioxClient",
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
    "start_audio_thread",
    "stream_audio",
    "stream_audio_async",
    "throttle_audio",
    "throttle_audio_async",
    "websocket_url",
]


if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # What the core loads when it is asked for.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(soniox_proto, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
