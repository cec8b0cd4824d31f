"""The blocking session in memory: the real one, on a stream that is none, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.blocking.socket_stream import READ_SIZE, SocketStream
from soniox_adapters.blocking.waiting import Wait
from soniox_adapters.testing.virtual_threads import VirtualThreads
from soniox_proto.testing import ScriptedConnection, ScriptedServer

if TYPE_CHECKING:
    from soniox_adapters.connecting.blocking import Connecting
    from soniox_proto import Link

__all__ = ["InMemorySession"]

MAX_UNREAD: Final = 64 * 1024
"""Bytes that a stalled server takes before a sender has to wait, as a kernel's buffers would."""


class MemoryStream(SocketStream):
    """A stream to the server's end of a connection, with the interface of a socket's."""

    __slots__ = ("_connection", "_open", "_rest", "_time")

    def __init__(self, connection: ScriptedConnection, time: VirtualThreads) -> None:
        self._connection = connection
        self._time = time
        self._rest = b""
        self._open = True
        self.read_waits_for_write = False
        self.write_waits_for_read = False

    @property
    def readable(self) -> bool:
        """Whether a read would give something, be it the end."""
        return bool(self._rest) or self._connection.readable or not self._open

    @property
    def writable(self) -> bool:
        """Whether a write would take something."""
        return self._connection.unread_bytes < MAX_UNREAD or not self._open

    @override
    def read(self, size: int = READ_SIZE) -> bytes | None:
        with self._time.lock:
            data = self._rest or self._connection.data_to_send()
            # Never all that was asked for, as if reads of this size were too small.
            piece, self._rest = data[: size - 1], data[size - 1 :]
            if piece:
                self._time.note_movement()
                return piece
            return b"" if self._connection.closed else None

    @override
    def has_more(self, data: bytes, size: int = READ_SIZE) -> bool:
        return bool(self._rest) or self._connection.readable

    @override
    def write(self, data: bytes | bytearray | memoryview) -> int:
        with self._time.lock:
            if not self.writable:
                return 0
            self._connection.receive_data(bytes(data), self._time.clock.now)
            self._time.note_movement()
            return len(data)

    @override
    def write_buffers(self, buffers: Sequence[bytes]) -> int:
        return self.write(b"".join(buffers))

    @override
    def shutdown(self) -> None:
        with self._time.lock:
            if self._open:
                self._open = False
                self._connection.receive_eof(self._time.clock.now)
                self._time.note_movement()

    @override
    def close(self) -> None:
        self.shutdown()

    @override
    def fileno(self) -> int:
        return -1


class InMemorySession(RealtimeSTTSession):
    """A blocking session whose connections lead to a scripted server."""

    def __init__(
        self, server: ScriptedServer, time: VirtualThreads, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._server = server
        self._time = time
        self._clock = time.clock
        self._ticker = time

    @override
    def _open_stream(
        self, link: Link, connecting: Connecting
    ) -> tuple[SocketStream, Mapping[str, str] | None]:
        return MemoryStream(self._time.connect(self._server), self._time), None

    @override
    def _wait(self, wait: Wait) -> None:
        until = self._clock() + wait.timeout
        bell = wait.bell
        if wait.interests:
            self._time.wait(until, lambda: _is_ready(wait))
            wait.readable = _is_readable(wait)
        elif not wait.readable and bell is not None:
            self._time.wait(until, lambda: not bell.locked())
            bell.acquire(blocking=False)


def _is_readable(wait: Wait) -> bool:
    return any(
        read and stream.readable
        for stream, read, _ in wait.interests
        if isinstance(stream, MemoryStream)
    )


def _is_ready(wait: Wait) -> bool:
    return _is_readable(wait) or any(
        write and stream.writable
        for stream, _, write in wait.interests
        if isinstance(stream, MemoryStream)
    )
