"""Which connection meets which fault, and when."""

from __future__ import annotations

from typing import Any

import pytest

from soniox_proto import RealtimeSTTConfig, SonioxValidationError
from soniox_proto.server_faults import (
    ConnectionFault,
    Drop,
    Fault,
    FaultPlan,
    HalfOpen,
    RefuseUpgrade,
    SessionLimit,
    Stall,
    Unavailable,
    parse_fault,
)
from tests.support.wav_files import chunk_of, format_chunk, riff

RAW = RealtimeSTTConfig(model="m", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1)
WAV = riff(format_chunk(bits=8), chunk_of(b"data", bytes(16_000)))
ADPCM = riff(format_chunk(codec=2), chunk_of(b"data", bytes(16_000)))


def container(audio_format: str) -> RealtimeSTTConfig:
    return RealtimeSTTConfig(model="m", audio_format=audio_format)  # type: ignore[arg-type]


def test_each_connection_gets_the_next_one() -> None:
    first, second, third = Drop(), RefuseUpgrade(times=2), Unavailable()
    plan = FaultPlan([first, second, third])
    given = [plan.next_connection().fault for _ in range(6)]
    assert given == [first, second, second, third, None, None]


def test_one_may_happen_to_all_that_follow() -> None:
    limit = SessionLimit(seconds=3.0, times=None)
    plan = FaultPlan([Drop(), limit, Drop()])
    assert [plan.next_connection().fault for _ in range(4)] == [Drop(), limit, limit, limit]


@pytest.mark.parametrize(
    ("config", "chunks", "after_ms"),
    [
        (RAW, [bytes(32)] * 3, 3),
        (RAW, [bytes(16_000), bytes(16_000)], 1000),
        (container("wav"), [WAV[:20], WAV[20:]], 1000),
        (container("auto"), [WAV[:-1], WAV[-1:]], 1000),
        (container("auto"), [b"no wav file" + bytes(15_989)], 1000),
        (container("wav"), [ADPCM], 1000),
        (container("mp3"), [bytes(8_000)] * 2, 1000),
    ],
)
def test_it_happens_after_so_much_audio(
    config: RealtimeSTTConfig, chunks: list[bytes], after_ms: int
) -> None:
    fault = Drop(after_ms=after_ms)
    connection = ConnectionFault(fault)
    connection.accepted(0.0)
    connection.started(config)
    assert [connection.audio_received(chunk) for chunk in chunks] == [
        *[None] * (len(chunks) - 1),
        fault,
    ]
    assert connection.audio_received(bytes(64_000)) is None
    assert connection.next_timeout() is None


def test_a_limit_counts_from_the_upgrade() -> None:
    limit = SessionLimit(seconds=3.0)
    connection = ConnectionFault(limit)
    assert connection.next_timeout() is None
    assert connection.handle_timeout(100.0) is None
    connection.accepted(10.0)
    assert connection.next_timeout() == 13.0
    assert connection.audio_received(b"audio") is None
    assert connection.handle_timeout(12.9) is None
    assert connection.handle_timeout(13.0) is limit
    assert connection.handle_timeout(14.0) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop", Drop()),
        ("drop@5000", Drop(after_ms=5000)),
        ("unavailable@2000*3", Unavailable(after_ms=2000, times=3)),
        ("stall@5000:3", Stall(after_ms=5000, seconds=3.0)),
        ("stall:0.5", Stall(seconds=0.5)),
        ("half-open@12.5", HalfOpen(after_ms=12.5)),
        ("refuse*all", RefuseUpgrade(times=None)),
        ("limit:60*all", SessionLimit(seconds=60.0, times=None)),
    ],
)
def test_faults_as_text(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected one of drop, unavailable, stall, half-open, refuse, limit"),
        ("explode", "such as drop@5000"),
        ("drop@", "is no fault"),
        ("drop@soon", "is no fault"),
        ("drop@-5", "is no fault"),
        ("drop:5", "'drop:5': drop takes no such number"),
        ("refuse@5", "refuse takes no such number"),
        ("limit", "limit takes :SECONDS"),
        ("drop*0", "times must be 1 or more"),
    ],
)
def test_what_is_none(text: str, complaint: str) -> None:
    with pytest.raises(SonioxValidationError) as caught:
        parse_fault(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Drop, {"after_ms": -1}),
        (Drop, {"after_ms": "5"}),
        (Drop, {"after_ms": float("nan")}),
        (Drop, {"times": True}),
        (Stall, {"seconds": float("inf")}),
        (SessionLimit, {"seconds": None}),
        (RefuseUpgrade, {"status_code": 200}),
    ],
)
def test_numbers_that_cannot_be(kind: type[Fault], fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(SonioxValidationError, match=f"{name} must be"):
        kind(**fields)
