"""The transport that moves streams of trio and anyio, with a host that only takes notes."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

import soniox_adapters.async_.on_streams
from soniox_adapters.async_.byte_streams import TrioSocket
from soniox_adapters.async_.on_streams import StreamTransport
from tests.support.adapters.server import PATIENCE
from tests.support.adapters.transports import Notes, connect_options, opened_on_a_socket

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soniox_adapters.async_.on_streams, "CLOSE_GRACE", 0.05)


@asynccontextmanager
async def opened(
    stream: anyio.abc.ByteStream | None = None,
) -> AsyncIterator[tuple[StreamTransport, Notes, socket.socket]]:
    """An open transport, its host's notes, and the other end (if no stream is given)."""

    async def give(near: socket.socket) -> anyio.abc.ByteStream:
        if stream is None:
            return await anyio.abc.SocketStream.from_socket(near)
        near.close()
        return stream

    async with opened_on_a_socket(StreamTransport, give) as opened_transport:
        yield opened_transport


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


# Sockets on trio, which are written to at once

on_trio = pytest.mark.parametrize("anyio_backend", ["trio"])


@on_trio
async def test_a_socket_is_written_to_at_once() -> None:
    async with opened_on_a_socket(StreamTransport) as (transport, notes, far):
        far.setblocking(False)
        transport.write(b"there")
        assert far.recv(100) == b"there", "without a turn of the event loop"
        transport.write(b"")
        transport.write_buffers([b"one", b"", b"two"])
        assert far.recv(100) == b"onetwo"
        assert not transport.writing_paused
        far.sendall(b"back")
        await notes.wait_for(lambda: notes.data == b"back")
        far.close()
        await notes.wait_for(lambda: notes.ended)
        assert notes.resumed == 0


def pattern(size: int, seed: int = 0) -> bytes:
    """Return bytes that tell their places."""
    return b"".join((seed + at).to_bytes(4, "big") for at in range(size // 4))


async def received_by(far: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += await anyio.to_thread.run_sync(far.recv, 1 << 20)
    return received


@on_trio
@pytest.mark.parametrize("turns", [False, True])
async def test_what_a_socket_does_not_take_follows_in_order(turns: bool) -> None:
    """With and without a turn of the writer between the writes."""
    async with opened_on_a_socket(StreamTransport) as (transport, notes, far):
        parts = [pattern(3 << 20), pattern(1 << 20, 1 << 24), b"last"]
        for part in parts:
            transport.write(part)
            if turns:
                await anyio.wait_all_tasks_blocked()
        assert transport.writing_paused
        expected = b"".join(parts)
        assert await received_by(far, len(expected)) == expected
        await notes.wait_for(lambda: not transport.writing_paused)
        assert notes.resumed == 1
        transport.write(b"again at once")
        assert far.recv(100) == b"again at once"


@on_trio
async def test_little_that_a_socket_does_not_take_pauses_nobody() -> None:
    async with opened_on_a_socket(StreamTransport) as (transport, _notes, far):
        filled = 0
        while not transport.unwritten:
            transport.write(bytes(1000))
            filled += 1000
        transport.write(b"more")
        assert not transport.writing_paused
        assert (await received_by(far, filled + 4))[-4:] == b"more"
        assert not transport.writing_paused


@on_trio
@pytest.mark.parametrize("paused", [False, True])
async def test_what_the_peer_said_before_a_write_failed_at_once(paused: bool) -> None:
    async with opened_on_a_socket(StreamTransport) as (transport, notes, far):
        if paused:
            transport.pause_reading()
        far.sendall(b"last words")
        far.close()
        transport.write(b"too late")
        transport.write(b"and later")
        await notes.wait_for(lambda: notes.failure is not None or notes.ended)
        assert notes.data == b"last words"
        await notes.wait_for(lambda: notes.failure is not None)
        assert isinstance(notes.failure, OSError)


@on_trio
async def test_what_the_peer_said_is_read_even_by_a_reader_that_waits() -> None:
    async with opened_on_a_socket(StreamTransport) as (transport, notes, far):
        transport.pause_reading()
        far.sendall(b"first")
        await notes.wait_for(lambda: notes.data == b"first")
        far.sendall(b" last")
        far.close()
        await anyio.wait_all_tasks_blocked()
        assert notes.data == b"first"
        transport.write(b"too late")
        await notes.wait_for(lambda: notes.failure is not None)
        assert notes.data == b"first last"


@on_trio
async def test_a_write_that_fails_while_there_is_nothing_to_read() -> None:
    async with opened_on_a_socket(StreamTransport) as (transport, notes, far):
        far.shutdown(socket.SHUT_RD)
        transport.write(b"nobody takes this")
        assert notes.failure is None, "told later: the host is not to be called back at once"
        await notes.wait_for(lambda: notes.failure is not None)
        assert notes.data == b""
        assert not notes.ended


@on_trio
async def test_a_write_that_fails_while_much_waits() -> None:
    async with opened_on_a_socket(StreamTransport) as (transport, notes, far):
        transport.write(bytes(4 << 20))
        await anyio.wait_all_tasks_blocked()
        assert transport.writing_paused
        far.close()
        await notes.wait_for(lambda: notes.failure is not None or notes.ended)
        transport.close()
        await transport.wait_closed()
        assert not transport.writing_paused, "senders are told"


@on_trio
async def test_closing_a_socket_sends_what_waits_to_be_sent() -> None:
    async with opened_on_a_socket(StreamTransport) as (transport, _notes, far):
        written = 0
        while not transport.unwritten:
            transport.write(bytes(1000))
            written += 1000
        transport.write(b"bye!")
        transport.close()
        data = await received_by(far, written + 4)
        assert data == bytes(written) + b"bye!"
        await transport.wait_closed()
        assert far.recv(1) == b""


@on_trio
@pytest.mark.parametrize("plain", [True, False])
async def test_tls_in_both_directions_at_once(
    plain: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    size = 2 << 20

    def echo() -> bytes:
        with server_tls.wrap_socket(far, server_side=True) as secured:
            received = b""
            while len(received) < size:
                piece = secured.recv(1 << 16)
                secured.sendall(piece)
                received += piece
        return received

    notes = Notes()
    transport = StreamTransport(notes)
    expected = pattern(size)
    echoed: list[bytes] = []

    async def serve() -> None:
        echoed.append(await anyio.to_thread.run_sync(echo))

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        stream: object = near
        if not plain:
            stream = await anyio.abc.SocketStream.from_socket(near)
        options = connect_options(stream, url="wss://localhost")
        await transport.open(replace(options, ssl_context=client_tls))
        for start in range(0, size, 1 << 18):
            transport.write(expected[start : start + (1 << 18)])
        await notes.wait_for(lambda: notes.ended)
    transport.close()
    await transport.wait_closed()
    assert echoed == [expected]
    assert notes.data == expected


@on_trio
async def test_closing_a_socket_wakes_who_waits_for_it() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    stream = TrioSocket(near)
    failures: list[type[Exception]] = []

    async def receive() -> None:
        try:
            await stream.receive(100)
        except Exception as error:
            failures.append(type(error))

    with far, anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            await stream.close()
    assert failures == [trio.ClosedResourceError]
