"""What does it cost to receive an event and look at every token of it?"""

from __future__ import annotations

from typing import Final

from benchmarks.async_contenders import ASYNCIO_CONTENDERS
from benchmarks.blocking_contenders import BLOCKING_CONTENDERS
from benchmarks.harness import Effort, Figure, Target, ratio_at_most
from benchmarks.processes import FarEnd
from benchmarks.streams import compare_blocking, compare_on_asyncio, receiving

__all__ = ["measure"]

_EVENTS: Final[tuple[tuple[int, int, Target], ...]] = (
    (5, 4_000, ratio_at_most(0.45)),
    (20, 1_500, ratio_at_most(0.50)),
    (60, 500, ratio_at_most(0.50)),
)
"""Tokens per event, events per measurement, and the target."""

_ROUNDS: Final = 13


def measure(effort: Effort) -> list[Figure]:
    """Receive events over one stream as fast as possible."""
    figures: list[Figure] = []
    with FarEnd() as far_end:
        for tokens, events, target in _EVENTS:
            exercise = receiving(tokens, effort.operations(events))
            rounds = effort.rounds(_ROUNDS)
            for kind, series in (
                ("blocking", compare_blocking(BLOCKING_CONTENDERS, exercise, far_end, rounds)),
                ("asyncio", compare_on_asyncio(ASYNCIO_CONTENDERS, exercise, far_end, rounds)),
            ):
                name = f"receive a {tokens}-token event, {kind}"
                figures.append(Figure(name, "µs", series, target))
    return figures
