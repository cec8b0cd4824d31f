"""What has become final so far, and what of a new connection's results is new.

After a connection is lost, some audio is sent again, and its words come back: possibly in other
pieces, some ms earlier or later, and the last one longer than before, because final tokens may end
inside a word. `Heard` remembers the end of the final text, across connections. `LinkTranscript`
reads the results of one connection: it moves their times onto the user's audio, leaves out what was
given before, and makes the labels of its speakers distinct.
"""

from __future__ import annotations

from bisect import bisect_left
from copy import copy
from typing import Final, NamedTuple, TypeVar

from soniox_proto.clock_map import ClockMap
from soniox_proto.messages import (
    MARKERS,
    TOKEN_TEXT_FIN,
    RealtimeEvent,
    Token,
)
from soniox_proto.received_model import LINK, ReceivedModel
from soniox_proto.recovery.seam import GivenText, Seam, TranslationSeam, begins_word

__all__ = ["Heard", "LinkTranscript", "Marker", "numbered"]

_Model = TypeVar("_Model", bound=ReceivedModel)

_TRANSLATION: Final = "translation"
_ORIGINAL: Final = "original"

_LONGEST_WORD_MS: Final = 2000
"""How far a word may begin before its end. Scripts without spaces would never end one."""

_LONGEST_WAIT_MS: Final = 30_000
"""How much audio may become final after an original whose translation is still expected."""

_SAME_END_MS: Final = 60
"""How far apart the end of the same word may lie in two recognitions."""

_LONGEST_NUMBER: Final = 9
"""Digits that a label of a speaker may have to count as a number."""


class Heard:
    """Where the final text ends, in ms of the user's audio, however many connections it took."""

    __slots__ = (
        "awaiting_translation",
        "endpoint_ms",
        "given",
        "highest_speaker",
        "labels",
        "position_ms",
        "speech_ends_ms",
        "total_ms",
        "word_begins_ms",
    )

    def __init__(self) -> None:
        self.position_ms = 0
        """Up to where audio has become final text."""
        self.total_ms = 0
        """Up to where audio has become text at all."""
        self.speech_ends_ms: int | None = None
        """Where the last final word ends; None before the first."""
        self.endpoint_ms: int | None = None
        """Where the last word before the last `<end>` ends; None before the first."""
        self.word_begins_ms = 0
        """Where the last final word begins."""
        self.given = GivenText()
        """The last final originals."""
        self.awaiting_translation: list[int] = []
        """Where each final original begins whose translation has not come yet."""
        self.highest_speaker = 0
        """The highest label of a speaker that was given out."""
        self.labels: set[str] = set()
        """Every label that was given out."""

    def needed_from_ms(self, lead_in_ms: int) -> int:
        """Return from where audio has to be kept, and sent again on a new connection."""
        needed = self.position_ms - lead_in_ms
        if self.speech_ends_ms is not None and self.speech_ends_ms >= needed:
            # It may go on.
            needed = min(needed, max(self.word_begins_ms, self.speech_ends_ms - _LONGEST_WORD_MS))
        waiting = [begins_ms - lead_in_ms for begins_ms in self.awaiting_translation[:1]]
        return max(0, min([needed, *waiting]))

    def missing_from_ms(self) -> int:
        """Return from where on text is missing: what follows here is lost if it is not sent."""
        return min([self.position_ms, *self.awaiting_translation[:1]])


class Marker(NamedTuple):
    """A marker in a message."""

    text: str
    """`TOKEN_TEXT_END` or `TOKEN_TEXT_FIN`."""
    token_index: int
    """Where it stands in the tokens."""
    speech_ends_ms: int | None
    """Where the last final word before it ends."""


class LinkTranscript:
    """Reads the results of one connection.

    Args:
        heard: What became final on earlier connections; what becomes final here is added to it.
        clock: The connection's clock.
        number: Which connection it is, from 1.
        replays: Whether the connection's audio begins with audio that was heard before.
        distinct_speakers: Whether to make the labels of speakers go on counting.
        answered_finalizes: How many finalizes are answered first that were answered before.
    """

    __slots__ = (
        "_answered_finalizes",
        "_clock",
        "_distinct_speakers",
        "_endpoint_before_ms",
        "_heard",
        "_number",
        "_numbered",
        "_seam",
        "_speakers_before",
        "_speech_ends_ms",
        "_translations",
    )

    def __init__(
        self,
        heard: Heard,
        clock: ClockMap,
        *,
        number: int,
        replays: bool,
        distinct_speakers: bool,
        answered_finalizes: int = 0,
    ) -> None:
        self._answered_finalizes = answered_finalizes
        self._heard = heard
        self._clock = clock
        self._number = number
        self._numbered = _number_fields(number)
        self._seam: Seam | None = None
        self._translations: TranslationSeam | None = None
        # Where the last word ended at which earlier connections reported an endpoint.
        self._endpoint_before_ms: int | None = None
        if replays:
            self._seam = Seam(heard.given, round(clock.audio_ms(0))) if heard.given.text else None
            self._translations = TranslationSeam(next(iter(heard.awaiting_translation), None))
            self._endpoint_before_ms = heard.endpoint_ms
        # Where the last word on this connection ends, whether or not it was given out.
        self._speech_ends_ms: int | None = None
        self._distinct_speakers = distinct_speakers and number > 1
        # A speaker may have the label 0.
        self._speakers_before = heard.highest_speaker + ("0" in heard.labels)

    def read(self, message: RealtimeEvent, limit_ms: int) -> tuple[RealtimeEvent, list[Marker]]:
        """Return a result with the new tokens only, on the user's clock, and its markers.

        Args:
            message: The result.
            limit_ms: Up to where audio has been sent; nothing beyond it can have been heard.
        """
        heard = self._heard
        tokens: list[Token] = []
        markers: list[Marker] = []
        # The translations of originals follow in the next message, or later in the same one.
        translated = self._said_untranslated() or None
        if self._translations is not None:
            self._translations.begin_message()
        seam, translations = copy(self._seam), copy(self._translations)
        for token in message.tokens:
            if not token.is_final:
                new = self._moved(token, seam, translations)
                if new is not None:
                    tokens.append(new)
            elif token.text == TOKEN_TEXT_FIN and self._answered_finalizes:
                self._answered_finalizes -= 1
            elif token.text in MARKERS:
                if token.text == TOKEN_TEXT_FIN or self._ends_utterance():
                    markers.append(Marker(token.text, len(tokens), heard.speech_ends_ms))
                    tokens.append(_changed(token, self._numbered))
            else:
                new = self._moved(token, self._seam, self._translations)
                seam, translations = copy(self._seam), copy(self._translations)
                if token.translation_status == _TRANSLATION:
                    if translated is None:
                        translated = self._said_untranslated()
                    del heard.awaiting_translation[:translated]
                    translated = 0
                elif translated == 0:
                    # A translation behind this one is another one, of originals in between.
                    translated = None
                if new is not None:
                    self._note_final(new, limit_ms)
                    tokens.append(new)
        changes: dict[str, object] = {"tokens": tokens, **self._numbered}
        if message.final_audio_proc_ms is not None:
            final_ms = min(limit_ms, round(self._clock.audio_ms(message.final_audio_proc_ms)))
            heard.position_ms = max(heard.position_ms, final_ms)
            changes["final_audio_proc_ms"] = heard.position_ms
        heard.total_ms = max(heard.total_ms, heard.position_ms)
        if message.total_audio_proc_ms is not None:
            total_ms = min(limit_ms, round(self._clock.audio_ms(message.total_audio_proc_ms)))
            heard.total_ms = max(heard.total_ms, total_ms)
            changes["total_audio_proc_ms"] = heard.total_ms
        waiting = heard.awaiting_translation
        while waiting and heard.position_ms - waiting[0] > _LONGEST_WAIT_MS:
            # It will not come any more.
            waiting.pop(0)
        same = [new is old for new, old in zip(tokens, message.tokens, strict=False)]
        if (
            not self._numbered
            and all(same)
            and len(same) == len(message.tokens)
            and message.final_audio_proc_ms == changes.get("final_audio_proc_ms")
            and message.total_audio_proc_ms == changes.get("total_audio_proc_ms")
        ):
            return message, markers
        return message.model_copy(update=changes), markers

    def _moved(
        self, token: Token, seam: Seam | None, translations: TranslationSeam | None
    ) -> Token | None:
        """Return a token on the user's clock, as far as it is new; None if it is not."""
        changes = dict(self._numbered)
        if self._distinct_speakers and token.speaker is not None:
            changes["speaker"] = self._distinct(token.speaker)
        if token.translation_status == _TRANSLATION:
            if translations is not None and not translations.is_new():
                return None
            return _changed(token, changes)
        begins_ms = self._time(token.start_ms)
        ends_ms = self._time(token.end_ms)
        text = token.text if seam is None else seam.rest_of(token.text, begins_ms, ends_ms)
        if translations is not None:
            translations.note_original(begins_ms, ends_ms, is_new=bool(text))
        if token.is_final and ends_ms is not None:
            self._speech_ends_ms = ends_ms
        if seam is not None and text != token.text:
            if not text:
                return None
            assert begins_ms is not None, "a token without times is given whole"
            assert ends_ms is not None, "a token without times is given whole"
            changes["text"] = text
            # The rest of a word begins where the part that was given out ends.
            begins_ms = min(max(begins_ms, seam.ends_ms), ends_ms)
        if begins_ms != token.start_ms:
            changes["start_ms"] = begins_ms
        if ends_ms != token.end_ms:
            changes["end_ms"] = ends_ms
        return _changed(token, changes)

    def _time(self, server_ms: int | None) -> int | None:
        return None if server_ms is None else round(self._clock.audio_ms(server_ms))

    def _said_untranslated(self) -> int:
        """Return how many of the originals that await a translation this connection has said.

        Those behind them were said on an earlier one, and have yet to be heard again.
        """
        said_ms = self._speech_ends_ms
        return 0 if said_ms is None else bisect_left(self._heard.awaiting_translation, said_ms)

    def _ends_utterance(self) -> bool:
        """Return whether an `<end>` is a new one, and remember it."""
        heard, before = self._heard, self._endpoint_before_ms
        speech_ends = self._speech_ends_ms
        if speech_ends is None:
            speech_ends = heard.speech_ends_ms
        if before is not None and speech_ends is not None and speech_ends <= before + _SAME_END_MS:
            return False
        heard.endpoint_ms = speech_ends
        return True

    def _note_final(self, token: Token, limit_ms: int) -> None:
        """Note a final token that is given out."""
        heard = self._heard
        if token.speaker is not None:
            heard.labels.add(token.speaker)
            if _is_number(token.speaker):
                heard.highest_speaker = max(heard.highest_speaker, int(token.speaker))
        if token.translation_status == _TRANSLATION:
            return
        begins, ends = token.start_ms, token.end_ms
        if begins is None or ends is None:
            if heard.speech_ends_ms is not None:
                heard.given.append(token.text, heard.speech_ends_ms, heard.speech_ends_ms)
            return
        if token.translation_status == _ORIGINAL:
            heard.awaiting_translation.append(begins)
        if begins_word(token.text) or not heard.given.text:
            heard.word_begins_ms = begins
        heard.given.append(token.text, begins, ends)
        heard.speech_ends_ms = ends
        heard.position_ms = max(heard.position_ms, min(ends, limit_ms))

    def _distinct(self, label: str) -> str:
        if _is_number(label):
            return str(int(label) + self._speakers_before)
        return f"{label}-{self._number}"


def numbered(message: RealtimeEvent, number: int) -> RealtimeEvent:
    """Return a message that says which connection it came on."""
    return _changed(message, _number_fields(number))


def _number_fields(number: int) -> dict[str, object]:
    """Return what is noted on everything that comes on a connection: nothing on the first."""
    return {LINK: number} if number > 1 else {}


def _changed(model: _Model, changes: dict[str, object]) -> _Model:
    return model.model_copy(update=changes) if changes else model


def _is_number(label: str) -> bool:
    return label.isdecimal() and len(label) <= _LONGEST_NUMBER
