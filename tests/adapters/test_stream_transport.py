"""The transport that moves streams of trio and anyio, with a host that only takes notes."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import anyio.to_thread
import pytest

import soniox_adapters.stream_transport
from soniox_adapters.stream_transport import StreamTransport
from tests.support.adapter_hosts import Notes, connect_options
from tests.support.adapter_server import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soniox_adapters.stream_transport, "CLOSE_GRACE", 0.05)


@asynccontextmanager
async def opened(
    stream: anyio.abc.ByteStream | None = None,
) -> AsyncIterator[tuple[StreamTransport, Notes, socket.socket]]:
    """An open transport, its host's notes, and the other end (if no stream is given)."""
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    notes = Notes()
    transport = StreamTransport(notes.host)
    if stream is None:
        stream = await anyio.abc.SocketStream.from_socket(near)
    else:
        near.close()
    await transport.open(connect_options(stream))
    with far:
        try:
            yield transport, notes, far
        finally:
            transport.close()
            await transport.wait_closed()


async def test_reading_and_writing() -> None:
    async with opened() as (transport, notes, far):
        transport.write(b"there")
        assert await anyio.to_thread.run_sync(far.recv, 100) == b"there"
        far.sendall(b"back")
        await notes.wait_for(lambda: notes.data == b"back")
        far.close()
        await notes.wait_for(lambda: notes.ended)


async def test_reading_can_be_paused() -> None:
    async with opened() as (transport, notes, far):
        transport.pause_reading()
        # One read may be under way.
        far.sendall(b"first")
        await notes.wait_for(lambda: notes.data == b"first")
        far.sendall(b"later")
        await anyio.sleep(0.05)
        assert notes.data == b"first"
        transport.resume_reading()
        await notes.wait_for(lambda: notes.data == b"firstlater")


async def test_writing_pauses_and_resumes_whatever_is_written_meanwhile() -> None:
    async with opened() as (transport, notes, far):
        large = 4 * 1024 * 1024
        transport.write(bytes(large))
        assert transport.writing_paused
        await anyio.wait_all_tasks_blocked()
        transport.write(b"small")
        assert transport.writing_paused, "most of it is still on its way"
        received = 0
        while received < large + len(b"small"):
            received += len(await anyio.to_thread.run_sync(far.recv, 1 << 20))
        await notes.wait_for(lambda: not transport.writing_paused)
        assert notes.resumed == 1


async def test_timer() -> None:
    async with opened() as (transport, notes, _):
        now = anyio.current_time()
        transport.set_timer(None)
        transport.set_timer(now + 60)
        await anyio.wait_all_tasks_blocked()
        transport.set_timer(now + 0.02)
        transport.set_timer(now + 30)
        await notes.wait_for(lambda: notes.timers == 1)
        assert anyio.current_time() >= now + 0.02
        transport.set_timer(anyio.current_time() - 1)
        await notes.wait_for(lambda: notes.timers == 2)


async def test_closing_sends_what_waits_to_be_sent() -> None:
    """A close frame, for example: the writer had no turn yet."""
    async with opened() as (transport, _, far):
        transport.write(b"farewell")
        transport.close()
        transport.close()
        await transport.wait_closed()
        assert far.recv(100) == b"farewell"
        assert far.recv(100) == b""
        transport.write(b"late")


async def test_closing_waits_for_no_peer() -> None:
    async with opened() as (transport, _, _far):
        transport.write(bytes(8 * 1024 * 1024))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(PATIENCE):
            transport.close()
            await transport.wait_closed()
        assert not transport.writing_paused, "senders are told"


async def test_closing_is_bounded_if_the_last_words_are_not_taken() -> None:
    async with opened() as (transport, _, _far):
        transport.write(bytes(8 * 1024 * 1024))
        transport.close()
        with anyio.fail_after(PATIENCE):
            await transport.wait_closed()


async def test_waiting_for_the_end_is_shielded() -> None:
    """Cancelled or not: who waited for the end has no open socket."""
    async with opened() as (transport, _, far):
        with anyio.CancelScope() as scope:
            scope.cancel()
            transport.close()
            await transport.wait_closed()
        assert far.recv(1) == b""


class BrokenStream(anyio.abc.ByteStream):
    """Fails as told, in the ways in which libraries fail."""

    def __init__(self, on_receive: Exception | None, on_send: Exception | None) -> None:
        self._on_receive = on_receive
        self._on_send = on_send
        self.closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._on_receive is None:
            await anyio.sleep_forever()
        else:
            await anyio.lowlevel.checkpoint()
            raise self._on_receive
        return b""

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self._on_send is not None:
            raise self._on_send

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True


def caused_by(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), "reset"),
        (caused_by(anyio.BrokenResourceError(), OSError(errno.EPIPE, "pipe")), "pipe"),
        (caused_by(anyio.BrokenResourceError(), LookupError("tunnel")), "tunnel"),
        (anyio.BrokenResourceError(), "BrokenResourceError"),
        (LookupError("something of the stream's own"), "something of the stream's own"),
    ],
    ids=["os", "wrapped", "wrapped-other", "bare", "foreign"],
)
@pytest.mark.parametrize("direction", ["receive", "send"])
async def test_every_failure_of_a_stream_is_an_os_error(
    direction: str, error: Exception, expected: str
) -> None:
    reading = direction == "receive"
    stream = BrokenStream(error if reading else None, None if reading else error)
    async with opened(stream) as (transport, notes, _):
        transport.write(b"something")
        await notes.wait_for(lambda: notes.failure is not None)
        assert isinstance(notes.failure, OSError)
        assert expected in str(notes.failure)
        assert not notes.ended
    assert stream.closed


async def test_end_of_stream_is_no_failure() -> None:
    async with opened(BrokenStream(anyio.EndOfStream(), None)) as (_, notes, _):
        await notes.wait_for(lambda: notes.ended)
        assert notes.failure is None
