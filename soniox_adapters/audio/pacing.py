"""Audio in chunks, as fast as the consumer takes them or in real time.

The service expects live audio, so a file should be sent at about the speed at which it was spoken.
Sleeping for a chunk's duration after each chunk would fall behind, because sending takes time too;
here each chunk has its due time on the clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from typing import Final

from soniox_adapters.audio.source import (
    AudioSource,
    check_source,
    is_audio,
    open_source,
    source_name,
)
from soniox_adapters.session.base import AudioChunk
from soniox_proto import RealtimeSTTConfig, SonioxValidationError
from soniox_proto.wav import NotWavError, WavReader

__all__ = [
    "AudioSource",
    "stream_audio",
    "stream_audio_async",
    "throttle_audio",
    "throttle_audio_async",
]

DEFAULT_CHUNK_SIZE: Final = 4096
"""Bytes: an eighth of a second of 16 kHz, 16-bit mono audio."""

_LONGEST_SLEEP: Final = 1e9
"""Seconds: thirty years. `time.sleep` raises for much larger numbers."""


def stream_audio(
    file: AudioSource, *, chunk_size_bytes: int = DEFAULT_CHUNK_SIZE
) -> Iterator[bytes]:
    """Yield the audio of a file, or of bytes, in chunks, as fast as the consumer takes them.

    Waits for a pipe that has no data yet. A path is opened, and closed when the iterator is
    exhausted or closed; a file that is given stays open.

    Args:
        file: Path, open binary file, or bytes.
        chunk_size_bytes: Bytes per chunk. The last may be shorter, and any of an unbuffered pipe.

    Raises:
        TypeError: The file is open in text mode, or is not a source of audio at all.
        SonioxValidationError: The chunk size is not positive.
        OSError: The file cannot be read.
    """
    _check_chunks(file, chunk_size_bytes)
    return _chunks(file, chunk_size_bytes)


def stream_audio_async(
    file: AudioSource, *, chunk_size_bytes: int = DEFAULT_CHUNK_SIZE
) -> AsyncIterator[bytes]:
    """Yield what `stream_audio` yields, on asyncio and on trio.

    The event loop waits for pipes; other files are read in threads. A cancellation takes effect at
    once, whatever the file does. Raises what `stream_audio` raises.
    """
    _check_chunks(file, chunk_size_bytes)
    return _chunks_async(file, chunk_size_bytes)


def throttle_audio(
    file: AudioSource,
    *,
    chunk_size_bytes: int = DEFAULT_CHUNK_SIZE,
    delay_seconds: float | None = None,
    config: RealtimeSTTConfig | None = None,
    speed: float = 1.0,
) -> Iterator[bytes]:
    """Yield the audio in chunks in real time, paced by the clock so that delays do not add up.

    Each chunk is yielded when it would have been spoken: after the duration of the audio before it,
    or, with `delay_seconds`, after that many seconds for each chunk before it. The duration is
    known for raw formats (from `config`) and for WAV with uncompressed samples; chunks of other
    audio are not delayed. A consumer that is late gets chunks without delay until it has caught up.

    Args:
        file: Path, open binary file, or bytes.
        chunk_size_bytes: Bytes per chunk. The last may be shorter, and any of an unbuffered pipe.
        delay_seconds: Seconds between chunks; None to use the duration of the audio.
        config: Configuration with the raw format; not needed for WAV.
        speed: Seconds of audio to yield per second; ignored with `delay_seconds`.

    Raises:
        TypeError: The file is open in text mode, or is not a source of audio at all.
        SonioxValidationError: A number is out of range, or the header of a WAV file is broken.
        OSError: The file cannot be read.
    """
    _check_chunks(file, chunk_size_bytes)
    _check_pace(delay_seconds, speed)
    return _throttle(file, chunk_size_bytes, _Pace(file, delay_seconds, config, speed))


def throttle_audio_async(
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
    _check_chunks(file, chunk_size_bytes)
    _check_pace(delay_seconds, speed)
    return _throttle_async(file, chunk_size_bytes, _Pace(file, delay_seconds, config, speed))


def _chunks(source: AudioSource, size: int) -> Generator[bytes, None, None]:
    if is_audio(source):
        yield from _slices(source, size)
        return
    with open_source(source) as reader:
        while chunk := reader.read(size):
            yield chunk


async def _chunks_async(source: AudioSource, size: int) -> AsyncGenerator[bytes, None]:
    if is_audio(source):
        for chunk in _slices(source, size):
            yield chunk
        return
    with open_source(source) as reader:
        while chunk := await reader.read_async(size):
            yield chunk


def _slices(audio: AudioChunk, size: int) -> Iterator[bytes]:
    view = memoryview(audio).cast("B")
    for offset in range(0, len(view), size):
        yield bytes(view[offset : offset + size])


def _throttle(source: AudioSource, size: int, pace: _Pace) -> Generator[bytes, None, None]:
    start: float | None = None
    with closing(_chunks(source, size)) as chunks:
        for chunk in chunks:
            now = time.monotonic()
            if start is None:
                start = now
            time.sleep(min(max(0.0, start + pace.passed(chunk) - now), _LONGEST_SLEEP))
            yield chunk


async def _throttle_async(
    source: AudioSource, size: int, pace: _Pace
) -> AsyncGenerator[bytes, None]:
    import anyio

    start: float | None = None
    async with aclosing(_chunks_async(source, size)) as chunks:
        async for chunk in chunks:
            if start is None:
                start = anyio.current_time()
            await anyio.sleep_until(start + pace.passed(chunk))
            yield chunk


class _Pace:
    """Works out when each chunk is due."""

    def __init__(
        self,
        source: AudioSource,
        delay_seconds: float | None,
        config: RealtimeSTTConfig | None,
        speed: float,
    ) -> None:
        self._delay = delay_seconds
        self._rate = None if config is None else config.bytes_per_second
        self._speed = speed
        self._chunks = 0
        self._bytes = 0
        self._wav: WavReader | None = None
        if delay_seconds is None and self._rate is None:
            self._wav = WavReader(source_name(source))

    def passed(self, chunk: bytes) -> float:
        """Return when the next chunk, `chunk`, is due, in seconds after the first one."""
        if self._delay is not None:
            passed = self._chunks * self._delay
        else:
            passed = self._bytes / self._rate / self._speed if self._rate else 0.0
        self._chunks += 1
        self._bytes += self._samples_in(chunk)
        return passed

    def _samples_in(self, chunk: bytes) -> int:
        """Return how many bytes of `chunk` are samples, and not the header of a WAV file."""
        if self._wav is None:
            return len(chunk)
        try:
            samples = self._wav.feed(chunk)
        except NotWavError:
            # The duration is unknown, so nothing is delayed from here on.
            self._wav = None
            return 0
        if self._wav.format is not None:
            self._rate = self._wav.format.bytes_per_second
        return len(samples)


def _check_chunks(source: AudioSource, size: int) -> None:
    check_source(source)
    if size <= 0:
        raise SonioxValidationError(f"chunk_size_bytes must be greater than zero, not {size!r}")


def _check_pace(delay_seconds: float | None, speed: float) -> None:
    if delay_seconds is not None and not (delay_seconds >= 0 and math.isfinite(delay_seconds)):
        raise SonioxValidationError(
            f"delay_seconds must be a finite number, zero or more, not {delay_seconds!r}"
        )
    if not (speed > 0 and math.isfinite(speed)):
        raise SonioxValidationError(
            f"speed must be a finite number greater than zero, not {speed!r}"
        )
