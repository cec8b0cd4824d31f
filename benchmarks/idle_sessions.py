"""How much memory and how many threads does an idle session take?"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from importlib.util import find_spec
from typing import Final

from benchmarks.async_contenders import ASYNCIO_CONTENDERS, AsyncClient, run_on_asyncio
from benchmarks.blocking_contenders import BLOCKING_CONTENDERS, BlockingClient
from benchmarks.harness import OURS, SONIOX, Effort, Figure, Series, at_most, ratio_at_most
from benchmarks.processes import FarEnd, in_fresh_process

__all__ = ["measure", "open_and_count"]

_SESSIONS: Final = 200
_FIRST_SESSIONS: Final = 30
"""Opened before anything is counted, to load and allocate what is needed only once."""
_ROUNDS: Final = 3
_SETTLE_SECONDS: Final = 0.3
_CONTENDERS: Final = (SONIOX, OURS)


def measure(effort: Effort) -> list[Figure]:
    """Open sessions in a fresh process, and measure by how much it grows."""
    if find_spec("psutil") is None:
        print("  left out: psutil is not installed")
        return []
    figures: list[Figure] = []
    sessions = effort.sessions(_SESSIONS)
    for kind, target in (("blocking", ratio_at_most(0.25)), ("asyncio", ratio_at_most(0.65))):
        resident: dict[str, list[float]] = {name: [] for name in _CONTENDERS}
        traced: dict[str, list[float]] = {name: [] for name in _CONTENDERS}
        threads: dict[str, list[float]] = {name: [] for name in _CONTENDERS}
        for number in range(effort.rounds(_ROUNDS)):
            for name in _CONTENDERS:
                if find_spec(_module(name)) is None:
                    continue
                counted = in_fresh_process(open_and_count, name, kind, sessions, False)
                resident[name].append(counted["resident"])
                threads[name].append(counted["threads"])
                if number == 0:
                    # Once is enough, because this counts to the byte.
                    counted = in_fresh_process(open_and_count, name, kind, sessions, True)
                    traced[name].append(counted["traced"])
        name = f"an idle session, {kind}"
        no_threads = at_most(0) if kind == "blocking" else None
        figures += [
            Figure(f"memory of {name}: resident", "KB", _series(resident), target),
            Figure(f"memory of {name}: allocated by Python", "KB", _series(traced)),
            Figure(f"threads of {name}", "", _series(threads), no_threads),
        ]
    return figures


def open_and_count(name: str, kind: str, sessions: int, trace: bool) -> dict[str, float]:
    """Open sessions; return what one of them takes.

    `resident` and `traced` are in KB (1000 bytes), `threads` is a number. `resident` is the growth
    of the process, thread stacks included; `traced` is what Python allocated, counted only with
    `trace`, which itself takes memory.
    """
    if kind == "blocking":
        return _count_blocking(name, sessions, trace)
    return run_on_asyncio(lambda: _count_on_asyncio(name, sessions, trace), asyncio.new_event_loop)


def _count_blocking(name: str, sessions: int, trace: bool) -> dict[str, float]:
    (contender,) = [one for one in BLOCKING_CONTENDERS if one.name == name]
    with FarEnd() as far_end:
        url = far_end.url("/discard")
        clients: list[BlockingClient] = [contender.open(url) for _ in range(_FIRST_SESSIONS)]
        before = _count(trace)
        clients += [contender.open(url) for _ in range(sessions)]
        time.sleep(_SETTLE_SECONDS)
        after = _count(trace)
        for client in clients:
            client.close()
    return _per_session(before, after, sessions)


async def _count_on_asyncio(name: str, sessions: int, trace: bool) -> dict[str, float]:
    (contender,) = [one for one in ASYNCIO_CONTENDERS if one.name == name]
    with FarEnd() as far_end:
        url = far_end.url("/discard")
        clients: list[AsyncClient] = [await contender.open(url) for _ in range(_FIRST_SESSIONS)]
        before = _count(trace)
        clients += [await contender.open(url) for _ in range(sessions)]
        await asyncio.sleep(_SETTLE_SECONDS)
        after = _count(trace)
        for client in clients:
            await client.close()
    return _per_session(before, after, sessions)


def _count(trace: bool) -> dict[str, float]:
    import psutil

    gc.collect()
    if trace and not tracemalloc.is_tracing():
        tracemalloc.start()
    process = psutil.Process()
    return {
        "resident": process.memory_info().rss / 1000,
        "traced": tracemalloc.get_traced_memory()[0] / 1000 if trace else 0.0,
        "threads": process.num_threads(),
    }


def _per_session(
    before: dict[str, float], after: dict[str, float], sessions: int
) -> dict[str, float]:
    return {name: (after[name] - before[name]) / sessions for name in before}


def _module(name: str) -> str:
    return next(one.module for one in BLOCKING_CONTENDERS if one.name == name)


def _series(values: dict[str, list[float]]) -> dict[str, Series]:
    return {name: Series(measured) for name, measured in values.items() if measured}
