"""Objects of the user's that fail, hang or are left early: sources of audio, and streams."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import trio

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Outcome,
    SessionState,
    SonioxConnectionError,
    SonioxError,
)
from soniox_adapters.async_.on_streams import StreamTransport
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, silent
from tests.support.adapters.sessions import Kind, label, open_session
from tests.support.adapters.transports import Notes, connect_options
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, result

pytestmark = pytest.mark.anyio

OPTIONS: Final[dict[str, Any]] = {
    "close_timeout_sec": 0.3,
    "ping_interval_sec": None,
    "proxy": None,
}


@asynccontextmanager
async def entered(**options: Any) -> AsyncIterator[AsyncRealtimeSTTSession]:
    with FakeServer(silent) as server:
        session = AsyncRealtimeSTTSession(server.url, CONFIG, API_KEY, **{**OPTIONS, **options})
        async with session:
            yield session


async def receive_all(session: AsyncRealtimeSTTSession) -> None:
    while await session.receive_event() is not None:
        pass


# Sources of audio


class Microphone:
    """Something that must be stopped, with a generator that does so."""

    def __init__(self) -> None:
        self.stopped = False

    def blocking(self) -> Generator[object]:
        try:
            yield b"audio"
            yield "no audio at all"
            yield b"never taken"
        finally:
            self.stopped = True

    async def asynchronous(self) -> AsyncGenerator[object]:
        try:
            for chunk in (b"audio", "no audio at all", b"never taken"):
                await anyio.lowlevel.checkpoint()
                yield chunk
        finally:
            # To stop takes a moment, also where the task has been cancelled.
            await anyio.sleep(0.001)
            self.stopped = True

    async def endless(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"audio"
        finally:
            await anyio.sleep(0.001)
            self.stopped = True


@pytest.mark.parametrize("form", ["blocking", "asynchronous"])
async def test_a_generator_is_closed_when_a_chunk_is_refused(anyio_backend: str, form: str) -> None:
    microphone = Microphone()
    async with entered() as session:
        # Kept, because a generator that nobody holds would be closed by Python.
        source = getattr(microphone, form)()
        with pytest.raises(TypeError):
            await session.send_bytes(source)
        assert microphone.stopped


async def test_a_generator_is_closed_when_the_call_is_cancelled(anyio_backend: str) -> None:
    microphone = Microphone()
    async with entered() as session:
        with anyio.move_on_after(0.05) as scope:
            await session.send_bytes(microphone.endless())
        assert scope.cancelled_caught
        assert microphone.stopped


async def test_a_generator_is_closed_when_the_session_is_over(anyio_backend: str) -> None:
    microphone = Microphone()
    async with entered() as session:
        await session.close()
        with pytest.raises(SonioxError):
            await session.send_bytes(microphone.endless())
        assert microphone.stopped


async def test_a_generator_that_never_stops_is_not_waited_for(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soniox_adapters.async_.source.CLOSE_GRACE", 0.05)

    async def stuck() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"audio"
        finally:
            await anyio.sleep_forever()

    async with entered() as session:
        with anyio.fail_after(PATIENCE), anyio.move_on_after(0.05):
            await session.send_bytes(stuck())


async def test_what_is_no_generator_is_left_alone(anyio_backend: str) -> None:
    class Chunks:
        closed = False

        def __init__(self) -> None:
            self._left: list[object] = [b"audio", "no audio"]

        def __iter__(self) -> Iterator[Any]:
            return self

        def __next__(self) -> object:
            return self._left.pop(0)

        def close(self) -> None:
            self.closed = True

    chunks = Chunks()
    async with entered() as session:
        with pytest.raises(TypeError):
            await session.send_bytes(chunks)
    assert not chunks.closed, "a file, for example, is its owner's"


# The iterator of the session


async def test_receive_events_can_be_closed(anyio_backend: str) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.say(result("one"), result("two"), result("three"), FINISHED)
        peer.read_to_the_end()

    with FakeServer(script) as server:
        async with AsyncRealtimeSTTSession(server.url, CONFIG, API_KEY, **OPTIONS) as session:
            async with aclosing(session.receive_events()) as events:
                assert label(await anext(events)) == "one"
                assert label(await events.asend(None)) == "two"
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            events = session.receive_events()
            with pytest.raises(LookupError):
                await events.athrow(LookupError())
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            rest = [label(event) async for event in session.receive_events()]
            assert rest == ["three", "finished"], "the session went on"


# Streams


class Faulty(anyio.abc.ByteStream):
    """A stream whose methods raise what they are told to, once it has been opened."""

    def __init__(self, stream: anyio.abc.ByteStream, faults: dict[str, BaseException]) -> None:
        self._stream = stream
        self._faults = faults
        self.failing = False

    def _maybe_raise(self, method: str) -> None:
        if method in self._faults and self.failing:
            raise self._faults[method]

    async def receive(self, max_bytes: int = 65536) -> bytes:
        self._maybe_raise("receive")
        data = await self._stream.receive(max_bytes)
        self._maybe_raise("receive")
        return data

    async def send(self, item: bytes) -> None:
        self._maybe_raise("send")
        await self._stream.send(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            # Even if that was cancelled, as by whoever closes forcefully.
            self._maybe_raise("aclose")


def echoes(peer: Peer) -> None:
    peer.start()
    while True:
        peer.read()
        peer.say(result("heard"))


FAULTS: Final[list[Callable[[], BaseException]]] = [
    lambda: LookupError("a fault of its own"),
    lambda: anyio.ClosedResourceError(),
    lambda: OSError(5, "input and output"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=["foreign", "anyio", "os"])
@pytest.mark.parametrize("method", ["receive", "send", "aclose"])
async def test_a_stream_that_raises(
    anyio_backend: str, method: str, fault: Callable[[], BaseException]
) -> None:
    with FakeServer(echoes) as server:
        stream = Faulty(await anyio.connect_tcp("127.0.0.1", server.port), {method: fault()})
        session = AsyncRealtimeSTTSession(server.url, CONFIG, API_KEY, transport=stream, **OPTIONS)
        await session.enter()
        stream.failing = True
        with anyio.fail_after(PATIENCE):
            await session.send_byte_chunk(b"audio")
            if method == "aclose":
                await session.close()
            else:
                with pytest.raises(SonioxConnectionError):
                    await receive_all(session)
                assert session.outcome is Outcome.LOST
        await session.close()
        assert session.state is SessionState.CLOSED


class OddSocket(socket.socket):
    """Raises an error of its own from the second message on, which is a keepalive."""

    sends = 0

    def send(self, *arguments: Any) -> int:
        self.sends += 1
        if self.sends > 2:
            raise ValueError("odd")
        return super().send(*arguments)


@pytest.mark.parametrize("kind", [Kind.BLOCKING, Kind.TRIO])
def test_a_socket_that_raises_when_a_timer_sends(kind: Kind) -> None:
    """No task of the user's is there to get it."""
    with FakeServer(silent) as server:
        odd = OddSocket()
        odd.connect(("127.0.0.1", server.port))
        options = {"transport": odd, "keepalive_interval_sec": 0.05}
        with open_session(kind, server.url, **options) as driver:
            driver.enter()
            with pytest.raises(SonioxConnectionError, match="odd"):
                driver.receive()


class NotAnError(BaseException):
    """What `except Exception` does not catch."""


def stray_cancellation() -> BaseException:
    """A `Cancelled` of another scope, which some object has kept and raises again."""
    kept: list[BaseException] = []

    async def keep() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
                raise

    trio.run(keep)
    return kept[0]


BASE_FAULTS: Final[dict[str, Callable[[], BaseException]]] = {
    "interrupt": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "other": NotAnError,
    "cancelled": stray_cancellation,
}


@pytest.mark.parametrize("name", list(BASE_FAULTS))
@pytest.mark.parametrize("method", ["receive", "send", "aclose"])
def test_nothing_leaves_a_system_task_of_trio(method: str, name: str) -> None:
    """It would end the whole program with a `TrioInternalError`."""
    error = BASE_FAULTS[name]()

    async def use(url: str, port: int) -> None:
        stream = Faulty(await anyio.connect_tcp("127.0.0.1", port), {method: error})
        session = AsyncRealtimeSTTSession(url, CONFIG, API_KEY, transport=stream, **OPTIONS)
        await session.enter()
        stream.failing = True
        with anyio.fail_after(PATIENCE):
            await session.send_byte_chunk(b"audio")
            if method != "aclose":
                with pytest.raises(SonioxConnectionError):
                    await receive_all(session)
            await session.close()
        assert session.state is SessionState.CLOSED

    with FakeServer(echoes) as server:
        trio.run(use, server.url, server.port)


@pytest.mark.parametrize("method", ["receive", "send"])
async def test_a_stream_that_raises_while_tls_begins(
    anyio_backend: str, method: str, client_tls: Any
) -> None:
    with FakeServer(Peer.drain) as server:
        faults: dict[str, BaseException] = {
            method: LookupError("broken"),
            "aclose": LookupError("broken too"),
        }
        stream = Faulty(await anyio.connect_tcp("127.0.0.1", server.port), faults)
        stream.failing = True
        session = AsyncRealtimeSTTSession(
            "wss://localhost", CONFIG, API_KEY, transport=stream, ssl_context=client_tls, **OPTIONS
        )
        with pytest.raises((SonioxConnectionError, LookupError), match=r"broken\b"):
            await session.enter()
        assert session.state is SessionState.CLOSED


async def test_a_closed_session_with_a_blocked_sender_has_no_socket(anyio_backend: str) -> None:
    """Some versions of anyio forget to abort a transport that still has data to send."""

    def never_reads(peer: Peer) -> None:
        peer.start()
        peer.stalled.wait(PATIENCE)
        peer.drain()

    with FakeServer(never_reads) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        descriptor = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        session = AsyncRealtimeSTTSession(server.url, CONFIG, API_KEY, transport=stream, **OPTIONS)
        await session.enter()

        async def send() -> None:
            with pytest.raises(SonioxError):
                await session.send_byte_chunk(bytes(16 << 20))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                await anyio.wait_all_tasks_blocked()
                await session.abort()
            while descriptor.fileno() != -1:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        server.peer().stalled.set()


# The task of a given stream


def test_the_task_that_moves_the_bytes_is_cancelled() -> None:
    """Programs that cancel every task of their loop end the session, and nobody waits for ever."""
    import asyncio

    async def use() -> None:
        with FakeServer(silent) as server:
            stream = await anyio.connect_tcp("127.0.0.1", server.port)
            session = AsyncRealtimeSTTSession(
                server.url, CONFIG, API_KEY, transport=stream, **OPTIONS
            )
            await session.enter()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            with pytest.raises(SonioxConnectionError):
                await asyncio.wait_for(session.receive_event(), PATIENCE)
            await session.close()

    asyncio.run(use())


async def test_an_empty_transport_waits_for_nothing(anyio_backend: str) -> None:
    transport = StreamTransport(Notes())
    transport.write(b"early")
    transport.release()
    with pytest.raises(Exception, match="transport must be"):
        await transport.open(connect_options(42))
