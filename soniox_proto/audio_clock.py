"""Where a position lies in the audio that was sent, and when that audio was captured.

Three things come between the moment a word is spoken and the time that its token has. Audio that
was not sent (silence left out, chunks dropped while paused) takes no time on the service's clock.
Each finalize adds silence that nobody spoke. And audio may be sent late. `ClockMap` undoes the
second; `CaptureTimes` remembers the first and the third, if the user says when each chunk was
captured. `AudioClock` is both for one connection, in bytes as the protocol counts them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from soniox_proto.clock_map import ClockMap
from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.errors import SonioxValidationError
from soniox_proto.messages import RealtimeEvent

__all__ = ["AudioClock", "CaptureTimes"]

_JITTER: Final = 0.05
"""Seconds by which the capture times of unbroken audio may be off: callbacks come late, and the
clock of a sound card drifts. Times are right to within this."""

_MOST_STRETCHES: Final = 16_384
"""Stretches of unbroken audio that are remembered. Half of them are dropped when there are more."""


@dataclass(slots=True)
class _Stretch:
    """Audio that was captured without a break."""

    begins_ms: float
    ends_ms: float
    captured_at: float
    """When its first sample was captured."""

    def at(self, position_ms: float) -> float:
        return self.captured_at + (position_ms - self.begins_ms) / 1000


class CaptureTimes:
    """When audio was captured, by its position in the audio that was sent, in ms."""

    __slots__ = ("_stretches",)

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []

    def add(self, begins_ms: float, duration_ms: float, captured_at: float) -> None:
        """Note when a chunk was captured: the time of its first sample, in seconds."""
        stretches = self._stretches
        if stretches:
            last = stretches[-1]
            if last.ends_ms == begins_ms and abs(last.at(begins_ms) - captured_at) <= _JITTER:
                last.ends_ms = begins_ms + duration_ms
                return
        if len(stretches) == _MOST_STRETCHES:
            # A new list, because another thread may be looking at the old one.
            self._stretches = stretches = stretches[_MOST_STRETCHES // 2 :]
        stretches.append(_Stretch(begins_ms, begins_ms + duration_ms, captured_at))

    def at(self, position_ms: float) -> float | None:
        """Return when the audio at a position was captured, in seconds; None if that is unknown.

        Where captured audio was broken off, the position belongs to what follows.
        """
        stretches = self._stretches
        index = bisect_right(stretches, position_ms, key=_begins_ms) - 1
        if index < 0 or position_ms > stretches[index].ends_ms:
            return None
        return stretches[index].at(position_ms)


class AudioClock:
    """Maps what the service says about time on one connection, whose audio is raw.

    Args:
        config: The configuration of the stream.

    Raises:
        SonioxValidationError: The audio format is a container, whose bytes say nothing about time.
    """

    __slots__ = ("_bytes_per_ms", "_captures", "clock_map")

    def __init__(self, config: RealtimeSTTConfig) -> None:
        if config.bytes_per_second is None:
            raise SonioxValidationError(
                "positions in the audio need a raw audio format such as 'pcm_s16le': how much time "
                f"the bytes of {config.audio_format!r} take is not known"
            )
        self._bytes_per_ms = config.bytes_per_second / 1000
        self.clock_map = ClockMap(0.0)
        """From the service's clock to the audio."""
        self._captures = CaptureTimes()

    def sent(self, before: int, size: int, captured_at: float) -> None:
        """Note when a chunk was captured that is sent after `before` bytes of audio."""
        self._captures.add(before / self._bytes_per_ms, size / self._bytes_per_ms, captured_at)

    def finalize(self, sent: int) -> None:
        """Note that a finalize is sent after so many bytes of audio."""
        self.clock_map.finalize(sent / self._bytes_per_ms)

    def finalized(self, message: RealtimeEvent) -> int:
        """Take the answer to a finalize; return how many before it have remained without one."""
        return self.clock_map.answered_in(message)

    def sent_position_ms(self, server_ms: float, sent: int) -> float:
        """Return the position in the first `sent` bytes of audio, in ms."""
        return min(self.clock_map.audio_ms(server_ms), sent / self._bytes_per_ms)

    def captured_at(self, server_ms: float, sent: int) -> float | None:
        """Return when the audio at a position of the service was captured, in seconds."""
        return self._captures.at(self.sent_position_ms(server_ms, sent))


def _begins_ms(stretch: _Stretch) -> float:
    return stretch.begins_ms
