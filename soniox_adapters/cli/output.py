"""Writing to standard output and error, even if that is a full disk, a broken pipe or closed."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Final, TextIO

import typer

from soniox_adapters.cli.wording import one_line

__all__ = ["PROGRAM", "conclude_output", "prepare_streams", "say"]

PROGRAM: Final = "soniox-rt"


def say(text: str) -> None:
    """Write a line to standard error. A failure to do so is ignored."""
    with suppress(OSError, ValueError):
        typer.echo(f"{PROGRAM}: {one_line(text)}", err=True)


def prepare_streams() -> None:
    """Replace standard streams that the program was started without.

    Python sets those to None. Their descriptors are free, so the next file or socket would get one,
    and anything that writes to standard output would write into it.
    """
    # In this order, because open takes the lowest free descriptor. Standard output is opened so
    # that writing fails, because losing the output is an error; losing messages is not.
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(descriptor):
            os.open(os.devnull, flags)
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = _writer(1)
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = _writer(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A transcript must not fail because the terminal's encoding lacks a character.
            stream.reconfigure(errors="replace")


def conclude_output(problem: OSError | None = None) -> bool:
    """Flush standard output; if that fails, report it and return False.

    `problem` is an error that a write raised earlier. A broken pipe is not reported, because its
    reader has chosen to stop.
    """
    if problem is None:
        try:
            sys.stdout.flush()
        except OSError as error:
            problem = error
    if problem is None:
        return True
    if problem.errno != errno.EPIPE:
        say(f"cannot write to standard output: {problem.strerror or problem}")
    # Python flushes once more when it exits, and would complain.
    with suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    return False


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _writer(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", closefd=False)
