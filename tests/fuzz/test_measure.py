"""What measures the cost of hostile input tells dear from cheap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from soniox_proto import RealtimeEvent
from tests.fuzz.measure import MEBIBYTE, check_linear, kept_size, peak_memory


def test_memory_is_that_of_the_dearest_moment() -> None:
    def work() -> None:
        large = bytearray(3 * MEBIBYTE)
        del large
        bytearray(MEBIBYTE)

    assert 3 * MEBIBYTE <= peak_memory(work) < 3.1 * MEBIBYTE


def test_memory_of_before_does_not_count() -> None:
    held = bytearray(3 * MEBIBYTE)
    assert peak_memory(lambda: len(held)) < 1000


class Holder:
    __slots__ = ("content",)

    def __init__(self, content: object) -> None:
        self.content = content


@pytest.mark.parametrize(
    "holder",
    [
        bytes(1000),
        bytearray(1000),
        "a" * 1000,
        [bytes(1000)],
        {"a": (deque([bytes(1000)]),)},
        {bytes(1000): 1},
        Holder(Holder([bytes(1000)])),
        ValueError(bytes(1000)).args,
    ],
)
def test_what_is_kept_is_found(holder: object) -> None:
    assert 1000 <= kept_size(holder) < 1300


def test_what_is_kept_twice_counts_once() -> None:
    content = bytes(1000)
    assert kept_size((content, content)) < 1300


def test_what_holds_itself_is_no_obstacle() -> None:
    endless: list[object] = [bytes(1000)]
    endless.append(endless)
    assert 1000 <= kept_size(endless) < 1300


def test_messages_do_not_count() -> None:
    assert kept_size(RealtimeEvent(error_message="a" * 1000)) == 0


def linear(size: int) -> Callable[[], object]:
    return lambda: sum(range(size))


def quadratic(size: int) -> Callable[[], object]:
    return lambda: [sum(range(size // 50)) for _ in range(size // 50)]


def test_linear_work_is_let_pass() -> None:
    check_linear(linear, 50_000)


def test_quadratic_work_is_not() -> None:
    with pytest.raises(AssertionError, match="8 times the input takes"):
        check_linear(quadratic, 10_000)
