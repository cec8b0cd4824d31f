"""How much to read at once, so that other threads, tasks and timers do not wait long."""

from __future__ import annotations

from typing import Final

__all__ = ["LARGEST_READ", "ReadSize"]

LARGEST_READ: Final = 64 * 1024
"""Bytes. Larger reads are no faster."""

SMALLEST_READ: Final = 2 * 1024
"""Bytes: a handful of ordinary messages."""

STEP_TIME: Final = 0.01
"""Seconds that handling one read should take at most."""


class ReadSize:
    """Adapts the size of reads to the time that the core takes to handle them.

    64 KiB of results are handled in a few milliseconds. Filled with one-byte frames by a hostile
    server, they take a hundred times as long, and everything else would have to wait.
    """

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = LARGEST_READ // 4
        """Maximum bytes of the next read."""

    def adapt(self, seconds: float) -> None:
        """Adapt to a full read that took `seconds` to handle."""
        fitting = self.value * STEP_TIME / max(seconds, 1e-6)
        self.value = int(min(max(fitting, SMALLEST_READ), LARGEST_READ))
