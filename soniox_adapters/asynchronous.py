"""The async session, on asyncio and on trio."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, cast

from typing_extensions import Self

from soniox_adapters.async_transport import (
    AsyncHost,
    AsyncTransport,
    ConnectOptions,
    Signal,
    event_loop_clock,
    make_signal,
    running_library,
)
from soniox_adapters.session import (
    AudioChunk,
    Inbox,
    SessionBase,
    checked_control_type,
)
from soniox_proto import (
    Endpoint,
    Event,
    RealtimeControlType,
    RealtimeEvent,
    Result,
    SessionState,
    SonioxRealtimeError,
    SonioxValidationError,
)
from soniox_proto.framing import LARGE_MESSAGE

if TYPE_CHECKING:
    import anyio

__all__ = ["AsyncRealtimeSTTSession"]


class AsyncRealtimeSTTSession(SessionBase):
    """An async session for one realtime transcription stream, on asyncio or on trio.

    Enter it as an async context manager: leaving normally closes it, leaving by an exception or a
    cancellation aborts it. Any number of tasks may use it; any call may be cancelled, and the
    session goes on. What was given to a send that was cancelled while waiting is still sent.
    """

    _asynchronous = True

    def _set_up(self) -> None:
        self._transport: AsyncTransport | None = None
        self._connecting: anyio.CancelScope | None = None
        self._clock: Callable[[], float] = _before_the_loop
        # Sends since other tasks had their turn.
        self._calls = 0

    # Life

    async def __aenter__(self) -> Self:
        """Connect: name resolution, TCP, TLS, the upgrade and the start message.

        Raises:
            SonioxStateError: The session was entered before.
            SonioxHandshakeError: The server refused the upgrade.
            SonioxTimeoutError: It took longer than `connect_timeout_sec`.
            SonioxConnectionError: The server cannot be reached, or the connection was lost.
        """
        clock = event_loop_clock()
        self._machine.connect(clock())
        self._clock = clock
        # Notified with every message and at the end.
        self._changed: Signal = make_signal()
        try:
            await self._open_transport()
            self._process([])
            while self._machine.state is SessionState.CONNECTING:
                await self._changed.wait()
            self._require_opened()
        except SonioxRealtimeError as error:
            await self.abort(error)
            raise
        except BaseException:
            await self.abort()
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
            await self.abort()

    async def close(self) -> None:
        """Close the session: end-of-audio if it is owed, the close handshake, the socket.

        Takes at most `close_timeout_sec`; cancelled, it closes at once. Safe to repeat and to
        call from any task; a task that receives gets the remaining events, then the end.
        """
        self._machine.close(self._clock())
        self._flow.begin_closing()
        self._process(self._machine.handle_timeout(self._clock()))
        self._control_reading()
        transport = self._transport
        if transport is None:
            return
        try:
            while not self._machine.closed:
                await self._changed.wait()
            await transport.wait_closed()
        except BaseException:
            await self.abort()
            raise

    async def abort(self, cause: BaseException | None = None) -> None:
        """End the session at once, without end-of-audio and without waiting for the server.

        Safe to repeat and to call from any task.

        Args:
            cause: Why; whoever receives gets it, as a `SonioxRealtimeError` or as the cause of
                one, after the messages that came before. Without a cause they get the end.
        """
        self._process(self._abort_machine(cause, self._clock()))
        if self._transport is not None:
            await self._transport.wait_closed()

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
        if transport is None:
            # Not connected yet: the core holds it, or refuses.
            self._machine.send_audio(chunk, self._clock())
            return
        if len(chunk) < LARGE_MESSAGE:
            transport.write(self._machine.audio_to_send(chunk, self._clock()))
        else:
            self._machine.send_audio(chunk, self._clock())
            transport.write_buffers(self._machine.buffers_to_send())
        self._calls += 1
        if transport.writing_paused or self._calls >= transport.calls_between_checkpoints:
            await self._finish_sending(transport)

    async def send_bytes(
        self,
        chunks: AudioChunk | AsyncIterable[AudioChunk] | Iterable[AudioChunk],
        *,
        finish: bool | None = None,
    ) -> None:
        """Send one chunk of audio, or every chunk of an iterable and then end-of-audio.

        Args:
            chunks: Bytes, or an iterable of them, async or not.
            finish: Whether to send end-of-audio afterwards; None: after an iterable only.

        Raises what `send_byte_chunk` raises; `TypeError` for text.
        """
        if isinstance(chunks, (bytes, bytearray, memoryview)):
            await self.send_byte_chunk(cast("AudioChunk", chunks))
        elif isinstance(chunks, str):
            raise TypeError("audio must be bytes or an iterable of bytes, not str")
        else:
            if isinstance(chunks, AsyncIterable):
                async for chunk in chunks:
                    await self.send_byte_chunk(chunk)
            elif isinstance(chunks, (list, tuple)):
                await self._send_ready(iter(cast("list[AudioChunk]", chunks)))
            else:
                for chunk in chunks:
                    await self.send_byte_chunk(chunk)
            finish = finish is not False
        if finish:
            await self.finish()

    async def _send_ready(self, chunks: Iterator[AudioChunk]) -> None:
        """Send chunks that need not be waited for, several with each write."""
        queued = True
        while queued:
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
        self._machine.finish(self._clock())
        await self._send()

    async def keep_alive(self) -> None:
        """Send a keepalive. The session does so by itself whenever no audio flows."""
        self._machine.keep_alive(self._clock())
        await self._send()

    async def finalize(self, *, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; the session stays open.

        Args:
            trailing_silence_ms: Silence already sent after the speech, in ms.
        """
        self._machine.finalize(self._clock(), trailing_silence_ms)
        self._arm_timer()
        await self._send()

    async def pause(self, *, finalize: bool = True) -> None:
        """Drop audio until `resume`, while keepalives hold the session; repeated, it does nothing.

        Args:
            finalize: Ask for outstanding tokens to become final first.
        """
        self._machine.pause(self._clock(), finalize)
        self._arm_timer()
        await self._send()

    async def resume(self) -> None:
        """Send audio again; does nothing on a session that is not paused."""
        self._machine.resume(self._clock())

    # Receiving

    async def recv_bytes(self) -> bytes:
        """Return the next message as it came, ``b""`` at the end of the stream.

        Raises what `receive_event` raises.
        """
        result = await self._receive()
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
        # Without another coroutine where nothing has to be awaited: each takes as long as the rest.
        result = self._take() if self._inbox.ready else await self._receive()
        return None if result is None else result.message

    def receive_events(self) -> AsyncIterator[RealtimeEvent]:
        """Yield messages until the stream ends; raises what `receive_event` raises."""
        return _EventIterator(self._inbox, self._take, self._receive)

    async def handle_events(self, handler: Callable[[RealtimeEvent], Awaitable[None]]) -> None:
        """Await `handler` with each message until the stream ends."""
        async for event in self.receive_events():
            await handler(event)

    # Inside

    async def _open_transport(self) -> None:
        """Open the transport; returns without one if the session is closed meanwhile."""
        import anyio

        deadline = self._machine.next_timeout()
        # One deadline for all of it: the function given as transport, TCP, the proxy, TLS.
        scope = anyio.CancelScope(deadline=math.inf if deadline is None else deadline)
        self._connecting = scope
        try:
            with scope:
                given = await self._given_stream()
                timeout = None if deadline is None else max(deadline - self._clock(), 0.001)
                self._transport = await self._opened_transport(given, timeout)
            if scope.cancelled_caught and not self._machine.closed:
                raise TimeoutError
        except OSError as error:
            failure = self._connect_error(error)
            raise failure from failure.__cause__
        finally:
            self._connecting = None

    async def _given_stream(self) -> object:
        given = self._transport_option
        if not callable(given):
            return given
        from soniox_adapters.connecting.failures import connector_errors

        with connector_errors():
            awaitable = cast("Callable[[Endpoint], object]", given)(self._machine.endpoint)
            if isinstance(awaitable, Awaitable):
                return cast("object", await awaitable)
        _close_socket(awaitable)
        raise SonioxValidationError(
            "a function given as transport must be an async one; it returned "
            f"{type(awaitable).__name__}"
        )

    async def _opened_transport(self, given: object, timeout: float | None) -> AsyncTransport:
        transport = self._make_transport(given)
        try:
            await transport.open(
                ConnectOptions(
                    self._machine.endpoint, timeout, self._ssl_context, self._proxy, given
                )
            )
        except BaseException:
            _close_socket(given)
            raise
        return transport

    def _make_transport(self, given: object) -> AsyncTransport:
        host = AsyncHost(
            data_received=self._data_received,
            eof_received=self._eof_received,
            connection_failed=self._connection_failed,
            writing_resumed=self._writing_resumed,
            timer_expired=self._timer_expired,
        )
        # Loaded where it is needed: only one of the two is.
        if running_library() == "asyncio" and (given is None or _is_socket(given)):
            from soniox_adapters.asyncio_transport import AsyncioTransport

            return AsyncioTransport(host)
        from soniox_adapters.stream_transport import StreamTransport

        return StreamTransport(host)

    async def _send(self) -> None:
        """Write what the core made; wait while too much waits to be written."""
        transport = self._transport
        if transport is not None:
            transport.write(self._machine.data_to_send())
            self._calls += 1
            if transport.writing_paused or self._calls >= transport.calls_between_checkpoints:
                await self._finish_sending(transport)

    async def _finish_sending(self, transport: AsyncTransport) -> None:
        self._calls = 0
        if not transport.writing_paused:
            await transport.checkpoint()
            return
        # What comes in is read while this waits, or two full buffers would wait for each other.
        self._flow.waiting_senders += 1
        self._control_reading()
        try:
            while transport.writing_paused and not self._machine.closed:
                await transport.writable.wait()
        finally:
            self._flow.waiting_senders -= 1
            self._control_reading()
        if self._machine.closed:
            raise self._why_not_sent()

    async def _receive(self) -> Result | None:
        while not self._inbox.ready:
            self._require_started()
            await self._changed.wait()
        return self._take()

    def _take(self) -> Result | None:
        if not self._flow.full:
            return self._inbox.take()
        result = self._inbox.take()
        self._control_reading()
        return result

    def _control_reading(self) -> None:
        """Read on, or read no further, as what waits on either side allows."""
        transport, machine = self._transport, self._machine
        if transport is None or machine.closed:
            return
        if self._flow.update(self._clock()):
            transport.resume_reading()
        else:
            transport.pause_reading()
        self._arm_timer()

    def _process(self, events: list[Event], *, reply: bool = False) -> None:
        """Hand on what the core returned, write what it made, and arm its next timer."""
        self._inbox.put(events)
        transport, machine = self._transport, self._machine
        if self._connecting is not None and machine.closed:
            self._connecting.cancel()
        if transport is not None:
            data = machine.data_to_send()
            if data:
                transport.write(data)
                if reply and transport.writing_paused:
                    self._flow.unsent_replies += len(data)
            if machine.closed:
                transport.close()
            elif len(events) != 1 or type(events[0]) is not Result:
                # A result alone brings no deadline nearer.
                self._arm_timer()
        if events:
            self._changed.notify()

    def _arm_timer(self) -> None:
        if self._transport is not None:
            self._transport.set_timer(self._machine.next_timeout())

    # Called by the transport

    def _data_received(self, data: bytes) -> None:
        self._process(self._machine.receive_data(data, self._clock()), reply=True)
        if self._flow.too_much:
            error = self._overflow_error()
            self._process(self._machine.fail(error, self._clock(), close_code=1001))
        elif not self._flow.may_read:
            self._control_reading()

    def _eof_received(self) -> None:
        self._process(self._machine.receive_eof(self._clock()))

    def _connection_failed(self, error: OSError) -> None:
        self._process(self._machine.fail(self._lost_error(error), self._clock()))

    def _writing_resumed(self) -> None:
        self._flow.unsent_replies = 0
        self._control_reading()

    def _timer_expired(self) -> None:
        self._process(self._machine.handle_timeout(self._clock()))


class _EventIterator:
    """Not a generator: one that is left early would have to be closed by its user."""

    def __init__(
        self,
        inbox: Inbox,
        take: Callable[[], Result | None],
        receive: Callable[[], Awaitable[Result | None]],
    ) -> None:
        self._inbox = inbox
        self._take = take
        self._receive = receive

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RealtimeEvent:
        result = self._take() if self._inbox.ready else await self._receive()
        if result is None:
            raise StopAsyncIteration
        return result.message


def _close_socket(given: object) -> None:
    """Close a socket that was given and cannot be used; streams are closed where they are used."""
    import socket

    if isinstance(given, socket.socket):
        given.close()


def _is_socket(given: object) -> bool:
    """Return whether `given` is a socket."""
    import socket

    return isinstance(given, socket.socket)


def _before_the_loop() -> float:
    # Nothing that happens before the session is entered depends on the time.
    return 0.0
