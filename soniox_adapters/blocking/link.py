"""One link of a blocking session: its socket, and what waits on either side of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from soniox_adapters.blocking.socket_stream import SocketStream
from soniox_adapters.blocking.steps import came_through
from soniox_adapters.session.flow_control import FlowControl
from soniox_adapters.session.read_size import ReadSize
from soniox_proto import Event

if TYPE_CHECKING:
    from soniox_proto import Link

__all__ = ["SocketLink"]

T = TypeVar("T")

DRAIN_TIME: Final = 5.0
"""Seconds in which to read what the server said before a write failed. There is an end to that,
unless a server goes on and on that takes nothing itself."""

_clock = time.monotonic


class SocketLink:
    """A link and its socket. Its methods are called during a step of the session."""

    __slots__ = (
        "_drain_until",
        "_flow",
        "_read_size",
        "_unsent_replies",
        "done",
        "has_read",
        "link",
        "more_to_read",
        "output",
        "stream",
        "taken",
        "write_error",
    )

    def __init__(self, link: Link, stream: SocketStream, flow: FlowControl) -> None:
        self.link = link
        self._flow = flow
        self.stream = stream
        self.done = False
        """Whether the socket is given back, or will be once no thread waits for it any more."""
        self.output = bytearray()
        """What the kernel would not take yet."""
        self.taken = 0
        """How much of the output it has taken since."""
        self._unsent_replies = 0
        self.write_error: OSError | None = None
        """Why the server takes no more. What it said before is still to be read."""
        self._drain_until = 0.0
        self._read_size = ReadSize()
        self.has_read = False
        """Whether anything came yet."""
        self.more_to_read = False
        """Whether the last read left something that another one gives at once."""

    # Writing

    def flush(self, *, replying: bool) -> None:
        """Write what fits of what the link has to say; `replying` to what was just received."""
        output = self.output
        buffers = self.link.buffers_to_send()
        before = self.taken + len(output)
        if buffers and not output and self.write_error is None:
            written = self._write(self.stream.write_buffers, buffers)
            for buffer in buffers:
                if written < len(buffer):
                    output += memoryview(buffer)[written:]
                written = max(0, written - len(buffer))
        else:
            for buffer in buffers:
                output += buffer
            if output and self.write_error is None:
                written = self._write(self.stream.write, output)
                self.taken += written
                del output[:written]
        if replying and output:
            self._count_replies(self.taken + len(output) - before)
        if self._unsent_replies and not output:
            self._count_replies(-self._unsent_replies)

    def _count_replies(self, size: int) -> None:
        self._unsent_replies += size
        self._flow.unsent_replies += size

    def _write(self, write: Callable[[T], int], data: T) -> int:
        try:
            return write(data)
        except OSError as error:
            _raise_if_foreign(error)
            self.write_error, self._drain_until = error, _clock() + DRAIN_TIME
            self._flow.begin_closing()
            return 0

    # Reading

    def read(self, now: float) -> list[Event] | None:
        """Read once, and return the events, or None if nothing came; raises `OSError`."""
        size = self._read_size.value
        self.more_to_read = False
        try:
            data = self.stream.read(size)
        except OSError as error:
            _raise_if_foreign(error)
            raise
        if data is None:
            return None
        self.has_read = True
        if not data:
            return self.link.receive_eof(now)
        events = self.link.receive_data(data, now)
        self.more_to_read = self.stream.has_more(data, size)
        if len(data) == size:
            self._read_size.adapt(_clock() - now)
        return events

    def is_drained(self, came: bool, now: float) -> bool:
        """Return whether a server that takes no more has nothing more to say either."""
        return not came or now >= self._drain_until

    def leave(self) -> None:
        """Note that the session is done with this link: nothing of it counts any more."""
        self.output = bytearray()
        self._count_replies(-self._unsent_replies)
        if self.write_error is not None:
            self._flow.end_closing()


def _raise_if_foreign(error: OSError) -> None:
    """Raise an error that is not the socket's: handlers of signals like to raise `TimeoutError`."""
    if not came_through(error, "socket", "ssl"):
        raise error
