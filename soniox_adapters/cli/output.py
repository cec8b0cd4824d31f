"""Standard output and standard error, whatever they are: a terminal, a full disk, closed."""

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
    """Write a line to standard error. Nothing depends on whether that can be written."""
    with suppress(OSError, ValueError):
        typer.echo(f"{PROGRAM}: {one_line(text)}", err=True)


def prepare_streams() -> None:
    """Make the standard streams fit for use.

    Python leaves those out that the program was started without. Their descriptors would be taken
    by the next file or socket, and be written to by whatever writes to standard output.
    """
    # In this order: what is opened takes the lowest descriptor that is free. Output that goes
    # nowhere is an error, so writing to its descriptor has to fail; messages may get lost.
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(descriptor):
            os.open(os.devnull, flags)
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = _writer(1)
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = _writer(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # No transcript is to fail because a terminal lacks one of its letters.
            stream.reconfigure(errors="replace")


def conclude_output(problem: OSError | None = None) -> bool:
    """Write out what waits to be written; return False, having said so, if that is not possible.

    `problem` is an error of writing that was met before. A reader that went away is not told: it
    does not want to know, and nobody else does.
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
    # Python tries again at its exit, and would complain.
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
