"""Which proxy a session goes through, and the way through it."""

from __future__ import annotations

import os
import socket

from soniox_adapters.session import ProxyOption
from soniox_proto import Endpoint, SonioxConnectionError, SonioxValidationError

__all__ = ["connect_through_proxy", "proxy_url"]


def proxy_url(proxy: ProxyOption, endpoint: Endpoint) -> str | None:
    """Return the URL of the proxy to use for `endpoint`, or None for a direct connection.

    With True, the environment decides: `wss_proxy` or `ws_proxy`, `socks_proxy`, `https_proxy` or
    `http_proxy`, `all_proxy`, unless `no_proxy` names the host.
    """
    if not proxy or isinstance(proxy, str):
        return proxy or None
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Loaded where it is needed: it takes as long as the rest of a session.
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(f"{endpoint.host}:{endpoint.port}") or proxy_bypass(endpoint.host):
        return None
    proxies = getproxies()
    schemes = ("wss", "socks", "https") if endpoint.secure else ("ws", "socks", "https", "http")
    return next((proxies[name] for name in (*schemes, "all") if proxies.get(name)), None)


def connect_through_proxy(url: str, endpoint: Endpoint, timeout: float | None) -> socket.socket:
    """Return a TCP connection to `endpoint` through an HTTP or SOCKS proxy.

    Raises:
        SonioxValidationError: python-socks is missing, or the proxy's URL is malformed.
        SonioxConnectionError: The proxy cannot be reached or refuses.
        TimeoutError: It took longer than `timeout` seconds.
    """
    try:
        from python_socks import ProxyError, ProxyTimeoutError
        from python_socks.sync import Proxy
    except ImportError as error:
        raise SonioxValidationError(
            "a proxy needs the package python-socks: pip install 'soniox-proto[proxy]'; "
            "or connect directly with proxy=None"
        ) from error
    try:
        way = Proxy.from_url(url)
    except ValueError as error:
        raise SonioxValidationError(f"the URL of the proxy cannot be used: {error}") from error
    try:
        return way.connect(endpoint.host, endpoint.port, timeout=timeout)
    except ProxyTimeoutError as error:
        raise TimeoutError(str(error)) from error
    except ProxyError as error:
        raise SonioxConnectionError(f"the proxy refused the connection: {error}") from error
