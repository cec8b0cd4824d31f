"""`soniox-rt transcribe --trace`, `replay` and `inspect`."""

from __future__ import annotations

from pathlib import Path

import pytest

from soniox_adapters.cli import traces
from soniox_adapters.cli.application import run
from soniox_adapters.server import LocalServer
from soniox_adapters.testing import RecordedStream, ScriptedServer, Simulation, endpoint, token
from soniox_proto import RealtimeSTTConfig, RealtimeSTTStream, SonioxConnectionError

from .program import run_program
from .servers import RAW_OPTIONS, SECOND

URL = "wss://localhost/x"
KEY = "key-that-must-not-show-0123456789"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace of a session with a bit of everything."""
    config = RealtimeSTTConfig(model="m")
    recorded = RecordedStream(RealtimeSTTStream(URL, config, api_key=KEY), url=URL)
    server = ScriptedServer()
    server.after_audio(seconds=1).say(token("Good mor", final=False))
    server.after_audio(seconds=2).say("Good morning.", token(" Ho", final=False), endpoint())
    server.after_audio(seconds=3).send({"tokens": [], "total_audio_proc_ms": 3_000})
    simulation = Simulation(recorded, server).connect()
    simulation.stream_audio(3.0)
    simulation.run(60.0)
    recorded.finish(simulation.now)
    simulation.run()
    path = tmp_path / "trace.jsonl"
    path.write_text(recorded.trace().dumps(), encoding="utf-8")
    return path


@pytest.mark.parametrize("options", [(), ("--sync",), ("--no-trace-audio", "--no-trace-text")])
def test_transcribe_records_a_trace(
    server: LocalServer, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "trace.jsonl"
    command = ("transcribe", "-", "--url", server.url, "--api-key", KEY, "--trace", str(path))
    finished = run_program(*command, *RAW_OPTIONS, *options, audio=SECOND)
    assert (finished.returncode, finished.stderr) == (0, b"")
    text = path.read_text(encoding="utf-8")
    assert KEY not in text
    assert ("three" in text) == ("--no-trace-text" not in options)
    replayed = run_program("replay", str(path))
    assert replayed.returncode == 0
    assert b"went as it was recorded" in replayed.stderr
    if "--no-trace-text" not in options:
        assert replayed.stdout.split() == finished.stdout.split()


def test_a_trace_that_cannot_be_written(server: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "trace.jsonl"
    command = ("transcribe", "-", "--url", server.url, "--trace", str(path))
    finished = run_program(*command, *RAW_OPTIONS, audio=SECOND)
    assert finished.returncode == 1
    assert finished.stdout == b""
    assert b"cannot write the trace to" in finished.stderr


def test_a_replay_with_captions(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(trace), "--speed", "1000"]) == 0
    assert capsys.readouterr().out == "Good morning.<end> Ho\n".replace("<end>", "")
    assert run(["replay", str(trace), "--speed", "0"]) == 2


def test_captions_on_a_terminal(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []

    class Screen:
        def __init__(self, **options: object) -> None:
            pass

        def __enter__(self) -> Screen:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

        def update(self, text: object, *, refresh: bool) -> None:
            shown.append(str(text))

    class Terminal:
        is_terminal = True

    monkeypatch.setattr(traces, "Live", Screen)
    monkeypatch.setattr(traces, "output_console", Terminal)
    assert traces.run_replay(str(trace), 1000.0) == 0
    assert shown[0] == "Good mor"
    assert "Good morning." in str(shown[1])


def test_a_replay_that_goes_differently(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = trace.read_text(encoding="utf-8")
    trace.write_text(text.replace('"position_ms": 1820', '"position_ms": 1821'), encoding="utf-8")
    assert run(["replay", str(trace)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "recorded: " in shown.err
    assert '"position_ms": 1820' in shown.err


def test_a_timeline(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(trace)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "wss://localhost/x  model=m audio_format=auto"
    assert lines[1:4] == [
        "     0.000  - connect",
        "     0.000  - opened",
        "     0.000  > GET /x HTTP/1.1",
    ]
    text = "\n".join(lines)
    for line in (
        "     0.000  > audio, 3200 bytes (10 times, until 0.900 s)",
        "     0.900  < ('Good mor')  at 1000 ms",
        "     1.900  < 'Good morning.<end>' (' Ho')  at 2000 ms",
        "     1.900  ! EndpointDetected token_index=2 position_ms=1820",
        "     2.900  < progress  at 3000 ms",
        '> {"type":"keepalive"}',
        "> ping=00000001",
        "    63.000  > end of audio",
        "    63.160  < finished  at 3000 ms",
        "! Closed outcome=FINISHED code=1000",
    ):
        assert line in text, text


def test_a_timeline_of_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = RecordedStream(RealtimeSTTStream(URL, RealtimeSTTConfig(model="m")), url=URL)
    empty = tmp_path / "empty"
    empty.write_text(stream.trace().dumps(), encoding="utf-8")
    assert run(["inspect", str(empty)]) == 0
    assert capsys.readouterr().out == "wss://localhost/x  model=m audio_format=auto\n"
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    link.failed(SonioxConnectionError("no way " * 50), 1.0)
    path = tmp_path / "failed"
    path.write_text(stream.trace().dumps(), encoding="utf-8")
    assert run(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("     1.000  - failed class=SonioxConnectionError text=no way")
    assert lines[2].endswith("...")

    server = ScriptedServer()
    server.at(1.0).error(503)
    stream = RecordedStream(RealtimeSTTStream(URL, RealtimeSTTConfig(model="m")), url=URL)
    Simulation(stream, server).connect().run()
    path.write_text(stream.trace().dumps(), encoding="utf-8")
    assert run(["inspect", str(path)]) == 0
    assert "< error 503 service_unavailable: Cannot continue" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["replay", "inspect"])
def test_files_that_are_no_traces(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content, problem in (
        ("missing", None, "cannot read"),
        ("binary", b"\xff\xfe\xfd", "is not a trace: it is not text"),
        ("text", b"hello", "line 1 of the trace is not JSON"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        assert run([command, str(path)]) == 1
        assert problem in capsys.readouterr().err
