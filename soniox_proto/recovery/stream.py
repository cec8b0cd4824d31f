"""A session that survives the loss of its connection.

`RecoveringSTTStream` is a `Stream` with one link after the other. It keeps the audio whose words
are not final yet, and the finalizes that are not answered (`kept_audio.py`). When a link is lost,
refused or ended with an error that is worth another try, it waits as long as its policy says, asks
for a new link, and sends again what the service has not heard, from a little before the first
missing word. What comes back is moved onto the clock of the user's audio, and words that were given
out before are left out (`heard.py`, `clock_map.py`). So the user sees one session, whose final
tokens are those of a session without a loss, unless more audio was held than may be kept.

A session may also replace its link before that is lost (`rollover.py`), and has two for a while.

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

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from typing_extensions import Unpack

from soniox_proto.audio_clock import AudioClock
from soniox_proto.clock_map import ClockMap
from soniox_proto.config import RealtimeSTTConfig, checked_config
from soniox_proto.connection import ConnectionKeywords, RealtimeSTTConnection
from soniox_proto.credentials import APIKey
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import (
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxStateError,
)
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
from soniox_proto.messages import (
    RealtimeEvent,
    audio_bytes,
    finalize_message,
    start_message,
)
from soniox_proto.options import DEFAULT_CLOSE_TIMEOUT, check_capture_time
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
from soniox_proto.state import SessionInput, SessionState, refusal
from soniox_proto.stream import Link

__all__ = ["RecoveringSTTStream"]


class RecoveringSTTStream:
    """One speech-to-text session over as many connections as it takes.

    All times of tokens and all positions are positions in the audio that the user sent.

    Args:
        url: `ws://` or `wss://` URL of the service (see `REGIONS`).
        config: Configuration of the stream, or a mapping of its fields. Raw audio, and WAV with
            uncompressed samples, is sent again from the middle. Any other container is sent again
            from its start, as long as that is within `max_replay_seconds`; then the session ends
            with its connection.
        reconnect: When to make new connections, and how much audio to keep for them.
        api_key: API key; None sends none (local servers). With the option `asks_for_key`, each link
            asks for one, and a refused key is replaced once (401, 403
            `temp_api_key_session_expired`).
        options: The keyword options of `RealtimeSTTConnection`, with the same meaning, for each
            connection.

    Raises:
        SonioxValidationError: The URL, the configuration, the key or an option cannot be used.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_audio",
        "_audio_clock",
        "_config",
        "_declared",
        "_ended",
        "_events",
        "_flight_recorder",
        "_heard",
        "_idle",
        "_link",
        "_links",
        "_lost_at",
        "_now",
        "_over",
        "_paused",
        "_policy",
        "_reading",
        "_reading_paused",
        "_retry_at",
        "_rolling",
        "_sending",
        "_stats",
    )

    def __init__(
        self,
        url: str,
        config: RealtimeSTTConfig | Mapping[str, Any],
        *,
        reconnect: ReconnectPolicy,
        api_key: str | APIKey | None = None,
        **options: Unpack[ConnectionKeywords],
    ) -> None:
        self._config = checked_config(config)
        # What links declare. A configuration can be changed in place.
        self._declared = start_message(self._config)
        self._policy = reconnect
        self._flight_recorder = FlightRecorder()
        self._audio = AudioInput(self._config)
        self._audio_clock: AudioClock | None = None
        self._heard = Heard()
        self._stats = SessionStats(bytes_per_second=self._config.bytes_per_second)
        self._links = Links(
            partial(RealtimeSTTConnection, url, api_key=api_key, **options),
            self._take,
            self._stats,
            self._flight_recorder,
        )
        self._link = self._make_link()
        self._sending = Sending(reconnect, self._audio, self._stats)
        self._reading = Reading(reconnect, self._sending, self._heard, self._stats)
        keys_are_fresh = options.get("asks_for_key", False)
        self._attempts = Attempts(reconnect, keys_are_fresh=keys_are_fresh)
        self._rolling = RollOver(
            reconnect.rollover_after,
            options.get("close_timeout", DEFAULT_CLOSE_TIMEOUT),
            Attempts(reconnect, keys_are_fresh=keys_are_fresh, endless=True),
            self._links,
        )
        self._events: list[Event] = []
        self._now = float("-inf")
        self._idle = True
        self._paused = False
        # Whether the present link decides how the session ends.
        self._over = False
        self._ended: Closed | None = None
        self._retry_at: float | None = None
        self._lost_at = 0.0
        self._reading_paused = False

    # Views

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect to."""
        return self._link.endpoint

    @property
    def config(self) -> RealtimeSTTConfig:
        """Configuration of the stream, as it was given last."""
        return self._config

    @property
    def state(self) -> SessionState:
        """Where the session is in its life; a missing connection does not change it."""
        if self.closed:
            return SessionState.CLOSED
        if self._idle:
            return SessionState.IDLE
        if self._over:
            return SessionState.CLOSING
        if not self._links.opened:
            return SessionState.CONNECTING
        return SessionState.FINISHING if self._sending.end_asked else SessionState.OPEN

    @property
    def paused(self) -> bool:
        """Whether audio is being dropped."""
        return self._paused

    @property
    def closed(self) -> bool:
        """Whether the session is over, and every byte stream may be closed."""
        return self._ended is not None or (self._over and self._link.closed)

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain, and if it was never started."""
        if self._ended is not None:
            return self._ended.outcome
        return self._link.connection.outcome if self._over else None

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if an error did."""
        if self._ended is not None:
            return self._ended.error
        return self._link.connection.error if self._over else None

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The latest message of the service."""
        return self._reading.last_message

    @property
    def stats(self) -> SessionStats:
        """Counters of the session so far, over all connections."""
        return self._stats

    def sent_position_ms(self, server_ms: float) -> int:
        """Return `server_ms`: whatever is given out here is a position in the audio already."""
        return round(server_ms)

    def captured_at(self, position_ms: float) -> float | None:
        """Return when the audio at a position was captured, in seconds.

        On the clock of the `captured_at` that was given with the audio, to within 50 ms; None
        where none was given.

        Raises `SonioxValidationError` unless the audio format is a raw one.
        """
        return self._clock().captured_at(position_ms, self._stats.sent_audio_bytes)

    @property
    def flight_recorder(self) -> FlightRecorder:
        """What happened last, on whatever connection."""
        return self._flight_recorder

    @property
    def holds_too_much(self) -> bool:
        """Whether more audio would be lost: no connection takes it, and no more can be kept.

        A sender that can wait should, until this is false again.
        """
        if self._paused or self._sending.end_asked or self._over:
            return False
        return self._sending.full and not (self._link.is_open and self._link.caught_up)

    # Output and time

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        return self._links.take_wanted()

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        if self._events:
            return self._now
        retry_at = (
            None if self._reading_paused and not self._reading.is_complete else self._retry_at
        )
        times = [retry_at, self._sending.pace_at]
        times += [
            link.connection.next_timeout() for link in self._present_links if not link.abandoned
        ]
        if not self._over:
            rolls_at = self._rolling.next_timeout(self._link, possible=self._may_roll_over)
            times.append(None if rolls_at is None else max(rolls_at, self._now))
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        now = self._advance(now)
        events: list[Event] = []
        for link in self._present_links:
            events += self._take(link, link.connection.handle_timeout(now), now)
        pace_at = self._sending.pace_at
        if pace_at is not None and pace_at <= now:
            self._send_held(self._link, now)
        if self._retry_at is not None and self._retry_at <= now:
            if self._reading.is_complete:
                self._complete()
                events += self._take_events()
            elif not self._reading_paused:
                self._retry_at = None
                self._link = self._make_link()
                self._rolling.begin()
                self._links.want(self._link, now)
        return events

    # Calls by the user

    def connect(self, now: float) -> None:
        """Ask for the first link. Audio sent from now on is kept until it is open.

        Raises `SonioxStateError` unless the session is new.
        """
        self._require(SessionInput.CONNECT)
        self._idle = False
        self._links.want(self._link, self._advance(now))

    def send_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> None:
        """Send a chunk of audio, or keep it while no link is open; see `holds_too_much`.

        Args:
            chunk: The audio.
            now: The time, in seconds.
            captured_at: When its first sample was captured, in seconds on any clock.

        Raises:
            TypeError: The chunk is not bytes.
            SonioxValidationError: The chunk is a memoryview that is not contiguous, or
                `captured_at` is no time or cannot be used with this audio format.
            SonioxStateError: The session is not connected, finished or closed.
        """
        data = audio_bytes(chunk)
        self._require(SessionInput.AUDIO)
        if captured_at is not None:
            check_capture_time(captured_at)
            self._clock()
        if not data:
            return
        if self._paused:
            self._stats.dropped_while_paused_bytes += len(data)
            return
        self._sending.require_room(self._link)
        stats = self._stats
        if captured_at is not None:
            self._clock().sent(stats.sent_audio_bytes, len(data), captured_at)
        stats.sent_audio_bytes += len(data)
        stats.sent_audio_chunks += 1
        now = self._advance(now)
        if now >= stats.note_due:
            stats.note_audio(now)
        self._sending.send_audio(self._link, data, now)

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; a `Finalized` event is the answer.

        If its answer is lost with a connection, it is asked again at the same place of the audio.

        Args:
            now: The time, in seconds.
            trailing_silence_ms: Silence already sent after the speech, in ms.

        Raises:
            SonioxStateError: The session is not connected, finished or closed.
            SonioxValidationError: `trailing_silence_ms` is not a whole number of 0 or more.
        """
        self._require(SessionInput.FINALIZE)
        finalize_message(trailing_silence_ms)
        now = self._advance(now)
        index = self._stats.sent_finalizes
        self._stats.sent_finalizes += 1
        self._stats.finalized_audio_bytes = self._stats.sent_audio_bytes
        self._sending.finalize(index, now, trailing_silence_ms)
        self._send_held(self._link, now)

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive; while no link is open there is nothing to keep alive.

        Raises `SonioxStateError` if the session is not connected, finished or closed.
        """
        self._require(SessionInput.KEEP_ALIVE)
        now = self._advance(now)
        if self._link.is_open:
            self._link.connection.keep_alive(now)

    def finish(self, now: float) -> None:
        """End the audio; the service answers with the rest and the finished response.

        Raises `SonioxStateError` if the session is not connected, or if it ended without
        end-of-audio.
        """
        again = self._sending.end_asked
        self._require(SessionInput.FINISH_AGAIN if again else SessionInput.FINISH)
        now = self._advance(now)
        if again:
            return
        self._sending.end_audio(self._link)
        self._rolling.drop_standby(now)
        if self._retry_at is not None and self._reading.is_complete:
            # The end is given out by the next call that feeds.
            self._retry_at = now
        else:
            self._send_held(self._link, now)

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on; with `finalize`, ask for outstanding tokens first.

        Raises `SonioxStateError` if the session is not connected, finished or closed.
        """
        self._require(SessionInput.PAUSE)
        if not self._paused:
            if finalize:
                self.finalize(now)
            self._paused = True

    def resume(self, now: float) -> None:
        """Send audio again. Safe to repeat.

        Raises `SonioxStateError` if the session is not connected or closed.
        """
        self._require(SessionInput.RESUME)
        self._advance(now)
        self._paused = False

    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any], now: float) -> None:
        """Go on with another configuration, on another connection.

        It takes effect at the next endpoint or answered finalize: at once if no word has come since
        the last one, and after 30 s at the latest. A `RolledOver` says so. If the service refuses
        the configuration, the session ends with its error.

        Args:
            config: The whole configuration. The audio has to be what it is.
            now: The time, in seconds.

        Raises:
            SonioxValidationError: The configuration cannot be used, or declares other audio.
            SonioxStateError: The session is not connected, finished or closed, or its audio cannot
                go on on another connection.
        """
        checked = checked_config(config)
        self._require(SessionInput.KEEP_ALIVE)
        self._audio.reconfigure(checked)
        now = self._advance(now)
        declared = start_message(checked)
        self._config = checked
        if declared == self._declared:
            return
        self._declared = declared
        # The next call of `handle_timeout` opens a link, and it is due at once.
        self._rolling.require(now)

    def close(self, now: float) -> None:
        """End the session with the close handshake, if there is a connection. Safe to repeat."""
        now = self._advance(now)
        self._end_with_link(Outcome.CLOSED_LOCALLY, None)
        self._link.connection.close(now)

    def abort(self, now: float) -> None:
        """End the session at once. Safe to repeat."""
        now = self._advance(now)
        self._end_with_link(Outcome.ABORTED, None)
        self._link.connection.abort(now)

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """End the session because of `error`; no new connection is made."""
        now = self._advance(now)
        if self._idle:
            return []
        self._end_with_link(Outcome.LOST, error)
        events = self._link.connection.fail(error, now, close_code=close_code)
        return self._take(self._link, events, now)

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, on every link; deadlines of the peer rest.

        No link can be opened meanwhile: the answer to its upgrade would not be read.
        """
        now = self._advance(now)
        link = self._link
        self._reading_paused = True
        if self._links.opened and link.opened_at is None and not link.abandoned and not self._over:
            link.abandon(now)
            self._retry_at = now
        self._rolling.rest(now)
        for link in self._present_links:
            link.connection.pause_reading(now)

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        now = self._advance(now)
        self._reading_paused = False
        self._rolling.resume(now)
        for link in self._present_links:
            link.connection.resume_reading(now)

    # Inside

    def _advance(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _require(self, session_input: SessionInput) -> None:
        """Raise unless the user may do this now."""
        reason = refusal(self.state, session_input, end_of_audio=self._sending.end_asked)
        if reason is not None:
            cause = self.error
            error = SonioxStateError(f"{reason}: {cause}" if cause else reason)
            error.flight_record = self._flight_recorder.record()
            raise error from cause

    def _clock(self) -> AudioClock:
        """Return when audio was captured; raises `SonioxValidationError` for containers."""
        if self._audio_clock is None:
            self._audio_clock = AudioClock(self._config)
        return self._audio_clock

    def _make_link(self) -> RecoverableLink:
        config = self._audio.config
        if self._policy.carry_context:
            config = with_said(config, self._heard.given.text)
        return self._links.make(config)

    @property
    def _present_links(self) -> list[RecoverableLink]:
        """The present link, and those beside it during a roll-over."""
        return [self._link, *self._rolling.links]

    def _take(self, link: RecoverableLink, events: list[Event], now: float) -> list[Event]:
        """Turn events of a connection into those of the session."""
        now = self._advance(now)
        given = self._take_events()
        given += self._read_events(link, events, now)
        given += self._take_events()
        given += self._roll_over(now)
        self._links.count(link)
        return given + self._take_events()

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
                    self._over = True
                    self._rolling.drop_standby(now)
                    given.append(Finished(finished))
                case ServerError(error):
                    if not self._recovers(link, error, now):
                        self._over = True
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
        self._stats.replayed_audio_ms += replay.replayed_ms
        link.begins_ms = replay.begins_ms
        link.clock = ClockMap(replay.begins_ms)
        if draining is None:
            self._read_from(link, now, answered_finalizes=replay.answered_finalizes)
        self._send_held(link, now)
        return replay

    def _read_from(self, link: RecoverableLink, now: float, *, answered_finalizes: int = 0) -> None:
        translates = self._config.translation is not None
        self._reading.begin(link, now, translates=translates, answered_finalizes=answered_finalizes)

    def _read(self, link: RecoverableLink, event: Result, now: float) -> list[Event]:
        # Results come in answer to audio, so the connection has proven itself.
        self._attempts.restart()
        draining = link is self._rolling.draining
        if not draining:
            self._rolling.note_result(event.message, now)
        return self._reading.read(link, event, now, draining=draining)

    def _send_held(self, link: RecoverableLink, now: float) -> None:
        """Send what is held for a link, as far as it may be sent now."""
        if self._over:
            self._sending.pace_at = None
        else:
            self._sending.send_held(link, now)

    # Roll-over

    @property
    def _may_roll_over(self) -> bool:
        """Whether the audio can go on on another link, if there is to be any more."""
        return self._sending.is_raw and not self._sending.end_asked

    def _roll_over(self, now: float) -> list[Event]:
        """Take the step of a roll-over that is due, if one is."""
        if self._over or self._reading_paused:
            return []
        step = self._rolling.due(self._link, now, possible=self._may_roll_over)
        if step is Step.SWITCH:
            return self._switch(now)
        if step is Step.RELEASE:
            return self._release(now)
        if step is Step.OPEN:
            self._rolling.open_standby(self._make_link(), now)
        return []

    def _switch(self, now: float) -> list[Event]:
        """Send the audio to the standby from now on."""
        before = self._link
        self._link = link = self._rolling.switch(before, now)
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
        link, before = self._link, self._rolling.release(now)
        self._sending.note_missing(link, self._heard)
        self._sending.end_draining(before, link)
        self._read_from(link, now)
        self._send_held(link, now)
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
        self._links.abandon(self._link, now)
        self._link = link
        self._rolling.begin()
        return True

    # The end of a link, and of the session

    def _recovers(self, link: RecoverableLink, error: SonioxRealtimeError, now: float) -> bool:
        """Do without a link that has ended; return False if the session ends with it."""
        if self._over:
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
            self._link = standby
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
        self._over = True

    def _end(self, closed: Closed) -> None:
        self._rolling.drop_standby(self._now)
        self._over = True
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
