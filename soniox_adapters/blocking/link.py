"""One link of a blocking session: its socket, its unwritten output, and how it ends.

A session can have two links at a time. What is true of one connection only (output that the kernel
has not taken, a failed write, the size of the next read) is kept here, so that a slow or broken
link does not affect the other.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from soniox_adapters.blocking.socket_stream import SocketStream
from soniox_adapters.blocking.steps import came_through
from soniox_adapters.session.flow_control import FlowControl, UnsentReplies
from soniox_adapters.session.read_size import ReadSize
from soniox_proto import Event

if TYPE_CHECKING:
    from soniox_proto import Link

__all__ = ["SocketLink"]

DRAIN_TIME: Final = 5.0
"""Seconds to go on reading after a failed write. Usually the data runs out earlier; the limit is
for a server that sends without end but reads nothing."""

_clock = time.monotonic


class SocketLink:
    """A link of the core and its socket. Methods are called during a step of the session."""

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
        """Bytes that the kernel has not taken yet. New output queues up behind them."""
        self.taken = 0
        """Total bytes that the kernel has taken out of `output`. Senders wait for it to rise."""
        self._unsent_replies = UnsentReplies(flow)
        self.write_error: OSError | None = None
        """Why nothing can be written any more. What the server sent before is still read."""
        self._drain_until = 0.0
        self._read_size = ReadSize()
        self.has_read = False
        """Whether anything, the end of the stream included, has been read yet."""
        # TLS may have decrypted what follows an upgrade that somebody else has made.
        self.more_to_read = stream.has_more(b"")
        """Whether another read may give more at once. Polling cannot show what TLS has already
        decrypted."""

    # Writing

    def flush(self, replying: bool = False) -> bool:
        """Write as much of the link's output as the kernel takes; return whether any is left.

        Args:
            replying: Whether the link has just been read, so that its new output consists of
                replies, which `FlowControl` bounds.
        """
        output = self.output
        buffers = self.link.buffers_to_send()
        if self.done:
            # Its socket may be shut down, and is closed as soon as no thread polls it.
            return False
        if not output:
            if not buffers:
                return False
            if self.write_error is None:
                try:
                    if len(buffers) == 1:
                        written = self.stream.write(buffers[0])
                        # Nearly always the kernel takes all of it at once.
                        if written == len(buffers[0]):
                            return False
                    else:
                        written = self.stream.write_buffers(buffers)
                except OSError as error:
                    self._write_failed(error)
                else:
                    buffers = _without(buffers, written)
        before = self.taken + len(output)
        for buffer in buffers:
            output += buffer
        if replying:
            self._unsent_replies.add(self.taken + len(output) - before)
        if output:
            self._write_output()
        return bool(output)

    def _write_output(self) -> None:
        output = self.output
        if self.write_error is None:
            try:
                written = self.stream.write(output)
            except OSError as error:
                self._write_failed(error)
            else:
                self.taken += written
                del output[:written]
        if not output:
            self._unsent_replies.clear()

    def _write_failed(self, error: OSError) -> None:
        """Note that the server takes no more; what it said before is still to be read."""
        _raise_if_foreign(error)
        self.write_error, self._drain_until = error, _clock() + DRAIN_TIME
        self._flow.begin_closing()

    # Reading

    def read(self, now: float) -> list[Event] | None:
        """Read once; return the events, or None if nothing had arrived.

        Raises `OSError` if the connection failed.
        """
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
        """Return whether to stop reading a link whose write failed: no data came, or time is up."""
        return not came or now >= self._drain_until

    def leave(self) -> None:
        """Drop the output, and take this link's share out of the flow control."""
        self.output = bytearray()
        self._unsent_replies.clear()
        if self.write_error is not None:
            self._flow.end_closing()


def _raise_if_foreign(error: OSError) -> None:
    """Raise an error that the socket did not raise, but a signal handler.

    Handlers commonly raise `TimeoutError`, an `OSError` that must not count as a lost connection.
    """
    if not came_through(error, "socket", "ssl"):
        raise error


def _without(buffers: list[bytes], written: int) -> list[bytes]:
    """Return what is left of buffers after so many bytes."""
    rest: list[bytes] = []
    for buffer in buffers:
        if written < len(buffer):
            rest.append(buffer[written:])
        written = max(0, written - len(buffer))
    return rest
