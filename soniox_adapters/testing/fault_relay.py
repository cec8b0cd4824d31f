"""A faulty socket: one end of a TCP connection whose other end a thread joins to the real one."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Collection
from typing import Final

from soniox_proto.testing import Direction, FaultyChannel
from soniox_proto.testing.faults import DIRECTIONS

__all__ = ["FaultRelay", "tcp_pair"]

READ_SIZE: Final = 64 * 1024
_RESETS: Final = struct.pack("ii", 1, 0)
"""SO_LINGER that makes closing reset the connection."""

_Selector: Final[type[selectors.BaseSelector]] = getattr(
    # Not DefaultSelector: epoll and kqueue would need one more descriptor.
    selectors,
    "PollSelector",
    selectors.SelectSelector,
)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection. Not a `socketpair`, which may be one that has no resets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        try:
            while True:
                far, address = listener.accept()
                if address == near.getsockname():
                    return near, far
                far.close()
        except BaseException:
            near.close()
            raise


class FaultRelay(threading.Thread):
    """Moves the bytes of one connection as its channel says, until it is over or told to stop.

    Args:
        near: The end that faces whoever uses the faulty socket.
        far: The real connection. Both are closed in the end.
        channel: What happens to the bytes; a thread of its own, because nobody else runs it.
        stop: A socket that becomes readable when the relay is to stop.
    """

    def __init__(
        self, near: socket.socket, far: socket.socket, channel: FaultyChannel, stop: socket.socket
    ) -> None:
        super().__init__(name="soniox-fault-relay", daemon=True)
        self._channel = channel
        self._stop_signal = stop
        self._sources: dict[Direction, socket.socket] = {"sent": near, "received": far}
        self._targets: dict[Direction, socket.socket] = {"sent": far, "received": near}
        # What was taken from the channel and not written yet.
        self._unsent = dict.fromkeys(DIRECTIONS, b"")
        self._reading: set[Direction] = set(DIRECTIONS)
        self._writing: set[Direction] = set(DIRECTIONS)
        self._stopped = False

    def run(self) -> None:
        """Move bytes until the connection is over."""
        for end in self._sources.values():
            end.setblocking(False)
        with self._sources["sent"], self._sources["received"]:
            while self._writing and not self._stopped:
                self._channel.handle_timeout(time.monotonic())
                for direction in tuple(self._writing):
                    self._write(direction)
                if self._channel.ended is not None and not any(self._unsent.values()):
                    self._end()
                    return
                self._wait_and_read()

    def _write(self, direction: Direction) -> None:
        target, now = self._targets[direction], time.monotonic()
        unsent = self._unsent[direction] or self._channel.take(direction, now)
        try:
            sent = target.send(unsent) if unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            # The target is gone. What it sent before it went may still be on its way back.
            unsent, sent = b"", 0
            self._writing.discard(direction)
            self._reading.discard(direction)
        self._unsent[direction] = unsent[sent:]
        if not unsent and self._channel.at_eof(direction, now):
            self._writing.discard(direction)
            _hang_up(target)

    def _wait_and_read(self) -> None:
        readable: dict[socket.socket, Direction] = {
            self._sources[direction]: direction
            for direction in self._reading
            if self._channel.room(direction) > 0
        }
        blocked: set[Direction] = {
            direction for direction in self._writing if self._unsent[direction]
        }
        due = self._channel.next_timeout(*self._writing - blocked)
        ready = self._wait(readable, [self._targets[direction] for direction in blocked], due)
        for source in ready:
            self._read(source, readable[source])

    def _read(self, source: socket.socket, direction: Direction) -> None:
        try:
            data = source.recv(min(READ_SIZE, self._channel.room(direction)))
        except BlockingIOError:
            return
        except OSError:
            # This end has reset the connection, so the other one has to see a reset too.
            self._reset()
            return
        if data:
            self._channel.feed(direction, data, time.monotonic())
        else:
            self._reading.discard(direction)
            self._channel.feed_eof(direction, time.monotonic())

    def _wait(
        self,
        readable: Collection[socket.socket],
        writable: Collection[socket.socket] = (),
        until: float | None = None,
    ) -> list[socket.socket]:
        """Wait for sockets, for a time or for the signal to stop; return those to read from."""
        with _Selector() as selector:
            selector.register(self._stop_signal, selectors.EVENT_READ)
            for end in {*readable, *writable}:
                reads = selectors.EVENT_READ if end in readable else 0
                selector.register(end, reads | (selectors.EVENT_WRITE if end in writable else 0))
            ready = selector.select(None if until is None else max(0.0, until - time.monotonic()))
        readied = [key.fileobj for key, events in ready if events & selectors.EVENT_READ]
        self._stopped = self._stop_signal in readied
        return [end for end in readable if end in readied]

    # After a fault that ends the connection

    def _end(self) -> None:
        match self._channel.ended:
            case "reset":
                self._reset()
            case "cut":
                for end in self._targets.values():
                    _hang_up(end)
                # Closing a socket with unread bytes would reset the connection instead.
                self._drain({"sent", "received"})
            case "drop":
                self._drain({"sent"})
            case _:
                self._wait(())

    def _reset(self) -> None:
        for end in self._sources.values():
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
        self._stopped = True

    def _drain(self, awaited: set[Direction]) -> None:
        """Read and forget what comes, until the awaited ends have hung up."""
        sources = {source: direction for direction, source in self._sources.items()}
        while awaited and not self._stopped:
            for source in self._wait(sources):
                try:
                    over = not source.recv(READ_SIZE)
                except OSError as error:
                    over = not isinstance(error, BlockingIOError)
                if over:
                    awaited.discard(sources.pop(source))


def _hang_up(end: socket.socket) -> None:
    # An error means that the other side has gone already.
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_WR)
