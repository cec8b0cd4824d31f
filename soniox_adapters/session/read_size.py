"""How much to read at once, so that nothing else has to wait for long."""

from __future__ import annotations

from typing import Final

__all__ = ["LARGEST_READ", "ReadSize"]

LARGEST_READ: Final = 64 * 1024
"""Bytes: more brings no speed."""

SMALLEST_READ: Final = 2 * 1024
"""Bytes: a handful of usual messages."""

STEP_TIME: Final = 0.01
"""Seconds that handling the bytes of one read should take at most."""


class ReadSize:
    """Adapts the size of reads to the time that the core needs for what comes in.

    64 KiB of results are handled in a few milliseconds. A hostile server can fill them with frames
    of one byte, which take a hundred times as long; other threads, tasks and timers have to wait.
    """

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = LARGEST_READ // 4
        """Bytes to read at most."""

    def adapt(self, seconds: float) -> None:
        """Take account of a full read that took `seconds` to handle."""
        fitting = self.value * STEP_TIME / max(seconds, 1e-6)
        self.value = int(min(max(fitting, SMALLEST_READ), LARGEST_READ))
