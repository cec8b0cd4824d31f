"""Audio from a file or a pipe that can be stopped at any time.

Ctrl-C has to end the audio while it is being read, and a read of a pipe cannot be interrupted.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import BinaryIO, Final, cast

from typing_extensions import Self

from soniox_adapters.audio.source import open_source
from soniox_proto import RealtimeSTTConfig, SonioxValidationError
from soniox_proto.wav import NotWavError, WavReader

__all__ = ["Recording", "open_recording", "recording_of_bytes"]

_READ_SIZE: Final = 64 * 1024
_READ_AHEAD: Final = 1024 * 1024
"""Maximum bytes to buffer for a reader that is slower than the source."""

_DEFAULT_CHUNK_SIZE: Final = 4096


class Recording:
    """A source of audio that a separate thread reads, so that `stop` does not have to wait.

    It has the methods of a binary file that `throttle_audio` needs.
    """

    def __init__(self, file: BinaryIO, name: str, *, size: int | None = None) -> None:
        self.name = name
        """Its name in texts."""
        self.size = size
        """Its size in bytes, if known."""
        self.bytes_per_second: int | None = None
        """Bytes per second of audio, if known."""
        self.duration: float | None = None
        """Its length in seconds, if known."""
        self.position = 0
        """Bytes read so far."""
        self._file = file
        self._started_at: float | None = None
        self._buffer = bytearray()
        self._ended = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None
        # Reentrant, because a signal handler calls `stop`, and may interrupt another `stop`.
        self._changed = threading.Condition(threading.RLock())

    @property
    def played(self) -> float:
        """Seconds since the first bytes were read."""
        return 0.0 if self._started_at is None else time.monotonic() - self._started_at

    def chunk_size(self, seconds: float) -> int:
        """Return the number of bytes in `seconds` of audio, within reasonable limits."""
        if self.bytes_per_second is None:
            return _DEFAULT_CHUNK_SIZE
        return max(256, min(_READ_SIZE, int(self.bytes_per_second * seconds)))

    def read(self, size: int) -> bytes:
        """Wait for the next bytes and return them; ``b""`` at the end and after `stop`.

        Raises `OSError` if the source cannot be read.
        """
        with self._changed:
            if self._thread is None and not self._ended:
                self._thread = threading.Thread(
                    target=self._fill, name="soniox-recording", daemon=True
                )
                self._thread.start()
            self._changed.wait_for(lambda: self._buffer or self._ended)
            if not self._buffer and self._error is not None:
                raise self._error
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            self.position += len(data)
            if self._started_at is None:
                self._started_at = time.monotonic()
            self._changed.notify_all()
            return data

    def stop(self) -> None:
        """End the audio here. Safe to repeat, from any thread and from a signal handler."""
        with self._changed:
            self._ended = True
            self._buffer.clear()
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        # If the thread exists, it closes the file itself: it may be waiting for it now.
        if self._thread is None:
            self._file.close()

    def _fill(self) -> None:
        try:
            with self._file, open_source(self._file) as source:
                while data := source.read(_READ_SIZE):
                    with self._changed:
                        if self._ended:
                            return
                        self._buffer += data
                        self._changed.notify_all()
                        self._changed.wait_for(
                            lambda: len(self._buffer) < _READ_AHEAD or self._ended
                        )
        except OSError as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


def open_recording(path: str, config: RealtimeSTTConfig | None = None) -> Recording:
    """Open a file, or standard input for ``-``.

    Raises `SonioxValidationError` if it cannot be opened; the text says what to do.
    """
    if path == "-":
        return Recording(_standard_input(), "standard input")
    if not path:
        raise SonioxValidationError("the name of the audio file is empty")
    try:
        # Unbuffered, so that audio from a pipe is passed on as it arrives.
        file = cast("BinaryIO", open(path, "rb", buffering=0))  # noqa: SIM115
    except OSError as error:
        raise SonioxValidationError(f"cannot read {path}: {error.strerror}") from error
    status = os.fstat(file.fileno())
    if not S_ISREG(status.st_mode):
        return Recording(file, path)
    if not status.st_size:
        file.close()
        raise SonioxValidationError(f"{path} is empty; there is nothing to transcribe")
    recording = Recording(file, Path(path).name, size=status.st_size)
    try:
        _measure(recording, file, None if config is None else config.bytes_per_second)
    except OSError as error:
        file.close()
        raise SonioxValidationError(f"cannot read {path}: {error.strerror}") from error
    except SonioxValidationError:
        file.close()
        raise
    return recording


def recording_of_bytes(data: bytes, name: str) -> Recording:
    """Return the contents of an audio file as a recording."""
    recording = Recording(BytesIO(data), name, size=len(data))
    _measure(recording, BytesIO(data), None)
    return recording


def _standard_input() -> BinaryIO:
    # Python sets it to None if the program is started without it.
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise SonioxValidationError("standard input is closed; pipe audio into it")
    if sys.stdin.isatty():
        raise SonioxValidationError("standard input is a terminal; pipe audio into it")
    # Not the buffered object, whose lock makes the interpreter abort if it exits during a read.
    return cast("BinaryIO", open(os.dup(sys.stdin.fileno()), "rb", buffering=0))


def _measure(recording: Recording, file: BinaryIO, declared: int | None) -> None:
    """Work out the bytes per second and the duration, from `declared` or the WAV header."""
    assert recording.size is not None, "only what lies on a disk or in memory is measured"
    audio_bytes = recording.size
    recording.bytes_per_second = declared
    if declared is None:
        wav = _read_header(file, recording.name)
        file.seek(0)
        if wav.format is not None:
            recording.bytes_per_second = wav.format.bytes_per_second
        if wav.header_bytes is not None:
            audio_bytes -= wav.header_bytes
        if wav.data_bytes is not None:
            audio_bytes = min(audio_bytes, wav.data_bytes)
    if recording.bytes_per_second is not None:
        recording.duration = audio_bytes / recording.bytes_per_second


def _read_header(file: BinaryIO, name: str) -> WavReader:
    wav = WavReader(name)
    try:
        while wav.header_bytes is None and (data := file.read(_READ_SIZE)):
            wav.feed(data)
    except NotWavError:
        return WavReader(name)
    return wav
