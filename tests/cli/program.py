"""The command line as a person starts it: in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

__all__ = [
    "ESCAPE",
    "end_program",
    "environment",
    "line_of",
    "run_program",
    "started_program",
]

ESCAPE = b"\x1b"
"""What every control code of a terminal begins with."""

_TIMEOUT = 45.0


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what would change the program's output."""
    dropped = ("SONIOX", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS", "LINES")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dropped) and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONIOENCODING": "utf-8", **(variables or {})}


def run_program(
    *arguments: str, audio: bytes | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end, with `audio` on standard input."""
    return subprocess.run(
        [sys.executable, "-m", "soniox_adapters", *arguments],
        input=audio,
        stdin=subprocess.DEVNULL if audio is None else None,
        capture_output=True,
        env=environment(variables),
        timeout=_TIMEOUT,
        check=False,
    )


@contextmanager
def started_program(
    *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program with pipes, and kill it if it is still there at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "soniox_adapters", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(variables),
        # Started in the background, this process may ignore Ctrl-C, and its children with it.
        preexec_fn=_heed_interrupts if os.name == "posix" else None,
    )
    try:
        yield process
    finally:
        end_program(process)


def end_program(process: subprocess.Popen[bytes]) -> None:
    """Kill the program if it is still there, and close its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def line_of(stream: IO[bytes] | None) -> str:
    """Return the next line of a pipe."""
    assert stream is not None
    return stream.readline().decode().rstrip("\r\n")


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
