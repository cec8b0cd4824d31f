"""Containers: which one it is, and what is in it."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest

import soniox_adapters.server.audio as audio_module
import soniox_adapters.server.container as container_module
from soniox_adapters.server.audio import AudioDecoder
from soniox_adapters.server.container import DECODABLE, container_of
from soniox_adapters.server.pocketsphinx_recognizer import PocketsphinxRecognizer
from soniox_adapters.server.recognizer import AudioDecodeError, HeaderAwaitedError
from soniox_proto import RealtimeSTTConfig, SonioxValidationError
from tests.support.server.speech import needs_pocketsphinx, pieces_of

np: Any = pytest.importorskip("numpy")
soundfile: Any = pytest.importorskip("soundfile")

LOSSLESS = ["aiff", "flac"]
LOSSY = ["mp3", "ogg"]


def config(audio_format: str, **fields: object) -> RealtimeSTTConfig:
    return RealtimeSTTConfig.model_validate(
        {"model": "stt-rt-v5", "audio_format": audio_format, **fields}
    )


def encoded(samples: Any, audio_format: str, sample_rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=DECODABLE[audio_format])
    return file.getvalue()


def of_unknown_length(flac: bytes) -> bytes:
    """Return a FLAC file as an encoder writes it into a pipe: without its number of samples."""
    header = bytearray(flac[:42])
    header[21] &= 0xF0
    header[22:26] = bytes(4)
    return bytes(header) + flac[42:]


def decoded(declared: RealtimeSTTConfig, audio: bytes, size: int = 1_000_000) -> bytes:
    decoder = AudioDecoder(declared)
    return b"".join(map(decoder.decode, pieces_of(audio, size))) + decoder.flush()


@pytest.fixture(scope="module")
def speech(meeting: bytes) -> Any:
    return np.frombuffer(meeting[: 32 * 4_000], dtype="<i2")


class TestDetection:
    @pytest.mark.parametrize(
        ("start", "container"),
        [
            (b"RIFF\x24\0\0\0WAVE", "wav"),
            (b"RF64\xff\xff\xff\xffWAVE", "wav"),
            (b"RIFF\x24\0\0\0AVI ", None),
            (b"FORM\0\0\0\0AIFF", "aiff"),
            (b"FORM\0\0\0\0AIFC", "aiff"),
            (b"FORM\0\0\0\0ILBM", None),
            (b"fLaC\0\0\0\x22", "flac"),
            (b"OggS\0\2", "ogg"),
            (b"\x1aE\xdf\xa3", "webm"),
            (b"\x30\x26\xb2\x75\x8e", "asf"),
            (b"#!AMR\n", "amr"),
            (b"\0\0\0\x20ftypM4A ", "aac"),
            (b"ID3\4\0", "mp3"),
            (b"\xff\xfb\x90\x64", "mp3"),
            (b"\xff\xf3\x40\xc4", "mp3"),
            (b"\xff\xf1\x50\x80", "aac"),
            (b"\xff\xff\xff\xff", None),
            (b"\xff\xfb\xff\xff", None),
            (b"\xff\xfb\x0c\0", None),
            (b"\xff\xeb\x90\0", None),
            (b"\xff\xfb", None),
            (b"\xfe\xff\xfe\xff", None),
            (bytes(12), None),
            (b"", None),
        ],
    )
    def test_by_the_start(self, start: bytes, container: str | None) -> None:
        assert container_of(start) == container

    def test_raw_audio_waits_for_a_header_in_vain(self) -> None:
        decoder = AudioDecoder(config("auto"))
        assert decoder.decode(bytes(11)) == b""
        with pytest.raises(HeaderAwaitedError, match=r"decode timeout .*declare raw audio"):
            decoder.decode(b"\1")

    def test_the_error_can_travel_between_processes(self) -> None:
        error = HeaderAwaitedError(b"abc")
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (HeaderAwaitedError, str(error))

    def test_audio_shorter_than_a_header_is_told(self) -> None:
        with pytest.raises(AudioDecodeError, match="ended after 5 bytes"):
            decoded(config("auto"), b"fLaC\0")


class TestDecoding:
    @pytest.mark.parametrize("audio_format", LOSSLESS)
    @pytest.mark.parametrize("declared", ["auto", None])
    @pytest.mark.parametrize("size", [7_777, 1_000_000])
    def test_lossless_containers_give_every_sample(
        self, audio_format: str, declared: str | None, size: int, speech: Any
    ) -> None:
        audio = encoded(speech, audio_format)
        assert decoded(config(declared or audio_format), audio, size) == speech.tobytes()

    @pytest.mark.parametrize("audio_format", LOSSY)
    @pytest.mark.parametrize("rate", [16_000, 48_000])
    def test_lossy_containers_come_near(self, audio_format: str, rate: int, speech: Any) -> None:
        # From floats: libsndfile 1.2 writes stereo MP3 from integers wrongly.
        samples = np.repeat(speech / np.float32(32_768), rate // 16_000)
        stereo = np.stack([samples, samples], axis=1)
        found = np.frombuffer(
            decoded(config("auto"), encoded(stereo, audio_format, rate)), dtype="<i2"
        )
        assert len(found) == pytest.approx(len(speech), abs=3)
        count = min(len(found), len(speech))
        error = found[:count].astype(float) - speech[:count]
        assert np.sqrt(np.mean(error**2)) < 0.2 * np.sqrt(np.mean(speech.astype(float) ** 2))

    def test_a_flac_file_may_not_say_how_long_it_is(self, speech: Any) -> None:
        audio = of_unknown_length(encoded(speech, "flac"))
        assert decoded(config("flac"), audio) == speech.tobytes()

    def test_nothing_at_all_is_no_error(self) -> None:
        assert decoded(config("mp3"), b"") == b""

    def test_a_container_without_samples_is_none(self, speech: Any) -> None:
        assert decoded(config("aiff"), encoded(speech[:0], "aiff")) == b""

    @pytest.mark.parametrize("audio_format", DECODABLE)
    def test_what_is_not_that_container_is_told(self, audio_format: str) -> None:
        with pytest.raises(
            AudioDecodeError, match=rf"Audio decode error \({audio_format} expected"
        ):
            decoded(config(audio_format), b"no audio at all " * 1_000)

    def test_another_container_than_declared_is_told(self, speech: Any) -> None:
        with pytest.raises(AudioDecodeError, match="flac expected: it is AIFF"):
            decoded(config("flac"), encoded(speech, "aiff"))

    def test_a_broken_container_is_told(self, speech: Any) -> None:
        audio = encoded(speech, "flac")
        with pytest.raises(AudioDecodeError, match="Audio decode error"):
            decoded(config("flac"), audio[: len(audio) // 2])

    @pytest.mark.parametrize(
        ("audio_format", "start"), [("webm", b"\x1aE\xdf\xa3" + bytes(8)), ("amr", b"#!AMR\n" * 2)]
    )
    def test_a_container_that_cannot_be_decoded_is_refused(
        self, audio_format: str, start: bytes
    ) -> None:
        complaint = f"Invalid audio data format: {audio_format} .*flac, mp3, ogg"
        with pytest.raises(SonioxValidationError, match=complaint):
            AudioDecoder(config(audio_format))
        with pytest.raises(AudioDecodeError, match=complaint):
            AudioDecoder(config("auto")).decode(start)


class TestBounds:
    def test_of_the_compressed_audio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(container_module, "MAX_CONTAINER_BYTES", 1_000)
        decoder = AudioDecoder(config("mp3"))
        decoder.decode(bytes(1_000))
        with pytest.raises(AudioDecodeError, match="Received too much audio data in total"):
            decoder.decode(b"\0")

    def test_of_the_decoded_audio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audio_module, "_MAX_CONTAINER_SECONDS", 60)
        minute = encoded(np.zeros(60 * 16_000, dtype="<i2"), "flac")
        assert len(minute) < 20_000
        assert len(decoded(config("flac"), minute)) == 60 * 32_000
        with pytest.raises(AudioDecodeError, match="Audio is too long"):
            decoded(config("flac"), encoded(np.zeros(10**6, dtype="<i2"), "flac"))

    @pytest.mark.parametrize(
        "fields",
        [
            {"sample_rate": 16_000, "num_channels": 33},
            {"sample_rate": 16_000, "num_channels": 10**9},
            {"sample_rate": 999, "num_channels": 1},
            {"sample_rate": 10**9, "num_channels": 1},
        ],
    )
    def test_of_rate_and_channels(self, fields: dict[str, int]) -> None:
        with pytest.raises(SonioxValidationError, match="is not a usable"):
            AudioDecoder(config("pcm_s16le", **fields))

    def test_of_the_channels_in_a_header(self) -> None:
        audio = encoded(np.zeros((10, 40), dtype="<i2"), "aiff")
        with pytest.raises(AudioDecodeError, match="num_channels 40 is not a usable number"):
            decoded(config("aiff"), audio)


@needs_pocketsphinx
@pytest.mark.parametrize("audio_format", DECODABLE)
def test_speech_in_a_container_is_understood(audio_format: str, speech: Any) -> None:
    stream = PocketsphinxRecognizer(config("auto"))
    assert stream.feed(encoded(speech, audio_format)) == []
    (answer,) = stream.finalize()
    assert answer.tokens[-1].text == "<fin>"
    tokens = [token for message in stream.finish() for token in message.tokens if token.is_final]
    assert "".join(token.text for token in tokens) == "good morning everyone welcome to the meeting"
    stream.close()
