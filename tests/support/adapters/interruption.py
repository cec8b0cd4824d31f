"""Interrupts an await at a chosen checkpoint, on asyncio and on trio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

from soniox_adapters import SonioxError

__all__ = ["Interrupt", "Run", "ways_to_interrupt"]


class Interrupted:
    """Awaits a coroutine and interrupts it at its checkpoint number `at`.

    `when_ready`: not while it waits there, but when what it waits for has come already. On trio
    there is no such moment between the two, so it makes no difference.
    """

    def __init__(
        self, awaited: Awaitable[object], cancel: Callable[[], object], at: int, when_ready: bool
    ) -> None:
        self._awaited = awaited
        self._cancel = cancel
        self._at = at
        self._when_ready = when_ready
        self.reached = False

    def __await__(self) -> Generator[Any, Any, object]:
        inner = self._awaited.__await__()
        step: Callable[[], Any] = partial(next, inner)
        for number in range(1, 1_000_000):
            try:
                trap = step()
            except StopIteration as stop:
                return stop.value
            if number == self._at:
                self.reached = True
                self._interrupt(trap)
            try:
                value = yield trap
            except BaseException as error:
                step = partial(inner.throw, error)
            else:
                step = partial(inner.send, value)
        raise AssertionError("it never ends")

    def _interrupt(self, trap: object) -> None:
        if self._when_ready and isinstance(trap, asyncio.Future):
            trap.add_done_callback(lambda _: self._cancel())
        else:
            self._cancel()


@dataclass
class Run:
    """What became of a call that was to be interrupted."""

    reached: bool
    """Whether it had that many checkpoints."""
    cancelled: bool
    """Whether the cancellation came out."""
    returned: bool = False
    """Whether it had returned before."""
    error: BaseException | None = None


async def interrupted(
    call: Callable[[], Awaitable[object]], at: int, *, when_ready: bool = False
) -> Run:
    """Run `call`, cancelled at a checkpoint by a scope around it.

    Scopes cancel until they are left: a call that had to go on for a moment is not to blame.
    """
    error: SonioxError | None = None
    returned = False
    with anyio.CancelScope() as scope:
        waiting = Interrupted(call(), scope.cancel, at, when_ready)
        try:
            await waiting
            returned = True
        except SonioxError as caught:
            error = caught
        await anyio.lowlevel.checkpoint()
    return Run(waiting.reached, scope.cancelled_caught, returned, error)


async def interrupted_natively(
    call: Callable[[], Awaitable[object]], at: int, *, when_ready: bool = False
) -> Run:
    """The same with asyncio's own cancellation, which comes once and may get lost."""

    async def task() -> Run:
        current = asyncio.current_task()
        assert current is not None
        waiting = Interrupted(call(), current.cancel, at, when_ready)
        try:
            await waiting
        except SonioxError as caught:
            return Run(waiting.reached, False, error=caught)
        except asyncio.CancelledError:
            return Run(waiting.reached, True)
        return Run(waiting.reached, False, returned=True)

    return await asyncio.create_task(task())


Interrupt: TypeAlias = Callable[..., Awaitable[Run]]


def ways_to_interrupt(backend: str) -> list[Interrupt]:
    if backend == "trio":
        return [interrupted]
    return [
        interrupted,
        interrupted_natively,
        partial(interrupted, when_ready=True),
        partial(interrupted_natively, when_ready=True),
    ]
