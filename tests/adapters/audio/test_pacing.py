"""Audio in chunks: from every kind of source, as fast as it goes or at the speed of speech."""

from __future__ import annotations

import asyncio
import io
import os
import selectors
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import pytest
import trio
import trio.testing

import soniox_adapters.audio.pacing
from soniox_adapters import (
    RealtimeSTTConfig,
    SonioxValidationError,
    stream_audio,
    stream_audio_async,
    throttle_audio,
    throttle_audio_async,
)
from tests.support.wav_files import chunk_of, format_chunk, riff

AUDIO = bytes(range(256)) * 40
PCM = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)
BYTES_PER_SECOND = 32_000

Throttle: TypeAlias = Callable[..., list[tuple[float, bytes]]]
"""Runs `throttle_audio` in some form, and returns each chunk with its time since the first."""


class SlowClock:
    """Stands in for `time`: time passes in sleep only, always a little more than asked for."""

    def __init__(self, late: float = 0.0) -> None:
        self.now = 1000.0
        self.late = late
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        if seconds:
            self.now += seconds + self.late


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SlowClock:
    clock = SlowClock()
    monkeypatch.setattr(soniox_adapters.audio.pacing, "time", clock)
    return clock


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: its clock jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self._loop.now += timeout
        return ready


async def timed(
    chunks: AsyncIterator[bytes], clock: Callable[[], float]
) -> list[tuple[float, bytes]]:
    start = clock()
    return [(clock() - start, chunk) async for chunk in chunks]


def throttle_blocking(*arguments: Any, **options: Any) -> list[tuple[float, bytes]]:
    clock = vars(soniox_adapters.audio.pacing)["time"]
    start = clock.monotonic()
    return [(clock.monotonic() - start, chunk) for chunk in throttle_audio(*arguments, **options)]


def throttle_on_trio(*arguments: Any, **options: Any) -> list[tuple[float, bytes]]:
    return trio.run(
        timed,
        throttle_audio_async(*arguments, **options),
        trio.current_time,
        clock=trio.testing.MockClock(autojump_threshold=0),
    )


def throttle_on_asyncio(*arguments: Any, **options: Any) -> list[tuple[float, bytes]]:
    loop = JumpingLoop()
    try:
        return loop.run_until_complete(
            timed(throttle_audio_async(*arguments, **options), loop.time)
        )
    finally:
        loop.close()


@pytest.fixture(params=[throttle_blocking, throttle_on_asyncio, throttle_on_trio])
def throttle(request: pytest.FixtureRequest, clock: SlowClock) -> Throttle:
    """Every form of `throttle_audio`, under a clock that jumps."""
    function: Throttle = request.param
    return function


def wav(data: bytes, *, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(data)
    return file.getvalue()


def collect(chunks: AsyncIterator[bytes], backend: str) -> list[bytes]:
    async def run() -> list[bytes]:
        return [chunk async for chunk in chunks]

    return trio.run(run) if backend == "trio" else asyncio.run(run())


# stream_audio: sources


class Trickle(io.RawIOBase):
    """A source that gives less than is asked for, as pipes and sockets do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = data
        self._step = step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece, self._data = self._data[: self._step], self._data[self._step :]
        buffer[: len(piece)] = piece
        return len(piece)


def sources(path: Path) -> Iterator[tuple[str, Any]]:
    yield "bytes", AUDIO
    yield "path", path
    yield "string", str(path)
    yield "memory", io.BytesIO(AUDIO)
    yield "buffered", io.BufferedReader(Trickle(AUDIO, 7))


@pytest.mark.parametrize("size", [1, 1000, 4096, len(AUDIO), len(AUDIO) + 1])
def test_stream_audio(tmp_path: Path, size: int) -> None:
    path = tmp_path / "audio.raw"
    path.write_bytes(AUDIO)
    expected = [AUDIO[offset : offset + size] for offset in range(0, len(AUDIO), size)]
    for name, source in sources(path):
        assert list(stream_audio(source, chunk_size_bytes=size)) == expected, name


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_stream_audio_async(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "audio.raw"
    path.write_bytes(AUDIO)
    expected = [AUDIO[offset : offset + 1000] for offset in range(0, len(AUDIO), 1000)]
    for name, source in sources(path):
        chunks = stream_audio_async(source, chunk_size_bytes=1000)
        assert collect(chunks, backend) == expected, name


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nothing_to_stream(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "empty.raw"
    path.touch()
    for source in (b"", path, io.BytesIO()):
        assert list(stream_audio(source)) == []
        assert list(throttle_audio(source, delay_seconds=1)) == []
        assert collect(stream_audio_async(source), backend) == []
        assert collect(throttle_audio_async(source, delay_seconds=1), backend) == []


def test_default_chunk_size() -> None:
    assert [len(chunk) for chunk in stream_audio(AUDIO)] == [4096, 4096, 2048]


def test_pieces_of_an_unbuffered_source_are_passed_on() -> None:
    assert list(stream_audio(cast("BinaryIO", Trickle(b"abcdefgh", 3)))) == [b"abc", b"def", b"gh"]


def test_pipe_is_streamed_as_it_is_written() -> None:
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as writer, open(reading, "rb", buffering=0) as reader:
        chunks = stream_audio(cast("BinaryIO", reader))
        writer.write(b"first")
        assert next(chunks) == b"first"
        writer.write(b"second")
        assert next(chunks) == b"second"
        writer.close()
        assert list(chunks) == []


def test_given_file_is_left_open_and_an_opened_one_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "audio.raw"
    path.write_bytes(AUDIO)
    with path.open("rb") as file:
        assert b"".join(stream_audio(file)) == AUDIO
        assert not file.closed
    # An abandoned generator gives a ResourceWarning if it leaves the file open.
    chunks = stream_audio(path, chunk_size_bytes=10)
    assert next(chunks) == AUDIO[:10]
    del chunks


@pytest.mark.parametrize("size", [0, -1])
def test_wrong_chunk_size(size: int) -> None:
    with pytest.raises(SonioxValidationError, match="chunk_size_bytes"):
        stream_audio(AUDIO, chunk_size_bytes=size)
    with pytest.raises(SonioxValidationError, match="chunk_size_bytes"):
        throttle_audio(AUDIO, chunk_size_bytes=size)
    for chunks in (stream_audio_async, throttle_audio_async):
        with pytest.raises(SonioxValidationError, match="chunk_size_bytes"):
            collect(chunks(AUDIO, chunk_size_bytes=size), "asyncio")


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError):
        list(stream_audio("/nowhere/audio.wav"))
    with pytest.raises(FileNotFoundError):
        collect(stream_audio_async("/nowhere/audio.wav"), "asyncio")


# throttle_audio: times


def test_fixed_delay(throttle: Throttle) -> None:
    chunks = throttle(AUDIO, chunk_size_bytes=1024, delay_seconds=0.5)
    assert b"".join(chunk for _, chunk in chunks) == AUDIO
    assert [time for time, _ in chunks] == pytest.approx([0.5 * index for index in range(10)])


def test_duration_of_raw_audio(throttle: Throttle) -> None:
    chunks = throttle(AUDIO, chunk_size_bytes=3200, config=PCM)
    assert [time for time, _ in chunks] == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("size", [1600, 44, 16])
def test_duration_of_wav(throttle: Throttle, size: int) -> None:
    file = wav(bytes(16_000), rate=8_000, channels=2, width=2)
    chunks = throttle(file, chunk_size_bytes=size)
    assert b"".join(chunk for _, chunk in chunks) == file
    # The header is no audio, but at 44 of 32,000 bytes a second nobody can tell.
    last = (len(chunks) - 1) * size / BYTES_PER_SECOND
    assert chunks[-1][0] == pytest.approx(last, abs=0.002)
    assert chunks[len(chunks) // 2][0] == pytest.approx(last / 2, abs=0.06)


def test_speed(throttle: Throttle) -> None:
    chunks = throttle(AUDIO, chunk_size_bytes=3200, config=PCM, speed=4.0)
    assert [time for time, _ in chunks] == pytest.approx([0.0, 0.025, 0.05, 0.075])


def test_delay_wins_over_duration(throttle: Throttle) -> None:
    chunks = throttle(AUDIO, chunk_size_bytes=3200, config=PCM, delay_seconds=2, speed=4.0)
    assert [time for time, _ in chunks] == pytest.approx([0.0, 2.0, 4.0, 6.0])


@pytest.mark.parametrize(
    "source",
    [AUDIO, b"RIFF\0\0\0\0WAVEfmt ", b"RIFF\0\0\0\0AVI " + AUDIO, b"RIFF\0\0\0\0WAVE" + AUDIO],
    ids=["raw", "cut-header", "other-riff", "no-format"],
)
def test_unknown_duration_is_not_delayed(throttle: Throttle, source: bytes) -> None:
    config = RealtimeSTTConfig(model="stt-rt-v5")
    chunks = throttle(source, chunk_size_bytes=1000, config=config)
    assert b"".join(chunk for _, chunk in chunks) == source
    assert {time for time, _ in chunks} == {0.0}


def test_delay_of_zero_is_not_delayed(throttle: Throttle) -> None:
    chunks = throttle(AUDIO, chunk_size_bytes=1000, config=PCM, delay_seconds=0)
    assert {time for time, _ in chunks} == {0.0}


def test_late_sleeps_do_not_add_up(clock: SlowClock) -> None:
    clock.late = 0.015
    chunks = throttle_blocking(bytes(1000), chunk_size_bytes=1, delay_seconds=0.02)
    assert chunks[-1][0] == pytest.approx(999 * 0.02, abs=0.016)


def test_late_taker_catches_up(clock: SlowClock) -> None:
    start = clock.now
    times: list[float] = []
    for index, _ in enumerate(throttle_audio(bytes(10), chunk_size_bytes=1, delay_seconds=1)):
        times.append(clock.now - start)
        if index == 2:
            clock.now += 3.5
    assert times == pytest.approx([0, 1, 2, 5.5, 5.5, 5.5, 6, 7, 8, 9])


def test_clock_starts_with_the_first_chunk(clock: SlowClock) -> None:
    chunks = throttle_audio(bytes(2), chunk_size_bytes=1, delay_seconds=1)
    clock.now += 100
    next(chunks)
    before = clock.now
    next(chunks)
    assert clock.now - before == pytest.approx(1)


@pytest.mark.parametrize("signature", [b"RIFF", b"RF64"])
@pytest.mark.parametrize("byte_rate", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("before", [b"", chunk_of(b"bext", bytes(603)), chunk_of(b"LIST", b"odd")])
def test_pace_of_wav_goes_by_its_samples_alone(
    throttle: Throttle, signature: bytes, byte_rate: int, before: bytes
) -> None:
    samples = chunk_of(b"data", bytes(32_000), 0xFFFF_FFFF)
    file = riff(before, format_chunk(byte_rate=byte_rate), samples, signature=signature)
    chunks = throttle(file, chunk_size_bytes=1000)
    assert b"".join(chunk for _, chunk in chunks) == file
    assert chunks[-1][0] == pytest.approx(1.0, abs=1000 / BYTES_PER_SECOND)


def test_metadata_takes_no_time(throttle: Throttle) -> None:
    picture = chunk_of(b"LIST", bytes(100_000))
    file = riff(picture, format_chunk(), chunk_of(b"data", bytes(32_000)), picture)
    chunks = throttle(file, chunk_size_bytes=1000)
    assert chunks[90][0] == 0.0
    assert chunks[-1][0] == pytest.approx(1.0)


def test_packed_samples_are_not_delayed(throttle: Throttle) -> None:
    adpcm = format_chunk(0x11, 1, 8_000, 4, block_bytes=256, byte_rate=4_000)
    chunks = throttle(riff(adpcm, chunk_of(b"data", bytes(8_000))), chunk_size_bytes=1000)
    assert {time for time, _ in chunks} == {0.0}


@pytest.mark.parametrize("zero", [{"sample_rate": 0}, {"block_bytes": 0}])
def test_wav_without_a_rate_is_an_error_that_names_the_file(
    throttle: Throttle, zero: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(riff(format_chunk(**zero), chunk_of(b"data", bytes(100))))  # type: ignore[arg-type]
    with pytest.raises(SonioxValidationError, match=r"talk\.wav has a bad WAV header: .* 0"):
        throttle(path)


def test_long_delays_are_slept(clock: SlowClock) -> None:
    chunks = throttle_audio(b"ab", chunk_size_bytes=1, delay_seconds=1e300)
    assert next(chunks) == b"a"
    assert next(chunks) == b"b"
    assert clock.slept == [0.0, 1e9]


@pytest.mark.parametrize(
    "options",
    [
        {"delay_seconds": -0.1},
        {"delay_seconds": float("nan")},
        {"delay_seconds": float("inf")},
        {"speed": 0},
        {"speed": -1},
        {"speed": float("nan")},
        {"speed": float("inf")},
    ],
)
def test_wrong_pace(options: dict[str, float]) -> None:
    with pytest.raises(SonioxValidationError, match=next(iter(options))):
        throttle_audio(AUDIO, **options)  # type: ignore[arg-type]
    with pytest.raises(SonioxValidationError, match=next(iter(options))):
        collect(throttle_audio_async(AUDIO, **options), "asyncio")  # type: ignore[arg-type]
