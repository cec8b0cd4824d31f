"""What do sends and receives cost on trio, compared with trio-websocket and the same models?"""

from __future__ import annotations

from typing import Final

from benchmarks.async_contenders import TRIO_CONTENDERS
from benchmarks.harness import Effort, Figure, Series, ratio_at_most
from benchmarks.processes import FarEnd
from benchmarks.streams import Exercise, compare_on_trio, receiving, round_trips, sending

__all__ = ["measure"]

_ROUNDS: Final = 7
_TARGET: Final = ratio_at_most(0.70)
_BASELINE: Final = "trio-websocket"


def measure(effort: Effort) -> list[Figure]:
    """Run on trio what other benchmarks run with threads and on asyncio."""
    count = effort.operations
    exercises: dict[str, Exercise] = {
        "send a 640 B chunk, trio": sending(640, count(5_000)),
        "send a 3840 B chunk, trio": sending(3840, count(5_000)),
        "send a 32 KiB chunk, trio": sending(32 * 1024, count(2_500)),
        "receive a 5-token event, trio": receiving(5, count(3_000)),
        "receive a 20-token event, trio": receiving(20, count(1_500)),
        "receive a 60-token event, trio": receiving(60, count(600)),
        "chunk out, event back, trio": round_trips(640, 5, count(1_000)),
    }
    figures: list[Figure] = []
    with FarEnd() as far_end:
        for name, exercise in exercises.items():
            series = compare_on_trio(TRIO_CONTENDERS, exercise, far_end, effort.rounds(_ROUNDS))
            if exercise.path.startswith("/answer"):
                on_the_clock = {who: one.on_the_clock for who, one in series.items()}
                figures.append(_figure(f"{name}: round trip", on_the_clock))
                name = f"{name}: CPU"
            figures.append(_figure(name, series))
    return figures


def _figure(name: str, series: dict[str, Series]) -> Figure:
    return Figure(name, "µs", series, _TARGET, baseline=_BASELINE)
