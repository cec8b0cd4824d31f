"""What the service still has to get, in its order: audio, finalizes, the end of the audio.

A link that has caught up gets audio as it comes. Every other link first gets what is held, from
where words may be missing, and no faster than the policy allows: the service tolerates more than
real time for some seconds only. Controls keep their place among the audio. What had to be dropped,
because more was held than may be kept, is counted as lost.

A container that cannot be cut is kept from its start, with all finalizes, answered or not: so a new
link gets the same as the first one did, and its clock is the same. Once that is more than may be
kept, it is given up, and no other link can follow.

Positions are in bytes of the user's audio, unless a name says ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import ceil, floor
from typing import Final, NamedTuple

from soniox_proto.clock_map import ClockMap
from soniox_proto.errors import SonioxStateError
from soniox_proto.events import SessionStats
from soniox_proto.recovery.audio_input import AudioInput
from soniox_proto.recovery.heard import Heard
from soniox_proto.recovery.kept_audio import KeptAudio
from soniox_proto.recovery.link import RecoverableLink
from soniox_proto.recovery.policy import ReconnectPolicy

__all__ = ["AskedFinalize", "Replay", "Sending"]

_PIECE_SECONDS: Final = 1.0
"""Audio in one message of those that are sent again, in seconds."""

_PACE_SECONDS: Final = 0.1
"""Seconds between two pieces of held audio that is sent faster than real time."""

_CONTAINER_RATE: Final = 192_000
"""Bytes per second that a container may have at most: 48 kHz, stereo, 16 bits, uncompressed."""

_ANYWHERE_MS: Final = 10**12
"""A position that is beyond any audio, in ms."""


@dataclass(slots=True)
class AskedFinalize:
    """A finalize, which is kept until it is answered, or as long as its container is."""

    index: int
    """Which call it was, from 0."""
    position: int
    """Where in the audio it stands."""
    asked_at: float
    trailing_silence_ms: int | None
    sent_on: RecoverableLink | None = None
    """The link that it was sent on and that may still answer; None if there is none."""
    passed_over: int = 0
    """How many calls before it have to do with its answer."""
    is_answered: bool = False


class Replay(NamedTuple):
    """What a new link gets that was held for it."""

    replayed_ms: int
    """Audio that an earlier link got too."""
    lost_ms: int
    """Audio that no link will have got."""
    answered_finalizes: int
    """How many finalizes are sent first that were answered before."""


class Sending:
    """Sends what is held, on one link after the other.

    Args:
        policy: How much audio to keep, and how fast to send it again.
        audio: What the audio is.
        stats: Where to count audio that is sent again, or lost.
    """

    __slots__ = (
        "_audio",
        "_finalizes",
        "_kept",
        "_lost_to",
        "_pace",
        "_policy",
        "_rate",
        "_sent_to",
        "_stats",
        "can_replay",
        "end_asked",
        "pace_at",
    )

    def __init__(self, policy: ReconnectPolicy, audio: AudioInput, stats: SessionStats) -> None:
        self._policy = policy
        self._audio = audio
        self._stats = stats
        self._kept = KeptAudio(1, 1)
        # Bytes per ms, None if the audio cannot be cut; and as it is sent, for the pace.
        self._rate: float | None = None
        self._pace = _CONTAINER_RATE / 1000
        self._finalizes: list[AskedFinalize] = []
        # Up to where audio has been sent on any link, and up to where it was counted as lost.
        self._sent_to = self._lost_to = 0
        self.can_replay = True
        """Whether another link can get all that is missing."""
        self.end_asked = False
        """Whether the audio is over."""
        self.pace_at: float | None = None
        """When to call `send_held` again, because not everything could be sent at once."""
        if audio.is_known:
            self._know_audio()

    def _know_audio(self) -> None:
        """Begin to keep audio, now that it is known what it is."""
        audio, policy = self._audio, self._policy
        seconds = policy.max_replay_seconds
        if audio.rate is None:
            self._kept = KeptAudio(int(_CONTAINER_RATE * seconds), 1)
        else:
            self._rate = self._pace = audio.rate / 1000
            self._kept = KeptAudio(
                int(audio.rate * (seconds + policy.lead_in_ms / 1000)), audio.frame
            )

    @property
    def is_raw(self) -> bool:
        """Whether the audio is known to be raw, so that it can go on on another link."""
        return self._rate is not None

    @property
    def full(self) -> bool:
        """Whether as much audio is kept as may be."""
        return self._kept.full

    @property
    def ends_ms(self) -> int | None:
        """Where the user's audio ends so far; None if that is not known."""
        return None if self._rate is None else floor(self._kept.ends / self._rate)

    def limit_ms(self, link: RecoverableLink) -> int:
        """Return up to where the service can have heard anything on a link."""
        return _ANYWHERE_MS if self._rate is None else ceil(link.cursor / self._rate)

    def require_room(self, link: RecoverableLink) -> None:
        """Raise `SonioxStateError` if more audio would break what is kept.

        Of raw audio the oldest may be dropped; the start of a container must not.
        """
        if self._audio.rate is None and self._kept.full and not (link.is_open and link.caught_up):
            raise SonioxStateError(
                "no connection takes the audio, and a container of which more than "
                "max_replay_seconds are held cannot be sent again; wait while holds_too_much"
            )

    def send_audio(self, link: RecoverableLink, data: bytes, now: float) -> None:
        """Take audio of the user, and send it if the link is open."""
        audio = self._audio
        if not audio.is_known:
            data = audio.feed(data)
            if not audio.is_known:
                return
            self._know_audio()
            link.caught_up = False
        else:
            data = audio.feed(data)
        kept = self._kept
        if self._rate is None and kept.full:
            self.can_replay = False
        kept.append(data)
        if link.is_open:
            if link.caught_up:
                # As it came, without looking for it among what is kept.
                link.connection.send_audio(data, now)
                link.cursor = self._sent_to = kept.ends
                if not self.can_replay:
                    self._forget()
            else:
                self.send_held(link, now)

    def end_audio(self, link: RecoverableLink) -> None:
        """Note that the user's audio is over."""
        self.end_asked = True
        if not self._audio.is_known:
            data = self._audio.end()
            self._know_audio()
            self._kept.append(data)
            link.caught_up = False

    def note_progress(self, link: RecoverableLink, total_ms: int) -> None:
        """Note how much audio the service has processed, which bounds what is kept of a container.

        It also says how fast a container is to be sent.
        """
        if self._rate is None and total_ms > 0:
            self._pace = max(link.cursor / total_ms, 1.0)
            if total_ms > self._policy.max_replay_seconds * 1000:
                self.can_replay = False
                if link.caught_up:
                    self._forget()

    def _forget(self) -> None:
        """Drop what is kept of a container that cannot be sent again."""
        self._kept.drop_before(self._kept.ends)
        self._finalizes = [asked for asked in self._finalizes if not asked.is_answered]

    def finalize(self, index: int, now: float, trailing_silence_ms: int | None) -> None:
        """Take a finalize of the user, to be sent at this place of the audio."""
        self._finalizes.append(AskedFinalize(index, self._kept.ends, now, trailing_silence_ms))

    def answered(self, link: RecoverableLink, passed_over: int = 0) -> AskedFinalize | None:
        """Return the finalize that was answered on a link just now; None if it was not asked.

        It is the oldest one, but for those that are passed over.
        """
        waiting = self._unanswered(link)
        if not waiting:
            return None
        asked = reduce(self._pass_over, waiting[: passed_over + 1])
        asked.is_answered = True
        if self._rate is not None or not self.can_replay:
            self._finalizes.remove(asked)
        return asked

    def _unanswered(self, link: RecoverableLink) -> list[AskedFinalize]:
        return [
            asked for asked in self._finalizes if asked.sent_on is link and not asked.is_answered
        ]

    def drop_before(self, position_ms: float) -> None:
        """Drop audio that no link will need."""
        if self._rate is not None:
            self._kept.drop_before(floor(position_ms * self._rate))

    def begin(
        self,
        link: RecoverableLink,
        heard: Heard,
        now: float,
        draining: RecoverableLink | None = None,
    ) -> Replay:
        """Prepare to send what is held on a link that is open.

        Args:
            link: The link.
            heard: What is final so far.
            now: The time, in seconds.
            draining: The link before, if it still answers what was sent on it.
        """
        kept, rate = self._kept, self._rate
        self.drop_before(heard.needed_from_ms(self._policy.lead_in_ms))
        begins = link.begins = link.cursor = kept.begins
        link.begun_at = now
        for asked in self._finalizes:
            if draining is None or asked.sent_on is not draining:
                asked.position, asked.sent_on = max(asked.position, begins), None
        if rate is None:
            answered = sum(asked.is_answered for asked in self._finalizes)
            replay = Replay(heard.total_ms, 0, answered)
        else:
            replayed_ms = round(max(0, self._sent_to - begins) / rate)
            lost_ms = self.note_missing(link, heard) if draining is None else 0
            replay = Replay(replayed_ms, lost_ms, 0)
        self._stats.replayed_audio_ms += replay.replayed_ms
        link.begins_ms = 0.0 if rate is None else begins / rate
        link.clock = ClockMap(link.begins_ms)
        return replay

    def note_missing(self, link: RecoverableLink, heard: Heard) -> int:
        """Count as lost what is not final where a link's audio begins; return how much, in ms."""
        rate = self._rate
        assert rate is not None, "a container begins at its start on every link"
        return self._note_loss(floor(heard.missing_from_ms() * rate), link.begins, rate)

    def end_draining(self, draining: RecoverableLink, link: RecoverableLink) -> None:
        """Note that a link answers nothing any more; `link` is to answer what is left.

        That is as good: all audio ahead of such a finalize is heard on it too.
        """
        for asked in self._unanswered(draining):
            asked.position, asked.sent_on = max(asked.position, link.cursor), None

    def send_held(self, link: RecoverableLink, now: float) -> None:
        """Send what is held for a link, in order and no faster than the policy allows."""
        self.pace_at = None
        if not link.is_open or link.end_sent:
            return
        connection, kept, rate = link.connection, self._kept, self._rate
        if link.owes_head and self._audio.is_known:
            link.owes_head = False
            if self._audio.head:
                connection.send_audio(self._audio.head, now)
        finalizes = [asked for asked in self._finalizes if asked.sent_on is None]
        while True:
            if link.cursor < kept.begins and rate is not None:
                # More was held than may be kept.
                link.clock.skip(link.cursor / rate, kept.begins / rate)
                self._note_loss(link.cursor, kept.begins, rate)
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
                if rate is not None:
                    link.clock.finalize(link.cursor / rate)
                    # The service disconnects clients that finalize too often. What a container
                    # got the first time it gets again, for the sake of its clock.
                    while finalizes and finalizes[0].position <= link.cursor:
                        asked = self._pass_over(asked, finalizes.pop(0))
                connection.finalize(now, asked.trailing_silence_ms)
                asked.sent_on = link
            else:
                break
        link.caught_up = True
        if not self.can_replay:
            self._forget()
        if self.end_asked:
            connection.finish(now)
            link.end_sent = True

    def _pass_over(self, asked: AskedFinalize, later: AskedFinalize) -> AskedFinalize:
        """Let the answer to a later finalize do for this one, and return that."""
        later.passed_over += asked.passed_over + 1
        self._finalizes.remove(asked)
        return later

    def release(self) -> None:
        """Give back the memory; the session is over."""
        self.pace_at = None
        self._finalizes.clear()
        # Audio can be large.
        self._kept = KeptAudio(1, 1)

    def _note_loss(self, begins: int, ends: int, rate: float) -> int:
        """Count audio that is lost, unless it was counted before; return how much, in ms."""
        begins = max(begins, self._lost_to)
        if ends <= begins:
            return 0
        self._lost_to = ends
        lost_ms = round((ends - begins) / rate)
        self._stats.lost_audio_ms += lost_ms
        return lost_ms

    def _allowance(self, link: RecoverableLink, now: float) -> int:
        """Return how many bytes of held audio may be sent on a link in one message now."""
        rate = self._pace * 1000
        piece = max(1, int(_PIECE_SECONDS * rate))
        policy = self._policy
        seconds = policy.replay_burst_seconds + policy.replay_speed * (now - link.begun_at)
        allowance = min(piece, int(seconds * rate) - link.paced_bytes)
        return allowance - allowance % self._kept.frame
