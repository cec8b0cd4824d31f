"""The blocking session, on a socket.

All socket calls are non-blocking and made under one lock, so the bytes leave in the order in which
the core made them and one thread at a time is inside TLS. Threads wait for the socket outside the
lock. At most one of them watches for input; the others wait to be told. While no thread of the
user is in a call, the process's one ticker thread looks after the session.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, cast

from typing_extensions import Self

from soniox_adapters.session import (
    AudioChunk,
    SessionBase,
    checked_control_type,
    receive_timeout_error,
)
from soniox_adapters.ticker import ticker
from soniox_proto import (
    Event,
    RealtimeControlType,
    RealtimeEvent,
    Result,
    SessionState,
    SonioxRealtimeError,
)
from soniox_proto.framing import LARGE_MESSAGE

if TYPE_CHECKING:
    from soniox_adapters.connecting.blocking import BlockingTransport, Connecting
    from soniox_adapters.socket_stream import SocketStream

__all__ = ["RealtimeSTTSession"]

TICK_INTERVAL: Final = 1.0
"""Seconds after which the ticker looks for pings and close frames that nobody is reading."""

MOMENT: Final = 0.01
"""Seconds that a thread gives another one to read what has arrived."""

_clock = time.monotonic


class RealtimeSTTSession(SessionBase):
    """A blocking session for one realtime transcription stream, usable from several threads.

    Enter it as a context manager: leaving normally closes it, leaving by an exception aborts it.
    """

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        # Notified whenever a message, the end, or the need for another watcher has come.
        self._changed = threading.Condition(self._lock)
        self._stream: SocketStream | None = None
        self._connecting: Connecting | None = None
        # What the kernel would not take yet, and how much of that it has taken since.
        self._output = bytearray()
        self._output_taken = 0
        self._watching = False
        # Threads that wait for the socket, and those that wait to be told.
        self._waiting = 0
        self._sleepers = 0
        self._broken = False
        self._tick_at: float | None = None

    # Life

    def __enter__(self) -> Self:
        """Connect: name resolution, TCP, TLS, the upgrade and the start message.

        Raises:
            SonioxStateError: The session was entered before.
            SonioxHandshakeError: The server refused the upgrade.
            SonioxTimeoutError: It took longer than `connect_timeout_sec`.
            SonioxConnectionError: The server cannot be reached, or the connection was lost.
        """
        with self._lock:
            self._machine.connect(_clock())
        try:
            self._open_stream()
            with self._lock:
                self._flush()
                self._pump(lambda: self._machine.state is not SessionState.CONNECTING)
                self._reschedule()
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
        """Close the session, or abort it when an exception is under way."""
        if exc_value is None:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Close the session: end-of-audio if it is owed, the close handshake, the socket.

        Takes at most `close_timeout_sec`. Safe to repeat and to call from any thread; a thread
        that receives gets the remaining events, then the end.
        """
        with self._lock:
            self._machine.close(_clock())
            self._flow.begin_closing()
            self._flow.update(_clock())
            self._deliver(self._machine.handle_timeout(_clock()))
            self._cancel_connecting()
            if self._stream is not None:
                self._flush()
                self._pump(lambda: self._machine.closed)
            self._release()

    def abort(self, cause: BaseException | None = None) -> None:
        """End the session at once, without end-of-audio and without waiting for the server.

        Safe to repeat and to call from any thread.

        Args:
            cause: Why; whoever receives gets it, as a `SonioxRealtimeError` or as the cause of
                one, after the messages that came before. Without a cause they get the end.
        """
        with self._lock:
            self._deliver(self._abort_machine(cause, _clock()))
            self._cancel_connecting()
            self._flush()
            self._release()

    # Sending

    def send_byte_chunk(self, chunk: AudioChunk) -> None:
        """Send one chunk of audio. An empty one is ignored; while paused, chunks are dropped.

        Waits while the server reads more slowly than this is called.

        Raises:
            TypeError: The chunk is not bytes.
            SonioxStateError: The session is not connected, finished or closed.
            SonioxConnectionError: The connection was lost before the chunk was sent.
        """
        with self._lock:
            stream = self._stream
            if stream is None or self._output or self._broken or len(chunk) >= LARGE_MESSAGE:
                self._machine.send_audio(chunk, _clock())
                self._send()
                return
            # Nearly always the kernel takes all of it at once.
            data = self._machine.audio_to_send(chunk, _clock())
            try:
                written = stream.write(data)
            except OSError as error:
                self._write_failed(error)
                raise self._why_not_sent() from None
            if written < len(data):
                self._output += memoryview(data)[written:]
                self._send()

    def send_bytes(
        self, chunks: AudioChunk | Iterable[AudioChunk], *, finish: bool | None = None
    ) -> None:
        """Send one chunk of audio, or every chunk of an iterable and then end-of-audio.

        Args:
            chunks: Bytes, or an iterable of them.
            finish: Whether to send end-of-audio afterwards; None: after an iterable only.

        Raises what `send_byte_chunk` raises; `TypeError` for text.
        """
        if isinstance(chunks, (bytes, bytearray, memoryview)):
            self.send_byte_chunk(cast("AudioChunk", chunks))
        elif isinstance(chunks, str):
            raise TypeError("audio must be bytes or an iterable of bytes, not str")
        else:
            if isinstance(chunks, (list, tuple)):
                self._send_ready(iter(cast("list[AudioChunk]", chunks)))
            else:
                for chunk in chunks:
                    self.send_byte_chunk(chunk)
            finish = finish is not False
        if finish:
            self.finish()

    def _send_ready(self, chunks: Iterator[AudioChunk]) -> None:
        """Send chunks that need not be waited for, several with each write."""
        queued = True
        while queued:
            with self._lock:
                try:
                    queued = self._queue_audio(chunks, _clock())
                finally:
                    # What came before a chunk that is refused is sent.
                    self._send()

    def send_control_message(self, control_type: RealtimeControlType) -> None:
        """Send end-of-audio, a keepalive or a finalize.

        Raises `SonioxStateError` where that is not possible now, `SonioxConnectionError` if the
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
        """Send end-of-audio, once: the rest of the transcript follows, then the end."""
        self._control(lambda: self._machine.finish(_clock()))

    def keep_alive(self) -> None:
        """Send a keepalive. The session does so by itself whenever no audio flows."""
        self._control(lambda: self._machine.keep_alive(_clock()))

    def finalize(self, *, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; the session stays open.

        Args:
            trailing_silence_ms: Silence already sent after the speech, in ms.
        """
        self._control(lambda: self._machine.finalize(_clock(), trailing_silence_ms))

    def pause(self, *, finalize: bool = True) -> None:
        """Drop audio until `resume`, while keepalives hold the session; repeated, it does nothing.

        Args:
            finalize: Ask for outstanding tokens to become final first.
        """
        self._control(lambda: self._machine.pause(_clock(), finalize))

    def resume(self) -> None:
        """Send audio again; does nothing on a session that is not paused."""
        self._control(lambda: self._machine.resume(_clock()))

    # Receiving

    def recv_bytes(self, timeout: float | None = None) -> bytes:
        """Return the next message as it came, ``b""`` at the end of the stream.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Raises what `receive_event` raises.
        """
        result = self._receive(timeout)
        if result is None:
            return b""
        return result.raw.encode() if isinstance(result.raw, str) else result.raw

    def receive_event(self, timeout: float | None = None) -> RealtimeEvent | None:
        """Return the next message, None at the end of the stream.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Raises:
            SonioxStateError: The session is not connected.
            SonioxTimeoutError: No message came within `timeout`; the session goes on.
            SonioxServerError: The message before was an error (unless `raise_on_error=False`).
            SonioxConnectionError: The connection was lost; every message before was delivered.
            SonioxProtocolError: The server sent what the protocol does not allow.
        """
        result = self._receive(timeout)
        return None if result is None else result.message

    def receive_events(self) -> Iterator[RealtimeEvent]:
        """Yield messages until the stream ends; raises what `receive_event` raises."""
        while (result := self._receive(None)) is not None:
            yield result.message

    def handle_events(self, handler: Callable[[RealtimeEvent], None]) -> None:
        """Call `handler` with each message until the stream ends."""
        for event in self.receive_events():
            handler(event)

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector; -1 while there is none."""
        stream = self._stream
        return -1 if stream is None else stream.fileno()

    # Inside; with the lock held, unless said otherwise

    def _open_stream(self) -> None:
        """Open the socket, without the lock: audio may be given meanwhile, and is held."""
        # Loaded on first need: it loads the system's TLS.
        from soniox_adapters.connecting.blocking import ConnectCancelledError, Connecting
        from soniox_adapters.socket_stream import SocketStream

        with self._lock:
            if self._machine.closed:
                return
            connecting = self._connecting = Connecting(self._machine.next_timeout())
        try:
            connected = connecting.open(
                self._machine.endpoint,
                ssl_context=self._ssl_context,
                proxy=self._proxy,
                transport=cast("BlockingTransport | None", self._transport_option),
            )
        except ConnectCancelledError:
            return
        except OSError as error:
            failure = self._connect_error(error)
            raise failure from failure.__cause__
        finally:
            self._connecting = None
        with self._lock:
            self._stream = SocketStream(connected)
            self._changed.notify_all()

    def _cancel_connecting(self) -> None:
        if (connecting := self._connecting) is not None:
            connecting.cancel()

    def _control(self, call: Callable[[], None]) -> None:
        with self._lock:
            call()
            self._send()
            self._reschedule()

    def _send(self) -> None:
        """Write what the core made; wait until all of it is with the kernel."""
        self._flush()
        if self._broken:
            raise self._why_not_sent()
        if not self._output or self._machine.state is SessionState.CONNECTING:
            return
        end = self._output_taken + len(self._output)
        self._flow.waiting_senders += 1
        try:
            self._pump(lambda: self._output_taken >= end)
        finally:
            self._flow.waiting_senders -= 1
        if self._output_taken < end:
            raise self._why_not_sent()

    def _receive(self, timeout: float | None) -> Result | None:
        inbox = self._inbox
        with self._lock:
            if not inbox.ready:
                self._wait_for_message(timeout)
            if not self._flow.full:
                return inbox.take()
            result = inbox.take()
            self._flow.update(_clock())
            return result

    def _wait_for_message(self, timeout: float | None) -> None:
        self._require_started()
        self._read()
        if not self._inbox.ready:
            deadline = None if timeout is None else _clock() + timeout
            self._pump(lambda: self._inbox.ready, deadline=deadline)
            if not self._inbox.ready:
                self._require_started()
                raise receive_timeout_error(timeout or 0.0)

    def _pump(
        self,
        done: Callable[[], bool],
        *,
        deadline: float | None = None,
    ) -> None:
        """Move bytes and run timers until `done`, the deadline, or the end of the session.

        The lock is released while waiting.
        """
        while not done() and not self._machine.closed:
            timeout = self._time_left(deadline)
            if timeout is not None and timeout <= 0:
                if deadline is not None and deadline <= _clock():
                    return
                self._run_timers()
                continue
            may_read = self._flow.update(_clock())
            watch = may_read and not self._watching
            if self._stream is None or not (watch or self._output):
                self._sleep(timeout)
                continue
            readable = self._wait_for_socket(may_read, watch, timeout)
            if readable and not self._watching:
                self._read()
            self._flush()
            if readable and self._watching:
                # Whoever watches reads it, and tells.
                self._sleep(MOMENT)

    def _sleep(self, timeout: float | None) -> None:
        """Wait to be told of a change, without the lock."""
        self._sleepers += 1
        try:
            self._changed.wait(timeout)
        finally:
            self._sleepers -= 1

    def _wait_for_socket(self, may_read: bool, watch: bool, timeout: float | None) -> bool:
        """Wait without the lock, and return whether there is something to read.

        Who has something to write waits for input too, though another may watch for it: that
        one may leave at any time.
        """
        stream = self._stream
        assert stream is not None, "a session without a stream has nothing to wait for"
        write = bool(self._output)
        self._watching = self._watching or watch
        self._waiting += 1
        self._lock.release()
        try:
            return stream.wait(read=may_read, write=write, timeout=timeout)
        finally:
            self._lock.acquire()
            self._waiting -= 1
            if watch:
                self._watching = False
                # Somebody else may have to watch from here on.
                self._changed.notify_all()
            if self._machine.closed:
                self._release()

    def _time_left(self, deadline: float | None) -> float | None:
        """Return the seconds until `deadline` or the core's next timer, whichever is first."""
        timer = self._machine.next_timeout()
        moments = [moment for moment in (deadline, timer) if moment is not None]
        return min(moments) - _clock() if moments else None

    def _run_timers(self) -> None:
        due = self._machine.next_timeout()
        if due is not None and due <= (now := _clock()):
            self._deliver(self._machine.handle_timeout(now))
            self._flush()

    def _read(self) -> None:
        """Feed the core with what has arrived."""
        stream = self._stream
        while stream is not None and not self._machine.closed:
            if not self._flow.update(_clock()):
                return
            if self._flow.too_much:
                error = self._overflow_error()
                self._deliver(self._machine.fail(error, _clock(), close_code=1001))
                self._flush()
                return
            try:
                data = stream.read()
            except OSError as error:
                self._fail(error)
                return
            if data is None:
                return
            if data:
                self._deliver(self._machine.receive_data(data, _clock()))
                # Pongs and close frames are answered right here.
                waiting = len(self._output) + self._output_taken
                self._flush()
                if self._output:
                    self._flow.unsent_replies += len(self._output) + self._output_taken - waiting
                if not stream.has_more(data):
                    return
            else:
                self._deliver(self._machine.receive_eof(_clock()))
                self._flush()

    def _flush(self) -> None:
        """Write what fits of what the core made."""
        stream = self._stream
        if stream is None:
            return
        buffers = self._machine.buffers_to_send()
        try:
            if buffers and not self._output and not self._broken:
                written = stream.write_buffers(buffers)
                for buffer in buffers:
                    if written < len(buffer):
                        self._output += memoryview(buffer)[written:]
                    written = max(0, written - len(buffer))
            else:
                for buffer in buffers:
                    self._output += buffer
                if self._output and not self._broken:
                    written = stream.write(self._output)
                    self._output_taken += written
                    del self._output[:written]
        except OSError as error:
            self._write_failed(error)
        if self._flow.unsent_replies and not self._output:
            self._flow.unsent_replies = 0
        if self._machine.closed:
            self._release()

    def _write_failed(self, error: OSError) -> None:
        """The peer reads no more; what it said before is still to be read."""
        self._broken = True
        # As in a close: everything that the peer still said.
        self._flow.begin_closing()
        self._read()
        self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._deliver(self._machine.fail(self._lost_error(error), _clock()))
        self._release()

    def _deliver(self, events: list[Event]) -> None:
        if events:
            self._inbox.put(events)
            if self._sleepers:
                self._changed.notify_all()

    def _release(self) -> None:
        """Give the socket back, once the core is closed and no thread waits for it."""
        stream = self._stream
        if stream is None or not self._machine.closed:
            return
        self._changed.notify_all()
        if self._waiting:
            stream.shutdown()
        else:
            self._stream = None
            stream.close()

    # The ticker

    def _reschedule(self) -> None:
        """Have the ticker come in time for the core's next timer."""
        if self._machine.closed or self._stream is None:
            return
        when = _clock() + TICK_INTERVAL
        timer = self._machine.next_timeout()
        if timer is not None and timer < when:
            when = timer
        if self._tick_at is None or when < self._tick_at:
            self._tick_at = when
            ticker.schedule(self, when)

    def tick(self) -> float | None:
        """Look after the session while no thread does; called by the ticker."""
        with self._lock:
            if self._tick_at is None or _clock() < self._tick_at or self._machine.closed:
                return None
            if not self._watching:
                self._read()
            self._run_timers()
            self._flush()
            self._tick_at = None
            if self._machine.closed:
                return None
            self._tick_at = min(
                _clock() + TICK_INTERVAL, self._machine.next_timeout() or float("inf")
            )
            return self._tick_at
