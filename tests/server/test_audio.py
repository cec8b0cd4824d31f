"""Declared audio in, 16 kHz mono s16le out."""

from __future__ import annotations

import io
import itertools
import math
import struct
import sys
import tracemalloc
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import soniox_adapters.server.audio as audio_module
from soniox_adapters.server.audio import AudioDecoder, AudioLayout, WavReader
from soniox_adapters.server.recognizer import AudioDecodeError
from soniox_proto import RealtimeSTTConfig, SonioxValidationError

np = pytest.importorskip("numpy")
soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

MEETING = Path(audio_module.__file__).parent / "samples" / "meeting.wav"

SAMPLES = [0, 1, -1, 255, -256, 12_345, -12_345, 32_767, -32_768] * 40
PCM = struct.pack(f"<{len(SAMPLES)}h", *SAMPLES)

LOSSLESS_INTEGERS = [
    f"pcm_{sign}{bits}{order}" for sign in "su" for bits in (16, 24, 32) for order in ("le", "be")
]
FLOATS = ["pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"]


def config(audio_format: str, sample_rate: int = 16_000, channels: int = 1) -> RealtimeSTTConfig:
    return RealtimeSTTConfig.model_validate(
        {
            "model": "stt-rt-v5",
            "audio_format": audio_format,
            "sample_rate": sample_rate,
            "num_channels": channels,
        }
    )


def container(audio_format: str) -> RealtimeSTTConfig:
    return RealtimeSTTConfig.model_validate({"model": "stt-rt-v5", "audio_format": audio_format})


def decoded(config: RealtimeSTTConfig, chunks: Iterable[bytes]) -> bytes:
    decoder = AudioDecoder(config)
    return b"".join([decoder.decode(chunk) for chunk in chunks]) + decoder.flush()


def cut(data: bytes, positions: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(positions), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def written_as(audio_format: str, samples: Iterable[int]) -> bytes:
    """Write 16-bit samples in another format, by the definition of the format."""
    kind, bits = audio_format[4], int("".join(filter(str.isdigit, audio_format)))
    if kind == "f":
        code = f"{'>' if audio_format.endswith('be') else '<'}{'f' if bits == 32 else 'd'}"
        return b"".join(struct.pack(code, sample / 32_768) for sample in samples)
    order: Literal["big", "little"] = "big" if audio_format.endswith("be") else "little"
    offset = 1 << (bits - 1) if kind == "u" else 0
    scaled = ((sample << bits >> 16) + offset for sample in samples)
    return b"".join(value.to_bytes(bits // 8, order, signed=kind == "s") for value in scaled)


def samples_of(pcm: bytes) -> Any:
    return np.frombuffer(pcm, dtype="<i2").astype("int32")


def sine(frequency: float, sample_rate: int, seconds: float, channels: int = 1) -> bytes:
    values = (
        round(16_000 * math.sin(2 * math.pi * frequency * index / sample_rate))
        for index in range(round(sample_rate * seconds))
    )
    return b"".join(struct.pack("<h", value) * channels for value in values)


def chunk_of(name: bytes, content: bytes, size: int | None = None) -> bytes:
    header = name + struct.pack("<I", len(content) if size is None else size)
    return header + content + b"\0" * (len(content) % 2)


def format_chunk(
    codec: int = 1,
    channels: int = 1,
    sample_rate: int = 16_000,
    bits: int = 16,
    extension: bytes = b"",
    block_bytes: int | None = None,
) -> bytes:
    block = channels * bits // 8 if block_bytes is None else block_bytes
    fields = (codec, channels, sample_rate, sample_rate * block, block, bits)
    return chunk_of(b"fmt ", struct.pack("<HHIIHH", *fields) + extension)


def riff(*chunks: bytes, signature: bytes = b"RIFF") -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return signature + struct.pack("<I", len(content)) + content


class TestRawFormats:
    def test_16_khz_mono_s16le_passes_unchanged(self) -> None:
        assert decoded(config("pcm_s16le"), [PCM]) == PCM

    @pytest.mark.parametrize("audio_format", [*LOSSLESS_INTEGERS, *FLOATS])
    def test_wide_formats_keep_every_16_bit_sample(self, audio_format: str) -> None:
        audio = written_as(audio_format, SAMPLES)
        assert decoded(config(audio_format), [audio]) == PCM

    @pytest.mark.parametrize("audio_format", ["pcm_s8", "pcm_u8"])
    def test_8_bit_formats_keep_the_upper_byte(self, audio_format: str) -> None:
        audio = written_as(audio_format, SAMPLES)
        expected = [sample >> 8 << 8 for sample in SAMPLES]
        assert samples_of(decoded(config(audio_format), [audio])).tolist() == expected

    @pytest.mark.parametrize(("audio_format", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
    def test_telephone_codecs_come_within_their_step(self, audio_format: str, subtype: str) -> None:
        file = io.BytesIO()
        values = np.array(SAMPLES, dtype="int16")
        soundfile.write(file, values, 16_000, format="RAW", subtype=subtype)
        found = samples_of(decoded(config(audio_format), [file.getvalue()]))
        assert np.abs(found - np.array(SAMPLES)).max() <= 1_024

    def test_g711_silence_is_silence(self) -> None:
        assert samples_of(decoded(config("mulaw"), [b"\xff" * 320])).tolist() == [0] * 320
        assert samples_of(decoded(config("alaw"), [b"\xd5" * 320])).tolist() == [8] * 320

    def test_channels_are_mixed_by_their_mean(self) -> None:
        frames = struct.pack("<3h", 300, 600, -300) * 320
        assert (
            samples_of(decoded(config("pcm_s16le", channels=3), [frames])).tolist() == [200] * 320
        )

    @pytest.mark.parametrize(
        ("value", "expected"),
        [(math.nan, 0), (math.inf, 32_767), (-math.inf, -32_768), (7.5, 32_767), (-7.5, -32_768)],
    )
    def test_floats_beyond_full_scale_are_limited(self, value: float, expected: int) -> None:
        audio = struct.pack("<f", value) * 320
        assert samples_of(decoded(config("pcm_f32le"), [audio])).tolist() == [expected] * 320

    def test_opposite_infinities_in_two_channels_make_silence(self) -> None:
        audio = struct.pack("<2d", math.inf, -math.inf) * 320
        assert decoded(config("pcm_f64le", channels=2), [audio]) == bytes(640)

    def test_an_incomplete_last_frame_is_dropped(self) -> None:
        audio = struct.pack("<2h", 100, 100) * 5
        assert decoded(config("pcm_s16le", channels=2), [audio + b"\x01\x02\x03"]) == (
            struct.pack("<h", 100) * 5
        )

    def test_no_audio_decodes_to_none(self) -> None:
        assert decoded(config("pcm_s16le"), []) == b""
        assert decoded(config("pcm_s16le", 8_000), [b""]) == b""

    @pytest.mark.parametrize("sample_rate", [1, 999, 768_001])
    def test_absurd_sample_rates_are_refused(self, sample_rate: int) -> None:
        with pytest.raises(SonioxValidationError, match=f"sample_rate {sample_rate} .*1000"):
            AudioDecoder(config("pcm_s16le", sample_rate))


class TestResampling:
    @pytest.mark.parametrize(
        ("sample_rate", "channels"),
        [(8_000, 1), (11_025, 2), (22_050, 1), (44_100, 2), (48_000, 1), (96_000, 2)],
    )
    def test_keeps_duration_pitch_and_level(self, sample_rate: int, channels: int) -> None:
        audio = sine(440, sample_rate, 1.0, channels)
        found = samples_of(decoded(config("pcm_s16le", sample_rate, channels), [audio]))
        assert abs(len(found) - 16_000) <= 1
        spectrum = np.abs(np.fft.rfft(found, 16_000))
        assert int(spectrum.argmax()) == 440
        assert abs(int(found.max()) - 16_000) < 500

    def test_the_output_follows_the_input_closely(self) -> None:
        decoder = AudioDecoder(config("pcm_s16le", 8_000))
        audio = sine(440, 8_000, 1.0)
        assert len(decoder.decode(audio)) >= 2 * 16_000 * 0.85


class TestCuts:
    @pytest.mark.parametrize(
        "declared",
        [
            config("pcm_s16le"),
            config("pcm_s16le", 44_100, 2),
            config("pcm_u24be", 16_000, 3),
            config("pcm_f64le", 8_000),
            config("mulaw", 8_000),
        ],
        ids=lambda declared: f"{declared.audio_format}-{declared.sample_rate}",
    )
    @given(data=st.data())
    def test_of_raw_audio_do_not_change_the_output(
        self, declared: RealtimeSTTConfig, data: st.DataObject
    ) -> None:
        audio = sine(440, 8_000, 0.25)
        positions = data.draw(st.lists(st.integers(0, len(audio)), max_size=30))
        assert decoded(declared, cut(audio, positions)) == decoded(declared, [audio])

    @given(st.lists(st.integers(0, 120), max_size=20))
    @example(list(range(120)))
    def test_of_a_wav_header_do_not_change_the_output(self, positions: list[int]) -> None:
        file = riff(
            chunk_of(b"LIST", b"odd"),
            format_chunk(),
            chunk_of(b"fact", b"1234"),
            chunk_of(b"data", PCM),
            chunk_of(b"LIST", b"not audio"),
        )
        assert decoded(container("wav"), cut(file, positions)) == PCM

    def test_every_byte_alone(self) -> None:
        audio = sine(440, 8_000, 0.1)
        single = [bytes([byte]) for byte in audio]
        declared = config("pcm_s16le", 8_000)
        assert decoded(declared, single) == decoded(declared, [audio])


class TestWav:
    def test_the_sample_recording(self) -> None:
        with wave.open(str(MEETING)) as file:
            frames = file.readframes(file.getnframes())
        for audio_format in ("wav", "auto"):
            assert decoded(container(audio_format), [MEETING.read_bytes()]) == frames

    @pytest.mark.parametrize(
        ("codec", "bits", "written"),
        [
            (1, 8, "pcm_u8"),
            (1, 16, "pcm_s16le"),
            (1, 24, "pcm_s24le"),
            (1, 32, "pcm_s32le"),
            (3, 32, "pcm_f32le"),
            (3, 64, "pcm_f64le"),
        ],
    )
    def test_linear_codecs(self, codec: int, bits: int, written: str) -> None:
        audio = written_as(written, SAMPLES)
        file = riff(format_chunk(codec, bits=bits), chunk_of(b"data", audio))
        assert decoded(container("wav"), [file]) == decoded(config(written), [audio])

    @pytest.mark.parametrize(("codec", "name"), [(6, "alaw"), (7, "mulaw")])
    def test_telephone_codecs(self, codec: int, name: str) -> None:
        audio = bytes(range(256))
        file = riff(
            format_chunk(codec, bits=8, sample_rate=8_000, extension=b"\0\0"),
            chunk_of(b"data", audio),
        )
        assert decoded(container("auto"), [file]) == decoded(config(name, 8_000), [audio])

    def test_extensible_format(self) -> None:
        guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
        extension = struct.pack("<HHI", 22, 16, 4) + guid
        file = riff(format_chunk(0xFFFE, extension=extension), chunk_of(b"data", PCM))
        assert decoded(container("wav"), [file]) == PCM

    @pytest.mark.parametrize("size", [0, 0xFFFF_FFFF])
    def test_unknown_data_size_means_to_the_end(self, size: int) -> None:
        file = riff(format_chunk(), chunk_of(b"data", PCM, size=size))
        assert decoded(container("wav"), [file, PCM]) == PCM + PCM

    def test_more_than_4_gib(self) -> None:
        file = riff(
            chunk_of(b"ds64", bytes(28)),
            format_chunk(),
            chunk_of(b"data", PCM, size=0xFFFF_FFFF),
            signature=b"RF64",
        )
        assert decoded(container("wav"), [file]) == PCM

    def test_tells_layout_and_bytes_per_second(self) -> None:
        reader = WavReader()
        samples = reader.feed(riff(format_chunk(3, 2, 48_000, 32), chunk_of(b"data", PCM)))
        assert samples == PCM
        assert reader.layout == AudioLayout("float", 4, False, 48_000, 2)
        assert reader.layout.bytes_per_second == 384_000

    def test_skips_a_large_chunk_without_holding_it(self) -> None:
        decoder = AudioDecoder(container("wav"))
        piece = bytes(65_536)
        decoder.decode(riff(chunk_of(b"JUNK", b"", size=200 * len(piece))))
        tracemalloc.start()
        for _ in range(200):
            decoder.decode(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * len(piece)
        assert decoder.decode(format_chunk() + chunk_of(b"data", PCM)) + decoder.flush() == PCM

    @pytest.mark.parametrize(
        ("audio", "complaint"),
        [
            (b"RIFF\0\0\0\0AVI ", "decode timeout"),
            (b"\x01", "ended after 1 bytes"),
            (riff(chunk_of(b"data", PCM)), "data chunk comes before the fmt chunk"),
            (riff(chunk_of(b"fmt ", bytes(14))), "fmt chunk of 14 bytes"),
            (riff(chunk_of(b"fmt ", b"", size=1_000_000)), "fmt chunk of 1000000 bytes"),
            (riff(format_chunk(codec=0x11, bits=4, block_bytes=1)), "codec 0x0011 and 4 bits"),
            (riff(format_chunk(codec=0xFFFE)), "codec 0xfffe"),
            (riff(format_chunk(bits=64)), "expected linear PCM"),
            (riff(format_chunk(channels=0)), "0 channels"),
            (riff(format_chunk(channels=2, block_bytes=2)), "frames of 2 bytes"),
            (riff(format_chunk(sample_rate=0)), "sample_rate 0"),
            (riff(format_chunk(channels=10_000)), "num_channels 10000"),
        ],
    )
    def test_what_is_not_decodable_is_told(self, audio: bytes, complaint: str) -> None:
        with pytest.raises(AudioDecodeError, match=complaint):
            decoded(container("auto"), [audio])

    def test_garbage_is_told_at_its_first_byte(self) -> None:
        decoder = AudioDecoder(container("wav"))
        with pytest.raises(AudioDecodeError, match="'wav' needs audio with a WAV header"):
            decoder.decode(b"x")

    @pytest.mark.parametrize("length", [1, 4, 11, 12, 19, 20, 35])
    def test_an_end_inside_the_header_is_told(self, length: int) -> None:
        with pytest.raises(AudioDecodeError, match=f"ended after {length} bytes"):
            decoded(container("auto"), [riff(format_chunk())[:length]])

    def test_no_audio_at_all_is_no_error(self) -> None:
        assert decoded(container("auto"), [b""]) == b""


class TestWhatCannotBeDecoded:
    @pytest.mark.parametrize(
        ("package", "declared"),
        [
            ("numpy", config("pcm_s24le")),
            ("soxr", config("pcm_s16le", 8_000)),
            ("soundfile", config("mulaw")),
            ("soundfile", container("mp3")),
        ],
    )
    def test_conversion_without_the_packages_names_the_extra(
        self, package: str, declared: RealtimeSTTConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(SonioxValidationError, match=rf"'{package}'.*soniox-proto\[local\]"):
            AudioDecoder(declared)

    def test_a_wav_header_that_needs_them_names_the_extra(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "soxr", None)
        decoder = AudioDecoder(container("auto"))
        with pytest.raises(AudioDecodeError, match=r"'soxr'.*soniox-proto\[local\]"):
            decoder.decode(riff(format_chunk(sample_rate=8_000)))

    def test_audio_that_needs_no_conversion_needs_no_packages(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for package in ("numpy", "soxr", "soundfile"):
            monkeypatch.setitem(sys.modules, package, None)
        assert decoded(config("pcm_s16le"), [PCM]) == PCM
        assert decoded(container("wav"), [riff(format_chunk(), chunk_of(b"data", PCM))]) == PCM


class TestAudioLayout:
    @pytest.mark.parametrize(
        ("declared", "layout"),
        [
            (config("pcm_s8", 8_000), AudioLayout("signed", 1, False, 8_000, 1)),
            (config("pcm_u32be", 48_000, 2), AudioLayout("unsigned", 4, True, 48_000, 2)),
            (config("pcm_f64le", 16_000), AudioLayout("float", 8, False, 16_000, 1)),
            (config("alaw", 8_000), AudioLayout("alaw", 1, False, 8_000, 1)),
            (config("wav"), None),
            (container("auto"), None),
        ],
    )
    def test_of_config(self, declared: RealtimeSTTConfig, layout: AudioLayout | None) -> None:
        assert AudioLayout.of_config(declared) == layout
        if layout is not None:
            assert layout.bytes_per_frame == declared.bytes_per_frame
            assert layout.bytes_per_second == declared.bytes_per_second
