"""`soniox-rt demo`."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from soniox_adapters.cli import demo
from soniox_adapters.cli.demo import run_demo
from soniox_adapters.cli.recording import recording_of_bytes
from soniox_adapters.server import pocketsphinx_installed
from soniox_proto import (
    Outcome,
    RealtimeEvent,
    SonioxInvalidRequestError,
    SonioxValidationError,
    Transcript,
    TranscriptUpdate,
)

from .program import ESCAPE, run_program
from .servers import MEETING, MEETING_LINES

needs_pocketsphinx = pytest.mark.skipif(
    not pocketsphinx_installed(), reason="needs the extra local"
)


@pytest.fixture
def scripted_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if pocketsphinx were not installed."""
    monkeypatch.setattr(demo, "pocketsphinx_installed", lambda: False)


def transcript_of(output: str) -> list[str]:
    return re.findall(r"^[\d.:]+-[\d.:]+ +(\S.*)$", output, re.MULTILINE)


@needs_pocketsphinx
def test_the_program_shows_the_transcript() -> None:
    done = run_program("demo", "--speed", "20")
    assert (done.returncode, done.stderr) == (0, b"")
    assert ESCAPE not in done.stdout
    lines = done.stdout.decode().splitlines()
    assert lines[1] == "Recognizer  pocketsphinx, offline"
    assert lines[2] == "Recording   meeting.wav, 10.0 s, at 20 times its speed"
    assert f"0.2-3.1  {MEETING_LINES[0]}" in lines
    assert f"4.5-8.6  {MEETING_LINES[1]}" in lines
    lag = [line for line in lines if "after the end of speech" in line]
    assert re.match(r"Lag +final text: median \d+\.\d\d s, longest \d+\.\d\d s", lag[0])


@needs_pocketsphinx
@pytest.mark.parametrize("blocking", [False, True])
def test_speech_becomes_text(blocking: bool, capsys: pytest.CaptureFixture[str]) -> None:
    end = run_demo(speed=20, blocking=blocking)
    assert (end.outcome, end.exit_status) == (Outcome.FINISHED, 0)
    assert transcript_of(capsys.readouterr().out) == MEETING_LINES


@pytest.mark.usefixtures("scripted_only")
@pytest.mark.parametrize("blocking", [False, True])
def test_a_script_shows_it_where_there_is_no_recognizer(
    blocking: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    end = run_demo(speed=50, blocking=blocking)
    assert end.exit_status == 0
    output = capsys.readouterr().out
    assert output.startswith("pocketsphinx is not installed, so a scripted recognizer shows the")
    assert "pip install 'soniox-proto[local]'\n" in output
    assert transcript_of(output) == MEETING_LINES
    assert "live text:  median" in output
    assert "Next        soniox-rt demo --file YOUR.wav" in output


@pytest.mark.usefixtures("scripted_only")
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("drop_at", [0.0, 0.05, 2.9, 5.0, 9.9])
def test_captions_go_on_after_a_connection_was_dropped(
    drop_at: float, blocking: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    end = run_demo(speed=20, blocking=blocking, drop_at=drop_at)
    assert end.exit_status == 0
    output = capsys.readouterr().out
    assert transcript_of(output) == MEETING_LINES
    assert re.search(
        r"^Connection  1 attempt to reconnect, once with success: \d+ ms of audio sent again, "
        r"0 ms lost$",
        output,
        re.M,
    )


@needs_pocketsphinx
def test_speech_goes_on_after_a_connection_was_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(speed=20, drop_at=6.0).exit_status == 0
    output = capsys.readouterr().out
    assert transcript_of(output) == MEETING_LINES
    assert "1 attempt to reconnect, once with success" in output


@pytest.mark.usefixtures("scripted_only")
def test_a_drop_after_the_end_never_happens(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(speed=50, drop_at=60.0).exit_status == 0
    assert "Connection" not in capsys.readouterr().out


@pytest.mark.usefixtures("scripted_only")
def test_a_script_does_not_know_other_recordings() -> None:
    with pytest.raises(SonioxValidationError, match="needs a real recognizer"):
        run_demo(path=MEETING)


@needs_pocketsphinx
def test_a_recording_of_your_own(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(MEETING).with_name("two-speakers.wav")
    assert run_demo(path=str(path), speed=20).exit_status == 0
    output = capsys.readouterr().out
    assert "Recording   two-speakers.wav, 12.8 s" in output
    assert transcript_of(output)[0] == MEETING_LINES[0]
    assert "Next" not in output


@needs_pocketsphinx
def test_a_recording_without_speech_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header = Path(MEETING).read_bytes()[:44]
    silence = header + bytes(32_000)
    monkeypatch.setattr(demo, "_sample", lambda: recording_of_bytes(silence, "silence.wav"))
    end = run_demo(speed=20)
    assert end.exit_status == 1
    assert str(end.problem) == "no speech was recognized in the recording"
    assert "Lag" not in capsys.readouterr().out


@needs_pocketsphinx
def test_a_recording_that_cannot_be_decoded_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talk.mp3"
    path.write_bytes(b"ID3" + bytes(5000))
    end = run_demo(path=str(path))
    assert isinstance(end.problem, SonioxInvalidRequestError)
    assert "Recording   talk.mp3, at its own speed\n" in capsys.readouterr().out


@pytest.mark.usefixtures("scripted_only")
def test_ctrl_c_shows_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "Transcript", _InterruptedTranscript)
    end = run_demo(speed=10)
    assert (end.interrupted, end.problem, end.exit_status) == (True, None, 130)
    output = capsys.readouterr().out
    assert transcript_of(output)
    assert "Lag" not in output


@pytest.mark.usefixtures("scripted_only")
def test_an_interruption_says_what_was_dropped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "Transcript", _LaterInterruptedTranscript)
    assert run_demo(speed=10, drop_at=1.0).interrupted
    assert "Connection  1 attempt to reconnect" in capsys.readouterr().out


class _InterruptedTranscript(Transcript):
    """Presses Ctrl-C at the first text."""

    def feed(self, event: RealtimeEvent, now: float | None = None) -> TranscriptUpdate:
        if event.tokens and not self.provisional_text:
            signal.raise_signal(signal.SIGINT)
        return super().feed(event, now)


class _LaterInterruptedTranscript(Transcript):
    """Presses Ctrl-C at the first final text, which comes after the connection was dropped."""

    def feed(self, event: RealtimeEvent, now: float | None = None) -> TranscriptUpdate:
        if "everyone" in self.text:
            signal.raise_signal(signal.SIGINT)
        return super().feed(event, now)
