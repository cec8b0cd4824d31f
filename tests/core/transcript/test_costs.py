"""A message costs the same at the end of a long transcript as at its beginning."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from types import FrameType
from typing import Any

import pytest

from soniox_proto import RealtimeEvent, Token, Transcript
from tests.support.core.token_streams import END

MESSAGES_OF_FIVE_HOURS = 5 * 60 * 60 * 2
"""Two messages a second."""


def message(number: int, *, endpoints: bool) -> RealtimeEvent:
    """Return half a second of speech: two final tokens, and a tail that replaces the one before."""
    texts = (" wor", f"d{number}")
    at_ms = 500 * number
    tokens = [
        Token(text=text, is_final=True, start_ms=at_ms + 250 * n, end_ms=at_ms + 250 * (n + 1))
        for n, text in enumerate(texts)
    ]
    if endpoints and number == 9:
        tokens.append(END)
    tail = [Token(text=f" tail{n}", is_final=False) for n in range(6)]
    return RealtimeEvent(tokens=[*tokens, *tail])


def feed(transcript: Transcript, messages: list[RealtimeEvent], count: int) -> None:
    """Feed so many messages, the same ones over and over."""
    for number in range(count):
        transcript.feed(messages[number % len(messages)])


def calls_of(transcript: Transcript, event: RealtimeEvent) -> int:
    """Return how many calls feeding the message takes, of Python and of C functions."""
    calls = 0

    def count(frame: FrameType, happening: str, argument: Any) -> None:
        nonlocal calls
        calls += happening in {"call", "c_call"}

    # What a collection frees may run code of other tests.
    gc.disable()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        transcript.feed(event)
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


def memory_of(transcript: Transcript, event: RealtimeEvent) -> int:
    """Return how many bytes feeding the message allocates at most."""
    tracemalloc.start()
    try:
        transcript.feed(event)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("endpoints", [True, False])
def test_five_hours_cost_no_more_at_their_end_than_at_their_beginning(endpoints: bool) -> None:
    messages = [message(number, endpoints=endpoints) for number in range(10)]
    transcript = Transcript()

    def costs() -> tuple[int, int]:
        calls = sum(calls_of(transcript, event) for event in messages)
        # The lowest, because a list that has grown full is moved once in a while.
        return calls, min(memory_of(transcript, event) for event in messages)

    # Until as many lines are kept as ever will be.
    feed(transcript, messages, 200)
    calls, memory = costs()
    feed(transcript, messages, MESSAGES_OF_FIVE_HOURS)
    calls_later, memory_later = costs()
    assert calls_later == calls
    assert memory_later <= memory * 1.1
    assert transcript.text.count("word3") == MESSAGES_OF_FIVE_HOURS // 10 + 24


def test_a_bounded_transcript_keeps_what_it_is_told_to() -> None:
    transcript = Transcript(max_tokens=100)
    for number in range(2_000):
        transcript.feed(message(number % 10, endpoints=False))
        assert len(transcript.tokens) <= 100
    assert len(transcript.tokens) > 40
    assert len(transcript.text) < 1_000
