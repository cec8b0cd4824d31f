"""What a `ReconnectPolicy` takes, and what it decides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    ReconnectPolicy,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxValidationError,
)


def server_error(code: int) -> SonioxServerError:
    return SonioxServerError.from_message(
        error_code=code, error_type=None, error_message="x", request_id=None, more_info=None
    )


async def an_async_function(event: object) -> None:
    raise AssertionError("never called")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_attempts": -1}, "max_attempts must be a whole number of 0 or more, not -1"),
        ({"max_attempts": 1.5}, "max_attempts must be a whole number"),
        ({"lead_in_ms": True}, "lead_in_ms must be a whole number"),
        ({"initial_delay": 0}, "initial_delay must be a number of seconds above 0"),
        ({"max_delay": None}, "max_delay must be a number, not None"),
        ({"rollover_after": 0}, "rollover_after must be a number of seconds above 0"),
        ({"multiplier": 0.5}, "multiplier must be at least 1"),
        ({"replay_speed": 1.0}, "replay_speed above 1"),
        ({"jitter": "yes"}, "jitter must be"),
        ({"carry_context": "yes"}, "carry_context must be"),
        ({"should_retry": 5}, "should_retry must be a function"),
        ({"on_event": an_async_function}, "on_event must be a function, and not an async one"),
        ({"speaker_labels": "other"}, "speaker_labels must be 'distinct' or 'raw', not 'other'"),
    ],
)
def test_what_cannot_be_used_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SonioxValidationError, match=message):
        ReconnectPolicy(**fields)


@pytest.mark.parametrize(
    ("error", "attempt", "retries"),
    [
        (server_error(503), 1, True),
        (server_error(503), 3, True),
        (server_error(503), 4, False),
        (server_error(401), 1, False),
        (SonioxConnectionError("lost"), 1, True),
    ],
)
def test_whether_to_try_again(error: SonioxRealtimeError, attempt: int, retries: bool) -> None:
    assert ReconnectPolicy(max_attempts=3).retries(error, attempt) is retries


def test_should_retry_decides_in_place_of_the_error_within_the_attempts() -> None:
    asked: list[tuple[SonioxRealtimeError, int]] = []

    def should_retry(error: SonioxRealtimeError, attempt: int) -> bool:
        asked.append((error, attempt))
        return attempt == 1

    policy = ReconnectPolicy(max_attempts=2, should_retry=should_retry)
    error = server_error(401)
    assert [policy.retries(error, attempt) for attempt in (1, 2, 3)] == [True, False, False]
    assert asked == [(error, 1), (error, 2)]


@pytest.mark.parametrize(
    ("error", "delays"),
    [
        (SonioxConnectionError("lost"), [0.5, 1.0, 2.0, 3.0, 3.0]),
        (server_error(503), [0.0, 1.0, 2.0, 3.0, 3.0]),
        (server_error(429), [10.0, 10.0]),
    ],
)
def test_the_delays_grow(error: SonioxRealtimeError, delays: list[float]) -> None:
    policy = ReconnectPolicy(jitter=False, max_delay=3.0)
    attempts = range(1, len(delays) + 1)
    assert [policy.delay(error, attempt, 7.0) for attempt in attempts] == delays


@given(now=st.floats(0, 1e9), attempt=st.integers(1, 12))
def test_jitter_shortens_a_delay_by_half_at_most(now: float, attempt: int) -> None:
    error = SonioxConnectionError("lost")
    longest = ReconnectPolicy(jitter=False).delay(error, attempt, now)
    assert longest / 2 <= ReconnectPolicy().delay(error, attempt, now) <= longest


def test_a_delay_that_no_number_can_hold_is_the_longest() -> None:
    policy = ReconnectPolicy(max_attempts=10**6, jitter=False)
    assert policy.delay(SonioxConnectionError("lost"), 10**5, 0.0) == policy.max_delay


def test_jitter_differs_between_clients() -> None:
    error = SonioxConnectionError("lost")
    assert len({ReconnectPolicy().delay(error, 1, 100 + n / 1000) for n in range(100)}) > 50
