"""When the audio at a position was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto.audio_clock import NOTE_INTERVAL, AudioClock
from soniox_proto.server_clock import ServerClock


def spoken(seconds: float, *, begins: float = 100.0) -> AudioClock:
    """Return the clock of a microphone that was on for so long, in chunks of 20 ms."""
    clock = AudioClock()
    due = 0.0
    for number in range(1, round(seconds * 50) + 1):
        now = begins + number * 0.02
        if now >= due:
            clock.note(number * 20, now)
            due = now + NOTE_INTERVAL
    return clock


def test_without_audio_there_is_no_time() -> None:
    assert AudioClock().sent_at(0) is None


@pytest.mark.parametrize("seconds", [0.5, 5, 60])
def test_audio_of_a_microphone_is_sent_when_it_is_spoken(seconds: float) -> None:
    clock = spoken(seconds)
    for position in range(0, round(seconds * 1000), 70):
        assert clock.sent_at(position) == pytest.approx(100 + position / 1000, abs=0.021)


def test_audio_that_is_sent_at_once_was_sent_then() -> None:
    clock = AudioClock()
    clock.note(20, 5.0)
    clock.note(60_000, 5.3)
    assert clock.sent_at(30_000) == 5.3


def test_a_pause_does_not_delay_what_was_said_before_it() -> None:
    clock = spoken(1.0)
    clock.note(1020, 160.0)
    assert clock.sent_at(900) == pytest.approx(100.9, abs=0.021)
    assert clock.sent_at(1300) == pytest.approx(160.28)


def test_memory_is_bounded() -> None:
    clock = AudioClock()
    for number in range(10_000):
        clock.note(number * 250, number * 0.25)
        clock.finalize(number * 250)
    sent, times = clock._notes
    assert len(sent) == len(times) <= 128
    assert len(clock._finalized) <= 32


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(0, 40_000))
def test_the_pads_of_finalizes_are_taken_out(pieces: list[int], audio_ms: int) -> None:
    """Finalizes after each piece; the position that the service gives leads back to the audio."""
    clock, service = AudioClock(), ServerClock()
    sent = 0
    for piece in pieces:
        if sent <= audio_ms < sent + piece:
            break
        sent += piece
        clock.finalize(sent)
        service.finalize(sent)
    position = service.position(max(audio_ms, sent))
    assert clock.audio_ms(position) == max(audio_ms, sent)


def test_positions_before_a_finalize_are_those_of_the_clock_before_it() -> None:
    clock = AudioClock()
    clock.finalize(1000)
    clock.finalize(2000)
    assert [clock.audio_ms(position) for position in (900, 1040, 1080, 1580, 2080, 2160)] == [
        *(900, 1000, 1000),
        *(1500, 2000, 2000),
    ]


def test_an_answer_corrects_the_pad() -> None:
    clock = AudioClock()
    clock.finalize(1000)
    clock.answered(1000)
    assert clock.audio_ms(1500) == 1500
