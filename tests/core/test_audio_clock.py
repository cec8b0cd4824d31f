"""Where a position of the service lies in the audio that was sent, and when that was captured."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import soniox_proto.audio_clock
from soniox_proto import (
    Finalized,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    RealtimeSTTProtocol,
    RealtimeSTTStream,
    ReconnectPolicy,
    RecoveringSTTStream,
    SonioxStateError,
    SonioxValidationError,
)
from soniox_proto.audio_clock import CaptureTimes
from soniox_proto.server_clock import ServerClock
from soniox_proto.wrapped_stream import WrappedStream
from tests.support.core.messages import CONFIG, result, token

RAW = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)
BYTES_PER_MS = 32
URL = "ws://127.0.0.1:1/"


def audio(ms: int) -> bytes:
    return bytes(BYTES_PER_MS * ms)


def started(config: RealtimeSTTConfig) -> RealtimeSTTProtocol:
    protocol = RealtimeSTTProtocol(config)
    protocol.start(0.0)
    return protocol


def answer(position_ms: int) -> str:
    """Return the answer to a finalize."""
    fin = token("<fin>", start_ms=None, end_ms=None)
    return result(fin, final_audio_proc_ms=position_ms, total_audio_proc_ms=position_ms)


class TestCaptureTimes:
    def test_a_stretch_is_as_long_as_its_chunks(self) -> None:
        times = CaptureTimes()
        for index in range(1000):
            times.add(index * 20.0, 20.0, 7.0 + index * 0.02)
        assert len(times._stretches) == 1
        assert times.at(0) == 7.0
        assert times.at(12_345) == pytest.approx(7 + 12.345)
        assert times.at(20_000) == 27.0
        assert times.at(20_001) is None

    def test_callbacks_may_come_a_little_early_or_late(self) -> None:
        times = CaptureTimes()
        for index in range(100):
            times.add(index * 20.0, 20.0, index * 0.02 + (0.02 if index % 2 else -0.02))
        assert len(times._stretches) == 1
        assert times.at(1000) == pytest.approx(1.0, abs=0.05)

    def test_what_follows_a_break_has_its_own_time(self) -> None:
        times = CaptureTimes()
        times.add(0.0, 20.0, 0.0)
        times.add(20.0, 20.0, 5.0)
        assert times.at(19) == 0.019
        assert times.at(20) == 5.0
        assert times.at(40) == 5.02

    def test_a_clock_that_was_set_back(self) -> None:
        times = CaptureTimes()
        times.add(0.0, 20.0, 100.0)
        times.add(20.0, 20.0, 50.0)
        assert times.at(30) == 50.01

    def test_audio_without_a_time_has_none(self) -> None:
        times = CaptureTimes()
        assert times.at(0) is None
        times.add(20.0, 20.0, 5.0)
        times.add(60.0, 20.0, 5.04)
        assert [times.at(position) for position in (10, 30, 50)] == [None, 5.01, None]
        assert times.at(70) == pytest.approx(5.05)

    def test_only_so_many_breaks_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(soniox_proto.audio_clock, "_MOST_STRETCHES", 10)
        times = CaptureTimes()
        for index in range(100):
            times.add(index * 20.0, 20.0, float(index))
            assert len(times._stretches) <= 10
            assert times.at(index * 20) == index
        assert times.at(0) is None
        assert times.at(95 * 20) == 95.0


class TestProtocol:
    def test_without_a_finalize_the_clocks_agree(self) -> None:
        protocol = started(RAW)
        protocol.send_audio(audio(1000), 1.0)
        assert [protocol.sent_position_ms(at) for at in (0, 500, 1000)] == [0, 500, 1000]
        assert protocol.sent_position_ms(5000) == 1000, "no more was sent"

    def test_a_finalize_is_taken_out(self) -> None:
        protocol = started(RAW)
        protocol.send_audio(audio(1000), 1.0)
        protocol.finalize(1.0)
        protocol.send_audio(audio(1000), 2.0)
        assert protocol.sent_position_ms(1080) == 1000
        assert protocol.sent_position_ms(1180) == 1100
        protocol.receive_message(answer(1020), 2.0)
        assert protocol.sent_position_ms(1180) == 1160

    def test_an_answer_that_nobody_asked_for_moves_nothing(self) -> None:
        protocol = started(RAW)
        protocol.receive_message(answer(1000), 1.0)
        protocol.send_audio(audio(2000), 1.0)
        assert protocol.sent_position_ms(1500) == 1500

    def test_an_answer_that_never_comes_is_noticed_at_the_next(self) -> None:
        protocol = RealtimeSTTProtocol(RAW, finalize_timeout=60.0)
        protocol.start(0.0)
        for at in (2.0, 4.0):
            protocol.send_audio(audio(2000), at)
            protocol.finalize(at)
        (_, answered) = protocol.receive_message(answer(4080), 4.5)
        assert isinstance(answered, Finalized)
        assert (answered.finalize_index, answered.round_trip) == (1, 0.5)
        assert protocol.stats.answered_finalizes == protocol.stats.sent_finalizes == 2
        assert protocol.stats.finalize_latency.count == 1
        assert "finalizes without an answer '1'" in str(protocol.flight_recorder.record())
        assert protocol.sent_position_ms(4100) == 4000
        assert protocol.handle_timeout(70.0) == [], "no answer is awaited any more"

    def test_two_answers_in_one_message_are_those_of_two(self) -> None:
        protocol = started(RAW)
        for at in (2.0, 4.0):
            protocol.send_audio(audio(2000), at)
            protocol.finalize(at)
        both = result("<fin>", " two", "<fin>", final_audio_proc_ms=4200, total_audio_proc_ms=4200)
        events = protocol.receive_message(both, 4.5)
        answers = [event.finalize_index for event in events if isinstance(event, Finalized)]
        assert answers == [0, 1]

    def test_what_is_dropped_has_no_position(self) -> None:
        protocol = started(RAW)
        protocol.send_audio(audio(100), 1.0, captured_at=50.0)
        protocol.pause(1.0, finalize=False)
        protocol.send_audio(audio(300), 1.0, captured_at=50.1)
        protocol.resume(1.0)
        protocol.send_audio(b"", 1.0, captured_at=50.3)
        protocol.send_audio(audio(100), 1.0, captured_at=50.4)
        assert protocol.captured_at(99) == 50.099
        assert protocol.captured_at(150) == pytest.approx(50.45)

    def test_audio_that_is_held_counts_and_audio_that_is_refused_does_not(self) -> None:
        protocol = RealtimeSTTProtocol(RAW, max_pending_audio=BYTES_PER_MS * 150)
        protocol.connect(0.0)
        protocol.send_audio(audio(100), 0.0, captured_at=1.0)
        with pytest.raises(SonioxStateError):
            protocol.send_audio(audio(100), 0.0, captured_at=2.0)
        assert protocol.captured_at(50) == 1.05
        assert protocol.captured_at(150) == 1.1, "nothing beyond the audio has a time"

    @pytest.mark.parametrize("captured_at", [math.nan, math.inf, "now", True, [1.0]])
    def test_what_is_no_time(self, captured_at: Any) -> None:
        protocol = started(RAW)
        with pytest.raises(SonioxValidationError, match="captured_at must be a time in seconds"):
            protocol.send_audio(audio(100), 1.0, captured_at=captured_at)
        assert protocol.stats.sent_audio_bytes == 0

    def test_containers_have_no_positions(self) -> None:
        protocol = started(CONFIG)
        protocol.finalize(1.0)
        protocol.receive_message(answer(120), 1.0)
        with pytest.raises(SonioxValidationError, match="raw audio format"):
            protocol.sent_position_ms(0)
        with pytest.raises(SonioxValidationError, match="raw audio format"):
            protocol.captured_at(0)
        with pytest.raises(SonioxValidationError, match="raw audio format"):
            protocol.send_audio(b"x", 1.0, captured_at=1.0)
        assert protocol.stats.sent_audio_bytes == 0


def test_a_connection_has_the_same() -> None:
    connection = RealtimeSTTConnection(URL, RAW)
    connection.connect(0.0)
    connection.send_audio(audio(100), 0.0, captured_at=9.0)
    connection.finalize(0.0)
    connection.send_audio(audio(100), 0.0, captured_at=9.1)
    assert connection.sent_position_ms(130) == 110
    assert connection.captured_at(130) == pytest.approx(9.11)


def test_a_stream_around_another_one_passes_it_on() -> None:
    stream = WrappedStream(RealtimeSTTStream(URL, RAW))
    stream.connect(0.0)
    stream.send_audio(audio(100), 0.0, captured_at=9.0)
    assert stream.sent_position_ms(130) == 100
    assert stream.captured_at(50) == 9.05


def test_a_stream_that_recovers_gives_out_positions_in_the_audio() -> None:
    stream = RecoveringSTTStream(URL, RAW, reconnect=ReconnectPolicy())
    stream.connect(0.0)
    stream.send_audio(audio(100), 0.0, captured_at=9.0)
    stream.send_audio(audio(100), 0.0)
    stream.finalize(0.0)
    stream.send_audio(audio(100), 0.0, captured_at=20.0)
    with pytest.raises(SonioxValidationError, match="captured_at"):
        stream.send_audio(audio(100), 0.0, captured_at=math.nan)
    assert stream.sent_position_ms(130) == 130
    assert [stream.captured_at(at) for at in (50, 150, 250)] == [9.05, None, 20.05]


@given(
    st.lists(
        st.one_of(
            st.integers(1, 700).map(lambda ms: ("speak", ms)),
            st.integers(1, 5000).map(lambda ms: ("leave out", ms)),
            st.integers(1, 700).map(lambda ms: ("drop", ms)),
            st.just(("finalize", 0)),
            st.just(("answer", 0)),
        ),
        max_size=30,
    )
)
def test_every_moment_is_found_again(steps: list[tuple[str, int]]) -> None:
    """What is said at a moment has that moment, whatever happened to the audio before it."""
    protocol, server = started(RAW), ServerClock()
    moment, sent, owed = 1_000_000, 0, list[int]()
    said: list[tuple[int, int]] = []
    for what, ms in steps:
        match what:
            case "speak":
                protocol.send_audio(audio(ms), 1.0, captured_at=moment / 1000)
                said += [(server.position(sent + at), moment + at) for at in range(1, ms, 97)]
                moment, sent = moment + ms, sent + ms
            case "leave out":
                moment += ms
            case "drop":
                protocol.pause(1.0, finalize=False)
                protocol.send_audio(audio(ms), 1.0, captured_at=moment / 1000)
                protocol.resume(1.0)
                moment += ms
            case "finalize":
                protocol.finalize(1.0)
                owed.append(server.finalize(sent))
            case _:
                if owed:
                    protocol.receive_message(answer(owed.pop(0)), 1.0)
    for position, then in said:
        found = protocol.captured_at(position)
        assert found is not None
        assert abs(found * 1000 - then) <= 51
