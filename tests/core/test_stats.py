"""The numbers of a session, on the clock of its caller."""

from __future__ import annotations

import dataclasses

import pytest

from soniox_proto import (
    EndpointDetected,
    Latency,
    Measurement,
    RealtimeSTTConfig,
    RealtimeSTTProtocol,
    SessionStats,
    SonioxConnectionError,
)
from tests.support.core.messages import CONFIG, result, token

RAW = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)
CHUNK = bytes(640)  # 20 ms


def speaking(seconds: float, config: RealtimeSTTConfig = RAW) -> RealtimeSTTProtocol:
    """Return a session that opened at 100 s, with so much audio sent at the speed of speech."""
    protocol = RealtimeSTTProtocol(config)
    protocol.stats.measurements = []
    protocol.connect(99.0)
    protocol.start(100.0)
    for number in range(1, round(seconds * 50) + 1):
        protocol.send_audio(CHUNK, 100.0 + number * 0.02)
    return protocol


def test_stats_begin_at_nothing() -> None:
    numbers = SessionStats().as_dict()
    assert {value for value in numbers.values() if value} == set()
    assert numbers["finalize_latency_count"] == 0
    assert {"lag_ms", "ping_latency_p95", "open_time", "reconnects"} <= numbers.keys()
    assert not any(name.startswith("_") for name in numbers)


def test_sessions_share_no_numbers() -> None:
    one, other = SessionStats(), SessionStats()
    one.measured("ping_latency", 1.0)
    assert (one.ping_latency.count, other.ping_latency.count) == (1, 0)
    assert SessionStats().ping_latency.count == 0


def test_what_is_processed_and_how_much_is_left() -> None:
    protocol = speaking(2.0)
    stats = protocol.stats
    assert (stats.sent_audio_ms, stats.processed_audio_ms, stats.lag_ms) == (2000.0, 0, 2000.0)
    protocol.receive_message(result(total_audio_proc_ms=1500), 102.0)
    assert (stats.processed_audio_ms, stats.lag_ms) == (1500, 500.0)
    protocol.receive_message(result(), 102.0)
    assert stats.processed_audio_ms == 1500
    protocol.receive_message(result(total_audio_proc_ms=2040), 102.0)
    assert stats.lag_ms == 0.0


def test_the_lag_takes_out_what_finalizes_add() -> None:
    protocol = speaking(2.0)
    protocol.finalize(102.0)
    protocol.receive_message(
        result("<fin>", final_audio_proc_ms=2040, total_audio_proc_ms=2040), 102.2
    )
    protocol.send_audio(CHUNK, 102.2)
    assert protocol.stats.lag_ms == 20.0


def test_formats_that_do_not_say_how_long_they_are() -> None:
    protocol = speaking(1.0, CONFIG)
    protocol.finalize(101.0)
    protocol.receive_message(result(token("a", end_ms=500), "<end>", "<fin>"), 101.5)
    stats = protocol.stats
    assert (stats.sent_audio_ms, stats.lag_ms, stats.sent_at(500)) == (None, None, None)
    assert stats.endpoint_latency.count == 0
    assert stats.finalize_latency.last == 0.5
    assert stats.time_to_first_token == pytest.approx(1.48)


def test_the_first_token() -> None:
    protocol = speaking(1.0)
    protocol.receive_message(result(), 101.0)
    assert protocol.stats.time_to_first_token is None
    protocol.receive_message(result(token("a", is_final=False)), 101.52)
    protocol.receive_message(result("a"), 103.0)
    assert protocol.stats.time_to_first_token == pytest.approx(1.5)
    paused = speaking(1.0)
    paused.pause(101.0)
    paused.receive_message(result("<fin>"), 101.2)
    assert paused.stats.time_to_first_token is None, "a marker is no token of the text"
    silent = speaking(0.0)
    silent.receive_message(result("a"), 101.0)
    assert silent.stats.time_to_first_token is None


def test_an_endpoint_comes_after_the_end_of_speech() -> None:
    protocol = speaking(2.0)
    events = protocol.receive_message(result(token("a", end_ms=1200), "<end>"), 102.3)
    assert isinstance(events[1], EndpointDetected)
    assert protocol.stats.endpoint_latency.last == pytest.approx(1.1, abs=0.03)
    protocol.receive_message(result(token("b", end_ms=9000), "<end>"), 102.4)
    assert protocol.stats.endpoint_latency.last == 0.0
    untimed = speaking(1.0)
    untimed.receive_message(result("<end>"), 101.0)
    assert untimed.stats.endpoint_latency.count == 0


def test_finalizes_are_timed_and_counted() -> None:
    protocol = speaking(1.0)
    stats = protocol.stats
    protocol.finalize(101.0)
    protocol.finalize(101.1)
    assert stats.finalized_audio_bytes == stats.sent_audio_bytes
    protocol.receive_message(result("<fin>", final_audio_proc_ms=1080), 101.2)
    protocol.receive_message(result("<fin>", "<fin>"), 101.6)
    assert (stats.sent_finalizes, stats.answered_finalizes) == (2, 2)
    latency = stats.finalize_latency
    assert latency.count == 2
    assert latency.last == pytest.approx(0.5)
    assert latency.mean == pytest.approx(0.35)


def test_open_time_counts_from_the_upgrade_to_the_end() -> None:
    protocol = RealtimeSTTProtocol(RAW)
    stats = protocol.stats
    protocol.connect(5.0)
    stats.update(9.0)
    assert stats.open_time == 0.0
    protocol.start(10.0)
    for now in (12.0, 12.0, 11.0, 13.0):
        stats.update(now)
    assert stats.open_time == 3.0
    protocol.fail(SonioxConnectionError("lost"), 14.0)
    protocol.abort(15.0)
    stats.update(99.0)
    assert stats.open_time == 4.0


def test_a_session_that_never_opens_costs_nothing() -> None:
    protocol = RealtimeSTTProtocol(RAW)
    protocol.connect(5.0)
    protocol.fail(SonioxConnectionError("refused"), 6.0)
    protocol.stats.update(9.0)
    assert protocol.stats.open_time == 0.0


def test_measurements_are_for_those_who_take_them() -> None:
    protocol = speaking(1.0)
    protocol.finalize(101.0)
    protocol.receive_message(result(token("a", end_ms=1000), "<end>", "<fin>"), 101.5)
    protocol.stats.note_pong(0.1)
    measurements = protocol.stats.measurements
    assert measurements is not None
    assert all(type(measurement) is Measurement for measurement in measurements)
    names, seconds = zip(*measurements, strict=True)
    assert names == (
        *("time_to_first_token", "endpoint_latency"),
        *("finalize_latency", "ping_latency"),
    )
    assert seconds == pytest.approx((1.48, 0.5, 0.5, 0.1))
    nobody = SessionStats()
    nobody.note_pong(0.1)
    assert nobody.measurements is None
    assert nobody.latency == nobody.ping_latency.last == 0.1


def test_numbers_by_name() -> None:
    stats = SessionStats(sent_audio_bytes=3200, bytes_per_second=32_000)
    stats.measured("finalize_latency", 0.25)
    numbers = stats.as_dict()
    assert (numbers["sent_audio_ms"], numbers["finalize_latency_p50"]) == (100.0, 0.25)
    for each in dataclasses.fields(stats):
        if isinstance(getattr(stats, each.name), Latency):
            assert f"{each.name}_mean" in numbers
            assert each.name not in numbers
