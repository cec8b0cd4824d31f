"""The threads that wait for one blocking session, each outside the session's lock.

One of them is the reader: it waits for the sockets of all links, and reads what comes. The others
sleep until they are woken, because a message came, the session ended, or the reader left. Those
with something to write wait for the sockets too.

An exception from a signal handler can end a wait between any two bytecodes, so nothing here counts
on being undone. Every wait holds until a time, which is renewed as it goes on, and one whose time
has passed counts as gone. Sleeping uses plain locks, because `threading.Condition` is Python code
that an exception can leave locked.
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
"""Seconds that a thread waits for the socket at once. A reader that is stuck in a signal handler is
replaced after that time."""

LONGEST_SLEEP: Final = 1.0
"""Seconds that a thread sleeps at once: whoever should wake it may have been interrupted."""

GRACE: Final = 1.0
"""Seconds that a wait may take longer than planned before it counts as gone."""

TURN: Final = 0.01
"""Seconds that a thread may go on reading before others get a chance to take the lock."""

YIELD_TIME: Final = 0.0001
"""Seconds that it then leaves them. A lock that is released and taken again at once is not given to
a thread that waits for it."""


class Wait:
    """One call of the user that waits. Change it under the session's lock only."""

    __slots__ = (
        "_bell",
        "_busy_since",
        "_pause",
        "_timeout",
        "deadline",
        "interests",
        "readable",
        "reads",
        "sending",
        "thread",
        "timer",
        "until",
    )

    def __init__(
        self, *, deadline: float | None = None, sending: bool = False, readable: bool = False
    ) -> None:
        self.thread = threading.get_ident()
        self.deadline = deadline
        """When the call gives up; None for never."""
        self.sending = sending
        """Whether the call waits for the server to take what it sends."""
        self.readable = readable
        """Whether there may be something to read now."""
        self.timer: float | None = None
        """When the core's next timer expires, as far as this thread knows; None at first."""
        self.until = 0.0
        """Until when this wait counts; 0 once it was broken off."""
        self.reads = False
        """Whether this thread is the reader."""
        self.interests: Sequence[Interest] = ()
        """What is waited for; nothing while the thread sleeps, or does not wait at all."""
        self._timeout = 0.0
        self._pause = 0.0
        self._bell: threading.Lock | None = None
        self._busy_since: float | None = None

    def note_input(self, came: bool, now: float) -> None:
        """Note whether the thread has just read something, so that others get their turn."""
        if not came:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now
        elif now - self._busy_since >= TURN:
            self._busy_since = now
            self._pause = YIELD_TIME

    def plan_to_go_on(self, now: float) -> None:
        """Have the thread go on at once, because there is more to read."""
        self._plan(now, (), 0.0)
        self.readable = True

    def plan_to_watch(self, now: float, until: float | None, interests: Sequence[Interest]) -> None:
        """Have the thread wait for sockets, until a time at most."""
        self._plan(now, interests, _seconds(now, until, LONGEST_WAIT))

    def plan_to_sleep(self, now: float, until: float | None) -> None:
        """Have the thread sleep until it is woken, or until a time at most."""
        self._plan(now, (), _seconds(now, until, LONGEST_SLEEP))
        if self._bell is None:
            self._bell = threading.Lock()
            self._bell.acquire()

    def _plan(self, now: float, interests: Sequence[Interest], timeout: float) -> None:
        self.interests = interests
        self.readable = self.reads = False
        self._timeout = timeout
        self.until = now + timeout + GRACE

    def wait(self) -> None:
        """Do what was planned; called without the session's lock."""
        if self._pause:
            time.sleep(self._pause)
            self._pause = 0.0
        if self.interests:
            self.readable = wait_for_streams(self.interests, self._timeout)
        elif not self.readable and self._bell is not None:
            self._bell.acquire(timeout=self._timeout)

    def wake(self) -> None:
        """End the sleep, if the thread sleeps."""
        if self._bell is not None and self._bell.locked():
            self._bell.release()


class WaitingThreads:
    """All waits of a session that are going on. Use it under the session's lock only."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: list[Wait] = []

    def add(self, wait: Wait) -> None:
        """Note that a thread begins to wait."""
        self._waits.append(wait)

    def remove(self, wait: Wait) -> bool:
        """Note that a thread does not wait now; return whether no other one does.

        Those that were interrupted are forgotten.
        """
        if self._waits:
            self._waits = [other for other in self._waits if other is not wait and other.until]
        return not self._waits

    def wake_sleepers(self) -> None:
        """Wake every thread that sleeps."""
        for wait in self._waits:
            wait.wake()

    def has_reader(self, stream: SocketStream, now: float) -> bool:
        """Return whether another thread waits for input of `stream`.

        A reader that is this very thread does not count: a signal handler interrupted it, and
        until the handler returns it reads nothing.
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
        """Return how many threads wait for the server to take what they send."""
        return sum(wait.sending and wait.until > now for wait in self._waits)

    def use(self, stream: SocketStream, now: float) -> bool:
        """Return whether any thread waits for `stream`, so that it cannot be closed yet."""
        return any(
            wait.until > now and any(interest[0] is stream for interest in wait.interests)
            for wait in self._waits
        )


def _seconds(now: float, until: float | None, longest: float) -> float:
    return longest if until is None else min(max(until - now, 0.0), longest)
