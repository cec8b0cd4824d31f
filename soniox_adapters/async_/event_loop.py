"""What the async session needs of an event loop, on asyncio and on trio.

anyio offers most of it for both, but ties it to tasks: its timers and background tasks need a task
group, which has to be entered and left by the same task, one inside the other. A session may be
entered in one task and closed in another. So the little that differs stands here, on each library's
own primitives: a signal, a timer, a background task, a checkpoint, and the question whether a call
comes from the session's own event loop.
"""

from __future__ import annotations

import contextvars
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import TYPE_CHECKING, Final, Literal, Protocol

from typing_extensions import override

if TYPE_CHECKING:
    import asyncio

    import trio

__all__ = [
    "EventLoop",
    "Signal",
    "Timer",
    "Turn",
    "clock_of_work",
    "current_event_loop",
    "current_time",
    "give_way",
    "make_signal",
    "pass_on_interrupt",
    "running_library",
]

LONGEST_TURN: Final = 0.01
"""Seconds that a task may run before it lets others run."""

TURNS: Final = 3
"""Iterations of the event loop to give way for. A message takes this many to get through: one to
notice that the socket is readable, one to read it, one to run the task that waits for it. A busy
task that gave way for fewer would delay every message."""


def running_library() -> Literal["asyncio", "trio"]:
    """Return which library runs the current task; raises `RuntimeError` if there is no task."""
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
    # Imported here because blocking sessions do not need it.
    import asyncio

    return asyncio.get_running_loop()


class Signal(Protocol):
    """Wakes all tasks that are waiting for it. A notification while none is waiting is lost."""

    async def wait(self) -> None:
        """Wait for the next `notify`."""
        ...

    def notify(self) -> None:
        """Wake all waiting tasks."""
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
            # Already removed unless the wait was cancelled.
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
    """Return a signal for the library that runs the current task."""
    return _TrioSignal() if running_library() == "trio" else _AsyncioSignal()


def pass_on_interrupt(error: BaseException) -> None:
    """Raise Ctrl-C in a background task, where that ends the program.

    On asyncio Ctrl-C may interrupt any task. On trio it does not interrupt background tasks, and
    they must not raise anything.
    """
    if isinstance(error, KeyboardInterrupt) and running_library() == "asyncio":
        raise error


async def give_way() -> None:
    """Let other tasks run, and check for cancellation."""
    if running_library() == "trio":
        import trio

        await trio.lowlevel.checkpoint()
    else:
        import asyncio

        await asyncio.sleep(0)


def current_time() -> float:
    """Return the time of the running event loop, also in a callback, where anyio has none."""
    if running_library() == "trio":
        import trio

        return trio.current_time()
    return _running_loop().time()


def clock_of_work() -> Callable[[], float]:
    """Return the clock to measure by how long work takes, for the current task's event loop.

    That of the event loop, so that work takes no time where time is virtual: what a task does next
    must not depend on how fast the machine is today.
    """
    if running_library() == "trio":
        import trio

        return trio.current_time
    import asyncio

    loop = asyncio.get_running_loop()
    # The time of other event loops, such as uvloop, stands still while a task runs.
    return loop.time if isinstance(loop, asyncio.BaseEventLoop) else time.monotonic


class Turn:
    """Measures how long a task has had the event loop to itself.

    A loop over data that is always ready never really waits, and would shut out all other tasks.

    Args:
        clock: What `clock_of_work` returns.
    """

    __slots__ = ("_clock", "_ends_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends_at = clock() + LONGEST_TURN

    async def end_if_long(self) -> None:
        """Let other tasks run if the turn has taken longer than `LONGEST_TURN`."""
        if self._clock() >= self._ends_at:
            for _ in range(TURNS):
                await give_way()
            self._ends_at = self._clock() + LONGEST_TURN


class Timer(Protocol):
    """Calls a function once, at a time that can be moved."""

    def set(self, when: float | None) -> None:
        """Call the function at `when` or earlier. None need not cancel a time that is set."""
        ...

    def cancel(self) -> None:
        """Do not call the function."""
        ...


class _AsyncioTimer:
    __slots__ = ("_expired", "_handle", "_loop", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._handle: asyncio.TimerHandle | None = None
        # Kept here because a handle of uvloop does not always know its time.
        self._when = math.inf

    def set(self, when: float | None) -> None:
        # If the deadline has moved to a later time, the old one is left alone: one call too early
        # costs less than setting the timer again with every message.
        if when is None or self._when <= when:
            return
        self.cancel()
        self._when = when
        self._handle = self._loop.call_at(when, self._call)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._when = math.inf

    def _call(self) -> None:
        self._handle = None
        self._when = math.inf
        self._expired()


class _TrioTimer:
    __slots__ = ("_cancelled", "_expired", "_scope", "_when")

    def __init__(self, expired: Callable[[], None]) -> None:
        import trio

        self._expired = expired
        self._when = math.inf
        self._cancelled = False
        self._scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._run)

    def set(self, when: float | None) -> None:
        if when is not None and when < self._when:
            self._when = when
            self._scope.deadline = when

    def cancel(self) -> None:
        self._cancelled = True
        self._scope.cancel()

    async def _run(self) -> None:
        import trio

        while not self._cancelled:
            with self._scope:
                await trio.sleep_forever()
            self._scope = trio.CancelScope()
            # The reader's task comes first: what a deadline waits for may have arrived.
            await trio.lowlevel.checkpoint()
            if not self._cancelled:
                # Also after a stray cancellation: calling the function early does no harm.
                self._when = math.inf
                self._expired()


class EventLoop(ABC):
    """The event loop that a session was entered in, the only one that it can be used in."""

    __slots__ = ("_context", "clock")

    clock: Callable[[], float]
    """Its clock, in seconds."""

    def __init__(self) -> None:
        # Tasks of the session run what the user gave it, which finds its context variables.
        self._context = contextvars.copy_context()

    @abstractmethod
    def runs_here(self) -> bool:
        """Return whether this event loop runs the current task."""

    @abstractmethod
    def make_timer(self, expired: Callable[[], None]) -> Timer:
        """Return a timer that calls `expired`."""

    @abstractmethod
    def spawn(self, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run an async function in a background task, which must not raise.

        What interrupts the program is another matter; see `pass_on_interrupt`.
        """

    @abstractmethod
    def call_from_elsewhere(self, callback: Callable[[], None]) -> bool:
        """Schedule `callback` in this event loop, from any thread; return False if it has ended."""


_tasks: set[asyncio.Future[None]] = set()
"""Running background tasks: asyncio's event loop holds only weak references to them. One set for
all sessions, because even an empty one takes 216 bytes."""


class _AsyncioLoop(EventLoop):
    __slots__ = ("_current_loop", "_is_running", "_loop", "_thread")

    def __init__(self) -> None:
        import asyncio

        super().__init__()
        self._current_loop = asyncio.get_running_loop
        self._loop = self._current_loop()
        self._is_running = self._loop.is_running
        self._thread = get_ident()
        self.clock = self._loop.time

    @override
    def runs_here(self) -> bool:
        # Asking asyncio for the running loop takes a system call before Python 3.12. A thread runs
        # one loop at a time, so in this loop's thread it is enough to know that it is running.
        if get_ident() == self._thread:
            return self._is_running()
        try:
            return self._current_loop() is self._loop
        except RuntimeError:
            return False

    @override
    def make_timer(self, expired: Callable[[], None]) -> Timer:
        return _AsyncioTimer(self._loop, expired)

    @override
    def spawn(self, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        import asyncio

        context = self._context.copy()
        task = context.run(asyncio.ensure_future, function(*arguments), loop=self._loop)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    @override
    def call_from_elsewhere(self, callback: Callable[[], None]) -> bool:
        # A loop that is stopped but not closed would accept the call, and might never run it.
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

        super().__init__()
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
    def make_timer(self, expired: Callable[[], None]) -> Timer:
        return _TrioTimer(expired)

    @override
    def spawn(self, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        import trio

        trio.lowlevel.spawn_system_task(function, *arguments, context=self._context.copy())

    @override
    def call_from_elsewhere(self, callback: Callable[[], None]) -> bool:
        try:
            self._token.run_sync_soon(callback)
        except self._run_finished:
            return False
        return True


def current_event_loop() -> EventLoop:
    """Return the current task's event loop; raises `RuntimeError` if there is no task."""
    return _TrioLoop() if running_library() == "trio" else _AsyncioLoop()
