from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import soniox_proto
from soniox_proto import (
    RealtimeSTTConnection,
    RealtimeSTTProtocol,
    RealtimeSTTServerConnection,
    SonioxValidationError,
    options,
)
from soniox_proto.options import check_flag, check_seconds, check_size, check_timeout
from tests.support.core.messages import CONFIG

SECONDS = {
    RealtimeSTTProtocol: [
        "connect_timeout",
        "close_timeout",
        "keepalive_interval",
        "finalize_timeout",
    ],
    RealtimeSTTConnection: [
        "connect_timeout",
        "close_timeout",
        "keepalive_interval",
        "ping_interval",
        "ping_timeout",
        "finalize_timeout",
    ],
    RealtimeSTTServerConnection: [
        "connect_timeout",
        "start_timeout",
        "idle_timeout",
        "close_timeout",
    ],
}
SIZES = {
    RealtimeSTTProtocol: ["max_pending_audio"],
    RealtimeSTTConnection: ["max_message_size", "max_pending_audio"],
    RealtimeSTTServerConnection: ["max_message_size"],
}


def make(kind: type, **options: Any) -> object:
    if kind is RealtimeSTTProtocol:
        return RealtimeSTTProtocol(CONFIG, **options)
    if kind is RealtimeSTTConnection:
        return RealtimeSTTConnection("ws://localhost/", CONFIG, **options)
    return RealtimeSTTServerConnection(**options)


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("this has no repr")


NO_TIMES = [0, 0.0, -1, *map(float, ("nan", "inf", "-inf")), 1e6 + 1, 1e308, 10**400, 10**5000]
NO_NUMBERS = ["5", Decimal(5), [5], 5j, True, False, "x" * 10**6, Unspeakable()]


class TestSeconds:
    @given(st.none() | st.floats(min_value=1e-9, max_value=1e6) | st.integers(1, 10**6))
    def test_a_number_above_zero_stays(self, value: float | None) -> None:
        assert check_seconds("close_timeout", value) == value

    @pytest.mark.parametrize(
        "value", [*NO_TIMES, *NO_NUMBERS], ids=lambda value: type(value).__name__
    )
    def test_what_is_no_time_is_refused(self, value: Any) -> None:
        with pytest.raises(SonioxValidationError) as caught:
            check_seconds("close_timeout", value)
        text = str(caught.value)
        assert "close_timeout must be a number of seconds above 0 and at most 1,000,000" in text
        assert "or None for no limit" in text
        assert len(text) < 200


class TestSize:
    @given(st.integers(min_value=1))
    def test_a_whole_number_from_one_stays(self, value: int) -> None:
        assert check_size("max_message_size", value) == value

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "5", float("nan")])
    def test_anything_else_is_refused(self, value: Any) -> None:
        with pytest.raises(SonioxValidationError, match="max_message_size must be a whole number"):
            check_size("max_message_size", value)


class TestTimeout:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [(None, None), (0, 0), (1.5, 1.5), (-1, 0), (float("inf"), None), (10**400, None)],
    )
    def test_any_number_has_a_meaning(self, value: float | None, expected: float | None) -> None:
        assert check_timeout(value) == expected
        assert check_timeout(-(10**400)) == 0

    @pytest.mark.parametrize(
        "value", [float("nan"), *NO_NUMBERS], ids=lambda value: type(value).__name__
    )
    def test_anything_else_is_refused(self, value: Any) -> None:
        with pytest.raises(SonioxValidationError, match="timeout must be a number of seconds"):
            check_timeout(value)


@pytest.mark.parametrize("value", ["yes", 1, 0, None, b""])
def test_a_flag_is_true_or_false(value: Any) -> None:
    assert check_flag("compression", True)
    assert not check_flag("compression", False)
    with pytest.raises(SonioxValidationError, match="compression must be True or False"):
        check_flag("compression", value)
    with pytest.raises(SonioxValidationError, match="compression must be True or False"):
        make(RealtimeSTTConnection, compression=value)


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind, names in SECONDS.items() for option in names]
)
def test_every_time_option_is_checked_and_may_be_off(kind: type, option: str) -> None:
    make(kind, **{option: None})
    make(kind, **{option: 0.001})
    with pytest.raises(SonioxValidationError, match=option):
        make(kind, **{option: 0})


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind, names in SIZES.items() for option in names]
)
def test_every_size_option_is_checked(kind: type, option: str) -> None:
    make(kind, **{option: 1})
    with pytest.raises(SonioxValidationError, match=option):
        make(kind, **{option: 0})


def test_every_default_is_exported_from_the_root() -> None:
    defaults = {name for name in options.__all__ if name.startswith("DEFAULT_")}
    assert defaults
    assert defaults <= set(soniox_proto.__all__)
