"""Opening a TCP connection on trio."""

from __future__ import annotations

import socket

import trio

from soniox_adapters.connecting.addresses import all_failed_error
from soniox_adapters.connecting.proxy import Proxy, ProxyOption, find_proxy
from soniox_proto import Endpoint

__all__ = ["connect_on_trio"]


async def connect_on_trio(endpoint: Endpoint, proxy: ProxyOption) -> socket.socket:
    """Return a connected, non-blocking socket. Cancelled at any point, it leaves none behind.

    Raises:
        OSError: Connecting failed.
        SonioxValidationError: The proxy cannot be used.
    """
    if chosen := find_proxy(proxy, endpoint):
        connected = await _connect_through(chosen, endpoint)
    else:
        connected = await _connect(endpoint.host, endpoint.port)
    plain = socket.socket(fileno=connected.detach())
    plain.setblocking(False)
    return plain


async def _connect(host: str, port: int) -> trio.socket.SocketType:
    try:
        # trio races the addresses itself, as RFC 8305 describes.
        stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        failures = getattr(error.__cause__, "exceptions", None)
        if failures is None:
            raise
        raise all_failed_error(list(failures)) from error.__cause__
    return stream.socket


async def _connect_through(proxy: Proxy, endpoint: Endpoint) -> trio.socket.SocketType:
    if proxy.scheme == "http":
        negotiate = _negotiate_http
    else:
        # Imports in the functions below are local because few sessions use a proxy.
        from soniox_adapters.connecting.socks import load_python_socks

        load_python_socks("python_socks.async_.trio", proxy)
        negotiate = _negotiate_socks
    connected = await _connect(proxy.host, proxy.port)
    try:
        await negotiate(proxy, endpoint, connected)
    except BaseException:
        connected.close()
        raise
    return connected


async def _negotiate_http(
    proxy: Proxy, endpoint: Endpoint, connected: trio.socket.SocketType
) -> None:
    from soniox_adapters.connecting.http_connect import READ_SIZE, HttpConnect

    exchange = HttpConnect(proxy, endpoint)
    left = memoryview(exchange.request)
    while left:
        left = left[await connected.send(left) :]
    while not exchange.receive_data(await connected.recv(READ_SIZE)):
        pass


async def _negotiate_socks(
    proxy: Proxy, endpoint: Endpoint, connected: trio.socket.SocketType
) -> None:
    from soniox_adapters.connecting.socks import (
        NO_LIMIT,
        load_python_socks,
        socks_errors,
        socks_proxy,
    )

    library = load_python_socks("python_socks.async_.trio", proxy)
    with socks_errors(proxy):
        way = socks_proxy(library, proxy, connected, asynchronous=True)
        await way.connect(endpoint.host, endpoint.port, timeout=NO_LIMIT)
