"""The options of a session: listed once, and checked in one place, when the session is made.

Both sessions and both `connect` methods take the same options. Listed in each of those places they
would drift apart, and a mistake that is noticed only while connecting is reported far from the line
that made it. So they are fields of one frozen dataclass. `SessionKeywords` repeats them for type
checkers, and `takes_options` puts them into signatures.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, TypeVar, cast

from soniox_adapters.connecting.proxy import PARAMETER, ProxyOption, parse_proxy
from soniox_adapters.connecting.websocket_client import WebSocketClient, is_websocket
from soniox_proto import (
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_KEEPALIVE_INTERVAL,
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PING_TIMEOUT,
    AuthenticationInput,
    Endpoint,
    HeadersInput,
    Measurement,
    RealtimeSTTConfig,
    SonioxValidationError,
)
from soniox_proto.options import check_flag, check_seconds

if TYPE_CHECKING:
    import socket
    import ssl

    import anyio.abc
    import trio
    import websocket

    from soniox_proto import ReconnectPolicy, Stream

    BlockingConnection: TypeAlias = socket.socket | websocket.WebSocket
    AsyncConnection: TypeAlias = socket.socket | anyio.abc.ByteStream | trio.abc.Stream
    BlockingConnector: TypeAlias = Callable[[Endpoint, float | None], BlockingConnection]
    AsyncConnector: TypeAlias = Callable[[Endpoint], Awaitable[AsyncConnection]]

__all__ = ["SessionKeywords", "SessionOptions", "Transport", "check_keywords", "takes_options"]

Transport: TypeAlias = (
    "BlockingConnection | AsyncConnection | BlockingConnector | AsyncConnector | WebSocketClient"
)
"""An open byte stream, or a function that opens one. Blocking sessions take a socket, or a function
of the endpoint and the seconds left (None for no limit); also a connected WebSocket of
websocket-client, or `websocket_client`. Async sessions also take streams of anyio and trio; their
functions are async, and get the endpoint only."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Value = TypeVar("_Value")


class SessionKeywords(TypedDict, total=False):
    """The options as keywords, for type checkers; `SessionOptions` explains them."""

    connect_timeout_sec: float | None
    close_timeout_sec: float | None
    keepalive_interval_sec: float | None
    ping_interval_sec: float | None
    ping_timeout_sec: float | None
    finalize_timeout_sec: float | None
    max_message_size: int
    ssl_context: ssl.SSLContext | None
    proxy: ProxyOption
    additional_headers: HeadersInput | None
    authentication: AuthenticationInput
    compression: bool
    raise_on_error: bool
    transport: Transport | None
    reconnect: ReconnectPolicy | None
    on_measurement: Callable[[Measurement], object] | None


_IN_SECONDS: Final = tuple(
    name for name in SessionKeywords.__annotations__ if name.endswith("_sec")
)
"""The options that the core takes too, under their names without `_sec`."""


def _option(default: _Value, explanation: str, *, shown: bool = True) -> _Value:
    """Return a field of `SessionOptions`; `shown` unless it may hold a secret."""
    value: _Value = field(default=default, repr=shown, metadata={"explanation": explanation})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """The options of one session.

    Raises `SonioxValidationError` for a value that a session could not use.
    """

    connect_timeout_sec: float | None = _option(
        DEFAULT_CONNECT_TIMEOUT,
        "Seconds for name resolution, TCP, TLS and the upgrade together; None for no limit.",
    )
    close_timeout_sec: float | None = _option(
        DEFAULT_CLOSE_TIMEOUT,
        "Maximum seconds that `close()` waits for the server; None for no limit.",
    )
    keepalive_interval_sec: float | None = _option(
        DEFAULT_KEEPALIVE_INTERVAL,
        "Seconds without audio after which a keepalive is sent, paused or not; None for none.",
    )
    ping_interval_sec: float | None = _option(
        DEFAULT_PING_INTERVAL,
        "Seconds between WebSocket pings; None for none.",
    )
    ping_timeout_sec: float | None = _option(
        DEFAULT_PING_TIMEOUT,
        "Seconds a pong may take before the connection counts as lost; None for no limit.",
    )
    finalize_timeout_sec: float | None = _option(
        None,
        "Seconds that the service may take to answer a finalize; None for no limit.",
    )
    max_message_size: int = _option(
        DEFAULT_MAX_MESSAGE_SIZE,
        "Maximum size of a received message in bytes.",
    )
    ssl_context: ssl.SSLContext | None = _option(
        None,
        "TLS settings; None for the system's trust store.",
    )
    proxy: ProxyOption = _option(
        True,
        "URL of a proxy (`http`, `socks5`, `socks4`); True to follow the environment "
        "variables, `NO_PROXY` included; None or False for no proxy.",
        shown=False,
    )
    additional_headers: HeadersInput | None = _option(
        None,
        "Headers to add to the upgrade request.",
        shown=False,
    )
    authentication: AuthenticationInput = _option(
        "header",
        "Where the key is sent: `header`, `subprotocol` (temporary keys), or the "
        "deprecated `message`.",
    )
    compression: bool = _option(
        False,
        "Whether to offer permessage-deflate. Off by default, because audio hardly compresses.",
    )
    raise_on_error: bool = _option(
        True,
        "Whether to raise `SonioxServerError` after an error message has been received; "
        "False ends the stream there without raising.",
    )
    transport: Transport | None = _option(
        None,
        "An open byte stream, or a function that opens one, to use instead of a TCP "
        "connection; in blocking sessions also `websocket_client(...)`. An exception of the "
        "function becomes a `SonioxConnectionError`: retryable if it was an `OSError`, not if "
        "it was a bug in the function, such as a `TypeError`.",
    )
    reconnect: ReconnectPolicy | None = _option(
        None,
        "When to make a new connection after one was lost, and how much audio to keep for it; "
        "None to end the session with its connection. Raw audio and WAV are sent again from where "
        "words are missing, other containers from their start, while that is kept.",
    )
    on_measurement: Callable[[Measurement], object] | None = _option(
        None,
        "Called with each `Measurement`: of a finalize, an endpoint, a ping, the first token. It "
        "is called in the middle of the session's work, so it must be brief and must not use the "
        "session.",
    )

    def __post_init__(self) -> None:
        # The core checks these as well, but would name them without `_sec`. It checks the rest.
        for name in _IN_SECONDS:
            check_seconds(name, getattr(self, name))
        check_flag("raise_on_error", self.raise_on_error)
        _check_reconnect(self.reconnect)
        if not (self.on_measurement is None or callable(self.on_measurement)):
            raise SonioxValidationError(
                f"on_measurement must be a function or None, not {_kind(self.on_measurement)}"
            )
        _check_ssl_context(self.ssl_context)
        _check_proxy(self.proxy)
        headers = self.additional_headers
        if isinstance(headers, Iterable) and not isinstance(headers, (str, bytes)):
            # Later connections have to send what this one does, but an iterator can be read once
            # only, and a mapping may be changed. What is wrong with them the core says.
            object.__setattr__(self, "additional_headers", _all_of(headers))

    def check_transport(self, *, asynchronous: bool) -> None:
        """Raise `SonioxValidationError` for a transport that this kind of session cannot use."""
        _check_transport(self.transport, asynchronous=asynchronous)

    def make_stream(
        self,
        url: str,
        config: RealtimeSTTConfig | Mapping[str, Any],
        api_key: str | None,
        *,
        asks_for_key: bool = False,
    ) -> Stream:
        """Return a new machine with these options."""
        # Imported with the first session, because wsproto is a quarter of the whole import time.
        from soniox_proto import RealtimeSTTStream, RecoveringSTTStream

        reconnect = self.reconnect
        make = (
            RealtimeSTTStream
            if reconnect is None
            else partial(RecoveringSTTStream, reconnect=reconnect)
        )
        return make(
            url,
            config,
            api_key=api_key,
            asks_for_key=asks_for_key,
            authentication=self.authentication,
            max_message_size=self.max_message_size,
            additional_headers=self.additional_headers,
            compression=self.compression,
            **{name.removesuffix("_sec"): getattr(self, name) for name in _IN_SECONDS},
        )


def takes_options(function: _Function) -> _Function:
    """Spell out the options of a function that takes `**options`, for `help()`.

    They go into its signature, and with their explanations to the end of its docstring.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    assert parameters.pop().kind is inspect.Parameter.VAR_KEYWORD
    parameters += [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=option.default,
            annotation=option.type,
        )
        for option in fields(SessionOptions)
    ]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    explanations = [
        f"    {option.name}: {option.metadata['explanation']}" for option in fields(SessionOptions)
    ]
    documentation = inspect.getdoc(function) or "Make a session."
    function.__doc__ = "\n".join([documentation, "", "Options:", *explanations])
    return function


def check_keywords(function: str, keywords: SessionKeywords) -> None:
    """Raise `TypeError`, as Python does, for a keyword that is no option."""
    for name in keywords:
        if name not in SessionKeywords.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


# The checks import nothing: a value cannot be an instance of a class whose module is not loaded.


def _all_of(headers: HeadersInput) -> tuple[tuple[str, str], ...]:
    kind = type(headers).__name__
    try:
        if isinstance(headers, Mapping):
            return tuple(cast("Mapping[str, str]", headers).items())
        return tuple(headers)
    except Exception as error:
        raise SonioxValidationError(
            f"additional_headers cannot be read: {kind} raised {type(error).__name__}"
        ) from error


def _check_ssl_context(ssl_context: object) -> None:
    if ssl_context is not None and not _is_instance(ssl_context, "ssl", "SSLContext"):
        raise SonioxValidationError(
            "ssl_context must be an ssl.SSLContext, or None for the system's trust store, not "
            f"{_kind(ssl_context)}; a ws:// URL connects without TLS"
        )
    if ssl_context is not None and _is_for_servers(ssl_context):
        raise SonioxValidationError(
            "ssl_context is made for servers (PROTOCOL_TLS_SERVER); make one for clients, for "
            "example with ssl.create_default_context()"
        )


def _check_reconnect(reconnect: object) -> None:
    if reconnect is not None and not _is_instance(
        reconnect, "soniox_proto.recovery.policy", "ReconnectPolicy"
    ):
        raise SonioxValidationError(
            f"reconnect must be a ReconnectPolicy or None, not {_kind(reconnect)}"
        )


def _check_proxy(proxy: object) -> None:
    if isinstance(proxy, str):
        if proxy:
            parse_proxy(proxy, PARAMETER)
    elif proxy is not None and not isinstance(proxy, bool):
        raise SonioxValidationError(
            "proxy must be the URL of a proxy, True for the one that the environment names, or "
            f"None or False for none, not {_kind(proxy)}"
        )


def _check_transport(transport: object, *, asynchronous: bool) -> None:
    if transport is None or _is_instance(transport, "socket", "socket"):
        return
    for_blocking = isinstance(transport, WebSocketClient) or is_websocket(transport)
    if asynchronous:
        if not (callable(transport) or _is_stream(transport)):
            raise SonioxValidationError(
                "transport must be a connected socket, a byte stream of anyio or trio, or an async "
                f"function that returns one, not {_kind(transport)}"
                + ("; websocket-client is for blocking sessions" if for_blocking else "")
            )
    elif not for_blocking and (not callable(transport) or iscoroutinefunction(transport)):
        raise SonioxValidationError(
            "transport must be a connected socket, a WebSocket of websocket-client, or a function "
            f"that returns one (not an async function), not {_kind(transport)}"
        )


def _is_stream(value: object) -> bool:
    return _is_instance(value, "anyio.abc", "ByteStream") or _is_instance(
        value, "trio.abc", "Stream"
    )


def _is_instance(value: object, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _is_for_servers(context: object) -> bool:
    import ssl

    return isinstance(context, ssl.SSLContext) and (context.protocol is ssl.PROTOCOL_TLS_SERVER)


def _kind(value: object) -> str:
    # Its type only, because the value may contain a password.
    return "an async function" if iscoroutinefunction(value) else type(value).__name__
