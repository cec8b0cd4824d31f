"""A clock that stands still until it is told to move."""

from __future__ import annotations

from soniox_proto.errors import SonioxValidationError

__all__ = ["VirtualClock"]


class VirtualClock:
    """A clock for tests. Time passes only by `advance` and `advance_to`, so it costs nothing.

    Call it to read it, like `time.monotonic`.

    Args:
        start: What it shows at first, in seconds.
    """

    __slots__ = ("_now",)

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self._now

    @property
    def now(self) -> float:
        """The time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass, and return the time after them.

        Raises `SonioxValidationError` for a negative number.
        """
        if seconds < 0:
            raise SonioxValidationError(f"time cannot go back by {-seconds!r} s")
        self._now += seconds
        return self._now

    def advance_to(self, when: float) -> float:
        """Let time pass until `when`, if that is later than now, and return the time."""
        self._now = max(self._now, when)
        return self._now

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._now:g} s>"
