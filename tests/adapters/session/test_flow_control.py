"""When a session reads its socket, when it stops, and when it has kept too much."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_adapters.session.flow_control import (
    CLOSING_MEMORY,
    FULL_MEMORY,
    MAX_UNSENT_REPLIES,
    MAX_WAITING_MEMORY,
    MAX_WAITING_MESSAGES,
    FlowControl,
    message_memory,
)
from soniox_proto import Result
from soniox_proto.messages import EventParser
from tests.support.adapters.flow import FakeCore


@pytest.fixture
def core() -> FakeCore:
    return FakeCore()


@pytest.fixture
def flow(core: FakeCore) -> FlowControl:
    return FlowControl(core)


FULL, EMPTY = True, False
STUCK, IDLE = True, False
CLOSING, OPEN = True, False
PILED_UP, WRITTEN = True, False


@pytest.mark.parametrize(
    ("waiting", "sender", "life", "replies", "may_read", "told"),
    [
        (EMPTY, IDLE, OPEN, WRITTEN, True, []),
        (EMPTY, STUCK, OPEN, WRITTEN, True, []),
        (EMPTY, IDLE, CLOSING, WRITTEN, True, []),
        # The user does not receive: stop, and let no deadline of the server pass.
        (FULL, IDLE, OPEN, WRITTEN, False, ["pause"]),
        # Two full buffers would wait for each other.
        (FULL, STUCK, OPEN, WRITTEN, True, []),
        (FULL, IDLE, CLOSING, WRITTEN, True, []),
        (FULL, STUCK, CLOSING, WRITTEN, True, []),
        # The server does not take its answers: stop, but its deadlines go on.
        (EMPTY, IDLE, OPEN, PILED_UP, False, []),
        (EMPTY, STUCK, OPEN, PILED_UP, False, []),
        (EMPTY, IDLE, CLOSING, PILED_UP, False, []),
        (FULL, STUCK, OPEN, PILED_UP, False, []),
        (FULL, IDLE, CLOSING, PILED_UP, False, []),
        (FULL, STUCK, CLOSING, PILED_UP, False, []),
        # Neither: nobody reads, so nothing may pass.
        (FULL, IDLE, OPEN, PILED_UP, False, ["pause"]),
    ],
)
def test_who_may_read(
    flow: FlowControl,
    core: FakeCore,
    waiting: bool,
    sender: bool,
    life: bool,
    replies: bool,
    may_read: bool,
    told: list[str],
) -> None:
    flow.messages_added(MAX_WAITING_MESSAGES if waiting else 0, 0)
    flow.waiting_senders = int(sender)
    flow.unsent_replies = MAX_UNSENT_REPLIES if replies else 0
    if life is CLOSING:
        flow.begin_closing()
    assert flow.update(1.0) is may_read
    assert flow.update(2.0) is may_read, "asking again changes nothing"
    assert core.told == [(word, 1.0) for word in told]


def test_full_by_messages_until_half_is_taken(flow: FlowControl) -> None:
    """Reading does not stop and go on with each message."""
    flow.messages_added(MAX_WAITING_MESSAGES - 1, 0)
    assert not flow.full
    flow.messages_added(1, 0)
    assert flow.full
    for _ in range(MAX_WAITING_MESSAGES // 2 - 1):
        flow.message_taken(0)
        assert flow.full
    flow.message_taken(0)
    assert not flow.full


def test_full_by_memory_until_half_is_taken(flow: FlowControl) -> None:
    flow.messages_added(3, FULL_MEMORY - 1)
    assert not flow.full
    flow.messages_added(1, 1)
    assert flow.full
    flow.message_taken(FULL_MEMORY // 2 - 1)
    assert flow.full
    flow.message_taken(1)
    assert not flow.full


def test_the_core_is_told_of_each_change_once(flow: FlowControl, core: FakeCore) -> None:
    flow.messages_added(MAX_WAITING_MESSAGES, 0)
    flow.update(1.0)
    flow.update(2.0)
    flow.waiting_senders += 1
    flow.update(3.0)
    flow.waiting_senders -= 1
    flow.update(4.0)
    for _ in range(MAX_WAITING_MESSAGES):
        flow.message_taken(0)
    flow.update(5.0)
    flow.begin_closing()
    flow.update(6.0)
    assert core.told == [("pause", 1.0), ("resume", 3.0), ("pause", 4.0), ("resume", 5.0)]


def test_too_much_for_a_sender_that_reads_on(flow: FlowControl) -> None:
    flow.messages_added(2, MAX_WAITING_MEMORY - 1)
    assert not flow.too_much
    flow.messages_added(1, 1)
    assert flow.too_much
    flow.message_taken(1)
    assert not flow.too_much


def test_too_much_for_a_close_is_far_less(flow: FlowControl) -> None:
    flow.messages_added(5, 1000)
    flow.begin_closing()
    flow.messages_added(5, CLOSING_MEMORY - 1)
    flow.begin_closing()
    assert not flow.too_much
    flow.messages_added(1, 1)
    assert flow.too_much


def test_what_waited_before_a_close_is_not_counted_against_it(flow: FlowControl) -> None:
    flow.messages_added(5, MAX_WAITING_MEMORY - 1)
    flow.begin_closing()
    assert not flow.too_much
    flow.messages_added(5, 1)
    assert flow.too_much


def test_one_large_message_alone_is_not_too_much(flow: FlowControl) -> None:
    flow.messages_added(1, 2 * MAX_WAITING_MEMORY)
    assert flow.full
    assert not flow.too_much


@given(st.lists(st.tuples(st.sampled_from("mtsdrwc"), st.integers(0, 300)), max_size=40))
def test_the_core_is_paused_exactly_while_nobody_listens(steps: list[tuple[str, int]]) -> None:
    core = FakeCore()
    flow = FlowControl(core)
    for now, (step, count) in enumerate(steps):
        match step:
            case "m":
                flow.messages_added(count, count * 100)
            case "t":
                for _ in range(min(count, flow.waiting_messages)):
                    flow.message_taken(100)
            case "s":
                flow.waiting_senders += 1
            case "d":
                flow.waiting_senders = max(0, flow.waiting_senders - 1)
            case "r":
                flow.unsent_replies += count * 10_000
            case "w":
                flow.unsent_replies = 0
            case _:
                flow.begin_closing()
        reading = flow.update(now)
        assert flow.is_strained or (reading and not flow.too_much)
        told = [word for word, _ in core.told]
        assert told == ["pause", "resume"] * (len(told) // 2) + ["pause"] * (len(told) % 2)
        if reading:
            assert told[-1:] != ["pause"]
        elif flow.unsent_replies < MAX_UNSENT_REPLIES:
            assert told[-1:] == ["pause"]


def test_reading_to_several_ends(flow: FlowControl, core: FakeCore) -> None:
    """A link that takes no more is read to its end, while the session goes on."""
    flow.messages_added(MAX_WAITING_MESSAGES, 0)
    assert not flow.update(1.0)
    flow.begin_closing()
    flow.begin_closing()
    assert flow.update(2.0)
    flow.end_closing()
    assert flow.update(3.0), "another one is read"
    flow.end_closing()
    assert not flow.update(4.0)
    assert core.told == [("pause", 1.0), ("resume", 2.0), ("pause", 4.0)]


@pytest.mark.parametrize("tokens", [0, 1, 5, 20, 60])
def test_the_estimate_is_near_what_a_message_takes(tokens: int) -> None:
    token = {"text": " word", "start_ms": 1234, "end_ms": 1300, "confidence": 0.9}
    text = json.dumps({"tokens": [token | {"is_final": True}] * tokens, "total_audio_proc_ms": 7})
    parser = EventParser()
    parser.parse(text)
    gc.collect()
    kept: deque[Result] = deque()
    tracemalloc.start()
    try:
        for _ in range(100):
            raw = text.encode().decode()
            kept.append(Result(parser.parse(raw), raw))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Small messages are meant to count for more than they take.
    assert 0.5 < message_memory(text) / (taken / len(kept)) < 3.0
