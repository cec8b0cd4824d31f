"""How the benchmarks measure: samples, interleaved rounds, medians and spread, targets.

Absolute figures depend on the machine and on what else it does; ratios much less. So everybody who
is compared runs in turn, A B A B, within one run of a benchmark, and the ratio is that of
neighbouring runs.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal

from typing_extensions import Self

from benchmarks.processes import FarEnd

__all__ = [
    "OURS",
    "SONIOX",
    "Effort",
    "Figure",
    "Sample",
    "Series",
    "Stopwatch",
    "Target",
    "at_least",
    "at_most",
    "interleave",
    "ratio_at_most",
    "series_of",
    "share_of_core",
]

OURS: Final = "ours"
"""Name of this library's sessions among the contenders."""

SONIOX: Final = "soniox"
"""Name of the official client among the contenders."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure."""

    quick: bool = False
    """Whether only to see that everything runs."""

    def rounds(self, usual: int) -> int:
        """Return how often to measure each contender."""
        return 1 if self.quick else usual

    def operations(self, usual: int) -> int:
        """Return how many operations one measurement has."""
        return max(1, usual // 10) if self.quick else usual

    def sessions(self, usual: int) -> int:
        """Return how many sessions to open at once."""
        return max(1, usual // 10) if self.quick else usual

    def seconds(self, usual: float) -> float:
        """Return how long to watch something that goes on."""
        return min(usual, 0.7) if self.quick else usual


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement."""

    cpu: float
    """CPU time of the client's process for one operation, in µs."""
    wall: float
    """Time on the clock for one operation, in µs."""
    far_end: float | None = None
    """Share of its core that the far end was busy, 0.0 to 1.0."""


class Stopwatch:
    """Measures a `with` block: the clock, this process's CPU time and the far end's."""

    def __init__(self, far_end: FarEnd | None = None) -> None:
        self._far_end = far_end
        self.cpu = 0.0
        """CPU time of this process, all its threads, in seconds."""
        self.wall = 0.0
        """Time on the clock, in seconds."""
        self.far_end_cpu: float | None = None
        """CPU time of the far end, in seconds."""

    def __enter__(self) -> Self:
        self._far_end_begin = self._far_end.cpu_seconds() if self._far_end else 0.0
        self._wall_begin = time.perf_counter()
        self._cpu_begin = time.process_time()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cpu = time.process_time() - self._cpu_begin
        self.wall = time.perf_counter() - self._wall_begin
        if self._far_end is not None:
            self.far_end_cpu = self._far_end.cpu_seconds() - self._far_end_begin

    def per(self, operations: int) -> Sample:
        """Return what one of so many operations took."""
        far_end = None if self.far_end_cpu is None else self.far_end_cpu / self.wall
        return Sample(self.cpu / operations * 1e6, self.wall / operations * 1e6, far_end)


def share_of_core(seconds: float = 0.2) -> float:
    """Return how much of its core this process gets if it asks for all of it, 0.0 to 1.0."""
    with Stopwatch() as watch:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
    return min(1.0, watch.cpu / watch.wall)


def interleave(
    contenders: Mapping[str, Callable[[], Sample]], rounds: int
) -> dict[str, list[Sample]]:
    """Run all contenders in turn, round by round, after a round that does not count."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            # Nobody pays for the garbage of the one before.
            gc.collect()
            sample = run()
            if number:
                samples[name].append(sample)
    return samples


@dataclass(frozen=True, slots=True)
class Series:
    """What one contender measured, round by round."""

    values: list[float]
    """The figure itself."""
    wall: list[float] = field(default_factory=list)
    """Time on the clock for one operation, in µs, where it is of interest."""
    far_end: list[float] = field(default_factory=list)
    """How busy the far end was, 0.0 to 1.0."""

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The values that half of all lie between."""
        return _quartiles(self.values)

    def scaled(self, factor: float) -> Series:
        """Return the same measurements, the figure in another unit."""
        return Series([value * factor for value in self.values], self.wall, self.far_end)

    @property
    def on_the_clock(self) -> Series:
        """The same measurements, with the time on the clock as the figure."""
        return Series(self.wall, far_end=self.far_end)


def series_of(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Series]:
    """Return the samples of each contender as a series of CPU time, with the clock beside it."""
    return {
        name: Series(
            values=[sample.cpu for sample in measured],
            wall=[sample.wall for sample in measured],
            far_end=[sample.far_end for sample in measured if sample.far_end is not None],
        )
        for name, measured in samples.items()
    }


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be."""

    kind: Literal["ratio at most", "at most", "at least"]
    limit: float

    def __str__(self) -> str:
        sign = "≥" if self.kind == "at least" else "≤"
        return (
            f"{sign} {self.limit:.2f}" if self.kind == "ratio at most" else f"{sign} {self.limit:g}"
        )


def ratio_at_most(limit: float) -> Target:
    """Return the target that ours costs at most `limit` times what the baseline costs."""
    return Target("ratio at most", limit)


def at_most(limit: float) -> Target:
    """Return the target that our figure itself is at most `limit`."""
    return Target("at most", limit)


def at_least(limit: float) -> Target:
    """Return the target that our figure itself is at least `limit`."""
    return Target("at least", limit)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of each contender."""

    name: str
    unit: str
    series: dict[str, Series]
    """What each contender measured, in the order of the table."""
    target: Target | None = None
    baseline: str = SONIOX
    """The contender that ours is compared with."""
    contender: str = OURS
    """The contender that is meant by ours."""

    @property
    def ratios(self) -> list[float]:
        """Ours through the baseline, of neighbouring runs; empty where there is no baseline."""
        ours, baseline = self.series.get(self.contender), self.series.get(self.baseline)
        if ours is None or baseline is None or ours is baseline:
            return []
        pairs = zip(ours.values, baseline.values, strict=False)
        return [mine / theirs for mine, theirs in pairs if theirs]

    @property
    def ratio(self) -> float | None:
        """The middle ratio."""
        ratios = self.ratios
        return statistics.median(ratios) if ratios else None

    @property
    def ratio_quartiles(self) -> tuple[float, float] | None:
        """The ratios that half of all lie between."""
        ratios = self.ratios
        return _quartiles(ratios) if ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing to judge it by."""
        target, ours = self.target, self.series.get(self.contender)
        if target is None or ours is None:
            return None
        if target.kind == "ratio at most":
            return None if self.ratio is None else self.ratio <= target.limit
        return (
            ours.median <= target.limit if target.kind == "at most" else ours.median >= target.limit
        )


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
