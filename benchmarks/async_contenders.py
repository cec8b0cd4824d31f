"""The async clients, each behind the same four methods; see `benchmarks.blocking_contenders`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

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
    """Run `main` on an event loop of its own, and leave no task behind."""

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


@cache
def _our_client(url: str) -> Any:
    from soniox_adapters import AsyncSonioxClient

    return AsyncSonioxClient(api_key=API_KEY, websocket_base_url=url)


async def _open_ours(url: str) -> AsyncClient:
    from soniox_adapters import RealtimeSTTConfig

    config = RealtimeSTTConfig(**CONFIG_FIELDS)
    session = await _our_client(url).realtime.stt.connect(config=config).enter()
    return AsyncClient(
        session.send_byte_chunk, session.receive_event, session.receive_events, session.close
    )


@cache
def _soniox_client(url: str) -> Any:
    from soniox import AsyncSonioxClient

    return AsyncSonioxClient(api_key=API_KEY, websocket_base_url=url)


async def _open_soniox(url: str) -> AsyncClient:
    from soniox.types import RealtimeSTTConfig

    config = RealtimeSTTConfig(**CONFIG_FIELDS)
    session = await _soniox_client(url).realtime.stt.connect(config=config).enter()
    return AsyncClient(
        session.send_byte_chunk, session.receive_event, session.receive_events, session.close
    )


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

    # What an adapter on picows needs: a queue for whoever receives, backpressure for whoever sends.
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
)
"""All asyncio clients, the two that matter most side by side."""

TRIO_CONTENDERS: Final = (
    AsyncContender("trio-websocket", "trio_websocket", _open_trio_websocket),
    AsyncContender(OURS, "soniox_adapters", _open_ours),
)
"""All trio clients."""
