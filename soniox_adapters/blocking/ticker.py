"""One thread that looks after all blocking sessions while no thread of the user does.

A session has to answer pings, send keepalives and notice a dead server even while its program is
busy elsewhere. A thread per session would cost a stack for each; thousands of idle sessions share
this one. It runs only while there is a session to look after.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Protocol

__all__ = ["Schedule", "Ticker", "Ticking", "ticker"]


class Ticking(Protocol):
    """An object that the ticker looks after, such as a session."""

    def tick(self) -> float | None:
        """Do what is due, without blocking; return when to come again, None for never."""
        ...


class Schedule(Protocol):
    """What has objects visited."""

    def schedule(self, ticking: Ticking, when: float) -> None:
        """Call `tick` at `when`; other times set before remain."""
        ...


class Ticker:
    """Calls `tick` of each scheduled object when its time has come, in one daemon thread.

    The thread starts with the first object and ends after the last. Objects are held by weak
    references, so that a session the program has dropped is not kept alive.

    A signal handler may interrupt `schedule` anywhere. If it raises, no lock may stay held, so the
    locks are implemented in C, and the thread may not have started, so `schedule` checks that it is
    alive. If it calls `schedule` itself, the lock is reentrant, and the inner call may come between
    any two lines of the outer one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # Released to wake the thread.
        self._bell = threading.Lock()
        self._heap: list[tuple[float, int, weakref.ref[Ticking]]] = []
        # Breaks ties between equal times, because weak references cannot be ordered.
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, while there is one."""
        return self._thread

    @property
    def scheduled(self) -> int:
        """How many calls are planned."""
        return len(self._heap)

    def schedule(self, ticking: Ticking, when: float) -> None:
        """Call `tick` at `when`, in seconds on `time.monotonic`; other times set before remain."""
        with self._lock:
            heapq.heappush(self._heap, (when, next(self._numbers), weakref.ref(ticking)))
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="soniox-ticker", daemon=True)
                self._thread = thread
                thread.start()
            elif self._heap[0][0] == when:
                self._wake()

    def forget_all(self) -> None:
        """Drop every object, which ends the thread."""
        with self._lock:
            self._heap.clear()
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):
            self._bell.release()

    def _run(self) -> None:
        while True:
            due, delay = self._next_due()
            if delay:
                self._bell.acquire(timeout=min(delay, threading.TIMEOUT_MAX))
                continue
            if due is None:
                return
            ticking = due()
            if ticking is not None:
                try:
                    again = ticking.tick()
                except Exception:
                    # Reported, so that a fault in one session does not stop the others.
                    again = None
                    threading.excepthook(
                        threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
                    )
                if again is not None:
                    self.schedule(ticking, again)
            # Otherwise the local variable would keep the session alive during the next wait.
            del ticking

    def _next_due(self) -> tuple[weakref.ref[Ticking] | None, float]:
        """Return what is due, or the seconds until something is; None and 0.0 to end the thread."""
        with self._lock:
            if self._thread is not threading.current_thread():
                # Started by a call that was interrupted, and replaced since.
                return None, 0.0
            if not self._heap:
                self._thread = None
                return None, 0.0
            delay = self._heap[0][0] - time.monotonic()
            return (None, delay) if delay > 0 else (heapq.heappop(self._heap)[2], 0.0)


ticker = Ticker()
"""The ticker of this process."""


def _forget_after_fork() -> None:
    # Threads do not survive a fork, and the lock may be held by one of them.
    ticker.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
