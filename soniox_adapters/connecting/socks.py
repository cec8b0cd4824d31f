"""SOCKS proxies, through the package python-socks.

That package opens the connection to the proxy itself. We let it use one that is open already, so
that proxies get the same race of addresses, deadline and cancellation as direct connections.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from soniox_adapters.connecting.failures import ConnectError
from soniox_adapters.connecting.proxy import Proxy
from soniox_proto import SonioxValidationError

__all__ = ["NO_LIMIT", "load_python_socks", "socks_errors", "socks_proxy"]

NO_LIMIT: Final = 24 * 3600.0
"""Seconds. python-socks takes None to mean its own default; the limit is ours to enforce."""

_REFUSING_REPLIES: Final = {
    "socks4": frozenset({92, 93}),
    "socks5": frozenset({2, 7, 8}),
}
"""Replies that another try would get as well: the request is not allowed, or not supported."""


def load_python_socks(module: str, proxy: Proxy) -> Any:
    """Return a module of python-socks: the one for threads, for asyncio or for trio.

    Raises `SonioxValidationError` if the package is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SonioxValidationError(
            f"{proxy} needs the package python-socks: pip install 'soniox-proto[proxy]'; "
            "or connect directly with proxy=None"
        ) from error


def socks_proxy(library: Any, proxy: Proxy, connected: object, *, asynchronous: bool) -> Any:
    """Return the proxy object of python-socks, set up to use a connection that is open already.

    `connected`, the connection to the proxy, is what it reads from and writes to.
    """
    return library.Proxy(
        importlib.import_module("python_socks").ProxyType[proxy.scheme.upper()],
        proxy.host,
        proxy.port,
        username=proxy.username,
        password=proxy.password,
        rdns=True,
        forward=_FirstHop(connected, asynchronous),
    )


class _FirstHop:
    """Poses as another proxy in front: python-socks asks that for its connection to the proxy."""

    def __init__(self, connected: object, asynchronous: bool) -> None:
        self._connected = connected
        self._asynchronous = asynchronous

    def connect(self, **_: Any) -> object:
        return self._connect_async() if self._asynchronous else self._connected

    async def _connect_async(self) -> object:
        return self._connected


@contextmanager
def socks_errors(proxy: Proxy) -> Generator[None]:
    """Turn what python-socks raises when the proxy refuses into `ConnectError`."""
    try:
        yield
    except OSError:
        raise
    except (importlib.import_module("python_socks").ProxyError, ValueError) as error:
        # It raises ValueError on some malformed replies.
        code = getattr(error, "error_code", None)
        if code is None:
            # Its error for the end of the stream is not public, so it is recognised by name.
            retryable = type(error.__cause__).__name__ == "IncompleteReadError"
        else:
            retryable = code not in _REFUSING_REPLIES[proxy.scheme]
        text = f"the proxy refused the connection: {error}"
        raise ConnectError(text, retryable=retryable) from error
