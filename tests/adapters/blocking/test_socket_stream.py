"""The non-blocking socket, plain and TLS, and what its reads and writes may ask for."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from soniox_adapters.blocking.polling import wait_for_streams
from soniox_adapters.blocking.socket_stream import MAX_BUFFERS, READ_SIZE, SocketStream

LONG = 10.0
"""Seconds that no wait here is expected to take."""


@pytest.fixture
def pair() -> Iterator[tuple[SocketStream, socket.socket]]:
    """A stream, and the other end of its socket."""
    near, far = socket.socketpair()
    near.setblocking(False)
    stream = SocketStream(near)
    yield stream, far
    stream.close()
    far.close()


def waited(stream: SocketStream, *, read: bool, write: bool, timeout: float | None) -> float:
    start = time.monotonic()
    wait_for_streams([(stream, read, write)], timeout)
    return time.monotonic() - start


def test_read(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, far = pair
    assert stream.read() is None
    far.sendall(b"data")
    assert stream.read() == b"data"
    assert stream.read() is None
    far.close()
    assert stream.read() == b""
    assert not stream.secure


def test_has_more(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, _ = pair
    assert not stream.has_more(b"short")
    assert stream.has_more(bytes(READ_SIZE))


def test_write_takes_what_fits(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, far = pair
    data = bytes(range(256)) * 40_000
    written = stream.write(data)
    assert 0 < written < len(data)
    assert stream.write(memoryview(data)[written:]) == 0
    far.settimeout(LONG)
    received = b""
    while len(received) < written:
        received += far.recv(READ_SIZE)
    assert received == data[:written]
    assert stream.write(bytearray(b"x")) == 1


def test_write_buffers(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, far = pair
    assert stream.write_buffers([b"one", b"", b"two"]) == 6
    assert far.recv(100) == b"onetwo"
    many = [bytes([index]) for index in range(MAX_BUFFERS + 5)]
    written = stream.write_buffers(many)
    assert 0 < written <= len(many)
    assert far.recv(100) == b"".join(many)[:written]
    large = bytes(range(256)) * 40_000
    written = stream.write_buffers([b"head", large, b"tail"])
    assert 4 < written < len(large)
    assert stream.write_buffers([b"no", b"room"]) == 0
    far.settimeout(LONG)
    received = b""
    while len(received) < written:
        received += far.recv(READ_SIZE)
    assert received == (b"head" + large)[:written]
    far.close()
    with pytest.raises(OSError):  # noqa: PT011
        stream.write_buffers([b"x", b"y"])


def test_write_buffers_where_only_one_can_be_written(reluctant: Reluctant) -> None:
    stream, double = reluctant(ssl.SSLWantReadError(), ssl.SSLWantReadError())
    assert stream.write_buffers([b"one", b"two"]) == 0
    assert stream.write_waits_for_read
    double.on_send = None
    assert stream.write_buffers([b"one", b"two"]) == 6


def test_failures_are_raised(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, far = pair
    far.close()
    with pytest.raises(OSError):  # noqa: PT011
        stream.write(b"x")


def test_wait_for_input(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, far = pair
    assert 0.05 <= waited(stream, read=True, write=False, timeout=0.05) < LONG
    assert waited(stream, read=True, write=False, timeout=-1.0) < LONG
    far.sendall(b"x")
    assert waited(stream, read=True, write=False, timeout=None) < LONG


def test_wait_for_room(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, far = pair
    assert waited(stream, read=False, write=True, timeout=None) < LONG
    while stream.write(bytes(READ_SIZE)):
        pass
    assert waited(stream, read=False, write=True, timeout=0.05) >= 0.05
    far.settimeout(LONG)
    far.recv(READ_SIZE * 16)
    assert waited(stream, read=True, write=True, timeout=None) < LONG


@pytest.mark.parametrize(("read", "write"), [(True, False), (False, True)])
def test_shutdown_wakes_who_waits(
    pair: tuple[SocketStream, socket.socket], read: bool, write: bool
) -> None:
    stream, _ = pair
    while write and stream.write(bytes(READ_SIZE)):
        pass
    thread = threading.Thread(target=wait_for_streams, args=([(stream, read, write)], LONG))
    thread.start()
    stream.shutdown()
    thread.join(LONG / 2)
    assert not thread.is_alive()
    stream.shutdown()


def test_fileno(pair: tuple[SocketStream, socket.socket]) -> None:
    stream, _ = pair
    assert stream.fileno() > 0
    stream.close()
    assert stream.fileno() == -1


class ReluctantSocket:
    """Raises what a TLS socket may raise when it wants the other direction first."""

    def __init__(self, on_receive: Exception, on_send: Exception) -> None:
        self.on_receive: Exception | None = on_receive
        self.on_send: Exception | None = on_send
        self.near, self.far = socket.socketpair()

    def recv(self, size: int) -> bytes:
        if self.on_receive is not None:
            raise self.on_receive
        return b"data"

    def send(self, data: bytes) -> int:
        if self.on_send is not None:
            raise self.on_send
        return len(data)

    def fileno(self) -> int:
        return self.near.fileno()


@pytest.fixture
def reluctant() -> Iterator[Callable[[Exception, Exception], tuple[SocketStream, ReluctantSocket]]]:
    made: list[ReluctantSocket] = []

    def make(on_receive: Exception, on_send: Exception) -> tuple[SocketStream, ReluctantSocket]:
        made.append(ReluctantSocket(on_receive, on_send))
        return SocketStream(cast("Any", made[-1])), made[-1]

    yield make
    for double in made:
        double.near.close()
        double.far.close()


Reluctant = Callable[[Exception, Exception], "tuple[SocketStream, ReluctantSocket]"]


def test_tls_read_that_has_to_write_waits_for_room(reluctant: Reluctant) -> None:
    stream, double = reluctant(ssl.SSLWantWriteError(), ssl.SSLWantWriteError())
    assert stream.read() is None
    # There is room and nothing to read: waiting for input must end at once.
    assert waited(stream, read=True, write=False, timeout=LONG) < LONG / 2
    double.on_receive = None
    assert stream.read() == b"data"
    assert waited(stream, read=True, write=False, timeout=0.05) >= 0.05


def test_tls_write_that_has_to_read_waits_for_input(reluctant: Reluctant) -> None:
    stream, double = reluctant(ssl.SSLWantReadError(), ssl.SSLWantReadError())
    assert stream.write(b"x") == 0
    # There is room, but that does not help.
    assert waited(stream, read=False, write=True, timeout=0.05) >= 0.05
    double.far.sendall(b"x")
    assert waited(stream, read=False, write=True, timeout=LONG) < LONG / 2
    double.on_send = None
    assert stream.write(b"x") == 1
    assert waited(stream, read=False, write=True, timeout=LONG) < LONG / 2


@pytest.mark.parametrize("nothing", [BlockingIOError(), InterruptedError(), ssl.SSLWantReadError()])
def test_reasons_to_read_nothing(reluctant: Reluctant, nothing: Exception) -> None:
    stream, _ = reluctant(nothing, nothing)
    assert stream.read() is None


@pytest.mark.parametrize("end", [ssl.SSLZeroReturnError(), ssl.SSLEOFError()])
def test_ends_of_tls(reluctant: Reluctant, end: Exception) -> None:
    stream, _ = reluctant(end, end)
    assert stream.read() == b""
