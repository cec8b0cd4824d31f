"""Sockets on trio, and streams of anyio and trio, under one set of names."""

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
"""Turns in which an event loop closes a socket that was shut down, and some to spare."""


class ByteStream(ABC):
    """What streams of anyio and of trio have in common."""

    @abstractmethod
    async def receive(self, size: int) -> bytes:
        """Return at most `size` bytes of what has arrived, ``b""`` at the end."""

    @abstractmethod
    def send_at_once(self, data: bytes | memoryview) -> int:
        """Write what can be written without waiting, and return how many bytes that is."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Write all of it."""

    @abstractmethod
    async def close(self) -> None:
        """Close without waiting for the peer."""

    @abstractmethod
    def abandon(self) -> None:
        """Close as far as that can be done after the event loop has ended."""


class TrioSocket(ByteStream):
    """A plain socket on trio, written to at once as far as it takes data."""

    def __init__(self, connected: socket.socket) -> None:
        import trio

        self._socket = connected
        self._wait_readable = trio.lowlevel.wait_readable
        self._wait_writable = trio.lowlevel.wait_writable
        self._notify_closing = trio.lowlevel.notify_closing

    @override
    async def receive(self, size: int) -> bytes:
        # Waiting first, also where more has arrived for certain: other tasks get their turn.
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
        # asyncio closes a socket as soon as a write fails, with all that has arrived still unread.
        # A second descriptor keeps that readable.
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
        # Up to anyio 4.15 a send that waits when the connection is lost ends as if all were sent.
        if self._socket is not None and self._socket.fileno() == -1:
            raise ConnectionResetError("the connection was lost before all was sent")

    @override
    async def close(self) -> None:
        try:
            await anyio.aclose_forcefully(self._stream)
        finally:
            # Before anyio 4.16 a socket with unsent data stays open on asyncio until its peer
            # reads: aclose is cancelled before it comes to aborting the transport. Shut down,
            # it is closed by the event loop in one of its next turns.
            self.abandon()
            for _ in range(TURNS_TO_CLOSE):
                if self._socket is None or self._socket.fileno() == -1:
                    break
                await anyio.lowlevel.checkpoint()

    @override
    def abandon(self) -> None:
        if self._socket is not None:
            # An error says that it is closed already.
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
        # It was closed when trio ended.
        pass


def as_os_error(error: BaseException) -> OSError:
    """Return the failure behind what a stream raised: the libraries wrap it in their own."""
    while len(group := cast("tuple[BaseException, ...]", getattr(error, "exceptions", ()))) == 1:
        error = group[0]
    cause = error.__cause__
    for candidate in (error, cause):
        if isinstance(candidate, OSError):
            return candidate
    failure = ConnectionError(str(cause or error) or type(error).__name__)
    failure.__cause__ = error
    return failure
