"""What does it cost to send if no masking in C is installed?"""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from typing import Any, Final, cast

from benchmarks.async_contenders import ASYNCIO_CONTENDERS, AsyncContender, run_on_asyncio
from benchmarks.blocking_contenders import BLOCKING_CONTENDERS
from benchmarks.harness import OURS, SONIOX, Effort, Figure, Series, Stopwatch, ratio_at_most
from benchmarks.processes import FarEnd, in_fresh_process
from benchmarks.streams import Exercise, sending

__all__ = ["measure", "send_without_c"]

_SPEEDUPS: Final = "websockets.speedups"
"""The only package with masking in C that either of the two uses."""

_CHUNKS: Final = 10_000
_ROUNDS: Final = 13
_VARIANTS: Final = (
    (SONIOX, SONIOX, False),
    (OURS, OURS, True),
    ("soniox without C", SONIOX, True),
    ("ours with C", OURS, False),
)
"""Name in the table, contender, and whether to measure without C."""


def measure(effort: Effort) -> list[Figure]:
    """Send 640 B chunks in fresh processes: ours without C, soniox as it is installed."""
    taken: dict[str, dict[str, list[float]]] = {"blocking": {}, "asyncio": {}}
    with FarEnd() as far_end:
        for _ in range(effort.rounds(_ROUNDS)):
            for name, contender, without_c in _VARIANTS:
                if contender == SONIOX and find_spec("soniox") is None:
                    continue
                chunks = effort.operations(_CHUNKS)
                costs = in_fresh_process(send_without_c, contender, without_c, far_end.port, chunks)
                for kind, cost in costs.items():
                    taken[kind].setdefault(name, []).append(cost)
    return [
        Figure(
            f"send a 640 B chunk without masking in C, {kind}",
            "µs",
            {name: Series(costs) for name, costs in variants.items()},
            ratio_at_most(0.88),
        )
        for kind, variants in taken.items()
    ]


def send_without_c(name: str, without_c: bool, port: int, chunks: int) -> dict[str, float]:
    """Return the CPU µs per chunk, for `blocking` and `asyncio`."""
    if without_c:
        # Makes importing it fail, as if it were not installed.
        cast("dict[str, Any]", sys.modules)[_SPEEDUPS] = None
    exercise = sending(640, chunks)
    url = f"ws://127.0.0.1:{port}{exercise.path}"
    (blocking,) = [one for one in BLOCKING_CONTENDERS if one.name == name]
    (asynchronous,) = [one for one in ASYNCIO_CONTENDERS if one.name == name]
    client = blocking.open(url)
    exercise.blocking(client, chunks // 10)
    with Stopwatch() as watch:
        exercise.blocking(client, chunks)
    client.close()
    return {
        "blocking": watch.per(chunks).cpu,
        "asyncio": run_on_asyncio(
            lambda: _send_on_asyncio(asynchronous, exercise, url), asyncio.new_event_loop
        ),
    }


async def _send_on_asyncio(contender: AsyncContender, exercise: Exercise, url: str) -> float:
    client = await contender.open(url)
    await exercise.asynchronous(client, exercise.operations // 10)
    with Stopwatch() as watch:
        await exercise.asynchronous(client, exercise.operations)
    await client.close()
    return watch.per(exercise.operations).cpu
