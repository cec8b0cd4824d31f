"""What was said in one go: an utterance, and its parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import reduce
from typing import Any

from soniox_proto.messages import Token
from soniox_proto.transcript.words import Word, highest, is_divisible, lowest, words_of

__all__ = ["Segment", "Utterance", "UtteranceEnd", "is_translation", "joined", "segments_of"]


class UtteranceEnd(Enum):
    """What ended an utterance."""

    ENDPOINT = "endpoint"
    """The service found its end: an `<end>` token."""
    FINALIZE = "finalize"
    """A finalize was answered: a `<fin>` token."""
    SPEAKER = "speaker"
    """Another speaker began."""
    PAUSE = "pause"
    """A pause of `pause_ms`."""
    LENGTH = "length"
    """It reached a limit of the transcript."""
    STREAM = "stream"
    """The stream ended."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens of one speaker and language, either of originals or of translations.

    It lies within one utterance. A token without a label belongs to the segment before it.
    """

    tokens: tuple[Token, ...]
    """Its tokens, without markers."""
    speaker: str | None = None
    """Who says it; None without diarization."""
    language: str | None = None
    """Its language; None if it was not identified."""
    is_translation: bool = False
    """Whether it is a translation."""

    @property
    def text(self) -> str:
        """Its text."""
        return joined(self.tokens)

    @property
    def start_ms(self) -> int | None:
        """The earliest start of its tokens, in ms; None for translations, which have no times."""
        return _start_ms(self.tokens)

    @property
    def end_ms(self) -> int | None:
        """The latest end of its tokens, in ms; None for translations, which have no times."""
        return _end_ms(self.tokens)


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was said in one go, and its translation."""

    tokens: tuple[Token, ...]
    """Its tokens in the order in which they came, without markers."""
    settled_at: float | None = None
    """When the last of its tokens became final, in seconds on the clock of `Transcript.feed`; None
    without such a clock, or if some token never became final."""
    index: int = 0
    """Which one it is, counted from 0 since the beginning of the stream."""
    ended_by: UtteranceEnd | None = None
    """What ended it; None while it is under way."""
    ended_at: float | None = field(default=None, compare=False)
    """When its last sound was sent, in seconds on the clock of its session; None if it does not
    come from `session.utterances()`, or from audio whose format does not say."""
    ended_ago: float | None = field(default=None, compare=False)
    """How many seconds before it was handed over that was."""

    @property
    def text(self) -> str:
        """What was said, in the language in which it was said."""
        return joined(self._originals())

    @property
    def translation(self) -> str | None:
        """Its translation, if there is one."""
        return joined(filter(is_translation, self.tokens)) or None

    @property
    def start_ms(self) -> int | None:
        """The earliest start of its tokens, in ms; None if no token has a time."""
        return _start_ms(self.tokens)

    @property
    def end_ms(self) -> int | None:
        """The latest end of its tokens, in ms; None if no token has a time."""
        return _end_ms(self.tokens)

    @property
    def speaker(self) -> str | None:
        """Who began it; None without diarization."""
        return next((token.speaker for token in self.tokens if token.speaker is not None), None)

    @property
    def language(self) -> str | None:
        """The language in which it begins; None if it was not identified."""
        return _language(self._originals())

    @property
    def translation_language(self) -> str | None:
        """The language of its translation; None if there is none."""
        return _language(filter(is_translation, self.tokens))

    @property
    def words(self) -> tuple[Word, ...]:
        """What was said, word by word."""
        return words_of(self._originals())

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Its tokens, divided where the speaker or the language changes, and into originals and
        translations."""
        return segments_of(self.tokens)

    @property
    def clauses(self) -> tuple[Utterance, ...]:
        """Pairs of an original and its translation, each as an utterance of its own.

        The service translates clause by clause, so they are shorter than the utterance. What was
        not to be translated is a clause without translation.
        """
        runs: list[list[Token]] = []
        for token in self.tokens:
            if not runs or _begins_clause(runs[-1][-1], token):
                runs.append([])
            runs[-1].append(token)
        return tuple(replace(self, tokens=tuple(run)) for run in runs)

    def as_dict(self, *, words: bool = False) -> dict[str, Any]:
        """Return what is known about it, for JSON. What is not known is left out.

        With `words`, the words are included, each with what is known about it.
        """
        values: dict[str, Any] = {
            "text": self.text,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "speaker": self.speaker,
            "language": self.language,
            "translation": self.translation,
            "translation_language": self.translation_language,
        }
        if words:
            values["words"] = [
                _known(
                    {
                        "text": word.text,
                        "start_ms": word.start_ms,
                        "end_ms": word.end_ms,
                        "confidence": word.confidence,
                        "speaker": word.speaker,
                        "language": word.language,
                    }
                )
                for word in self.words
            ]
        return _known(values)

    def _originals(self) -> Iterable[Token]:
        return (token for token in self.tokens if not is_translation(token))


def is_translation(token: Token) -> bool:
    """Return whether a token belongs to a translation."""
    return token.translation_status == "translation"


def joined(tokens: Iterable[Token]) -> str:
    """Return the text of tokens, without white space around it."""
    return "".join(token.text for token in tokens).strip()


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def segments_of(tokens: Iterable[Token]) -> tuple[Segment, ...]:
    """Return the tokens in runs of one speaker and language."""
    segments: list[Segment] = []
    run: list[Token] = []
    speaker: str | None = None
    language: str | None = None
    for token in tokens:
        if run and (
            is_translation(token) != is_translation(run[0])
            or (
                (_differ(speaker, token.speaker) or _differ(language, token.language))
                and is_divisible(run[-1].text, token.text)
            )
        ):
            segments.append(Segment(tuple(run), speaker, language, is_translation(run[0])))
            run, speaker, language = [], None, None
        run.append(token)
        speaker = token.speaker if speaker is None else speaker
        language = token.language if language is None else language
    if run:
        segments.append(Segment(tuple(run), speaker, language, is_translation(run[0])))
    return tuple(segments)


def _begins_clause(before: Token, token: Token) -> bool:
    if is_translation(token):
        return False
    # What is said after a translation is the next clause. So is what changes to or from text that
    # is not to be translated.
    return token.translation_status != before.translation_status


def _differ(first: str | None, second: str | None) -> bool:
    return first is not None and second is not None and first != second


def _language(tokens: Iterable[Token]) -> str | None:
    return next((token.language for token in tokens if token.language is not None), None)


def _start_ms(tokens: Iterable[Token]) -> int | None:
    return reduce(lowest, (token.start_ms for token in tokens if not is_translation(token)), None)


def _end_ms(tokens: Iterable[Token]) -> int | None:
    return reduce(highest, (token.end_ms for token in tokens if not is_translation(token)), None)
