"""Words divided into cues, and cues into lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from soniox_proto.transcript.words import Word

__all__ = ["Layout", "Phrases", "printable", "spread", "width"]

_SENTENCE_ENDS: Final = tuple(".?!…。？！؟۔।")  # noqa: RUF001
_CLAUSE_ENDS: Final = tuple(",;:、，；：،؛—–")  # noqa: RUF001
_CLOSING: Final = "\"'”’»)]」』）"  # noqa: RUF001
_JOINER: Final = "\u200d"
_SKIN_TONES: Final = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_EXTENDING: Final = frozenset({"Mn", "Mc", "Me", "Cf"})
_LONG_PAUSE_MS: Final = 1_000
"""A pause after which words belong into another cue."""
_SHORT_PAUSE_MS: Final = 200
"""A pause at which a cue may end, if there is no better place."""


def width(text: str) -> int:
    """Return how many columns a text takes; Chinese characters, for example, take two."""
    return sum(map(_columns, text))


def printable(text: str) -> str:
    """Return the text without control characters, and without halves of characters."""
    return "".join(c for c in text if unicodedata.category(c) not in {"Cc", "Cs"})


def spread(words: Sequence[Word], start_ms: int, end_ms: int) -> list[Word]:
    """Return words without times as if they were spoken evenly from start to end."""
    total = sum(len(word.text) for word in words)
    timed: list[Word] = []
    done = 0
    for word in words:
        begin, done = done, done + len(word.text)
        start, end = (start_ms + (end_ms - start_ms) * at // total for at in (begin, done))
        timed.append(replace(word, start_ms=start, end_ms=end))
    return timed


@dataclass(frozen=True, slots=True)
class Layout:
    """How much text a cue may hold, and for how long it may stand."""

    columns: int
    """Columns of a line."""
    lines: int
    """Lines of a cue."""
    max_duration_ms: int
    """The longest time for which a cue may stand."""

    def fits(self, words: Sequence[Word]) -> bool:
        """Return whether words fit into one cue."""
        starts = [word.start_ms for word in words if word.start_ms is not None]
        ends = [word.end_ms for word in words if word.end_ms is not None]
        if starts and ends and max(ends) - min(starts) > self.max_duration_ms:
            return False
        return len(_filled(words, self.columns)) <= self.lines

    def wrap(self, words: Sequence[Word]) -> tuple[str, ...]:
        """Return words in lines: as few as will do, and of about the same length."""
        lines = _filled(words, self.columns)
        total = sum(map(width, lines))
        for columns in range(-(-total // max(1, len(lines))), self.columns):
            narrower = _filled(words, columns)
            if len(narrower) == len(lines):
                return tuple(narrower)
        return tuple(lines)

    def pieces(self, word: Word) -> list[Word]:
        """Return a word in pieces of which each fits into a line; usually it fits whole."""
        text = printable(word.text)
        if not text:
            return []
        if width(text) <= self.columns:
            return [replace(word, text=text)]
        texts = [""]
        for cluster in _clusters(text):
            # One that is wider than a line has to be cut after all.
            for part in [cluster] if width(cluster) <= self.columns else cluster:
                if width(texts[-1]) + width(part) > self.columns:
                    texts.append("")
                texts[-1] += part
        pieces = [replace(word, text=text, space_before=False) for text in texts]
        pieces[0] = replace(pieces[0], space_before=word.space_before)
        if word.start_ms is None or word.end_ms is None:
            return pieces
        return spread(pieces, word.start_ms, word.end_ms)


class Phrases:
    """Gathers words until they fill a cue, and divides them at the end of a phrase."""

    __slots__ = ("_label", "_layout", "_words")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._words: list[Word] = []
        self._label: list[Word] = []

    @property
    def speaker(self) -> str | None:
        """Who says the words gathered so far."""
        return next((word.speaker for word in self._words if word.speaker is not None), None)

    @property
    def end_ms(self) -> int | None:
        """Where the words gathered so far end."""
        return self._words[-1].end_ms if self._words else None

    def __bool__(self) -> bool:
        return bool(self._words)

    def begin(self, label: str) -> None:
        """Leave room for a label in front of the next cue."""
        self._label = [Word(label)] if label else []

    def add(self, word: Word) -> Iterator[list[Word]]:
        """Add a word, and yield the words of cues that are full."""
        for piece in self._layout.pieces(word):
            if self._words and _pause(self._words[-1], piece) >= _LONG_PAUSE_MS:
                yield from self.finish()
            while self._words and not self._layout.fits([*self._label, *self._words, piece]):
                end = _best_end(self._words)
                full, self._words = self._words[:end], self._words[end:]
                yield full
                self._label = []
            self._words.append(piece)

    def finish(self) -> Iterator[list[Word]]:
        """Yield the words that are left, if any."""
        words, self._words = self._words, []
        self._label = []
        if words:
            yield words


def _filled(words: Sequence[Word], columns: int) -> list[str]:
    """Return words in lines, each as full as can be."""
    lines: list[str] = []
    room = 0
    for word in words:
        text = f" {word.text}" if word.space_before else word.text
        taken = width(text)
        if lines and taken <= room:
            lines[-1] += text
        else:
            lines.append(word.text)
            room, taken = columns, width(word.text)
        room -= taken
    return lines


def _best_end(words: Sequence[Word]) -> int:
    """Return how many of the words make a good cue: up to the end of a phrase, if that is not too
    early."""
    reached = 0
    total = sum(width(word.text) for word in words)
    sentence = clause = pause = 0
    longest = _SHORT_PAUSE_MS
    for count, (word, following) in enumerate(pairwise(words), 1):
        reached += width(word.text)
        text = word.text.rstrip(_CLOSING)
        if text.endswith(_SENTENCE_ENDS) and reached * 3 >= total:
            sentence = count
        if text.endswith(_CLAUSE_ENDS) and reached * 2 >= total:
            clause = count
        if reached * 2 >= total and _pause(word, following) >= longest:
            pause, longest = count, _pause(word, following)
    whole = len(words) if words[-1].text.rstrip(_CLOSING).endswith(_SENTENCE_ENDS) else 0
    return whole or sentence or clause or pause or len(words)


def _pause(word: Word, following: Word) -> int:
    if word.end_ms is None or following.start_ms is None:
        return 0
    return following.start_ms - word.end_ms


def _clusters(text: str) -> Iterator[str]:
    """Yield characters with the marks, joined characters and skin tones that belong to them."""
    cluster = ""
    for character in text:
        if cluster and not (
            cluster.endswith(_JOINER)
            or character in _SKIN_TONES
            or unicodedata.category(character) in _EXTENDING
        ):
            yield cluster
            cluster = ""
        cluster += character
    # The text is not empty.
    yield cluster


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
