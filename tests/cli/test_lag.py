"""How the lag is measured."""

from __future__ import annotations

import pytest

from soniox_adapters.cli.lag import LagMeter
from soniox_proto import RealtimeEvent, Token, Utterance


def utterance(end_ms: int | None, settled_at: float | None) -> Utterance:
    return Utterance((Token(text="x", end_ms=end_ms),), settled_at)


def result(total_ms: int | None, *, tokens: int = 1) -> RealtimeEvent:
    return RealtimeEvent(tokens=[Token(text="x")] * tokens, total_audio_proc_ms=total_ms)


def test_final_text_is_measured_from_the_end_of_the_utterance() -> None:
    meter = LagMeter()
    for seconds in (0.5, 0.9, 0.6):
        meter.utterance(utterance(2000, 2 + seconds))
    lag = meter.result()
    assert lag is not None
    assert lag.median_final == pytest.approx(0.6)
    assert lag.longest_final == pytest.approx(0.9)
    assert lag.median_caption is None


def test_live_text_is_measured_from_the_audio_that_a_message_covers() -> None:
    meter = LagMeter()
    meter.message(result(1000), 1.1)
    meter.message(result(2000), 2.3)
    # Progress without text, and messages that do not tell, count for nothing.
    meter.message(result(3000, tokens=0), 9.0)
    meter.message(result(None), 9.0)
    meter.utterance(utterance(1000, 2.0))
    lag = meter.result()
    assert lag is not None
    assert lag.median_caption == pytest.approx(0.2)


def test_audio_that_is_played_faster_ends_earlier() -> None:
    meter = LagMeter(speed=4.0, chunk_seconds=0.1)
    meter.utterance(utterance(2000, 1.0))
    lag = meter.result()
    assert lag is not None
    assert lag.longest_final == pytest.approx(0.6)


def test_nothing_is_told_where_nothing_is_known() -> None:
    meter = LagMeter()
    meter.utterance(utterance(None, 1.0))
    meter.utterance(utterance(1000, None))
    assert meter.result() is None
