"""Timers of event loops, which a session has one of."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import anyio
import pytest

from soniox_adapters.async_.event_loop import Timer, _AsyncioTimer, current_event_loop
from tests.support.adapters.server import PATIENCE

pytestmark = pytest.mark.anyio


class Calls:
    """A timer and its calls."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = anyio.Event()
        self.timer: Timer = current_event_loop().make_timer(self._call)

    def _call(self) -> None:
        self.count += 1
        self._changed.set()

    async def wait_for(self, count: int) -> None:
        with anyio.fail_after(PATIENCE):
            while self.count < count:
                self._changed = anyio.Event()
                await self._changed.wait()


async def test_is_early_never_late() -> None:
    calls, now = Calls(), anyio.current_time()
    calls.timer.set(None)
    calls.timer.set(now + 60)
    await anyio.wait_all_tasks_blocked()
    calls.timer.set(now + 0.02)
    calls.timer.set(now + 30)
    await calls.wait_for(1)
    assert anyio.current_time() >= now + 0.02
    calls.timer.set(anyio.current_time() - 1)
    await calls.wait_for(2)
    calls.timer.cancel()


async def test_cancelled_it_calls_no_more() -> None:
    calls, other = Calls(), Calls()
    calls.timer.set(anyio.current_time() + 0.01)
    calls.timer.cancel()
    calls.timer.cancel()
    other.timer.set(anyio.current_time() + 0.03)
    await other.wait_for(1)
    other.timer.cancel()
    assert calls.count == 0


async def test_it_can_be_set_from_its_call() -> None:
    class Repeating(Calls):
        def _call(self) -> None:
            if self.count < 3:
                self.timer.set(anyio.current_time())
            super()._call()

    calls = Repeating()
    calls.timer.set(anyio.current_time())
    await calls.wait_for(4)
    calls.timer.cancel()


def test_on_asyncio_it_needs_no_more_of_a_handle_than_every_event_loop_gives() -> None:
    class Handle:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    handles: list[tuple[float, Handle]] = []

    class Loop:
        def call_at(self, when: float, call: object) -> Handle:
            handles.append((when, Handle()))
            return handles[-1][1]

    timer = _AsyncioTimer(cast("asyncio.AbstractEventLoop", cast("Any", Loop())), lambda: None)
    for when in (5.0, 9.0, None, 3.0, math.inf):
        timer.set(when)
    assert [(when, handle.cancelled) for when, handle in handles] == [(5.0, True), (3.0, False)]
    timer.cancel()
    assert handles[1][1].cancelled
