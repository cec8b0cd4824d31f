"""How long something takes, in numbers that need little memory however often it happens."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from math import ceil, exp, log
from typing import Final

__all__ = ["Latency"]

_GROWTH: Final = log(1.04)
"""Logarithm of the ratio between the ends of a bucket. Quantiles are off by 2 % at most."""

_SHORTEST: Final = 1e-4
_LONGEST: Final = 1e4
"""Seconds beyond which buckets are not told apart, so that there are at most 470 of them."""


class Latency:
    """The latest of some durations, their mean and their quantiles, all in seconds.

    Quantiles come from a histogram with buckets that grow by 4 %, so they are off by 2 % at most.
    """

    __slots__ = ("_buckets", "_longest", "_shortest", "_total", "count", "last")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._total = 0.0
        self._shortest = self._longest = 0.0
        self.count = 0
        """How many durations there were."""
        self.last: float | None = None
        """The latest one."""

    def add(self, seconds: float) -> None:
        """Add a duration."""
        number = ceil(log(min(max(seconds, _SHORTEST), _LONGEST)) / _GROWTH)
        self._buckets[number] = self._buckets.get(number, 0) + 1
        self._shortest = min(self._shortest, seconds) if self.count else seconds
        self._longest = max(self._longest, seconds)
        self._total += seconds
        self.count += 1
        self.last = seconds

    @property
    def mean(self) -> float | None:
        """The mean; None without any."""
        return self._total / self.count if self.count else None

    @property
    def p50(self) -> float | None:
        """The median; None without any."""
        return self.quantile(0.5)

    @property
    def p95(self) -> float | None:
        """What 95 of 100 do not exceed; None without any."""
        return self.quantile(0.95)

    def quantile(self, share: float) -> float | None:
        """Return what this share of all does not exceed, from 0 to 1; None without any."""
        if not self.count:
            return None
        rank = max(1, ceil(share * self.count))
        numbers = sorted(self._buckets)
        up_to = list(accumulate(self._buckets[number] for number in numbers))
        number = numbers[bisect_left(up_to, rank)]
        # The middle of the bucket, but nothing that never was.
        return min(max(exp((number - 0.5) * _GROWTH), self._shortest), self._longest)

    def as_dict(self) -> dict[str, float | None]:
        """Return all numbers by their names."""
        return {
            "count": self.count,
            "last": self.last,
            "mean": self.mean,
            "p50": self.p50,
            "p95": self.p95,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Latency) and (
            (self._buckets, self._total, self.last) == (other._buckets, other._total, other.last)
        )

    # It changes.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        numbers = ", ".join(
            f"{name}={value:.3g}" for name, value in self.as_dict().items() if value is not None
        )
        return f"Latency({numbers})"
