"""What links have said, as the user gets it.

The counterpart of `sending.py`. Whatever link a result comes on, it goes through here: it is moved
onto the user's audio and what was given out before is left out (`heard.py`), its markers become
events, finalizes get their answers, the session's counters follow, and audio that has become final
text is no longer kept.
"""

from __future__ import annotations

from typing import Final

from soniox_proto.events import EndpointDetected, Event, Finalized, Result, SessionStats
from soniox_proto.messages import TOKEN_TEXT_FIN, RealtimeEvent
from soniox_proto.recovery.heard import Heard, LinkTranscript, numbered
from soniox_proto.recovery.link import RecoverableLink
from soniox_proto.recovery.policy import ReconnectPolicy
from soniox_proto.recovery.sending import Sending

__all__ = ["Reading"]

_LONGEST_TOKEN_MS: Final = 60_000
"""How far before the end of the final text a token may begin, in ms."""


class Reading:
    """Reads the results of one link after the other.

    Args:
        policy: How to label speakers, and how much audio to keep ahead of a missing word.
        sending: What was sent; it learns what is answered and what is not needed any more.
        heard: What is final; it learns what becomes so.
        stats: Where to count.
    """

    __slots__ = ("_begun_at", "_heard", "_policy", "_sending", "_stats", "last_message")

    def __init__(
        self, policy: ReconnectPolicy, sending: Sending, heard: Heard, stats: SessionStats
    ) -> None:
        self._policy = policy
        self._sending = sending
        self._heard = heard
        self._stats = stats
        # When the first link was begun.
        self._begun_at: float | None = None
        self.last_message: RealtimeEvent | None = None
        """The latest message that was given out."""

    def begin(
        self, link: RecoverableLink, now: float, *, translates: bool, answered_finalizes: int = 0
    ) -> None:
        """Prepare to read the results of a link, all others being done with.

        Args:
            link: The link.
            now: The time, in seconds.
            translates: Whether the service is asked for translations.
            answered_finalizes: How many finalizes are answered first that were answered before.
        """
        heard = self._heard
        if self._begun_at is None:
            self._begun_at = now
        if not translates:
            # None will come.
            heard.awaiting_translation.clear()
        link.transcript = LinkTranscript(
            heard,
            link.clock,
            number=link.number,
            replays=link.begins_ms < heard.position_ms,
            distinct_speakers=self._policy.speaker_labels == "distinct",
            answered_finalizes=answered_finalizes,
        )

    def read(
        self, link: RecoverableLink, event: Result, now: float, *, draining: bool
    ) -> list[Event]:
        """Return a result as the user gets it, and the events for the markers in it.

        Args:
            link: The link that it came on.
            event: The result.
            now: The time, in seconds.
            draining: Whether the transcript goes on on another link after this one.
        """
        received = event.message
        if draining and received.finished:
            received = received.model_copy(update={"finished": False})
        passed_over = 0
        for token in received.tokens:
            if token.is_final and token.text == TOKEN_TEXT_FIN:
                passed_over = link.clock.answered_in(received)
        message, markers = link.transcript.read(received, self._sending.limit_ms(link))
        self.last_message = message
        raw = event.raw
        if message is not event.message:
            text = message.model_dump_json(exclude_unset=True)
            raw = text if isinstance(raw, str) else text.encode()
        stats = self._stats
        if message.total_audio_proc_ms is not None:
            stats.processed_audio_ms = message.total_audio_proc_ms
        if stats.time_to_first_token is None and message.tokens:
            stats.note_tokens(message.tokens, now)
        given: list[Event] = [Result(message, raw)]
        for marker in markers:
            if marker.text == TOKEN_TEXT_FIN:
                given.append(self._finalized(link, message, marker.token_index, now, passed_over))
            else:
                stats.note_endpoint(marker.speech_ends_ms, now)
                given.append(EndpointDetected(message, marker.token_index, marker.speech_ends_ms))
        link.clock.forget(self._heard.position_ms - _LONGEST_TOKEN_MS)
        self._sending.note_progress(link, self._heard.total_ms)
        if not draining:
            # Otherwise the present link may not have been sent it yet.
            self._sending.drop_before(self._heard.needed_from_ms(self._policy.lead_in_ms))
        return given

    def _finalized(
        self,
        link: RecoverableLink,
        message: RealtimeEvent,
        index: int,
        now: float,
        passed_over: int,
    ) -> Finalized:
        asked = self._sending.answered(link, passed_over)
        if asked is None:
            return Finalized(message, index, None, None)
        assert self._begun_at is not None, "a link answers after it was begun"
        round_trip = now - max(asked.asked_at, self._begun_at)
        self._stats.note_finalized(round_trip, asked.passed_over)
        return Finalized(message, index, asked.index, round_trip)

    def read_refusal(self, link: RecoverableLink, event: Result) -> Result:
        """Return the result that an error of the service came as, where it ends the session."""
        self.last_message = numbered(event.message, link.number)
        return Result(self.last_message, event.raw)

    @property
    def is_complete(self) -> bool:
        """Whether the audio is over and all of it has become final.

        A session without audio is not complete: the service ends it with an error.
        """
        ends_ms = self._sending.ends_ms
        return (
            self._sending.end_asked
            and ends_ms is not None
            and ends_ms > 0
            and self._heard.position_ms >= ends_ms
            and not self._heard.awaiting_translation
        )

    def complete(self) -> Result:
        """Return the finished response of a complete transcript, for which none came."""
        position = self._heard.position_ms
        message = RealtimeEvent(
            tokens=[], final_audio_proc_ms=position, total_audio_proc_ms=position, finished=True
        )
        self.last_message = message
        return Result(message, message.model_dump_json(exclude_unset=True))
