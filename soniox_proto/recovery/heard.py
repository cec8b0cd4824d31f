"""What has become final so far, and what of a new connection's results is new.

After a connection is lost, some audio is sent again, and its words come back: most of them whole,
the last one possibly in other pieces, because final tokens may end inside a word. `Heard` remembers
where the final text ends, across connections. `LinkTranscript` reads the results of one connection:
it moves their times onto the user's audio, leaves out what was given before, and makes the labels
of its speakers distinct.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Final, NamedTuple
from unicodedata import east_asian_width

from soniox_proto.messages import TOKEN_TEXT_END, TOKEN_TEXT_FIN, RealtimeEvent, Token
from soniox_proto.recovery.clock_map import ClockMap

__all__ = ["Heard", "LinkTranscript", "Marker"]

_MARKERS: Final = frozenset({TOKEN_TEXT_END, TOKEN_TEXT_FIN})

_TRANSLATION: Final = "translation"
_ORIGINAL: Final = "original"


class Heard:
    """Where the final text ends, in ms of the user's audio, however many connections it took."""

    __slots__ = (
        "awaiting_translation",
        "highest_speaker",
        "in_utterance",
        "position_ms",
        "speech_ends_ms",
        "total_ms",
        "word",
    )

    def __init__(self) -> None:
        self.position_ms = 0
        """Up to where audio has become final text."""
        self.total_ms = 0
        """Up to where audio has become text at all."""
        self.speech_ends_ms: int | None = None
        """Where the last final word ends; None before the first."""
        self.word: _Word | None = None
        """The last final word, as far as it is final."""
        self.in_utterance = False
        """Whether there has been text since the last `<end>`."""
        self.awaiting_translation: list[int] = []
        """Where each final original begins whose translation has not come yet."""
        self.highest_speaker = 0
        """The highest label of a speaker that was given out."""

    def needed_from_ms(self, lead_in_ms: int) -> int:
        """Return from where audio has to be kept, and sent again on a new connection."""
        needed = self.position_ms - lead_in_ms
        if self.word is not None:
            needed = min(needed, self.word.begins_ms)
        return max(0, min([needed, *self.awaiting_translation[:1]]))


@dataclass(slots=True)
class _Word:
    begins_ms: int
    ends_ms: int
    length: int
    """Characters, leading space included."""


class Marker(NamedTuple):
    """A marker in a message."""

    text: str
    """`TOKEN_TEXT_END` or `TOKEN_TEXT_FIN`."""
    token_index: int
    """Where it stands in the tokens."""
    speech_ends_ms: int | None
    """Where the last final word before it ends."""


@dataclass(slots=True)
class _Seam:
    """Where the text of earlier connections ends and that of a new one begins.

    Final tokens move it along; for the provisional ones of a message a copy is used.
    """

    point_ms: int
    given: _Word | None
    translated_to_ms: int | None
    """From where on translations are still missing; None if none are."""
    word_begins_ms: int = 0
    length: int = 0
    """Characters of the current word that came on this connection so far."""
    group_is_new: bool = False
    """Whether the translations that come next belong to text that was not translated before."""
    in_translation: bool = False
    passed: bool = False
    """Whether a final token beyond the seam has come."""

    def is_new(self, token: Token) -> bool:
        """Return whether a translation is of text that was not translated before."""
        self.in_translation = True
        return self.group_is_new

    def rest_of(self, text: str, begins_ms: int, ends_ms: int) -> str:
        """Return what of an original token is new, ``""`` if nothing is."""
        if self.in_translation:
            self.in_translation = self.group_is_new = False
        if _begins_word(text):
            self.word_begins_ms, self.length = begins_ms, 0
        before, self.length = self.length, self.length + len(text)
        if ends_ms <= self.point_ms:
            missing = self.translated_to_ms
            self.group_is_new |= missing is not None and ends_ms > missing
            return ""
        self.group_is_new = True
        given = self.given
        # Recognized anew, a word may begin some ms earlier or later than the first time.
        if given is not None and abs(self.word_begins_ms - given.begins_ms) < abs(
            self.word_begins_ms - given.ends_ms
        ):
            return text[max(0, given.length - before) :]
        self.passed = begins_ms >= self.point_ms
        return text


class LinkTranscript:
    """Reads the results of one connection.

    Args:
        heard: What became final on earlier connections; what becomes final here is added to it.
        clock: The connection's clock.
        replays: Whether the connection's audio begins with audio that was heard before.
        distinct_speakers: Whether to make the labels of speakers go on counting.
    """

    __slots__ = ("_clock", "_heard", "_seam", "_speakers_before")

    def __init__(
        self, heard: Heard, clock: ClockMap, *, replays: bool, distinct_speakers: bool
    ) -> None:
        self._heard = heard
        self._clock = clock
        missing = heard.awaiting_translation
        self._seam = (
            _Seam(heard.position_ms, heard.word, missing[0] if missing else None)
            if replays
            else None
        )
        self._speakers_before = heard.highest_speaker if distinct_speakers else 0

    def read(self, message: RealtimeEvent) -> tuple[RealtimeEvent, list[Marker]]:
        """Return a result with the new tokens only, on the user's clock, and its markers."""
        heard, seam = self._heard, self._seam
        tokens: list[Token] = []
        markers: list[Marker] = []
        # The translations of originals follow in the next message, or later in the same one.
        translated = len(heard.awaiting_translation)
        provisional = copy(seam)
        for token in message.tokens:
            if not token.is_final:
                new = self._moved(token, provisional)
                if new is not None:
                    tokens.append(new)
            elif token.text in _MARKERS:
                if token.text == TOKEN_TEXT_FIN or heard.in_utterance:
                    markers.append(Marker(token.text, len(tokens), heard.speech_ends_ms))
                    tokens.append(token)
                if token.text == TOKEN_TEXT_END:
                    heard.in_utterance = False
            else:
                new = self._moved(token, seam)
                provisional = copy(seam)
                if new is not None:
                    if new.translation_status == _TRANSLATION and heard.awaiting_translation:
                        del heard.awaiting_translation[: translated or None]
                        translated = len(heard.awaiting_translation)
                    self._note_final(new)
                    tokens.append(new)
        if seam is not None and seam.passed:
            self._seam = None
        changes: dict[str, object] = {"tokens": tokens}
        if message.final_audio_proc_ms is not None:
            final_ms = round(self._clock.audio_ms(message.final_audio_proc_ms))
            heard.position_ms = max(heard.position_ms, final_ms)
            changes["final_audio_proc_ms"] = heard.position_ms
        if message.total_audio_proc_ms is not None:
            total_ms = round(self._clock.audio_ms(message.total_audio_proc_ms))
            heard.total_ms = max(heard.total_ms, heard.position_ms, total_ms)
            changes["total_audio_proc_ms"] = heard.total_ms
        return message.model_copy(update=changes), markers

    def _moved(self, token: Token, seam: _Seam | None) -> Token | None:
        """Return a token on the user's clock, as far as it is new; None if it is not."""
        changes: dict[str, object] = {}
        if self._speakers_before and token.speaker is not None:
            changes["speaker"] = self._distinct(token.speaker)
        begins, ends = token.start_ms, token.end_ms
        if token.translation_status == _TRANSLATION:
            if seam is not None and not seam.is_new(token):
                return None
        elif begins is not None and ends is not None:
            begins_ms = round(self._clock.audio_ms(begins))
            ends_ms = round(self._clock.audio_ms(ends))
            if seam is not None:
                text = seam.rest_of(token.text, begins_ms, ends_ms)
                if not text:
                    return None
                if text != token.text:
                    # The rest of a word begins where the part that was given out ends.
                    assert seam.given is not None, "only a word that was begun is cut"
                    changes["text"] = text
                    begins_ms = min(max(begins_ms, seam.given.ends_ms), ends_ms)
            if begins_ms != begins:
                changes["start_ms"] = begins_ms
            if ends_ms != ends:
                changes["end_ms"] = ends_ms
        return token.model_copy(update=changes) if changes else token

    def _note_final(self, token: Token) -> None:
        """Note a final token that is given out."""
        heard = self._heard
        heard.in_utterance = True
        if token.speaker is not None and token.speaker.isdecimal():
            heard.highest_speaker = max(heard.highest_speaker, int(token.speaker))
        if token.translation_status == _TRANSLATION:
            return
        if token.start_ms is None or token.end_ms is None:
            return
        if token.translation_status == _ORIGINAL:
            heard.awaiting_translation.append(token.start_ms)
        begins, ends = token.start_ms, token.end_ms
        heard.speech_ends_ms = ends
        heard.position_ms = max(heard.position_ms, ends)
        heard.total_ms = max(heard.total_ms, heard.position_ms)
        word = heard.word
        if word is None or _begins_word(token.text):
            heard.word = _Word(begins, ends, len(token.text))
        else:
            heard.word = _Word(word.begins_ms, ends, word.length + len(token.text))

    def _distinct(self, label: str) -> str:
        if label.isdecimal():
            return str(int(label) + self._speakers_before)
        return f"{label}+{self._speakers_before}"


def _begins_word(text: str) -> bool:
    """Return whether a token begins a word: not if it goes on with letters.

    Scripts without spaces count each token as a word.
    """
    first = text[:1]
    return not first.isalnum() or east_asian_width(first) in {"W", "F"}
