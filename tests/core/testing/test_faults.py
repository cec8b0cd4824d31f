"""Plans of faults, and what they do to bytes."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import SonioxValidationError
from soniox_proto.testing import FAULT_KINDS, Direction, Fault, FaultPlan, FaultyChannel

DATA = bytes(range(256)) * 4
FATAL = ("cut", "reset", "drop", "freeze")


def arrivals(
    channel: FaultyChannel,
    pieces: list[tuple[float, bytes]],
    direction: Direction = "sent",
    *,
    end: float = 100.0,
) -> list[tuple[float, bytes]]:
    """Feed pieces at their times; return what arrives, and when."""
    arrived: list[tuple[float, bytes]] = []
    left = list(pieces)
    now = 0.0
    while True:
        while left and left[0][0] <= now:
            channel.feed(direction, left.pop(0)[1], now)
        while data := channel.take(direction, now):
            arrived.append((now, data))
        times = [left[0][0]] if left else []
        due = channel.next_timeout(direction)
        times += [] if due is None else [due]
        if not times or min(times) > end:
            return arrived
        assert min(times) > now, "it asks to be woken when nothing happens"
        now = min(times)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([], [(0.0, b"abcd"), (1.0, b"efgh")]),
        ([Fault("delay", seconds=0.5)], [(0.5, b"abcd"), (1.5, b"efgh")]),
        ([Fault("delay", after=2, seconds=0.5)], [(0.0, b"ab"), (0.5, b"cd"), (1.5, b"efgh")]),
        ([Fault("delay", at=0.9, seconds=0.5)], [(0.0, b"abcd"), (1.5, b"efgh")]),
        ([Fault("stall", after=3, seconds=2)], [(0.0, b"abc"), (2.0, b"defgh")]),
        ([Fault("stall", "received", seconds=2)], [(0.0, b"abcd"), (1.0, b"efgh")]),
        (
            [Fault("drip", after=1, seconds=0.2, length=2)],
            [(0.0, b"a"), (0.0, b"b"), (0.1, b"cd"), (1.0, b"efgh")],
        ),
        (
            [Fault("stall", after=2, seconds=2), Fault("stall", after=6, seconds=1)],
            [(0.0, b"ab"), (2.0, b"cdef"), (3.0, b"gh")],
        ),
        ([Fault("cut", after=6)], [(0.0, b"abcd"), (1.0, b"ef")]),
        ([Fault("reset", after=8)], [(0.0, b"abcd"), (1.0, b"efgh")]),
        ([Fault("drop", at=1.0)], [(0.0, b"abcd")]),
        ([Fault("freeze")], []),
        ([Fault("cut", "received")], []),
    ],
    ids=repr,
)
def test_what_arrives_and_when(faults: list[Fault], expected: list[tuple[float, bytes]]) -> None:
    channel = FaultyChannel(FaultPlan(*faults), 0.0)
    assert arrivals(channel, [(0.0, b"abcd"), (1.0, b"efgh")]) == expected
    assert channel.happened == faults
    assert channel.passed("sent") == len(b"".join(data for _, data in expected))
    assert channel.passed("received") == 0
    assert channel.ended == (faults[0].kind if faults and faults[0].fatal else None)
    assert not channel.waiting("sent")


def test_a_fault_that_was_not_reached() -> None:
    channel = FaultyChannel(FaultPlan(Fault("cut", after=9), Fault("reset", at=200.0)), 0.0)
    assert arrivals(channel, [(0.0, b"abcd"), (1.0, b"efgh")]) == [(0.0, b"abcd"), (1.0, b"efgh")]
    assert channel.happened == []
    assert channel.next_timeout() == 200.0


def test_only_the_first_fault_that_ends_a_connection_happens() -> None:
    channel = FaultyChannel(FaultPlan(Fault("cut", at=1.0), Fault("reset", at=1.0)), 0.0)
    channel.handle_timeout(1.0)
    channel.handle_timeout(2.0)
    assert channel.happened == [Fault("cut", at=1.0)]
    assert channel.next_timeout("sent") is None


@pytest.mark.parametrize(
    ("kind", "room"), [("cut", True), ("reset", True), ("drop", True), ("freeze", False)]
)
def test_what_is_read_after_the_end(kind: Any, room: bool) -> None:
    channel = FaultyChannel(FaultPlan(Fault(kind, at=1.0)), 0.0)
    channel.feed("received", b"lost", 0.0)
    channel.handle_timeout(1.0)
    assert bool(channel.room("sent")) is room
    channel.feed("sent", b"lost", 1.0)
    channel.feed_eof("sent", 1.0)
    assert channel.take("sent", 1.0) == channel.take("received", 1.0) == b""
    assert not channel.at_eof("sent", 1.0)


def test_room_is_limited_as_in_a_buffer() -> None:
    channel = FaultyChannel(FaultPlan(Fault("stall", seconds=1.0)), 0.0)
    channel.handle_timeout(0.0)
    size = channel.room("sent")
    channel.feed("sent", bytes(size - 1), 0.0)
    assert (channel.room("sent"), channel.room("received")) == (1, size)
    assert channel.waiting("sent")
    assert channel.take("sent", 0.9) == b""
    assert len(channel.take("sent", 1.0)) == size - 1
    assert channel.room("sent") == size


def test_the_end_of_a_stream_is_late_too() -> None:
    channel = FaultyChannel(FaultPlan(Fault("delay", seconds=0.5)), 0.0)
    assert not channel.at_eof("sent", 0.0)
    channel.feed("sent", b"last", 0.0)
    channel.feed_eof("sent", 1.0)
    assert channel.take("sent", 0.5) == b"last"
    assert channel.next_timeout("sent") == 1.5
    assert not channel.at_eof("sent", 1.4)
    assert channel.at_eof("sent", 1.5)
    assert not channel.at_eof("received", 1.5)


FAULTS = st.builds(
    Fault,
    st.sampled_from(FAULT_KINDS),
    st.sampled_from(["sent", "received"]),
    after=st.integers(0, 600),
    at=st.sampled_from([0.0, 0.5, 1.25]),
    seconds=st.floats(0.001, 5),
    length=st.integers(1, 300),
)


@given(st.lists(FAULTS, max_size=4), st.lists(st.integers(0, len(DATA)), max_size=8))
def test_how_bytes_are_fed_does_not_matter(faults: list[Fault], cuts: list[int]) -> None:
    """Bytes arrive in order, none twice; at the same times however they were split."""
    edges = [0, *sorted(cuts), len(DATA)]
    pieces = [(0.0, DATA[begin:end]) for begin, end in itertools.pairwise(edges)]
    whole = FaultyChannel(FaultPlan(*faults), 0.0)
    split = FaultyChannel(FaultPlan(*faults), 0.0)
    expected, came = arrivals(whole, [(0.0, DATA)]), arrivals(split, pieces)
    assert _by_time(came) == _by_time(expected)
    assert whole.happened == split.happened
    data = b"".join(piece for _, piece in came)
    assert data == DATA[: len(data)]
    assert split.passed("sent") == len(data)
    if split.ended is None:
        assert data == DATA


def _by_time(arrived: list[tuple[float, bytes]]) -> dict[float, bytes]:
    joined: dict[float, bytes] = {}
    for when, data in arrived:
        joined[when] = joined.get(when, b"") + data
    return joined


# Plans


@given(st.integers() | st.text())
def test_a_plan_depends_on_its_seed_alone_and_can_be_written_down(seed: int | str) -> None:
    plan = FaultPlan.from_seed(seed)
    assert FaultPlan.from_seed(seed) == plan
    assert eval(repr(plan), {"FaultPlan": FaultPlan, "Fault": Fault}) == plan


def test_plans_of_seeds_do_not_change() -> None:
    """They are the same on every Python, so a seed in a report means something."""
    assert [repr(FaultPlan.from_seed(seed)) for seed in range(3)] == PLANS


PLANS = [
    "FaultPlan(Fault('drip', after=10329, seconds=0.474777, length=152))",
    "FaultPlan()",
    "FaultPlan(Fault('freeze', after=345))",
]


def test_plans_of_seeds_are_varied() -> None:
    plans = [FaultPlan.from_seed(seed) for seed in range(2000)]
    kinds = Counter(plan.faults[0].kind if plan.faults else None for plan in plans)
    assert kinds.keys() == {None, *FAULT_KINDS}
    assert min(kinds.values()) > 150
    faults = [plan.faults[0] for plan in plans if plan.faults]
    assert {fault.direction for fault in faults} == {"sent", "received"}
    assert max(fault.after for fault in faults if fault.direction == "sent") > 90_000
    assert 3_500 < max(fault.after for fault in faults if fault.direction == "received") <= 4_000
    assert 0.4 < sum(fault.after <= 400 for fault in faults) / len(faults) < 0.65
    assert 0.9 < max(fault.seconds for fault in faults) <= 1.0
    assert max(fault.seconds for fault in faults if fault.kind == "delay") <= 1 / 30
    assert all(plan.fatal is any(f.kind in FATAL for f in plan.faults) for plan in plans)


def test_what_a_seed_may_choose_from() -> None:
    plans = [
        FaultPlan.from_seed(seed, kinds=["stall"], max_sent=9, max_received=5, max_seconds=0.1)
        for seed in range(200)
    ]
    faults = [plan.faults[0] for plan in plans if plan.faults]
    assert {fault.kind for fault in faults} == {"stall"}
    assert {fault.after for fault in faults if fault.direction == "sent"} == set(range(10))
    assert {fault.after for fault in faults if fault.direction == "received"} == set(range(6))
    assert max(fault.seconds for fault in faults) <= 0.1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "explode"}, "'explode' is no fault; the faults are delay, drip"),
        ({"kind": "cut", "direction": "up"}, "direction must be 'sent' or 'received', not 'up'"),
        ({"kind": "cut", "after": -1}, "after must be zero or more, not -1"),
        ({"kind": "cut", "at": -0.1}, "at must be zero or more, not -0.1"),
        ({"kind": "stall", "seconds": -2}, "seconds must be zero or more, not -2"),
        ({"kind": "drip", "length": -2}, "length must be zero or more, not -2"),
        ({"kind": "cut", "at": float("nan")}, "at must be a number, not nan"),
        ({"kind": "cut", "after": 1.5}, "after must be zero or more, not 1.5"),
        ({"kind": "drip", "seconds": 1.0}, "a drip needs the length of what is to drip"),
        ({"kind": "stall"}, "a stall needs its seconds"),
        ({"kind": "delay"}, "a delay needs its seconds"),
    ],
)
def test_faults_that_cannot_be(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SonioxValidationError, match=words):
        Fault(**fields)


def test_which_faults_a_session_cannot_survive() -> None:
    fatal = {kind for kind in FAULT_KINDS if Fault(kind, seconds=1.0, length=1).fatal}
    assert fatal == set(FATAL)


def test_plans_are_made_of_faults() -> None:
    with pytest.raises(SonioxValidationError, match="a plan is made of Faults, not 'cut'"):
        FaultPlan("cut")  # type: ignore[arg-type]
