"""Decoding the audio of a client into what an offline recognizer needs: 16 kHz mono PCM."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

from soniox_adapters.server.container import (
    DECODABLE,
    SIGNATURE_BYTES,
    ContainerReader,
    container_of,
)
from soniox_adapters.server.recognizer import (
    AudioDecodeError,
    HeaderAwaitedError,
    import_local_package,
)
from soniox_proto import RealtimeSTTConfig, SonioxValidationError, wav

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    _Samples: TypeAlias = NDArray[numpy.float32]

__all__ = ["OUTPUT_SAMPLE_RATE", "AudioDecoder", "AudioLayout", "WavReader"]

OUTPUT_SAMPLE_RATE = 16_000
"""Samples per second that `AudioDecoder` returns."""

_SAMPLE_RATES = range(1_000, 768_001)
"""A sample rate outside this range is a mistake, and resampling it would need absurd filters."""

_CHANNELS = range(1, 33)
"""A number of channels outside this range is a mistake, and a block would take gigabytes."""

_MAX_CONTAINER_SECONDS = 30 * 60
"""Maximum audio of a container, recognized in one go. A small file can hold days of silence."""

_BLOCKS_PER_SECOND = 100
"""Audio is converted in blocks of 10 ms, because every call of numpy has a fixed cost."""

Encoding: TypeAlias = Literal["signed", "unsigned", "float", "mulaw", "alaw"]
"""How one sample is encoded."""


@dataclass(frozen=True, slots=True)
class AudioLayout:
    """The memory layout of uncompressed audio."""

    encoding: Encoding
    """How one sample is encoded."""
    sample_bytes: int
    """Bytes of one sample of one channel."""
    big_endian: bool
    """Whether the most significant byte of a sample comes first."""
    sample_rate: int
    """Samples per second of one channel."""
    channels: int
    """Number of interleaved channels."""

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of all channels."""
        return self.sample_bytes * self.channels

    @property
    def bytes_per_second(self) -> int:
        """Bytes per second of audio."""
        return self.bytes_per_frame * self.sample_rate

    @classmethod
    def of_config(cls, config: RealtimeSTTConfig) -> AudioLayout | None:
        """Return the layout that a configuration declares; None for containers and `auto`.

        Raises `SonioxValidationError` for an impossible sample rate or number of channels.
        """
        if config.sample_rate is None or config.num_channels is None:
            return None
        if config.audio_format in {"mulaw", "alaw"}:
            encoding, sample_bytes, big_endian = str(config.audio_format), 1, False
        else:
            match = re.fullmatch(r"pcm_([suf])(\d+)(le|be)?", config.audio_format)
            if match is None:
                return None
            encoding = {"s": "signed", "u": "unsigned", "f": "float"}[match[1]]
            sample_bytes, big_endian = int(match[2]) // 8, match[3] == "be"
        _check_dimensions(config.sample_rate, config.num_channels)
        return cls(
            cast("Encoding", encoding),
            sample_bytes,
            big_endian,
            config.sample_rate,
            config.num_channels,
        )


class AudioDecoder:
    """Turns declared audio into 16 kHz, mono, signed 16-bit little-endian PCM, piece by piece.

    Decodes every raw format of the protocol and `wav` as they arrive, and `aiff`, `flac`, `mp3` and
    `ogg` once they are complete; `auto` detects which it is. Several channels are averaged into
    one. The audio may be split anywhere without changing the output, which lags behind by the
    resampler's delay (about 0.1 s at most).

    Raises `SonioxValidationError` for any other container, for an impossible sample rate or number
    of channels, and, if the audio has to be converted, when the packages of the `local` extra are
    not installed.
    """

    def __init__(self, config: RealtimeSTTConfig) -> None:
        self._wav: WavReader | None = None
        self._container: ContainerReader | None = None
        self._converter: _Converter | None = None
        # With `auto`, the audio so far, until there is enough of it to detect the format.
        self._start: bytes | None = None
        self._pending = bytearray()
        layout = AudioLayout.of_config(config)
        if layout is not None:
            self._converter = _Converter(layout)
        elif config.audio_format == "auto":
            self._start = b""
        else:
            self._begin(config.audio_format)

    def decode(self, audio: bytes) -> bytes:
        """Decode the next piece of audio, and return what is complete by now.

        Raises `AudioDecodeError` if the audio is not what was declared, or cannot be decoded here.
        """
        if self._start is not None:
            self._start += audio
            if len(self._start) < SIGNATURE_BYTES:
                return b""
            audio = self._detect(self._start)
        if self._container is not None:
            self._container.feed(audio)
            return b""
        if self._wav is not None:
            audio = self._wav.feed(audio)
            if self._converter is None and self._wav.layout is not None:
                self._converter = _converter_of_header(self._wav.layout)
        if self._converter is None:
            return b""
        self._pending += audio
        return self._convert_pending(self._converter.block_bytes)

    def settle(self) -> bytes:
        """Return what the audio so far still owes because of the resampler's delay.

        More audio may follow; it is decoded like the beginning of a recording.
        """
        if self._converter is None:
            return b""
        rest = self._convert_pending(self._converter.layout.bytes_per_frame)
        return rest + self._converter.flush()

    def flush(self) -> bytes:
        """Return what is left at the end of the audio, without an incomplete frame. Call it once.

        Raises `AudioDecodeError` if the audio ended inside its header, or is a container that
        cannot be decoded.
        """
        if self._container is not None:
            return self._decode_container(self._container)
        if self._converter is None:
            received = len(self._start or b"") if self._wav is None else self._wav.received_bytes
            if received:
                raise AudioDecodeError(
                    f"Audio decode error (the audio ended after {received} bytes, before its "
                    "header was complete)"
                )
            return b""
        return self.settle()

    def _detect(self, start: bytes) -> bytes:
        """Detect the container from the start of the audio; return that start, to be decoded."""
        container = container_of(start)
        if container is None:
            raise HeaderAwaitedError(start[:SIGNATURE_BYTES])
        self._start = None
        try:
            self._begin(container)
        except SonioxValidationError as error:
            # The format turns out to be unusable only now, when the recognizer has been made.
            raise AudioDecodeError(str(error)) from error
        return start

    def _begin(self, container: str) -> None:
        if container == "wav":
            self._wav = WavReader()
        elif container in DECODABLE:
            self._container = ContainerReader(container)
        else:
            raise SonioxValidationError(
                f"Invalid audio data format: {container} (this server decodes wav, "
                f"{', '.join(DECODABLE)} and raw formats such as pcm_s16le)"
            )

    def _decode_container(self, container: ContainerReader) -> bytes:
        if not container.received_bytes:
            return b""
        converter: _Converter | None = None
        output = bytearray()
        for sample_rate, channels, frames in container.blocks():
            if converter is None:
                layout = AudioLayout("float", 4, False, sample_rate, channels)
                converter = _converter_of_header(layout)
            output += converter.convert(frames)
            if len(output) > _MAX_CONTAINER_SECONDS * OUTPUT_SAMPLE_RATE * 2:
                raise AudioDecodeError("Audio is too long.")
        if converter is not None:
            output += converter.flush()
        return bytes(output)

    def _convert_pending(self, unit_bytes: int) -> bytes:
        assert self._converter is not None, "the layout is known once there is pending audio"
        usable = len(self._pending) - len(self._pending) % unit_bytes
        if not usable:
            return b""
        frames = bytes(self._pending[:usable])
        del self._pending[:usable]
        return self._converter.convert(frames)


def _converter_of_header(layout: AudioLayout) -> _Converter:
    try:
        return _Converter(layout)
    except SonioxValidationError as error:
        raise AudioDecodeError(str(error)) from error


class WavReader(wav.WavReader):
    """A reader of WAV files whose errors are meant for the client that sent the file."""

    def __init__(self, declared: str = "wav") -> None:
        """Create a reader; error texts name `declared` as the declared audio format."""
        super().__init__()
        self.layout: AudioLayout | None = None
        """Layout of the samples, once the `fmt ` chunk has arrived."""
        self._declared = declared

    def feed(self, data: bytes) -> bytes:
        """Feed the next bytes of the file, and return those among them that are samples.

        Raises `AudioDecodeError` if this is not a WAV file, or if its codec is not linear PCM, IEEE
        float, mu-law or A-law.
        """
        try:
            samples = super().feed(data)
        except wav.NotWavError as error:
            raise AudioDecodeError(
                f"audio_format {self._declared!r} needs audio with a WAV header (RIFF, WAVE) "
                f"here, but {error}; declare a raw format such as 'pcm_s16le' with its "
                "sample_rate and num_channels, or send a WAV file"
            ) from error
        except SonioxValidationError as error:
            raise AudioDecodeError(str(error)) from error
        if self.layout is None and self.format is not None:
            self.layout = _layout_of_wav(self.format)
        return samples


class _Resampler(Protocol):
    def resample_chunk(self, x: _Samples, last: bool = False) -> _Samples: ...


class _Converter:
    """Converts whole frames of one layout to 16 kHz mono s16le."""

    def __init__(self, layout: AudioLayout) -> None:
        _check_dimensions(layout.sample_rate, layout.channels)
        self.layout = layout
        self.block_bytes = layout.bytes_per_frame * (layout.sample_rate // _BLOCKS_PER_SECOND)
        self._numpy: Any = None
        self._resampler: _Resampler | None = None
        self._samples_of_codes: _Samples | None = None
        if layout == AudioLayout("signed", 2, False, OUTPUT_SAMPLE_RATE, 1):
            return
        self._numpy = import_local_package("numpy")
        self._resampler = self._new_resampler()
        if layout.encoding in {"mulaw", "alaw"}:
            self._samples_of_codes = _samples_of_codes(layout.encoding)

    def convert(self, frames: bytes) -> bytes:
        if self._numpy is None:
            return frames
        samples = self._mixed_to_mono(frames)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return self._as_16_bit(samples)

    def flush(self) -> bytes:
        if self._resampler is None:
            return b""
        nothing = self._numpy.zeros(0, dtype="float32")
        rest = self._resampler.resample_chunk(nothing, last=True)
        self._resampler = self._new_resampler()
        return self._as_16_bit(rest)

    def _new_resampler(self) -> _Resampler | None:
        rate = self.layout.sample_rate
        if rate == OUTPUT_SAMPLE_RATE:
            return None
        soxr = import_local_package("soxr")
        resampler: _Resampler = soxr.ResampleStream(rate, OUTPUT_SAMPLE_RATE, 1, dtype="float32")
        return resampler

    def _mixed_to_mono(self, frames: bytes) -> _Samples:
        samples = self._samples(frames).reshape(-1, self.layout.channels)
        return cast("_Samples", samples.mean(axis=1, dtype="float64").astype("float32"))

    def _samples(self, data: bytes) -> Any:
        """Return the samples of all channels, interleaved, from -1.0 to 1.0."""
        np, layout = self._numpy, self.layout
        if self._samples_of_codes is not None:
            codes = np.frombuffer(data, dtype="uint8")
            return self._samples_of_codes[codes]
        sample_bytes = layout.sample_bytes
        if sample_bytes == 3:
            # numpy has no type of three bytes, so add a zero below the least significant one.
            widened = np.zeros((len(data) // 3, 4), dtype="uint8")
            place = slice(0, 3) if layout.big_endian else slice(1, 4)
            widened[:, place] = np.frombuffer(data, dtype="uint8").reshape(-1, 3)
            data, sample_bytes = widened.tobytes(), 4
        kind = {"signed": "i", "unsigned": "u", "float": "f"}[layout.encoding]
        order = ">" if layout.big_endian else "<"
        stored = np.frombuffer(data, dtype=f"{order}{kind}{sample_bytes}")
        if layout.encoding == "float":
            # The resampler would spread a NaN to everything after it.
            with np.errstate(invalid="ignore"):
                values = np.nan_to_num(stored.astype("float64"))
            return values.clip(-1.0, 1.0)
        values = stored.astype("float64")
        full_scale = 2.0 ** (8 * sample_bytes - 1)
        if layout.encoding == "unsigned":
            values -= full_scale
        return values / full_scale

    def _as_16_bit(self, samples: _Samples) -> bytes:
        scaled = self._numpy.rint(samples * 32_768.0).clip(-32_768, 32_767)
        return cast("bytes", scaled.astype("<i2").tobytes())


def _samples_of_codes(encoding: Encoding) -> _Samples:
    """Return the sample, from -1.0 to 1.0, of each of the 256 mu-law or A-law codes."""
    soundfile = import_local_package("soundfile")
    samples, _ = soundfile.read(
        io.BytesIO(bytes(range(256))),
        format="RAW",
        subtype={"mulaw": "ULAW", "alaw": "ALAW"}[encoding],
        samplerate=8_000,
        channels=1,
        dtype="float32",
    )
    return cast("_Samples", samples)


def _layout_of_wav(declared: wav.WavFormat) -> AudioLayout:
    sample_bytes = -(-declared.bits // 8)
    encodings: dict[tuple[int, int], Encoding] = {
        (1, 1): "unsigned",
        (1, 2): "signed",
        (1, 3): "signed",
        (1, 4): "signed",
        (3, 4): "float",
        (3, 8): "float",
        (6, 1): "alaw",
        (7, 1): "mulaw",
    }
    encoding = encodings.get((declared.codec, sample_bytes))
    if encoding is None:
        raise AudioDecodeError(
            f"WAV audio with codec {declared.codec:#06x} and {declared.bits} bits per sample "
            "cannot be decoded here; expected linear PCM (8, 16, 24 or 32 bits), IEEE float "
            "(32 or 64), mu-law or A-law"
        )
    if declared.channels < 1 or declared.block_bytes != declared.channels * sample_bytes:
        raise AudioDecodeError(
            f"bad WAV header: {declared.channels} channels of {sample_bytes} bytes do not make "
            f"frames of {declared.block_bytes} bytes"
        )
    if declared.sample_rate not in _SAMPLE_RATES:
        raise AudioDecodeError(f"bad WAV header: {_bad_sample_rate(declared.sample_rate)}")
    return AudioLayout(encoding, sample_bytes, False, declared.sample_rate, declared.channels)


def _check_dimensions(sample_rate: int, channels: int) -> None:
    if sample_rate not in _SAMPLE_RATES:
        raise SonioxValidationError(_bad_sample_rate(sample_rate))
    if channels not in _CHANNELS:
        raise SonioxValidationError(
            f"num_channels {channels} is not a usable number; expected "
            f"{_CHANNELS.start} to {_CHANNELS.stop - 1}"
        )


def _bad_sample_rate(sample_rate: int) -> str:
    return (
        f"sample_rate {sample_rate} is not a usable one; expected "
        f"{_SAMPLE_RATES.start} to {_SAMPLE_RATES.stop - 1} samples per second"
    )
