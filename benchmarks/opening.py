"""What does it cost to open a session?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

from benchmarks.async_contenders import ASYNCIO_CONTENDERS, AsyncContender, run_on_asyncio
from benchmarks.blocking_contenders import BLOCKING_CONTENDERS, BlockingContender
from benchmarks.contenders import installed
from benchmarks.harness import (
    Effort,
    Figure,
    Sample,
    Stopwatch,
    Target,
    interleave,
    ratio_at_most,
    series_of,
)
from benchmarks.processes import FarEnd

__all__ = ["compare_opening", "measure"]

_SESSIONS: Final = 100
_ROUNDS: Final = 7


def measure(effort: Effort) -> list[Figure]:
    """Open sessions one after another, from the client object until the start message is sent."""
    with FarEnd() as far_end:
        return compare_opening(
            "open a session",
            BLOCKING_CONTENDERS,
            ASYNCIO_CONTENDERS,
            far_end,
            sessions=effort.operations(_SESSIONS),
            rounds=effort.rounds(_ROUNDS),
            target=ratio_at_most(0.50),
        )


def compare_opening(
    name: str,
    blocking: Iterable[BlockingContender],
    asynchronous: Iterable[AsyncContender],
    far_end: FarEnd,
    *,
    sessions: int,
    rounds: int,
    target: Target | None = None,
) -> list[Figure]:
    """Open sessions with each client; closing them is not measured."""
    url = far_end.url("/discard")

    def open_blocking(contender: BlockingContender) -> Sample:
        with Stopwatch(far_end) as watch:
            clients = [contender.open(url) for _ in range(sessions)]
        for client in clients:
            client.close()
        return watch.per(sessions)

    async def open_all(contender: AsyncContender) -> Sample:
        with Stopwatch(far_end) as watch:
            clients = [await contender.open(url) for _ in range(sessions)]
        for client in clients:
            await client.close()
        return watch.per(sessions)

    def open_async(contender: AsyncContender) -> Sample:
        return run_on_asyncio(partial(open_all, contender), asyncio.new_event_loop)

    blocking_samples = interleave(
        {one.name: partial(open_blocking, one) for one in installed(blocking)}, rounds
    )
    async_samples = interleave(
        {one.name: partial(open_async, one) for one in installed(asynchronous)}, rounds
    )
    figures: list[Figure] = []
    for kind, samples in (("blocking", blocking_samples), ("asyncio", async_samples)):
        series = {who: one.scaled(0.001) for who, one in series_of(samples).items()}
        figures.append(Figure(f"{name}, {kind}", "ms", series, target))
    return figures
