"""Golden traces; see `tests/support/core/trace.py` for their format and how to record them."""

from __future__ import annotations

import pytest

from tests.support.core.trace import Trace, replay


@pytest.mark.parametrize("name", Trace.names())
def test_the_core_does_what_the_trace_says(name: str) -> None:
    trace = Trace.read(name)
    for step, replayed in zip(trace.steps, replay(trace), strict=True):
        assert list(replayed.lines()) == step.outcome, f"after {step.action} {step.lines}"


@pytest.mark.parametrize("name", Trace.names())
def test_it_does_so_bit_for_bit_every_time(name: str) -> None:
    trace = Trace.read(name)
    first, second = replay(trace), replay(trace)
    assert [step.output for step in first] == [step.output for step in second]


def test_every_kind_of_end_has_a_trace() -> None:
    outcomes = {
        line.split()[2]
        for name in Trace.names()
        for step in Trace.read(name).steps
        for line in step.outcome
        if line.startswith("! Closed ")
    }
    assert outcomes == {
        "FINISHED",
        "SERVER_ERROR",
        "REJECTED",
        "CLOSED_BY_SERVER",
        "LOST",
        "CLOSED_LOCALLY",
        "ABORTED",
    }
