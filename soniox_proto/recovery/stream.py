"""A session that survives the loss of its connection.

`RecoveringSTTStream` is a `Stream` with one link after the other. It keeps the audio whose words
are not final yet, and the finalizes that are not answered (`kept_audio.py`). When a link is lost,
refused or ended with an error that is worth another try, it waits as long as its policy says, asks
for a new link, and sends again what the service has not heard, from a little before the first
missing word. What comes back is moved onto the clock of the user's audio, and words that were given
out before are left out (`heard.py`, `clock_map.py`). So the user sees one session, whose final
tokens are those of a session without a loss, unless more audio was held than may be kept.

A session may also replace its link before that is lost (`rollover.py`), and has two for a while.

Here is what the user calls and sees: whether a call is allowed now, what it takes, what it counts.
What becomes of the links meanwhile, and so of the session, is in `succession.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from typing_extensions import Unpack

from soniox_proto.audio_clock import AudioClock
from soniox_proto.config import RealtimeSTTConfig, checked_config
from soniox_proto.connection import ConnectionKeywords, RealtimeSTTConnection
from soniox_proto.credentials import APIKey
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import (
    SonioxRealtimeError,
    SonioxStateError,
)
from soniox_proto.events import (
    Event,
    Outcome,
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
from soniox_proto.recovery.audio_input import AudioInput
from soniox_proto.recovery.policy import ReconnectPolicy
from soniox_proto.recovery.sending import Sending
from soniox_proto.recovery.succession import Succession
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
        "_audio",
        "_audio_clock",
        "_declared",
        "_flight_recorder",
        "_idle",
        "_paused",
        "_sending",
        "_stats",
        "_succession",
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
        checked = checked_config(config)
        # What links declare. A configuration can be changed in place.
        self._declared = start_message(checked)
        self._audio = AudioInput(checked)
        self._audio_clock: AudioClock | None = None
        self._flight_recorder = FlightRecorder()
        self._stats = SessionStats(bytes_per_second=checked.bytes_per_second)
        self._sending = Sending(reconnect, self._audio, self._stats)
        self._succession = Succession(
            reconnect,
            self._audio,
            self._sending,
            self._stats,
            self._flight_recorder,
            partial(RealtimeSTTConnection, url, api_key=api_key, **options),
            config=checked,
            keys_are_fresh=options.get("asks_for_key", False),
            drain_timeout=options.get("close_timeout", DEFAULT_CLOSE_TIMEOUT),
        )
        self._idle = True
        self._paused = False

    # Views

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect to."""
        return self._succession.link.endpoint

    @property
    def config(self) -> RealtimeSTTConfig:
        """Configuration of the stream, as it was given last."""
        return self._succession.config

    @property
    def state(self) -> SessionState:
        """Where the session is in its life; a missing connection does not change it."""
        if self.closed:
            return SessionState.CLOSED
        if self._idle:
            return SessionState.IDLE
        if self._succession.over:
            return SessionState.CLOSING
        if not self._succession.was_open:
            return SessionState.CONNECTING
        return SessionState.FINISHING if self._sending.end_asked else SessionState.OPEN

    @property
    def paused(self) -> bool:
        """Whether audio is being dropped."""
        return self._paused

    @property
    def closed(self) -> bool:
        """Whether the session is over, and every byte stream may be closed."""
        return self._succession.closed

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain, and if it was never started."""
        return self._succession.outcome

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if an error did."""
        return self._succession.error

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The latest message of the service."""
        return self._succession.last_message

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
        if self._paused or self._sending.end_asked or self._succession.over:
            return False
        return self._sending.full and not (
            self._succession.link.is_open and self._succession.link.caught_up
        )

    # Output and time

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        return self._succession.links_to_open()

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        return self._succession.next_timeout()

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        return self._succession.handle_timeout(now)

    # Calls by the user

    def connect(self, now: float) -> None:
        """Ask for the first link. Audio sent from now on is kept until it is open.

        Raises `SonioxStateError` unless the session is new.
        """
        self._require(SessionInput.CONNECT)
        self._idle = False
        self._succession.begin(self._succession.advance(now))

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
        self._sending.require_room(self._succession.link)
        stats = self._stats
        if captured_at is not None:
            self._clock().sent(stats.sent_audio_bytes, len(data), captured_at)
        stats.sent_audio_bytes += len(data)
        stats.sent_audio_chunks += 1
        now = self._succession.advance(now)
        if now >= stats.note_due:
            stats.note_audio(now)
        self._sending.send_audio(self._succession.link, data, now)

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
        now = self._succession.advance(now)
        index = self._stats.sent_finalizes
        self._stats.sent_finalizes += 1
        self._stats.finalized_audio_bytes = self._stats.sent_audio_bytes
        self._sending.finalize(index, now, trailing_silence_ms)
        self._succession.send_held(now)

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive; while no link is open there is nothing to keep alive.

        Raises `SonioxStateError` if the session is not connected, finished or closed.
        """
        self._require(SessionInput.KEEP_ALIVE)
        now = self._succession.advance(now)
        if self._succession.link.is_open:
            self._succession.link.connection.keep_alive(now)

    def finish(self, now: float) -> None:
        """End the audio; the service answers with the rest and the finished response.

        Raises `SonioxStateError` if the session is not connected, or if it ended without
        end-of-audio.
        """
        again = self._sending.end_asked
        self._require(SessionInput.FINISH_AGAIN if again else SessionInput.FINISH)
        now = self._succession.advance(now)
        if again:
            return
        self._sending.end_audio(self._succession.link)
        self._succession.end_audio(now)

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
        self._succession.advance(now)
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
        now = self._succession.advance(now)
        declared = start_message(checked)
        self._succession.config = checked
        if declared == self._declared:
            return
        self._declared = declared
        self._succession.require_another(now)

    def close(self, now: float) -> None:
        """End the session with the close handshake, if there is a connection. Safe to repeat."""
        self._succession.close(self._succession.advance(now))

    def abort(self, now: float) -> None:
        """End the session at once. Safe to repeat."""
        self._succession.abort(self._succession.advance(now))

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """End the session because of `error`; no new connection is made."""
        now = self._succession.advance(now)
        if self._idle:
            return []
        return self._succession.fail(error, now, close_code)

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, on every link; deadlines of the peer rest.

        No link can be opened meanwhile: the answer to its upgrade would not be read.
        """
        self._succession.pause_reading(now)

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        self._succession.resume_reading(now)

    # What the calls above have in common

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
            self._audio_clock = AudioClock(self._succession.config)
        return self._audio_clock
