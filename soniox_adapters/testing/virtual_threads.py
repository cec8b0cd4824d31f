"""Virtual time for threads: it stands still while any of them runs, and jumps when all wait.

The threads that count are the one that enters the block and those started within it. Each is in a
wait that this module knows (a call of a session, `time.sleep`), in one that it does not know (a
lock, a queue, `join`), or running. So if all threads are in known waits, time jumps at once, to the
first moment at which something happens; else only after nothing at all has moved for `QUIET`
seconds of real time. By then a thread that runs would have moved something, unless the machine is
too busy to run it. Linux says so; elsewhere the last two look alike from outside.

Within the block `time.sleep` and `time.monotonic` of these threads go by the virtual clock, so that
code which paces audio or waits before a retry takes no time either. Other threads are not affected.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from soniox_adapters.blocking.ticker import Ticking, ticker
from soniox_proto.testing import ScriptedConnection, ScriptedServer, VirtualClock

__all__ = ["VirtualThreads"]

QUIET: Final = 0.02
"""Seconds of real time without any movement after which a thread counts as waiting."""

LONGEST_RUN: Final = 1.0
"""The same for a thread that the system calls runnable: it may wait in a loop of its own."""


class _Wait:
    """A thread in a wait: until a time, or until it is ready."""

    __slots__ = ("ready", "thread", "until")

    def __init__(self, until: float, ready: Callable[[], bool]) -> None:
        self.thread = threading.current_thread()
        self.until = until
        self.ready = ready

    def is_over(self, now: float) -> bool:
        """Return whether the thread may go on."""
        return self.until <= now or self.ready()


def _is_runnable(thread: threading.Thread) -> bool:
    """Return whether the system would run a thread, or is reading a file for it; Linux only."""
    if thread.native_id is None:
        return True  # It is about to begin.
    try:
        state = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False  # It has ended, or this is another system.
    return state.split()[0] in {"R", "D"}


class _VirtualTime:
    """Stands in for `time.sleep` and `time.monotonic` while any block with virtual time runs.

    Blocks of several threads may end in any order, so each cannot put back what it found.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[VirtualThreads] = []
        self._real = time.sleep, time.monotonic

    def enter(self, block: VirtualThreads) -> None:
        with self._lock:
            if not self._running:
                self._real = time.sleep, time.monotonic
                time.sleep, time.monotonic = self._sleep, self._monotonic
            self._running.append(block)

    def leave(self, block: VirtualThreads) -> None:
        with self._lock:
            self._running.remove(block)
            if not self._running:
                time.sleep, time.monotonic = self._real

    def _block(self) -> VirtualThreads | None:
        """Return the innermost block of this thread."""
        running = reversed(self._running.copy())
        return next((block for block in running if block.concerns_this_thread()), None)

    def _sleep(self, seconds: Any) -> None:
        block = self._block()
        if block is None:
            self._real[0](seconds)
        else:
            block.sleep(seconds)

    def _monotonic(self) -> float:
        block = self._block()
        return self._real[1]() if block is None else block.clock.now


_virtual_time: Final = _VirtualTime()


class VirtualThreads:
    """A virtual clock, and everything that waits for it: threads, visits, the server's end."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.lock = threading.RLock()
        """Guards everything here, and the server's end of every connection."""
        self._moved = threading.Condition(self.lock)
        self._movements = 0
        self._waits: list[_Wait] = []
        self._visits: list[tuple[float, int, Ticking]] = []
        self._order = itertools.count()
        self._connections: list[ScriptedConnection] = []
        self._bystanders: set[threading.Thread] = set()

    @contextmanager
    def running(self) -> Generator[VirtualThreads, None, None]:
        """Make time virtual for this thread and those that it starts, until the block is left."""
        self._bystanders = set(threading.enumerate()) - {threading.current_thread()}
        _virtual_time.enter(self)
        try:
            yield self
        finally:
            _virtual_time.leave(self)

    def sleep(self, seconds: float) -> None:
        """Wait for so much virtual time."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"sleep length must be a non-negative number, not {seconds!r}")
        self.wait(self.clock.now + seconds, lambda: False)

    def schedule(self, ticking: Ticking, when: float) -> None:
        """Visit a session at `when`; this stands in for the ticker of real sessions."""
        with self.lock:
            heapq.heappush(self._visits, (when, next(self._order), ticking))

    def connect(self, server: ScriptedServer) -> ScriptedConnection:
        """Return the server's end of a new connection, and look after its time."""
        with self.lock:
            connection = server.connect(self.clock.now)
            self._connections.append(connection)
            return connection

    def note_movement(self) -> None:
        """Note that something has moved, which may have ended somebody's wait."""
        with self.lock:
            self._movements += 1
            self._moved.notify_all()

    def wait(self, until: float, ready: Callable[[], bool]) -> None:
        """Wait until `ready`, or until a time."""
        with self.lock:
            wait = _Wait(until, ready)
            self._waits.append(wait)
            self.note_movement()
            try:
                while not ready() and self.clock.now < until:
                    if self._all_wait() or self._is_quiet():
                        self._jump()
            finally:
                self._waits.remove(wait)
                self.note_movement()

    def concerns_this_thread(self) -> bool:
        """Return whether time is virtual for the calling thread."""
        thread = threading.current_thread()
        return thread not in self._bystanders and thread is not ticker.thread

    # Inside; called with the lock

    def _all_wait(self) -> bool:
        """Return whether every thread is in a wait that is known and is not over."""
        now = self.clock.now
        if any(wait.is_over(now) for wait in self._waits):
            return False
        return not self._others()

    def _others(self) -> list[threading.Thread]:
        """Return the threads that are in no known wait."""
        others = {*self._bystanders, ticker.thread, *(wait.thread for wait in self._waits)}
        return [thread for thread in threading.enumerate() if thread not in others]

    def _is_quiet(self) -> bool:
        """Wait for a movement; return whether none came, so that all threads count as waiting."""
        seen, waited = self._movements, 0.0
        while waited < LONGEST_RUN:
            moved = self._moved.wait(QUIET)
            if moved or seen != self._movements:
                return False
            waited += QUIET
            # The thread of a wait that is over has yet to go on.
            over = [wait.thread for wait in self._waits if wait.is_over(self.clock.now)]
            if not any(map(_is_runnable, {*over, *self._others()} - {threading.current_thread()})):
                break
        return True

    def _jump(self) -> None:
        """Go to the next moment at which something happens, and let it happen."""
        times = [wait.until for wait in self._waits]
        times += [
            when
            for connection in self._connections
            if (when := connection.next_timeout()) is not None
        ]
        if self._visits:
            times.append(self._visits[0][0])
        now = self.clock.advance_to(min(times))
        for connection in self._connections:
            if (when := connection.next_timeout()) is not None and when <= now:
                connection.handle_timeout(now)
        while self._visits and self._visits[0][0] <= now:
            _, _, ticking = heapq.heappop(self._visits)
            again = ticking.tick()
            if again is not None:
                self.schedule(ticking, max(again, now))
        self.note_movement()
