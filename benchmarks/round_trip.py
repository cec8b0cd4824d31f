"""How long does it take from a chunk of audio to the event that answers it, one at a time?"""

from __future__ import annotations

from typing import Final

from benchmarks.async_contenders import ASYNCIO_CONTENDERS
from benchmarks.blocking_contenders import BLOCKING_CONTENDERS
from benchmarks.harness import Effort, Figure, ratio_at_most
from benchmarks.processes import FarEnd
from benchmarks.streams import compare_blocking, compare_on_asyncio, round_trips

__all__ = ["measure"]

_CHUNK_BYTES: Final = 640
_TOKENS: Final = 5
_ROUND_TRIPS: Final = 1_000
_ROUNDS: Final = 13


def measure(effort: Effort) -> list[Figure]:
    """Send a chunk and wait for its event, again and again."""
    exercise = round_trips(_CHUNK_BYTES, _TOKENS, effort.operations(_ROUND_TRIPS))
    rounds = effort.rounds(_ROUNDS)
    with FarEnd() as far_end:
        blocking = compare_blocking(BLOCKING_CONTENDERS, exercise, far_end, rounds)
        asynchronous = compare_on_asyncio(ASYNCIO_CONTENDERS, exercise, far_end, rounds)
    blocking_wall = {name: one.on_the_clock for name, one in blocking.items()}
    async_wall = {name: one.on_the_clock for name, one in asynchronous.items()}
    name = "chunk out, event back"
    target = ratio_at_most(0.75)
    return [
        Figure(f"{name}, blocking: round trip", "µs", blocking_wall, target),
        Figure(f"{name}, blocking: CPU", "µs", blocking),
        Figure(f"{name}, asyncio: round trip", "µs", async_wall),
        Figure(f"{name}, asyncio: CPU", "µs", asynchronous),
    ]
