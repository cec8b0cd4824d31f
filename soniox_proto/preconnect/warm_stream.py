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

from collections.abc import Mapping, Sequence
from typing import Any

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.errors import (
    SonioxConnectionError,
    SonioxRealtimeError,
)
from soniox_proto.events import Event, Outcome, SessionStats
from soniox_proto.flight_recorder import FlightRecorder
from soniox_proto.messages import RealtimeEvent
from soniox_proto.options import DEFAULT_CONNECT_TIMEOUT, DEFAULT_MAX_PENDING_AUDIO
from soniox_proto.preconnect.idle_link import IdleLink
from soniox_proto.preconnect.warm_links import SubstituteLink, TrialLink
from soniox_proto.state import SessionState
from soniox_proto.stream import Link, Stream

__all__ = ["WarmStream"]


class WarmStream:
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
        self._stream = stream
        self._connect_timeout = connect_timeout
        self._max_pending = max_pending
        self._trials: list[TrialLink] = []
        self._substitutes: list[SubstituteLink] = []
        self._wanted: list[Link] = []
        self._events: list[Event] = []
        self._now = float("-inf")
        self._reading_paused = False

    @property
    def stream(self) -> Stream:
        """The session itself."""
        return self._stream

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
        if not trial.asked_for_key:
            idle.connect(link.upgrade_request)
        substitute = SubstituteLink(link, idle, sent, self, asks_for_key=trial.asked_for_key)
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

    # As a Stream: what concerns trials

    @property
    def holds_too_much(self) -> bool:
        """Whether a sender that can wait should: too much is kept for another connection."""
        kept = sum(trial.kept for trial in self._trials)
        kept += sum(link.kept for link in self._substitutes)
        return self._stream.holds_too_much or (kept >= self._max_pending and not self.ending)

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        wanted = self._stream.links_to_open()
        if self._wanted:
            mine, self._wanted = self._wanted, []
            return [*wanted, *(link for link in mine if not link.closed)]
        return wanted

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        if self._events:
            return self._now
        times = [self._stream.next_timeout()]
        if not self._reading_paused:
            times += [trial.deadline for trial in self._trials if not trial.closed]
        times += [link.next_timeout() for link in self._substitutes if not link.closed]
        return min((time for time in times if time is not None), default=None)

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
        return events + self._stream.handle_timeout(now)

    def close(self, now: float) -> None:
        """End the session with the close handshake, if there is a connection for it."""
        self._stream.close(now)
        self._now = max(self._now, now)
        for link in tuple(self._substitutes):
            self._events += link.failed(SonioxConnectionError("the session was closed"), now)

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, on every link; deadlines of the peer rest."""
        self._reading_paused = True
        self._stream.pause_reading(now)

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        self._reading_paused = False
        for trial in self._trials:
            trial.begin(now)
        self._stream.resume_reading(now)

    # As a Stream: what does not

    @property
    def config(self) -> RealtimeSTTConfig:
        """Configuration of the stream."""
        return self._stream.config

    @property
    def state(self) -> SessionState:
        """Where the session is in its life."""
        return self._stream.state

    @property
    def paused(self) -> bool:
        """Whether audio is being dropped."""
        return self._stream.paused

    @property
    def closed(self) -> bool:
        """Whether the session is over; all of its links are closed too."""
        return self._stream.closed

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain."""
        return self._stream.outcome

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if an error did."""
        return self._stream.error

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The latest message of the service."""
        return self._stream.last_message

    @property
    def stats(self) -> SessionStats:
        """Counters of the session so far."""
        return self._stream.stats

    @property
    def flight_recorder(self) -> FlightRecorder:
        """What happened last."""
        return self._stream.flight_recorder

    def sent_position_ms(self, server_ms: float) -> int:
        """Return where a position that was given out lies in the audio that was sent, in ms."""
        return self._stream.sent_position_ms(server_ms)

    def captured_at(self, position_ms: float) -> float | None:
        """Return when the audio at a position that was given out was captured, in seconds."""
        return self._stream.captured_at(position_ms)

    def connect(self, now: float) -> None:
        """Begin: ask for the first link."""
        self._stream.connect(now)

    def send_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> None:
        """Queue a chunk of audio, or hold it while no link is open."""
        self._stream.send_audio(chunk, now, captured_at)

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final."""
        self._stream.finalize(now, trailing_silence_ms)

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive."""
        self._stream.keep_alive(now)

    def finish(self, now: float) -> None:
        """Queue end-of-audio, at most once."""
        self._stream.finish(now)

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on; with `finalize`, ask for outstanding tokens first."""
        self._stream.pause(now, finalize)

    def resume(self, now: float) -> None:
        """Send audio again."""
        self._stream.resume(now)

    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any], now: float) -> None:
        """Go on with another configuration, from the next endpoint on."""
        self._stream.reconfigure(config, now)

    def abort(self, now: float) -> None:
        """End the session at once."""
        self._stream.abort(now)

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """End the session because of `error`, a failure that concerns no single link."""
        return self._stream.fail(error, now, close_code=close_code)
