"""How the benchmarks measure: samples, interleaved rounds, medians and spread, targets.

Absolute figures depend on the machine and on what else it is doing; ratios depend on that much
less. So all contenders of one benchmark take turns, A B A B, and each ratio is that of two
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
    """Whether to check only that everything runs."""

    def rounds(self, usual: int) -> int:
        """Return how many times to measure each contender."""
        return 1 if self.quick else usual

    def operations(self, usual: int) -> int:
        """Return how many operations to do in one measurement."""
        return max(1, usual // 10) if self.quick else usual

    def sessions(self, usual: int) -> int:
        """Return how many concurrent sessions to open."""
        return max(1, usual // 10) if self.quick else usual

    def seconds(self, usual: float) -> float:
        """Return how many seconds to measure a steady load."""
        return min(usual, 0.7) if self.quick else usual


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement."""

    cpu: float
    """CPU time of the client's process per operation, in µs."""
    wall: float
    """Wall-clock time per operation, in µs."""
    far_end: float | None = None
    """Share of time that the far end kept its core busy, 0.0 to 1.0."""


class Stopwatch:
    """Measures a `with` block: wall-clock time, and CPU time of this process and of the far end."""

    def __init__(self, far_end: FarEnd | None = None) -> None:
        self._far_end = far_end
        self.cpu = 0.0
        """CPU time of all threads of this process, in seconds."""
        self.wall = 0.0
        """Wall-clock time in seconds."""
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
        """Return what one operation took, given their number."""
        far_end = None if self.far_end_cpu is None else self.far_end_cpu / self.wall
        return Sample(self.cpu / operations * 1e6, self.wall / operations * 1e6, far_end)


def share_of_core(seconds: float = 0.2) -> float:
    """Return the share of its core that this process gets if it wants all of it, 0.0 to 1.0."""
    with Stopwatch() as watch:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
    return min(1.0, watch.cpu / watch.wall)


def interleave(
    contenders: Mapping[str, Callable[[], Sample]], rounds: int
) -> dict[str, list[Sample]]:
    """Run all contenders in turn, round by round, after a warm-up round that does not count."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            # So that no contender pays for the garbage of the previous one.
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
    """Wall-clock time per operation in µs, if it is of interest."""
    far_end: list[float] = field(default_factory=list)
    """Share of time that the far end was busy, 0.0 to 1.0."""

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The quartiles of the values."""
        return _quartiles(self.values)

    def scaled(self, factor: float) -> Series:
        """Return the same measurements with the figure in another unit."""
        return Series([value * factor for value in self.values], self.wall, self.far_end)

    @property
    def on_the_clock(self) -> Series:
        """The same measurements, with the wall-clock time as the figure."""
        return Series(self.wall, far_end=self.far_end)


def series_of(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Series]:
    """Return the samples of each contender as a series of CPU times, with wall-clock times."""
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
    """The value that a figure should reach."""

    kind: Literal["ratio at most", "at most", "at least"]
    limit: float

    def __str__(self) -> str:
        sign = "≥" if self.kind == "at least" else "≤"
        return (
            f"{sign} {self.limit:.2f}" if self.kind == "ratio at most" else f"{sign} {self.limit:g}"
        )


def ratio_at_most(limit: float) -> Target:
    """Return the target of costing at most `limit` times as much as the baseline."""
    return Target("ratio at most", limit)


def at_most(limit: float) -> Target:
    """Return the target of a figure of at most `limit`."""
    return Target("at most", limit)


def at_least(limit: float) -> Target:
    """Return the target of a figure of at least `limit`."""
    return Target("at least", limit)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the tables: what is measured, and each contender's result."""

    name: str
    unit: str
    series: dict[str, Series]
    """What each contender measured, in the order of the table."""
    target: Target | None = None
    baseline: str = SONIOX
    """The contender to compare ours with."""
    contender: str = OURS
    """The contender that counts as ours."""

    @property
    def ratios(self) -> list[float]:
        """Ours divided by the baseline for each pair of neighbouring runs; empty without one."""
        ours, baseline = self.series.get(self.contender), self.series.get(self.baseline)
        if ours is None or baseline is None or ours is baseline:
            return []
        pairs = zip(ours.values, baseline.values, strict=False)
        return [mine / theirs for mine, theirs in pairs if theirs]

    @property
    def ratio(self) -> float | None:
        """The median ratio."""
        ratios = self.ratios
        return statistics.median(ratios) if ratios else None

    @property
    def ratio_quartiles(self) -> tuple[float, float] | None:
        """The quartiles of the ratios."""
        ratios = self.ratios
        return _quartiles(ratios) if ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is no target, or nothing to compare with."""
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
