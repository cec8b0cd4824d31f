"""Audio on its way in."""

from __future__ import annotations

import io
import os
import sys
import threading
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from soniox_adapters.cli.recording import Recording, open_recording, recording_of_bytes
from soniox_proto import RealtimeSTTConfig, SonioxValidationError
from tests.support.wav_files import chunk_of, format_chunk, riff

from .servers import MEETING

RAW = RealtimeSTTConfig(model="m", audio_format="pcm_s16le", sample_rate=8_000, num_channels=1)


@pytest.fixture
def pipe() -> Iterator[tuple[Recording, BinaryIO]]:
    """A recording of a pipe, and the pipe's other end."""
    read_end, write_end = os.pipe()
    source = cast("BinaryIO", open(read_end, "rb", buffering=0))  # noqa: SIM115
    with open(write_end, "wb", buffering=0) as sink, Recording(source, "pipe") as recording:
        yield recording, cast("BinaryIO", sink)


def everything(recording: Recording, size: int) -> bytes:
    return b"".join(iter(lambda: recording.read(size), b""))


def test_a_file_is_read_whole() -> None:
    with open_recording(MEETING) as recording:
        assert recording.played == 0.0
        assert everything(recording, 1000) == Path(MEETING).read_bytes()
        assert recording.position == recording.size == Path(MEETING).stat().st_size
        assert recording.played > 0.0
        assert recording.read(1000) == b""


def test_a_wav_file_tells_its_duration() -> None:
    with open_recording(MEETING) as recording:
        assert recording.name == "meeting.wav"
        assert recording.duration == pytest.approx(10.0, abs=0.1)
        assert recording.chunk_size(0.1) == 3200
        assert recording.chunk_size(0.000_1) == 256
        assert recording.chunk_size(1e6) == 65_536


def test_raw_audio_has_the_duration_that_its_format_declares(tmp_path: Path) -> None:
    file = tmp_path / "speech.raw"
    file.write_bytes(bytes(32_000))
    with open_recording(str(file), RAW) as recording:
        assert recording.duration == 2.0


@pytest.mark.parametrize("content", [b"ID3....", b"RIFF\0\0\0\0WAVE"])
def test_other_audio_has_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "speech.mp3"
    file.write_bytes(content)
    with open_recording(str(file)) as recording:
        assert recording.duration is None
        assert recording.chunk_size(10) == 4096
        assert everything(recording, 4096) == content


def test_a_wav_file_goes_by_its_samples_alone(tmp_path: Path) -> None:
    file = tmp_path / "speech.wav"
    picture = chunk_of(b"LIST", bytes(100_000))
    data = chunk_of(b"data", bytes(32_000))
    file.write_bytes(riff(picture, format_chunk(byte_rate=1), data, picture))
    with open_recording(str(file)) as recording:
        assert (recording.bytes_per_second, recording.duration) == (32_000, 1.0)
        assert everything(recording, 4096) == file.read_bytes()
    # Cut off, or written into a pipe: what is there counts.
    for size in (64_000, 0, 0xFFFF_FFFF):
        file.write_bytes(riff(format_chunk(), chunk_of(b"data", bytes(16_000), size)))
        with open_recording(str(file)) as recording:
            assert recording.duration == 0.5


def test_a_wav_file_without_a_rate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "speech.wav"
    file.write_bytes(riff(format_chunk(sample_rate=0)))
    with pytest.raises(SonioxValidationError, match=r"speech\.wav has a bad WAV header"):
        open_recording(str(file))


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that cannot be read")
def test_a_file_whose_beginning_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # It has no size to be seen, as a file on a disk that fails has.
    class Status:
        st_mode = 0o100_644
        st_size = 1

    monkeypatch.setattr(os, "fstat", lambda descriptor: Status())
    with pytest.raises(SonioxValidationError, match="cannot read /proc/self/mem: Input/output"):
        open_recording("/proc/self/mem")


def test_a_pipe_in_non_blocking_mode_is_read_to_its_end(
    pipe: tuple[Recording, BinaryIO],
) -> None:
    recording, sink = pipe
    os.set_blocking(sink.fileno(), True)
    os.set_blocking(vars(recording)["_file"].fileno(), False)
    timers = [threading.Timer(0.05, sink.write, [b"first"]), threading.Timer(0.1, sink.close)]
    for timer in timers:
        timer.start()
    assert everything(recording, 4096) == b"first"
    for timer in timers:
        timer.join()


def test_bytes_are_a_recording_too() -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(8_000)
        writer.writeframes(bytes(64_000))
    with recording_of_bytes(buffer.getvalue(), "tone.wav") as recording:
        assert recording.duration == pytest.approx(2.0, abs=0.01)
        assert everything(recording, 777) == buffer.getvalue()


def test_a_pipe_is_read_as_it_comes(pipe: tuple[Recording, BinaryIO]) -> None:
    recording, sink = pipe
    sink.write(bytes(100))
    assert recording.read(4096) == bytes(100)
    sink.write(b"x")
    assert recording.read(4096) == b"x"
    assert recording.duration is None


def test_pieces_of_a_pipe_are_passed_on_as_they_come(pipe: tuple[Recording, BinaryIO]) -> None:
    recording, sink = pipe
    for piece in (b"RIFF", bytes(40)):
        sink.write(piece)
        assert recording.read(4096) == piece


def test_stop_ends_a_read_that_waits(pipe: tuple[Recording, BinaryIO]) -> None:
    recording, sink = pipe
    sink.write(bytes(44))
    assert recording.read(44) == bytes(44)
    stopper = threading.Thread(target=recording.stop)
    stopper.start()
    assert recording.read(44) == b""
    stopper.join()
    # The thread that reads has to be let go, and takes no more.
    sink.write(b"too late")
    assert recording.read(44) == b""


def test_a_recording_that_was_stopped_is_not_read_at_all() -> None:
    with open_recording(MEETING) as recording:
        recording.stop()
        assert recording.read(10) == b""
        assert recording.position == 0


def test_a_recording_larger_than_what_is_kept_is_read_whole() -> None:
    with recording_of_bytes(bytes(3_000_000), "long") as recording:
        assert recording.read(1) == b"\0"
        assert len(everything(recording, 100_000)) == 2_999_999


class _BrokenFile(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        if size and not self.closed:
            raise OSError(5, "Input/output error")
        return b""


def test_a_source_that_fails_raises_where_it_is_read() -> None:
    with (
        Recording(cast("BinaryIO", _BrokenFile()), "broken") as recording,
        pytest.raises(OSError, match="Input/output error"),
    ):
        recording.read(10)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("missing.wav", "No such file"), (".", "directory"), ("empty.wav", "is empty")],
)
def test_files_that_cannot_be_opened(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(SonioxValidationError, match=problem):
        open_recording(str(tmp_path / name))


def test_a_named_pipe_is_read_as_a_pipe(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    path = tmp_path / "audio"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(bytes(50),))
    writer.start()
    with open_recording(str(path)) as recording:
        assert recording.size is None
        assert everything(recording, 10) == bytes(50)
    writer.join()


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, bytes(60))
    os.close(write_end)
    with open(read_end) as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        with open_recording("-") as recording:
            assert everything(recording, 50) == bytes(60)
        assert not standard_input.closed


def test_standard_input_that_is_closed_or_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SonioxValidationError, match="is closed; pipe audio into it"):
        open_recording("-")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(SonioxValidationError, match="is a terminal; pipe audio into it"):
        open_recording("-")
