"""Opening a connection for a blocking session: one deadline for all of it, cancellable.

The standard library's ways to connect take a timeout per step, cannot be cancelled by another
thread, and try addresses one after the other. Here every step is non-blocking and waits in one
selector together with a socket that `cancel` writes to. What cannot be made non-blocking (name
resolution, a function of the user's) runs in a thread that is left behind when time is up.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from soniox_adapters.connecting.addresses import (
    Address,
    AddressRace,
    numeric_addresses,
    os_error,
)
from soniox_adapters.connecting.failures import ConnectError, connector_errors
from soniox_adapters.connecting.proxy import Proxy, ProxyOption, find_proxy
from soniox_adapters.connecting.tls import client_context
from soniox_adapters.connecting.websocket_client import (
    Attempt,
    close_websocket,
    is_websocket,
    take_over,
)
from soniox_proto import Endpoint, SonioxValidationError

if TYPE_CHECKING:
    import websocket

    Connection: TypeAlias = socket.socket | websocket.WebSocket

__all__ = ["BlockingTransport", "ConnectCancelledError", "Connecting"]

BlockingTransport: TypeAlias = "Connection | Callable[[Endpoint, float | None], Connection]"
"""A connected socket or WebSocket of websocket-client, or a function of the endpoint and the
seconds left (None for no limit) that returns one."""

_UNDER_WAY: Final = frozenset(
    {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", 0)}
)

_T = TypeVar("_T")

_GRACE: Final = 0.5
"""Seconds that a function of the user's, which knows the deadline, gets to end by itself after it.
So a thread is left behind only where such a function does not keep to the deadline."""

_Selector: Final[type[selectors.BaseSelector]] = getattr(
    # Not DefaultSelector: epoll and kqueue would need one more descriptor.
    selectors,
    "PollSelector",
    selectors.SelectSelector,
)


class ConnectCancelledError(Exception):
    """`Connecting.cancel` was called while the connection was being opened."""


class Connecting:
    """Opens one connection, once. Any thread may `cancel` it, and so may a signal handler.

    Args:
        deadline: When it has to be open, in seconds on `time.monotonic`; None for no limit.
    """

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline
        self._cancelled = False
        self._over = False
        # What the function in the helper thread returned or raised; None means cancelled.
        self._outcomes: queue.SimpleQueue[tuple[Any, BaseException | None] | None]
        self._outcomes = queue.SimpleQueue()
        # Guards the selector and the sockets that wake it, created at the first wait. Reentrant,
        # because a signal handler may cancel at any moment.
        self._lock = threading.RLock()
        self._selector: selectors.BaseSelector | None = None
        self._wakers: tuple[socket.socket, ...] = ()
        self.answer: Mapping[str, str] | None = None
        """Headers of the server's answer, if what `open` returned is upgraded to a WebSocket."""

    def cancel(self) -> None:
        """Make `open` raise `ConnectCancelledError` at once; does nothing once it has returned."""
        self._cancelled = True
        self._outcomes.put(None)
        with self._lock:
            if self._wakers:
                with contextlib.suppress(OSError):
                    self._wakers[1].send(b"\0")

    def open(
        self,
        endpoint: Endpoint,
        *,
        ssl_context: ssl.SSLContext | None,
        proxy: ProxyOption,
        transport: BlockingTransport | None,
    ) -> socket.socket:
        """Return a connected, non-blocking socket, with TLS if the endpoint asks for it.

        A transport that is a TLS socket already is used as it is, and so is the socket of a
        WebSocket, which leaves the headers of the upgrade in `answer`. The transport is closed if
        this fails.

        Raises:
            OSError: Connecting failed; includes `ssl.SSLError` and `TimeoutError`.
            SonioxValidationError: The transport is not a socket, or the proxy cannot be used.
            ConnectCancelledError: `cancel` was called.
        """
        try:
            connected = self._open_plain(endpoint, proxy, transport)
            try:
                connected.setblocking(False)
                # Of a WebSocket, TLS and the options of the socket are its library's business.
                if self.answer is None:
                    connected = self._prepare(connected, endpoint, ssl_context)
                self._check()
            except BaseException:
                connected.close()
                raise
            return connected
        finally:
            self._over = True
            self._discard_outcomes()
            self._close_wakers()

    def _prepare(
        self, connected: socket.socket, endpoint: Endpoint, ssl_context: ssl.SSLContext | None
    ) -> socket.socket:
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            # Audio is sent in small chunks, none of which should wait for the next.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if endpoint.secure and not isinstance(connected, ssl.SSLSocket):
            context = client_context(ssl_context)
            connected = self._secure(connected, context, endpoint.server_hostname)
        return connected

    def _open_plain(
        self, endpoint: Endpoint, proxy: ProxyOption, transport: BlockingTransport | None
    ) -> socket.socket:
        if transport is not None:
            return self._adopt(endpoint, transport)
        if chosen := find_proxy(proxy, endpoint):
            return self._connect_through(chosen, endpoint)
        return self._connect(endpoint.host, endpoint.port)

    # The user's own transport

    def _adopt(self, endpoint: Endpoint, transport: BlockingTransport) -> socket.socket:
        given: object = transport
        if callable(transport):
            try:
                given = self._in_thread(
                    partial(_call_connector, transport, endpoint, self._time_left()),
                    grace=_GRACE,
                )
            except BaseException as error:
                refusal = transport.abandon() if isinstance(transport, Attempt) else None
                if refusal is not None and isinstance(error, TimeoutError):
                    # If the server has answered already, that says more than a timeout.
                    raise refusal from None
                raise
        if is_websocket(given):
            given, self.answer = take_over(cast("websocket.WebSocket", given))
        if not isinstance(given, socket.socket):
            raise SonioxValidationError(
                "transport must be a connected socket, or a function that returns one, not "
                f"{type(given).__name__}"
            )
        return given

    # TCP

    def _connect(self, host: str, port: int) -> socket.socket:
        """Return a socket connected to the first of the host's addresses that answers."""
        race = AddressRace(self._resolve(host, port))
        attempts: dict[socket.socket, Address] = {}
        try:
            while not race.lost:
                while address := race.start(time.monotonic()):
                    attempt = _start_connecting(address)
                    if isinstance(attempt, OSError):
                        race.failed(address, attempt)
                    else:
                        attempts[attempt] = address
                if not attempts:
                    continue
                writable = dict.fromkeys(attempts, selectors.EVENT_WRITE)
                for attempt in self._wait(writable, race.next_start()):
                    code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    address = attempts.pop(attempt)
                    if not code:
                        return attempt
                    attempt.close()
                    race.failed(address, os_error(code))
            raise race.error()
        finally:
            for attempt in attempts:
                attempt.close()

    def _resolve(self, host: str, port: int) -> list[Address]:
        # getaddrinfo has no timeout and cannot be interrupted, so it runs in another thread.
        return numeric_addresses(host, port) or self._in_thread(
            lambda: list[Address](socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        )

    # Proxies

    def _connect_through(self, proxy: Proxy, endpoint: Endpoint) -> socket.socket:
        if proxy.scheme == "http":
            # Imports in the functions below are local because few sessions use a proxy.
            connected = self._connect(proxy.host, proxy.port)
            negotiate = self._negotiate_http
        else:
            from soniox_adapters.connecting.socks import load_python_socks

            load_python_socks("python_socks.sync", proxy)
            connected = self._connect(proxy.host, proxy.port)
            negotiate = self._negotiate_socks
        try:
            negotiate(proxy, endpoint, _WaitingSocket(connected, self._repeat))
        except BaseException:
            connected.close()
            raise
        return connected

    def _negotiate_http(self, proxy: Proxy, endpoint: Endpoint, stream: _WaitingSocket) -> None:
        from soniox_adapters.connecting.http_connect import READ_SIZE, HttpConnect

        exchange = HttpConnect(proxy, endpoint)
        stream.sendall(exchange.request)
        while not exchange.receive_data(stream.recv(READ_SIZE)):
            pass

    def _negotiate_socks(self, proxy: Proxy, endpoint: Endpoint, stream: _WaitingSocket) -> None:
        from soniox_adapters.connecting.socks import (
            NO_LIMIT,
            load_python_socks,
            socks_errors,
            socks_proxy,
        )

        library = load_python_socks("python_socks.sync", proxy)
        with socks_errors(proxy):
            way = socks_proxy(library, proxy, stream, asynchronous=False)
            way.connect(endpoint.host, endpoint.port, timeout=NO_LIMIT)

    # TLS

    def _secure(
        self, connected: socket.socket, context: ssl.SSLContext, host: str
    ) -> ssl.SSLSocket:
        try:
            secured = context.wrap_socket(
                connected, server_hostname=host, do_handshake_on_connect=False
            )
        except ValueError as error:
            raise ConnectError(f"TLS cannot be set up: {error}", retryable=False) from error
        try:
            self._repeat(secured, secured.do_handshake, selectors.EVENT_READ)
        except BaseException:
            secured.close()
            raise
        return secured

    # Waiting

    def _time_left(self, until: float | None = None) -> float | None:
        """Return the seconds until the deadline or `until`, the earlier one; None if neither."""
        moments = [moment for moment in (self._deadline, until) if moment is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _check(self) -> None:
        if self._cancelled:
            raise ConnectCancelledError
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimeoutError("the connection was not open in time")

    def _repeat(self, waiting: socket.socket, call: Callable[[], _T], events: int) -> _T:
        """Repeat a non-blocking call until it succeeds, waiting for the socket in between."""
        result, awaited = _try(call, events)
        while awaited:
            self._wait({waiting: awaited})
            result, awaited = _try(call, events)
        return cast("_T", result)

    def _wait(
        self, sockets: Mapping[socket.socket, int], until: float | None = None
    ) -> list[socket.socket]:
        """Wait for one of several sockets, no longer than until `until`; return the ready ones."""
        with self._lock:
            selector = self._selector or self._make_selector()
        self._check()
        for waiting, events in sockets.items():
            selector.register(waiting, events)
        try:
            ready = selector.select(self._time_left(until))
        finally:
            for waiting in sockets:
                selector.unregister(waiting)
        self._check()
        return [cast("socket.socket", key.fileobj) for key, _ in ready]

    def _make_selector(self) -> selectors.BaseSelector:
        self._wakers = socket.socketpair()
        for waker in self._wakers:
            waker.setblocking(False)
        self._selector = _Selector()
        self._selector.register(self._wakers[0], selectors.EVENT_READ)
        return self._selector

    def _close_wakers(self) -> None:
        with self._lock:
            wakers, self._wakers = self._wakers, ()
            for waker in wakers:
                waker.close()
            if self._selector is not None:
                self._selector.close()

    # Calls that cannot be interrupted

    def _in_thread(self, function: Callable[[], _T], *, grace: float = 0.0) -> _T:
        """Call a function that blocks in a thread, which is left behind at the deadline.

        If it returns a socket after that, the socket is closed.

        Args:
            function: What to call.
            grace: Seconds that the thread gets to end by itself after the deadline.
        """

        def run() -> None:
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = function(), None
            except BaseException as error:
                outcome = None, error
            self._outcomes.put(outcome)
            if self._over:
                self._discard_outcomes()

        self._check()
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(run,), name="soniox-connect", daemon=True
        )
        thread.start()
        try:
            result, error = self._next_outcome()
        except (TimeoutError, ConnectCancelledError):
            # Cancelled or not: a function that knows the deadline is about to end after it.
            if self._time_left() == 0.0:
                thread.join(grace)
            raise
        # Does not wait: the thread has nothing left to do.
        thread.join()
        if error is not None:
            raise error
        return cast("_T", result)

    def _next_outcome(self) -> tuple[Any, BaseException | None]:
        while True:
            with contextlib.suppress(queue.Empty):
                outcome = self._outcomes.get(timeout=self._time_left())
                if outcome is None:
                    raise ConnectCancelledError
                return outcome
            self._check()

    def _discard_outcomes(self) -> None:
        # Both threads may get here. The queue gives each outcome to one of them.
        with contextlib.suppress(queue.Empty):
            while True:
                outcome = self._outcomes.get_nowait()
                if outcome is not None and isinstance(outcome[0], socket.socket):
                    outcome[0].close()
                elif outcome is not None and is_websocket(outcome[0]):
                    close_websocket(cast("websocket.WebSocket", outcome[0]))


class _WaitingSocket:
    """A non-blocking socket with a blocking interface, bounded by the connect's deadline."""

    def __init__(self, connected: socket.socket, repeat: Callable[..., Any]) -> None:
        self._socket = connected
        self._repeat = repeat

    def recv(self, size: int) -> bytes:
        receive = partial(self._socket.recv, size)
        return cast("bytes", self._repeat(self._socket, receive, selectors.EVENT_READ))

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            send = partial(self._socket.send, left)
            left = left[self._repeat(self._socket, send, selectors.EVENT_WRITE) :]

    def close(self) -> None:
        self._socket.close()


def _call_connector(
    connector: Callable[[Endpoint, float | None], object], endpoint: Endpoint, timeout: float | None
) -> object:
    with connector_errors():
        return connector(endpoint, timeout)


def _start_connecting(address: Address) -> socket.socket | OSError:
    """Return a socket that is being connected, or the error if that failed at once."""
    family, kind, protocol, _, where = address
    try:
        attempt = socket.socket(family, kind, protocol)
    except OSError as error:
        return error
    try:
        attempt.setblocking(False)
        code = attempt.connect_ex(where)
        if code in _UNDER_WAY:
            return attempt
        failure = os_error(code)
    except OSError as error:
        failure = error
    attempt.close()
    return failure


def _try(call: Callable[[], _T], events: int) -> tuple[_T | None, int]:
    """Return the result of a non-blocking call, or the events to wait for before the next try."""
    try:
        return call(), 0
    except BlockingIOError:
        return None, events
    except ssl.SSLWantReadError:
        return None, selectors.EVENT_READ
    except ssl.SSLWantWriteError:
        return None, selectors.EVENT_WRITE
