"""Positions of the service, which pads its clock at each finalize."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import RealtimeEvent
from soniox_proto.server_clock import ServerClock

FIN = {"text": "<fin>", "is_final": True, "start_ms": 0, "end_ms": 0, "speaker": "9"}


def word(text: str, start_ms: int, end_ms: int) -> dict[str, Any]:
    return {"text": text, "start_ms": start_ms, "end_ms": end_ms, "is_final": True}


def message(*tokens: dict[str, Any], **fields: object) -> RealtimeEvent:
    return RealtimeEvent.model_validate({"tokens": list(tokens), **fields})


@pytest.mark.parametrize(
    ("audio_ms", "position"),
    [(0, 120), (1, 120), (119, 120), (120, 240), (121, 240), (1_000, 1_080), (1_080, 1_200)],
)
def test_a_finalize_pads_to_strictly_the_next_multiple(audio_ms: int, position: int) -> None:
    clock = ServerClock()
    assert clock.position(audio_ms) == audio_ms
    assert clock.finalize(audio_ms) == position
    assert clock.position(audio_ms) == position
    assert clock.position(audio_ms + 55) == position + 55


@given(st.lists(st.integers(0, 5_000), max_size=10))
def test_each_finalize_pads_the_padded_clock(chunks_ms: list[int]) -> None:
    clock, audio_ms, expected = ServerClock(), 0, 0
    for chunk_ms in chunks_ms:
        audio_ms += chunk_ms
        expected = ((expected + chunk_ms) // 120 + 1) * 120
        assert clock.finalize(audio_ms) == expected


def test_messages_before_the_first_finalize_are_left_alone() -> None:
    result = message(word("a", 5, 9), total_audio_proc_ms=100)
    assert ServerClock().message(result) is result


def test_the_answer_stands_on_the_padded_clock_and_its_words_before_it() -> None:
    clock = ServerClock()
    answer = clock.finalized_message(
        message(word("a", 100, 400), word(" b", 400, 900), FIN, total_audio_proc_ms=500), 500
    )
    assert answer == message(
        word("a", 100, 400),
        word(" b", 400, 500),
        FIN,
        final_audio_proc_ms=600,
        total_audio_proc_ms=600,
    )


def test_everything_later_stands_on_the_padded_clock() -> None:
    clock = ServerClock()
    clock.finalize(500)
    later = message(
        word(" c", 450, 700),
        {"text": " d", "start_ms": 700},
        {"text": "<end>", "start_ms": 0, "end_ms": 0},
        {"text": " e", "translation_status": "translation"},
        final_audio_proc_ms=400,
        total_audio_proc_ms=900,
        other="kept",
    )
    assert clock.message(later) == message(
        word(" c", 600, 800),
        {"text": " d", "start_ms": 800},
        {"text": "<end>", "start_ms": 0, "end_ms": 0},
        {"text": " e", "translation_status": "translation"},
        final_audio_proc_ms=600,
        total_audio_proc_ms=1_000,
        other="kept",
    )
    assert clock.message(message()) == message()
