"""The exercises that are measured on one stream: sending, receiving, and round trips."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from benchmarks.async_contenders import AsyncClient, AsyncContender, run_on_asyncio
from benchmarks.blocking_contenders import BlockingClient, BlockingContender
from benchmarks.contenders import installed
from benchmarks.harness import Sample, Series, Stopwatch, interleave, series_of
from benchmarks.messages import look_at
from benchmarks.processes import FarEnd

__all__ = [
    "Exercise",
    "compare_blocking",
    "compare_on_asyncio",
    "compare_on_trio",
    "receiving",
    "round_trips",
    "sending",
]

TRIGGER = bytes(640)
"""A chunk that makes the far end start sending."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """What to do with an open stream."""

    path: str
    """Path that selects what the far end does."""
    operations: int
    """Number of operations in one measurement."""
    blocking: Callable[[BlockingClient, int], None]
    """Do a number of operations with a blocking client."""
    asynchronous: Callable[[AsyncClient, int], Awaitable[None]]
    """Do a number of operations with an async client."""


def sending(size: int, operations: int) -> Exercise:
    """Return the exercise of sending chunks of `size` bytes."""
    chunk = bytes(size)

    def blocking(client: BlockingClient, count: int) -> None:
        send = client.send
        for _ in range(count):
            send(chunk)

    async def asynchronous(client: AsyncClient, count: int) -> None:
        send = client.send
        for _ in range(count):
            await send(chunk)

    return Exercise("/discard", operations, blocking, asynchronous)


def receiving(tokens: int, operations: int) -> Exercise:
    """Return the exercise of receiving events with `tokens` tokens, and looking at each token."""

    def blocking(client: BlockingClient, count: int) -> None:
        client.send(TRIGGER)
        left = count
        for event in client.events():
            look_at(event)
            left -= 1
            if not left:
                return

    async def asynchronous(client: AsyncClient, count: int) -> None:
        await client.send(TRIGGER)
        left = count
        async for event in client.events():
            look_at(event)
            left -= 1
            if not left:
                return

    path = f"/flood?tokens={tokens}&count={operations}"
    return Exercise(path, operations, blocking, asynchronous)


def round_trips(size: int, tokens: int, operations: int) -> Exercise:
    """Return the exercise of sending a chunk and waiting for the event that answers it."""
    chunk = bytes(size)

    def blocking(client: BlockingClient, count: int) -> None:
        send, receive = client.send, client.receive
        for _ in range(count):
            send(chunk)
            look_at(receive())

    async def asynchronous(client: AsyncClient, count: int) -> None:
        send, receive = client.send, client.receive
        for _ in range(count):
            await send(chunk)
            look_at(await receive())

    return Exercise(f"/answer?tokens={tokens}", operations, blocking, asynchronous)


def compare_blocking(
    contenders: Iterable[BlockingContender], exercise: Exercise, far_end: FarEnd, rounds: int
) -> dict[str, Series]:
    """Measure the exercise with all installed blocking clients in turn."""

    def run(contender: BlockingContender) -> Sample:
        operations = max(1, int(exercise.operations * contender.share))
        client = contender.open(far_end.url(exercise.path))
        with Stopwatch(far_end) as watch:
            exercise.blocking(client, operations)
        client.close()
        return watch.per(operations)

    return series_of(
        interleave({one.name: partial(run, one) for one in installed(contenders)}, rounds)
    )


def compare_on_asyncio(
    contenders: Iterable[AsyncContender], exercise: Exercise, far_end: FarEnd, rounds: int
) -> dict[str, Series]:
    """Measure the exercise with all installed asyncio clients in turn."""

    def run(contender: AsyncContender) -> Sample:
        return run_on_asyncio(
            partial(_run_async, contender, exercise, far_end), asyncio.new_event_loop
        )

    return series_of(
        interleave({one.name: partial(run, one) for one in installed(contenders)}, rounds)
    )


def compare_on_trio(
    contenders: Iterable[AsyncContender], exercise: Exercise, far_end: FarEnd, rounds: int
) -> dict[str, Series]:
    """Measure the exercise with all installed trio clients in turn."""
    import trio

    def run(contender: AsyncContender) -> Sample:
        return trio.run(_run_async, contender, exercise, far_end)

    return series_of(
        interleave({one.name: partial(run, one) for one in installed(contenders)}, rounds)
    )


async def _run_async(contender: AsyncContender, exercise: Exercise, far_end: FarEnd) -> Sample:
    client = await contender.open(far_end.url(exercise.path))
    with Stopwatch(far_end) as watch:
        await exercise.asynchronous(client, exercise.operations)
    await client.close()
    return watch.per(exercise.operations)
