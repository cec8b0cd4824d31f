"""Tokens joined into words.

A token is often part of a word, and a final token may end inside one: " tal", with "k" in the next
message. White space says where the next word begins. Languages written without spaces have none,
so there each token is taken as a word, with the punctuation that follows it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from soniox_proto.messages import Token

__all__ = [
    "Word",
    "WordBuilder",
    "begins_word",
    "highest",
    "is_divisible",
    "lowest",
    "words_of",
]

_Number = TypeVar("_Number", int, float)

_UNSPACED: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # CJK radicals and punctuation, Hiragana, Katakana, Bopomofo
    (0x31F0, 0x9FFF),  # Katakana extensions, CJK ideographs
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0xFF01, 0xFF9F),  # full width punctuation and letters, half width Katakana
    (0x20000, 0x3FFFF),  # CJK ideographs, the rare ones
)
"""Scripts whose words are not separated by spaces. Hangul is not among them."""

_FIRST: Final = tuple(first for first, _ in _UNSPACED)

_OPENING: Final = frozenset({"Ps", "Pi"})

_JOINERS: Final = frozenset("'\u2019\u00ad\u200c\u200d")
"""Apostrophes, the soft hyphen, and what controls how letters join."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word with the punctuation that touches it."""

    text: str
    """The word, without white space."""
    start_ms: int | None = None
    """Where it begins in the audio, in ms; None if no token said so."""
    end_ms: int | None = None
    """Where it ends in the audio, in ms; None if no token said so."""
    confidence: float | None = None
    """The lowest confidence of its tokens; None if none had one."""
    speaker: str | None = None
    """Who said it; None without diarization."""
    language: str | None = None
    """Its language; None if it was not identified."""
    space_before: bool = False
    """Whether white space separates it from the word before. Words of Chinese or Japanese, for
    example, follow each other without any."""


class WordBuilder:
    """Joins tokens into words as they come. Give it the tokens of one utterance, in order.

    A word is complete when the next one begins, or when `finish` says that none will.
    """

    __slots__ = ("_begun", "_open", "_previous")

    def __init__(self) -> None:
        self._open: _Draft | None = None
        self._begun = False
        # The last character of the text so far.
        self._previous = ""

    @property
    def unfinished(self) -> Word | None:
        """The word under way, as it is now; None if there is none."""
        return None if self._open is None else self._open.word()

    def add(self, token: Token) -> list[Word]:
        """Take the next token; return the words that are complete now."""
        complete: list[Word] = []
        for piece, start_ms, end_ms in _pieces(token):
            if piece.isspace():
                self._previous = piece[-1]
                continue
            draft = self._open
            if draft is not None and self._begins(draft, piece, token):
                complete.append(draft.word())
                draft = None
            if draft is None:
                # White space before the first word separates it from nothing.
                draft = _Draft(space_before=self._begun and self._previous.isspace())
                self._open, self._begun = draft, True
            draft.add(piece, start_ms, end_ms, token)
            self._previous = piece[-1]
        return complete

    def finish(self) -> list[Word]:
        """End the word under way, because the utterance is over; return it if there is one."""
        draft, self._open = self._open, None
        self._previous, self._begun = "", False
        return [] if draft is None else [draft.word()]

    def _begins(self, draft: _Draft, piece: str, token: Token) -> bool:
        if begins_word(self._previous, piece):
            return True
        return (
            token.speaker is not None
            and draft.speaker not in {None, token.speaker}
            and is_divisible(self._previous, piece)
        )


def words_of(tokens: Iterable[Token]) -> tuple[Word, ...]:
    """Return the words of an utterance."""
    builder = WordBuilder()
    words = [word for token in tokens for word in builder.add(token)]
    return (*words, *builder.finish())


def begins_word(previous: str, text: str) -> bool:
    """Return whether `text` begins another word than the one that `previous` ends with.

    Neither may be empty, except that nothing comes before the first word.
    """
    if not previous:
        return True
    last, first = previous[-1], text[0]
    if first.isspace() or last.isspace():
        return True
    if not (_is_unspaced(first) or _is_unspaced(last)):
        return False
    # Punctuation and combining marks belong to what they follow, opening brackets to what they
    # precede.
    kind = unicodedata.category(first)
    if unicodedata.category(last) in _OPENING:
        return False
    return kind in _OPENING or kind[0] not in "PM"


def is_divisible(previous: str, text: str) -> bool:
    """Return whether another speaker or language may begin with `text`: not inside a word.

    Punctuation that touches a word is part of it.
    """
    if not (previous and text) or begins_word(previous, text):
        return True
    first = text[0]
    if not any(map(str.isalnum, text)) and not _is_opening(first):
        return False
    return not (_is_inside_words(previous[-1]) and _is_inside_words(first))


@dataclass(slots=True)
class _Draft:
    """A word that may go on."""

    space_before: bool
    text: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    confidence: float | None = None
    speaker: str | None = None
    language: str | None = None

    def add(self, piece: str, start_ms: int | None, end_ms: int | None, token: Token) -> None:
        self.text += piece
        self.start_ms = lowest(self.start_ms, start_ms)
        self.end_ms = highest(self.end_ms, end_ms)
        self.confidence = lowest(self.confidence, token.confidence)
        if self.speaker is None:
            self.speaker = token.speaker
        if self.language is None:
            self.language = token.language

    def word(self) -> Word:
        return Word(
            self.text,
            self.start_ms,
            self.end_ms,
            self.confidence,
            self.speaker,
            self.language,
            self.space_before,
        )


def _pieces(token: Token) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield the words and the white space of a token, with their times.

    Most tokens have one word at most. The time of one that has more is shared out by length.
    """
    text, start_ms, end_ms = token.text, token.start_ms, token.end_ms
    matches = list(re.finditer(r"\s+|\S+", text))
    spoken = [match for match in matches if not match.group().isspace()]
    if len(spoken) < 2 or start_ms is None or end_ms is None:
        for match in matches:
            yield match.group(), start_ms, end_ms
        return
    first, length = spoken[0].start(), spoken[-1].end() - spoken[0].start()
    for match in matches:
        begin, end = ((at - first) * (end_ms - start_ms) // length for at in match.span())
        yield match.group(), start_ms + begin, start_ms + end


def _is_opening(character: str) -> bool:
    return character in "\u00bf\u00a1" or unicodedata.category(character) in _OPENING


def _is_inside_words(character: str) -> bool:
    # Vowel signs of Indic scripts, for example, are marks, and no letters.
    return character.isalnum() or character in _JOINERS or unicodedata.category(character)[0] == "M"


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    position = bisect_right(_FIRST, code) - 1
    return position >= 0 and code <= _UNSPACED[position][1]


def lowest(first: _Number | None, second: _Number | None) -> _Number | None:
    """Return the lower of two numbers, either of which may be unknown."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def highest(first: _Number | None, second: _Number | None) -> _Number | None:
    """Return the higher of two numbers, either of which may be unknown."""
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)
