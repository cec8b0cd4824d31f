"""Waiting until sockets can be read or written, on every operating system."""

from __future__ import annotations

import select
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from soniox_adapters.blocking.socket_stream import SocketStream

__all__ = ["Interest", "wait_for_streams"]

Interest: TypeAlias = "tuple[SocketStream, bool, bool]"
"""A stream that is waited for, whether to read it, and whether to write to it."""


def wait_for_streams(interests: Sequence[Interest], timeout: float | None) -> bool:
    """Wait until reading or writing a stream is worth another try, or `timeout` seconds passed.

    Returns whether reading is, of one that was to be read.
    """
    descriptors: dict[int, tuple[bool, bool]] = {}
    for stream, read, write in interests:
        descriptor = stream.fileno()
        if descriptor < 0:
            # Closed meanwhile, as the next read will find.
            return read
        descriptors[descriptor] = (
            read or (write and stream.write_waits_for_read),
            (write and not stream.write_waits_for_read) or (read and stream.read_waits_for_write),
        )
    ready = wait_for_descriptors(descriptors, timeout)
    for (stream, read, _), descriptor in zip(interests, descriptors, strict=True):
        readable, writable = ready.get(descriptor, (False, False))
        if read and (readable or (writable and stream.read_waits_for_write)):
            return True
    return False


if hasattr(select, "poll"):

    def wait_for_descriptors(
        descriptors: Mapping[int, tuple[bool, bool]], timeout: float | None
    ) -> dict[int, tuple[bool, bool]]:
        """Wait until one is ready or `timeout` seconds passed; return what each is ready for.

        Args:
            descriptors: For each, whether to wait until it can be read, and be written to.
            timeout: Seconds to wait at most; None for no limit.
        """
        poll = select.poll()
        for descriptor, (read, write) in descriptors.items():
            mask = (select.POLLIN if read else 0) | (select.POLLOUT if write else 0)
            poll.register(descriptor, mask)
        # Rounded up: a wait that ends early would only be repeated.
        ready = poll.poll(None if timeout is None else max(0.0, timeout) * 1000 + 1)
        # An error or a hang-up makes both worth a try.
        return {
            descriptor: (bool(events & ~select.POLLOUT), bool(events & ~select.POLLIN))
            for descriptor, events in ready
        }

else:  # pragma: no cover (Windows)

    def wait_for_descriptors(
        descriptors: Mapping[int, tuple[bool, bool]], timeout: float | None
    ) -> dict[int, tuple[bool, bool]]:
        """Wait until one is ready or `timeout` seconds passed; return what each is ready for."""
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
