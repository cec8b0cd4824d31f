"""Options, help pages and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from soniox_adapters import DEFAULT_WEBSOCKET_URL, REGIONS, Outcome, RealtimeSTTConfig
from soniox_adapters.cli import application
from soniox_adapters.cli.application import app, run
from soniox_adapters.cli.serve import RecognizerChoice
from soniox_adapters.cli.streaming import Pace, StreamEnd
from soniox_adapters.cli.transcribe import OutputFormat, TranscribeRequest
from soniox_proto import SonioxRealtimeError, SonioxValidationError, __version__

KEY = "key-that-must-not-show"
FINISHED = StreamEnd(Outcome.FINISHED, None, interrupted=False)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[TranscribeRequest]:
    """What would be transcribed."""
    taken: list[TranscribeRequest] = []

    def take(request: TranscribeRequest) -> StreamEnd:
        taken.append(request)
        return FINISHED

    monkeypatch.setattr(application, "run_transcribe", take)
    return taken


def request_of(requests: list[TranscribeRequest], *options: str) -> TranscribeRequest:
    assert run(["transcribe", "talk.wav", "--api-key", KEY, *options]) == 0
    return requests.pop()


def given(config: RealtimeSTTConfig) -> dict[str, Any]:
    fields = config.model_dump(exclude_none=True)
    defaults = {"model": "stt-rt-v5", "audio_format": "auto"}
    return {name: value for name, value in fields.items() if defaults.get(name) != value}


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"soniox-rt {__version__}\n")


def test_the_help_names_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for text in (
        "New here? Run soniox-rt demo",
        "demo        Watch speech become text: no API key, no network.",
        "transcribe  Transcribe a recording, or audio from a pipe.",
        "serve       Serve the protocol of Soniox on this machine.",
    ):
        assert text in result.output


@pytest.mark.parametrize("command", ["demo", "transcribe", "serve"])
def test_the_help_of_a_command_explains_every_option(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONIOX_API_KEY", KEY)
    monkeypatch.setenv("SONIOX_LOCAL_SERVER_KEY", KEY)
    result = CliRunner().invoke(app, [command, "-h"])
    assert result.exit_code == 0
    assert KEY not in result.output
    group: Any = typer.main.get_command(app)
    for parameter in group.commands[command].params:
        assert parameter.help
        for name in parameter.opts + parameter.secondary_opts:
            assert name.lower() in result.output.lower()


def test_the_many_options_are_shown_in_groups() -> None:
    output = CliRunner().invoke(app, ["transcribe", "--help"]).output
    headings = re.findall(r"^(\w[\w ]*):$", output, re.MULTILINE)
    assert headings == [
        "Arguments",
        "Service",
        "Audio",
        "Recognition",
        "End of utterances",
        "Translation",
        "Output",
        "Options",
    ]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ((), {}),
        (("--model", "stt-rt-v4"), {"model": "stt-rt-v4"}),
        (
            ("--audio-format", "mulaw", "--sample-rate", "8000", "--num-channels", "2"),
            {"audio_format": "mulaw", "sample_rate": 8000, "num_channels": 2},
        ),
        (("--language-hint", "en", "--language-hint", "es"), {"language_hints": ["en", "es"]}),
        (("--language-hints-strict",), {"language_hints_strict": True}),
        (("--no-language-hints-strict",), {"language_hints_strict": False}),
        (("--context", "about bees"), {"context": "about bees"}),
        (("--diarization",), {"enable_speaker_diarization": True}),
        (("--no-diarization",), {"enable_speaker_diarization": False}),
        (("--language-identification",), {"enable_language_identification": True}),
        (("--endpoint-detection",), {"enable_endpoint_detection": True}),
        (("--no-endpoint-detection",), {"enable_endpoint_detection": False}),
        (("--max-endpoint-delay-ms", "700"), {"max_endpoint_delay_ms": 700}),
        (("--endpoint-sensitivity", "-0.5"), {"endpoint_sensitivity": -0.5}),
        (("--endpoint-latency-adjustment-level", "3"), {"endpoint_latency_adjustment_level": 3}),
        (
            ("--translate-to", "es"),
            {"translation": {"type": "one_way", "target_language": "es"}},
        ),
        (
            ("--translate-between", "en", "es"),
            {"translation": {"type": "two_way", "language_a": "en", "language_b": "es"}},
        ),
        (("--client-reference-id", "call-7"), {"client_reference_id": "call-7"}),
    ],
)
def test_every_field_of_the_configuration_is_an_option(
    requests: list[TranscribeRequest], options: tuple[str, ...], fields: dict[str, Any]
) -> None:
    assert given(request_of(requests, *options).config) == fields


def test_no_field_was_forgotten() -> None:
    marks: Any = test_every_field_of_the_configuration_is_an_option
    cases: list[tuple[tuple[str, ...], dict[str, Any]]] = marks.pytestmark[0].args[1]
    assert {name for _, fields in cases for name in fields} == set(
        RealtimeSTTConfig.model_fields
    ) - {
        "extra_fields"  # Only a file of --config can say it.
    }


def test_context_and_configuration_from_files(
    requests: list[TranscribeRequest], tmp_path: Path
) -> None:
    context = tmp_path / "context.json"
    context.write_text(json.dumps({"general": {"topic": "bees"}, "terms": ["drone"]}))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model": "m", "language_hints": ["de"]}))
    request = request_of(
        requests, "--config", str(config), "--context-file", str(context), "--language-hint", "en"
    )
    assert given(request.config) == {
        "model": "m",
        "language_hints": ["en"],
        "context": {"general": [{"key": "topic", "value": "bees"}], "terms": ["drone"]},
    }


def test_where_to_connect(requests: list[TranscribeRequest]) -> None:
    assert request_of(requests).url == DEFAULT_WEBSOCKET_URL
    assert request_of(requests, "--region", "eu").url == REGIONS["eu"]
    assert request_of(requests, "--url", "ws://localhost:1/").url == "ws://localhost:1/"


def test_the_key_comes_from_the_environment(
    requests: list[TranscribeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONIOX_API_KEY", KEY)
    assert run(["transcribe", "talk.wav"]) == 0
    request = requests.pop()
    assert request.api_key == KEY
    assert KEY not in repr(request)


def test_another_service_needs_no_key(requests: list[TranscribeRequest]) -> None:
    assert run(["transcribe", "talk.wav", "--url", "ws://localhost:1/"]) == 0
    assert requests.pop().api_key is None


def test_the_rest_of_the_options(requests: list[TranscribeRequest]) -> None:
    request = request_of(requests)
    assert (request.path, request.pace) == ("talk.wav", Pace(1.0))
    assert (request.blocking, request.format) == (False, OutputFormat.TEXT)
    request = request_of(requests, "--sync", "--speed", "2", "--format", "jsonl")
    assert (request.pace, request.blocking) == (Pace(2.0), True)
    assert request.format is OutputFormat.JSON_LINES
    assert request_of(requests, "--no-throttle").pace == Pace(None)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--nothing"], "No such option: --nothing (see: soniox-rt --help)"),
        (["transcribe"], "(see: soniox-rt transcribe --help)"),
        (["transcribe", "x", "--translate-between", "en"], "(see: soniox-rt transcribe --help)"),
        (["transcribe", "x", "--region", "us", "--url", "ws://x/"], "--region or --url, not both"),
        (
            ["transcribe", "x", "--context", "a", "--context-file", "b"],
            "--context or --context-file, not both",
        ),
        (
            ["transcribe", "x", "--translate-to", "en", "--translate-between", "en", "de"],
            "--translate-to or --translate-between, not both",
        ),
        *(
            (["transcribe", "x", "--speed", speed], "--speed must be between 0.01 and 1000")
            for speed in ("0", "-1", "nan", "inf", "1e308", "1e-308")
        ),
        (["transcribe", "x", "--url", ""], "--url is empty"),
        (["transcribe", "x", "--format", "xml"], "--format"),
        (["transcribe", "x", "--output", "json"], "--output names a file, --format json"),
        (["demo", "--speed", "-1"], "--speed must be between 0.01 and 1000"),
        (["serve", "--port", "70000"], "--port"),
        (["serve", "--script", "x", "--recognizer", "pocketsphinx"], "needs the scripted"),
    ],
)
def test_usage_errors(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("soniox-rt: ")
    assert output.err.count("\n") == 1
    assert problem in output.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["x.wav"], "no API key: set the environment variable SONIOX_API_KEY"),
        (["x.wav", "--api-key", KEY, "--region", "moon"], "unknown region 'moon'"),
        (["x.wav", "--api-key", KEY, "--sample-rate", "0"], "invalid configuration: sample_rate: "),
        (["x.wav", "--api-key", KEY, "--audio-format", "mp5"], "unknown audio format 'mp5'"),
        (["x.wav", "--api-key", KEY, "--config", "no.json"], "cannot read no.json"),
        (["x.wav", "--api-key", KEY, "--context-file", "no.txt"], "cannot read no.txt"),
        (["no.wav", "--api-key", KEY], "cannot read no.wav"),
        (["", "--api-key", KEY], "the name of the audio file is empty"),
        (
            ["x.wav", "--api-key", KEY, "--audio-format", "mulaw"],
            "invalid configuration: audio_format 'mulaw' has no header",
        ),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["transcribe", *arguments]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"soniox-rt: {problem}")
    assert output.err.count("\n") == 1
    assert KEY not in output.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["transcribe", "x.wav", "--url", "ws://x/", "--config"],
        ["transcribe", "x.wav", "--url", "ws://x/", "--context-file"],
        ["serve", "--script"],
    ],
    ids=lambda arguments: arguments[-1],
)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe\0", "deep.json"),
        (b"{", "is not valid JSON"),
    ],
)
def test_files_that_cannot_be_used(
    arguments: list[str],
    content: bytes,
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "deep.json"
    path.write_bytes(content)
    assert run([*arguments, str(path)]) == 1
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_a_key_in_the_configuration_file_does_not_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"api_key": KEY}))
    assert run(["transcribe", "x.wav", "--url", "ws://x/", "--config", str(config)]) == 1
    error = capsys.readouterr().err
    assert "api_key: Extra inputs are not permitted" in error
    assert KEY not in error


def test_the_end_of_the_stream_decides_the_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end = StreamEnd(None, SonioxRealtimeError("gone\nwrong"), interrupted=False)
    monkeypatch.setattr(application, "run_transcribe", lambda request: end)
    result = CliRunner().invoke(app, ["transcribe", "x", "--url", "ws://x/"])
    assert result.exit_code == 1
    assert run(["transcribe", "x", "--url", "ws://x/"]) == 1
    assert capsys.readouterr().err == "soniox-rt: gone wrong\n"


def test_the_demo_takes_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def note(**options: Any) -> StreamEnd:
        calls.append(options)
        return FINISHED

    monkeypatch.setattr(application, "run_demo", note)
    assert run(["demo"]) == 0
    assert run(["demo", "--file", "a.wav", "--speed", "3", "--sync", "--drop-at", "2.5"]) == 0
    assert calls == [
        {"path": None, "speed": 1.0, "blocking": False, "drop_at": None},
        {"path": "a.wav", "speed": 3.0, "blocking": True, "drop_at": 2.5},
    ]


def test_serve_takes_its_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(application, "run_serve", lambda **options: calls.append(options))
    script = tmp_path / "script.txt"
    assert run(["serve"]) == 0
    options = ["--host", "::1", "--port", "0", "--recognizer", "scripted", "--api-key", KEY]
    options += ["--script", str(script), "--max-streams", "9"]
    assert run(["serve", *options, "--fault", "drop", "--fault", "refuse*2"]) == 0
    assert calls == [
        {
            "host": "127.0.0.1",
            "port": 8765,
            "recognizer": None,
            "script": None,
            "api_key": None,
            "max_streams": None,
            "faults": (),
        },
        {
            "host": "::1",
            "port": 0,
            "recognizer": RecognizerChoice.SCRIPTED,
            "script": script,
            "api_key": KEY,
            "max_streams": 9,
            "faults": ["drop", "refuse*2"],
        },
    ]


def raising(error: BaseException) -> Callable[..., StreamEnd]:
    def fail(**options: Any) -> StreamEnd:
        raise error

    return fail


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_ctrl_c_where_nobody_handles_it(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "run_demo", raising(error))
    assert run(["demo"]) == 130


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "run_demo", raising(RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
        run(["demo"])


def test_errors_before_a_stream(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(application, "run_demo", raising(SonioxValidationError("no such thing")))
    assert run(["demo"]) == 1
    assert capsys.readouterr().err == "soniox-rt: no such thing\n"
