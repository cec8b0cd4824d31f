"""The program on a terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from soniox_adapters.server import LocalServer, pocketsphinx_installed, run_in_thread

from .program import ESCAPE, end_program, environment
from .servers import MEETING_LINES, RAW_OPTIONS, SECOND, HeldRecognizer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")

DIM = b"\x1b[2m"
HIDE_CURSOR = b"\x1b[?25l"
SHOW_CURSOR = b"\x1b[?25h"


class Terminal:
    """A program on a pseudo terminal of 80 columns."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self.shown = b""
        self._screen = screen

    def read(self, until: Callable[[bytes], bool] = lambda shown: False) -> bytes:
        """Read until a condition holds, or the program ends."""
        while not until(self.shown):
            try:
                data = os.read(self._screen, 65_536)
            except OSError:
                # On Linux, that is how a terminal without programs ends.
                break
            if not data:
                break
            self.shown += data
        return self.shown


@contextmanager
def on_terminal(
    *arguments: str, audio: bytes | None = None, kind: str = "xterm-256color"
) -> Iterator[Terminal]:
    """Start the program on a terminal; standard input is a pipe that stays open."""
    screen, program_end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "soniox_adapters", *arguments],
        stdin=subprocess.PIPE,
        stdout=program_end,
        stderr=program_end,
        env=environment({"TERM": kind, "COLUMNS": "80", "LINES": "24"}),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(program_end)
    try:
        assert process.stdin is not None
        if audio is not None:
            process.stdin.write(audio)
            process.stdin.flush()
        yield Terminal(process, screen)
    finally:
        end_program(process)
        os.close(screen)


@pytest.mark.skipif(not pocketsphinx_installed(), reason="needs the extra local")
def test_the_demo_shows_captions_that_change() -> None:
    with on_terminal("demo", "--speed", "20") as terminal:
        shown = terminal.read()
        assert terminal.process.wait() == 0
    assert HIDE_CURSOR in shown
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)
    for line in MEETING_LINES:
        assert line.encode() in shown


def test_text_is_dim_while_it_may_change_and_firm_when_it_is_final() -> None:
    held = HeldRecognizer()
    with run_in_thread(LocalServer(recognizer=held)) as server:
        arguments = ("transcribe", "-", "--url", server.url, "--no-throttle", *RAW_OPTIONS)
        with on_terminal(*arguments, audio=SECOND) as terminal:
            terminal.read(lambda shown: b"first" + DIM + b" second" in shown)
            terminal.process.send_signal(signal.SIGINT)
            terminal.read(lambda shown: b"finishing; Ctrl-C again stops at once" in shown)
            held.released.set()
            shown = terminal.read()
            assert terminal.process.wait() == 130
    # What is left at the end is what became final, on a line of its own.
    assert re.search(rb"first(\x1b\[K)?\s*\n", shown)
    assert ESCAPE + b"[?25l" not in shown[shown.rindex(SHOW_CURSOR) :]


def test_messages_are_not_mixed_with_captions(server: LocalServer) -> None:
    arguments = ("transcribe", "-", "--url", server.url, "--format", "jsonl", *RAW_OPTIONS)
    with on_terminal(*arguments, audio=SECOND) as terminal:
        assert terminal.process.stdin is not None
        terminal.process.stdin.close()
        shown = terminal.read()
        assert terminal.process.wait() == 0
    assert b'"finished":true' in shown
    assert ESCAPE not in shown


def test_a_dumb_terminal_gets_plain_lines(server: LocalServer) -> None:
    arguments = ("transcribe", "-", "--url", server.url, "--no-throttle", *RAW_OPTIONS)
    with on_terminal(*arguments, audio=SECOND, kind="dumb") as terminal:
        assert terminal.process.stdin is not None
        terminal.process.stdin.close()
        shown = terminal.read()
        assert terminal.process.wait() == 0
    assert b"three four" in shown
    assert ESCAPE not in shown


def test_help_fits_and_is_plain() -> None:
    with on_terminal("transcribe", "--help") as terminal:
        shown = terminal.read()
        assert terminal.process.wait() == 0
    lines = shown.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert ESCAPE not in shown
