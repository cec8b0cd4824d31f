"""Compressed audio in containers, which libsndfile decodes once all of it has arrived."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

from soniox_adapters.server.recognizer import AudioDecodeError, import_local_package

__all__ = ["DECODABLE", "MAX_CONTAINER_BYTES", "SIGNATURE_BYTES", "ContainerReader", "container_of"]

SIGNATURE_BYTES: Final = 12
"""Bytes of the audio that `container_of` needs."""

MAX_CONTAINER_BYTES: Final = 64 * 1024 * 1024
"""Maximum compressed audio to buffer for one stream: an hour of MP3, half an hour of FLAC."""

DECODABLE: Final = {"aiff": "AIFF", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG"}
"""Containers that can be decoded, and what libsndfile calls them."""

_BLOCK_FRAMES: Final = 32_768


def container_of(start: bytes) -> str | None:
    """Return the container of audio that starts like this, as named in `audio_format`.

    None for raw audio. Needs `SIGNATURE_BYTES`, or all of the audio if it is shorter.
    """
    match start[:4], start[8:12]:
        case ((b"RIFF" | b"RF64" | b"BW64"), b"WAVE"):
            return "wav"
        case b"FORM", (b"AIFF" | b"AIFC"):
            return "aiff"
        case b"fLaC", _:
            return "flac"
        case b"OggS", _:
            return "ogg"
        case b"\x1aE\xdf\xa3", _:
            return "webm"
        case b"\x30\x26\xb2\x75", _:
            return "asf"
        case b"#!AM", _:
            return "amr"
        case _ if start[4:8] == b"ftyp":
            return "aac"
        case _ if start.startswith(b"ID3"):
            return "mp3"
        case _:
            return _container_of_frame(start[:3])


def _container_of_frame(header: bytes) -> str | None:
    """Return the format of frames that have no container around them, None for raw audio."""
    if len(header) < 3 or header[0] != 0xFF:
        return None
    if header[1] & 0xF6 == 0xF0:
        return "aac"
    # Quiet raw audio is full of 0xFF bytes, so the sync word is not enough: the layer, the version,
    # the bit rate and the sample rate must have valid values as well.
    is_mp3 = (
        header[1] & 0xE0 == 0xE0
        and header[1] >> 1 & 3 in {1, 2}
        and header[1] >> 3 & 3 != 1
        and 0 < header[2] >> 4 < 15
        and header[2] >> 2 & 3 != 3
    )
    return "mp3" if is_mp3 else None


class ContainerReader:
    """Buffers a container until it is complete, then decodes it block by block."""

    def __init__(self, audio_format: str) -> None:
        """Create a reader for `audio_format`, one of `DECODABLE`.

        Raises `SonioxValidationError` if the packages of the `local` extra are not installed.
        """
        self._soundfile: Any = import_local_package("soundfile")
        self._audio_format = audio_format
        self._data = io.BytesIO()

    @property
    def received_bytes(self) -> int:
        """Bytes of the container received so far."""
        return self._data.tell()

    def feed(self, data: bytes) -> None:
        """Add the next bytes. Raises `AudioDecodeError` above `MAX_CONTAINER_BYTES`."""
        if self.received_bytes + len(data) > MAX_CONTAINER_BYTES:
            raise AudioDecodeError("Received too much audio data in total.")
        self._data.write(data)

    def blocks(self) -> Iterator[tuple[int, int, bytes]]:
        """Decode the container; yield sample rate, channels, and frames of 32-bit floats.

        Raises `AudioDecodeError` if it is not what was declared, or is broken.
        """
        self._data.seek(0)
        try:
            with self._soundfile.SoundFile(self._data) as sound:
                found = str(sound.format)
                if found != DECODABLE[self._audio_format]:
                    raise self._error(f"it is {found}")
                # If seekable, it seeks after each read, which fails for FLAC of unknown length.
                sound.seekable = bool
                while len(frames := sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                    yield sound.samplerate, sound.channels, frames.astype("<f4").tobytes()
        except self._soundfile.SoundFileError as error:
            raise self._error(str(error).partition(": ")[2] or "it is broken") from error

    def _error(self, problem: str) -> AudioDecodeError:
        return AudioDecodeError(f"Audio decode error ({self._audio_format} expected: {problem})")
