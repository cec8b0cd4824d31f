"""The threads that are waiting in one blocking session, each without holding the session's lock.

If every waiting thread polled the sockets, each message would wake all of them, only for one to
find something to read. So one, the reader, polls, and the others sleep until a message comes, the
session ends, or the reader leaves. Threads with something to write poll as well (`run_loop.py`).

The danger is a thread that is counted as the reader but no longer reads: all the others would sleep
forever. A signal handler can raise between any two bytecodes, so a thread cannot be relied on to
sign off. A wait is therefore a lease: it counts up to a time, is renewed on every round, and once
that time has passed the thread counts as gone. Sleeping uses plain locks, because
`threading.Condition` is written in Python, and an exception can leave its lock held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from soniox_adapters.blocking.polling import Interest, wait_for_streams

if TYPE_CHECKING:
    from soniox_adapters.blocking.socket_stream import SocketStream

__all__ = ["Wait", "WaitingThreads"]

LONGEST_WAIT: Final = 2.0
"""Seconds that one poll may take. A reader that is stuck in a signal handler is replaced after this
time, plus the grace."""

LONGEST_SLEEP: Final = 1.0
"""Seconds of one sleep, because the thread that should have ended it may have been interrupted."""

GRACE: Final = 1.0
"""Seconds by which a wait may overrun before its thread counts as gone."""

TURN: Final = 0.01
"""Seconds of uninterrupted reading after which a thread lets others take the lock."""

YIELD_TIME: Final = 0.0001
"""Seconds that it then pauses. Locks are not fair: without a pause, the thread that has just
released the lock nearly always gets it again, ahead of those already waiting for it."""


class Wait:
    """One waiting call: what it waits for, and how long it counts. Guarded by the session's lock.

    Only `wait` runs without the lock.
    """

    __slots__ = (
        "_busy_since",
        "_pause",
        "bell",
        "deadline",
        "interests",
        "readable",
        "reads",
        "sending",
        "thread",
        "timeout",
        "timer",
        "until",
    )

    def __init__(
        self, *, deadline: float | None = None, sending: bool = False, readable: bool = False
    ) -> None:
        self.thread = threading.get_ident()
        self.deadline = deadline
        """When the call gives up, on `time.monotonic`; None for never."""
        self.sending = sending
        """Whether the call is blocked until the server takes what it sends."""
        self.readable = readable
        """Whether reading is worth a try now."""
        self.timer: float | None = None
        """When the core's next timer is due, as far as this thread knows; None at first."""
        self.until = 0.0
        """When the lease of this wait ends; 0 after an exception broke it off."""
        self.reads = False
        """Whether this thread is the reader."""
        self.interests: Sequence[Interest] = ()
        """What the thread polls; empty if it sleeps, or goes on at once."""
        self.timeout = 0.0
        """Seconds that the wait takes at most."""
        self._pause = 0.0
        self.bell: threading.Lock | None = None
        """Held while nothing has woken a thread that sleeps."""
        self._busy_since: float | None = None

    def note_input(self, came: bool, now: float) -> None:
        """Take account of a read; after `TURN` seconds of successful ones, plan a pause."""
        if not came:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now
        elif now - self._busy_since >= TURN:
            self._busy_since = now
            self._pause = YIELD_TIME

    def plan_to_go_on(self, now: float) -> None:
        """Have `wait` return at once, because there is more to read."""
        self._plan(now, (), now, 0.0)
        self.readable = True

    def plan_to_watch(self, now: float, until: float | None, interests: Sequence[Interest]) -> None:
        """Have `wait` poll sockets, at most until a time."""
        self._plan(now, interests, until, LONGEST_WAIT)

    def plan_to_sleep(self, now: float, until: float | None) -> None:
        """Have `wait` sleep until `wake`, at most until a time."""
        self._plan(now, (), until, LONGEST_SLEEP)
        if self.bell is None:
            self.bell = threading.Lock()
            self.bell.acquire()

    def _plan(
        self, now: float, interests: Sequence[Interest], until: float | None, longest: float
    ) -> None:
        timeout = longest if until is None else min(max(until - now, 0.0), longest)
        self.interests = interests
        self.readable = self.reads = False
        self.timeout = timeout
        self.until = now + timeout + GRACE

    def wait(self) -> None:
        """Wait as planned; called without the session's lock."""
        if self._pause:
            time.sleep(self._pause)
            self._pause = 0.0
        if self.interests:
            self.readable = wait_for_streams(self.interests, self.timeout)
        elif not self.readable and self.bell is not None:
            self.bell.acquire(timeout=self.timeout)

    def wake(self) -> None:
        """End the sleep of the thread; one that is planned but has not begun ends at once."""
        if self.bell is not None and self.bell.locked():
            self.bell.release()


class WaitingThreads:
    """All threads that are waiting in a session. Guarded by the session's lock."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: list[Wait] = []

    def add(self, wait: Wait) -> None:
        """Count a thread as waiting from now on."""
        self._waits.append(wait)

    def remove(self, wait: Wait) -> bool:
        """Stop counting a thread as waiting; return whether no other one is.

        Waits that an exception broke off are dropped as well.
        """
        if self._waits:
            self._waits = [other for other in self._waits if other is not wait and other.until]
        return not self._waits

    def wake_sleepers(self) -> None:
        """Wake every thread that sleeps."""
        for wait in self._waits:
            wait.wake()

    def has_reader(self, stream: SocketStream, now: float) -> bool:
        """Return whether another thread is the reader of `stream`.

        A reader in the calling thread does not count. The caller is then a signal handler that
        interrupted it, and it reads nothing until the handler returns.
        """
        thread = threading.get_ident()
        return any(
            wait.reads
            and wait.until > now
            and wait.thread != thread
            and any(interest[0] is stream for interest in wait.interests)
            for wait in self._waits
        )

    def senders(self, now: float) -> int:
        """Return how many threads are blocked until the server takes what they send."""
        return sum(wait.sending and wait.until > now for wait in self._waits)

    def use(self, stream: SocketStream, now: float) -> bool:
        """Return whether any thread polls `stream`, so that it must not be closed yet."""
        return any(
            wait.until > now and any(interest[0] is stream for interest in wait.interests)
            for wait in self._waits
        )
