"""The message layer: what a client says on a WebSocket, what the answers mean, and when.

`RealtimeSTTProtocol` knows no bytes, frames or sockets, so any WebSocket library can carry it: feed
every message, send what `messages_to_send` returns, call `handle_timeout` at `next_timeout`, and
close the WebSocket once `close_code` is set. `RealtimeSTTConnection` is such a driver. The order of
things is in `state.py` and is not repeated here; this module says what they do.

The life of a session
---------------------

`connect` notes that a WebSocket is being opened. The user may send from that moment on, because a
microphone that waits for the handshake loses the first words. Everything sent is held in order, and
audio counts against `max_pending_audio`. While paused, audio is dropped instead, as it is later.

`start` notes that the WebSocket is open, and puts the start message in front of what was held: the
service wants the configuration before any audio (Soniox docs, "WebSocket API"), and only once.
There is no acknowledgement to wait for; if the configuration is refused, an error message says so.
Timers that concern the service begin here, not at `connect`: it cannot answer a finalize, or miss
a keepalive, before there is a WebSocket.

Then audio and controls go out as they come, and messages come back:

==================  ================================================================================
what we send        what answers it
==================  ================================================================================
audio               results, in their own time; a chunk has no answer of its own
keepalive           nothing
finalize            the pending tokens as final ones, then a `<fin>` token, in practice in one
                    message. Several finalizes are answered in the order in which they were sent.
end-of-audio        the remaining results, the finished response, then a close frame (1000)
a mistake           an error message, then a close frame, usually 1000 as well
a close frame       a close frame
==================  ================================================================================

Since the service closes with code 1000 after success and failure alike, the close code says little.
The messages before it decide.

How a session ends
------------------

A session may end in several ways at once: the user calls `close` while the finished response is on
its way, or the connection breaks right after an error message. One `Closed` event reports one
`Outcome`, decided by the first of these that applies:

1. The finished response or an error message, whichever came first, even if it came after `close`
   or the connection broke afterwards. Once it is here, the transcript is complete or the cause is
   known, and nothing later makes that less true.
2. `abort`, unless the session was already over.
3. `close`. Losing the connection while it waits is no error, since the user has left.
4. The way the connection ended: `REJECTED`, `CLOSED_BY_SERVER` or `LOST`.

A clean close without a finished response is never `FINISHED`, so a transcript that was cut short
cannot pass for a complete one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from soniox_proto.audio_clock import AudioClock
from soniox_proto.config import RealtimeSTTConfig, checked_config
from soniox_proto.credentials import APIKey, Authentication
from soniox_proto.errors import (
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxStateError,
    SonioxTimeoutError,
)
from soniox_proto.events import (
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    Outcome,
    Result,
    ServerError,
    SessionStats,
)
from soniox_proto.flight_recorder import FlightRecorder
from soniox_proto.messages import (
    END_OF_AUDIO,
    KEEPALIVE_MESSAGE,
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    EventParser,
    RealtimeEvent,
    audio_bytes,
    finalize_message,
    is_error,
    may_hold_marker,
    start_message,
    with_api_key,
    without_key,
)
from soniox_proto.options import (
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_KEEPALIVE_INTERVAL,
    DEFAULT_MAX_PENDING_AUDIO,
    check_capture_time,
    check_seconds,
    check_size,
)
from soniox_proto.received_model import fields_of
from soniox_proto.speech_end import SpeechEnd
from soniox_proto.state import (
    TRANSITIONS,
    WHY_NOT,
    SessionInput,
    SessionState,
    refusal,
)
from soniox_proto.timers import Timer, TimerTable

__all__ = ["RealtimeSTTProtocol"]

# Looked up once: in Python 3.10 and 3.11 each look-up of an enum's member costs as much as a call,
# and these are on the path of every chunk.
_CONNECTING = SessionState.CONNECTING
_OPEN = SessionState.OPEN
_CLOSED = SessionState.CLOSED
_KEEPALIVE = Timer.KEEPALIVE


class _PendingFinalize(NamedTuple):
    """A finalize that has not been answered."""

    number: int
    """Which call it was, counted from 0."""
    asked_at: float
    """When it was asked for, or when the session opened, if that was later."""
    rested: float
    """`TimerTable.time_at_rest` when it was asked for, in seconds. Rest since then is added to the
    deadline, because the answer may have been waiting unread."""


class RealtimeSTTProtocol:
    """One speech-to-text session as a pure state machine over whole WebSocket messages.

    Times are seconds (float) on any monotonic clock; the machine never reads one itself. Calls by
    the user raise if the user made a mistake, and then change nothing. Calls that feed never raise
    because of the peer: they return events, and the last event of every session is one `Closed`.

    A user call may end the session too (`abort`, or `close` before it is open). It returns no
    events, so `Closed` waits for the next call that feeds, and `next_timeout` is due at once.

    Args:
        config: Configuration of the stream, or a mapping of its fields. It is checked and
            serialized now and sent by `start`; changing it later has no effect.
        api_key: API key to put into the start message. That form of authentication is deprecated,
            and refused by the service from 15 January 2027 (Soniox docs, "Migrate WebSocket
            authentication"). Otherwise the key goes into the WebSocket's upgrade request.
        hidden_key: A key that was sent outside the messages, to be redacted wherever the service
            repeats it in an error message or a close reason.
        connect_timeout: Seconds from `connect` to `start`, or None for no limit.
        close_timeout: Seconds to wait for the peer's close frame before closing anyway, or None
            for no limit.
        keepalive_interval: Seconds without audio after which a keepalive goes out, paused or not;
            None for no keepalives. The service may close after 20 s without audio or keepalive.
        finalize_timeout: Seconds that the service may take to answer a finalize, or None for no
            limit.
        max_pending_audio: Bytes of audio held before `start`.

    Raises:
        SonioxValidationError: The configuration, the key or an option cannot be used.
    """

    # Slots: with thousands of sessions cache misses dominate.
    __slots__ = (
        "__weakref__",
        "_api_key",
        "_audio_clock",
        "_close_code",
        "_close_timeout",
        "_closed_by_user",
        "_config",
        "_connect_timeout",
        "_end_of_audio",
        "_error",
        "_events",
        "_final_outcome",
        "_finalize_timeout",
        "_hidden_key",
        "_keepalive_interval",
        "_last_message",
        "_max_pending_audio",
        "_now",
        "_opened",
        "_outbox",
        "_outcome",
        "_parser",
        "_paused",
        "_pending_audio",
        "_pending_finalizes",
        "_server_error",
        "_speech_end",
        "_start_message",
        "_state",
        "_stats",
        "_takes_messages",
        "_timers",
        "flight_recorder",
    )

    def __init__(
        self,
        config: RealtimeSTTConfig | Mapping[str, Any],
        *,
        api_key: str | APIKey | None = None,
        hidden_key: str | APIKey | None = None,
        connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT,
        close_timeout: float | None = DEFAULT_CLOSE_TIMEOUT,
        keepalive_interval: float | None = DEFAULT_KEEPALIVE_INTERVAL,
        finalize_timeout: float | None = None,
        max_pending_audio: int = DEFAULT_MAX_PENDING_AUDIO,
    ) -> None:
        self._config = checked_config(config)
        self._start_message = start_message(self._config)
        self._hidden_key = (
            None if hidden_key is None else APIKey.checked(hidden_key, Authentication.HEADER)
        )
        self._api_key: APIKey | None = None
        if api_key is not None:
            self._api_key = APIKey.checked(api_key, Authentication.MESSAGE)
            self._hidden_key = self._hidden_key or self._api_key
            # The byte layer passes a key that it has wrapped already. The line to blame is then the
            # one that called the byte layer.
            _warn_of_key_in_message(3 if isinstance(api_key, APIKey) else 2)
        self._connect_timeout = check_seconds("connect_timeout", connect_timeout)
        self._close_timeout = check_seconds("close_timeout", close_timeout)
        self._keepalive_interval = check_seconds("keepalive_interval", keepalive_interval)
        self._finalize_timeout = check_seconds("finalize_timeout", finalize_timeout)
        self._max_pending_audio = check_size("max_pending_audio", max_pending_audio)

        self._state = SessionState.IDLE
        self._takes_messages = SessionInput.RESULT in TRANSITIONS[SessionState.IDLE]
        self._paused = False
        self._end_of_audio = False
        self._closed_by_user = False
        # Whether the WebSocket is open, as far as the service bills for it.
        self._opened = False
        self._now = float("-inf")
        self._timers = TimerTable()
        self._outbox: list[str | bytes] = []
        self._pending_audio = 0
        self._pending_finalizes: list[_PendingFinalize] = []
        self._events: list[Event] = []
        self._server_error: SonioxServerError | None = None
        self._final_outcome: Outcome | None = None
        self._close_code: int | None = None
        self._outcome: Outcome | None = None
        self._error: SonioxRealtimeError | None = None
        self._last_message: RealtimeEvent | None = None
        self._speech_end = SpeechEnd()
        # Made when first needed: until a finalize the service's clock is that of the audio.
        self._audio_clock: AudioClock | None = None
        self._stats = SessionStats(bytes_per_second=self._config.bytes_per_second)
        self._parser = EventParser()
        self.flight_recorder = FlightRecorder()
        """What happened last. A session of several connections gives them one for all."""

    # Views

    @property
    def config(self) -> RealtimeSTTConfig:
        """Configuration of the stream."""
        return self._config

    @property
    def state(self) -> SessionState:
        """Where the session is in its life."""
        return self._state

    @property
    def paused(self) -> bool:
        """Whether audio is being dropped."""
        return self._paused

    @property
    def closed(self) -> bool:
        """Whether the session is over and the transport may be closed."""
        return self._state is _CLOSED

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain, and if it was never started.

        It is certain from the finished response or the error message on, before the `Closed`
        event.
        """
        # After `close` a finished response may still come, and would overrule it.
        if self._final_outcome is Outcome.CLOSED_LOCALLY:
            return self._outcome
        return self._outcome or self._final_outcome

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if an error did."""
        return self._error

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The latest message of the service."""
        return self._last_message

    @property
    def stats(self) -> SessionStats:
        """Counters of the session so far."""
        return self._stats

    @property
    def close_code(self) -> int | None:
        """Code with which to close the WebSocket now; None while it should stay open.

        Once set it stays set, whether or not a close frame can still be sent.
        """
        return self._close_code

    @property
    def connect_by(self) -> float | None:
        """When `start` must have been called; None for no limit, and after it was called."""
        return self._timers.deadlines.get(Timer.CONNECT)

    def sent_position_ms(self, server_ms: float) -> int:
        """Return where a position of the service lies in the audio that was sent, in ms.

        They differ after a finalize, which pads the service's clock with silence (see
        `server_clock.py`). Audio that was dropped while paused counts on neither.

        Raises `SonioxValidationError` unless the audio format is a raw one.
        """
        return round(self._clock().sent_position_ms(server_ms, self._stats.sent_audio_bytes))

    def captured_at(self, server_ms: float) -> float | None:
        """Return when the audio at a position of the service was captured, in seconds.

        On the clock of the `captured_at` that was given with the audio, to within 50 ms; None
        where none was given, and for audio of long ago if its capture was broken off very often.

        Raises `SonioxValidationError` unless the audio format is a raw one.
        """
        return self._clock().captured_at(server_ms, self._stats.sent_audio_bytes)

    # Output and time

    def messages_to_send(self) -> list[str | bytes]:
        """Return the messages to send now, in order: text for `str`, binary for `bytes`."""
        # Before the start message everything is held; before `connect` nothing can be queued.
        if not self._outbox or self._state is _CONNECTING:
            return []
        messages, self._outbox = self._outbox, []
        return messages

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running.

        Ask again after every other call, since each may change it.
        """
        # Events left by a user call are due at once: only a call that feeds can return them.
        return self._now if self._events else self._timers.next_timeout()

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        now = self._advance(now)
        for timer in self._timers.expire(now):
            if timer is Timer.KEEPALIVE:
                self._queue_keepalive(now)
            elif timer is Timer.CLOSE:
                self._close_code = self._close_code or 1000
                self._end(Outcome.LOST, code=1006)
            else:
                self._fail(self._timeout_error(timer), close_code=1011)
        return self._take_events()

    # Calls by the user

    def connect(self, now: float) -> None:
        """Note that the WebSocket is being opened. Whatever the user sends is held until `start`.

        Raises `SonioxStateError` unless the session is new.
        """
        self._require(SessionInput.CONNECT)
        now = self._advance(now)
        self._enter(SessionInput.CONNECT)
        self._timers.start(Timer.CONNECT, now, self._connect_timeout)

    def authenticate(self, api_key: APIKey, *, in_message: bool) -> None:
        """Take the key of a session that was made without one, before `start`.

        Args:
            api_key: The key, checked by the caller.
            in_message: Whether to put it into the start message; otherwise it is only redacted.
        """
        self._hidden_key = api_key
        if in_message:
            self._api_key = api_key
            _warn_of_key_in_message(3)

    def start(self, now: float) -> None:
        """Note that the WebSocket is open: queue the start message, then everything held.

        Raises `SonioxStateError` if the session was started before, or is over.
        """
        self._require(SessionInput.START)
        now = self._advance(now)
        self._enter(SessionInput.START)
        self._opened = True
        self._stats.note_link_opened(now)
        self._timers.stop(Timer.CONNECT)
        message = self._start_message
        if self._api_key is not None:
            message = with_api_key(message, self._api_key.reveal())
        self._outbox.insert(0, message)
        self._restart_keepalive(now)
        # A finalize that was held is on its way from now on, so its deadline and its round trip
        # count from now.
        rested = self._timers.time_at_rest(now)
        self._pending_finalizes = [
            asked._replace(asked_at=now, rested=rested) for asked in self._pending_finalizes
        ]
        self._arm_finalize_timer()
        if self._end_of_audio:
            self._enter(SessionInput.FINISH)

    def send_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> None:
        """Queue a chunk of audio. An empty one is ignored; while paused, chunks are dropped.

        Send audio at about the speed at which it was spoken: long bursts and long gaps may end the
        session (Soniox docs, "Error handling").

        Args:
            chunk: The audio.
            now: The time, in seconds.
            captured_at: When the chunk's first sample was captured, in seconds on any clock; see
                `captured_at`. For raw audio formats only.

        Raises:
            TypeError: The chunk is not bytes.
            SonioxValidationError: The chunk is a memoryview that is not contiguous, or
                `captured_at` is no time or cannot be used with this audio format.
            SonioxStateError: The session is not connected, finished or closed, or more than
                `max_pending_audio` bytes would wait for it to open.
        """
        message = self.take_audio(chunk, now, captured_at)
        if message is not None:
            self._outbox.append(message)

    def take_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> bytes | None:
        """Do as `send_audio`, but return the message if it can be sent at once.

        For drivers that send each message as it is made. It then waits in no queue, which is a
        twentieth of what sending a chunk costs.
        """
        data = chunk if type(chunk) is bytes else audio_bytes(chunk)
        state = self._state
        # Not looked up in OPEN, whose row accepts audio: this runs for every chunk.
        if state is not _OPEN:
            self._require(SessionInput.AUDIO)
        size, stats = len(data), self._stats
        clock = None
        if captured_at is not None:
            captured_at, clock = check_capture_time(captured_at), self._clock()
        # An empty binary message ends nothing and is not audio either, so it is never sent.
        if not size:
            return None
        if self._paused:
            stats.dropped_while_paused_bytes += size
            return None
        if state is _CONNECTING:
            self._hold_audio(data)
        if clock is not None and captured_at is not None:
            clock.sent(stats.sent_audio_bytes, size, captured_at)
        stats.sent_audio_bytes += size
        stats.sent_audio_chunks += 1
        if now > self._now:
            self._now = now
        if now >= stats.note_due:
            stats.note_audio(self._now)
        if state is not _OPEN:
            return None
        self._timers.start(_KEEPALIVE, self._now, self._keepalive_interval)
        return data

    def _hold_audio(self, data: bytes) -> None:
        """Count audio that is held until the session is open, or refuse it.

        Audio that does not fit is refused, not dropped: a gap would spoil the transcript unnoticed.
        """
        size = len(data)
        if self._pending_audio + size > self._max_pending_audio:
            raise SonioxStateError(
                f"the session is not open yet and {self._pending_audio} bytes of audio are already "
                f"waiting for it; max_pending_audio ({self._max_pending_audio}) allows no more"
            )
        self._pending_audio += size
        self._outbox.append(data)

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; a `Finalized` event is the answer.

        Every few seconds is often enough: the service may disconnect a client that does it too
        often (Soniox docs, "Manual finalization"). Each finalize also moves the positions of later
        tokens, by padding the service's clock with 1 to 120 ms of silence (see `server_clock.py`).

        Args:
            now: The time, in seconds.
            trailing_silence_ms: Silence already sent after the speech, in ms. The service then
                adds less of its own and answers sooner.

        Raises:
            SonioxStateError: The session is not connected, finished or closed.
            SonioxValidationError: `trailing_silence_ms` is not a whole number of 0 or more.
        """
        self._require(SessionInput.FINALIZE)
        message = finalize_message(trailing_silence_ms)
        now = self._advance(now)
        rested = self._timers.time_at_rest(now)
        stats = self._stats
        if self._config.bytes_per_second is not None:
            self._clock().finalize(stats.sent_audio_bytes)
        self._pending_finalizes.append(_PendingFinalize(stats.sent_finalizes, now, rested))
        stats.sent_finalizes += 1
        stats.finalized_audio_bytes = stats.sent_audio_bytes
        self._note("finalize", trailing_silence_ms)
        self._outbox.append(message)
        self._arm_finalize_timer()

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive now. The session sends them by itself whenever they are due.

        Raises `SonioxStateError` if the session is not connected, finished or closed.
        """
        self._require(SessionInput.KEEP_ALIVE)
        self._queue_keepalive(self._advance(now))

    def finish(self, now: float) -> None:
        """Queue end-of-audio; the service answers with the rest and the finished response.

        It is sent at most once. Calling this again has no effect, at any later time, so cleanup
        code need not know whether the audio was finished. Keepalives stop: there is no more audio
        to wait for.

        Raises `SonioxStateError` if the session is not connected, or if it ended without
        end-of-audio.
        """
        self._require(SessionInput.FINISH_AGAIN if self._end_of_audio else SessionInput.FINISH)
        self._advance(now)
        if not self._end_of_audio:
            self._queue_end_of_audio()
            self._enter(SessionInput.FINISH)

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on; with `finalize`, ask for outstanding tokens first.

        Without the finalize, the last words before the pause may stay provisional until audio flows
        again. Keepalives continue. Safe to repeat.

        Raises `SonioxStateError` if the session is not connected, finished or closed.
        """
        self._require(SessionInput.PAUSE)
        # A repeated pause sends no second finalize.
        if self._paused:
            return
        if finalize:
            self.finalize(now)
        self._advance(now)
        self._note("pause")
        self._paused = True

    def resume(self, now: float) -> None:
        """Send audio again. Safe to repeat.

        Raises `SonioxStateError` if the session is not connected or closed.
        """
        self._require(SessionInput.RESUME)
        self._advance(now)
        if self._paused:
            self._note("resume")
        self._paused = False

    def close(self, now: float) -> None:
        """End the session: queue end-of-audio if audio was sent without one, then set `close_code`.

        This does not wait for the rest of the transcript; to get it, call `finish` and wait for
        `Finished`. Whatever arrives before the server's close frame is still delivered. Safe to
        repeat, in any state.
        """
        now = self._advance(now)
        if self._state is not _CLOSED:
            self._note("close")
        match self._state:
            case SessionState.IDLE:
                self._enter(SessionInput.CLOSE)
            case SessionState.CONNECTING:
                self._final_outcome = Outcome.CLOSED_LOCALLY
                self._end(Outcome.CLOSED_LOCALLY, code=None)
            case SessionState.OPEN | SessionState.FINISHING | SessionState.CLOSING:
                if self._state is SessionState.OPEN and self._stats.sent_audio_bytes:
                    self._queue_end_of_audio()
                self._final_outcome = self._final_outcome or Outcome.CLOSED_LOCALLY
                # From here on every wait is bounded by `close_timeout`, even if nobody reads.
                self._closed_by_user = True
                self._timers.resume(now)
                self._begin_closing(SessionInput.CLOSE, now)
                self._close_code = self._close_code or 1000
            case _:
                pass

    def abort(self, now: float) -> None:
        """End the session at once, without end-of-audio and without waiting. Safe to repeat.

        If the session was open, `close_code` becomes 1001 ("going away", RFC 6455 section 7.4.1),
        for drivers that can still send a close frame.
        """
        self._advance(now)
        if self._state is not _CLOSED:
            self._note("abort")
        if self._state is SessionState.IDLE:
            self._enter(SessionInput.ABORT)
        elif self._state is not SessionState.CLOSED:
            if self._state is not SessionState.CONNECTING:
                self._close_code = self._close_code or 1001
            # `abort` after `close` is an abort: nobody waited for the close handshake.
            if self._final_outcome is Outcome.CLOSED_LOCALLY:
                self._final_outcome = None
            self._end(Outcome.ABORTED, code=None)

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, as backpressure. Safe to repeat.

        What the service owes us (the answer to a finalize, its close frame) may be waiting unread,
        so its deadlines rest until `resume_reading`. After `close` they do not rest, because
        closing must end within `close_timeout`.
        """
        now = self._advance(now)
        if not self._closed_by_user:
            self._timers.rest(now)

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again: deadlines continue with the time they had left.

        Safe to repeat; without a `pause_reading` before it nothing changes.
        """
        self._timers.resume(self._advance(now))

    # Calls that feed

    def receive_message(self, data: str | bytes, now: float) -> list[Event]:
        """Take one message of the service and return the events that it causes.

        Anything that is not a message of the protocol ends the session, with `close_code` 1007.
        Messages after `Closed` are ignored.

        Raises `SonioxStateError` before `start`, when a message can only be the driver's mistake.
        """
        return self.receive_messages((data,), now)

    def receive_messages(self, messages: Iterable[str | bytes], now: float) -> list[Event]:
        """Take messages of the service, in order; the result is that of one call for each.

        Raises `SonioxStateError` before `start`, when a message can only be the driver's mistake.
        """
        if not self._takes_messages:
            self._refuse(WHY_NOT[self._state])
        now = self._advance(now)
        events, self._events = self._events, []
        parse, stats = self._parser.parse, self._stats
        for data in messages:
            if self._state is _CLOSED:
                break
            try:
                message = parse(data)
            except SonioxProtocolError as error:
                # The error is kept, and its traceback would keep these frames alive too.
                self._fail(error.with_traceback(None), close_code=error.close_code)
            else:
                stats.received_messages += 1
                fields = fields_of(message)
                failed = is_error(fields)
                if failed and self._hidden_key is not None:
                    message, data = without_key(message, data, self._hidden_key)
                self._last_message = message
                # Every message is a `Result` first, so that a reader of results alone misses none.
                events.append(Result(message, data))
                processed_ms = fields.get("total_audio_proc_ms")
                if processed_ms is not None:
                    stats.processed_audio_ms = processed_ms
                if stats.time_to_first_token is None and message.tokens:
                    stats.note_tokens(message.tokens, now)
                if may_hold_marker(data):
                    self._find_markers(message, now)
                else:
                    self._speech_end.follow(message, fields.get("final_audio_proc_ms"))
                if failed:
                    self._receive_error(message, now)
                elif fields.get("finished"):
                    self._receive_finished(message, now)
            if self._events:
                events += self._take_events()
        return events

    def receive_close(self, code: int | None, reason: str, now: float) -> list[Event]:
        """Take the close frame of the server; None and 1005 both stand for one without a code.

        1005 is RFC 6455's own name for that (section 7.1.5); other libraries use None.
        """
        self._advance(now)
        if self._state is SessionState.IDLE:
            return []
        code = 1005 if code is None else code
        self._note("close frame", code)
        if self._hidden_key is not None:
            reason = self._hidden_key.redact(reason)
        # A normal closure is no error of the connection; whether the transcript is complete was
        # decided by the messages before it.
        if code in {1000, 1001}:
            self._end(Outcome.CLOSED_BY_SERVER, code=code, reason=reason)
        else:
            text = f"the server closed the connection with code {code}"
            error = SonioxConnectionError(
                f"{text} ({reason})" if reason else text, close_code=code, reason=reason
            )
            self._end(Outcome.LOST, code=code, reason=reason, error=error)
        return self._take_events()

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """Note that the WebSocket failed, or could not be opened, because of `error`.

        The outcome is `REJECTED` for a `SonioxHandshakeError`, else `LOST`. If a close frame can
        still be sent, pass its code as `close_code`.
        """
        self._advance(now)
        if self._state is not SessionState.IDLE:
            self._fail(error, close_code=close_code)
        return self._take_events()

    # Inside

    def _advance(self, now: float) -> float:
        """Return `now`, or the latest one if it is earlier.

        Threads that read the clock before they take a lock may arrive in the wrong order. A time
        that went backwards would move deadlines back and give negative round trips.
        """
        if now > self._now:
            self._now = now
        return self._now

    def _enter(self, session_input: SessionInput) -> None:
        state = TRANSITIONS[self._state][session_input]
        if state is not self._state:
            self._note("state", state)
        self._state = state
        # Kept, because every message asks, and looking it up hashes two enum members.
        self._takes_messages = SessionInput.RESULT in TRANSITIONS[state]

    def _note(self, what: str, detail: object = None) -> None:
        """Add to the flight recorder what neither repeats words nor holds a key."""
        stats = self._stats
        self.flight_recorder.note(
            self._now, what, detail, stats.sent_audio_bytes, stats.received_messages
        )

    def _clock(self) -> AudioClock:
        """Return the clock of the audio; raises `SonioxValidationError` for containers."""
        if self._audio_clock is None:
            self._audio_clock = AudioClock(self._config)
            self._stats.clock_map = self._audio_clock.clock_map
        return self._audio_clock

    def _require(self, session_input: SessionInput) -> None:
        """Raise unless the user may do this now."""
        reason = refusal(self._state, session_input, end_of_audio=self._end_of_audio)
        if reason is not None:
            self._refuse(reason)

    def _refuse(self, reason: str) -> NoReturn:
        cause = self._error or self._server_error
        error = SonioxStateError(f"{reason}: {cause}" if cause else reason)
        error.flight_record = self.flight_recorder.record()
        raise error from cause

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _restart_keepalive(self, now: float) -> None:
        """Postpone the next keepalive, because the service is getting audio or a keepalive."""
        # Not while CONNECTING, when nothing goes out, nor after end-of-audio, when the service
        # expects no more audio.
        if self._state is _OPEN and not self._end_of_audio:
            self._timers.start(Timer.KEEPALIVE, now, self._keepalive_interval)

    def _queue_keepalive(self, now: float) -> None:
        self._note("keepalive")
        self._outbox.append(KEEPALIVE_MESSAGE)
        self._stats.sent_keepalives += 1
        self._restart_keepalive(now)

    def _queue_end_of_audio(self) -> None:
        self._end_of_audio = True
        self._note("end of audio")
        self._outbox.append(END_OF_AUDIO)
        self._timers.stop(Timer.KEEPALIVE)

    def _arm_finalize_timer(self) -> None:
        """Watch over the oldest unanswered finalize. The answers come in order, so one is enough.

        The service marks an answer only with a `<fin>` token, which does not say which finalize it
        belongs to.
        """
        timers = self._timers
        timers.stop(Timer.FINALIZE)
        if self._pending_finalizes and self._state in {SessionState.OPEN, SessionState.FINISHING}:
            first = self._pending_finalizes[0]
            unread = timers.time_at_rest(self._now) - first.rested
            timers.start(Timer.FINALIZE, first.asked_at + unread, self._finalize_timeout)

    def _timeout_error(self, timer: Timer) -> SonioxTimeoutError:
        # The option is not named, because the sessions have their own names for these options.
        if timer is Timer.CONNECT:
            return SonioxTimeoutError(
                f"the server did not accept the WebSocket upgrade within {self._connect_timeout} s",
                operation="connect",
            )
        return SonioxTimeoutError(
            f"the service did not answer a finalize within {self._finalize_timeout} s",
            operation="finalize",
        )

    def _find_markers(self, message: RealtimeEvent, now: float) -> None:
        """Report the markers of a message, in order, and follow where speech ended.

        Markers are always final (Soniox docs, "Endpoint detection", "Manual finalization"), so a
        provisional token with the same text is none. Speech ended where the last final original
        token before the marker ends; the marker's own times may be 0, absent, or that end.
        """
        for index, token in enumerate(message.tokens):
            if not token.is_final:
                continue
            if token.text == TOKEN_TEXT_END:
                position_ms = self._speech_end.position_ms
                self._stats.note_endpoint(position_ms, now)
                self._note("endpoint", position_ms)
                self._events.append(EndpointDetected(message, index, position_ms))
            elif token.text == TOKEN_TEXT_FIN:
                self._events.append(self._finalized(message, index, now))
            else:
                self._speech_end.take(token)

    def _finalized(self, message: RealtimeEvent, index: int, now: float) -> Finalized:
        self._note("finalized")
        # An unexpected `<fin>` is reported all the same; it just answers none of our calls.
        if not self._pending_finalizes:
            return Finalized(message, index, None, None)
        clock = self._audio_clock
        passed_over = 0 if clock is None else clock.finalized(message)
        if passed_over:
            self._note("finalizes without an answer", passed_over)
        asked = self._pending_finalizes[passed_over]
        del self._pending_finalizes[: passed_over + 1]
        self._arm_finalize_timer()
        round_trip = now - asked.asked_at
        self._stats.note_finalized(round_trip, passed_over)
        return Finalized(message, index, asked.number, round_trip)

    def _receive_error(self, message: RealtimeEvent, now: float) -> None:
        error = SonioxServerError.from_message(
            error_code=message.error_code,
            error_type=message.error_type,
            error_message=message.error_message,
            request_id=message.request_id,
            more_info=message.more_info,
        )
        self._note("error message", message.error_type or message.error_code)
        error.flight_record = self.flight_recorder.record()
        # The first end decides. A second one has still been reported as a `Result`.
        if self._final_outcome not in {None, Outcome.CLOSED_LOCALLY}:
            return
        self._final_outcome = Outcome.SERVER_ERROR
        self._server_error = error
        self._events.append(ServerError(error, message))
        self._begin_closing(SessionInput.SERVER_ERROR, now)

    def _receive_finished(self, message: RealtimeEvent, now: float) -> None:
        self._note("finished response")
        if self._final_outcome not in {None, Outcome.CLOSED_LOCALLY}:
            return
        self._final_outcome = Outcome.FINISHED
        self._events.append(Finished(message))
        self._begin_closing(SessionInput.FINISHED, now)

    def _begin_closing(self, session_input: SessionInput, now: float) -> None:
        # Only the close handshake remains. A second cause must not extend its deadline.
        already = self._state is SessionState.CLOSING
        self._enter(session_input)
        if not already:
            self._timers.stop_all()
            self._timers.start(Timer.CLOSE, now, self._close_timeout)

    def _fail(self, error: SonioxRealtimeError, *, close_code: int | None) -> None:
        if self._state is SessionState.CLOSED:
            return
        self._note("failure", type(error).__name__)
        rejected = isinstance(error, SonioxHandshakeError)
        opened = self._state is not SessionState.CONNECTING
        if opened:
            self._close_code = self._close_code or close_code
        self._end(
            Outcome.REJECTED if rejected else Outcome.LOST,
            code=1006 if opened else None,
            error=error,
        )

    def _end(
        self,
        outcome: Outcome,
        *,
        code: int | None,
        reason: str = "",
        error: SonioxRealtimeError | None = None,
    ) -> None:
        """Close, once, with the outcome that the session has already earned, or else `outcome`."""
        if self._state is SessionState.CLOSED:
            return
        # The outcome is set before the state: a signal handler may raise between any two of these
        # lines, and a closed session must have an outcome.
        self._outcome = self._final_outcome or outcome
        self._error = self._server_error if self._final_outcome else error
        self._enter(SessionInput.ENDED)
        self._note("end", self._outcome)
        if self._error is not None:
            self._error.flight_record = self.flight_recorder.record()
        self._timers.stop_all()
        if self._opened:
            self._opened = False
            self._stats.note_link_closed(self._now)
        self._pending_finalizes.clear()
        # What is still queued has nowhere to go, and audio can be large.
        self._outbox.clear()
        self._events.append(Closed(self._outcome, code, reason, self._error))


def _warn_of_key_in_message(stacklevel: int) -> None:
    """Warn the caller of the caller, `stacklevel` frames up."""
    warnings.warn(
        "sending the API key in the start message is deprecated and refused by Soniox "
        "from 15 January 2027; use authentication='header' or 'subprotocol'",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )
