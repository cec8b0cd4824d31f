"""The async session, on asyncio and on trio."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from types import TracebackType
from typing import cast

from typing_extensions import Self

from soniox_adapters.async_.event_iterator import EventIterator
from soniox_adapters.async_.run_loop import AsyncRunLoop
from soniox_adapters.async_.source import send_each
from soniox_adapters.async_.transport import (
    current_event_loop,
    give_way,
    make_signal,
)
from soniox_adapters.session.base import AudioChunk, checked_control_type, not_audio
from soniox_proto import (
    RealtimeControlType,
    RealtimeEvent,
    SessionState,
    SonioxRealtimeError,
)

__all__ = ["AsyncRealtimeSTTSession"]


class AsyncRealtimeSTTSession(AsyncRunLoop):
    """An async session for one realtime transcription stream, on asyncio or on trio.

    Enter it as an async context manager: leaving normally closes it, leaving by an exception or a
    cancellation aborts it. Any number of tasks may use it; any call may be cancelled, and the
    session goes on. What was given to a send that was cancelled while waiting is still sent.

    A session belongs to the event loop that it was entered in: in any other, every call raises
    `SonioxStateError`, and `close` and `abort` end the session before they do.
    """

    _asynchronous = True

    # Life

    async def __aenter__(self) -> Self:
        """Connect: name resolution, TCP, TLS, the upgrade and the start message.

        Raises:
            SonioxStateError: The session was entered before.
            SonioxHandshakeError: The server refused the upgrade.
            SonioxTimeoutError: It took longer than `connect_timeout_sec`.
            SonioxConnectionError: The server cannot be reached, or the connection was lost.
        """
        loop = current_event_loop()
        self._machine.connect(loop.clock())
        self._loop, self._clock, self._runs_here = loop, loop.clock, loop.runs_here
        self._changed = make_signal()
        try:
            await self._open_transport()
            self._process([])
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
        """Close the session, or abort it when an exception is under way."""
        if exc_value is None:
            await self.close()
        else:
            await self._abort(None)

    async def close(self) -> None:
        """Close the session: end-of-audio if it is owed, the close handshake, the socket.

        Takes at most `close_timeout_sec`; cancelled, it closes at once. Safe to repeat and to
        call from any task; a task that receives gets the remaining events, then the end.
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
        transport = self._transport
        if transport is not None:
            try:
                while not self._machine.closed:
                    await self._changed.wait()
                await transport.wait_closed()
            except BaseException:
                await self._abort(None)
                raise
        self._released = True

    async def abort(self, cause: BaseException | None = None) -> None:
        """End the session at once, without end-of-audio and without waiting for the server.

        Safe to repeat and to call from any task.

        Args:
            cause: Why; whoever receives gets it, as a `SonioxRealtimeError` or as the cause of
                one, after the messages that came before. Without a cause they get the end.
        """
        if self._released:
            await give_way()
        else:
            await self._abort(cause)

    # Sending

    async def send_byte_chunk(self, chunk: AudioChunk) -> None:
        """Send one chunk of audio. An empty one is ignored; while paused, chunks are dropped.

        Waits while the server reads more slowly than this is called.

        Raises:
            TypeError: The chunk is not bytes.
            SonioxStateError: The session is not connected, finished or closed.
            SonioxConnectionError: The connection was lost before the chunk was sent.
        """
        transport = self._transport
        try:
            if not self._runs_here():
                raise self._elsewhere_error()
            self._machine.send_audio(chunk, self._clock())
            if transport is not None:
                transport.write_buffers(self._machine.buffers_to_send())
        except Exception:
            await give_way()
            raise
        self._calls += 1
        if (
            transport is None
            or transport.writing_paused
            or self._calls >= transport.calls_between_checkpoints
        ):
            await self._finish_sending()

    async def send_bytes(
        self,
        chunks: AudioChunk | AsyncIterable[AudioChunk] | Iterable[AudioChunk],
        *,
        finish: bool | None = None,
    ) -> None:
        """Send one chunk of audio, or every chunk of an iterable and then end-of-audio.

        Args:
            chunks: Bytes, or an iterable of them, async or not. A generator that is left early,
                because a chunk cannot be sent or the call is cancelled, is closed.
            finish: Whether to send end-of-audio afterwards; None: after an iterable only.

        Raises what `send_byte_chunk` raises; `TypeError` for text.
        """
        if isinstance(chunks, (bytes, bytearray, memoryview)):
            await self.send_byte_chunk(cast("AudioChunk", chunks))
        elif isinstance(chunks, str) or not isinstance(chunks, (Iterable, AsyncIterable)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise not_audio(chunks)
        else:
            if isinstance(chunks, (list, tuple)):
                await self._send_ready(iter(cast("list[AudioChunk]", chunks)))
            else:
                await send_each(cast("Iterable[AudioChunk]", chunks), self.send_byte_chunk)
            finish = finish is not False
        if finish:
            await self.finish()

    async def _send_ready(self, chunks: Iterator[AudioChunk]) -> None:
        """Send chunks that need not be waited for, several with each write."""
        queued = True
        while queued:
            self._require_here()
            try:
                queued = self._queue_audio(chunks, self._clock())
            finally:
                # What came before a chunk that is refused is sent.
                await self._send()

    async def send_control_message(self, control_type: RealtimeControlType) -> None:
        """Send end-of-audio, a keepalive or a finalize.

        Raises `SonioxStateError` where that is not possible now, `SonioxConnectionError` if the
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
        """Send end-of-audio, once: the rest of the transcript follows, then the end."""
        await self._call(self._machine.finish)

    async def keep_alive(self) -> None:
        """Send a keepalive. The session does so by itself whenever no audio flows."""
        await self._call(self._machine.keep_alive)

    async def finalize(self, *, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; the session stays open.

        Args:
            trailing_silence_ms: Silence already sent after the speech, in ms.
        """
        await self._call(self._machine.finalize, trailing_silence_ms)

    async def pause(self, *, finalize: bool = True) -> None:
        """Drop audio until `resume`, while keepalives hold the session; repeated, it does nothing.

        Args:
            finalize: Ask for outstanding tokens to become final first.
        """
        await self._call(self._machine.pause, finalize)

    async def resume(self) -> None:
        """Send audio again; does nothing on a session that is not paused."""
        await self._call(self._machine.resume)

    # Receiving

    async def recv_bytes(self) -> bytes:
        """Return the next message as it came, ``b""`` at the end of the stream.

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
            SonioxServerError: The message before was an error (unless `raise_on_error=False`).
            SonioxConnectionError: The connection was lost; every message before was delivered.
            SonioxProtocolError: The server sent what the protocol does not allow.
        """
        # Another coroutine would take as long as all the rest.
        result = self._take_ready() or await self._receive()
        return None if result is None else result.message

    def receive_events(self) -> AsyncGenerator[RealtimeEvent, None]:
        """Yield messages until the stream ends; raises what `receive_event` raises."""
        return EventIterator(self._take_ready, self._receive)

    async def handle_events(self, handler: Callable[[RealtimeEvent], Awaitable[None]]) -> None:
        """Await `handler` with each message until the stream ends."""
        async for event in self.receive_events():
            await handler(event)
