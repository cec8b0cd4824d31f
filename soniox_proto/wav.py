"""Reading WAV files: what the header declares, and where the samples are.

The standard library's `wave` needs a seekable file and reads PCM only. This reader walks the chunks
of a RIFF file as the bytes arrive, so it works on files, pipes and network streams alike, and never
buffers more than the `fmt ` chunk.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from soniox_proto.errors import SonioxValidationError

__all__ = ["NotWavError", "WavFormat", "WavReader"]

MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
"""Maximum bytes before the samples. Broadcast metadata and pictures fit easily. A chunk that claims
more is nearly always a sign of a broken file, and skipping it would lose all of the audio."""

_SIGNATURES: Final = (b"RIFF", b"RF64", b"BW64")
"""RF64 (EBU Tech 3306) and BW64 (ITU-R BS.2088) are WAV for more than 4 GiB."""

_SIGNATURE_BYTES: Final = 12
_CHUNK_HEADER_BYTES: Final = 8
_DS64_BYTES: Final = 28

_MIN_FORMAT_BYTES: Final = 16
_MAX_FORMAT_BYTES: Final = 1024
"""A real `fmt ` chunk has 16 to 40 bytes, so a much longer one is not worth buffering."""

_SIZE_ELSEWHERE: Final = 0xFFFF_FFFF
"""The size is in the `ds64` chunk, or unknown."""

_EXTENSIBLE: Final = 0xFFFE
_EXTENSIBLE_CODEC_OFFSET: Final = 24

_PCM, _FLOAT, _ALAW, _MULAW = 1, 3, 6, 7
_RAW_FORMATS: Final[Mapping[tuple[int, int], str]] = {
    (_PCM, 1): "pcm_u8",
    (_PCM, 2): "pcm_s16le",
    (_PCM, 3): "pcm_s24le",
    (_PCM, 4): "pcm_s32le",
    (_FLOAT, 4): "pcm_f32le",
    (_FLOAT, 8): "pcm_f64le",
    (_ALAW, 1): "alaw",
    (_MULAW, 1): "mulaw",
}
"""The service's names of uncompressed formats, by codec and bytes of one sample."""
_ONE_SAMPLE_PER_BLOCK: Final = frozenset({_PCM, _FLOAT, _ALAW, _MULAW})


class NotWavError(SonioxValidationError):
    """The audio is not a WAV file, or no samples follow its header."""


@dataclass(frozen=True, slots=True)
class WavFormat:
    """What the `fmt ` chunk declares, except for the byte rate, which is wrong in many files."""

    codec: int
    """Code of the encoding; for WAVE_FORMAT_EXTENSIBLE, that of the sub-format."""
    channels: int
    """Number of interleaved channels."""
    sample_rate: int
    """Samples per second of one channel; never 0."""
    block_bytes: int
    """Bytes of one sample of all channels, and never 0, in codecs that do not pack samples."""
    bits: int
    """Bits of one sample."""

    @property
    def bytes_per_second(self) -> int | None:
        """Bytes per second of audio; None for codecs that pack many samples into a block."""
        if self.codec not in _ONE_SAMPLE_PER_BLOCK:
            return None
        return self.sample_rate * self.block_bytes

    @property
    def audio_format(self) -> str | None:
        """The service's name for the samples as raw audio; None if it has none."""
        sample_bytes = -(-self.bits // 8)
        if self.channels < 1 or self.block_bytes != self.channels * sample_bytes:
            return None
        return _RAW_FORMATS.get((self.codec, sample_bytes))


class WavReader:
    """Reads a WAV file as it arrives: finds the format, then returns the bytes of the samples.

    Chunks other than `fmt `, `ds64` and `data` are skipped, before and after the samples. A data
    size of 0 or 0xFFFFFFFF, written by programs that cannot know it because they write to a pipe,
    means that the samples go on to the end of the stream. A file may be truncated anywhere.
    """

    def __init__(self, name: str = "the audio") -> None:
        """Create a reader; error texts call the file `name`."""
        self.format: WavFormat | None = None
        """The format, once the `fmt ` chunk has arrived."""
        self.received_bytes = 0
        """Bytes of the file taken so far, header included."""
        self.header_bytes: int | None = None
        """Bytes before the samples, once they have begun."""
        self.data_bytes: int | None = None
        """Bytes of all samples as declared; None if unknown, or not read yet."""
        self._name = name
        self._header = bytearray()
        self._skipped_bytes = 0
        self._bytes_to_skip = 0
        self._large = False
        self._large_data_bytes = 0
        self._data_bytes_left: int | None = None

    def feed(self, data: bytes) -> bytes:
        """Feed the next bytes of the file, and return those among them that are samples.

        Raises:
            NotWavError: This is not a WAV file, or it has no samples in its first 16 MiB.
            SonioxValidationError: The header contradicts itself, or declares an impossible format.
        """
        self.received_bytes += len(data)
        if self.header_bytes is not None:
            return self._samples_among(data)
        self._header += data
        while self.header_bytes is None:
            self._skip()
            if self._bytes_to_skip or not self._read_header_part():
                return b""
        rest = bytes(self._header)
        self._header.clear()
        return self._samples_among(rest)

    def _samples_among(self, data: bytes) -> bytes:
        if self._data_bytes_left is None:
            return data
        samples = data[: self._data_bytes_left]
        self._data_bytes_left -= len(samples)
        return samples

    def _skip(self) -> None:
        skipped = min(self._bytes_to_skip, len(self._header))
        del self._header[:skipped]
        self._skipped_bytes += skipped
        self._bytes_to_skip -= skipped

    def _read_header_part(self) -> bool:
        """Read the signature or one chunk; return False if that takes more bytes."""
        header = self._header
        if not self._skipped_bytes:
            return self._read_signature()
        if len(header) < _CHUNK_HEADER_BYTES:
            return False
        name: bytes
        size: int
        name, size = struct.unpack_from("<4sI", header)
        if name == b"data":
            self._begin_samples(size)
            return True
        if name == b"fmt ":
            if not _MIN_FORMAT_BYTES <= size <= _MAX_FORMAT_BYTES:
                raise self._bad_header(f"a fmt chunk of {size} bytes")
            if len(header) < _CHUNK_HEADER_BYTES + size:
                return False
            self.format = self._parse_format(bytes(header[8 : 8 + size]))
        elif name == b"ds64" and self._large and size >= _DS64_BYTES:
            if len(header) < _CHUNK_HEADER_BYTES + _DS64_BYTES:
                return False
            (self._large_data_bytes,) = struct.unpack_from("<Q", header, 16)
        # Chunks begin at even offsets (RIFF specification).
        self._bytes_to_skip = _CHUNK_HEADER_BYTES + size + size % 2
        if self._skipped_bytes + self._bytes_to_skip > MAX_HEADER_BYTES:
            raise NotWavError(
                f"{self._name} has no samples within {MAX_HEADER_BYTES} bytes of its WAV header: "
                f"the chunk {name!r} at byte {self._skipped_bytes} claims {size} bytes"
            )
        return True

    def _read_signature(self) -> bool:
        start = bytes(self._header[:_SIGNATURE_BYTES])
        if not any(signature.startswith(start[:4]) for signature in _SIGNATURES) or not (
            b"WAVE".startswith(start[8:])
        ):
            raise NotWavError(f"{self._name} is not a WAV file: it starts with {start!r}")
        if len(start) < _SIGNATURE_BYTES:
            return False
        self._large = start[:4] != b"RIFF"
        self._bytes_to_skip = _SIGNATURE_BYTES
        return True

    def _begin_samples(self, size: int) -> None:
        if self.format is None:
            raise self._bad_header("the data chunk comes before the fmt chunk")
        if size == _SIZE_ELSEWHERE:
            size = self._large_data_bytes
        self.data_bytes = self._data_bytes_left = size or None
        self.header_bytes = self._skipped_bytes + _CHUNK_HEADER_BYTES
        del self._header[:_CHUNK_HEADER_BYTES]

    def _parse_format(self, chunk: bytes) -> WavFormat:
        codec: int
        channels: int
        sample_rate: int
        block_bytes: int
        bits: int
        codec, channels, sample_rate, _, block_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
        if codec == _EXTENSIBLE and len(chunk) >= _EXTENSIBLE_CODEC_OFFSET + 2:
            # The sub-format is a GUID that begins with the codec.
            (codec,) = struct.unpack_from("<H", chunk, _EXTENSIBLE_CODEC_OFFSET)
        if not sample_rate:
            raise self._bad_header("sample_rate 0, expected the samples per second")
        if codec in _ONE_SAMPLE_PER_BLOCK and not block_bytes:
            raise self._bad_header(
                f"a block size of 0 bytes for {channels} channels of {bits} bits"
            )
        return WavFormat(codec, channels, sample_rate, block_bytes, bits)

    def _bad_header(self, problem: str) -> SonioxValidationError:
        return SonioxValidationError(f"{self._name} has a bad WAV header: {problem}")
