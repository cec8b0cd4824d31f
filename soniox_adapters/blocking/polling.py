"""Waiting until sockets can be read or written, on every operating system."""

from __future__ import annotations

import select
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from soniox_adapters.blocking.socket_stream import SocketStream

__all__ = ["Interest", "wait_for_streams"]

Interest: TypeAlias = "tuple[SocketStream, bool, bool]"
"""A stream to wait for, whether to wait for input, and whether to wait for room to write."""


def wait_for_streams(interests: Sequence[Interest], timeout: float | None) -> bool:
    """Wait until reading or writing one of the streams is worth a try, or `timeout` seconds pass.

    Returns whether reading is worth a try, on one of the streams waited for to read.
    """
    descriptors: dict[int, tuple[bool, bool]] = {}
    for stream, read, write in interests:
        descriptor = stream.fileno()
        if descriptor < 0:
            # It was closed meanwhile; the next read will find out.
            return read
        descriptors[descriptor] = (
            read or (write and stream.write_waits_for_read),
            (write and not stream.write_waits_for_read) or (read and stream.read_waits_for_write),
        )
    ready = wait_for_descriptors(descriptors, timeout)
    for stream, read, _ in interests:
        readable, writable = ready.get(stream.fileno(), (False, False))
        if read and (readable or (writable and stream.read_waits_for_write)):
            return True
    return False


if hasattr(select, "poll"):

    def wait_for_descriptors(
        descriptors: Mapping[int, tuple[bool, bool]], timeout: float | None
    ) -> dict[int, tuple[bool, bool]]:
        """Wait until a descriptor is ready or `timeout` seconds pass; return what is ready.

        Args:
            descriptors: For each, whether to wait to read it, and whether to wait to write to it.
            timeout: Maximum wait in seconds; None for no limit.
        """
        poll = select.poll()
        for descriptor, (read, write) in descriptors.items():
            mask = (select.POLLIN if read else 0) | (select.POLLOUT if write else 0)
            poll.register(descriptor, mask)
        # Rounded up to whole ms: a wait that ends early would only be repeated.
        events = poll.poll(None if timeout is None else max(0.0, timeout) * 1000 + 1)
        ready: dict[int, tuple[bool, bool]] = {}
        for descriptor, seen in events:
            # After an error or a hang-up both are worth a try: they raise, or return the end.
            ready[descriptor] = (bool(seen & ~select.POLLOUT), bool(seen & ~select.POLLIN))
        return ready

else:  # pragma: no cover (Windows)

    def wait_for_descriptors(
        descriptors: Mapping[int, tuple[bool, bool]], timeout: float | None
    ) -> dict[int, tuple[bool, bool]]:
        """Wait until a descriptor is ready or `timeout` seconds pass; return what is ready."""
        readers = [descriptor for descriptor, (read, _) in descriptors.items() if read]
        writers = [descriptor for descriptor, (_, write) in descriptors.items() if write]
        left = None if timeout is None else max(0.0, timeout)
        readable, writable, failed = select.select(readers, writers, writers, left)
        return {
            descriptor: (
                descriptor in readable or descriptor in failed,
                descriptor in writable or descriptor in failed,
            )
            for descriptor in descriptors
        }
