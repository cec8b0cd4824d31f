"""What does it cost to serve many asyncio sessions at once, and how late do events arrive?

Each session has two tasks, as in a program with one session per caller: one sends chunks at a
steady pace, the other receives. The cost of waking them is part of the figure.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from benchmarks.async_contenders import ASYNCIO_CONTENDERS, AsyncClient, run_on_asyncio
from benchmarks.contenders import BARE_SOCKET, installed
from benchmarks.harness import (
    OURS,
    SONIOX,
    Effort,
    Figure,
    Series,
    Stopwatch,
    Target,
    ratio_at_most,
)
from benchmarks.messages import latency_us, look_at
from benchmarks.processes import FarEnd, in_fresh_process

__all__ = ["concurrent_figures", "measure", "percentiles", "serve", "serve_in_turn"]

_CHUNK_BYTES: Final = 640
_TOKENS: Final = 5
_ROUNDS: Final = 5
_SECONDS: Final = 2.0
_SETTLE_SECONDS: Final = 0.3
_ON_UVLOOP: Final = " on uvloop"


def measure(effort: Effort) -> list[Figure]:
    """Let each session send chunks at a steady pace, and receive events."""
    known = {one.name for one in installed(ASYNCIO_CONTENDERS)}
    if find_spec("uvloop") is not None:
        known |= {OURS + _ON_UVLOOP, SONIOX + _ON_UVLOOP}
    contenders = [
        name
        for name in (
            SONIOX,
            OURS,
            OURS + _ON_UVLOOP,
            SONIOX + _ON_UVLOOP,
            "picows",
            BARE_SOCKET,
        )
        if name in known
    ]
    hundred, thousand = effort.sessions(100), effort.sessions(1000)
    return [
        *_compare(
            f"{hundred} sessions, 50 chunks/s and 10 events/s each, asyncio",
            contenders,
            (hundred, 50.0, 10.0),
            effort,
            ratio_at_most(0.75),
        ),
        *_compare(
            f"{thousand} sessions, 10 chunks/s and 1 event/s each, asyncio",
            contenders,
            (thousand, 10.0, 1.0),
            effort,
            ratio_at_most(0.78),
            ratio_at_most(0.60),
        ),
    ]


def _compare(
    name: str,
    contenders: list[str],
    load: tuple[int, float, float],
    effort: Effort,
    target: Target,
    target_on_uvloop: Target | None = None,
) -> list[Figure]:
    taken = serve_in_turn(
        serve, contenders, (*load, effort.seconds(_SECONDS)), effort.rounds(_ROUNDS)
    )
    cpu, *others = concurrent_figures(name, taken)
    figures = [dataclasses.replace(cpu, target=target), *others]
    if OURS + _ON_UVLOOP in contenders:
        # Compared with the official client on its default event loop, and on the same one.
        for what, baseline, wanted in (
            ("ours on uvloop", SONIOX, target_on_uvloop),
            ("both on uvloop", SONIOX + _ON_UVLOOP, None),
        ):
            two = (baseline, OURS + _ON_UVLOOP)
            figures.append(
                Figure(
                    f"{cpu.name}, {what}",
                    cpu.unit,
                    {who: cpu.series[who] for who in two if who in cpu.series},
                    wanted,
                    baseline=baseline,
                    contender=OURS + _ON_UVLOOP,
                )
            )
    return figures


def serve_in_turn(
    serve: Callable[..., dict[str, float]],
    contenders: list[str],
    load: tuple[float, ...],
    rounds: int,
) -> dict[str, list[dict[str, float]]]:
    """Return what `serve` returned for each contender, round by round, in fresh processes.

    A contender that fails or takes too long is left out.
    """
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in list(taken):
            served = _attempt(serve, name, *load)
            if served is None:
                del taken[name]
            else:
                taken[name].append(served)
    return taken


def _attempt(
    serve: Callable[..., dict[str, float]], name: str, *load: float
) -> dict[str, float] | None:
    try:
        return in_fresh_process(serve, name, *load)
    except RuntimeError as error:
        print(f"  left out: {name}: {str(error).splitlines()[-1]}", flush=True)
        return None


def concurrent_figures(name: str, taken: dict[str, list[dict[str, float]]]) -> list[Figure]:
    """Turn what `serve` returned, for each contender and round, into figures."""

    def series(key: str) -> dict[str, Series]:
        return {
            who: Series([one[key] for one in rounds], far_end=[one["far end"] for one in rounds])
            for who, rounds in taken.items()
        }

    return [
        Figure(f"{name}: CPU", "%", series("cpu")),
        Figure(f"{name}: rate kept", "%", series("rate")),
        Figure(f"{name}: latency p50", "µs", series("p50")),
        Figure(f"{name}: latency p99", "µs", series("p99")),
    ]


def serve(
    name: str, sessions: int, chunks_per_second: float, events_per_second: float, seconds: float
) -> dict[str, float]:
    """Serve the sessions for a while; return what it took.

    `cpu` is the CPU time of this process in % of one core; `rate` the chunks sent, in % of those
    that were due; `p50` and `p99` the µs from the far end's send until the receiver has the event;
    `far end` the share of time that the far end was busy, 0.0 to 1.0.
    """
    base = name.removesuffix(_ON_UVLOOP)
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if base != name:
        import uvloop

        new_loop = uvloop.new_event_loop
    load = _Load(sessions, chunks_per_second, events_per_second, seconds)
    return run_on_asyncio(lambda: load.serve(base), new_loop)


class _Load:
    def __init__(
        self, sessions: int, chunks_per_second: float, events_per_second: float, seconds: float
    ) -> None:
        self._sessions = sessions
        self._interval = 1 / chunks_per_second
        self._events_per_second = events_per_second
        self._seconds = seconds
        self._latencies: list[float] = []
        self._sent = 0

    async def serve(self, name: str) -> dict[str, float]:
        (contender,) = [one for one in ASYNCIO_CONTENDERS if one.name == name]
        with FarEnd() as far_end:
            url = far_end.url(f"/steady?tokens={_TOKENS}&rate={self._events_per_second:g}")
            clients = [await contender.open(url) for _ in range(self._sessions)]
            tasks = [asyncio.create_task(self._receive(client)) for client in clients]
            start = time.monotonic() + _SETTLE_SECONDS
            tasks += [
                asyncio.create_task(
                    self._send(client, start + number * self._interval / len(clients))
                )
                for number, client in enumerate(clients)
            ]
            await asyncio.sleep(2 * _SETTLE_SECONDS)
            self._latencies.clear()
            with Stopwatch(far_end) as watch:
                await asyncio.sleep(self._seconds)
            due = (time.monotonic() - start) / self._interval * self._sessions
            sent = self._sent
            latencies = list(self._latencies)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in clients:
                await client.close()
        p50, p99 = percentiles(latencies)
        return {
            "cpu": watch.cpu / watch.wall * 100,
            "rate": sent / due * 100,
            "p50": p50,
            "p99": p99,
            "far end": (watch.far_end_cpu or 0.0) / watch.wall,
        }

    async def _send(self, client: AsyncClient, due: float) -> None:
        chunk = bytes(_CHUNK_BYTES)
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await client.send(chunk)
            self._sent += 1
            due += self._interval

    async def _receive(self, client: AsyncClient) -> None:
        async for event in client.events():
            look_at(event)
            if event.total_audio_proc_ms is not None:
                self._latencies.append(latency_us(event, time.monotonic_ns()))


def percentiles(values: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    ordered = sorted(values) or [float("nan")]
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
