"""One link after the other: what their events and the time do to a session.

A session has a present link, which gets the audio, and two for a while when it rolls over
(`rollover.py`). `Succession` is where their events come in and those of the session come out.

How the end of a link becomes the end of the session, or does not:

1. After `close`, `abort` and `fail`, after the finished response, and after an error that is not
   worth another try, the end of the link is the end of the session.
2. If the audio is over and all of it is final, the transcript is complete: the session is finished
   without another connection, although the finished response was lost.
3. Otherwise a new link is made, until `max_attempts` in a row have failed.

That is about the present link. Of the two beside it during a roll-over, the end of the one is
expected, and the other is tried again, unless the service refuses what `reconfigure` asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.connection import RealtimeSTTConnection
from soniox_proto.errors import SonioxConnectionError, SonioxRealtimeError
from soniox_proto.events import (
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    Opened,
    Outcome,
    Reconnected,
    Reconnecting,
    Result,
    RolledOver,
    ServerError,
    SessionStats,
)
from soniox_proto.flight_recorder import FlightRecorder
from soniox_proto.messages import RealtimeEvent
from soniox_proto.recovery.attempts import Attempts
from soniox_proto.recovery.audio_input import AudioInput
from soniox_proto.recovery.carried_context import with_said
from soniox_proto.recovery.heard import Heard
from soniox_proto.recovery.link import RecoverableLink
from soniox_proto.recovery.links import Links
from soniox_proto.recovery.policy import ReconnectPolicy
from soniox_proto.recovery.reading import Reading
from soniox_proto.recovery.rollover import RollOver, Step
from soniox_proto.recovery.sending import Replay, Sending
from soniox_proto.stream import Link

__all__ = ["Succession"]


class Succession:
    """The links of a session, from the first to the one whose end is that of the session.

    Args:
        policy: When to make new links.
        audio: What the audio is.
        sending: What is sent on the links.
        stats: Where to count.
        flight_recorder: Where to note what happens.
        connection: Returns a new connection for a configuration.
        config: The user's configuration.
        keys_are_fresh: Whether each link asks for a key of its own.
        drain_timeout: Seconds that the finished response of a link that was replaced may take;
            None for no limit.
    """

    __slots__ = (
        "_attempts",
        "_audio",
        "_ended",
        "_events",
        "_flight_recorder",
        "_heard",
        "_links",
        "_lost_at",
        "_now",
        "_policy",
        "_reading",
        "_reading_paused",
        "_retry_at",
        "_rolling",
        "_sending",
        "_stats",
        "config",
        "link",
        "over",
    )

    def __init__(
        self,
        policy: ReconnectPolicy,
        audio: AudioInput,
        sending: Sending,
        stats: SessionStats,
        flight_recorder: FlightRecorder,
        connection: Callable[[RealtimeSTTConfig], RealtimeSTTConnection],
        *,
        config: RealtimeSTTConfig,
        keys_are_fresh: bool,
        drain_timeout: float | None,
    ) -> None:
        self._policy = policy
        self._audio = audio
        self._sending = sending
        self._stats = stats
        self._flight_recorder = flight_recorder
        self.config = config
        """The user's configuration, as it was given last."""
        self._heard = Heard()
        self._reading = Reading(policy, sending, self._heard, stats)
        self._links = Links(connection, self._take, stats, flight_recorder)
        self._attempts = Attempts(policy, keys_are_fresh=keys_are_fresh)
        self._rolling = RollOver(
            policy.rollover_after,
            drain_timeout,
            Attempts(policy, keys_are_fresh=keys_are_fresh, endless=True),
            self._links,
        )
        self.link = self._make_link()
        """The present link."""
        self.over = False
        """Whether the present link decides how the session ends."""
        self._ended: Closed | None = None
        self._events: list[Event] = []
        self._now = float("-inf")
        self._retry_at: float | None = None
        self._lost_at = 0.0
        self._reading_paused = False

    # How far the session is

    @property
    def was_open(self) -> bool:
        """Whether a link has ever been open."""
        return self._links.opened > 0

    @property
    def closed(self) -> bool:
        """Whether the session is over, and every byte stream may be closed."""
        return self._ended is not None or (self.over and self.link.closed)

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain."""
        if self._ended is not None:
            return self._ended.outcome
        return self.link.connection.outcome if self.over else None

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if an error did."""
        if self._ended is not None:
            return self._ended.error
        return self.link.connection.error if self.over else None

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The latest message of the service that was given out."""
        return self._reading.last_message

    # What the user does

    def begin(self, now: float) -> None:
        """Ask for the first link."""
        self._links.want(self.link, now)

    def send_held(self, now: float) -> None:
        """Send what is held for the present link, as far as it may be sent now."""
        if self.over:
            self._sending.pace_at = None
        else:
            self._sending.send_held(self.link, now)

    def end_audio(self, now: float) -> None:
        """Go on now that the audio is over."""
        self._rolling.drop_standby(now)
        if self._retry_at is not None and self._reading.is_complete:
            # The end is given out by the next call that feeds.
            self._retry_at = now
        else:
            self.send_held(now)

    def require_another(self, now: float) -> None:
        """Replace the present link by one that declares another configuration."""
        # The next call of `handle_timeout` opens it, and it is due at once.
        self._rolling.require(now)

    def close(self, now: float) -> None:
        """End the session with the close handshake, if there is a connection. Safe to repeat."""
        self._end_with_link(Outcome.CLOSED_LOCALLY, None)
        self.link.connection.close(now)

    def abort(self, now: float) -> None:
        """End the session at once. Safe to repeat."""
        self._end_with_link(Outcome.ABORTED, None)
        self.link.connection.abort(now)

    def fail(
        self, error: SonioxRealtimeError, now: float, close_code: int | None = None
    ) -> list[Event]:
        """End the session because of `error`; no new link is made."""
        self._end_with_link(Outcome.LOST, error)
        events = self.link.connection.fail(error, now, close_code=close_code)
        return self._take(self.link, events, now)

    # Links and time

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        return self._links.take_wanted()

    def advance(self, now: float) -> float:
        """Return the time, which does not go back."""
        self._now = max(self._now, now)
        return self._now

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        if self._events:
            return self._now
        retry_at = (
            None if self._reading_paused and not self._reading.is_complete else self._retry_at
        )
        times = [retry_at, self._sending.pace_at]
        times += [link.connection.next_timeout() for link in self._all_links if not link.abandoned]
        if not self.over:
            rolls_at = self._rolling.next_timeout(self.link, possible=self._may_roll_over)
            times.append(None if rolls_at is None else max(rolls_at, self._now))
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        now = self.advance(now)
        events: list[Event] = []
        for link in self._all_links:
            events += self._take(link, link.connection.handle_timeout(now), now)
        pace_at = self._sending.pace_at
        if pace_at is not None and pace_at <= now:
            self.send_held(now)
        if self._retry_at is not None and self._retry_at <= now:
            if self._reading.is_complete:
                self._complete()
                events += self._take_events()
            elif not self._reading_paused:
                self._retry_at = None
                self.link = self._make_link()
                self._rolling.begin()
                self._links.want(self.link, now)
        return events

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, on every link; deadlines of the peer rest.

        No link can be opened meanwhile: the answer to its upgrade would not be read.
        """
        now = self.advance(now)
        link = self.link
        self._reading_paused = True
        if self.was_open and link.opened_at is None and not link.abandoned and not self.over:
            link.abandon(now)
            self._retry_at = now
        self._rolling.rest(now)
        for link in self._all_links:
            link.connection.pause_reading(now)

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        now = self.advance(now)
        self._reading_paused = False
        self._rolling.resume(now)
        for link in self._all_links:
            link.connection.resume_reading(now)

    # Events of links

    def _take(self, link: RecoverableLink, events: list[Event], now: float) -> list[Event]:
        """Turn events of a connection into those of the session."""
        now = self.advance(now)
        given = self._take_events()
        given += self._read_events(link, events, now)
        given += self._take_events()
        given += self._roll_over(now)
        self._links.count(link)
        return given + self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _read_events(self, link: RecoverableLink, events: list[Event], now: float) -> list[Event]:
        if link is self._rolling.standby:
            return self._read_standby(link, events, now)
        if link is self._rolling.draining:
            return self._read_draining(link, events, now)
        if self._rolling.draining is not None and not link.abandoned:
            link.held += events
            return []
        given: list[Event] = []
        refused: Result | None = None
        for event in events:
            if link.abandoned or self._ended is not None:
                break
            match event:
                case Opened():
                    given.append(self._opened(link, event, now))
                case Result(message):
                    if _is_error(message):
                        # Given out only if it ends the session.
                        refused = event
                    else:
                        given += self._read(link, event, now)
                case EndpointDetected() | Finalized():
                    pass  # Made anew by `_read`, for the tokens that are given out.
                case Finished():
                    finished = self._reading.last_message
                    assert finished is not None, "it came as a result first"
                    self.over = True
                    self._rolling.drop_standby(now)
                    given.append(Finished(finished))
                case ServerError(error):
                    if not self._recovers(link, error, now):
                        self.over = True
                        self._rolling.drop_standby(now)
                        assert refused is not None, "it came as a result first"
                        given += [self._reading.read_refusal(link, refused), event]
                case Closed():
                    if not self._recovers(link, _cause(event), now):
                        self._links.note_closed(link, now)
                        self._end(event)
                        given.append(event)
                case _:  # pragma: no cover
                    raise AssertionError(f"a connection does not report {type(event).__name__}")
        return given

    def _opened(self, link: RecoverableLink, event: Opened, now: float) -> Event:
        """Begin to send on a link that has just opened."""
        self._links.note_opened(link, now)
        if self._links.opened == 1:
            self._begin_on(link, now)
            return event
        return self._reconnected(link, now)

    def _reconnected(self, link: RecoverableLink, now: float) -> Event:
        """Begin to send on a link in place of one that was lost."""
        replay = self._begin_on(link, now)
        self._stats.reconnects += 1
        gap = now - self._lost_at
        return Reconnected(self._attempts.number, replay.replayed_ms, replay.lost_ms, gap)

    def _begin_on(
        self, link: RecoverableLink, now: float, draining: RecoverableLink | None = None
    ) -> Replay:
        """Send what is held on a link that is open."""
        replay = self._sending.begin(link, self._heard, now, draining)
        if draining is None:
            self._read_from(link, now, answered_finalizes=replay.answered_finalizes)
        self.send_held(now)
        return replay

    def _read_from(self, link: RecoverableLink, now: float, *, answered_finalizes: int = 0) -> None:
        translates = self.config.translation is not None
        self._reading.begin(link, now, translates=translates, answered_finalizes=answered_finalizes)

    def _read(self, link: RecoverableLink, event: Result, now: float) -> list[Event]:
        # Results come in answer to audio, so the connection has proven itself.
        self._attempts.restart()
        draining = link is self._rolling.draining
        if not draining:
            self._rolling.note_position(event.message.total_audio_proc_ms, now)
        given = self._reading.read(link, event, now, draining=draining)
        message = self._reading.last_message
        assert message is not None, "it was given out just now"
        self._rolling.note_tokens(message.tokens)
        return given

    def _make_link(self) -> RecoverableLink:
        config = self._audio.config
        if self._policy.carry_context:
            config = with_said(config, self._heard.given.text)
        return self._links.make(config)

    @property
    def _all_links(self) -> list[RecoverableLink]:
        """The present link, and those beside it during a roll-over."""
        return [self.link, *self._rolling.links]

    # Roll-over

    @property
    def _may_roll_over(self) -> bool:
        """Whether the audio can go on on another link, if there is to be any more."""
        return self._sending.is_raw and not self._sending.end_asked

    def _roll_over(self, now: float) -> list[Event]:
        """Take the step of a roll-over that is due, if one is."""
        if self.over or self._reading_paused:
            return []
        step = self._rolling.due(self.link, now, possible=self._may_roll_over)
        if step is Step.SWITCH:
            return self._switch(now)
        if step is Step.RELEASE:
            return self._release(now)
        if step is Step.OPEN:
            self._rolling.open_standby(self._make_link(), now)
        return []

    def _switch(self, now: float) -> list[Event]:
        """Send the audio to the standby from now on."""
        before = self.link
        self.link = link = self._rolling.switch(before, now)
        replay = self._begin_on(link, now, draining=before)
        stats = self._stats
        self._flight_recorder.note(
            now, "rolled over", None, stats.sent_audio_bytes, stats.received_messages
        )
        given: list[Event] = [RolledOver(replay.replayed_ms)]
        if before.cursor == before.begins:
            # The service takes the end of no audio for an error.
            return given + self._release(now)
        before.connection.finish(now)
        return given

    def _release(self, now: float) -> list[Event]:
        """Have done with the link before, and return what waited for that."""
        link, before = self.link, self._rolling.release(now)
        self._sending.note_missing(link, self._heard)
        self._sending.end_draining(before, link)
        self._read_from(link, now)
        self.send_held(now)
        held, link.held = link.held, []
        return self._read_events(link, held, now)

    def _read_draining(self, link: RecoverableLink, events: list[Event], now: float) -> list[Event]:
        """Read the rest of the link before."""
        given: list[Event] = []
        for event in events:
            if isinstance(event, (Finished, ServerError, Closed)):
                # Whatever it has not said, the present link will.
                return given + self._release(now)
            if isinstance(event, Result) and not _is_error(event.message):
                given += self._read(link, event, now)
        return given

    def _read_standby(self, link: RecoverableLink, events: list[Event], now: float) -> list[Event]:
        """Note that the standby is open, or that another one is needed."""
        for index, event in enumerate(events):
            if isinstance(event, Opened):
                self._links.note_opened(link, now)
            elif isinstance(event, ServerError):
                if self._ends_with_standby(link, event.error, now):
                    # With the result that it came as.
                    return self._read_events(link, events[index - 1 :], now)
                break
            elif isinstance(event, Closed):
                if self._ends_with_standby(link, _cause(event), now):
                    return self._read_events(link, events[index:], now)
                break
            # Results say nothing: it has got no audio yet.
        return []

    def _ends_with_standby(
        self, link: RecoverableLink, error: SonioxRealtimeError, now: float
    ) -> bool:
        """Do without a standby that has ended; return True if the session ends with it."""
        if self._rolling.replaces_standby(error, now):
            return False
        self._links.abandon(self.link, now)
        self.link = link
        self._rolling.begin()
        # Whether to try again was just decided.
        self.over = True
        return True

    # The end of a link, and of the session

    def _recovers(self, link: RecoverableLink, error: SonioxRealtimeError, now: float) -> bool:
        """Do without a link that has ended; return False if the session ends with it."""
        if self.over:
            return False
        if self._reading.is_complete:
            self._links.abandon(link, now)
            self._complete()
            return True
        if not self._sending.can_replay:
            return False
        delay = self._attempts.next_delay(error, now)
        if delay is None:
            return False
        attempt = self._attempts.number
        if link.opened_at is not None or attempt == 1:
            self._lost_at = now
        self._links.abandon(link, now)
        self._sending.pace_at = None
        standby = self._rolling.standby
        if standby is None:
            self._retry_at = now + delay
        else:
            delay = 0.0
        stats = self._stats
        self._flight_recorder.note(
            now, "reconnecting", attempt, stats.sent_audio_bytes, stats.received_messages
        )
        self._events.append(Reconnecting(attempt, delay, error))
        if standby is not None:
            self.link = standby
            self._rolling.begin()
            if standby.is_open:
                self._events.append(self._reconnected(standby, now))
        return True

    def _complete(self) -> None:
        """End a session whose transcript is complete, although no finished response came."""
        result = self._reading.complete()
        closed = Closed(Outcome.FINISHED, 1006, "", None)
        self._events += [result, Finished(result.message), closed]
        self._end(closed)

    def _end_with_link(self, outcome: Outcome, error: SonioxRealtimeError | None) -> None:
        """Make the end of the present link that of the session; without a link it is over now."""
        if self._rolling.draining is not None:
            before = self._take_events()
            released = self._release(self._now)
            self._events = [*before, *released, *self._events]
        self._rolling.drop_standby(self._now)
        if self._retry_at is not None and self._ended is None:
            closed = Closed(outcome, None, "", error)
            self._events.append(closed)
            self._end(closed)
        self.over = True

    def _end(self, closed: Closed) -> None:
        self._rolling.drop_standby(self._now)
        self.over = True
        self._ended = closed
        if closed.error is not None:
            closed.error.flight_record = self._flight_recorder.record()
        self._retry_at = None
        self._sending.release()


def _is_error(message: RealtimeEvent) -> bool:
    return message.error_code is not None or message.error_message is not None


def _cause(closed: Closed) -> SonioxRealtimeError:
    """Return why a connection is closed."""
    return closed.error or SonioxConnectionError(
        "the server closed the connection before the transcript was complete",
        close_code=closed.code,
        reason=closed.reason,
    )
