"""`soniox-rt transcribe --format ... --output FILE`."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from soniox_adapters.cli.output_file import OutputFile
from soniox_adapters.cli.streaming import Pace, StreamEnd
from soniox_adapters.cli.transcribe import (
    OutputFormat,
    SubtitleTrack,
    TranscribeRequest,
    run_transcribe,
)
from soniox_adapters.server import LocalServer, run_in_thread, scripted
from soniox_proto import Outcome, RealtimeSTTConfig, SonioxValidationError
from soniox_proto.testing import endpoint, error, result, token

from .servers import SECOND, scripted_server

RAW: dict[str, Any] = {
    "model": "m",
    "audio_format": "pcm_s16le",
    "sample_rate": 16_000,
    "num_channels": 1,
    "enable_endpoint_detection": True,
}
TRANSLATED = RealtimeSTTConfig(**RAW, translation={"type": "one_way", "target_language": "es"})


ORIGINAL = token("Hello.", translation_status="original", speaker="1", start_ms=0, end_ms=900)
TRANSLATION = [
    result(ORIGINAL, endpoint(), start_ms=None),
    result(token("Hola.", translation=True), start_ms=None),
]

ONE_TWO = {
    OutputFormat.TEXT: "one two\nthree four\n",
    OutputFormat.SRT: "1\n00:00:00,000 --> 00:00:00,220\none two\n\n"
    "2\n00:00:00,300 --> 00:00:01,300\nthree four\n\n",
    OutputFormat.VTT: "WEBVTT\n\n00:00:00.000 --> 00:00:00.220\none two\n\n"
    "00:00:00.300 --> 00:00:01.300\nthree four\n\n",
    OutputFormat.CSV: "start_ms,end_ms,speaker,language,text,translation_language,translation\r\n"
    "0,200,,,one two,,\r\n300,500,,,three four,,\r\n",
    OutputFormat.TSV: "start_ms\tend_ms\tspeaker\tlanguage\ttext\ttranslation_language\t"
    "translation\n0\t200\t\t\tone two\t\t\n300\t500\t\t\tthree four\t\t\n",
}


@pytest.fixture
def audio(tmp_path: Path) -> str:
    path = tmp_path / "speech.raw"
    path.write_bytes(SECOND)
    return str(path)


def run(server: LocalServer, path: str, **options: Any) -> int:
    settings: dict[str, Any] = {"config": RealtimeSTTConfig(**RAW), "pace": Pace(None), **options}
    return run_transcribe(
        TranscribeRequest(path=path, url=server.url, api_key=None, **settings)
    ).exit_status


@pytest.mark.parametrize("kind", ONE_TWO)
def test_every_format_on_standard_output(
    server: LocalServer, audio: str, kind: OutputFormat, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(server, audio, format=kind) == 0
    assert capfdbinary.readouterr().out.decode() == ONE_TWO[kind]


@pytest.mark.parametrize("kind", ONE_TWO)
def test_every_format_in_a_file(
    server: LocalServer,
    audio: str,
    kind: OutputFormat,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    output.write_text("what was there before, and is longer than all that comes " * 10)
    assert run(server, audio, format=kind, output=output) == 0
    assert output.read_bytes().decode() == ONE_TWO[kind]
    assert capsys.readouterr().out == ""


def test_messages_and_documents_in_a_file(server: LocalServer, audio: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run(server, audio, format=OutputFormat.JSON_LINES, output=output) == 0
    assert json.loads(output.read_text().splitlines()[-1])["finished"] is True
    assert run(server, audio, format=OutputFormat.JSON, output=output) == 0
    document = json.loads(output.read_text())
    assert [utterance["text"] for utterance in document["utterances"]] == ["one two", "three four"]
    assert document["outcome"] == "finished"


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, ["Hello.", "Hola."]),
        ({"speakers": True}, ["Speaker 1: Hello.", "Hola."]),
        ({"track": SubtitleTrack.ORIGINAL}, ["Hello."]),
        ({"track": SubtitleTrack.TRANSLATION}, ["Hola."]),
    ],
)
def test_subtitles_of_a_translation(
    options: dict[str, Any], lines: list[str], audio: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.srt"
    with run_in_thread(LocalServer(recognizer=scripted(TRANSLATION))) as server:
        assert (
            run(server, audio, config=TRANSLATED, format=OutputFormat.SRT, output=output, **options)
            == 0
        )
    assert output.read_text().splitlines()[2:-1] == lines


@pytest.mark.parametrize("kind", OutputFormat)
def test_a_stream_that_fails_at_once_leaves_the_file_as_it_was(
    kind: OutputFormat, audio: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.write_text("yesterday's")
    server = scripted_server()
    with run_in_thread(server):
        pass
    assert run(server, audio, format=kind, output=output) == 1
    assert output.read_text() == "yesterday's"


@pytest.mark.parametrize("kind", OutputFormat)
def test_a_recording_without_a_word_replaces_what_was_in_the_file(
    kind: OutputFormat, audio: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.write_text("yesterday's")
    with run_in_thread(LocalServer(recognizer=scripted([]))) as server:
        assert run(server, audio, format=kind, output=output) == 0
    assert "yesterday's" not in output.read_text()


@pytest.mark.parametrize("kind", OutputFormat)
def test_a_stream_that_is_stopped_before_a_word_leaves_the_file_as_it_was(
    kind: OutputFormat, audio: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_at_once(*_: object) -> StreamEnd:
        return StreamEnd(Outcome.ABORTED, None, interrupted=True)

    monkeypatch.setattr("soniox_adapters.cli.transcribe.stream_blocking", stopped_at_once)
    output = tmp_path / "out"
    output.write_text("yesterday's")
    with run_in_thread(scripted_server()) as server:
        assert run(server, audio, format=kind, output=output, blocking=True) == 130
    assert output.read_text() == "yesterday's"


def test_a_stream_that_fails_later_leaves_what_was_said(audio: str, tmp_path: Path) -> None:
    messages = [TRANSLATION[0], error(503)]
    output = tmp_path / "out"
    for kind in (OutputFormat.VTT, OutputFormat.JSON):
        with run_in_thread(LocalServer(recognizer=scripted(messages))) as server:
            assert run(server, audio, format=kind, output=output) == 1
        assert "Hello." in output.read_text()
    assert json.loads(output.read_text())["error"]["error_code"] == 503


def test_a_file_that_cannot_be_opened(server: LocalServer, audio: str, tmp_path: Path) -> None:
    with pytest.raises(SonioxValidationError, match=r"cannot write .*: No such file or directory"):
        run(server, audio, output=tmp_path / "no" / "such" / "folder")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_a_disk_that_is_full(server: LocalServer, audio: str) -> None:
    request = TranscribeRequest(
        path=audio,
        url=server.url,
        api_key=None,
        config=RealtimeSTTConfig(**RAW),
        pace=Pace(None),
        output=Path("/dev/full"),
    )
    end = run_transcribe(request)
    assert end.exit_status == 1
    assert str(end.problem) == "cannot write /dev/full: No space left on device"


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_what_is_not_a_regular_file_is_not_cut(tmp_path: Path) -> None:
    with OutputFile(Path(os.devnull)) as file:
        file.write("text")
        file.write("more")


def test_a_file_is_closed_although_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    file = OutputFile(tmp_path / "out")
    inner = file._file  # pyright: ignore[reportPrivateUsage]
    with file, monkeypatch.context() as patch:
        patch.setattr(file, "_file", type("Broken", (), {"close": staticmethod(fail)})())
        file.__exit__(None, None, None)
    inner.close()
