"""The transport of the async session on asyncio, with a host that only takes notes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from soniox_adapters.asyncio_transport import AsyncioTransport
from tests.support.adapter_hosts import Notes, connect_options
from tests.support.adapter_server import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[AsyncioTransport, Notes, socket.socket]]:
    """An open transport, its host's notes, and the other end."""
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    notes = Notes()
    transport = AsyncioTransport(notes.host)
    await transport.open(connect_options(near))
    with far:
        try:
            yield transport, notes, far
        finally:
            transport.close()
            await transport.wait_closed()


async def test_reading_and_writing() -> None:
    async with opened() as (transport, notes, far):
        transport.write(b"there")
        assert far.recv(100) == b"there"
        far.sendall(b"back")
        await notes.wait_for(lambda: notes.data == b"back")
        far.close()
        await notes.wait_for(lambda: notes.ended)
        transport.write(b"into the void")


async def test_reading_can_be_paused() -> None:
    async with opened() as (transport, notes, far):
        transport.pause_reading()
        transport.pause_reading()
        far.sendall(b"later")
        await asyncio.sleep(0.05)
        assert notes.data == b""
        transport.resume_reading()
        transport.resume_reading()
        await notes.wait_for(lambda: notes.data == b"later")


async def test_writing_pauses_and_resumes() -> None:
    async with opened() as (transport, notes, far):
        written = 0
        while not transport.writing_paused:
            transport.write(bytes(64 * 1024))
            written += 64 * 1024
        received = 0
        while received < written:
            received += len(await asyncio.to_thread(far.recv, 1 << 20))
        await notes.wait_for(lambda: not transport.writing_paused)
        assert notes.resumed == 1


async def test_timer_is_early_never_late() -> None:
    async with opened() as (transport, notes, _):
        now = asyncio.get_running_loop().time()
        transport.set_timer(None)
        transport.set_timer(now + 60)
        transport.set_timer(now + 0.02)
        transport.set_timer(now + 30)
        await notes.wait_for(lambda: notes.timers == 1)
        assert asyncio.get_running_loop().time() >= now + 0.02


async def test_closing_stops_everything() -> None:
    async with opened() as (transport, notes, far):
        transport.set_timer(asyncio.get_running_loop().time() + 0.01)
        transport.close()
        transport.close()
        await transport.wait_closed()
        transport.pause_reading()
        transport.resume_reading()
        transport.write(b"late")
        assert far.recv(100) == b""
        await asyncio.sleep(0.05)
        assert notes.timers == 0


async def test_closing_drops_what_is_not_written() -> None:
    async with opened() as (transport, _, far):
        transport.write(bytes(8 * 1024 * 1024))
        transport.close()
        await transport.wait_closed()
        received = 0
        while data := far.recv(1 << 20):
            received += len(data)
        assert received < 8 * 1024 * 1024


async def test_rest_is_read_when_a_write_fails() -> None:
    """The peer said something and left; it is not lost because nobody was reading."""
    async with opened() as (transport, notes, far):
        transport.pause_reading()
        far.sendall(b"last words")
        far.close()
        transport.write(b"too late")
        await notes.wait_for(lambda: notes.failure is not None or notes.ended)
        assert notes.data == b"last words"
        assert notes.failure is not None
        await transport.wait_closed()


async def test_write_that_fails_while_there_is_nothing_to_read() -> None:
    async with opened() as (transport, notes, far):
        far.shutdown(socket.SHUT_RD)
        transport.write(b"nobody takes this")
        await notes.wait_for(lambda: notes.failure is not None)
        assert notes.data == b""
        await transport.wait_closed()


async def test_closed_while_it_opens() -> None:
    near, far = socket.socketpair()
    with far:
        transport = AsyncioTransport(Notes().host)
        transport.close()
        await transport.open(connect_options(near))
        await transport.wait_closed()
        assert far.recv(1) == b""
        assert near.fileno() == -1
