"""When the audio at a position was sent, for latencies that begin where somebody stops speaking.

The service gives positions in the audio, not times. Which time belongs to a position is known only
here, where the audio went out. Remembering that for every chunk would cost time and memory, so it
is noted a few times a second. In between, audio is taken to be sent at the speed of speech, but
never later than the next note says: that is right for a microphone, for a file that is sent at
once, and where a pause begins.

Positions of the service also count the silence that each finalize adds (see `server_clock.py`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

from soniox_proto.server_clock import FINALIZE_STEP_MS

__all__ = ["NOTE_INTERVAL", "AudioClock"]

NOTE_INTERVAL: Final = 0.25
"""Seconds from one note to the next."""

_NOTES: Final = 128
"""Notes that are kept, half a minute of them. Positions further back are estimated."""

_FINALIZES: Final = 32
"""Finalizes that are kept. Nobody asks for positions before them."""


class AudioClock:
    """Relates positions of the service, in ms, to the audio that was sent, and to the time.

    May be asked by one thread while another one notes: what is asked is never changed in place.
    """

    __slots__ = ("_finalized", "_notes")

    def __init__(self) -> None:
        # Up to where audio had been sent, and when.
        self._notes = (array("d"), array("d"))
        # For each finalize: the position after its pad, and the audio sent before it.
        self._finalized: list[tuple[float, float]] = []

    def note(self, audio_ms: float, now: float) -> None:
        """Note that so much audio has been sent by now."""
        sent, times = self._notes
        if len(times) >= _NOTES:
            sent, times = sent[_NOTES // 2 :], times[_NOTES // 2 :]
            self._notes = (sent, times)
        sent.append(audio_ms)
        times.append(now)

    def finalize(self, audio_ms: float) -> None:
        """Note that a finalize is sent after so much audio."""
        padded, before_ms = self._finalized[-1] if self._finalized else (0.0, 0.0)
        position = max(padded, audio_ms + padded - before_ms)
        padded = (position // FINALIZE_STEP_MS + 1) * FINALIZE_STEP_MS
        self._finalized = [*self._finalized[1 - _FINALIZES :], (padded, audio_ms)]

    def answered(self, position: float) -> None:
        """Correct the pad of the latest finalize: its answer says where the service stands."""
        assert self._finalized, "an answer follows a finalize"
        self._finalized = [*self._finalized[:-1], (position, self._finalized[-1][1])]

    def audio_ms(self, position: float) -> float:
        """Return how much of the audio that was sent comes before a position of the service."""
        latest = float("inf")
        for padded, audio_ms in reversed(self._finalized):
            if position >= padded:
                return min(position - padded + audio_ms, latest)
            latest = audio_ms
        return min(position, latest)

    def sent_at(self, position: float) -> float | None:
        """Return when the audio at a position was sent; None if none was."""
        sent, times = self._notes
        count = len(times)
        if not count:
            return None
        audio_ms = self.audio_ms(position)
        index = bisect_left(sent, audio_ms, 0, count)
        if not index:
            return times[0] - (sent[0] - audio_ms) / 1000
        at = times[index - 1] + (audio_ms - sent[index - 1]) / 1000
        return at if index == count else min(at, times[index])
