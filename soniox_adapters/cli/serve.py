"""`soniox-rt serve`: the local server, for any client."""

from __future__ import annotations

import asyncio
import signal
from enum import Enum
from pathlib import Path

import typer

from soniox_adapters.cli.interruption import signals_handled
from soniox_adapters.server import LocalServer, load_script, pocketsphinx_installed, scripted

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
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 picks one.
        recognizer: What turns audio into text; None for pocketsphinx where it is installed.
        script: What a scripted recognizer plays, which is then used whatever `recognizer` is.
        api_key: Key that clients must send; None lets everyone in.

    Raises `SonioxError` if an argument cannot be used, or the server cannot listen.
    """
    if script is not None:
        server = LocalServer(
            recognizer=scripted(load_script(script)), host=host, port=port, api_key=api_key
        )
        name = f"script {script.name}"
    else:
        if recognizer is None:
            installed = pocketsphinx_installed()
            recognizer = RecognizerChoice.POCKETSPHINX if installed else RecognizerChoice.SCRIPTED
        server = LocalServer(recognizer=recognizer.value, host=host, port=port, api_key=api_key)
        name = recognizer.value
    asyncio.run(_serve(server, name))


async def _serve(server: LocalServer, name: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    with signals_handled(
        lambda: loop.call_soon_threadsafe(stopping.set), signal.SIGINT, signal.SIGTERM
    ):
        async with server:
            typer.echo(f"Listening on {server.url} with {name}; Ctrl-C stops it")
            await stopping.wait()
