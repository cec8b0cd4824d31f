"""When the audio at a position was sent, for latencies that begin where somebody stops speaking.

The service gives positions in the audio, not times. Which time belongs to a position is known only
here, where the audio went out. Remembering that for every chunk would cost time and memory, so it
is noted a few times a second. In between, audio is taken to be sent at the speed of speech, but
never later than the next note says: that is right for a microphone, for a file that is sent at
once, and where a pause begins.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

__all__ = ["NOTE_INTERVAL", "SendTimes"]

NOTE_INTERVAL: Final = 0.25
"""Seconds from one note to the next."""

_NOTES: Final = 128
"""Notes that are kept, half a minute of them. Positions further back are estimated."""


class SendTimes:
    """When audio was sent, by its position in the audio that was sent, in ms.

    May be asked by one thread while another one notes: what is asked is never shortened in place.
    """

    __slots__ = ("_notes",)

    def __init__(self) -> None:
        # Up to where audio had been sent, and when.
        self._notes = (array("d"), array("d"))

    def note(self, audio_ms: float, now: float) -> None:
        """Note that so much audio has been sent by now."""
        sent, times = self._notes
        if len(times) >= _NOTES:
            sent, times = sent[_NOTES // 2 :], times[_NOTES // 2 :]
            self._notes = (sent, times)
        sent.append(audio_ms)
        times.append(now)

    def at(self, audio_ms: float) -> float | None:
        """Return when the audio at a position was sent, in seconds; None if none was."""
        sent, times = self._notes
        count = len(times)
        if not count:
            return None
        index = bisect_left(sent, audio_ms, 0, count)
        if not index:
            return times[0] - (sent[0] - audio_ms) / 1000
        at = times[index - 1] + (audio_ms - sent[index - 1]) / 1000
        return at if index == count else min(at, times[index])
