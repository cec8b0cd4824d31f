"""Does a message cost more, the more sessions there are?"""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks.async_contenders import (
    ASYNCIO_CONTENDERS,
    AsyncClient,
    AsyncContender,
    run_on_asyncio,
)
from benchmarks.blocking_contenders import BLOCKING_CONTENDERS, BlockingClient, BlockingContender
from benchmarks.contenders import BARE_SOCKET, installed
from benchmarks.harness import OURS, SONIOX, Effort, Figure, Series, Stopwatch
from benchmarks.messages import look_at
from benchmarks.processes import FarEnd, in_fresh_process

__all__ = ["measure", "rotate"]

_SESSIONS: Final = (1, 100, 1000)
_ROUND_TRIPS: Final = 1_000
_ROUNDS: Final = 3
_COMPARED: Final = (SONIOX, OURS, BARE_SOCKET)


def measure(effort: Effort) -> list[Figure]:
    """Do one round trip at a time, with one session after another.

    So nothing is handled in batches, whatever the number of sessions. The more sessions there are,
    the less of each is in the CPU's caches; bare sockets show how much of the cost that is.
    """
    sizes = [effort.sessions(size) if size > 1 else 1 for size in _SESSIONS]
    round_trips = effort.operations(_ROUND_TRIPS)
    figures: list[Figure] = []
    for kind, contenders in (
        ("blocking", [one.name for one in installed(BLOCKING_CONTENDERS)]),
        ("asyncio", [one.name for one in installed(ASYNCIO_CONTENDERS)]),
    ):
        taken: dict[str, list[dict[str, float]]] = {}
        for _ in range(effort.rounds(_ROUNDS)):
            for name in contenders:
                if name in _COMPARED:
                    costs = in_fresh_process(rotate, name, kind, round_trips, *sizes)
                    taken.setdefault(name, []).append(costs)
        for size in sizes:
            series = {
                name: Series([costs[str(size)] for costs in rounds])
                for name, rounds in taken.items()
            }
            name = f"chunk out, event back, {size} sessions open, {kind}: CPU"
            figures.append(Figure(name, "µs", series))
        first, last = str(sizes[0]), str(sizes[-1])
        growth = {
            name: Series([costs[last] / costs[first] for costs in rounds])
            for name, rounds in taken.items()
        }
        name = f"growth of that cost from {first} to {last} sessions, {kind}"
        figures.append(Figure(name, "times", growth))
    return figures


def rotate(name: str, kind: str, round_trips: int, *sizes: int) -> dict[str, float]:
    """Return the CPU µs of a round trip for each number of open sessions."""
    if kind == "blocking":
        (blocking,) = [one for one in BLOCKING_CONTENDERS if one.name == name]
        return _rotate_blocking(blocking, round_trips, sizes)
    (asynchronous,) = [one for one in ASYNCIO_CONTENDERS if one.name == name]
    return run_on_asyncio(
        lambda: _rotate_on_asyncio(asynchronous, round_trips, sizes), asyncio.new_event_loop
    )


def _rotate_blocking(
    contender: BlockingContender, round_trips: int, sizes: tuple[int, ...]
) -> dict[str, float]:
    costs: dict[str, float] = {}
    clients: list[BlockingClient] = []
    chunk = bytes(640)

    def go_round(count: int) -> None:
        for number in range(count):
            client = clients[number % len(clients)]
            client.send(chunk)
            look_at(client.receive())

    with FarEnd() as far_end:
        url = far_end.url("/answer?tokens=5")
        for size in sizes:
            clients += [contender.open(url) for _ in range(size - len(clients))]
            go_round(max(size, round_trips // 10))
            with Stopwatch() as watch:
                go_round(round_trips)
            costs[str(size)] = watch.per(round_trips).cpu
        for client in clients:
            client.close()
    return costs


async def _rotate_on_asyncio(
    contender: AsyncContender, round_trips: int, sizes: tuple[int, ...]
) -> dict[str, float]:
    costs: dict[str, float] = {}
    clients: list[AsyncClient] = []
    chunk = bytes(640)

    async def go_round(count: int) -> None:
        for number in range(count):
            client = clients[number % len(clients)]
            await client.send(chunk)
            look_at(await client.receive())

    with FarEnd() as far_end:
        url = far_end.url("/answer?tokens=5")
        for size in sizes:
            clients += [await contender.open(url) for _ in range(size - len(clients))]
            await go_round(max(size, round_trips // 10))
            with Stopwatch() as watch:
                await go_round(round_trips)
            costs[str(size)] = watch.per(round_trips).cpu
        for client in clients:
            await client.close()
    return costs
