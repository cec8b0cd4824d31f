"""Local servers for the command line to talk to."""

from __future__ import annotations

import threading
from pathlib import Path

from soniox_adapters.server import LocalServer, Recognizer, RecognizerFactory, scripted
from soniox_proto import RealtimeEvent, RealtimeSTTConfig

__all__ = [
    "MEETING",
    "MEETING_LINES",
    "RAW_OPTIONS",
    "SECOND",
    "HeldRecognizer",
    "RecordingFactory",
    "scripted_server",
]

MEETING = str(Path(__file__).parents[2] / "soniox_adapters" / "server" / "samples" / "meeting.wav")
"""The sample recording."""

MEETING_LINES = [
    "good morning everyone welcome to the meeting",
    "today we will talk about the weather in the city and the price of water",
]
"""What is said in it."""

RAW_OPTIONS = ("--audio-format", "pcm_s16le", "--sample-rate", "16000", "--num-channels", "1")
"""Options for audio without a header, as `SECOND` is."""

SECOND = bytes(32_000)
"""A second of silence."""


def scripted_server(
    text: str = "one two\nthree four", *, api_key: str | None = None
) -> LocalServer:
    """Return a server that hears two words and a pause in 0.3 s, whatever the audio."""
    return LocalServer(recognizer=scripted(text, ms_per_word=100, delay_ms=0), api_key=api_key)


class RecordingFactory:
    """A recognizer factory that remembers the configurations of its streams."""

    def __init__(self) -> None:
        self.configs: list[RealtimeSTTConfig] = []
        self._factory: RecognizerFactory = scripted(
            [{"tokens": [{"text": "one two", "is_final": True}]}]
        )

    def __call__(self, config: RealtimeSTTConfig) -> Recognizer:
        self.configs.append(config)
        return self._factory(config)


class HeldRecognizer:
    """A recognizer that hears a word at once, and whose end has to be released."""

    def __init__(self) -> None:
        self.finishing = threading.Event()
        self.released = threading.Event()
        self._heard = False

    def __call__(self, config: RealtimeSTTConfig) -> HeldRecognizer:
        return self

    final_audio_proc_ms = 0
    total_audio_proc_ms = 100

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        if self._heard:
            return []
        self._heard = True
        tokens = [{"text": "first", "is_final": True}, {"text": " second", "is_final": False}]
        return [RealtimeEvent.model_validate({"tokens": tokens})]

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        return []

    def finish(self) -> list[RealtimeEvent]:
        self.finishing.set()
        self.released.wait()
        return []

    def close(self) -> None:
        self.released.set()
