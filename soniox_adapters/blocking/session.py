"""The blocking session: the documented methods, for threads.

`run_loop.py` explains how it works inside (the lock, the reader, the order of a step, the links),
and `steps.py` what signal handlers may do.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Self

from soniox_adapters.blocking.run_loop import Marks, SocketSession
from soniox_adapters.blocking.steps import reentered
from soniox_adapters.session.base import (
    WRITE_SIZE,
    AudioChunk,
    checked_control_type,
    not_audio,
    receive_timeout_error,
)
from soniox_adapters.session.finalizing import (
    DEFAULT_FINALIZE_WAIT,
    FinalizeResult,
    FinalizeWait,
)
from soniox_adapters.session.utterances import utterances_of
from soniox_proto import (
    RealtimeControlType,
    RealtimeEvent,
    RealtimeSTTConfig,
    Result,
    SessionState,
    SonioxRealtimeError,
)
from soniox_proto.messages import audio_bytes
from soniox_proto.options import check_timeout

if TYPE_CHECKING:
    from soniox_proto import Transcript, Utterance

__all__ = ["RealtimeSTTSession"]


class RealtimeSTTSession(SocketSession):
    """A blocking session for one realtime transcription stream, usable from several threads.

    Use it as a context manager: a normal exit closes it, an exit by an exception aborts it. A
    signal handler may call `finish`, `close` and the other controls.
    """

    # Life

    def __enter__(self) -> Self:
        """Connect: name resolution, TCP, TLS, the upgrade and the start message.

        Raises:
            SonioxStateError: The session has been entered before.
            SonioxHandshakeError: The server refused the upgrade.
            SonioxTimeoutError: Connecting took longer than `connect_timeout_sec`.
            SonioxConnectionError: The server cannot be reached, or the connection was lost.
        """
        wanted = self._step(self._connect)
        try:
            for link, connecting in wanted or ():
                self._open(link, connecting)
            self._wait_until(lambda: self._machine.state is not SessionState.CONNECTING)
            self._require_opened()
        except SonioxRealtimeError as error:
            self.abort(error)
            raise
        except BaseException:
            self.abort()
            raise
        return self

    enter = __enter__

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the session, or abort it if the block was left by an exception."""
        if exc_value is not None:
            self.abort()
            return
        try:
            self.close()
        except BaseException:
            self.abort()
            raise

    def close(self) -> None:
        """Send end-of-audio if it is owed, do the close handshake, and close the socket.

        Takes at most `close_timeout_sec`. Safe to repeat and to call from any thread; a thread
        that is receiving gets the remaining events, then the end. In a signal handler that
        interrupted another call of this session it only begins to close, and does not wait.
        """
        if self._step(self._begin_closing, deferrable=True):
            self._wait_until(lambda: self._machine.closed)

    def abort(self, cause: BaseException | None = None) -> None:
        """End the session at once, without end-of-audio and without waiting for the server.

        Safe to repeat and to call from any thread.

        Args:
            cause: The reason. Receivers get it, as a `SonioxRealtimeError` or as the cause of one,
                after the messages that arrived before. Without a cause they get the end.
        """
        self._step(lambda: self._abort(cause), deferrable=True)

    # Sending

    def send_byte_chunk(self, chunk: AudioChunk, *, captured_at: float | None = None) -> None:
        """Send one chunk of audio. An empty one is ignored; while paused, chunks are dropped.

        Blocks while the server reads more slowly than audio is sent.

        Args:
            chunk: The audio.
            captured_at: When its first sample was captured, in seconds on any clock; `captured_at`
                then tells when a token was spoken. For raw audio formats only.

        Raises:
            TypeError: The chunk is not bytes.
            SonioxValidationError: `captured_at` is no time, or not for this audio format.
            SonioxStateError: The session is not connected yet, or is finished or closed.
            SonioxConnectionError: The connection was lost before the chunk was sent.
        """
        if type(chunk) is not bytes:
            chunk = audio_bytes(chunk)
        if self._waits_for_room:
            self._send_once_there_is_room(chunk, captured_at)
            return
        waits_for = None
        # This is `_step` written out, to save its calls for every chunk of audio.
        with self._lock:
            if self._busy:
                raise self._recorded(reentered())
            if self._interruption is not None:
                self._settle()
            self._busy = True
            try:
                self._machine.send_audio(chunk, self._clock(), captured_at)
                if self._write():
                    waits_for = self._marks()
            except BaseException as error:
                self._interruption = error
                self._judge(error)
                raise
            finally:
                self._busy = False
                if self._deferred or self._interruption is not None:
                    self._settle_all()
        if waits_for is not None:
            self._wait_until_taken(waits_for)

    def send_bytes(
        self, chunks: AudioChunk | Iterable[AudioChunk], *, finish: bool | None = None
    ) -> None:
        """Send one chunk of audio, or every chunk of an iterable and then end-of-audio.

        Args:
            chunks: Bytes, or an iterable of them. A generator is closed if sending stops early.
            finish: Whether to send end-of-audio afterwards. None, the default: only after an
                iterable.

        Raises what `send_byte_chunk` raises; `TypeError` for text.
        """
        if isinstance(chunks, (bytes, bytearray, memoryview)):
            self.send_byte_chunk(cast("AudioChunk", chunks))
        elif isinstance(chunks, str) or not isinstance(chunks, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise not_audio(chunks)
        else:
            if isinstance(chunks, (list, tuple)) and not self._waits_for_room:
                self._send_ready(cast("list[AudioChunk]", chunks))
            else:
                source = iter(chunks)
                try:
                    for chunk in source:
                        self.send_byte_chunk(chunk)
                finally:
                    # It may hold a microphone or a file, which must not stay open after an error.
                    if isinstance(source, Generator):
                        source.close()
            finish = finish is not False
        if finish:
            self.finish()

    def _send_ready(self, chunks: Iterable[AudioChunk]) -> None:
        """Send chunks that are all at hand, several with each write."""
        for batch in _batches(chunks):
            waits_for = self._step(lambda batch=batch: self._send_batch(batch))  # type: ignore[misc]
            if waits_for is not None:
                self._wait_until_taken(waits_for)

    def _send_once_there_is_room(self, chunk: bytes, captured_at: float | None) -> None:
        """Send a chunk, but wait while a connection is missing and no more audio can be kept."""
        waits_for: Marks | None = None

        def send() -> bool:
            nonlocal waits_for
            if self._machine.holds_too_much:
                return False
            self._machine.send_audio(chunk, self._clock(), captured_at)
            waits_for = self._marks() if self._write() else None
            return True

        while not self._step(send):
            self._wait_until(lambda: not self._machine.holds_too_much, sending=True)
        if waits_for is not None:
            self._wait_until_taken(waits_for)

    def send_control_message(self, control_type: RealtimeControlType) -> None:
        """Send end-of-audio, a keepalive or a finalize.

        Raises `SonioxStateError` if that is not possible now, `SonioxConnectionError` if the
        connection is lost, `SonioxValidationError` for any other control type.
        """
        match checked_control_type(control_type):
            case RealtimeControlType.FINISH:
                self.finish()
            case RealtimeControlType.KEEP_ALIVE:
                self.keep_alive()
            case RealtimeControlType.FINALIZE:
                self.finalize()

    def finish(self) -> None:
        """Send end-of-audio: the rest of the transcript follows, then the end. Safe to repeat."""
        self._control(lambda: self._machine.finish(self._clock()))

    def keep_alive(self) -> None:
        """Send a keepalive. Rarely needed: the session sends them itself while no audio flows."""
        self._control(lambda: self._machine.keep_alive(self._clock()))

    def finalize(self, *, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; the session stays open.

        Args:
            trailing_silence_ms: Silence already sent after the speech, in ms.
        """
        self._control(lambda: self._machine.finalize(self._clock(), trailing_silence_ms))

    def finalize_and_wait(
        self,
        timeout: float | None = DEFAULT_FINALIZE_WAIT,
        *,
        trailing_silence_ms: int | None = None,
    ) -> FinalizeResult:
        """Ask for all outstanding tokens to become final, and wait until they are.

        The messages can still be received, at the same time or later. Calls that come while one is
        under way share its answer, because the service may disconnect clients that finalize too
        often: every few seconds is often enough. Without audio since the last answer nothing is
        left to become final, and the call returns at once, without any text.

        Args:
            timeout: Maximum wait in seconds; None for no limit.
            trailing_silence_ms: Silence already sent after the speech, in ms.

        Raises:
            SonioxTimeoutError: No answer came within `timeout`; the session goes on.
            SonioxStateError: The session is not connected, finished or closed, or was closed
                before the answer came.
            SonioxRealtimeError: The error that ended the session before the answer came.
        """
        timeout = check_timeout(timeout)
        wait = self._step(lambda: self._ask_to_finalize(trailing_silence_ms))
        assert wait is not None, "a step that is not put off returns what it did"
        try:
            # Counted as a sender, so that the answer is read even if nobody receives.
            self._wait_until(lambda: wait.result is not None, timeout=timeout, sending=True)
        finally:
            self._step(lambda: self._finalizes.leave(wait), deferrable=True)
        return self._finalizes.result_of(wait, timeout)

    def pause(self, *, finalize: bool = True) -> None:
        """Drop audio until `resume`; keepalives keep the session open. Safe to repeat.

        Args:
            finalize: Whether to ask for all outstanding tokens to become final first.
        """
        self._control(lambda: self._machine.pause(self._clock(), finalize))

    def resume(self) -> None:
        """Send audio again; does nothing if the session is not paused."""
        self._control(lambda: self._machine.resume(self._clock()))

    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any]) -> None:
        """Go on with another configuration: other language hints, context, translation and so on.

        For this the session moves to another connection at the next endpoint or answered finalize,
        without losing a word: at once if no word has come since the last one, and after 30 s at
        the latest. The function `on_event` of the policy gets a `RolledOver` then. If the service
        refuses the configuration, the session ends with its error.

        Args:
            config: The whole configuration, or a mapping of its fields. Audio format, sample rate
                and number of channels have to stay as they are.

        Raises:
            SonioxValidationError: The configuration cannot be used, or declares other audio.
            SonioxStateError: The session has no `ReconnectPolicy`, its audio is in a container, or
                it is not connected, finished or closed.
        """
        self._control(lambda: self._machine.reconfigure(config, self._clock()))

    # Receiving

    def recv_bytes(self, timeout: float | None = None) -> bytes:
        """Return the next message unparsed, ``b""`` at the end of the stream.

        Args:
            timeout: Maximum wait in seconds; None for no limit.

        Raises what `receive_event` raises.
        """
        result = self._receive(timeout)
        if result is None:
            return b""
        return result.raw.encode() if isinstance(result.raw, str) else result.raw

    def receive_event(self, timeout: float | None = None) -> RealtimeEvent | None:
        """Return the next message, None at the end of the stream.

        Args:
            timeout: Maximum wait in seconds; None for no limit.

        Raises:
            SonioxStateError: The session is not connected.
            SonioxTimeoutError: No message came within `timeout`; the session goes on.
            SonioxServerError: The previous message was an error (unless `raise_on_error=False`).
            SonioxConnectionError: The connection was lost. Every message that arrived before has
                been returned.
            SonioxProtocolError: The server violated the protocol.
        """
        result = self._receive(timeout)
        return None if result is None else result.message

    def receive_events(self) -> Iterator[RealtimeEvent]:
        """Yield messages until the stream ends; raises what `receive_event` raises."""
        while (result := self._receive(None)) is not None:
            yield result.message

    def utterances(self, transcript: Transcript | None = None) -> Iterator[Utterance]:
        """Receive messages, and yield utterances as they become complete.

        What was said last is yielded too, before an error is raised if there is one: what
        `receive_event` raises. `Utterance.ended_by` says how an utterance ended, and `end_ms` where
        in the audio. With a raw audio format `ended_ago` says how many seconds ago that was when it
        was handed over, and `ended_at` when it was. That and `settled_at`, when the text became
        final, are in seconds of `time.monotonic`.

        Args:
            transcript: What to gather the messages in: one with limits of its own, one to be read
                meanwhile, or that of an iteration that was left. None for a new one.
        """
        return utterances_of(self.receive_event, self._clock, self._utterances_in(transcript))

    def handle_events(self, handler: Callable[[RealtimeEvent], None]) -> None:
        """Call `handler` with each message until the stream ends."""
        for event in self.receive_events():
            handler(event)

    def fileno(self) -> int:
        """Return the descriptor of the socket, for a selector; -1 while none is open."""
        for link in self._links:
            return link.stream.fileno()
        return -1

    # Inside

    def _ask_to_finalize(self, trailing_silence_ms: int | None) -> FinalizeWait:
        wait = self._finalizes.ask(self._clock(), trailing_silence_ms)
        self._inbox.log()
        self._flush()
        self._reschedule()
        return wait

    def _begin_closing(self) -> bool:
        now = self._clock()
        self._machine.close(now)
        self._flow.begin_closing()
        self._flow.update(now)
        self._handle(self._machine.handle_timeout(now))
        return True

    def _abort(self, cause: BaseException | None) -> None:
        self._handle(self._abort_machine(cause, self._clock()))

    def _control(self, call: Callable[[], None]) -> None:
        """Make the core queue a control message, and wait until it is sent.

        Called without the lock.
        """

        def step() -> Marks | None:
            call()
            self._inbox.log()
            left = self._flush()
            self._reschedule()
            return self._marks() if left else None

        waits_for = self._step(step, deferrable=True)
        if waits_for is not None:
            self._wait_until_taken(waits_for)

    def _send_batch(self, chunks: list[bytes]) -> Marks | None:
        try:
            self._queue_audio(iter(chunks), self._clock())
        finally:
            # The chunks ahead of one that is refused are sent all the same.
            waits_for = self._marks() if self._flush() else None
        return waits_for

    def _receive(self, timeout: float | None) -> Result | None:
        """Return the next message, None at the end; called without the lock."""
        if timeout is not None:
            timeout = check_timeout(timeout)
        inbox, flow = self._inbox, self._flow
        # Checked without the lock, so that an empty inbox costs nothing, and again with it.
        if inbox.ready:
            with self._lock:
                if self._busy:
                    raise self._recorded(reentered())
                if self._interruption is not None:
                    self._settle()
                self._busy = True
                try:
                    if inbox.ready:
                        result = inbox.take()
                        if flow.full:
                            flow.update(self._clock())
                        return result
                except BaseException as error:
                    self._interruption = error
                    self._judge(error)
                    raise
                finally:
                    self._busy = False
                    if self._deferred or self._interruption is not None:
                        self._settle_all()
        return self._wait_for_message(timeout)

    def _wait_for_message(self, timeout: float | None) -> Result | None:
        """Wait for the next message and return it, None at the end; called without the lock."""
        if not self._links:
            self._require_started()
        inbox = self._inbox
        results: list[Result | None] = []

        def take() -> bool:
            if inbox.ready:
                results.append(inbox.take())
            return bool(results)

        # With no time to wait only a read can tell whether a message has arrived.
        self._wait_until(take, timeout=timeout, readable=timeout == 0)
        if not results:
            self._require_started()
            raise self._recorded(receive_timeout_error(timeout or 0.0))
        return results[0]


def _batches(chunks: Iterable[AudioChunk]) -> Iterator[list[bytes]]:
    """Yield chunks in batches large enough for one write; raises what `audio_bytes` raises."""
    batch: list[bytes] = []
    size = 0
    for chunk in chunks:
        try:
            data = audio_bytes(chunk)
        except BaseException:
            # The chunks ahead of one that is refused are sent all the same.
            yield batch
            raise
        batch.append(data)
        size += len(data)
        if size >= WRITE_SIZE:
            yield batch
            batch, size = [], 0
    yield batch
