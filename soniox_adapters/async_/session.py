"""The async session: the documented methods, on asyncio and on trio.

`run_loop.py` explains how it works inside (tasks, transports, the timer).
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import Self

from soniox_adapters.async_.event_iterator import EventIterator
from soniox_adapters.async_.event_loop import current_event_loop, give_way
from soniox_adapters.async_.run_loop import AsyncRunLoop
from soniox_adapters.async_.source import send_each
from soniox_adapters.session.base import AudioChunk, checked_control_type, not_audio
from soniox_adapters.session.finalizing import DEFAULT_FINALIZE_WAIT, FinalizeResult
from soniox_adapters.session.utterances import AsyncUtterances
from soniox_proto import (
    RealtimeControlType,
    RealtimeEvent,
    RealtimeSTTConfig,
    SessionState,
    SonioxRealtimeError,
)
from soniox_proto.options import check_timeout

if TYPE_CHECKING:
    from soniox_proto import Transcript, Utterance

__all__ = ["AsyncRealtimeSTTSession"]


class AsyncRealtimeSTTSession(AsyncRunLoop):
    """An async session for one realtime transcription stream, on asyncio or on trio.

    Use it as an async context manager: a normal exit closes it, an exit by an exception or a
    cancellation aborts it. Any number of tasks may use it. Cancelling a call does not harm the
    session; audio whose send was cancelled while waiting is still sent.

    A session belongs to the event loop that it was entered in. In any other, every call raises
    `SonioxStateError`, and `close` and `abort` end the session before they raise it.
    """

    _asynchronous = True

    # Life

    async def __aenter__(self) -> Self:
        """Connect: name resolution, TCP, TLS, the upgrade and the start message.

        Raises:
            SonioxStateError: The session has been entered before.
            SonioxHandshakeError: The server refused the upgrade.
            SonioxTimeoutError: Connecting took longer than `connect_timeout_sec`.
            SonioxConnectionError: The server cannot be reached, or the connection was lost.
        """
        self._enter_loop(current_event_loop())
        try:
            await self._open_first()
            while self._machine.state is SessionState.CONNECTING:
                await self._changed.wait()
            self._require_opened()
        except SonioxRealtimeError as error:
            await self._abort(error)
            raise
        except BaseException:
            await self._abort(None)
            raise
        return self

    enter = __aenter__
    aenter = __aenter__

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the session, or abort it if the block was left by an exception."""
        if exc_value is None:
            await self.close()
        else:
            await self._abort(None)

    async def close(self) -> None:
        """Send end-of-audio if it is owed, do the close handshake, and close the socket.

        Takes at most `close_timeout_sec`; if cancelled, it aborts the session. Safe to repeat and
        to call from any task; a task that is receiving gets the remaining events, then the end.
        """
        if self._released:
            await give_way()
            return
        if not self._runs_here():
            await self._end_from_elsewhere(None)
            return
        self._machine.close(self._clock())
        self._flow.begin_closing()
        self._process(self._machine.handle_timeout(self._clock()))
        self._control_reading()
        try:
            while not self._machine.closed:
                await self._changed.wait()
            await self._wait_released()
        except BaseException:
            await self._abort(None)
            raise

    async def abort(self, cause: BaseException | None = None) -> None:
        """End the session at once, without end-of-audio and without waiting for the server.

        Safe to repeat and to call from any task.

        Args:
            cause: The reason. Receivers get it, as a `SonioxRealtimeError` or as the cause of one,
                after the messages that arrived before. Without a cause they get the end.
        """
        if self._released:
            await give_way()
        else:
            await self._abort(cause)

    # Sending

    async def send_byte_chunk(self, chunk: AudioChunk, *, captured_at: float | None = None) -> None:
        """Send one chunk of audio. An empty one is ignored; while paused, chunks are dropped.

        Waits while the server reads more slowly than audio is sent.

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
        try:
            if not self._runs_here():
                raise self._elsewhere_error()
            if self._waits_for_room:
                await self._wait_for_room()
            self._machine.send_audio(chunk, self._clock(), captured_at)
            paused = False
            for link in self._links:
                if link.flush():
                    paused = True
        except Exception:
            await give_way()
            raise
        self._calls += 1
        if paused or self._calls >= self._calls_between_checkpoints:
            await self._finish_sending()

    async def send_bytes(
        self,
        chunks: AudioChunk | AsyncIterable[AudioChunk] | Iterable[AudioChunk],
        *,
        finish: bool | None = None,
    ) -> None:
        """Send one chunk of audio, or every chunk of an iterable and then end-of-audio.

        Args:
            chunks: Bytes, or an iterable of them, async or not. A generator is closed if sending
                stops early, by an error or a cancellation.
            finish: Whether to send end-of-audio afterwards. None, the default: only after an
                iterable.

        Raises what `send_byte_chunk` raises; `TypeError` for text.
        """
        if isinstance(chunks, (bytes, bytearray, memoryview)):
            await self.send_byte_chunk(cast("AudioChunk", chunks))
        elif isinstance(chunks, str) or not isinstance(chunks, (Iterable, AsyncIterable)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise not_audio(chunks)
        else:
            if isinstance(chunks, (list, tuple)) and self._options.reconnect is None:
                await self._send_ready(iter(cast("list[AudioChunk]", chunks)))
            else:
                await send_each(cast("Iterable[AudioChunk]", chunks), self.send_byte_chunk)
            finish = finish is not False
        if finish:
            await self.finish()

    async def _send_ready(self, chunks: Iterator[AudioChunk]) -> None:
        """Send chunks that are all at hand, several with each write."""
        queued = True
        while queued:
            self._require_here()
            try:
                queued = self._queue_audio(chunks, self._clock())
            finally:
                # The chunks ahead of one that is refused are sent all the same.
                await self._send()

    async def send_control_message(self, control_type: RealtimeControlType) -> None:
        """Send end-of-audio, a keepalive or a finalize.

        Raises `SonioxStateError` if that is not possible now, `SonioxConnectionError` if the
        connection is lost, `SonioxValidationError` for any other control type.
        """
        match checked_control_type(control_type):
            case RealtimeControlType.FINISH:
                await self.finish()
            case RealtimeControlType.KEEP_ALIVE:
                await self.keep_alive()
            case RealtimeControlType.FINALIZE:
                await self.finalize()

    async def finish(self) -> None:
        """Send end-of-audio: the rest of the transcript follows, then the end. Safe to repeat."""
        await self._call(self._machine.finish)

    async def keep_alive(self) -> None:
        """Send a keepalive. Rarely needed: the session sends them itself while no audio flows."""
        await self._call(self._machine.keep_alive)

    async def finalize(self, *, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; the session stays open.

        Args:
            trailing_silence_ms: Silence already sent after the speech, in ms.
        """
        await self._call(self._machine.finalize, trailing_silence_ms)

    async def finalize_and_wait(
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
        import anyio

        timeout = check_timeout(timeout)
        try:
            self._require_here()
            wait = self._finalizes.ask(self._clock(), trailing_silence_ms)
        except Exception:
            await give_way()
            raise
        self._process([])
        try:
            with anyio.move_on_after(timeout):
                await self._send()
                # Counted as a sender, so that the answer is read even if nobody receives.
                with self._sender_waiting():
                    while wait.result is None and not self._machine.closed:
                        await self._changed.wait()
        finally:
            self._finalizes.leave(wait)
        return self._finalizes.result_of(wait, timeout)

    async def pause(self, *, finalize: bool = True) -> None:
        """Drop audio until `resume`; keepalives keep the session open. Safe to repeat.

        Args:
            finalize: Whether to ask for all outstanding tokens to become final first.
        """
        await self._call(self._machine.pause, finalize)

    async def resume(self) -> None:
        """Send audio again; does nothing if the session is not paused."""
        await self._call(self._machine.resume)

    async def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any]) -> None:
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
        await self._call(partial(self._machine.reconfigure, config))

    # Receiving

    async def recv_bytes(self) -> bytes:
        """Return the next message unparsed, ``b""`` at the end of the stream.

        Raises what `receive_event` raises.
        """
        result = self._take_ready() or await self._receive()
        if result is None:
            return b""
        return result.raw.encode() if isinstance(result.raw, str) else result.raw

    async def receive_event(self) -> RealtimeEvent | None:
        """Return the next message, None at the end of the stream.

        Raises:
            SonioxStateError: The session is not connected.
            SonioxServerError: The previous message was an error (unless `raise_on_error=False`).
            SonioxConnectionError: The connection was lost. Every message that arrived before has
                been returned.
            SonioxProtocolError: The server violated the protocol.
        """
        # Not through one more coroutine, which would double the time this takes.
        result = self._take_ready() or await self._receive()
        return None if result is None else result.message

    def receive_events(self) -> AsyncGenerator[RealtimeEvent, None]:
        """Yield messages until the stream ends; raises what `receive_event` raises."""
        return EventIterator(self._take_ready, self._receive)

    def utterances(self, transcript: Transcript | None = None) -> AsyncIterator[Utterance]:
        """Receive messages, and yield utterances as they become complete.

        What was said last is yielded too, before an error is raised if there is one: what
        `receive_event` raises. `Utterance.ended_by` says how an utterance ended, and `end_ms` where
        in the audio. With a raw audio format `ended_ago` says how many seconds ago that was when it
        was handed over, and `ended_at` when it was. That and `settled_at`, when the text became
        final, are in seconds on the clock of the event loop.

        Args:
            transcript: What to gather the messages in: one with limits of its own, one to be read
                meanwhile, or that of an iteration that was left. None for a new one.
        """
        pending = self._utterances_in(transcript)
        return AsyncUtterances(self.receive_event, lambda: self._clock(), pending)

    async def handle_events(self, handler: Callable[[RealtimeEvent], Awaitable[None]]) -> None:
        """Await `handler` with each message until the stream ends."""
        async for event in self.receive_events():
            await handler(event)
