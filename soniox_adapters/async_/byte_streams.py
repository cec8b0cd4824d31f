"""Sockets on trio, and streams of anyio and trio, behind one interface.

The libraries differ in how a stream ends, in what their exceptions are, and in whether a failed
write takes with it what has already arrived. `StreamTransport` should not have to know.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import anyio
import anyio.abc
import anyio.lowlevel
from typing_extensions import override

if TYPE_CHECKING:
    import trio

__all__ = ["AnyioStream", "ByteStream", "TrioSocket", "TrioStream", "as_os_error"]

TURNS_TO_CLOSE: Final = 5
"""Iterations of an event loop that close a socket after its shutdown, and a few to spare."""


class ByteStream(ABC):
    """A stream of bytes that is read by one task and written by another."""

    @abstractmethod
    async def receive(self, size: int) -> bytes:
        """Wait for data; return at most `size` bytes, ``b""`` at the end of the stream."""

    @abstractmethod
    def send_at_once(self, data: bytes | memoryview) -> int:
        """Write as much as possible without waiting, and return how many bytes that was."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Write all of `data`."""

    @abstractmethod
    async def close(self) -> None:
        """Close without waiting for the peer."""

    @abstractmethod
    def abandon(self) -> None:
        """Release what can be released after the event loop has ended."""


class TrioSocket(ByteStream):
    """A plain socket on trio, without trio's own stream, which cannot write without waiting."""

    def __init__(self, connected: socket.socket) -> None:
        import trio

        self._socket = connected
        self._wait_readable = trio.lowlevel.wait_readable
        self._wait_writable = trio.lowlevel.wait_writable
        self._notify_closing = trio.lowlevel.notify_closing

    @override
    async def receive(self, size: int) -> bytes:
        # Waits even if more data is certain to be there, so that other tasks get their turn.
        while True:
            await self._wait_readable(self._socket)
            with suppress(BlockingIOError):
                return self._socket.recv(size)

    @override
    def send_at_once(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    @override
    async def send(self, data: bytes) -> None:
        left = memoryview(data)
        while left := left[self.send_at_once(left) :]:
            await self._wait_writable(self._socket)

    @override
    async def close(self) -> None:
        self._notify_closing(self._socket)
        self._socket.close()

    @override
    def abandon(self) -> None:
        self._socket.close()


class AnyioStream(ByteStream):
    """A byte stream of anyio."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        raw_socket = anyio.abc.SocketAttribute.raw_socket
        connected: socket.socket | None = stream.extra(raw_socket, None)
        self._socket = connected
        # asyncio closes a socket as soon as a write fails, even if data has arrived that nobody has
        # read yet. A second descriptor keeps that data readable.
        self._spare: socket.socket | None = None
        if connected is not None and isinstance(stream, anyio.abc.SocketStream):
            self._spare = socket.fromfd(connected.fileno(), connected.family, connected.type)
            self._spare.setblocking(False)

    @override
    async def receive(self, size: int) -> bytes:
        try:
            return await self._stream.receive(size)
        except anyio.EndOfStream:
            return b""
        except Exception:
            if data := self._read_rest(size):
                return data
            raise

    def _read_rest(self, size: int) -> bytes:
        try:
            return b"" if self._spare is None else self._spare.recv(size)
        except OSError:
            return b""

    @override
    def send_at_once(self, data: bytes | memoryview) -> int:
        return 0

    @override
    async def send(self, data: bytes) -> None:
        await self._stream.send(data)
        # Before anyio 4.16, a send that is waiting when the connection is lost returns normally.
        if self._socket is not None and self._socket.fileno() == -1:
            raise ConnectionResetError("the connection was lost before all was sent")

    @override
    async def close(self) -> None:
        try:
            await anyio.aclose_forcefully(self._stream)
        finally:
            # Before anyio 4.16, a socket with unsent data stays open on asyncio until its peer
            # reads, because aclose is cancelled before it aborts the transport. After a shutdown,
            # the event loop closes it in one of its next iterations.
            self.abandon()
            for _ in range(TURNS_TO_CLOSE):
                if self._socket is None or self._socket.fileno() == -1:
                    break
                await anyio.lowlevel.checkpoint()

    @override
    def abandon(self) -> None:
        if self._socket is not None:
            # An error means that it is closed already.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._spare is not None:
            self._spare.close()


class TrioStream(ByteStream):
    """A byte stream of trio."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    @override
    async def receive(self, size: int) -> bytes:
        return bytes(await self._stream.receive_some(size))

    @override
    def send_at_once(self, data: bytes | memoryview) -> int:
        return 0

    @override
    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    @override
    async def close(self) -> None:
        import trio

        await trio.aclose_forcefully(self._stream)

    @override
    def abandon(self) -> None:
        # Nothing to do: it was closed when trio ended.
        pass


def as_os_error(error: BaseException) -> OSError:
    """Return the `OSError` behind what a stream raised, or one made from it.

    The libraries wrap failures of the network in exception groups, or in exceptions of their own.
    """
    while len(group := cast("tuple[BaseException, ...]", getattr(error, "exceptions", ()))) == 1:
        error = group[0]
    cause = error.__cause__
    for candidate in (error, cause):
        if isinstance(candidate, OSError):
            return candidate
    failure = ConnectionError(str(cause or error) or type(error).__name__)
    failure.__cause__ = error
    return failure
