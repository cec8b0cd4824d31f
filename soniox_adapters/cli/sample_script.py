"""The text of the sample recording, for a demo without a real recognizer."""

from __future__ import annotations

from typing import Final

from soniox_adapters.server import Recognizer, RecognizerFactory, scripted
from soniox_proto import RealtimeEvent, RealtimeSTTConfig, Token
from soniox_proto.wav import WavReader

__all__ = ["sample_recognizer"]

_TEXT: Final = (
    "good morning everyone welcome to the meeting\n"
    "today we will talk about the weather in the city and the price of water"
)
_MS_PER_WORD: Final = 400
"""Makes the script take as long as the sample."""

_ENOUGH_BYTES: Final = 3200
"""Audio by which its place in the sample is found: a tenth of a second."""


def sample_recognizer(sample: bytes) -> RecognizerFactory:
    """Return a factory of recognizers that play the text from where the audio begins in the sample.

    So a stream that begins in the middle, because an earlier connection was lost, goes on there.

    Args:
        sample: The sample, a WAV file.
    """
    script = scripted(_TEXT, ms_per_word=_MS_PER_WORD)
    reader = WavReader()
    samples = reader.feed(sample)
    assert reader.format is not None, "the sample is a WAV file"
    rate = reader.format.bytes_per_second
    assert rate, "its samples are not compressed"
    bytes_per_second = rate

    def make_recognizer(config: RealtimeSTTConfig) -> Recognizer:
        recognizer = script(config)
        if config.bytes_per_second is None:
            # The whole file, from its header on.
            return recognizer
        return _FromTheMiddle(recognizer, samples, bytes_per_second)

    return make_recognizer


class _FromTheMiddle:
    """A recognizer whose audio begins somewhere in the sample."""

    def __init__(self, recognizer: Recognizer, samples: bytes, bytes_per_second: int) -> None:
        self._recognizer = recognizer
        self._samples = samples
        self._bytes_per_second = bytes_per_second
        self._start: bytes | None = b""
        self._begins_ms = 0

    @property
    def final_audio_proc_ms(self) -> int:
        return max(0, self._recognizer.final_audio_proc_ms - self._begins_ms)

    @property
    def total_audio_proc_ms(self) -> int:
        return max(0, self._recognizer.total_audio_proc_ms - self._begins_ms)

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        if self._start is not None:
            self._start += audio
            if len(self._start) < _ENOUGH_BYTES:
                return []
            audio = self._find_place()
        return self._moved(self._recognizer.feed(audio))

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        return self._moved(self._recognizer.finalize(trailing_silence_ms))

    def finish(self) -> list[RealtimeEvent]:
        if self._start is not None:
            self._recognizer.feed(self._find_place())
        return self._moved(self._recognizer.finish())

    def close(self) -> None:
        self._recognizer.close()

    def _find_place(self) -> bytes:
        """Let the script come to where the audio begins, and return the audio so far."""
        audio, self._start = self._start or b"", None
        begins = max(0, self._samples.find(audio))
        self._begins_ms = begins * 1000 // self._bytes_per_second
        self._recognizer.feed(self._samples[:begins])
        return audio

    def _moved(self, messages: list[RealtimeEvent]) -> list[RealtimeEvent]:
        """Return messages with their times counted from where the audio begins."""
        moved: list[RealtimeEvent] = []
        for message in messages:
            changes: dict[str, object] = {
                "tokens": [self._moved_token(token) for token in message.tokens]
            }
            for name in ("final_audio_proc_ms", "total_audio_proc_ms"):
                changes[name] = max(0, (getattr(message, name) or 0) - self._begins_ms)
            moved.append(message.model_copy(update=changes))
        return moved

    def _moved_token(self, token: Token) -> Token:
        if token.start_ms is None or token.end_ms is None:
            return token
        begins, ends = token.start_ms - self._begins_ms, token.end_ms - self._begins_ms
        return token.model_copy(update={"start_ms": max(0, begins), "end_ms": max(0, ends)})
