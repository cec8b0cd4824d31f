"""`soniox-rt transcribe`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soniox_adapters.cli import transcribe
from soniox_adapters.cli.sample_script import sample_recognizer
from soniox_adapters.cli.streaming import Pace
from soniox_adapters.cli.transcribe import OutputFormat, TranscribeRequest, run_transcribe
from soniox_adapters.server import Drop, LocalServer, RefuseUpgrade, run_in_thread, scripted
from soniox_proto import Outcome, RealtimeEvent, RealtimeSTTConfig, Transcript, TranscriptUpdate
from soniox_proto.testing import endpoint, result, token

from .program import ESCAPE, line_of, run_program, started_program
from .servers import (
    MEETING,
    MEETING_LINES,
    RAW_OPTIONS,
    SECOND,
    HeldRecognizer,
    RecordingFactory,
    scripted_server,
)

KEY = "key-that-must-not-show"

interrupts = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture
def audio(tmp_path: Path) -> str:
    """A file of raw audio."""
    path = tmp_path / "speech.raw"
    path.write_bytes(SECOND)
    return str(path)


@pytest.fixture
def meeting_server() -> Iterator[LocalServer]:
    """A server that plays the text of the sample."""
    script = scripted("\n".join(MEETING_LINES), ms_per_word=400)
    with run_in_thread(LocalServer(recognizer=script)) as server:
        yield server


def request(server: LocalServer, path: str, **options: Any) -> TranscribeRequest:
    config = RealtimeSTTConfig(
        model="m",
        audio_format="pcm_s16le",
        sample_rate=16_000,
        num_channels=1,
        enable_endpoint_detection=True,
    )
    settings: dict[str, Any] = {"api_key": None, "config": config, "pace": Pace(None), **options}
    return TranscribeRequest(path=path, url=server.url, **settings)


# In this process


@pytest.mark.parametrize("blocking", [False, True])
def test_text(
    server: LocalServer, audio: str, blocking: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_transcribe(request(server, audio, blocking=blocking)).exit_status == 0
    assert capsys.readouterr().out == "one two\nthree four\n"


@pytest.mark.parametrize("blocking", [False, True])
def test_a_connection_that_is_lost(blocking: bool, capsys: pytest.CaptureFixture[str]) -> None:
    recognizer = sample_recognizer(Path(MEETING).read_bytes())
    faults = [Drop(after_ms=4000), RefuseUpgrade(), Drop(after_ms=2000)]
    config = RealtimeSTTConfig(model="m", enable_endpoint_detection=True)
    with run_in_thread(LocalServer(recognizer=recognizer, faults=faults)) as server:
        end = run_transcribe(
            request(server, MEETING, config=config, blocking=blocking, reconnect=True)
        )
    assert end.exit_status == 0
    written = capsys.readouterr()
    assert written.out.splitlines() == MEETING_LINES
    assert re.fullmatch(
        r"soniox-rt: 3 attempts to reconnect, twice with success: "
        r"\d+ ms of audio sent again, 0 ms lost\n",
        written.err,
    )


def test_the_program_reconnects(tmp_path: Path) -> None:
    recognizer = sample_recognizer(Path(MEETING).read_bytes())
    trace = str(tmp_path / "talk.jsonl")
    with run_in_thread(LocalServer(recognizer=recognizer, faults=[Drop(after_ms=4000)])) as server:
        options = ("--url", server.url, "--no-throttle", "--endpoint-detection")
        done = run_program("transcribe", MEETING, *options, "--reconnect", "--trace", trace)
    assert (done.returncode, done.stdout.decode().splitlines()) == (0, MEETING_LINES)
    assert done.stderr.startswith(b"soniox-rt: 1 attempt to reconnect, once with success: ")
    again = run_program("replay", trace)
    assert (again.returncode, again.stdout.split()) == (0, done.stdout.split())
    timeline = run_program("inspect", trace).stdout.decode()
    assert re.search(r"^ +\d+\.\d{3}  !  Reconnecting attempt=1 ", timeline, re.MULTILINE)
    assert re.search(r"^ +\d+\.\d{3}  >2 GET /transcribe-websocket ", timeline, re.MULTILINE)


def test_text_without_endpoints_is_cut_at_pauses(
    audio: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = [
        {"text": "one", "start_ms": 0, "end_ms": 300, "is_final": True},
        {"text": " two", "start_ms": 1200, "end_ms": 1300, "is_final": True},
        {"text": " three", "start_ms": 2300, "end_ms": 2400, "is_final": True},
    ]
    config = RealtimeSTTConfig(
        model="m", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
    )
    with run_in_thread(LocalServer(recognizer=scripted([{"tokens": tokens}]))) as server:
        assert run_transcribe(request(server, audio, config=config)).exit_status == 0
    assert capsys.readouterr().out == "one two\nthree\n"


def test_messages(server: LocalServer, audio: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_transcribe(request(server, audio, format=OutputFormat.JSON_LINES))
    messages = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    words = [token["text"] for message in messages for token in message["tokens"]]
    assert " four" in words
    assert messages[-1]["finished"] is True


def word(text: str, start_ms: int, end_ms: int) -> dict[str, Any]:
    return {"text": text, "start_ms": start_ms, "end_ms": end_ms, "confidence": 0.95}


def test_a_document(server: LocalServer, audio: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_transcribe(request(server, audio, format=OutputFormat.JSON))
    document = json.loads(capsys.readouterr().out)
    tokens = document.pop("tokens")
    assert [token["text"] for token in tokens] == ["one", " two", " three", " four"]
    assert all(token["is_final"] for token in tokens)
    assert document == {
        "outcome": "finished",
        "interrupted": False,
        "error": None,
        "text": "one two\nthree four",
        "utterances": [
            {
                "index": 0,
                "text": "one two",
                "start_ms": 0,
                "end_ms": 200,
                "words": [word("one", 0, 100), word("two", 100, 200)],
            },
            {
                "index": 1,
                "text": "three four",
                "start_ms": 300,
                "end_ms": 500,
                "words": [word("three", 300, 400), word("four", 400, 500)],
            },
        ],
    }


def test_a_document_of_a_failure(audio: str, capsys: pytest.CaptureFixture[str]) -> None:
    with run_in_thread(scripted_server(api_key=KEY)) as server:
        end = run_transcribe(request(server, audio, format=OutputFormat.JSON))
    assert end.exit_status == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["outcome"], document["text"]) == ("server_error", "")
    error = document["error"]
    assert (error["type"], error["error_code"]) == ("SonioxAuthenticationError", 401)
    assert error["error_type"] == "unauthenticated"
    assert error["request_id"]


def test_a_document_without_a_session(audio: str, capsys: pytest.CaptureFixture[str]) -> None:
    server = scripted_server()
    with run_in_thread(server):
        pass
    end = run_transcribe(request(server, audio, format=OutputFormat.JSON))
    assert end.exit_status == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "SonioxConnectionError"
    assert "error_code" not in document["error"]


def test_an_unfinished_utterance_is_written_too(
    audio: str, capsys: pytest.CaptureFixture[str]
) -> None:
    messages: list[dict[str, Any]] = [
        {"tokens": [{"text": "so", "is_final": True}, {"text": " far", "is_final": False}]},
        {"error_code": 503, "error_type": "service_unavailable", "error_message": "again"},
    ]
    with run_in_thread(LocalServer(recognizer=scripted(messages))) as server:
        end = run_transcribe(request(server, audio))
    assert (end.outcome, end.exit_status) == (Outcome.SERVER_ERROR, 1)
    assert capsys.readouterr().out == "so far\n"


@pytest.mark.parametrize(
    ("wish", "token", "complaint"),
    [
        ({"enable_speaker_diarization": True}, {}, "tell speakers apart (--diarization)"),
        ({"enable_speaker_diarization": True}, {"speaker": "1"}, None),
        (
            {"enable_language_identification": True},
            {},
            "tell which language is spoken (--language-identification)",
        ),
        ({"enable_language_identification": True}, {"language": "en"}, None),
        ({"translation": {"type": "one_way", "target_language": "es"}}, {}, "translate"),
        (
            {"translation": {"type": "one_way", "target_language": "es"}},
            {"translation_status": "none"},
            None,
        ),
    ],
)
def test_what_the_recognizer_cannot_do_is_told_once(
    wish: dict[str, Any],
    token: dict[str, Any],
    complaint: str | None,
    audio: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = {"model": "m", "audio_format": "pcm_s16le", "sample_rate": 16_000, "num_channels": 1}
    config = RealtimeSTTConfig.model_validate({**fields, **wish})
    words = [{"text": text, "is_final": True, **token} for text in ("one", " two")]
    with run_in_thread(LocalServer(recognizer=scripted([{"tokens": words}]))) as server:
        assert run_transcribe(request(server, audio, config=config)).exit_status == 0
    expected = "" if complaint is None else f"soniox-rt: the server did not {complaint}; "
    error = capsys.readouterr().err
    assert error.startswith(expected)
    assert error.count("\n") == (0 if complaint is None else 1)


def test_where_nothing_was_said_nothing_is_missed(
    audio: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RealtimeSTTConfig(
        model="m",
        audio_format="pcm_s16le",
        sample_rate=16_000,
        num_channels=1,
        enable_speaker_diarization=True,
    )
    with run_in_thread(LocalServer(recognizer=scripted([]))) as server:
        assert run_transcribe(request(server, audio, config=config)).exit_status == 0
    assert capsys.readouterr().err == ""


def test_a_translation_is_shown_with_its_original(
    audio: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = [
        result(token("Hello.", translation_status="original"), endpoint(), start_ms=None),
        result(token("Hola.", translation=True), start_ms=None),
        result(token("Goodbye.", translation_status="original"), endpoint(), start_ms=None),
        result(token("Adiós.", translation=True), start_ms=None),
    ]
    with run_in_thread(LocalServer(recognizer=scripted(script))) as server:
        run_transcribe(request(server, audio))
        run_transcribe(request(server, audio, format=OutputFormat.JSON))
    text, _, document = capsys.readouterr().out.partition("{")
    assert text == "Hello.\n    Hola.\nGoodbye.\n    Adiós.\n"
    utterances = json.loads("{" + document)["utterances"]
    assert [(utterance["text"], utterance["translation"]) for utterance in utterances] == [
        ("Hello.", "Hola."),
        ("Goodbye.", "Adiós."),
    ]


# In a process of its own


@pytest.mark.parametrize("options", [(), ("--sync",)])
def test_the_program_transcribes_a_file(
    meeting_server: LocalServer, options: tuple[str, ...]
) -> None:
    done = run_program(
        "transcribe",
        MEETING,
        "--url",
        meeting_server.url,
        "--speed",
        "20",
        "--endpoint-detection",
        *options,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert ESCAPE not in done.stdout
    assert done.stdout.decode().splitlines() == MEETING_LINES


@pytest.mark.parametrize("options", [(), ("--sync",)])
@pytest.mark.parametrize("output", ["jsonl", "json"])
def test_the_program_transcribes_standard_input(
    server: LocalServer, output: str, options: tuple[str, ...]
) -> None:
    done = run_program(
        "transcribe",
        "-",
        "--url",
        server.url,
        "--format",
        output,
        "--no-throttle",
        *RAW_OPTIONS,
        *options,
        audio=SECOND,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"four" in done.stdout
    documents = done.stdout.splitlines() if output == "jsonl" else [done.stdout]
    assert all(isinstance(json.loads(document), dict) for document in documents)


def test_the_service_is_sent_what_the_options_say() -> None:
    factory = RecordingFactory()
    with run_in_thread(LocalServer(recognizer=factory, api_key=KEY)) as server:
        done = run_program(
            "transcribe",
            "-",
            "--url",
            server.url,
            "--no-throttle",
            "--language-hint",
            "en",
            "--translate-to",
            "es",
            *RAW_OPTIONS,
            audio=SECOND,
            variables={"SONIOX_API_KEY": KEY},
        )
    assert done.returncode == 0
    (config,) = factory.configs
    assert config.model_dump(exclude_none=True) == {
        "model": "stt-rt-v5",
        "audio_format": "pcm_s16le",
        "sample_rate": 16_000,
        "num_channels": 1,
        "language_hints": ["en"],
        "translation": {"type": "one_way", "target_language": "es"},
    }


def assert_one_line(output: bytes, start: str) -> None:
    text = output.decode()
    assert text.startswith(f"soniox-rt: {start}")
    assert text.count("\n") == 1
    assert KEY not in text


@pytest.mark.parametrize("options", [(), ("--sync",)])
def test_a_wrong_key_is_told_in_one_line(options: tuple[str, ...]) -> None:
    with run_in_thread(scripted_server(api_key="another")) as server:
        done = run_program(
            "transcribe",
            MEETING,
            "--url",
            server.url,
            *options,
            variables={"SONIOX_API_KEY": KEY},
        )
    assert (done.returncode, done.stdout) == (1, b"")
    assert_one_line(done.stderr, "the server ended the session with ")
    assert b"check the API key (SONIOX_API_KEY)" in done.stderr


@pytest.mark.parametrize("options", [(), ("--sync",)])
def test_a_server_that_is_not_there_is_told_in_one_line(options: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = run_program("transcribe", MEETING, "--url", f"ws://127.0.0.1:{port}/", *options)
    assert (done.returncode, done.stdout) == (1, b"")
    assert_one_line(done.stderr, f"cannot connect to 127.0.0.1:{port}")


@interrupts
@pytest.mark.parametrize("options", [(), ("--sync",)])
def test_ctrl_c_prints_what_there_is(server: LocalServer, options: tuple[str, ...]) -> None:
    arguments = ("transcribe", "-", "--url", server.url, "--endpoint-detection", "--no-throttle")
    with started_program(*arguments, *RAW_OPTIONS, *options) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Enough for the first line, and for half of the second; the end never comes.
        process.stdin.write(SECOND[:14_000])
        process.stdin.flush()
        assert line_of(process.stdout) == "one two"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stdout.read() == b"three four\n"
        assert process.stderr is not None
        assert process.stderr.read() == b"soniox-rt: finishing; Ctrl-C again stops at once\n"


@interrupts
@pytest.mark.parametrize("options", [(), ("--sync",)])
def test_a_second_ctrl_c_stops_at_once(options: tuple[str, ...]) -> None:
    held = HeldRecognizer()
    with run_in_thread(LocalServer(recognizer=held)) as server:
        arguments = ("transcribe", "-", "--url", server.url, "--no-throttle", "--format", "jsonl")
        with started_program(*arguments, *RAW_OPTIONS, *options) as process:
            assert process.stdin is not None
            process.stdin.write(SECOND)
            process.stdin.close()
            assert "first" in line_of(process.stdout)
            process.send_signal(signal.SIGINT)
            # Two signals at once may arrive as one.
            assert "again stops at once" in line_of(process.stderr)
            process.send_signal(signal.SIGINT)
            assert process.wait() == 130
            held.released.set()


@pytest.mark.parametrize("output", [OutputFormat.TEXT, OutputFormat.JSON_LINES])
def test_a_stop_is_announced_where_nothing_else_is_mixed_in(
    server: LocalServer,
    audio: str,
    output: OutputFormat,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupted(Transcript):
        def feed(self, event: RealtimeEvent, now: float | None = None) -> TranscriptUpdate:
            if not self.utterances and not self.provisional_text:
                signal.raise_signal(signal.SIGINT)
            return super().feed(event, now)

    monkeypatch.setattr(transcribe, "Transcript", Interrupted)
    end = run_transcribe(request(server, audio, format=output, pace=Pace(5.0)))
    assert end.exit_status == 130
    output_text = capsys.readouterr()
    assert output_text.err.startswith("soniox-rt: finishing; Ctrl-C again stops at once\n")
    assert "one" in output_text.out


@interrupts
def test_a_reader_that_goes_away_ends_it_quietly(server: LocalServer) -> None:
    arguments = ("transcribe", "-", "--url", server.url, "--format", "jsonl", "--no-throttle")
    with started_program(*arguments, *RAW_OPTIONS) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(SECOND[:8_000])
        process.stdin.flush()
        assert line_of(process.stdout)
        process.stdout.close()
        process.stdin.write(SECOND)
        process.stdin.close()
        assert process.wait() == 1
        assert process.stderr.read() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="a closed standard input is POSIX's")
def test_standard_input_that_is_closed() -> None:
    command = f'"{sys.executable}" -m soniox_adapters transcribe - --url ws://127.0.0.1:1/ <&-'
    assert os.waitstatus_to_exitcode(os.system(f"{command} 2>/dev/null")) == 1
