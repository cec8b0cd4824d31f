"""Latencies in little memory: exact counts and means, quantiles within their promise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import Latency

durations = st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=200)


def added(seconds: list[float]) -> Latency:
    latency = Latency()
    for each in seconds:
        latency.add(each)
    return latency


def test_nothing_was_measured() -> None:
    latency = Latency()
    assert latency.as_dict() == {
        "count": 0,
        "last": None,
        "mean": None,
        "p50": None,
        "p95": None,
    }
    assert repr(latency) == "Latency(count=0)"


@given(durations)
def test_quantiles_are_off_by_2_percent_at_most(seconds: list[float]) -> None:
    latency = added(seconds)
    assert (latency.count, latency.last) == (len(seconds), seconds[-1])
    assert latency.mean == pytest.approx(math.fsum(seconds) / len(seconds))
    in_order = sorted(seconds)
    for share in (0.0, 0.5, 0.95, 1.0):
        exact = in_order[max(1, math.ceil(share * len(seconds))) - 1]
        assert latency.quantile(share) == pytest.approx(exact, rel=0.021)
    assert latency.p50 == latency.quantile(0.5)
    assert latency.p95 == latency.quantile(0.95)


@given(st.lists(st.floats(0.0, 1e300), min_size=1))
def test_any_duration_can_be_added(seconds: list[float]) -> None:
    latency = added(seconds)
    for share in (0.0, 0.5, 1.0):
        value = latency.quantile(share)
        assert value is not None
        assert min(seconds) <= value <= max(seconds)


def test_memory_is_bounded() -> None:
    latency = added([10 ** (exponent / 1000) for exponent in range(-9000, 9000)])
    assert len(latency._buckets) < 500
    assert latency.count == 18_000


def test_latencies_are_equal_that_measured_the_same() -> None:
    assert added([1.0, 2.0]) == added([1.0, 2.0])
    assert added([1.0, 2.0]) != added([2.0, 1.0])
    assert added([1.0]) != added([2.0])
    assert Latency() == Latency()
    assert Latency() != 0
