"""The one reader of WAV files."""

from __future__ import annotations

import io
import itertools
import tracemalloc
import wave

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soniox_proto import RealtimeSTTConfig, SonioxValidationError
from soniox_proto.wav import MAX_HEADER_BYTES, NotWavError, WavFormat, WavReader
from tests.support.wav_files import chunk_of, ds64_chunk, extensible, format_chunk, riff

SAMPLES = bytes(range(200))
DATA = chunk_of(b"data", SAMPLES)
MONO = WavFormat(1, 1, 16_000, 2, 16)
LATER = chunk_of(b"LIST", b"not audio")


def read(file: bytes, name: str = "the audio") -> tuple[WavFormat | None, bytes]:
    reader = WavReader(name)
    samples = reader.feed(file)
    return reader.format, samples


@pytest.mark.parametrize(
    ("file", "samples"),
    [
        (riff(format_chunk(), DATA), SAMPLES),
        (riff(format_chunk(), DATA, LATER), SAMPLES),
        (riff(chunk_of(b"bext", bytes(603)), format_chunk(), DATA, LATER), SAMPLES),
        (
            riff(chunk_of(b"LIST", b"odd"), format_chunk(), chunk_of(b"fact", b"1234"), DATA),
            SAMPLES,
        ),
        (riff(chunk_of(b"LIST", b"fmt fmt fmt "), format_chunk(), DATA), SAMPLES),
        (riff(chunk_of(b"JUNK", b""), format_chunk(), DATA), SAMPLES),
        (riff(format_chunk(byte_rate=1), DATA), SAMPLES),
        (riff(format_chunk(byte_rate=0), DATA), SAMPLES),
        (riff(format_chunk(extension=b"\0\0"), DATA), SAMPLES),
        (riff(format_chunk(0xFFFE, extension=extensible()), DATA), SAMPLES),
        # Written into a pipe: no size is known.
        (riff(format_chunk(), chunk_of(b"data", SAMPLES, 0), size=0), SAMPLES),
        (riff(format_chunk(), chunk_of(b"data", SAMPLES, 0xFFFF_FFFF), size=2**32 - 1), SAMPLES),
        (riff(format_chunk(), chunk_of(b"data", SAMPLES, 0x7FFF_FFFF)), SAMPLES),
        # More than 4 GiB.
        (
            riff(
                ds64_chunk(len(SAMPLES)),
                format_chunk(),
                chunk_of(b"data", SAMPLES, 0xFFFF_FFFF),
                LATER,
                signature=b"RF64",
                size=0xFFFF_FFFF,
            ),
            SAMPLES,
        ),
        (
            riff(
                ds64_chunk(0),
                format_chunk(),
                chunk_of(b"data", SAMPLES, 0xFFFF_FFFF),
                signature=b"BW64",
            ),
            SAMPLES,
        ),
        (riff(chunk_of(b"ds64", b"short"), format_chunk(), DATA, signature=b"RF64"), SAMPLES),
        # Cut off.
        (riff(format_chunk(), DATA)[:-50], SAMPLES[:-50]),
        (riff(format_chunk(), DATA[:8]), b""),
        (riff(format_chunk(), DATA[:7]), b""),
        (riff(format_chunk()), b""),
    ],
)
def test_files(file: bytes, samples: bytes) -> None:
    assert read(file) == (MONO, samples)
    # However it is cut, the same comes out.
    reader = WavReader()
    pieces = [reader.feed(bytes([byte])) for byte in file]
    assert (reader.format, b"".join(pieces)) == (MONO, samples)
    assert reader.received_bytes == len(file)


@pytest.mark.parametrize("length", [0, 1, 4, 11, 12, 19, 20, 35])
def test_a_file_that_is_cut_off_in_its_header_has_no_format(length: int) -> None:
    assert read(riff(format_chunk())[:length]) == (None, b"")


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), max_size=8))
def test_cuts_change_nothing(positions: list[int]) -> None:
    file = riff(chunk_of(b"LIST", b"odd"), format_chunk(), DATA, LATER)
    edges = [0, *sorted(positions), len(file)]
    reader = WavReader()
    pieces = [reader.feed(file[start:end]) for start, end in itertools.pairwise(edges)]
    assert b"".join(pieces) == SAMPLES


@settings(deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_break_it(data: bytes, with_signature: bool) -> None:
    reader = WavReader()
    file = riff(data) if with_signature else data
    try:
        samples = reader.feed(file)
    except SonioxValidationError:
        return
    assert file.find(samples) >= 0


def test_where_the_samples_are() -> None:
    reader = WavReader()
    reader.feed(riff(format_chunk()))
    assert (reader.header_bytes, reader.data_bytes) == (None, None)
    reader.feed(DATA + LATER)
    assert (reader.header_bytes, reader.data_bytes) == (44, len(SAMPLES))
    reader = WavReader()
    reader.feed(riff(format_chunk(), chunk_of(b"data", SAMPLES, 0)))
    assert (reader.header_bytes, reader.data_bytes) == (44, None)


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (format_chunk(1, 2, 44_100, 16), 176_400),
        (format_chunk(1, 2, 44_100, 16, byte_rate=1), 176_400),
        (format_chunk(1, 1, 48_000, 24), 144_000),
        (format_chunk(3, 1, 8_000, 64), 64_000),
        (format_chunk(6, 1, 8_000, 8), 8_000),
        (format_chunk(0xFFFE, 1, 16_000, 16, extension=extensible(1)), 32_000),
        # Blocks of many samples: ADPCM, and MP3 in a WAV file.
        (format_chunk(0x11, 1, 8_000, 4, block_bytes=256), None),
        (format_chunk(0x55, 2, 44_100, 0, block_bytes=0), None),
        (format_chunk(0xFFFE, 1, 16_000, 16), None),
    ],
)
def test_bytes_per_second(chunk: bytes, expected: int | None) -> None:
    found, _ = read(riff(chunk))
    assert found is not None
    assert found.bytes_per_second == expected


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (format_chunk(1, 2, bits=8), "pcm_u8"),
        (format_chunk(1, 2, bits=16), "pcm_s16le"),
        (format_chunk(1, 1, bits=24), "pcm_s24le"),
        (format_chunk(1, 1, bits=32), "pcm_s32le"),
        (format_chunk(3, 1, bits=32), "pcm_f32le"),
        (format_chunk(3, 2, bits=64), "pcm_f64le"),
        (format_chunk(6, 1, bits=8), "alaw"),
        (format_chunk(7, 1, bits=8), "mulaw"),
        (format_chunk(0xFFFE, 1, extension=extensible(1)), "pcm_s16le"),
        (format_chunk(1, 1, bits=12, block_bytes=2), "pcm_s16le"),
        (format_chunk(1, 1, bits=64), None),
        (format_chunk(1, 2, bits=16, block_bytes=2), None),
        (format_chunk(1, 0, block_bytes=2), None),
        (format_chunk(0x11, 1, bits=4, block_bytes=256), None),
    ],
)
def test_its_samples_as_raw_audio(chunk: bytes, expected: str | None) -> None:
    found, _ = read(riff(chunk))
    assert found is not None
    assert found.audio_format == expected
    if expected is not None:
        RealtimeSTTConfig(
            model="m",
            audio_format=expected,  # type: ignore[arg-type]
            sample_rate=found.sample_rate,
            num_channels=found.channels,
        )


def test_it_agrees_with_the_standard_library() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(3)
        writer.setframerate(48_000)
        writer.writeframes(bytes(600))
    assert read(file.getvalue()) == (WavFormat(1, 2, 48_000, 6, 24), bytes(600))


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"x", r"talk\.wav is not a WAV file: it starts with b'x'"),
        (b"fLaC\0\0\0\x22", "starts with b'fLaC"),
        (b"RIFF\0\0\0\0AVI ", "not a WAV file"),
        (b"RIFX", "not a WAV file"),
        (riff(chunk_of(b"JUNK", b"", size=0xFFFF_FFF0)), "no samples within .* b'JUNK' at byte 12"),
        (riff(chunk_of(b"JUNK", b"", size=MAX_HEADER_BYTES)), "no samples within"),
    ],
)
def test_what_is_not_a_wav_file(file: bytes, complaint: str) -> None:
    with pytest.raises(NotWavError, match=complaint):
        read(file, "talk.wav")


@pytest.mark.parametrize(
    ("chunk", "complaint"),
    [
        (format_chunk(sample_rate=0), "sample_rate 0"),
        (format_chunk(block_bytes=0), "a block size of 0 bytes for 1 channels of 16 bits"),
        (format_chunk(channels=0), "a block size of 0 bytes for 0 channels"),
        (format_chunk(bits=0), "a block size of 0 bytes"),
        (DATA, "the data chunk comes before the fmt chunk"),
        (chunk_of(b"fmt ", bytes(14)), "a fmt chunk of 14 bytes"),
        (chunk_of(b"fmt ", b"", size=1_000_000), "a fmt chunk of 1000000 bytes"),
    ],
)
def test_a_header_that_cannot_be_is_told_with_the_name_of_the_file(
    chunk: bytes, complaint: str
) -> None:
    with pytest.raises(
        SonioxValidationError, match=rf"^talk\.wav has a bad WAV header: {complaint}"
    ):
        read(riff(chunk), "talk.wav")


def test_a_large_chunk_is_skipped_without_holding_it() -> None:
    reader = WavReader()
    piece = bytes(65_536)
    reader.feed(riff(chunk_of(b"JUNK", b"", size=100 * len(piece))))
    tracemalloc.start()
    for _ in range(100):
        reader.feed(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(piece)
    assert reader.feed(format_chunk() + DATA) == SAMPLES
