"""Positions on the service's clock, taken back to the audio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto.clock_map import ClockMap
from soniox_proto.server_clock import ServerClock


def test_without_a_finalize_only_the_beginning_differs() -> None:
    clock = ClockMap(500.0)
    assert [clock.audio_ms(at) for at in (0, 10, 1000)] == [500.0, 510.0, 1500.0]
    assert clock.server_ms(510.0) == 10.0


@pytest.mark.parametrize(("at", "padded"), [(119.0, 120), (120.0, 240), (121.0, 240), (0.0, 120)])
def test_a_finalize_pads_the_clock(at: float, padded: int) -> None:
    clock = ClockMap(0.0)
    clock.finalize(at)
    assert clock.audio_ms(at) == at
    assert clock.audio_ms(at + 0.5) == at, "inside the pad the audio stands still"
    assert clock.audio_ms(padded) == at
    assert clock.audio_ms(padded + 7) == at + 7


def test_the_answer_corrects_it_and_what_follows() -> None:
    clock = ClockMap(0.0)
    clock.finalize(100.0)
    clock.finalize(200.0)
    clock.skip(300.0, 1000.0)
    clock.answered(110)  # Less than predicted, because of silence that was sent before.
    assert clock.audio_ms(115) == 105.0
    # (110 + 100) // 120 + 1 makes 240.
    assert clock.audio_ms(240) == 200.0
    assert clock.audio_ms(340) == 1000.0
    clock.answered(None)
    assert clock.audio_ms(240) == 200.0
    clock.answered(5)
    assert clock.audio_ms(240) == 200.0, "there is no third finalize"


def test_dropped_audio_makes_the_audio_jump() -> None:
    clock = ClockMap(0.0)
    clock.skip(100.0, 400.0)
    assert [clock.audio_ms(at) for at in (99, 100, 150)] == [99.0, 400.0, 450.0]


def test_what_is_not_needed_any_more_is_forgotten() -> None:
    clock = ClockMap(0.0)
    for at in range(0, 100_000, 1000):
        clock.finalize(at)
        clock.answered(None)
        clock.forget(at - 5000)
        assert clock.audio_ms(clock.server_ms(at)) == at
    assert len(clock._breakpoints) < 10


@pytest.mark.parametrize("claimed", [-1, 99, 5000, 10**400])
def test_an_answer_that_cannot_be_true_is_not_believed(claimed: int) -> None:
    clock = ClockMap(0.0)
    clock.finalize(100.0)
    clock.answered(claimed)
    assert clock.audio_ms(120) == 100.0
    assert clock.audio_ms(claimed) <= 10**13


@given(st.lists(st.tuples(st.integers(0, 500), st.booleans()), max_size=10))
def test_it_takes_back_what_the_service_does(pieces: list[tuple[int, bool]]) -> None:
    clock, server, audio_ms = ClockMap(0.0), ServerClock(), 0
    for length, finalizes in pieces:
        audio_ms += length
        assert clock.audio_ms(server.position(audio_ms)) == audio_ms
        if finalizes:
            clock.finalize(audio_ms)
            server.finalize(audio_ms)
    assert clock.audio_ms(server.position(audio_ms)) == audio_ms


@given(
    st.lists(st.tuples(st.integers(1_500, 9_000), st.booleans()), max_size=8),
    st.booleans(),
)
def test_an_answer_that_never_comes_does_not_shift_those_after_it(
    finalizes: list[tuple[int, bool]], pads_all: bool
) -> None:
    """The service answers some finalizes; those it does not answer may pad its clock or not."""
    clock, server, audio_ms, unanswered = ClockMap(0.0), ServerClock(), 0, 0
    for length, answers in finalizes:
        audio_ms += length
        clock.finalize(audio_ms)
        if not answers:
            unanswered += 1
            if pads_all:
                server.finalize(audio_ms)
            continue
        assert clock.answered(server.finalize(audio_ms)) == unanswered
        unanswered = 0
        for later in (audio_ms, audio_ms + 700):
            assert clock.audio_ms(server.position(later)) == later


def test_an_answer_whose_position_is_not_known_is_that_of_the_oldest() -> None:
    clock = ClockMap(0.0)
    clock.finalize(5_000.0)
    clock.finalize(10_000.0)
    assert clock.answered(None) == 0
    assert clock.answered(50_000) == 0, "it cannot be true"
    assert clock.answered(10_200) == 0, "there is no third finalize"


def test_audio_that_was_dropped_between_two_finalizes() -> None:
    clock = ClockMap(0.0)
    clock.finalize(2_000.0)
    clock.skip(3_000.0, 9_000.0)
    clock.finalize(10_000.0)
    assert clock.answered(4_080) == 1
    assert clock.audio_ms(4_090) == 10_010.0
