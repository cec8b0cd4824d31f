"""Which proxy a session goes through, and the way through it."""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from soniox_adapters.session import ProxyOption
from soniox_proto import Endpoint, SonioxConnectionError, SonioxValidationError

if TYPE_CHECKING:
    import trio

__all__ = [
    "connect_through_proxy",
    "connect_through_proxy_on_asyncio",
    "connect_through_proxy_on_trio",
    "proxy_url",
]

_NO_LIMIT: Final = 24 * 3600.0
"""Seconds, for a library that takes None for its own default."""


_SCHEMES: Final = {
    True: ("wss", "socks", "https", "all"),
    False: ("ws", "socks", "https", "http", "all"),
}
"""Names of the proxies that serve for a TLS connection, and for one without, the best first."""

_VARIABLES: Final = {
    secure: tuple(form(f"{name}_proxy") for name in names for form in (str.lower, str.upper))
    for secure, names in _SCHEMES.items()
}
"""Environment variables that may name such a proxy."""


def proxy_url(proxy: ProxyOption, endpoint: Endpoint) -> str | None:
    """Return the URL of the proxy to use for `endpoint`, or None for a direct connection.

    With True, the environment decides: `wss_proxy` or `ws_proxy`, `socks_proxy`, `https_proxy` or
    `http_proxy`, `all_proxy`, unless `no_proxy` names the host.
    """
    if not proxy or isinstance(proxy, str):
        return proxy or None
    # Asked for one by one: to look through a large environment takes as long as to open a session.
    if not any(os.environ.get(name) for name in _VARIABLES[endpoint.secure]):
        return None
    # Loaded where it is needed: it takes as long as the rest of a session.
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(f"{endpoint.host}:{endpoint.port}") or proxy_bypass(endpoint.host):
        return None
    proxies = getproxies()
    names = _SCHEMES[endpoint.secure]
    return next((proxies[name] for name in names if proxies.get(name)), None)


def connect_through_proxy(url: str, endpoint: Endpoint, timeout: float | None) -> socket.socket:
    """Return a TCP connection to `endpoint` through an HTTP or SOCKS proxy.

    Raises:
        SonioxValidationError: python-socks is missing, or the proxy's URL is malformed.
        SonioxConnectionError: The proxy refuses.
        OSError: The proxy cannot be reached, or it took longer than `timeout` seconds.
    """
    with _translated_errors():
        way = _proxy("python_socks.sync", url, forward=_FirstHop(timeout))
        connected: socket.socket = way.connect(endpoint.host, endpoint.port)
    return socket.socket(fileno=connected.detach())


async def connect_through_proxy_on_asyncio(url: str, endpoint: Endpoint) -> socket.socket:
    """Return what `connect_through_proxy` returns, without blocking; may be cancelled."""
    with _translated_errors():
        way = _proxy("python_socks.async_.asyncio", url)
        connected: socket.socket = await way.connect(
            endpoint.host, endpoint.port, timeout=_NO_LIMIT
        )
    return connected


async def connect_through_proxy_on_trio(url: str, endpoint: Endpoint) -> trio.socket.SocketType:
    """Return what `connect_through_proxy` returns, without blocking; may be cancelled."""
    with _translated_errors():
        way = _proxy("python_socks.async_.trio", url)
        connected: trio.socket.SocketType = await way.connect(
            endpoint.host, endpoint.port, timeout=_NO_LIMIT
        )
    return connected


class _FirstHop:
    """Connects to the proxy itself, with a socket that keeps one deadline for all it does."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def connect(self, dest_host: str, dest_port: int, **options: Any) -> socket.socket:
        """Return a connected socket."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        try:
            plain = socket.create_connection((dest_host, dest_port), left)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            text = f"cannot connect to the proxy {dest_host}:{dest_port}: {error.strerror or error}"
            raise OSError(error.errno, text) from error
        connected = _DeadlineSocket(fileno=plain.detach())
        connected.deadline = self._deadline
        return connected


class _DeadlineSocket(socket.socket):
    """A peer that sends byte by byte cannot stretch the time for the whole negotiation."""

    deadline: float | None = None

    def recv(self, *arguments: Any) -> bytes:
        self._set_time_left()
        return super().recv(*arguments)

    def sendall(self, data: Any, *arguments: Any) -> None:
        self._set_time_left()
        super().sendall(data, *arguments)

    def _set_time_left(self) -> None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the proxy took too long")
            self.settimeout(left)


def _proxy(module: str, url: str, **options: Any) -> Any:
    """Return python-socks' proxy of the kind that `module` has."""
    try:
        library = importlib.import_module(module)
    except ImportError as error:
        raise SonioxValidationError(
            "a proxy needs the package python-socks: pip install 'soniox-proto[proxy]'; "
            "or connect directly with proxy=None"
        ) from error
    scheme, separator, rest = url.partition("://")
    # The forms that leave name resolution to the proxy; python-socks does so for each.
    plain_scheme = {"socks5h": "socks5", "socks4a": "socks4"}.get(scheme.lower(), scheme)
    try:
        return library.Proxy.from_url(plain_scheme + separator + rest, rdns=True, **options)
    except ValueError as error:
        raise SonioxValidationError(f"the URL of the proxy cannot be used: {error}") from error


@contextmanager
def _translated_errors() -> Generator[None]:
    try:
        yield
    except (OSError, SonioxValidationError):
        raise
    except Exception as error:
        # python-socks has a base class of its own, which must not be imported for its name alone.
        raise SonioxConnectionError(f"the proxy refused the connection: {error}") from error
