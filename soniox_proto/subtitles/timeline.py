"""When cues appear and disappear: in order, never two at once, and long enough to be read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from soniox_proto.subtitles.cue import Cue

__all__ = ["Timeline"]


@dataclass(slots=True)
class Timeline:
    """Settles the times of cues, one after the other.

    A cue stands as long as it is spoken, and longer if it is too short or too long to be read, as
    far as there is room until the next one. So it waits until it is known where that begins.
    """

    min_duration_ms: int
    max_duration_ms: int
    gap_ms: int
    characters_per_second: float
    _free_ms: int = 0
    _waiting: Cue | None = None

    @property
    def free_ms(self) -> int:
        """From when on nothing stands, if the cue that waits may stand as long as it wants."""
        if self._waiting is None:
            return self._free_ms
        return self._wanted_end(self._waiting) + self.gap_ms

    def add(self, cue: Cue) -> Iterator[Cue]:
        """Add a cue with the times of its speech, and yield the one before, if there is one."""
        yield from self._settle(cue.start_ms - self.gap_ms)
        start = max(cue.start_ms, self._free_ms)
        self._waiting = replace(cue, start_ms=start, end_ms=max(cue.end_ms, start))

    def pass_silence(self, until_ms: int) -> Iterator[Cue]:
        """Yield the cue that waits, if no speech until then can make it shorter."""
        if self._waiting is not None and self._wanted_end(self._waiting) <= until_ms - self.gap_ms:
            yield from self._settle(until_ms)

    def finish(self) -> Iterator[Cue]:
        """Yield the last cue, if there is one."""
        yield from self._settle(None)

    def _settle(self, latest_end_ms: int | None) -> Iterator[Cue]:
        cue, self._waiting = self._waiting, None
        if cue is None:
            return
        end = self._wanted_end(cue)
        if latest_end_ms is not None:
            # Speech is not cut short for the gap if it is short already; the next cue gives way.
            spoken = min(cue.end_ms, cue.start_ms + self.min_duration_ms)
            end = min(end, max(latest_end_ms, spoken, cue.start_ms + 1))
        self._free_ms = end + self.gap_ms
        yield replace(cue, end_ms=end)

    def _wanted_end(self, cue: Cue) -> int:
        characters = sum(map(len, cue.lines))
        reading_ms = math.ceil(characters * 1000 / self.characters_per_second)
        wanted = max(cue.end_ms, cue.start_ms + max(self.min_duration_ms, reading_ms))
        return min(wanted, cue.start_ms + self.max_duration_ms)
