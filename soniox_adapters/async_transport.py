"""What the async session needs of an event loop and a byte stream, whichever they are."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol

from soniox_adapters.connecting.proxy import ProxyOption
from soniox_proto import Endpoint

if TYPE_CHECKING:
    import asyncio
    import ssl

    import trio

__all__ = [
    "AsyncHost",
    "AsyncTransport",
    "ConnectOptions",
    "Signal",
    "event_loop_clock",
    "make_signal",
    "running_library",
]

WRITE_BUFFER_SIZE: Final = 64 * 1024
"""Bytes that may wait to be written before a sender has to wait."""


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
    # Imported here, for whoever has no event loop has no need of it.
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
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def notify(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
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


def event_loop_clock() -> Callable[[], float]:
    """Return the clock of the library that runs here, in seconds."""
    if running_library() == "trio":
        import trio

        return trio.current_time
    return _running_loop().time


def make_signal() -> Signal:
    """Return a signal for the library that runs here."""
    return _TrioSignal() if running_library() == "trio" else _AsyncioSignal()


class AsyncTransport(ABC):
    """One byte stream on one event loop. Everything but `open` and the waits is immediate."""

    __slots__ = ("_host", "writable", "writing_paused")

    calls_between_checkpoints: ClassVar[int] = 1
    """After how many sends that need not wait `checkpoint` is to be awaited."""

    def __init__(self, host: AsyncHost) -> None:
        self._host = host
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
        """Close at once, dropping what is not written; safe to repeat."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until the stream's resources are given back, which waits for no peer."""

    @abstractmethod
    async def checkpoint(self) -> None:
        """Let other tasks run, or do so once in a while, and notice cancellation."""
