"""What does it cost to send a chunk of audio?"""

from __future__ import annotations

from typing import Final

from benchmarks.async_contenders import ASYNCIO_CONTENDERS
from benchmarks.blocking_contenders import BLOCKING_CONTENDERS
from benchmarks.harness import Effort, Figure, Target, ratio_at_most
from benchmarks.processes import FarEnd
from benchmarks.streams import compare_blocking, compare_on_asyncio, sending

__all__ = ["measure"]

_SIZES: Final[tuple[tuple[int, str, int, Target | None], ...]] = (
    (640, "640 B", 8_000, ratio_at_most(0.70)),
    (3840, "3840 B", 8_000, ratio_at_most(0.75)),
    (32 * 1024, "32 KiB", 2_500, None),
)
"""Bytes per chunk, its name, chunks per measurement, and the target."""

_ROUNDS: Final = 13


def measure(effort: Effort) -> list[Figure]:
    """Send chunks over one stream as fast as possible."""
    figures: list[Figure] = []
    with FarEnd() as far_end:
        for size, name, chunks, target in _SIZES:
            exercise = sending(size, effort.operations(chunks))
            rounds = effort.rounds(_ROUNDS)
            for kind, series in (
                ("blocking", compare_blocking(BLOCKING_CONTENDERS, exercise, far_end, rounds)),
                ("asyncio", compare_on_asyncio(ASYNCIO_CONTENDERS, exercise, far_end, rounds)),
            ):
                figures.append(Figure(f"send a {name} chunk, {kind}", "µs", series, target))
    return figures
