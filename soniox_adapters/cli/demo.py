"""`soniox-rt demo`: transcribe a sample on this machine, through a real WebSocket.

It lets new users see the library work before they have an API key.
"""

from __future__ import annotations

import asyncio
import secrets
from importlib.resources import files
from typing import Final

from rich.console import Console
from rich.text import Text

from soniox_adapters.cli.captions import Captions, output_console
from soniox_adapters.cli.configuration import DEFAULT_MODEL
from soniox_adapters.cli.lag import LagMeter
from soniox_adapters.cli.reconnecting import Reconnections
from soniox_adapters.cli.recording import Recording, open_recording, recording_of_bytes
from soniox_adapters.cli.sample_script import sample_recognizer
from soniox_adapters.cli.streaming import Pace, StreamEnd, stream_async, stream_blocking
from soniox_adapters.cli.wording import format_seconds
from soniox_adapters.client import AsyncSonioxClient, SonioxClient
from soniox_adapters.server import Drop, LocalServer, pocketsphinx_installed, run_in_thread
from soniox_proto import (
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    ReconnectPolicy,
    SonioxRealtimeError,
    SonioxValidationError,
    Transcript,
)

__all__ = ["run_demo"]

_SAMPLE: Final = "meeting.wav"

_CHUNK_SECONDS: Final = 0.02
"""Small, so that waiting for chunks adds little to the measured lag."""

_NO_RECOGNIZER: Final = (
    "pocketsphinx is not installed, so a scripted recognizer shows the demo; "
    "for real recognition: pip install 'soniox-proto[local]'"
)


def run_demo(
    *,
    path: str | None = None,
    speed: float = 1.0,
    blocking: bool = False,
    drop_at: float | None = None,
) -> StreamEnd:
    """Run the demo, and return how its stream ended.

    Args:
        path: A recording to use instead of the sample.
        speed: Seconds of audio to play per second.
        blocking: Whether to use the blocking session.
        drop_at: Seconds of audio after which the connection is dropped; None for never.

    Raises:
        SonioxError: The recording cannot be opened, or the server cannot start.
    """
    console = output_console()
    key = secrets.token_hex()
    faults = [] if drop_at is None else [Drop(after_ms=1000 * drop_at)]
    with _sample() if path is None else open_recording(path) as recording:
        if pocketsphinx_installed():
            recognizer = "pocketsphinx, offline"
            server = LocalServer(recognizer="pocketsphinx", api_key=key, faults=faults)
        elif path is None:
            console.print(_NO_RECOGNIZER, soft_wrap=not console.is_terminal)
            recognizer = "scripted"
            script = sample_recognizer(_sample_bytes())
            server = LocalServer(recognizer=script, api_key=key, faults=faults)
        else:
            raise SonioxValidationError(
                "a recording of your own needs a real recognizer: pip install 'soniox-proto[local]'"
            )
        demo = _Demo(console, recording, recognizer, speed, reconnects=drop_at is not None)
        end = demo.run_blocking(server, key) if blocking else asyncio.run(demo.run(server, key))
        demo.conclude(end, with_hint=path is None)
    if end.outcome is Outcome.FINISHED and not demo.transcript.text and not end.interrupted:
        failure = SonioxRealtimeError("no speech was recognized in the recording")
        return StreamEnd(end.outcome, failure, end.interrupted)
    return end


class _Demo:
    """One run of the demo on a console."""

    def __init__(
        self,
        console: Console,
        recording: Recording,
        recognizer: str,
        speed: float,
        *,
        reconnects: bool,
    ) -> None:
        self._reconnections = Reconnections() if reconnects else None
        self.transcript = Transcript()
        self._console = console
        self._recording = recording
        self._recognizer = recognizer
        self._pace = Pace(speed, _CHUNK_SECONDS)
        self._config = RealtimeSTTConfig(model=DEFAULT_MODEL, enable_endpoint_detection=True)
        self._captions = Captions(console, self.transcript, recording, times=True)
        self._lag = LagMeter(speed, _CHUNK_SECONDS)

    @property
    def _policy(self) -> ReconnectPolicy | None:
        return None if self._reconnections is None else self._reconnections.policy

    async def run(self, server: LocalServer, key: str) -> StreamEnd:
        """Run it through an async session."""
        async with server:
            self._introduce(server.url)
            client = AsyncSonioxClient(api_key=key, websocket_base_url=server.url)
            session = client.realtime.stt.connect(
                config=self._config, proxy=None, reconnect=self._policy
            )
            with self._captions:
                return await stream_async(session, self._recording, self._pace, self)

    def run_blocking(self, server: LocalServer, key: str) -> StreamEnd:
        """Run it through a blocking session."""
        with run_in_thread(server):
            self._introduce(server.url)
            client = SonioxClient(api_key=key, websocket_base_url=server.url)
            session = client.realtime.stt.connect(
                config=self._config, proxy=None, reconnect=self._policy
            )
            with self._captions:
                return stream_blocking(session, self._recording, self._pace, self)

    def message(self, raw: bytes, event: RealtimeEvent) -> None:
        """Show the utterances that the message completes."""
        at = self._recording.played
        update = self.transcript.feed(event, at)
        self._lag.message(event, at)
        for utterance in update.completed:
            self._lag.utterance(utterance)
        self._captions.show(update)

    def stopping(self) -> None:
        """Show that the program is waiting for the rest."""
        self._captions.announce_stop()

    def conclude(self, end: StreamEnd, *, with_hint: bool) -> None:
        """Show the rest of the transcript, and how far the text lagged behind the speech."""
        update = self.transcript.finish()
        self._captions.show(update)
        for utterance in update.completed:
            self._lag.utterance(utterance)
        lag = self._lag.result()
        summary = None if self._reconnections is None else self._reconnections.summary(end.stats)
        if end.problem is not None or end.interrupted or lag is None:
            if summary is not None:
                self._fact("Connection", summary)
            return
        self._console.print()
        if summary is not None:
            self._fact("Connection", summary)
        self._fact(
            "Lag",
            f"final text: median {lag.median_final:.2f} s, longest {lag.longest_final:.2f} s "
            "after the end of speech",
        )
        if lag.median_caption is not None:
            self._fact("", f"live text:  median {lag.median_caption:.2f} s behind the voice")
        if with_hint:
            self._fact("Next", "soniox-rt demo --file YOUR.wav, or soniox-rt transcribe --help")

    def _introduce(self, url: str) -> None:
        speed = self._pace.speed
        pace = "at its own speed" if speed == 1.0 else f"at {speed:g} times its speed"
        duration = self._recording.duration
        length = "" if duration is None else f"{format_seconds(int(duration * 1000))} s, "
        self._fact("Server", url)
        self._fact("Recognizer", self._recognizer)
        self._fact("Recording", f"{self._recording.name}, {length}{pace}")
        self._console.print()
        self._console.print(Text(self._captions.heading, style="dim"))

    def _fact(self, name: str, value: str) -> None:
        self._console.print(Text.assemble((f"{name:<12}", "dim"), value), soft_wrap=True)


def _sample() -> Recording:
    return recording_of_bytes(_sample_bytes(), _SAMPLE)


def _sample_bytes() -> bytes:
    return (files("soniox_adapters.server") / "samples" / _SAMPLE).read_bytes()
