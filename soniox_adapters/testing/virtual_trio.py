"""A clock for trio that jumps whenever every task waits for a time, and tasks in order.

trio runs the tasks that can run in an order of its own, reversed at random, to show programs that
depend on it. A conversation that goes differently each time cannot be compared with what it was, so
in virtual time the order stays the same.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import trio
import trio.testing
from typing_extensions import override

from soniox_proto import SonioxError

__all__ = ["JumpingClock", "virtual_trio_time"]

BUSY_WAIT: Final = 0.01
"""Seconds of real time for which to wait for a thread that is at work, again and again."""


class JumpingClock(trio.abc.Clock):
    """Stands still while a task can run, and jumps to the next deadline when none can."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        # Once time is real again: by how much it is ahead of the real clock.
        self._ahead: float | None = None
        self._polled = False

    def go_on_in_real_time(self) -> None:
        """Jump no more."""
        self._ahead = self._now - time.monotonic()

    @property
    def jumps(self) -> bool:
        """Whether time is virtual."""
        return self._ahead is None

    @override
    def start_clock(self) -> None:
        pass

    @override
    def current_time(self) -> float:
        return self._now if self._ahead is None else time.monotonic() + self._ahead

    @override
    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return how long trio may sleep; it asks only when no task can run."""
        if self._ahead is not None:
            return deadline - self.current_time()
        if deadline <= self._now or deadline == math.inf:
            return deadline - self._now
        if trio.to_thread.current_default_thread_limiter().borrowed_tokens:
            return BUSY_WAIT
        # Sockets come first, and are looked at after this returns.
        self._polled = not self._polled
        if not self._polled:
            self._now = deadline
        return 0.0


@contextmanager
def virtual_trio_time() -> Generator[None, None, None]:
    """Make the time of the running trio virtual, until the block is left."""
    current = trio.lowlevel.current_clock()
    with _tasks_in_order():
        if isinstance(current, trio.testing.MockClock) or (
            isinstance(current, JumpingClock) and current.jumps
        ):
            yield
            return
        clock = JumpingClock(trio.current_time())
        _replace_clock(clock)
        try:
            yield
        finally:
            clock.go_on_in_real_time()


class _InOrder(random.Random):
    """Random numbers that never make trio reverse the order of its tasks."""

    @override
    def random(self) -> float:
        return 0.75


@contextmanager
def _tasks_in_order() -> Generator[None, None, None]:
    """Keep trio from reversing the order of tasks. It offers no public way."""
    import trio._core._run as run

    module: Any = run
    before = getattr(module, "_r", None)
    if before is None or isinstance(before, _InOrder):
        yield
        return
    module._r = _InOrder()
    try:
        yield
    finally:
        module._r = before


def _replace_clock(clock: trio.abc.Clock) -> None:
    # trio offers no other way once it runs. `trio.run(..., clock=JumpingClock())` needs none.
    import trio._core._run as run

    context: Any = run.GLOBAL_RUN_CONTEXT
    if not hasattr(context.runner, "clock"):
        raise SonioxError(
            "time cannot be virtual in this version of trio; run the test with "
            "trio.testing.MockClock(autojump_threshold=0) as its clock"
        )
    context.runner.clock = clock
