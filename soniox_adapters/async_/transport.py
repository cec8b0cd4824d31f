"""What the async session needs of an event loop and of a byte stream, whichever they are."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol

from typing_extensions import override

from soniox_adapters.connecting.proxy import ProxyOption
from soniox_proto import Endpoint

if TYPE_CHECKING:
    import asyncio
    import ssl

    import trio

    from soniox_adapters.async_.tls_stream import TLSStream

__all__ = [
    "AsyncHost",
    "AsyncTransport",
    "ConnectOptions",
    "EventLoop",
    "Signal",
    "Turn",
    "current_event_loop",
    "give_way",
    "make_signal",
    "running_library",
]

WRITE_BUFFER_SIZE: Final = 64 * 1024
"""Bytes that may wait to be written before a sender has to wait."""

CLOSE_GRACE: Final = 1.0
"""Seconds that the last bytes, usually a close frame, may take to be written."""


LONGEST_TURN: Final = 0.01
"""Seconds without a turn for other tasks, after which they get one."""

TURNS: Final = 3
"""Turns of the event loop in which a message is noticed, read, and handed to the task that waits
for it. A task that blocks in between leaves no more of them than these."""


def running_library() -> Literal["asyncio", "trio"]:
    """Return which library runs the current task.

    Raises `RuntimeError` outside of one.
    """
    trio_lowlevel = sys.modules.get("trio.lowlevel")
    if trio_lowlevel is not None:
        try:
            trio_lowlevel.current_task()
        except RuntimeError:
            pass  # trio is loaded, but does not run here.
        else:
            return "trio"
    _running_loop()
    return "asyncio"


def _running_loop() -> asyncio.AbstractEventLoop:
    # Imported here because blocking sessions have no need of it.
    import asyncio

    return asyncio.get_running_loop()


@dataclass(slots=True)
class AsyncHost:
    """What a transport tells its session. None of it waits or raises."""

    data_received: Callable[[bytes], None]
    """Bytes have arrived."""
    eof_received: Callable[[], None]
    """The stream has ended."""
    connection_failed: Callable[[OSError], None]
    """The stream has failed."""
    writing_resumed: Callable[[], None]
    """What waited to be written is written."""
    timer_expired: Callable[[], None]
    """The time given to `set_timer` has come."""


@dataclass(slots=True)
class ConnectOptions:
    """How to open a stream."""

    endpoint: Endpoint
    timeout: float | None
    ssl_context: ssl.SSLContext | None
    proxy: ProxyOption
    transport: object


class Signal(Protocol):
    """Wakes all tasks that wait for it; forgets when none does."""

    async def wait(self) -> None:
        """Wait for the next `notify`."""
        ...

    def notify(self) -> None:
        """Wake all who wait."""
        ...


class _AsyncioSignal:
    __slots__ = ("_loop", "_waiters")

    def __init__(self) -> None:
        self._loop = _running_loop()
        self._waiters: dict[asyncio.Future[None], None] = {}

    async def wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            # Still there if the wait was cancelled.
            self._waiters.pop(waiter, None)

    def notify(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, {}
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


class _TrioSignal:
    __slots__ = ("_lot",)

    def __init__(self) -> None:
        import trio

        self._lot: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()

    async def wait(self) -> None:
        await self._lot.park()

    def notify(self) -> None:
        self._lot.unpark_all()


def make_signal() -> Signal:
    """Return a signal for the library that runs here."""
    return _TrioSignal() if running_library() == "trio" else _AsyncioSignal()


async def give_way() -> None:
    """Let other tasks run, and notice cancellation."""
    if running_library() == "trio":
        import trio

        await trio.lowlevel.checkpoint()
    else:
        import asyncio

        await asyncio.sleep(0)


class Turn:
    """How long a task has had the event loop for itself."""

    __slots__ = ("_ends_at",)

    def __init__(self) -> None:
        self._ends_at = time.monotonic() + LONGEST_TURN

    async def end_if_long(self) -> None:
        """Give way if it has been long."""
        if time.monotonic() >= self._ends_at:
            for _ in range(TURNS):
                await give_way()
            self._ends_at = time.monotonic() + LONGEST_TURN


class EventLoop(ABC):
    """The event loop that a session was entered in, and the only one it can be used in."""

    __slots__ = ("clock",)

    clock: Callable[[], float]
    """Its clock, in seconds."""

    @abstractmethod
    def runs_here(self) -> bool:
        """Return whether it runs the current task."""

    @abstractmethod
    def call_from_elsewhere(self, callback: Callable[[], None]) -> bool:
        """Have it call `callback`, from any thread; return False if it has ended."""


class _AsyncioLoop(EventLoop):
    __slots__ = ("_current_loop", "_is_running", "_loop", "_thread")

    def __init__(self) -> None:
        import asyncio

        self._current_loop = asyncio.get_running_loop
        self._loop = self._current_loop()
        self._is_running = self._loop.is_running
        self._thread = get_ident()
        self.clock = self._loop.time

    @override
    def runs_here(self) -> bool:
        # Asking which loop runs takes a system call before Python 3.12. A thread runs one loop at
        # a time, so in the thread of this one it is enough that it runs.
        if get_ident() == self._thread:
            return self._is_running()
        try:
            return self._current_loop() is self._loop
        except RuntimeError:
            return False

    @override
    def call_from_elsewhere(self, callback: Callable[[], None]) -> bool:
        # One that was only stopped might never go on.
        if not self._loop.is_running():
            return False
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # pragma: no cover (it has ended since)
            return False
        return True


class _TrioLoop(EventLoop):
    __slots__ = ("_current_token", "_run_finished", "_token")

    def __init__(self) -> None:
        import trio

        self.clock = trio.current_time
        self._current_token = trio.lowlevel.current_trio_token
        self._run_finished = trio.RunFinishedError
        self._token = self._current_token()

    @override
    def runs_here(self) -> bool:
        try:
            return self._current_token() is self._token
        except RuntimeError:
            return False

    @override
    def call_from_elsewhere(self, callback: Callable[[], None]) -> bool:
        try:
            self._token.run_sync_soon(callback)
        except self._run_finished:
            return False
        return True


def current_event_loop() -> EventLoop:
    """Return the event loop that runs the current task; raises `RuntimeError` outside of one."""
    return _TrioLoop() if running_library() == "trio" else _AsyncioLoop()


class AsyncTransport(ABC):
    """One byte stream on one event loop. Everything but `open` and the waits is immediate."""

    __slots__ = ("_host", "_output_full", "_tls", "writable", "writing_paused")

    calls_between_checkpoints: ClassVar[int] = 1
    """After how many sends that need not wait `checkpoint` is to be awaited."""

    def __init__(self, host: AsyncHost) -> None:
        self._host = host
        # Set once TLS is to be spoken on this stream.
        self._tls: TLSStream | None = None
        self._output_full = False
        self.writable: Signal = make_signal()
        self.writing_paused = False
        """Whether so much waits to be written that senders should wait for `writable`."""

    @abstractmethod
    async def open(self, options: ConnectOptions) -> None:
        """Open the stream.

        Raises `OSError` if that fails, `TimeoutError` if it takes longer than the options allow.
        """

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write, or keep for writing; nothing, for ``b""``."""

    def write_buffers(self, buffers: list[bytes]) -> None:
        """Write all of the buffers, without joining them where that can be."""
        self.write(b"".join(buffers))

    @abstractmethod
    def pause_reading(self) -> None:
        """Read no more; safe to repeat."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read again; safe to repeat."""

    @abstractmethod
    def set_timer(self, when: float | None) -> None:
        """Call the host's `timer_expired` at `when`; an earlier call than that is allowed."""

    @abstractmethod
    def close(self) -> None:
        """Close, dropping what the peer does not take at once; safe to repeat."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until the stream's resources are given back, which waits for no peer."""

    @abstractmethod
    def release(self) -> None:
        """Give the stream's resources back after the event loop has ended."""

    @abstractmethod
    async def checkpoint(self) -> None:
        """Let other tasks run, or do so once in a while, and notice cancellation."""

    # Inside

    @abstractmethod
    def _write_ciphertext(self, data: bytes) -> None:
        """Do as `write` with what TLS made."""

    def _encrypted(self, tls: TLSStream, data: bytes) -> bytes:
        ciphertext = tls.send(data)
        if tls.blocked:
            self._update_writing()
        return ciphertext

    def _ciphertext_received(self, tls: TLSStream, data: bytes | memoryview) -> None:
        """Decrypt what has arrived and hand it on, then how it ended, if it did."""
        plaintext = tls.receive(data)
        # The answer to a change of keys, for example.
        self._write_ciphertext(tls.data_to_send())
        if plaintext:
            self._host.data_received(plaintext)
        if tls.error is not None:
            self._host.connection_failed(tls.error)
        elif tls.ended:
            self._host.eof_received()
        self._update_writing()

    def _update_writing(self) -> None:
        """Have senders wait or go on, as what waits to be written demands."""
        paused = self._output_full or (self._tls is not None and self._tls.blocked)
        if paused is self.writing_paused:
            return
        self.writing_paused = paused
        if not paused:
            self.writable.notify()
            self._host.writing_resumed()
