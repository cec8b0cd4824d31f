"""Other tasks run, and timers fire, whatever the server, the source or the user's loop does."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
import anyio.abc
import pytest

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Outcome,
    SessionState,
    SonioxError,
    SonioxStateError,
)
from soniox_adapters.async_.event_loop import make_signal
from soniox_adapters.async_.on_streams import StreamTransport
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script, silent
from tests.support.adapters.sessions import label
from tests.support.adapters.transports import Notes, connect_options
from tests.support.core import frames
from tests.support.core.frames import Opcode
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, result

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def entered(
    script: Script, **options: Any
) -> AsyncIterator[tuple[AsyncRealtimeSTTSession, Peer]]:
    options = {"close_timeout_sec": 0.3, "ping_interval_sec": None, **options}
    with FakeServer(script) as server:
        session = AsyncRealtimeSTTSession(server.url, CONFIG, API_KEY, proxy=None, **options)
        async with session:
            yield session, server.peer()


# A server that never stops


FLOODS: Final = {
    "results": frames.text('{"tokens":[]}') * 500,
    "pings": frames.ping(b"p" * 125) * 500,
}


@pytest.mark.parametrize("flood", list(FLOODS))
async def test_close_ends_although_the_server_goes_on(anyio_backend: str, flood: str) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        while True:
            peer.send(FLOODS[flood])

    async with entered(script) as (session, _):
        with anyio.fail_after(PATIENCE):
            await session.close()
        assert session.state is SessionState.CLOSED


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_other_tasks_get_a_turn_between_reads() -> None:
    turns, turns_at_reads = 0, list[int]()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    def take(data: bytes) -> None:
        if data:
            turns_at_reads.append(turns)

    near, far = socket.socketpair()
    for one in (near, far):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    notes = Notes(take)
    transport = StreamTransport(notes)
    with far:
        far.setblocking(False)
        far.send(bytes(1 << 20))
        far.shutdown(socket.SHUT_WR)
        async with anyio.create_task_group() as group:
            group.start_soon(count_turns)
            await transport.open(connect_options(near))
            await notes.wait_for(lambda: notes.ended)
            group.cancel_scope.cancel()
        transport.close()
        await transport.wait_closed()
    assert len(turns_at_reads) >= 3
    # trio runs the tasks of a turn in any order.
    assert len(set(turns_at_reads)) >= len(turns_at_reads) // 2, "several reads in one turn"


class EndlessStream(anyio.abc.ByteStream):
    """Always has data, and never gives way by itself."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return bytes(max_bytes)

    async def send(self, item: bytes) -> None:
        pass

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_a_given_stream_that_never_waits(anyio_backend: str) -> None:
    transport = StreamTransport(Notes(lambda _: time.sleep(0.001)))
    await transport.open(connect_options(EndlessStream()))
    with anyio.fail_after(PATIENCE):
        for _ in range(3):
            await anyio.sleep(0.001)
        transport.close()
        await transport.wait_closed()


# A source that blocks


async def test_results_come_while_a_source_blocks(anyio_backend: str) -> None:
    """A plain generator that is paced with `time.sleep` lets nothing else run by itself."""

    def script(peer: Peer) -> None:
        peer.start()
        while (frame := peer.read()).opcode is not Opcode.CLOSE and frame.payload:
            peer.say(result("heard"))
        peer.say(FINISHED)
        peer.close()
        peer.read_to_the_end()

    sent = 0
    behind: list[int] = []

    def paced() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(24):
            time.sleep(0.03)
            sent += 1
            yield b"audio"

    async with entered(script) as (session, _), anyio.create_task_group() as group:

        async def receive() -> None:
            while event := await session.receive_event():
                if label(event) == "heard":
                    behind.append(sent)

        group.start_soon(receive)
        await session.send_bytes(paced())
    # By the chunk after next, most of the time; all at once, at the end, was the fault.
    assert sorted(number - index for index, number in enumerate(behind))[len(behind) // 2] <= 3


# Loops that go on for ever


Call = Callable[[AsyncRealtimeSTTSession], Awaitable[object]]

IN_VAIN: Final[dict[str, Call]] = {
    "receive_event": lambda session: session.receive_event(),
    "recv_bytes": lambda session: session.recv_bytes(),
    "receive_events": lambda session: anext(session.receive_events(), None),
    "send_byte_chunk": lambda session: session.send_byte_chunk(b"audio"),
    "an empty chunk": lambda session: session.send_byte_chunk(b""),
    "send_bytes": lambda session: session.send_bytes([b""]),
    "finish": lambda session: session.finish(),
    "finalize": lambda session: session.finalize(),
    "keep_alive": lambda session: session.keep_alive(),
    "pause": lambda session: session.pause(),
    "resume": lambda session: session.resume(),
    "close": lambda session: session.close(),
    "abort": lambda session: session.abort(),
}


async def check_cancellable(session: AsyncRealtimeSTTSession, call: Call) -> None:
    with anyio.fail_after(PATIENCE), anyio.move_on_after(0.01) as scope:
        while True:
            with suppress(SonioxError):
                await call(session)
    assert scope.cancelled_caught


@pytest.mark.parametrize("name", list(IN_VAIN))
async def test_a_loop_over_a_call_can_be_cancelled(anyio_backend: str, name: str) -> None:
    def finishes(peer: Peer) -> None:
        peer.start()
        peer.say(FINISHED)
        peer.close()
        peer.read_to_the_end()

    async with entered(finishes) as (session, _):
        while await session.receive_event() is not None:
            pass
        await check_cancellable(session, IN_VAIN[name])
        await session.close()
        await check_cancellable(session, IN_VAIN[name])


@pytest.mark.parametrize("name", list(IN_VAIN))
async def test_a_loop_over_a_call_before_the_session_is_entered(
    anyio_backend: str, name: str
) -> None:
    session = AsyncRealtimeSTTSession("ws://localhost", CONFIG, API_KEY)
    await check_cancellable(session, IN_VAIN[name])


async def test_a_loop_after_a_lost_connection(anyio_backend: str) -> None:
    def leaves(peer: Peer) -> None:
        peer.start()
        peer.reset()

    async with entered(leaves) as (session, _):
        await check_cancellable(session, IN_VAIN["receive_event"])
        assert session.outcome is Outcome.LOST


@pytest.mark.parametrize("chunk", [b"", b"audio"])
async def test_a_loop_over_sends_of_a_paused_session(anyio_backend: str, chunk: bytes) -> None:
    async with entered(silent) as (session, _):
        await session.pause()
        await check_cancellable(session, lambda session: session.send_byte_chunk(chunk))


# Waiting


async def test_waits_that_were_given_up_leave_nothing_behind() -> None:
    signal = make_signal()
    for _ in range(100):
        with anyio.move_on_after(0):
            await signal.wait()
    waiters = getattr(signal, "_waiters", None)
    assert not waiters, "a future for each of them"


async def test_refused_sends_of_a_closed_session_say_so(anyio_backend: str) -> None:
    async with entered(silent) as (session, _):
        await session.close()
        with pytest.raises(SonioxStateError):
            await session.send_byte_chunk(b"late")
