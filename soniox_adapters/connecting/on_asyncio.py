"""Opening a TCP connection on asyncio.

Not by `loop.create_connection`, whose race of addresses (`happy_eyeballs_delay`) uvloop lacks.
"""

from __future__ import annotations

import asyncio
import socket

from soniox_adapters.connecting.addresses import Address, AddressRace, numeric_addresses
from soniox_adapters.connecting.proxy import Proxy, ProxyOption, find_proxy
from soniox_proto import Endpoint

__all__ = ["connect_on_asyncio"]


async def connect_on_asyncio(endpoint: Endpoint, proxy: ProxyOption) -> socket.socket:
    """Return a connected, non-blocking socket. Cancelled at any point, it leaves none behind.

    Raises:
        OSError: Connecting failed.
        SonioxValidationError: The proxy cannot be used.
    """
    if chosen := find_proxy(proxy, endpoint):
        return await _connect_through(chosen, endpoint)
    return await _connect(endpoint.host, endpoint.port)


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    # The event loop would start a thread even for what is an address already.
    addresses = numeric_addresses(host, port) or await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )
    race = AddressRace(addresses)
    if race.alone and (address := race.start(loop.time())):
        result = await _attempt(loop, address)
        if not isinstance(result, OSError):
            return result
        race.failed(address, result)
    return await _win(loop, race)


async def _win(loop: asyncio.AbstractEventLoop, race: AddressRace) -> socket.socket:
    """Return the first connection that succeeds in a race of several addresses."""
    attempts: dict[asyncio.Task[socket.socket | OSError], Address] = {}
    try:
        while not race.lost:
            while address := race.start(loop.time()):
                attempts[loop.create_task(_attempt(loop, address))] = address
            next_start = race.next_start()
            await asyncio.wait(
                attempts,
                timeout=None if next_start is None else max(0.0, next_start - loop.time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in [attempt for attempt in attempts if attempt.done()]:
                result = attempt.result()
                address = attempts.pop(attempt)
                if not isinstance(result, OSError):
                    return result
                race.failed(address, result)
        raise race.error()
    finally:
        # Not awaited, because this task may be cancelled. They close their sockets in the event
        # loop's next iteration.
        for attempt in attempts:
            attempt.add_done_callback(_close_result)
            attempt.cancel()


def _close_result(attempt: asyncio.Task[socket.socket | OSError]) -> None:
    if not attempt.cancelled() and isinstance(result := attempt.result(), socket.socket):
        result.close()


async def _attempt(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket | OSError:
    """Return a connected socket, or the error; closes the socket if cancelled."""
    family, kind, protocol, _, where = address
    try:
        connected = socket.socket(family, kind, protocol)
    except OSError as error:
        return error
    try:
        connected.setblocking(False)
        await loop.sock_connect(connected, where)
    except OSError as error:
        connected.close()
        return error
    except BaseException:
        connected.close()
        raise
    return connected


async def _connect_through(proxy: Proxy, endpoint: Endpoint) -> socket.socket:
    if proxy.scheme == "http":
        negotiate = _negotiate_http
    else:
        # Imports in the functions below are local because few sessions use a proxy.
        from soniox_adapters.connecting.socks import load_python_socks

        load_python_socks("python_socks.async_.asyncio", proxy)
        negotiate = _negotiate_socks
    connected = await _connect(proxy.host, proxy.port)
    try:
        await negotiate(proxy, endpoint, connected)
    except BaseException:
        connected.close()
        raise
    return connected


async def _negotiate_http(proxy: Proxy, endpoint: Endpoint, connected: socket.socket) -> None:
    from soniox_adapters.connecting.http_connect import READ_SIZE, HttpConnect

    loop = asyncio.get_running_loop()
    exchange = HttpConnect(proxy, endpoint)
    await loop.sock_sendall(connected, exchange.request)
    while not exchange.receive_data(await loop.sock_recv(connected, READ_SIZE)):
        pass


async def _negotiate_socks(proxy: Proxy, endpoint: Endpoint, connected: socket.socket) -> None:
    from soniox_adapters.connecting.socks import (
        NO_LIMIT,
        load_python_socks,
        socks_errors,
        socks_proxy,
    )

    library = load_python_socks("python_socks.async_.asyncio", proxy)
    with socks_errors(proxy):
        way = socks_proxy(library, proxy, connected, asynchronous=True)
        await way.connect(endpoint.host, endpoint.port, timeout=NO_LIMIT)
