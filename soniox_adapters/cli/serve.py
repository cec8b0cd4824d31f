"""`soniox-rt serve`: run the local server for any client."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import typer

from soniox_adapters.cli.interruption import signals_handled_in_loop
from soniox_adapters.cli.output import say
from soniox_adapters.server import (
    LocalServer,
    load_script,
    parse_fault,
    pocketsphinx_installed,
    scripted,
)

__all__ = ["RecognizerChoice", "run_serve"]


class RecognizerChoice(str, Enum):
    """What turns the audio into text."""

    POCKETSPHINX = "pocketsphinx"
    """Real offline recognition of English."""
    SCRIPTED = "scripted"
    """A given text."""


def run_serve(
    *,
    host: str,
    port: int,
    recognizer: RecognizerChoice | None = None,
    script: Path | None = None,
    api_key: str | None = None,
    max_streams: int | None = None,
    faults: Sequence[str] = (),
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 picks one.
        recognizer: What turns audio into text; None for pocketsphinx if it is installed.
        script: A script to play; if given, the scripted recognizer is used in any case.
        api_key: Key that clients must send; None accepts all clients.
        max_streams: Maximum number of concurrent streams; None for the server's default.
        faults: What goes wrong, each as `parse_fault` reads it.

    Raises `SonioxError` if an argument is invalid, or the server cannot listen.
    """
    make_server = functools.partial(
        LocalServer,
        host=host,
        port=port,
        api_key=api_key,
        max_streams=max_streams or "auto",
        faults=[parse_fault(fault) for fault in faults],
    )
    if script is not None:
        server = make_server(recognizer=scripted(load_script(script)))
        name = f"script {script.name}"
    else:
        if recognizer is None:
            installed = pocketsphinx_installed()
            recognizer = RecognizerChoice.POCKETSPHINX if installed else RecognizerChoice.SCRIPTED
        server = make_server(recognizer=recognizer.value)
        name = recognizer.value
    with _clients_reported():
        asyncio.run(_serve(server, name))


class _LinesOnStandardError(logging.Handler):
    """Writes each log record as one line, followed by its exception if it has one."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        say(record.getMessage() if error is None else f"{record.getMessage()}: {error!r}")


@contextmanager
def _clients_reported() -> Generator[None, None, None]:
    """Report on standard error when clients connect, fail or leave."""
    logger = logging.getLogger("soniox_adapters.server")
    handler, level, propagate = _LinesOnStandardError(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def announce(line: str) -> None:
    """Write the line that says where the server listens."""
    typer.echo(line)


async def _serve(server: LocalServer, name: str) -> None:
    stopping = asyncio.Event()
    with signals_handled_in_loop(stopping.set, signal.SIGINT, signal.SIGTERM):
        async with server:
            announce(f"Listening on {server.url} with {name}; Ctrl-C stops it")
            await stopping.wait()
