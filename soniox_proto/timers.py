"""All timers of the core. Deadlines are data; only the `now` that callers pass makes them due."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

__all__ = ["Timer", "TimerTable"]


class Timer(IntEnum):
    """Every timer. Those that end a session come first, so that an ended one sends no keepalive."""

    CONNECT = 0
    """Armed by `connect`, stopped by the answer to the upgrade. On expiry the session is lost."""
    CLOSE = 1
    """Armed when the session begins to close. On expiry it ends without the peer's close frame."""
    PONG = 2
    """Armed by each ping, stopped by its pong. On expiry the session is lost."""
    FINALIZE = 3
    """Armed by a finalize, stopped by its answer. On expiry the session is lost."""
    START = 4
    """Server only: armed by the upgrade, stopped by the start message. On expiry: error 408."""
    IDLE = 5
    """Server only: armed by audio and keepalives. On expiry: error 408."""
    PING = 6
    """Armed when the WebSocket opens and by each ping. On expiry a ping is sent."""
    KEEPALIVE = 7
    """Armed by audio and keepalives, the only traffic that keeps a session from 408 (protocol page,
    "Rules that bind a client"). On expiry a keepalive is sent."""


_DEADLINES_OF_THE_PEER: Final = (Timer.CLOSE, Timer.PONG, Timer.FINALIZE)
"""Timers that wait for something to be received. They rest while nobody reads: the answer may be
waiting in the socket."""

_TIME_TO_READ: Final = 0.1
"""Seconds that a deadline has at least once reading goes on, so that an answer which arrived in
the meantime is read before its deadline passes."""


class TimerTable:
    """The armed deadlines, in seconds on the caller's clock."""

    __slots__ = ("_deadlines", "_rested", "_resting", "_resting_since")

    def __init__(self) -> None:
        self._deadlines: dict[Timer, float] = {}
        # Seconds left of the peer's deadlines while nobody reads; None while somebody does.
        self._resting: dict[Timer, float] | None = None
        self._resting_since = 0.0
        self._rested = 0.0

    def start(self, timer: Timer, now: float, delay: float | None) -> None:
        """Arm `timer` to expire `delay` seconds after `now`; a delay of None leaves it off."""
        if delay is None:
            return
        if self._resting is not None and timer in _DEADLINES_OF_THE_PEER:
            self._resting[timer] = delay
            return
        self._deadlines[timer] = now + delay

    def stop(self, timer: Timer) -> None:
        """Disarm `timer`, armed or not."""
        self._deadlines.pop(timer, None)
        if self._resting is not None:
            self._resting.pop(timer, None)

    def stop_all(self) -> None:
        """Disarm every timer."""
        self._deadlines.clear()
        if self._resting is not None:
            self._resting.clear()

    def rest(self, now: float) -> None:
        """Stop the clock of the peer's deadlines: nobody reads from now on. Safe to repeat."""
        if self._resting is not None:
            return
        self._resting = {
            timer: self._deadlines.pop(timer) - now
            for timer in _DEADLINES_OF_THE_PEER
            if timer in self._deadlines
        }
        self._resting_since = now

    def resume(self, now: float) -> None:
        """Let the peer's deadlines go on with the time they had left. Safe to repeat."""
        self._rested = self.time_at_rest(now)
        resting, self._resting = self._resting, None
        if resting:
            for timer, left in resting.items():
                self._deadlines[timer] = now + max(left, _TIME_TO_READ)

    def time_at_rest(self, now: float) -> float:
        """Return how many seconds the peer's deadlines have rested in all."""
        if self._resting is None:
            return self._rested
        return self._rested + now - self._resting_since

    def next_timeout(self) -> float | None:
        """Return the earliest deadline, or None when no timer is armed."""
        return min(self._deadlines.values(), default=None)

    def expire(self, now: float) -> Iterator[Timer]:
        """Disarm and yield each timer that is due at `now`, in the order of `Timer`.

        The caller may arm and stop timers while iterating; a stopped one is not yielded. However
        late the call comes, a timer is yielded only once: a process that slept for a minute sends
        one keepalive, not twelve.
        """
        for timer in sorted(self._deadlines):
            if self._deadlines.get(timer, now + 1) <= now:
                self.stop(timer)
                yield timer
