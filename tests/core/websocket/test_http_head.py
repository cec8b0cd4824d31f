"""Where the head of an HTTP message ends, in pieces of any size."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto.websocket.http_head import MAX_HEAD_SIZE, HeadScanner

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def scan(data: bytes, *positions: int) -> tuple[int, bool]:
    """Return how much of `data` is head when it is cut at `positions`, and whether too much."""
    scanner = HeadScanner()
    edges = [0, *sorted({p for p in positions if 0 < p < len(data)}), len(data)]
    taken = 0
    for start, stop in itertools.pairwise(edges):
        end = scanner.scan(data[start:stop])
        taken += end
        if end < stop - start or scanner.too_large:
            break
    return taken, scanner.too_large


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_an_empty_line_ends_it_however_lines_are_ended(end: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: x" + end
    for position in range(len(head)):
        assert scan(head + b"body", position) == (len(head), False)


@given(rest=st.binary(max_size=20), cuts=st.lists(st.integers(1, 80), max_size=5))
def test_where_it_ends_does_not_depend_on_the_cuts(rest: bytes, cuts: list[int]) -> None:
    data = HEAD + rest
    # A cut right at the end of the head would leave the rest to the next head.
    cuts = [position for position in cuts if position != len(HEAD)]
    assert scan(data, *cuts) == (len(HEAD), False)


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(1, 60), max_size=5))
def test_what_has_no_end_is_taken_whole(data: bytes, cuts: list[int]) -> None:
    data = data.replace(b"\n", b"")
    assert scan(data, *cuts) == (len(data), False)


def test_one_head_may_follow_another() -> None:
    scanner = HeadScanner()
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert scanner.scan(hints + HEAD) == len(hints)
    assert scanner.scan(HEAD) == len(HEAD)


@pytest.mark.parametrize("positions", [(), (1,), (MAX_HEAD_SIZE,), range(1, 20_000, 7)])
@pytest.mark.parametrize(("excess", "too_large"), [(0, False), (1, True)])
def test_the_bound_is_kept_however_it_is_cut(
    positions: tuple[int, ...], excess: int, too_large: bool
) -> None:
    padding = MAX_HEAD_SIZE + excess - len(HEAD)
    head = HEAD[:-2] + b"X: " + b"x" * (padding - 5) + b"\r\n\r\n"
    assert len(head) == MAX_HEAD_SIZE + excess
    assert scan(head + b"rest", *positions)[1] is too_large
    assert scan(b"x" * (MAX_HEAD_SIZE + excess), *positions)[1] is too_large
