"""What the service still has to get, in its order: audio, finalizes, the end of the audio.

A link that has caught up gets audio as it comes. Every other link first gets what is held, from
where words may be missing, and no faster than the policy allows: the service tolerates more than
real time for some seconds only. Controls keep their place among the audio. What had to be dropped,
because more was held than may be kept, is counted as lost.

Positions are in bytes of the user's audio, unless a name says ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Final, NamedTuple

from soniox_proto.events import SessionStats
from soniox_proto.recovery.heard import Heard
from soniox_proto.recovery.kept_audio import KeptAudio
from soniox_proto.recovery.link import RecoverableLink
from soniox_proto.recovery.policy import ReconnectPolicy

__all__ = ["AskedFinalize", "Replay", "Sending"]

_PIECE_SECONDS: Final = 1.0
"""Audio in one message of those that are sent again, in seconds."""

_PACE_SECONDS: Final = 0.1
"""Seconds between two pieces of held audio that is sent faster than real time."""


@dataclass(slots=True)
class AskedFinalize:
    """A finalize that is not answered yet."""

    index: int
    """Which call it was, from 0."""
    position: int
    """Where in the audio it stands."""
    asked_at: float
    trailing_silence_ms: int | None
    sent: bool = False
    """Whether it was sent on the present link."""


class Replay(NamedTuple):
    """What a new link gets that was held for it."""

    begins_ms: float
    """Where its audio begins."""
    replayed_ms: int
    """Audio that an earlier link got too."""
    lost_ms: int
    """Audio that no link will have got."""


class Sending:
    """Sends what is held, on one link after the other.

    Args:
        policy: How much audio to keep, and how fast to send it again.
        bytes_per_second: Of the audio.
        frame: Bytes of one frame.
        stats: Where to count lost audio.
    """

    __slots__ = (
        "_bytes_per_ms",
        "_finalizes",
        "_kept",
        "_lost_to",
        "_policy",
        "_sent_to",
        "_stats",
        "end_asked",
        "pace_at",
    )

    def __init__(
        self, policy: ReconnectPolicy, bytes_per_second: int, frame: int, stats: SessionStats
    ) -> None:
        self._policy = policy
        self._stats = stats
        self._bytes_per_ms = bytes_per_second / 1000
        kept_seconds = policy.max_replay_seconds + policy.lead_in_ms / 1000
        self._kept = KeptAudio(int(bytes_per_second * kept_seconds), frame)
        self._finalizes: list[AskedFinalize] = []
        # Up to where audio has been sent on any link, and up to where it was counted as lost.
        self._sent_to = self._lost_to = 0
        self.end_asked = False
        """Whether the audio is over."""
        self.pace_at: float | None = None
        """When to call `send_held` again, because not everything could be sent at once."""

    @property
    def full(self) -> bool:
        """Whether as much audio is kept as may be."""
        return self._kept.full

    @property
    def ends_ms(self) -> int:
        """Where the user's audio ends so far."""
        return floor(self._kept.ends / self._bytes_per_ms)

    def limit_ms(self, link: RecoverableLink) -> int:
        """Return up to where the service can have heard anything on a link."""
        return ceil(link.cursor / self._bytes_per_ms)

    def send_audio(self, link: RecoverableLink, data: bytes, now: float) -> None:
        """Take audio of the user, and send it if the link is open."""
        kept = self._kept
        kept.append(data)
        if link.is_open:
            if link.caught_up:
                # As it came, without looking for it among what is kept.
                link.connection.send_audio(data, now)
                link.cursor = self._sent_to = kept.ends
            else:
                self.send_held(link, now)

    def finalize(self, index: int, now: float, trailing_silence_ms: int | None) -> None:
        """Take a finalize of the user, to be sent at this place of the audio."""
        self._finalizes.append(AskedFinalize(index, self._kept.ends, now, trailing_silence_ms))

    def answered(self) -> AskedFinalize | None:
        """Return the finalize that the service has just answered; None if it was not asked."""
        if not self._finalizes or not self._finalizes[0].sent:
            return None
        return self._finalizes.pop(0)

    def drop_before(self, position_ms: float) -> None:
        """Drop audio that no link will need."""
        self._kept.drop_before(floor(position_ms * self._bytes_per_ms))

    def begin(self, link: RecoverableLink, heard: Heard) -> Replay:
        """Prepare to send what is held on a link that has just opened."""
        kept, rate = self._kept, self._bytes_per_ms
        self.drop_before(heard.needed_from_ms(self._policy.lead_in_ms))
        begins = link.cursor = kept.begins
        for asked in self._finalizes:
            asked.position, asked.sent = max(asked.position, begins), False
        replayed_ms = round(max(0, self._sent_to - begins) / rate)
        lost_ms = self._note_loss(floor(heard.missing_from_ms() * rate), begins)
        return Replay(begins / rate, replayed_ms, lost_ms)

    def send_held(self, link: RecoverableLink, now: float) -> None:
        """Send what is held for a link, in order and no faster than the policy allows."""
        self.pace_at = None
        if not link.is_open or link.end_sent:
            return
        connection, kept, rate = link.connection, self._kept, self._bytes_per_ms
        finalizes = [asked for asked in self._finalizes if not asked.sent]
        while True:
            if link.cursor < kept.begins:
                # More was held than may be kept.
                link.clock.skip(link.cursor / rate, kept.begins / rate)
                self._note_loss(link.cursor, kept.begins)
                link.cursor = kept.begins
            stop = min(finalizes[0].position, kept.ends) if finalizes else kept.ends
            if link.cursor < stop:
                size = min(stop - link.cursor, self._allowance(link, now))
                if size <= 0:
                    self.pace_at = now + _PACE_SECONDS
                    return
                connection.send_audio(kept.from_position(link.cursor, size), now)
                link.cursor += size
                link.paced_bytes += size
                self._sent_to = max(self._sent_to, link.cursor)
            elif finalizes:
                asked = finalizes.pop(0)
                link.clock.finalize(link.cursor / rate)
                connection.finalize(now, asked.trailing_silence_ms)
                asked.sent = True
            else:
                break
        link.caught_up = True
        if self.end_asked:
            connection.finish(now)
            link.end_sent = True

    def release(self) -> None:
        """Give back the memory; the session is over."""
        self.pace_at = None
        self._finalizes.clear()
        # Audio can be large.
        self._kept = KeptAudio(1, 1)

    def _note_loss(self, begins: int, ends: int) -> int:
        """Count audio that is lost, unless it was counted before; return how much, in ms."""
        begins = max(begins, self._lost_to)
        if ends <= begins:
            return 0
        self._lost_to = ends
        lost_ms = round((ends - begins) / self._bytes_per_ms)
        self._stats.lost_audio_ms += lost_ms
        return lost_ms

    def _allowance(self, link: RecoverableLink, now: float) -> int:
        """Return how many bytes of held audio may be sent on a link in one message now."""
        rate = self._bytes_per_ms * 1000
        piece = max(1, int(_PIECE_SECONDS * rate))
        assert link.opened_at is not None, "audio is sent on an open link"
        policy = self._policy
        seconds = policy.replay_burst_seconds + policy.replay_speed * (now - link.opened_at)
        allowance = min(piece, int(seconds * rate) - link.paced_bytes)
        return allowance - allowance % self._kept.frame
