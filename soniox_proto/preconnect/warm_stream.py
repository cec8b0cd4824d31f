"""A session that starts on a connection opened before, and survives if that one is dead.

A connection may die while it waits and nobody notices: the far end restarts, a router forgets it.
That shows only once something is sent on it. By then the session has begun, with the start message
and the first audio on their way. So a connection that was waiting is on trial at first. A ping goes
out right behind the start message, and everything that the session sends is kept. The pong, or a
message, ends the trial: the service has read the start message then, and what happens from there on
is the session's own business. If the connection ends first, or says nothing for some seconds, a new
one is opened, and everything that was kept is sent again on that. The session does not notice:
nothing had been answered, so nothing is lost.

All of this happens below the session, on bytes. Frames that were made for one connection are just
as good on another, as long as it gets all of them. So it works for every `Stream`, and no stream
has to know about it.

Two kinds of error message also count as the end of a connection that waited for too long: those
that ask for a new connection, and those that refuse the key, which may have expired meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from soniox_proto.errors import (
    SonioxConnectionError,
)
from soniox_proto.events import Event
from soniox_proto.options import DEFAULT_CONNECT_TIMEOUT, DEFAULT_MAX_PENDING_AUDIO
from soniox_proto.preconnect.idle_link import IdleLink
from soniox_proto.preconnect.warm_links import SubstituteLink, TrialLink
from soniox_proto.state import SessionState
from soniox_proto.stream import Link, Stream
from soniox_proto.wrapped_stream import WrappedStream

__all__ = ["WarmStream"]


class WarmStream(WrappedStream):
    """A `Stream` that drives another one, whose links may be connections that were waiting.

    A driver that has such a connection for one of `links_to_open` passes both to `warm`, and uses
    the link that it gets in place of the first. Everything else is as for any stream.

    Args:
        stream: The session. It must not be connected yet.
        connect_timeout: Seconds that opening a new connection in place of a dead one may take, or
            None for no limit.
        max_pending: Bytes to keep before a sender that can wait should wait (`holds_too_much`).
    """

    def __init__(
        self,
        stream: Stream,
        *,
        connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT,
        max_pending: int = DEFAULT_MAX_PENDING_AUDIO,
    ) -> None:
        super().__init__(stream)
        self._connect_timeout = connect_timeout
        self._max_pending = max_pending
        self._trials: list[TrialLink] = []
        self._substitutes: list[SubstituteLink] = []
        self._wanted: list[Link] = []
        self._events: list[Event] = []
        self._now = float("-inf")
        self._reading_paused = False

    def can_be_warm(self, link: Link) -> bool:
        """Return whether one of `links_to_open` may be passed to `warm`.

        The substitute for a dead connection may not: the next one may be dead as well.
        """
        return not isinstance(link, SubstituteLink)

    def warm(self, link: Link, idle: IdleLink) -> Link:
        """Return the link to use in place of one of `links_to_open`; call its `opened` next.

        Args:
            link: What the session wants opened.
            idle: The connection for it, taken out of its pool.
        """
        trial = TrialLink(link, idle, self)
        self._trials.append(trial)
        return trial

    def replace(self, trial: TrialLink, sent: list[bytes], now: float) -> None:
        """Open a new connection for a session whose first one turned out to be dead."""
        link = trial.link
        self.settle(trial)
        timeout = self._connect_timeout
        idle = IdleLink(link.endpoint, open_by=None if timeout is None else now + timeout)
        if trial.asked_key is None:
            idle.connect(link.upgrade_request)
        substitute = SubstituteLink(link, idle, sent, self, asked_key=trial.asked_key)
        self._substitutes.append(substitute)
        self._wanted.append(substitute)

    def settle(self, link: TrialLink | SubstituteLink) -> None:
        """Note that a link needs no more watching: its connection is alive, or given up."""
        self._trials = [trial for trial in self._trials if trial is not link]
        self._substitutes = [one for one in self._substitutes if one is not link]

    @property
    def ending(self) -> bool:
        """Whether the session is closing, so that no connection is worth replacing."""
        return self._stream.state in {SessionState.CLOSING, SessionState.CLOSED}

    # As a Stream

    @property
    @override
    def holds_too_much(self) -> bool:
        """Whether a sender that can wait should: too much is kept for another connection."""
        kept = sum(trial.kept for trial in self._trials)
        kept += sum(link.kept for link in self._substitutes)
        return super().holds_too_much or (kept >= self._max_pending and not self.ending)

    @override
    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        wanted = super().links_to_open()
        if self._wanted:
            mine, self._wanted = self._wanted, []
            return [*wanted, *(link for link in mine if not link.closed)]
        return wanted

    @override
    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        if self._events:
            return self._now
        times = [super().next_timeout()]
        if not self._reading_paused:
            times += [trial.deadline for trial in self._trials if not trial.closed]
        times += [link.next_timeout() for link in self._substitutes if not link.closed]
        return min((time for time in times if time is not None), default=None)

    @override
    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        self._now = max(self._now, now)
        events, self._events = self._events, []
        for trial in tuple(self._trials):
            due = trial.deadline is not None and trial.deadline <= now
            if trial.closed:
                self._trials.remove(trial)
            elif due and not self._reading_paused:
                events += trial.end(now)
        for link in tuple(self._substitutes):
            if link.closed:
                self._substitutes.remove(link)
            else:
                events += link.handle_timeout(now)
        return events + super().handle_timeout(now)

    @override
    def close(self, now: float) -> None:
        """End the session with the close handshake, if there is a connection for it."""
        super().close(now)
        self._now = max(self._now, now)
        for link in tuple(self._substitutes):
            self._events += link.failed(SonioxConnectionError("the session was closed"), now)

    @override
    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, on every link; deadlines of the peer rest."""
        self._reading_paused = True
        super().pause_reading(now)

    @override
    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        self._reading_paused = False
        for trial in self._trials:
            trial.begin(now)
        super().resume_reading(now)
