"""`soniox-rt serve`."""

from __future__ import annotations

import logging
import re
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from soniox_adapters import (
    RealtimeSTTConfig,
    RealtimeSTTSession,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxError,
    SonioxServerError,
    render_tokens,
)
from soniox_adapters.cli import serve
from soniox_adapters.cli.application import run
from soniox_adapters.cli.serve import RecognizerChoice, run_serve
from soniox_adapters.server import LocalServer, Recognizer

from .program import ESCAPE, line_of, started_program
from .servers import SECOND

KEY = "key-of-the-server"
CONFIG = RealtimeSTTConfig(model="m", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1)


def transcribed(url: str, *, api_key: str | None = None) -> str:
    with RealtimeSTTSession(url, CONFIG, api_key, proxy=None) as session:
        session.send_bytes([SECOND])
        tokens = [token for event in session.receive_events() for token in event.tokens]
    return render_tokens([token for token in tokens if token.is_final], [])


def url_in(line: str) -> str:
    found = re.match(r"Listening on (ws://\S+) with ", line)
    assert found is not None
    return found[1]


class Announcement:
    """Takes the line that tells the URL, and stops the server with a signal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
        self.line = ""
        self._signal = number
        monkeypatch.setattr(serve, "announce", self)

    def __call__(self, line: str) -> None:
        assert not self.line
        self.line = line
        signal.raise_signal(self._signal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    announcement = Announcement(monkeypatch, number)
    run_serve(host="127.0.0.1", port=0, recognizer=RecognizerChoice.SCRIPTED)
    assert re.fullmatch(
        r"Listening on ws://127\.0\.0\.1:[1-9]\d*/\S+ with scripted; Ctrl-C stops it",
        announcement.line,
    )


@pytest.mark.parametrize(("installed", "name"), [(True, "pocketsphinx"), (False, "scripted")])
def test_the_recognizer_is_what_is_installed(
    installed: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[Any] = []
    original = LocalServer

    def make(*, recognizer: str, **options: Any) -> Any:
        chosen.append(recognizer)
        return original(recognizer="scripted", **options)

    monkeypatch.setattr(serve, "pocketsphinx_installed", lambda: installed)
    monkeypatch.setattr(serve, "LocalServer", make)
    announcement = Announcement(monkeypatch)
    run_serve(host="127.0.0.1", port=0)
    assert chosen == [name]
    assert f" with {name};" in announcement.line


def test_a_script_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "talk.txt"
    script.write_text("hello")
    announcement = Announcement(monkeypatch)
    run_serve(host="127.0.0.1", port=0, script=script)
    assert " with script talk.txt;" in announcement.line


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SonioxConnectionError, match="cannot listen"):
            run_serve(host="127.0.0.1", port=port, recognizer=RecognizerChoice.SCRIPTED)
        arguments = ["serve", "--port", str(port), "--recognizer", "scripted"]
        assert run(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("soniox-rt: cannot listen on host '127.0.0.1'")
    assert error.endswith("a port that is free (0 picks one)\n")


def test_a_recognizer_that_fails_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(config: RealtimeSTTConfig) -> Recognizer:
        raise OSError("no\nmodel")

    def transcribe_and_stop(line: str) -> None:
        thread = threading.Thread(target=attempt, args=(url_in(line),))
        thread.start()

    def attempt(url: str) -> None:
        with pytest.raises(SonioxServerError):
            transcribed(url)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    original = LocalServer
    monkeypatch.setattr(
        serve, "LocalServer", lambda *, recognizer, **rest: original(recognizer=broken, **rest)
    )
    monkeypatch.setattr(serve, "announce", transcribe_and_stop)
    run_serve(host="127.0.0.1", port=0, recognizer=RecognizerChoice.SCRIPTED)
    error = capsys.readouterr().err
    assert re.search(r"^soniox-rt: request \S+: the recognizer failed: OSError\('no", error, re.M)
    assert "Traceback" not in error
    assert error.count("\n") == 4
    assert logging.getLogger("soniox_adapters.server").handlers == []


def test_faults_happen_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def transcribe_and_stop(line: str) -> None:
        threading.Thread(target=attempts, args=(url_in(line),)).start()

    told: list[str] = []

    def end_of(url: str) -> str:
        try:
            transcribed(url)
        except SonioxError as error:
            return type(error).__name__
        return "transcript"

    def attempts(url: str) -> None:
        told.extend(end_of(url) for _ in range(3))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    monkeypatch.setattr(serve, "announce", transcribe_and_stop)
    arguments = ["serve", "--port", "0", "--recognizer", "scripted"]
    assert run([*arguments, "--fault", "refuse", "--fault", "unavailable@500"]) == 0
    assert told == ["SonioxHandshakeError", "SonioxServiceUnavailableError", "transcript"]
    assert "is refused with HTTP status 503" in capsys.readouterr().err


def test_what_is_no_fault_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--port", "0", "--fault", "explode"]) == 1
    assert "'explode' is no fault; expected one of drop," in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_serves_any_client_until_it_is_stopped(number: int, tmp_path: Path) -> None:
    script = tmp_path / "talk.txt"
    script.write_text("hello world")
    options = ("--port", "0", "--script", str(script))
    with started_program("serve", *options, variables={"SONIOX_LOCAL_SERVER_KEY": KEY}) as process:
        line = line_of(process.stdout)
        url = url_in(line)
        assert transcribed(url, api_key=KEY) == "hello world"
        with pytest.raises(SonioxAuthenticationError):
            transcribed(url, api_key="another")
        # A client that is still there does not hold it up.
        with RealtimeSTTSession(url, CONFIG, KEY, proxy=None):
            process.send_signal(number)
            assert process.wait() == 0
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == b""
        told = [
            re.sub(r"127\.0\.0\.1:\d+", "CLIENT", line)
            for line in process.stderr.read().decode().splitlines()
        ]
        assert told == [
            "soniox-rt: CLIENT connected",
            "soniox-rt: CLIENT has its whole transcript",
            "soniox-rt: CLIENT connected",
            "soniox-rt: CLIENT failed: 401 unauthenticated: Invalid API key.",
            "soniox-rt: CLIENT left after the error",
            "soniox-rt: CLIENT connected",
            "soniox-rt: CLIENT left before its transcript was complete",
        ]
        assert KEY not in line
        assert ESCAPE not in line.encode()
