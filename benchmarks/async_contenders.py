"""The async clients, all with the same four methods; see `benchmarks.blocking_contenders`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from benchmarks.blocking_contenders import bare_event_size, bare_frame, bare_upgrade
from benchmarks.contenders import BARE_SOCKET
from benchmarks.harness import OURS, SONIOX
from benchmarks.messages import API_KEY, CONFIG_FIELDS, START_MESSAGE, Event
from soniox_proto import RealtimeEvent

if TYPE_CHECKING:
    from picows import WSTransport

__all__ = [
    "ASYNCIO_CONTENDERS",
    "TRIO_CONTENDERS",
    "AsyncClient",
    "AsyncContender",
    "run_on_asyncio",
]

_T = TypeVar("_T")

_BUFFERED_BYTES: Final = 64 * 1024

_AUTHORIZATION: Final = f"Bearer {API_KEY}"


@dataclass(frozen=True, slots=True)
class AsyncClient:
    """An open stream."""

    send: Callable[[bytes], Awaitable[object]]
    """Send a chunk."""
    receive: Callable[[], Awaitable[Event | None]]
    """Wait for the next event."""
    events: Callable[[], AsyncIterator[Event]]
    """Iterate over the events."""
    close: Callable[[], Awaitable[object]]
    """Close the stream."""


@dataclass(frozen=True, slots=True)
class AsyncContender:
    """A client library."""

    name: str
    module: str
    open: Callable[[str], Awaitable[AsyncClient]]
    """Open a stream to a URL."""


def run_on_asyncio(
    main: Callable[[], Awaitable[_T]], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> _T:
    """Run `main` on a new event loop, and cancel the tasks that it leaves behind."""

    async def call() -> _T:
        result = await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return result

    loop = new_loop()
    try:
        result = loop.run_until_complete(call())
        loop.run_until_complete(loop.shutdown_asyncgens())
        return result
    finally:
        loop.close()


async def _enter(client: Any, config: Any) -> AsyncClient:
    """Enter a session of ours or of the official client: they have the same methods."""
    session = await client.realtime.stt.connect(config=config).enter()
    return AsyncClient(
        session.send_byte_chunk, session.receive_event, session.receive_events, session.close
    )


@cache
def _our_client(url: str) -> Any:
    from soniox_adapters import AsyncSonioxClient

    return AsyncSonioxClient(api_key=API_KEY, websocket_base_url=url)


async def _open_ours(url: str) -> AsyncClient:
    from soniox_adapters import RealtimeSTTConfig

    return await _enter(_our_client(url), RealtimeSTTConfig(**CONFIG_FIELDS))


@cache
def _soniox_client(url: str) -> Any:
    from soniox import AsyncSonioxClient

    return AsyncSonioxClient(api_key=API_KEY, websocket_base_url=url)


async def _open_soniox(url: str) -> AsyncClient:
    from soniox.types import RealtimeSTTConfig

    return await _enter(_soniox_client(url), RealtimeSTTConfig(**CONFIG_FIELDS))


async def _open_websockets(url: str) -> AsyncClient:
    from websockets.asyncio.client import connect

    connection = await connect(url, additional_headers={"Authorization": _AUTHORIZATION})
    await connection.send(START_MESSAGE)
    parse = RealtimeEvent.validate_event

    async def receive() -> Event:
        return parse(await connection.recv())

    async def events() -> AsyncIterator[Event]:
        async for message in connection:
            yield parse(message)

    return AsyncClient(connection.send, receive, events, connection.close)


async def _open_aiohttp(url: str) -> AsyncClient:
    from aiohttp import ClientSession

    stack = AsyncExitStack()
    session = await stack.enter_async_context(ClientSession())
    headers = {"Authorization": _AUTHORIZATION}
    connection = await stack.enter_async_context(session.ws_connect(url, headers=headers))
    await connection.send_str(START_MESSAGE)
    parse = RealtimeEvent.validate_event

    async def receive() -> Event:
        return parse((await connection.receive()).data)

    async def events() -> AsyncIterator[Event]:
        async for message in connection:
            yield parse(message.data)

    return AsyncClient(connection.send_bytes, receive, events, stack.aclose)


async def _open_picows(url: str) -> AsyncClient:
    from picows import WSFrame, WSListener, WSMsgType, ws_connect

    parse = RealtimeEvent.validate_event
    loop = asyncio.get_running_loop()

    # What any adapter on picows would need: a queue for receivers, and backpressure for senders.
    class Listener(WSListener):
        def __init__(self) -> None:
            super().__init__()
            self.waiting: deque[Event] = deque()
            self.arrived: asyncio.Future[None] | None = None
            self.writable: asyncio.Future[None] | None = None

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                self.waiting.append(parse(frame.get_payload_as_bytes()))
                if self.arrived is not None and not self.arrived.done():
                    self.arrived.set_result(None)

        def pause_writing(self) -> None:
            self.writable = loop.create_future()

        def resume_writing(self) -> None:
            if self.writable is not None and not self.writable.done():
                self.writable.set_result(None)
            self.writable = None

    transport, connected = await ws_connect(
        Listener, url, extra_headers={"Authorization": _AUTHORIZATION}
    )
    assert isinstance(connected, Listener)
    listener = connected
    transport.send(WSMsgType.TEXT, START_MESSAGE.encode())
    binary, write, waiting = WSMsgType.BINARY, transport.send, listener.waiting

    async def send(chunk: bytes) -> None:
        write(binary, chunk)
        if listener.writable is not None:
            await listener.writable

    async def receive() -> Event:
        if not waiting:
            listener.arrived = loop.create_future()
            await listener.arrived
        return waiting.popleft()

    async def events() -> AsyncIterator[Event]:
        while True:
            yield await receive()

    async def close() -> None:
        transport.send_close()
        transport.disconnect()
        await transport.wait_disconnected()

    return AsyncClient(send, receive, events, close)


class _Bare(asyncio.BufferedProtocol):
    """Counts bytes."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(64 * 1024))
        self._arrived: asyncio.Future[None] | None = None
        self._received = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received += nbytes
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def take(self, size: int) -> None:
        """Wait for `size` bytes, or for any number of bytes if that is 0."""
        while self._received < max(size, 1):
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        self._received -= size or self._received


async def _open_bare(url: str) -> AsyncClient:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    transport, bare = await loop.create_connection(_Bare, parts.hostname or "", parts.port or 80)
    transport.write(bare_upgrade(url))
    await bare.take(0)
    transport.write(bare_frame(0x81, START_MESSAGE.encode()))
    size, nothing = bare_event_size(url), RealtimeEvent()
    frames: dict[int, bytes] = {}

    async def send(chunk: bytes) -> None:
        length = len(chunk)
        if length not in frames:
            frames[length] = bare_frame(0x82, chunk)
        transport.write(frames[length])
        while transport.get_write_buffer_size() > _BUFFERED_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def receive() -> Event:
        await bare.take(size)
        return nothing

    async def events() -> AsyncIterator[Event]:
        while True:
            yield await receive()

    async def close() -> None:
        transport.abort()

    return AsyncClient(send, receive, events, close)


async def _open_trio_websocket(url: str) -> AsyncClient:
    from trio_websocket import open_websocket_url

    stack = AsyncExitStack()
    opening: Any = open_websocket_url(
        url, extra_headers=[(b"Authorization", _AUTHORIZATION.encode())]
    )
    connection = await stack.enter_async_context(opening)
    await connection.send_message(START_MESSAGE)
    parse = RealtimeEvent.validate_event

    async def receive() -> Event:
        return parse(await connection.get_message())

    async def events() -> AsyncIterator[Event]:
        while True:
            yield parse(await connection.get_message())

    return AsyncClient(connection.send_message, receive, events, stack.aclose)


ASYNCIO_CONTENDERS: Final = (
    AsyncContender(SONIOX, "soniox", _open_soniox),
    AsyncContender(OURS, "soniox_adapters", _open_ours),
    AsyncContender("websockets", "websockets", _open_websockets),
    AsyncContender("aiohttp", "aiohttp", _open_aiohttp),
    AsyncContender("picows", "picows", _open_picows),
    AsyncContender(BARE_SOCKET, "asyncio", _open_bare),
)
"""All asyncio clients. The two that matter most are next to each other, so their runs are too."""

TRIO_CONTENDERS: Final = (
    AsyncContender("trio-websocket", "trio_websocket", _open_trio_websocket),
    AsyncContender(OURS, "soniox_adapters", _open_ours),
)
"""All trio clients."""
