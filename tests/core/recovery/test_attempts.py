"""Whether another link is tried after an error, and after which delay."""

from __future__ import annotations

from typing import Final

import pytest

from soniox_proto import (
    ReconnectPolicy,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxServerError,
)
from soniox_proto.recovery.attempts import Attempts


def server_error(code: int, error_type: str | None = None) -> SonioxServerError:
    return SonioxServerError.from_message(
        error_code=code, error_type=error_type, error_message="x", request_id=None, more_info=None
    )


LOST: Final = SonioxConnectionError("lost")
ENDED: Final = server_error(503)
INVALID: Final = server_error(400)
BAD_KEY: Final = server_error(401)
OLD_KEY: Final = server_error(403, "temp_api_key_session_expired")
FORBIDDEN: Final = server_error(403, "permission_denied")


def attempts(*, fresh: bool = False, endless: bool = False, **fields: object) -> Attempts:
    values: dict[str, object] = {"jitter": False, "initial_delay": 1.0, "max_attempts": 3, **fields}
    policy = ReconnectPolicy(**values)  # type: ignore[arg-type]
    return Attempts(policy, keys_are_fresh=fresh, endless=endless)


@pytest.mark.parametrize(
    ("fresh", "endless", "errors", "delays"),
    [
        # The errors of links that fail one after the other, whose keys are old or fresh.
        (False, False, [LOST, LOST, LOST, LOST], [1.0, 2.0, 4.0, None]),
        (False, True, [LOST, LOST, LOST, LOST, LOST], [1.0, 2.0, 4.0, 8.0, 16.0]),
        # The service says when to come back, the first time.
        (False, False, [ENDED, ENDED], [0.0, 2.0]),
        (False, False, [LOST, ENDED], [1.0, 2.0]),
        # What is not worth another try does not count as one.
        (False, False, [INVALID, LOST], [None, 1.0]),
        (False, True, [LOST, INVALID, LOST], [1.0, None, 2.0]),
        # A refused key is replaced once, if it can be.
        (False, False, [BAD_KEY], [None]),
        (False, True, [BAD_KEY], [None]),
        (True, False, [BAD_KEY, LOST], [0.0, 2.0]),
        (True, False, [OLD_KEY, LOST], [0.0, 2.0]),
        (True, False, [BAD_KEY, BAD_KEY], [0.0, None]),
        (True, False, [BAD_KEY, LOST, OLD_KEY], [0.0, 2.0, None]),
        (True, False, [LOST, BAD_KEY, BAD_KEY], [1.0, 0.0, None]),
        (True, False, [LOST, LOST, LOST, BAD_KEY], [1.0, 2.0, 4.0, None]),
        (True, False, [FORBIDDEN], [None]),
        (True, True, [BAD_KEY, BAD_KEY], [0.0, None]),
        (True, True, [LOST, BAD_KEY, BAD_KEY], [1.0, 0.0, None]),
    ],
)
def test_what_follows_one_error_after_the_other(
    fresh: bool, endless: bool, errors: list[SonioxRealtimeError], delays: list[float | None]
) -> None:
    tried = attempts(fresh=fresh, endless=endless)
    assert [tried.next_delay(error, now=100.0) for error in errors] == delays
    assert tried.number == sum(delay is not None for delay in delays)


@pytest.mark.parametrize("endless", [False, True])
def test_a_policy_without_attempts_makes_none(endless: bool) -> None:
    assert attempts(endless=endless, max_attempts=0).next_delay(LOST, now=0.0) is None


def test_a_link_that_works_makes_the_next_loss_the_first_again() -> None:
    tried = attempts(fresh=True)
    assert tried.next_delay(BAD_KEY, now=0.0) == 0.0
    tried.restart()
    assert tried.number == 0
    assert tried.next_delay(BAD_KEY, now=0.0) == 0.0


@pytest.mark.parametrize(
    ("endless", "numbers"), [(False, [1, 2]), (True, [1, 2, 2, 2])], ids=["present", "standby"]
)
def test_should_retry_is_asked_with_a_number_within_the_attempts(
    endless: bool, numbers: list[int]
) -> None:
    asked: list[int] = []

    def should_retry(error: SonioxRealtimeError, attempt: int) -> bool:
        asked.append(attempt)
        return True

    tried = attempts(endless=endless, max_attempts=2, should_retry=should_retry)
    for _ in range(4):
        tried.next_delay(INVALID, now=0.0)
    assert asked == numbers


def test_a_should_retry_that_raises_says_no() -> None:
    raised = ZeroDivisionError()

    def should_retry(error: SonioxRealtimeError, attempt: int) -> bool:
        raise raised

    error = SonioxConnectionError("lost")
    assert attempts(should_retry=should_retry).next_delay(error, now=0.0) is None
    assert error.__context__ is raised
