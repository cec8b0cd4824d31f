"""The async session's transport on asyncio: a protocol, without tasks or queues."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import threading
from typing import Final, cast

from typing_extensions import override

from soniox_adapters.async_transport import (
    WRITE_BUFFER_SIZE,
    AsyncHost,
    AsyncTransport,
    ConnectOptions,
    Signal,
    make_signal,
)
from soniox_adapters.connecting.on_asyncio import connect_on_asyncio
from soniox_adapters.connecting.tls import client_context
from soniox_proto import SonioxValidationError

__all__ = ["AsyncioTransport"]

READ_SIZE: Final = 64 * 1024

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
    """Return where to read to.

    All sessions of a thread share it: an event loop hands over what it has read at once. Only that
    of Windows does not, which reads ahead.
    """
    if sys.platform == "win32":  # pragma: no cover
        return memoryview(bytearray(READ_SIZE))
    buffer: memoryview | None = getattr(_buffers, "buffer", None)
    if buffer is None:
        # Not a bytearray: asyncio's TLS writes into slices of it, which would be copies.
        buffer = _buffers.buffer = memoryview(bytearray(READ_SIZE))
    return buffer


class AsyncioTransport(AsyncTransport, asyncio.BufferedProtocol):
    """A TCP or TLS connection driven by asyncio's callbacks."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_closing",
        "_loop",
        "_lost",
        "_reading_paused",
        "_timer",
        "_timer_at",
        "_transport",
    )

    calls_between_checkpoints = 32

    def __init__(self, host: AsyncHost) -> None:
        super().__init__(host)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = _read_buffer()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._reading_paused = False
        self._closing = False
        self._lost = False
        self._closed: Signal = make_signal()

    @override
    async def open(self, options: ConnectOptions) -> None:
        # Not asyncio.wait_for, which may swallow a cancellation until Python 3.12.
        try:
            async with _timeout(options.timeout):
                await self._open(options)
        except BaseException:
            # asyncio would end TLS gracefully, waiting for the peer. The socket itself is closed
            # by the event loop's next turn.
            self.close()
            import anyio

            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
            raise

    async def _open(self, options: ConnectOptions) -> None:
        endpoint, given = options.endpoint, options.transport
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
        await self._loop.create_connection(lambda: self, sock=connected)
        if endpoint.secure:
            # In a second step, so that the first transport is at hand if this one is cancelled.
            assert self._transport is not None, "create_connection calls connection_made"
            self._transport = await self._loop.start_tls(
                self._transport,
                self,
                client_context(options.ssl_context),
                server_hostname=endpoint.host,
            )
            self._set_up_transport()

    @override
    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._lost:
            self._transport.write(data)

    @override
    def write_buffers(self, buffers: list[bytes]) -> None:
        if self._transport is not None and not self._lost:
            self._transport.writelines(buffers)

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
    def set_timer(self, when: float | None) -> None:
        # A deadline that moved away is left: it fires in vain, once, instead of being re-armed
        # with every message.
        if when is None or (self._timer is not None and self._timer_at <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        # Kept here: a handle of uvloop does not always tell.
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._host.timer_expired()

    @override
    def close(self) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            # Not close(): it would wait for the peer, to take what is left and to end TLS.
            self._transport.abort()

    @override
    async def wait_closed(self) -> None:
        import anyio

        # Shielded: it waits for no peer, and a closed session is to have no socket.
        with anyio.CancelScope(shield=True):
            while self._transport is not None and not self._lost:
                await self._closed.wait()

    @override
    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._set_up_transport()

    def _set_up_transport(self) -> None:
        assert self._transport is not None, "it has just been made"
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_SIZE)
        if self._closing:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what was read."""
        self._host.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        """Tell of the end; returning None closes the transport."""
        self._host.eof_received()

    def pause_writing(self) -> None:
        """Have senders wait."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """Let senders go on."""
        self.writing_paused = False
        self.writable.notify()
        self._host.writing_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of the loss, after what the peer still said."""
        self._lost = True
        if not self._closing:
            if exc is not None:
                self._read_rest()
            if isinstance(exc, OSError):
                self._host.connection_failed(exc)
            else:
                self._host.eof_received()
        self.writing_paused = False
        self.writable.notify()
        self._closed.notify()

    def _read_rest(self) -> None:
        """Read what arrived before a write failed: asyncio gives up reading then."""
        transport = self._transport
        if transport is None or transport.get_extra_info("ssl_object") is not None:
            return
        connected = transport.get_extra_info("socket")
        try:
            while data := os.read(connected.fileno(), READ_SIZE):
                self._host.data_received(data)
        except OSError:
            return
