"""Standard output and standard error, whatever they are."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import pytest

from soniox_adapters.cli.output import conclude_output, say
from soniox_adapters.server import LocalServer

from .program import environment
from .servers import MEETING

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
full_disk = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")

CLOSED = "soniox-rt: cannot write to standard output: Bad file descriptor\n"
FULL = "soniox-rt: cannot write to standard output: No space left on device\n"


def run_in_shell(*arguments: str, redirection: str) -> tuple[int, str, str]:
    """Run the program under a shell that redirects its streams."""
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'exec "$@" {redirection}',
            "sh",
            sys.executable,
            "-m",
            "soniox_adapters",
            *list(arguments),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        timeout=45,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@posix
@pytest.mark.parametrize("output", ["text", "json", "jsonl"])
@pytest.mark.parametrize(
    ("redirection", "error"),
    [(">&-", CLOSED), pytest.param(">/dev/full", FULL, marks=full_disk)],
    ids=["closed", "full"],
)
def test_a_transcript_that_cannot_be_written(
    output: str, redirection: str, error: str, server: LocalServer
) -> None:
    arguments = ("transcribe", MEETING, "--url", server.url, "--no-throttle", "--format", output)
    options = ("--sync",) if output == "json" else ()
    assert run_in_shell(*arguments, *options, redirection=redirection) == (1, "", error)


@posix
@full_disk
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("serve", "--port", "0")])
def test_other_output_that_cannot_be_written(arguments: tuple[str, ...]) -> None:
    assert run_in_shell(*arguments, redirection=">/dev/full") == (1, "", FULL)


@posix
def test_every_stream_is_closed(server: LocalServer) -> None:
    arguments = ("transcribe", MEETING, "--url", server.url, "--no-throttle")
    assert run_in_shell(*arguments, redirection="<&- >&- 2>&-") == (1, "", "")


@posix
@pytest.mark.parametrize(
    "redirection", ["2>&-", pytest.param("2>/dev/full", marks=full_disk)], ids=["closed", "full"]
)
def test_nothing_depends_on_messages(redirection: str) -> None:
    status, output, _ = run_in_shell("transcribe", "nofile.wav", redirection=redirection)
    assert (status, output) == (1, "")


class Unwritable(io.StringIO):
    """A stream that cannot be written to."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, True), (errno.EPIPE, False)])
def test_output_that_waits_and_cannot_be_written(
    number: int, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Unwritable(number))
    assert not conclude_output()
    assert (capsys.readouterr().err != "") is told


def test_a_message_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb\x1b[31m")
    assert capsys.readouterr().err == "soniox-rt: a b[31m\n"
