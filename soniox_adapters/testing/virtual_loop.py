"""Virtual time in a running event loop: it jumps whenever every task waits for a time.

On trio this is a clock. trio asks its clock how long to sleep only when no task can run, and the
answer is "not at all", after a jump. On asyncio the same moment is the one at which the loop waits
in its selector for longer than no time.

Threads at work are the exception: a task may be waiting for one (to read a file, say), and what it
brings must not come hours late. So while one is busy, the event loop waits for it in real time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from soniox_adapters.async_.event_loop import running_library
from soniox_proto import SonioxError

if TYPE_CHECKING:
    import asyncio

__all__ = ["virtual_time"]

BUSY_WAIT: Final = 0.01
"""Seconds of real time for which to wait for a thread that is at work, again and again."""


@contextmanager
def virtual_time() -> Generator[None, None, None]:
    """Make the time of the running event loop virtual, until the block is left.

    Afterwards time goes on from where it is by then, at its usual pace. Within a block of the same
    event loop this does nothing, and so it does under a clock of trio's own that jumps.
    """
    if running_library() == "trio":
        from soniox_adapters.testing.virtual_trio import virtual_trio_time

        with virtual_trio_time():
            yield
    else:
        import asyncio

        with _virtual_asyncio_time(asyncio.get_running_loop()):
            yield


class _LoopTime:
    """Stands in for the clock and the selector of an asyncio event loop."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._select: Callable[[float | None], Any] = loop._selector.select
        self._run_in_executor: Callable[..., asyncio.Future[Any]] = loop.run_in_executor
        self._now: float = loop.time()
        self._calls: set[asyncio.Future[Any]] = set()
        # Looked up here: later on, no task is running.
        self._threads = anyio.to_thread.current_default_thread_limiter()

    def now(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> Any:
        if timeout is not None and timeout <= 0:
            return self._select(timeout)
        if self._calls or self._threads.borrowed_tokens or _audio_is_read():
            return self._select(BUSY_WAIT)
        if timeout is None:
            return self._select(None)
        events = self._select(0)
        if not events:
            # To the very moment: a sum could fall short of it by a rounding error.
            scheduled = self._loop._scheduled
            self._now = max(self._now, scheduled[0].when() if scheduled else self._now + timeout)
        return events

    def run_in_executor(self, *arguments: Any) -> asyncio.Future[Any]:
        call = self._run_in_executor(*arguments)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call


@contextmanager
def _virtual_asyncio_time(loop: Any) -> Generator[None, None, None]:
    if isinstance(getattr(loop.time, "__self__", None), _LoopTime):
        yield
        return
    if not hasattr(loop, "_selector") or not hasattr(loop, "_scheduled"):
        raise SonioxError(
            f"time cannot be virtual in {type(loop).__name__}; run the test in an event loop of "
            "asyncio itself"
        )
    virtual = _LoopTime(loop)
    loop.time, loop._selector.select = virtual.now, virtual.select
    loop.run_in_executor = virtual.run_in_executor
    try:
        yield
    finally:
        del loop._selector.select
        del loop.run_in_executor
        # Timers that are still running have deadlines in virtual time.
        ahead = virtual.now() - time.monotonic()
        loop.time = lambda: time.monotonic() + ahead


def _audio_is_read() -> bool:
    """Return whether a thread reads a file of audio for a task (`audio/source.py`)."""
    return any(thread.name == "soniox-audio-source" for thread in threading.enumerate())
