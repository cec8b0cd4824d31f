"""Audio in chunks, as fast as it is wanted or at the speed at which it was spoken."""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from soniox_proto import RealtimeSTTConfig, SonioxValidationError

__all__ = [
    "AudioSource",
    "stream_audio",
    "stream_audio_async",
    "throttle_audio",
    "throttle_audio_async",
]

AudioSource: TypeAlias = "Path | str | BinaryIO | bytes"
"""A file's path, an open binary file, or the audio itself."""

DEFAULT_CHUNK_SIZE: Final = 4096
"""Bytes: an eighth of a second of 16 kHz, 16-bit, mono speech."""

_WAV_HEADER_SIZE: Final = 4096
"""Bytes in which the format of a WAV file is looked for."""


def stream_audio(
    file: AudioSource, *, chunk_size_bytes: int = DEFAULT_CHUNK_SIZE
) -> Iterator[bytes]:
    """Yield the audio of a file, or of bytes, in chunks, as fast as they are taken.

    Args:
        file: Path, open binary file, or bytes.
        chunk_size_bytes: Bytes of each chunk but the last.

    Raises:
        SonioxValidationError: The chunk size is not positive.
        OSError: The file cannot be read.
    """
    _check_chunk_size(chunk_size_bytes)
    return _chunks(file, chunk_size_bytes)


async def stream_audio_async(
    file: AudioSource, *, chunk_size_bytes: int = DEFAULT_CHUNK_SIZE
) -> AsyncIterator[bytes]:
    """Yield what `stream_audio` yields; files are read in a worker thread.

    Works on asyncio and on trio. Raises what `stream_audio` raises.
    """
    chunks = stream_audio(file, chunk_size_bytes=chunk_size_bytes)
    if isinstance(file, bytes):
        for chunk in chunks:
            yield chunk
    else:
        import anyio.to_thread

        while chunk := await anyio.to_thread.run_sync(next, chunks, b""):
            yield chunk


def throttle_audio(
    file: AudioSource,
    *,
    chunk_size_bytes: int = DEFAULT_CHUNK_SIZE,
    delay_seconds: float | None = None,
    config: RealtimeSTTConfig | None = None,
    speed: float = 1.0,
) -> Iterator[bytes]:
    """Yield the audio in chunks, paced against the clock so that no delay adds up.

    Each chunk is yielded when it would have been spoken: after `delay_seconds` for every chunk
    before it, or, without that, after the duration of the audio before it, which is known for raw
    formats (`config`) and for WAV; where it is not known, chunks are not delayed. If the taker is
    late, the next chunks come without delay until it has caught up.

    Args:
        file: Path, open binary file, or bytes.
        chunk_size_bytes: Bytes of each chunk but the last.
        delay_seconds: Seconds between chunks; None for the audio's own duration.
        config: Configuration that tells the raw format; not needed for WAV.
        speed: How many seconds of audio to yield in a second, without `delay_seconds`.

    Raises:
        SonioxValidationError: A number is out of range.
        OSError: The file cannot be read.
    """
    _check_chunk_size(chunk_size_bytes)
    _check_pace(delay_seconds, speed)
    return _throttle(_chunks(file, chunk_size_bytes), delay_seconds, config, speed)


async def throttle_audio_async(
    file: AudioSource,
    *,
    chunk_size_bytes: int = DEFAULT_CHUNK_SIZE,
    delay_seconds: float | None = None,
    config: RealtimeSTTConfig | None = None,
    speed: float = 1.0,
) -> AsyncIterator[bytes]:
    """Yield what `throttle_audio` yields, at the same times, on asyncio and on trio.

    Raises what `throttle_audio` raises.
    """
    _check_pace(delay_seconds, speed)
    import anyio

    pace: _Pace | None = None
    async for chunk in stream_audio_async(file, chunk_size_bytes=chunk_size_bytes):
        if pace is None:
            pace = _Pace(delay_seconds, config, speed, anyio.current_time())
        await anyio.sleep_until(pace.due(chunk))
        yield chunk


def _throttle(
    chunks: Iterator[bytes],
    delay_seconds: float | None,
    config: RealtimeSTTConfig | None,
    speed: float,
) -> Iterator[bytes]:
    pace: _Pace | None = None
    for chunk in chunks:
        if pace is None:
            pace = _Pace(delay_seconds, config, speed, time.monotonic())
        time.sleep(max(0.0, pace.due(chunk) - time.monotonic()))
        yield chunk


class _Pace:
    """Tells when each chunk is due, on the clock that `start` was taken from."""

    def __init__(
        self,
        delay_seconds: float | None,
        config: RealtimeSTTConfig | None,
        speed: float,
        start: float,
    ) -> None:
        self._delay = delay_seconds
        self._rate = None if config is None else config.bytes_per_second
        self._speed = speed
        self._start = start
        self._chunks = 0
        self._bytes = 0
        # The beginning of the audio, while it may still tell the rate.
        self._head: bytes | None = b"" if self._rate is None else None

    def due(self, chunk: bytes) -> float:
        """Return when `chunk`, the next one, is due."""
        if self._delay is not None:
            passed = self._chunks * self._delay
        else:
            passed = self._bytes / (self._rate * self._speed) if self._rate else 0.0
        self._chunks += 1
        self._bytes += len(chunk)
        if self._head is not None:
            self._head += chunk
            self._rate = _wav_bytes_per_second(self._head)
            if self._rate or len(self._head) >= _WAV_HEADER_SIZE:
                self._head = None
        return self._start + passed


def _wav_bytes_per_second(head: bytes) -> int | None:
    """Return the byte rate that a WAV header declares, None if there is none (yet)."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    position = head.find(b"fmt ", 12, _WAV_HEADER_SIZE)
    if position < 0 or len(head) < position + 20:
        return None
    # After the chunk's name and size: format, channels, sample rate, byte rate.
    rate: int = struct.unpack_from("<I", head, position + 16)[0]
    return rate


def _chunks(file: AudioSource, size: int) -> Iterator[bytes]:
    if isinstance(file, bytes):
        for offset in range(0, len(file), size):
            yield file[offset : offset + size]
    elif isinstance(file, (str, Path)):
        with Path(file).open("rb") as opened:
            yield from iter(lambda: opened.read(size), b"")
    else:
        yield from iter(lambda: file.read(size), b"")


def _check_chunk_size(size: int) -> None:
    if size <= 0:
        raise SonioxValidationError(f"chunk_size_bytes must be greater than zero, not {size!r}")


def _check_pace(delay_seconds: float | None, speed: float) -> None:
    if delay_seconds is not None and not delay_seconds >= 0:
        raise SonioxValidationError(f"delay_seconds must be zero or more, not {delay_seconds!r}")
    if not speed > 0:
        raise SonioxValidationError(f"speed must be greater than zero, not {speed!r}")
