"""One thread that looks after all blocking sessions while no thread of the user does."""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import threading
import time
import weakref
from typing import Protocol

__all__ = ["Ticker", "ticker"]


class Ticking(Protocol):
    """What the ticker looks after."""

    def tick(self) -> float | None:
        """Do what is due without blocking; return when to come again, None for never."""
        ...


class Ticker:
    """Calls `tick` of each scheduled object when its time has come, in one daemon thread.

    The thread starts with the first object and ends after the last. Objects are held weakly: one
    that is forgotten is forgotten here too.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, weakref.ref[Ticking]]] = []
        # Breaks ties, so that references are never compared.
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def schedule(self, ticking: Ticking, when: float) -> None:
        """Call `tick` at `when`, a time of `time.monotonic`, in seconds; later ones stay."""
        with self._condition:
            heapq.heappush(self._heap, (when, next(self._numbers), weakref.ref(ticking)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="soniox-ticker", daemon=True)
                self._thread.start()
            elif self._heap[0][0] == when:
                self._condition.notify()

    def _run(self) -> None:
        while (due := self._next_due()) is not None:
            ticking = due()
            if ticking is not None:
                try:
                    again = ticking.tick()
                except Exception:
                    # One session's failure is told, and is not the others'.
                    again = None
                    threading.excepthook(
                        threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
                    )
                if again is not None:
                    self.schedule(ticking, again)
            # The thread keeps nothing alive while it waits.
            del ticking

    def _next_due(self) -> weakref.ref[Ticking] | None:
        with self._condition:
            while self._heap:
                delay = self._heap[0][0] - time.monotonic()
                if delay <= 0:
                    return heapq.heappop(self._heap)[2]
                self._condition.wait(delay)
            self._thread = None
            return None


ticker = Ticker()
"""The ticker of this process."""


def _forget_after_fork() -> None:
    # Threads do not survive a fork, and the lock may have been held.
    ticker.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
