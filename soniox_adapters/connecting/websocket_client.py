"""Connecting with websocket-client, for those who know its options or have its WebSocket already.

websocket-client resolves, connects (proxies, socket options, TLS) and makes the upgrade. Then the
session takes the socket over, and from there on it is a session like any other: the same endings,
bounds and threads. That is possible because websocket-client reads the server's answer byte by
byte, so whatever follows it is still in the socket (or decrypted in its TLS layer).

websocket-client never sees the API key, which is added when the request is sent (`upgrading.py`).
But servers may echo it, and websocket-client puts what it receives into its exceptions. So those
are turned into errors of ours here, redacted, and kept as the cause only if they do not quote the
key; without their frames, whose variables hold the answer.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from soniox_adapters.connecting.failures import ConnectError, is_fault_of_code, is_retryable
from soniox_proto import (
    Endpoint,
    SonioxConnectionError,
    SonioxProtocolError,
    SonioxRealtimeError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.retrying import advice_on_status

if TYPE_CHECKING:
    import ssl

    import websocket

    from soniox_proto import UpgradeRequest

__all__ = [
    "Attempt",
    "WebSocketClient",
    "close_websocket",
    "is_websocket",
    "load_websocket_client",
    "take_over",
    "websocket_client",
]

_STATUS: Final = re.compile(r"\bstatus: ([1-5][0-9]{2})\b")
"""The HTTP status of a proxy, in the text of websocket-client's exception; it is nowhere else."""

_KEYWORDS: Final = frozenset(
    {
        "class_",
        "connection",
        "cookie",
        "enable_multithread",
        "fire_cont_frame",
        "header",
        "host",
        "http_no_proxy",
        "http_proxy_auth",
        "http_proxy_host",
        "http_proxy_port",
        "http_proxy_timeout",
        "origin",
        "proxy_type",
        "redirect_limit",
        "skip_utf8_validation",
        "socket",
        "sockopt",
        "sslopt",
        "subprotocols",
        "suppress_host",
        "suppress_origin",
        "timeout",
    }
)
"""The keywords of `websocket.create_connection`, which ignores all others."""

_BESIDE_A_CONTEXT: Final = frozenset(
    {"server_hostname", "do_handshake_on_connect", "suppress_ragged_eofs"}
)
"""What websocket-client uses of `sslopt` if there is a context."""


def load_websocket_client() -> Any:
    """Return the module of websocket-client; raises `SonioxValidationError` if it is missing."""
    try:
        return importlib.import_module("websocket")
    except ImportError as error:
        raise SonioxValidationError(
            "this needs the package websocket-client: pip install 'soniox-proto[websocket-client]'"
        ) from error


def websocket_client(**keywords: Any) -> WebSocketClient:
    """Return a transport with which a blocking session connects through websocket-client.

    `connect(..., transport=websocket_client(sslopt={"ca_certs": path}))` lets websocket-client
    open the connection and make the upgrade. The session adds its API key and
    `additional_headers`, and `connect_timeout_sec` limits all of it. From then on the session is
    no different from others. Its own `proxy` is not used. Its `ssl_context` is, but not together
    with an `sslopt` that says the same things.

    Args:
        keywords: Those of `websocket.create_connection`, but for the URL, with the same meaning
            and the same defaults. One default differs: redirects are followed only if
            `redirect_limit` is given, because the key is sent to wherever they lead.

    Raises:
        SonioxValidationError: websocket-client is not installed, or has no such keyword; or `url`
            is among them.
    """
    library = load_websocket_client()
    if "url" in keywords:
        raise SonioxValidationError("the URL is the session's, not one of websocket_client")
    kind = keywords.get("class_")
    if kind is None:
        # A class of the user's may have keywords of its own.
        unknown = sorted(set(keywords) - _KEYWORDS)
        if unknown:
            raise SonioxValidationError(
                f"websocket-client has no option {', '.join(unknown)}; it has "
                f"{', '.join(sorted(_KEYWORDS))}"
            )
    elif not (isinstance(kind, type) and issubclass(kind, library.WebSocket)):
        raise SonioxValidationError("class_ must be a class derived from websocket.WebSocket")
    if "header" in keywords:
        # Read once: it may be an iterator, and the sessions may be many.
        keywords["header"] = _lines(keywords["header"])
    return WebSocketClient(keywords)


class WebSocketClient:
    """A way to connect, made by `websocket_client`. Any number of sessions may use it."""

    def __init__(self, keywords: Mapping[str, Any]) -> None:
        self._keywords = dict(keywords)

    def attempt(self, request: UpgradeRequest, ssl_context: ssl.SSLContext | None) -> Attempt:
        """Return a function that connects once.

        Raises `SonioxValidationError` for what is given twice: headers, or settings of TLS.
        """
        if "Authorization" in dict(request.headers()) and any(
            line.partition(":")[0].strip().lower() == "authorization"
            for line in self._keywords.get("header", ())
        ):
            raise SonioxValidationError(
                "header 'Authorization' carries the API key; give the key as api_key, or choose "
                "another form of authentication"
            )
        ignored = sorted(set(self._keywords.get("sslopt") or ()) - _BESIDE_A_CONTEXT)
        if ssl_context is not None and ignored:
            raise SonioxValidationError(
                f"sslopt has {', '.join(ignored)}, which websocket-client ignores beside an "
                "ssl_context; make these settings in the ssl_context, or do without it"
            )
        return Attempt(self._keywords, request, ssl_context)


class Attempt:
    """One connection through websocket-client: call it in one thread, `abandon` it in any."""

    def __init__(
        self,
        keywords: Mapping[str, Any],
        request: UpgradeRequest,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        from soniox_adapters.connecting.upgrading import Upgrading

        self._library = load_websocket_client()
        self._keywords = dict(keywords)
        self._request = request
        self._ssl_context = ssl_context
        self._redirect_limit = self._keywords.get("redirect_limit", 0)
        subprotocols = self._keywords.get("subprotocols") or ()
        self._upgrading = Upgrading(request, self._redirect_limit, subprotocols)

    def __call__(self, endpoint: Endpoint, timeout: float | None) -> websocket.WebSocket:
        """Return a connected WebSocket.

        Raises:
            OSError: Connecting failed; the API key does not show in it.
            SonioxValidationError: A keyword does not suit the endpoint.
        """
        self._check_socket(endpoint)
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        scheme = "wss" if endpoint.secure else "ws"
        url = f"{scheme}://{host}:{endpoint.port}{endpoint.target}"
        try:
            self._upgrading.begin(secure=endpoint.secure)
            made = self._library.create_connection(url, **self._options(endpoint, timeout))
        except Exception as error:
            failure = self._failure(error, endpoint)
        else:
            if self._selected_properly(made):
                made.sock = self._upgrading.upgraded()
                return cast("websocket.WebSocket", made)
            failure = SonioxProtocolError(
                "the server broke the WebSocket protocol: it selected a subprotocol that was not "
                "offered",
                close_code=1002,
            )
            made.shutdown()
        finally:
            self._upgrading.end()
        # Raised out here, where it gets no context that quotes the key.
        raise _connect_error(failure)

    def abandon(self) -> ConnectError | None:
        """Make the thread that connects give up; return what the server has refused by then."""
        self._upgrading.abandon()
        refusal = self._upgrading.refusal()
        return None if refusal is None else _connect_error(refusal)

    def _check_socket(self, endpoint: Endpoint) -> None:
        import ssl

        given = self._keywords.get("socket")
        if endpoint.secure and given is not None and not isinstance(given, ssl.SSLSocket):
            raise SonioxValidationError(
                "websocket-client does no TLS on a socket that it is given, so the API key would "
                "travel unprotected; give the socket to the session, as transport"
            )

    def _options(self, endpoint: Endpoint, timeout: float | None) -> dict[str, Any]:
        given = self._keywords
        options: dict[str, Any] = {
            "redirect_limit": 0,
            **given,
            "class_": self._make,
            "header": [*given.get("header", ()), self._upgrading.placeholder],
        }
        if not self._redirect_limit:
            # It would go to where a redirect leads, too.
            options.setdefault("host", endpoint.host_header)
        if self._request.subprotocols():
            # They take the place of the placeholder, together with the session's.
            options.pop("subprotocols", None)
        own = self._ssl_context
        if own is not None:
            # Some versions of websocket-client change the context's checks to those of its options.
            checks = {"cert_reqs": own.verify_mode, "check_hostname": own.check_hostname}
            options["sslopt"] = {**(given.get("sslopt") or {}), "context": own, **checks}
        own_timeout = given.get("timeout")
        if own_timeout is None:
            own_timeout = self._library.getdefaulttimeout()
        options["timeout"] = _shorter(own_timeout, timeout)
        # That one does not count for SOCKS proxies.
        proxy_timeout = _shorter(given.get("http_proxy_timeout"), options["timeout"])
        options["http_proxy_timeout"] = proxy_timeout
        return options

    def _make(self, **options: Any) -> websocket.WebSocket:
        kind = self._keywords.get("class_") or self._library.WebSocket
        return cast("websocket.WebSocket", self._upgrading.make(kind, options))

    def _selected_properly(self, made: Any) -> bool:
        selected = _headers(made).get("sec-websocket-protocol")
        offered = [*self._request.subprotocols(), *(self._keywords.get("subprotocols") or ())]
        return selected is None or selected in offered

    def _failure(self, error: Exception, endpoint: Endpoint) -> SonioxRealtimeError:
        """Return what to raise in place of an exception of websocket-client."""
        import socket

        refusal = self._upgrading.refusal()
        if refusal is not None:
            return refusal
        where = f"{endpoint.host}:{endpoint.port}"
        redirected_to = self._upgrading.redirected_to
        if redirected_to:
            where += f", which redirected to {redirected_to[-1]}"
        in_handshake = _came_from(error, "handshake")
        text = self._request.redact(str(error)) or type(error).__name__
        linked = _linked(error)
        library = self._library
        timeouts = (TimeoutError, library.WebSocketTimeoutException)
        late = any(isinstance(one, timeouts) for one in linked)
        quotes_key = any(
            self._request.redact(said) != said for one in linked for said in (str(one), repr(one))
        )
        cause = None if quotes_key else _without_frames(error)
        failure: SonioxRealtimeError
        if isinstance(error, library.WebSocketAddressException) and error.args:
            error = error.args[0]
        if late:
            failure = SonioxTimeoutError(
                f"could not connect to {where} in time (connect_timeout_sec, or the timeout given "
                "to websocket_client)",
                operation="connect",
            )
        elif isinstance(error, socket.gaierror):
            failure = SonioxConnectionError(
                f"cannot connect to {where}: its host name, or that of the proxy, cannot be "
                f"resolved: {error.strerror or error}"
            )
            cause = error
        elif isinstance(error, (FileNotFoundError, IsADirectoryError)):
            # Of the TLS options: a file of certificates, or the one for SSLKEYLOGFILE.
            failure = SonioxConnectionError(f"cannot connect to {where}: {text}")
            failure.retryable = False
        elif isinstance(error, OSError):
            failure = SonioxConnectionError(
                f"cannot connect to {where}: {self._request.redact(error.strerror or '') or text}"
            )
            failure.retryable = is_retryable(error)
        elif isinstance(error, library.WebSocketProxyException):
            failure = SonioxConnectionError(f"cannot connect to {where}: the proxy: {text}")
            status = _STATUS.search(text)
            failure.retryable = status is None or advice_on_status(int(status[1])).retryable
        elif isinstance(error, library.WebSocketConnectionClosedException):
            failure = SonioxConnectionError(
                "the connection was lost before the server answered the WebSocket upgrade"
            )
        elif in_handshake:
            failure = SonioxProtocolError(
                f"the server broke the WebSocket protocol: not a WebSocket handshake: {text}",
                close_code=1002,
            )
        else:
            failure = SonioxConnectionError(f"cannot connect to {where}: {text}")
            # Its general exception is about the options. Those of its kinds, and those of a library
            # for proxies, may be about the network.
            about_options = type(error) is library.WebSocketException
            failure.retryable = not (about_options or is_fault_of_code(error))
        failure.__cause__ = cause
        return failure


def is_websocket(value: object) -> bool:
    """Return whether `value` is a WebSocket of websocket-client."""
    # It cannot be one if the module is not loaded.
    loaded = sys.modules.get("websocket")
    kind = getattr(loaded, "WebSocket", None)
    return isinstance(kind, type) and isinstance(value, kind)


def take_over(given: websocket.WebSocket) -> tuple[object, Mapping[str, str]]:
    """Return the socket of a connected WebSocket, which is left without, and the answer's headers.

    Raises `SonioxValidationError` if it is not connected, or was used in a way that lost data.
    """
    if not given.connected or given.sock is None:
        raise SonioxValidationError("the WebSocket given as transport is not connected")
    used: Any = given
    in_frame = used.frame_buffer.recv_buffer or used.frame_buffer.header is not None
    if in_frame or used.cont_frame.cont_data is not None:
        close_websocket(given)
        raise SonioxValidationError(
            "the WebSocket given as transport has received a part of a message, which would be "
            "lost; give one that nothing was received from"
        )
    connected, given.sock, given.connected = given.sock, None, False
    return connected, _headers(given)


def close_websocket(given: websocket.WebSocket) -> None:
    """Close a WebSocket at once, without a close frame."""
    cast("Any", given).shutdown()


def _headers(made: Any) -> dict[str, str]:
    return cast("dict[str, str]", made.headers or {})


def _shorter(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _connect_error(error: SonioxRealtimeError) -> ConnectError:
    return ConnectError(str(error), retryable=error.retryable, error=error)


def _lines(header: Any) -> list[str]:
    """Return the keyword `header`, in whichever form it is given, as lines."""
    if isinstance(header, Mapping):
        pairs = cast("Mapping[str, str | None]", header).items()
        return [f"{name}: {value}" for name, value in pairs if value is not None]
    return list(cast("Iterable[str]", header or ()))


def _came_from(error: BaseException, function: str) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == function:
            return True
        trace = trace.tb_next
    return False


def _without_frames(error: Exception) -> Exception:
    """Return an exception without tracebacks, the ones that it is linked to included."""
    for one in _linked(error):
        one.__traceback__ = None
    return error


def _linked(error: BaseException) -> list[BaseException]:
    """Return an exception and all that led to it: the timeout behind a failure of a proxy."""
    linked = [error]
    for one in linked:
        led = (one.__cause__, one.__context__)
        linked += [other for other in led if other is not None and other not in linked]
    return linked
