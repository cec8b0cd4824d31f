"""The async session's transport on trio, and on any stream of anyio or trio that it is given.

These streams have to be awaited, so one task reads and one writes. Both belong to the event loop,
not to the task that opened the session, because a session may be entered in one task and closed in
another. Plain sockets are written to directly, and the writing task gets only what they do not
take: waking it for every chunk would cost more than the write.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.streams.tls
from typing_extensions import override

from soniox_adapters.async_.byte_streams import (
    AnyioStream,
    ByteStream,
    TrioSocket,
    TrioStream,
    as_os_error,
)
from soniox_adapters.async_.event_loop import (
    Turn,
    clock_of_work,
    current_time,
    make_signal,
    running_library,
)
from soniox_adapters.async_.tls_stream import TLSStream
from soniox_adapters.async_.transport import (
    CLOSE_GRACE,
    WRITE_BUFFER_SIZE,
    AsyncTransport,
    ConnectOptions,
    TransportCallbacks,
)
from soniox_adapters.connecting.failures import is_fault_of_code
from soniox_adapters.connecting.tls import client_context
from soniox_adapters.session.read_size import LARGEST_READ, ReadSize
from soniox_proto import SonioxError, SonioxValidationError

__all__ = ["StreamTransport"]

CALLS_BETWEEN_YIELDS: Final = 16
"""Number of checkpoints of which only the last lets other tasks run. The others only check for
cancellation, which is cheaper."""


async def _open_on_trio(options: ConnectOptions) -> tuple[ByteStream, bool]:
    """Return the stream to use, and whether it already does TLS."""
    import trio

    endpoint, given = options.endpoint, options.transport
    if isinstance(given, trio.abc.Stream):
        return TrioStream(given), isinstance(given, trio.SSLStream)
    if isinstance(given, ssl.SSLSocket):
        raise SonioxValidationError(
            "transport is a TLS socket, which an event loop cannot use; give a plain one, TLS is "
            "added for a wss URL"
        )
    if isinstance(given, socket.socket):
        connected = given
    elif given is not None:
        return await _open_on_anyio(options)
    else:
        from soniox_adapters.connecting.on_trio import connect_on_trio

        connected = await connect_on_trio(endpoint, options.proxy)
    connected.setblocking(False)
    return TrioSocket(connected), False


async def _open_on_anyio(options: ConnectOptions) -> tuple[ByteStream, bool]:
    """Return the stream to use, and whether it already does TLS."""
    stream = options.transport
    if not isinstance(stream, anyio.abc.ByteStream):
        raise SonioxValidationError(
            "transport must be a connected socket, a byte stream of anyio or trio, or a function "
            f"that returns one, not {type(stream).__name__}"
        )
    attribute = anyio.streams.tls.TLSAttribute.standard_compatible
    return AnyioStream(stream), stream.extra(attribute, None) is not None


class StreamTransport(AsyncTransport):
    """A byte stream of trio or anyio, with a task that reads and one that writes."""

    def __init__(self, callbacks: TransportCallbacks) -> None:
        super().__init__(callbacks)
        self._on_trio = running_library() == "trio"
        self._stream: ByteStream | None = None
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None
        self._output = bytearray()
        self._in_flight = 0
        self._write_error: BaseException | None = None
        self._reads = 0
        self._reading_paused = False
        self._closing = False
        self._lost = False
        self._wake_reader = make_signal()
        self._wake_writer = make_signal()
        self._closed = make_signal()
        self._calls = 0
        self._checkpoint_if_cancelled = anyio.lowlevel.checkpoint_if_cancelled
        if self._on_trio:
            # Not through anyio, which takes ten times as long for this.
            import trio.lowlevel

            self._checkpoint_if_cancelled = trio.lowlevel.checkpoint_if_cancelled

    @property
    @override
    def unwritten(self) -> int:
        return len(self._output) + self._in_flight

    @override
    async def open(self, options: ConnectOptions) -> None:
        try:
            with anyio.fail_after(options.timeout):
                self._stream = await self._open(options)
        except (SonioxError, OSError):
            raise
        except Exception as error:
            if is_fault_of_code(error):
                raise
            raise as_os_error(error) from error
        if self._on_trio:
            import trio

            trio.lowlevel.spawn_system_task(self._run, self._stream)
        else:
            self._task = asyncio.create_task(self._run(self._stream))

    async def _open(self, options: ConnectOptions) -> ByteStream:
        opener = _open_on_trio if self._on_trio else _open_on_anyio
        stream, secured = await opener(options)
        if options.endpoint.secure and not secured:
            try:
                await self._start_tls(
                    stream, client_context(options.ssl_context), options.endpoint.server_hostname
                )
            except BaseException:
                with suppress(Exception):
                    await stream.close()
                raise
        return stream

    async def _start_tls(self, stream: ByteStream, context: ssl.SSLContext, host: str) -> None:
        tls = TLSStream(context, host)
        await stream.send(tls.data_to_send())
        early = b""
        while not tls.handshake_complete:
            if data := await stream.receive(LARGEST_READ):
                early = tls.receive(data)
            else:
                tls.receive_eof()
            if answer := tls.data_to_send():
                # If TLS has failed, that error (a bad certificate, say) is the one to raise, not
                # the failure to send the alert about it.
                with suppress(*([Exception] if tls.error is not None else [])):
                    await stream.send(answer)
            if tls.error is not None:
                raise tls.error
        self._tls = tls
        if early:
            self._callbacks.data_received(early)

    @override
    def write(self, data: bytes) -> None:
        tls = self._tls
        self._write_ciphertext(data if tls is None else self._encrypted(tls, data))

    @override
    def _write_ciphertext(self, data: bytes) -> None:
        stream = self._stream
        if stream is None or self._lost:
            return
        if not (self._output or self._in_flight or self._write_error):
            try:
                sent = stream.send_at_once(data)
            except Exception as error:
                # Whatever a socket of the user's own class raises is the stream's failure.
                self._write_error = as_os_error(error)
                # Senders wait until what the peer sent before has been read. Then they raise,
                # because their audio is not sent.
                self._output_full = True
                self._update_writing()
                self._wake_writer.notify()
                return
            if sent == len(data):
                return
            data = data[sent:]
        if data:
            self._output += data
            if self.unwritten > WRITE_BUFFER_SIZE:
                self._output_full = True
                self._update_writing()
            self._wake_writer.notify()

    @override
    def pause_reading(self) -> None:
        self._reading_paused = True

    @override
    def resume_reading(self) -> None:
        self._reading_paused = False
        self._wake_reader.notify()

    @override
    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._tls is not None:
            self._tls.close()
            self._write_ciphertext(self._tls.data_to_send())
        if not self.unwritten or self._output_full or self._write_error is not None:
            # A peer that has stopped reading will not read a close frame either.
            self._scope.cancel()
        else:
            self._scope.deadline = current_time() + CLOSE_GRACE
            self._wake_writer.notify()

    @override
    async def wait_closed(self) -> None:
        # Shielded, so that no socket outlives its session. It takes no peer to end this wait.
        with anyio.CancelScope(shield=True):
            while self._stream is not None and not self._lost:
                await self._closed.wait()

    @override
    def release(self) -> None:
        self._closing = self._lost = True
        if self._stream is not None:
            self._stream.abandon()

    @override
    async def checkpoint(self) -> None:
        self._calls += 1
        if self._calls >= CALLS_BETWEEN_YIELDS:
            self._calls = 0
            await anyio.lowlevel.checkpoint()
        else:
            await self._checkpoint_if_cancelled()

    # The tasks

    async def _run(self, stream: ByteStream) -> None:
        """Move bytes until the stream ends or is closed.

        Must not raise, whatever the user's stream does: on trio that would end the program.
        """
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._read, stream)
                    group.start_soon(self._write, stream)
            if not self._scope.cancel_called:
                # Somebody else's cancellation, which the task group took for its own.
                raise ConnectionAbortedError("the stream was cancelled")
        except BaseException as error:
            self._callbacks.connection_failed(as_os_error(error))
        finally:
            # On asyncio, KeyboardInterrupt and the cancellation at the end of the loop must pass.
            ignored = BaseException if self._on_trio else Exception
            try:
                with anyio.CancelScope(shield=True), suppress(ignored):
                    await stream.close()
            finally:
                self._lost = True
                self.writing_paused = False
                self._callbacks.writing_resumed()
                self._callbacks.transport_closed()
                self._closed.notify()

    async def _read(self, stream: ByteStream) -> None:
        clock = clock_of_work()
        turn, size = Turn(clock), ReadSize()
        try:
            while data := await stream.receive(size.value):
                self._reads += 1
                began = clock()
                if self._tls is None:
                    self._callbacks.data_received(data)
                else:
                    self._ciphertext_received(self._tls, data)
                if len(data) == size.value:
                    size.adapt(clock() - began)
                await turn.end_if_long()
                while self._reading_paused and not self._write_error:
                    await self._wake_reader.wait()
        except Exception as error:
            self._callbacks.connection_failed(as_os_error(error))
        else:
            self._callbacks.eof_received()

    async def _write(self, stream: ByteStream) -> None:
        try:
            while self._write_error is None:
                while self._output:
                    data = bytes(self._output)
                    self._output.clear()
                    self._in_flight = len(data)
                    await stream.send(data)
                    self._in_flight = 0
                    if self._output_full and not self._output:
                        self._output_full = False
                        self._update_writing()
                if self._closing:
                    self._scope.cancel()
                await self._wake_writer.wait()
            raise self._write_error
        except Exception as error:
            # The peer may have sent its reason before it hung up. So go on reading until nothing
            # has come for `CLOSE_GRACE` seconds.
            self._write_error = error
            self._wake_reader.notify()
            reads = -1
            while reads != self._reads:
                reads = self._reads
                await anyio.sleep(CLOSE_GRACE)
            self._callbacks.connection_failed(as_os_error(error))
