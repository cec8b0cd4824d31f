"""Measuring how far the text lags behind the speech."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from soniox_proto import RealtimeEvent, Utterance

__all__ = ["Lag", "LagMeter"]


@dataclass(frozen=True, slots=True)
class Lag:
    """How many seconds the text lags behind the speech."""

    median_final: float
    """Median time from the end of an utterance to its final text."""
    longest_final: float
    """The same for the slowest utterance."""
    median_caption: float | None
    """Median time from the audio to the first message that covers it; None without messages."""


class LagMeter:
    """Measures the lag of a stream whose audio is played at `speed`.

    A recording is sent in chunks of `chunk_seconds`, each when its audio begins. A microphone could
    send a chunk only when its audio has ended, so the lag is measured from there.
    """

    def __init__(self, speed: float = 1.0, chunk_seconds: float = 0.0) -> None:
        self._speed = speed
        self._chunk_seconds = chunk_seconds
        self._finals: list[float] = []
        self._captions: list[float] = []

    def message(self, event: RealtimeEvent, at: float) -> None:
        """Add a message that came `at` seconds after the audio began to play."""
        if event.tokens and event.total_audio_proc_ms is not None:
            self._captions.append(at - self._played_at(event.total_audio_proc_ms))

    def utterance(self, utterance: Utterance) -> None:
        """Add a complete utterance."""
        if utterance.settled_at is not None and utterance.end_ms is not None:
            self._finals.append(utterance.settled_at - self._played_at(utterance.end_ms))

    def result(self) -> Lag | None:
        """Return the lag of everything added so far; None if no utterance had times."""
        if not self._finals:
            return None
        return Lag(
            median_final=statistics.median(self._finals),
            longest_final=max(self._finals),
            median_caption=statistics.median(self._captions) if self._captions else None,
        )

    def _played_at(self, milliseconds: int) -> float:
        return milliseconds / 1000 / self._speed - self._chunk_seconds
