"""The transport of the async session on asyncio, with a host that only takes notes."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any, cast

import anyio
import pytest

import soniox_adapters.async_.on_asyncio
from soniox_adapters.async_.on_asyncio import AsyncioTransport
from tests.support.adapters.server import PATIENCE
from tests.support.adapters.transports import Notes, connect_options, opened_on_a_socket

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_reading_and_writing() -> None:
    async with opened_on_a_socket(AsyncioTransport) as (transport, notes, far):
        transport.write(b"there")
        assert far.recv(100) == b"there"
        far.sendall(b"back")
        await notes.wait_for(lambda: notes.data == b"back")
        far.close()
        await notes.wait_for(lambda: notes.ended)
        transport.write(b"into the void")


async def test_reading_can_be_paused() -> None:
    async with opened_on_a_socket(AsyncioTransport) as (transport, notes, far):
        transport.pause_reading()
        transport.pause_reading()
        far.sendall(b"later")
        await asyncio.sleep(0.05)
        assert notes.data == b""
        transport.resume_reading()
        transport.resume_reading()
        await notes.wait_for(lambda: notes.data == b"later")


async def test_writing_pauses_and_resumes() -> None:
    async with opened_on_a_socket(AsyncioTransport) as (transport, notes, far):
        written = 0
        while not transport.writing_paused:
            transport.write(bytes(64 * 1024))
            written += 64 * 1024
        received = 0
        while received < written:
            received += len(await asyncio.to_thread(far.recv, 1 << 20))
        await notes.wait_for(lambda: not transport.writing_paused)
        assert notes.resumed == 1


async def test_closing_stops_everything() -> None:
    async with opened_on_a_socket(AsyncioTransport) as (transport, notes, far):
        transport.close()
        transport.close()
        await transport.wait_closed()
        transport.pause_reading()
        transport.resume_reading()
        transport.write(b"late")
        assert far.recv(100) == b""
        assert notes.closed == 1


async def test_closing_drops_what_is_not_written() -> None:
    async with opened_on_a_socket(AsyncioTransport) as (transport, _, far):
        transport.write(bytes(8 * 1024 * 1024))
        transport.close()
        await transport.wait_closed()
        received = 0
        while data := far.recv(1 << 20):
            received += len(data)
        assert received < 8 * 1024 * 1024


async def test_rest_is_read_when_a_write_fails() -> None:
    """The peer said something and left; it is not lost because nobody was reading."""
    async with opened_on_a_socket(AsyncioTransport) as (transport, notes, far):
        transport.pause_reading()
        far.sendall(b"last words")
        far.close()
        transport.write(b"too late")
        await notes.wait_for(lambda: notes.failure is not None or notes.ended)
        assert notes.data == b"last words"
        assert notes.failure is not None
        await transport.wait_closed()


async def test_write_that_fails_while_there_is_nothing_to_read() -> None:
    async with opened_on_a_socket(AsyncioTransport) as (transport, notes, far):
        far.shutdown(socket.SHUT_RD)
        transport.write(b"nobody takes this")
        await notes.wait_for(lambda: notes.failure is not None)
        assert notes.data == b""
        await transport.wait_closed()


async def test_nothing_is_written_to_a_connection_that_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio would log a warning for each chunk, before it tells of the loss."""
    async with opened_on_a_socket(AsyncioTransport) as (transport, notes, far):
        far.close()
        for _ in range(50):
            transport.write(b"too late")
            transport.write_buffers([b"too", b"late"])
        await notes.wait_for(lambda: notes.failure is not None)
    assert caplog.records == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_last_bytes_are_sent_before_it_closes(loop: str) -> None:
    """A close frame, for example; some event loops write only at their next turn."""
    if loop == "uvloop" and sys.platform == "win32":
        pytest.skip("uvloop does not run here")

    async def use() -> None:
        async with opened_on_a_socket(AsyncioTransport) as (transport, _, far):
            transport.write(b"farewell")
            transport.close()
            await transport.wait_closed()
            assert far.recv(100) == b"farewell"
            assert far.recv(100) == b""

    anyio.run(use, backend="asyncio", backend_options={"use_uvloop": loop == "uvloop"})


async def test_closing_is_bounded_if_the_last_bytes_are_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soniox_adapters.async_.on_asyncio, "CLOSE_GRACE", 0.05)
    near, far = socket.socketpair()
    for one in (near, far):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    transport = AsyncioTransport(Notes())
    await transport.open(connect_options(near))
    with far:
        while not transport.unwritten:
            transport.write(bytes(1000))
        assert not transport.writing_paused
        async with anyio.create_task_group() as group:
            with anyio.fail_after(PATIENCE):
                transport.close()
                await transport.wait_closed()
            group.cancel_scope.cancel()
    assert near.fileno() == -1


async def test_a_writer_waits_while_tls_cannot_encrypt() -> None:
    """In a renegotiation, which only the peer's answer ends."""

    class Blocked:
        blocked = True
        ended = False
        error = None
        handshake_complete = True

        def send(self, data: bytes) -> bytes:
            return b""

        def receive(self, data: bytes) -> bytes:
            self.blocked = False
            return b""

        def data_to_send(self) -> bytes:
            return b"the data"

        def close(self) -> None:
            pass

    async with opened_on_a_socket(AsyncioTransport) as (transport, notes, far):
        transport._tls = cast("Any", Blocked())
        transport.write(b"the data")
        assert transport.writing_paused
        far.sendall(b"the peer's part")
        await notes.wait_for(lambda: notes.resumed == 1)
        assert not transport.writing_paused
        assert far.recv(100) == b"the data"


async def test_closed_while_it_opens() -> None:
    near, far = socket.socketpair()
    with far:
        transport = AsyncioTransport(Notes())
        transport.close()
        await transport.open(connect_options(near))
        await transport.wait_closed()
        assert far.recv(1) == b""
        assert near.fileno() == -1


# What sessions have in common


async def test_buffers_are_written_in_order() -> None:
    async with opened_on_a_socket(AsyncioTransport) as (transport, _, far):
        transport.write_buffers([b"one", b"", b"two"])
        transport.write_buffers([])
        assert far.recv(100) == b"onetwo"
        large = bytes(range(256)) * 4096
        transport.write_buffers([b"head", large, b"tail"])
        received = b""
        while len(received) < len(large) + 8:
            received += await asyncio.to_thread(far.recv, 1 << 20)
        assert received == b"head" + large + b"tail"
        far.close()
        await transport.wait_closed()
        transport.write_buffers([b"late"])


async def test_before_it_is_open_nothing_is_written_read_or_waited_for() -> None:
    transport = AsyncioTransport(Notes())
    transport.write(b"early")
    transport.write_buffers([b"early"])
    transport.pause_reading()
    transport.resume_reading()
    await transport.wait_closed()
    transport.close()


@pytest.mark.skipif(sys.platform == "win32", reason="its event loop reads ahead")
async def test_sessions_of_a_thread_read_to_one_place() -> None:
    def place() -> int:
        return id(AsyncioTransport(Notes()).get_buffer(-1).obj)

    async def place_elsewhere() -> int:
        return place()

    here = AsyncioTransport(Notes()).get_buffer(-1)
    assert place() == place() == id(here.obj)
    with here[:5] as view:
        assert not view.readonly
    elsewhere = await asyncio.to_thread(asyncio.run, place_elsewhere())
    assert elsewhere != id(here.obj)


async def test_each_session_gets_its_own_bytes() -> None:
    """Many on one loop, whose reads follow each other closely."""
    count, rounds = 12, 40
    notes = [Notes() for _ in range(count)]
    transports = [AsyncioTransport(one) for one in notes]
    peers: list[socket.socket] = []
    for transport in transports:
        near, far = socket.socketpair()
        peers.append(far)
        await transport.open(connect_options(near))
    expected = [b""] * count
    for turn in range(rounds):
        for index, far in enumerate(peers):
            piece = bytes([index]) * (1 + (7 * turn + 13 * index) % 3000)
            far.sendall(piece)
            expected[index] += piece
        if turn % 3 == 0:
            await asyncio.sleep(0)
    for one, data in zip(notes, expected, strict=True):
        await one.wait_for(lambda one=one, data=data: len(one.data) == len(data))  # type: ignore[misc]
        assert one.data == data
    for transport, far in zip(transports, peers, strict=True):
        transport.close()
        await transport.wait_closed()
        far.close()


async def test_loops_in_different_threads_do_not_disturb_each_other() -> None:
    size = 4 << 20

    async def read(value: int) -> bytes:
        near, far = socket.socketpair()
        notes = Notes()
        transport = AsyncioTransport(notes)
        await transport.open(connect_options(near))
        with far:
            sending = asyncio.create_task(asyncio.to_thread(far.sendall, bytes([value]) * size))
            await notes.wait_for(lambda: len(notes.data) == size)
            await sending
        transport.close()
        await transport.wait_closed()
        return notes.data

    def read_in_a_loop(value: int) -> bytes:
        return asyncio.run(read(value))

    results = await asyncio.gather(
        *(asyncio.to_thread(read_in_a_loop, value) for value in (1, 2, 3))
    )
    for value, data in zip((1, 2, 3), results, strict=True):
        assert data == bytes([value]) * size


async def test_buffers_that_are_kept_do_not_change() -> None:
    """What was read is the host's, whatever is read next."""
    near, far = socket.socketpair()
    kept: list[bytes] = []
    transport = AsyncioTransport(Notes(kept.append))
    await transport.open(connect_options(near))
    with far:
        for piece in (b"first", b"again"):
            far.sendall(piece)
            await asyncio.sleep(0.02)
        assert kept == [b"first", b"again"]
        transport.close()
        await transport.wait_closed()
