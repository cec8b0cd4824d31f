from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from soniox_proto import Event, Outcome, ServerEvent, SessionStats


@pytest.mark.parametrize("kind", [*get_args(Event), *get_args(ServerEvent), SessionStats])
def test_events_are_small_dataclasses_that_take_no_stray_attribute(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert "__dict__" not in dir(kind)


def test_outcomes_are_those_of_the_design() -> None:
    assert [outcome.name for outcome in Outcome] == [
        "FINISHED",
        "SERVER_ERROR",
        "REJECTED",
        "CLOSED_BY_SERVER",
        "LOST",
        "CLOSED_LOCALLY",
        "ABORTED",
    ]
