"""When the audio at a position was sent."""

from __future__ import annotations

import pytest

from soniox_proto.send_times import NOTE_INTERVAL, SendTimes


def spoken(seconds: float, *, begins: float = 100.0) -> SendTimes:
    """Return the times of a microphone that was on for so long, in chunks of 20 ms."""
    times = SendTimes()
    due = 0.0
    for number in range(1, round(seconds * 50) + 1):
        now = begins + number * 0.02
        if now >= due:
            times.note(number * 20, now)
            due = now + NOTE_INTERVAL
    return times


def test_without_audio_there_is_no_time() -> None:
    assert SendTimes().at(0) is None


@pytest.mark.parametrize("seconds", [0.5, 5, 60])
def test_audio_of_a_microphone_is_sent_when_it_is_spoken(seconds: float) -> None:
    times = spoken(seconds)
    for position in range(0, round(seconds * 1000), 70):
        assert times.at(position) == pytest.approx(100 + position / 1000, abs=0.021)


def test_audio_that_is_sent_at_once_was_sent_then() -> None:
    times = SendTimes()
    times.note(20, 5.0)
    times.note(60_000, 5.3)
    assert times.at(30_000) == 5.3


def test_a_pause_does_not_delay_what_was_said_before_it() -> None:
    times = spoken(1.0)
    times.note(1020, 160.0)
    assert times.at(900) == pytest.approx(100.9, abs=0.021)
    assert times.at(1300) == pytest.approx(160.28)


def test_memory_is_bounded() -> None:
    times = SendTimes()
    for number in range(10_000):
        times.note(number * 250, number * 0.25)
    sent, noted = times._notes
    assert len(sent) == len(noted) <= 128
