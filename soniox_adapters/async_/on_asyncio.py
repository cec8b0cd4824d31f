"""The async session's transport on asyncio: a `BufferedProtocol`, without tasks or queues.

asyncio calls it as bytes arrive, and so the core, without waking a task in between. Streams of
asyncio or anyio would add a task switch and a copy to every read.

TLS is our own layer (`tls_stream`) above a plain connection. When a write fails, asyncio's TLS
drops what has already arrived, which is often the server's reason.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import threading
from contextlib import suppress
from time import perf_counter
from typing import cast

from typing_extensions import override

from soniox_adapters.async_.event_loop import Signal, make_signal
from soniox_adapters.async_.tls_stream import TLSStream
from soniox_adapters.async_.transport import (
    CLOSE_GRACE,
    WRITE_BUFFER_SIZE,
    AsyncTransport,
    ConnectOptions,
    TransportCallbacks,
)
from soniox_adapters.connecting.on_asyncio import connect_on_asyncio
from soniox_adapters.connecting.tls import client_context
from soniox_adapters.session.read_size import LARGEST_READ, ReadSize
from soniox_proto import SonioxValidationError

__all__ = ["AsyncioTransport"]

if sys.version_info >= (3, 11):
    from asyncio import timeout as _timeout
else:  # pragma: no cover
    from collections.abc import AsyncGenerator
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def _timeout(delay: float | None) -> AsyncGenerator[None]:
        from anyio import fail_after

        with fail_after(delay):
            yield


_buffers = threading.local()


def _read_buffer() -> memoryview:
    """Return a buffer to read into.

    Selector event loops call `buffer_updated` right after filling the buffer, so one per thread is
    enough for all sessions. The Windows proactor reads ahead, and needs one per transport.
    """
    if sys.platform == "win32":  # pragma: no cover
        return memoryview(bytearray(LARGEST_READ))
    buffer: memoryview | None = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = memoryview(bytearray(LARGEST_READ))
    return buffer


class AsyncioTransport(AsyncTransport, asyncio.BufferedProtocol):
    """A TCP or TLS connection driven by asyncio's callbacks."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_closing",
        "_grace",
        "_handshake",
        "_loop",
        "_lost",
        "_read_size",
        "_reading_paused",
        "_socket",
        "_transport",
    )

    calls_between_checkpoints = 32

    def __init__(self, callbacks: TransportCallbacks) -> None:
        super().__init__(callbacks)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        # Done when the TLS handshake is over; None without TLS.
        self._handshake: asyncio.Future[None] | None = None
        self._read_size = ReadSize()
        self._buffer = _read_buffer()[: self._read_size.value]
        # Aborts a close whose last bytes the peer does not take.
        self._grace: asyncio.TimerHandle | None = None
        self._reading_paused = False
        self._closing = False
        self._lost = False
        self._closed: Signal = make_signal()

    @property
    @override
    def unwritten(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @override
    async def open(self, options: ConnectOptions) -> None:
        # Not asyncio.wait_for, which may swallow a cancellation before Python 3.12.
        try:
            async with _timeout(options.timeout):
                await self._open(options)
        except BaseException:
            self.close()
            # The event loop closes the socket itself in its next iteration.
            import anyio

            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
            raise

    async def _open(self, options: ConnectOptions) -> None:
        endpoint, given = options.endpoint, options.transport
        if endpoint.secure:
            self._tls = TLSStream(client_context(options.ssl_context), endpoint.server_hostname)
            self._handshake = self._loop.create_future()
        if given is None:
            connected = await connect_on_asyncio(endpoint, options.proxy)
        else:
            connected = cast("socket.socket", given)
            if isinstance(connected, ssl.SSLSocket):
                raise SonioxValidationError(
                    "transport is a TLS socket, which an event loop cannot use; give a plain one, "
                    "TLS is added for a wss URL"
                )
            connected.setblocking(False)
        self._socket = connected
        await self._loop.create_connection(lambda: self, sock=connected)
        if self._handshake is not None:
            await self._handshake

    @override
    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        # asyncio logs a warning for every write to a lost connection.
        if not transport.is_closing():
            tls = self._tls
            transport.write(data if tls is None else self._encrypted(tls, data))
        if transport.is_closing() and not self._lost:
            # The write failed, and `connection_lost` is about to follow. Senders wait for it, so
            # that they raise instead of returning as if their audio were sent.
            self.pause_writing()

    @override
    def write_buffers(self, buffers: list[bytes]) -> None:
        # Not writelines, which fails to call pause_writing on Python 3.12.1 and 3.13.0.
        for buffer in buffers:
            self.write(buffer)

    @override
    def _write_ciphertext(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    @override
    def pause_reading(self) -> None:
        if self._transport is not None and not self._reading_paused and not self._closing:
            self._reading_paused = True
            self._transport.pause_reading()

    @override
    def resume_reading(self) -> None:
        if self._transport is not None and self._reading_paused and not self._closing:
            self._reading_paused = False
            self._transport.resume_reading()

    @override
    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        transport = self._transport
        if transport is None:
            return
        if self._tls is not None:
            self._tls.close()
            self._write_ciphertext(self._tls.data_to_send())
        if self._output_full or not self.unwritten:
            # A peer that has stopped reading will not read a close frame either.
            transport.abort()
        else:
            transport.close()
            self._grace = self._loop.call_later(CLOSE_GRACE, transport.abort)

    @override
    async def wait_closed(self) -> None:
        import anyio

        # Shielded, so that no socket outlives its session. It takes no peer to end this wait.
        with anyio.CancelScope(shield=True):
            while self._transport is not None and not self._lost:
                await self._closed.wait()

    @override
    def release(self) -> None:
        self._closing = self._lost = True
        if self._transport is not None:
            # abort schedules a callback, which raises now that the event loop is closed.
            with suppress(RuntimeError):
                self._transport.abort()
        if self._socket is not None:
            self._socket.close()

    @override
    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and begin the TLS handshake if there is one."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_SIZE)
        if self._closing:
            self._transport.abort()
        elif self._tls is not None:
            self._transport.write(self._tls.data_to_send())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read, and adapt the size of reads to how long that took."""
        buffer = self._buffer
        if nbytes < len(buffer):
            self._received(buffer[:nbytes])
            return
        began = perf_counter()
        self._received(buffer)
        self._read_size.adapt(perf_counter() - began)
        self._buffer = _read_buffer()[: self._read_size.value]

    def eof_received(self) -> None:
        """Report the end of the stream. Returning None makes asyncio close the transport."""
        if self._tls is not None and not self._tls.handshake_complete:
            self._tls.receive_eof()
            self._finish_handshake(self._tls)
        else:
            self._callbacks.eof_received()

    def pause_writing(self) -> None:
        """Make senders wait: asyncio holds `WRITE_BUFFER_SIZE` bytes of output."""
        self._output_full = True
        self._update_writing()

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._output_full = False
        self._update_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the loss of the connection, after passing on what the peer sent before."""
        self._lost = True
        if not self._closing:
            if exc is not None:
                self._read_rest()
            if self._tls is not None and not self._tls.handshake_complete:
                self._tls.receive_eof()
                self._finish_handshake(self._tls)
            elif isinstance(exc, OSError):
                self._callbacks.connection_failed(exc)
            else:
                self._callbacks.eof_received()
        if self._grace is not None:
            self._grace.cancel()
        self.writing_paused = False
        self._callbacks.writing_resumed()
        self._callbacks.transport_closed()
        self._closed.notify()

    # Inside

    def _received(self, data: bytes | memoryview) -> None:
        tls = self._tls
        if tls is None:
            self._callbacks.data_received(bytes(data))
        elif tls.handshake_complete:
            self._ciphertext_received(tls, data)
        else:
            early = tls.receive(data)
            self._write_ciphertext(tls.data_to_send())
            self._finish_handshake(tls)
            if early:
                self._callbacks.data_received(early)

    def _finish_handshake(self, tls: TLSStream) -> None:
        """Wake `open` if the TLS handshake is over."""
        handshake = self._handshake
        if handshake is None or handshake.done():
            return
        if tls.error is not None:
            handshake.set_exception(tls.error)
        elif tls.handshake_complete:
            handshake.set_result(None)

    def _read_rest(self) -> None:
        """Read what arrived before a write failed, because asyncio stops reading then."""
        assert self._transport is not None, "it has just been lost"
        connected = self._transport.get_extra_info("socket")
        try:
            while not self._closing and (data := os.read(connected.fileno(), LARGEST_READ)):
                self._received(data)
        except OSError:
            return
