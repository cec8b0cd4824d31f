"""The async session's transport on trio, and on any stream of anyio or trio that it is given.

Sockets are written to at once, and only what they do not take waits. One task reads, one writes,
one keeps the time. They belong to the event loop, not to the task that opened the session: a
session may be entered in one task and closed in another.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.streams.tls
from typing_extensions import override

from soniox_adapters.async_transport import (
    WRITE_BUFFER_SIZE,
    AsyncHost,
    AsyncTransport,
    ConnectOptions,
    make_signal,
    running_library,
)
from soniox_adapters.connecting.failures import is_fault_of_code
from soniox_adapters.connecting.tls import client_context
from soniox_adapters.socket_stream import SocketStream
from soniox_proto import SonioxError, SonioxValidationError

if TYPE_CHECKING:
    import trio

__all__ = ["StreamTransport"]

READ_SIZE: Final = 64 * 1024

CALLS_BETWEEN_YIELDS: Final = 16


MOMENT: Final = 0.01
"""Seconds until another try where two tasks wait for the same."""

CLOSE_GRACE: Final = 1.0
"""Seconds that a last close frame may take to be written."""


class _ByteStream(Protocol):
    """What streams of anyio and of trio have in common, under one set of names."""

    async def receive(self) -> bytes:
        """Return what has arrived, ``b""`` at the end; raises `OSError` on failure."""
        ...

    def send_at_once(self, data: bytes) -> int:
        """Write what can be written without waiting, and return how many bytes that is."""
        ...

    async def send(self, data: bytes) -> None:
        """Write all of it; raises `OSError` on failure."""
        ...

    async def close(self) -> None:
        """Close without waiting for the peer."""
        ...


class _TrioSocket:
    """A socket, plain or TLS, tried first and waited for only then."""

    def __init__(self, connected: socket.socket) -> None:
        import trio

        self._socket = connected
        self._stream = SocketStream(connected)
        self._wait_readable = trio.lowlevel.wait_readable
        self._wait_writable = trio.lowlevel.wait_writable
        self._busy = trio.BusyResourceError
        self._may_have_more = True

    async def receive(self) -> bytes:
        if not self._may_have_more:
            await self._wait(read=True)
        while (data := self._stream.read()) is None:
            await self._wait(read=not self._stream.read_waits_for_write)
        self._may_have_more = self._stream.has_more(data)
        return data

    def send_at_once(self, data: bytes) -> int:
        return self._stream.write(data)

    async def send(self, data: bytes) -> None:
        left = memoryview(data)
        while left := left[self._stream.write(left) :]:
            await self._wait(read=self._stream.write_waits_for_read)

    async def handshake(self, context: ssl.SSLContext, server_hostname: str) -> None:
        """Make it TLS."""
        secured = context.wrap_socket(
            self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
        )
        self._socket, self._stream = secured, SocketStream(secured)
        while (awaited := _continue_handshake(secured)) is not None:
            await self._wait(read=awaited == "read")

    async def _wait(self, *, read: bool) -> None:
        try:
            await (self._wait_readable if read else self._wait_writable)(self._socket)
        except self._busy:
            # TLS that must read to write, or the other way: the other task waits for the same.
            await anyio.sleep(MOMENT)

    async def close(self) -> None:
        import trio

        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


def _continue_handshake(secured: ssl.SSLSocket) -> Literal["read", "write"] | None:
    """Return what has to be waited for, None once TLS is set up."""
    try:
        secured.do_handshake()
    except ssl.SSLWantReadError:
        return "read"
    except ssl.SSLWantWriteError:
        return "write"
    return None


class _AnyioStream:
    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream

    async def receive(self) -> bytes:
        try:
            return await self._stream.receive(READ_SIZE)
        except anyio.EndOfStream:
            return b""

    def send_at_once(self, data: bytes) -> int:
        return 0

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def close(self) -> None:
        await anyio.aclose_forcefully(self._stream)


class _TrioStream:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(READ_SIZE))

    def send_at_once(self, data: bytes) -> int:
        return 0

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self) -> None:
        import trio

        await trio.aclose_forcefully(self._stream)


def _as_os_error(error: Exception) -> OSError:
    """Return the failure behind what a stream raised: the libraries wrap it in their own."""
    cause = error.__cause__
    for candidate in (error, cause):
        if isinstance(candidate, OSError):
            return candidate
    failure = ConnectionError(str(cause or error) or type(error).__name__)
    failure.__cause__ = error
    return failure


async def _open_on_trio(options: ConnectOptions) -> _ByteStream:
    import trio

    endpoint, given = options.endpoint, options.transport
    if isinstance(given, trio.abc.Stream):
        return await _secured_on_trio(given, options)
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
    stream = _TrioSocket(connected)
    if endpoint.secure:
        try:
            await stream.handshake(client_context(options.ssl_context), endpoint.host)
        except BaseException:
            await stream.close()
            raise
    return stream


async def _secured_on_trio(stream: trio.abc.Stream, options: ConnectOptions) -> _ByteStream:
    import trio

    already_secure: bool = isinstance(cast("object", stream), trio.SSLStream)
    if not options.endpoint.secure or already_secure:
        return _TrioStream(stream)
    secured = trio.SSLStream(
        stream,
        client_context(options.ssl_context),
        server_hostname=options.endpoint.host,
        # Servers commonly leave out the closing alert; WebSocket has its own close frame.
        https_compatible=True,
    )
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return _TrioStream(secured)


async def _open_on_anyio(options: ConnectOptions) -> _ByteStream:
    endpoint, stream = options.endpoint, options.transport
    if not isinstance(stream, anyio.abc.ByteStream):
        raise SonioxValidationError(
            "transport must be a connected socket, a byte stream of anyio or trio, or a function "
            f"that returns one, not {type(stream).__name__}"
        )
    attribute = anyio.streams.tls.TLSAttribute.standard_compatible
    if not endpoint.secure or stream.extra(attribute, None) is not None:
        return _AnyioStream(stream)
    try:
        secured = await anyio.streams.tls.TLSStream.wrap(
            stream,
            hostname=endpoint.host,
            ssl_context=client_context(options.ssl_context),
            standard_compatible=False,
        )
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return _AnyioStream(secured)


class StreamTransport(AsyncTransport):
    """A byte stream of trio or anyio, moved by tasks."""

    def __init__(self, host: AsyncHost) -> None:
        super().__init__(host)
        self._on_trio = running_library() == "trio"
        self._stream: _ByteStream | None = None
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None
        self._output = bytearray()
        self._in_flight = 0
        self._write_error: Exception | None = None
        self._reading_paused = False
        self._closing = False
        self._lost = False
        self._timer_at: float | None = None
        self._wake_reader = make_signal()
        self._wake_writer = make_signal()
        self._wake_timer = make_signal()
        self._closed = make_signal()
        self._calls = 0
        self._checkpoint_if_cancelled = anyio.lowlevel.checkpoint_if_cancelled
        if self._on_trio:
            # Not through anyio, which takes ten times as long.
            import trio.lowlevel

            self._checkpoint_if_cancelled = trio.lowlevel.checkpoint_if_cancelled

    @override
    async def open(self, options: ConnectOptions) -> None:
        opener = _open_on_trio if self._on_trio else _open_on_anyio
        try:
            with anyio.fail_after(options.timeout):
                self._stream = await opener(options)
        except (SonioxError, OSError):
            raise
        except Exception as error:
            if is_fault_of_code(error):
                raise
            raise _as_os_error(error) from error
        if self._on_trio:
            import trio

            trio.lowlevel.spawn_system_task(self._run, self._stream)
        else:
            self._task = asyncio.create_task(self._run(self._stream))

    @override
    def write(self, data: bytes) -> None:
        stream = self._stream
        if stream is None or self._lost:
            return
        if not (self._output or self._in_flight or self._write_error):
            try:
                sent = stream.send_at_once(data)
            except OSError as error:
                self._write_error = error
                self._wake_writer.notify()
                return
            if sent == len(data):
                return
            data = data[sent:]
        if data:
            self._output += data
            if len(self._output) + self._in_flight > WRITE_BUFFER_SIZE:
                self.writing_paused = True
            self._wake_writer.notify()

    @override
    def pause_reading(self) -> None:
        self._reading_paused = True

    @override
    def resume_reading(self) -> None:
        self._reading_paused = False
        self._wake_reader.notify()

    @override
    def set_timer(self, when: float | None) -> None:
        if when is not None and (self._timer_at is None or when < self._timer_at):
            self._timer_at = when
            self._wake_timer.notify()

    @override
    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self.writing_paused or not (self._in_flight or self._output):
            # Whoever does not take what waits takes no close frame either.
            self._scope.cancel()
        else:
            self._scope.deadline = anyio.current_time() + CLOSE_GRACE
            self._wake_writer.notify()

    @override
    async def wait_closed(self) -> None:
        # Shielded: it waits for no peer, and a closed session is to have no socket.
        with anyio.CancelScope(shield=True):
            while self._stream is not None and not self._lost:
                await self._closed.wait()

    @override
    async def checkpoint(self) -> None:
        self._calls += 1
        if self._calls >= CALLS_BETWEEN_YIELDS:
            self._calls = 0
            await anyio.lowlevel.checkpoint()
        else:
            await self._checkpoint_if_cancelled()

    # The tasks

    async def _run(self, stream: _ByteStream) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._read, stream)
                    group.start_soon(self._write, stream)
                    group.start_soon(self._keep_time)
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await stream.close()
                finally:
                    self._lost = True
                    self.writing_paused = False
                    self.writable.notify()
                    self._closed.notify()

    async def _read(self, stream: _ByteStream) -> None:
        try:
            while data := await stream.receive():
                self._host.data_received(data)
                while self._reading_paused and not self._write_error:
                    await self._wake_reader.wait()
        except Exception as error:
            self._host.connection_failed(_as_os_error(error))
        else:
            self._host.eof_received()

    async def _write(self, stream: _ByteStream) -> None:
        try:
            while self._write_error is None:
                while self._output:
                    data = bytes(self._output)
                    self._output.clear()
                    self._in_flight = len(data)
                    await stream.send(data)
                    self._in_flight = 0
                    if self.writing_paused and not self._output:
                        self.writing_paused = False
                        self.writable.notify()
                        self._host.writing_resumed()
                if self._closing:
                    self._scope.cancel()
                await self._wake_writer.wait()
            raise self._write_error
        except Exception as error:
            # The reader goes first: what the peer said before it hung up is still to be read.
            self._write_error = error
            self._wake_reader.notify()
            await anyio.sleep(CLOSE_GRACE)
            self._host.connection_failed(_as_os_error(error))

    async def _keep_time(self) -> None:
        while True:
            if self._timer_at is None:
                await self._wake_timer.wait()
                continue
            with anyio.CancelScope(deadline=self._timer_at):
                await self._wake_timer.wait()
            if self._timer_at <= anyio.current_time():
                self._timer_at = None
                self._host.timer_expired()
