"""Every timer of the core, as a table of deadlines.

The core reads no clock and starts no timer of the operating system. A timer here is a number, the
time at which something becomes due, and it stays due until the driver calls `handle_timeout` with
a `now` that has reached it. That makes time an input like any other: tests jump an hour ahead in
one call, and a driver that is late, early or calls twice does no harm.

Both ends use this table, and each machine owns one: `RealtimeSTTProtocol` for the timers of a
session, `RealtimeSTTConnection` for the two of WebSocket pings, the server for its own. The machine
that owns a timer is the only one that arms, stops or acts on it.

There are two kinds, which differ while the driver does not read:

- Timers for something *we* have to do or receive credit for (a keepalive, a ping, opening the
  connection) keep running.
- Deadlines for something the *peer* has to send (a pong, the answer to a finalize, its close
  frame) rest. A driver stops reading when the user does not take events fast enough. The answer
  may then be waiting in the socket's buffer, and calling the peer dead for it would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

__all__ = ["Timer", "TimerTable"]


class Timer(IntEnum):
    """Every timer, in the order in which those due at the same time are handled.

    Timers that end a session have lower numbers, so a session that has just ended sends no ping or
    keepalive.
    """

    CONNECT = 0
    """Client: armed by `connect`, stopped by the answer to the upgrade. On expiry the session is
    lost. Server: armed by the first call that feeds, stopped by the upgrade request."""
    CLOSE = 1
    """Armed when the session begins to close. On expiry it ends without the peer's close frame."""
    PONG = 2
    """Armed by each ping, stopped by its pong. On expiry the session is lost."""
    FINALIZE = 3
    """Armed by a finalize, stopped by its answer. On expiry the session is lost."""
    START = 4
    """Server only: armed by the accepted upgrade and by keepalives, stopped by the start message.
    On expiry the client gets error 408."""
    IDLE = 5
    """Server only: armed by the start message, audio and keepalives, stopped by end-of-audio. On
    expiry the client gets error 408. This is the service's side of KEEPALIVE."""
    PING = 6
    """Armed when the WebSocket opens and by each ping. On expiry a ping is sent."""
    KEEPALIVE = 7
    """Armed when the session opens, by audio and by keepalives. On expiry a keepalive is sent.

    The service may close a connection on which it has received neither audio nor a keepalive for
    more than 20 s (Soniox docs, "Connection keepalive"). Nothing else counts, so a finalize or a
    WebSocket ping does not postpone this timer."""


_DEADLINES_OF_THE_PEER: Final = (Timer.CLOSE, Timer.PONG, Timer.FINALIZE)
"""Deadlines for something the peer must send; they rest while nobody reads.

CONNECT is not among them: before the session is open there are no events that a slow user could
leave waiting."""

_TIME_TO_READ: Final = 0.1
"""Seconds that a deadline has at least when reading resumes. A deadline that had almost passed when
it began to rest would otherwise expire before the driver had a chance to read the answer."""


class TimerTable:
    """The armed deadlines, in seconds on the caller's clock.

    Every change is made by an explicit call; asking for the next deadline changes nothing.
    """

    __slots__ = ("_deadlines", "_rested", "_resting", "_resting_since")

    def __init__(self) -> None:
        self._deadlines: dict[Timer, float] = {}
        # While nobody reads: the seconds that the peer's deadlines have left. Otherwise None.
        self._resting: dict[Timer, float] | None = None
        self._resting_since = 0.0
        self._rested = 0.0

    def start(self, timer: Timer, now: float, delay: float | None) -> None:
        """Arm `timer` to expire `delay` seconds after `now`, replacing an earlier deadline.

        With a delay of None, the way to switch an option off, nothing changes.
        """
        if delay is None:
            return
        if self._resting is not None and timer in _DEADLINES_OF_THE_PEER:
            self._resting[timer] = delay
            return
        self._deadlines[timer] = now + delay

    def stop(self, timer: Timer) -> None:
        """Disarm `timer`; harmless if it is not armed."""
        self._deadlines.pop(timer, None)
        if self._resting is not None:
            self._resting.pop(timer, None)

    def stop_all(self) -> None:
        """Disarm every timer."""
        self._deadlines.clear()
        if self._resting is not None:
            self._resting.clear()

    def rest(self, now: float) -> None:
        """Let the peer's deadlines rest, because nobody reads from now on. Safe to repeat."""
        if self._resting is not None:
            return
        self._resting = {
            timer: self._deadlines.pop(timer) - now
            for timer in _DEADLINES_OF_THE_PEER
            if timer in self._deadlines
        }
        self._resting_since = now

    def resume(self, now: float) -> None:
        """Let the peer's deadlines continue with the time they had left. Safe to repeat."""
        self._rested = self.time_at_rest(now)
        resting, self._resting = self._resting, None
        if resting:
            for timer, left in resting.items():
                self._deadlines[timer] = now + max(left, _TIME_TO_READ)

    def time_at_rest(self, now: float) -> float:
        """Return how many seconds the peer's deadlines have rested in total, up to `now`.

        For deadlines that are armed later from an earlier point in time: see the finalize timer of
        `RealtimeSTTProtocol`.
        """
        if self._resting is None:
            return self._rested
        return self._rested + now - self._resting_since

    @property
    def deadlines(self) -> Mapping[Timer, float]:
        """Return when each armed timer expires; those that rest are not among them."""
        return MappingProxyType(self._deadlines)

    def next_timeout(self) -> float | None:
        """Return the earliest deadline, or None when no timer is running."""
        return min(self._deadlines.values(), default=None)

    def expire(self, now: float) -> Iterator[Timer]:
        """Disarm and yield each timer that is due at `now`, in the order of `Timer`.

        The caller may arm and stop timers while iterating, and one stopped in the meantime is not
        yielded: acting on the first timer often makes the rest obsolete. However late the call
        comes, a timer is yielded only once: after a minute's sleep a process sends one keepalive,
        not twelve.
        """
        for timer in sorted(self._deadlines):
            if self._deadlines.get(timer, now + 1) <= now:
                self.stop(timer)
                yield timer
