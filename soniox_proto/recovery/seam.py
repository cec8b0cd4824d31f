"""The seam between the text of earlier connections and that of a new one.

The audio around it is recognized twice. The second time, its words may come in other pieces, some
ms earlier or later, and the last one may be longer, because final tokens may end inside a word. So
what was given before is found again letter by letter: the same letters, in order, at about the same
time. Where the two recognitions differ, the time alone decides, and in doubt a word is given twice
rather than not at all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final
from unicodedata import east_asian_width

__all__ = ["GivenText", "Seam", "TranslationSeam", "begins_word"]

_KEPT_LETTERS: Final = 1000
"""Letters to remember: those of a minute of speech."""

_TOLERANCE_MS: Final = 60
"""How far apart the same letter may end in two recognitions."""

_LONG_TOLERANCE_MS: Final = 200
"""The same for letters inside a token, whose times are estimated."""


def begins_word(text: str) -> bool:
    """Return whether a token begins a word: after a space, or in a script without spaces."""
    return text[:1].isspace() or east_asian_width(text[:1] or " ") in {"W", "F"}


def _folded(text: str) -> str:
    """Return a text with as many letters, in which case does not matter."""
    return "".join(letter.lower()[:1] or letter for letter in text)


class GivenText:
    """The end of the final text, and when each of its letters ends, in ms."""

    __slots__ = ("ends", "text")

    def __init__(self) -> None:
        self.text = ""
        self.ends: list[int] = []

    def append(self, text: str, begins_ms: int, ends_ms: int) -> None:
        """Add a token; its letters are taken to be equally long."""
        count = len(text)
        self.text += text
        self.ends += [
            begins_ms + (ends_ms - begins_ms) * (index + 1) // count for index in range(count)
        ]
        if len(self.text) > 2 * _KEPT_LETTERS:
            self.text = self.text[-_KEPT_LETTERS:]
            self.ends = self.ends[-_KEPT_LETTERS:]


class Seam:
    """Leaves out the originals of a new connection that were given before.

    Final tokens move it along; for the provisional ones of a message a copy is used.

    Args:
        given: What was given before; at least one letter.
        begins_ms: Where the audio of the new connection begins.
    """

    __slots__ = ("_at", "_dropping", "_ends", "_first", "_joins", "_text", "ends_ms")

    def __init__(self, given: GivenText, begins_ms: int) -> None:
        self._text = _folded(given.text)
        self._ends = list(given.ends)
        # Letters that were found again, or passed over.
        self._at = bisect_right(self._ends, begins_ms)
        self._first = True
        # Whether the token before was left out.
        self._dropping = False
        # Whether the first new token was given.
        self._joins = False
        self.ends_ms = given.ends[-1]
        """Where the given text ends."""

    def rest_of(self, text: str, begins_ms: int | None, ends_ms: int | None) -> str:
        """Return what of an original token is new, ``""`` if nothing is."""
        first, self._first = self._first, False
        letters = _folded(text).lstrip()
        if begins_ms is None or ends_ms is None:
            # A token without times belongs to the one before it.
            if self._dropping and self._at < len(self._text):
                self._at = min(len(self._text), self._at + len(letters))
                return ""
            return text
        found = self._found(letters, ends_ms)
        if found is not None:
            self._at = found
            return self._drop()
        begun = self._begun(letters, begins_ms, ends_ms)
        if begun:
            self._at = len(self._text)
            self._dropping = False
            return text[len(text) - len(letters) + begun :]
        # Something that was not said before, or that is recognized as something else now.
        complete = not self._text[self._at :].strip()
        if (begins_ms + ends_ms) / 2 <= self.ends_ms - (_TOLERANCE_MS if complete else 0):
            self._at = max(self._at, bisect_right(self._ends, ends_ms))
            return self._drop()
        self._at = len(self._text)
        self._dropping = False
        return self._joined(text, first=first)

    def _joined(self, text: str, *, first: bool) -> str:
        """Return a new token with the space that belongs between it and the given text."""
        if self._joins:
            return text
        self._joins = True
        if self._text.endswith(" "):
            return text.lstrip()
        # The first token of a connection has no space before it.
        apart = first and text[:1].isalnum() and not begins_word(text) and " " in self._text
        return f" {text}" if apart else text

    def _drop(self) -> str:
        self._dropping = True
        return ""

    def _found(self, letters: str, ends_ms: int) -> int | None:
        """Return where in the given text these letters end, at about this time."""
        if not letters:
            return None
        best: int | None = None
        first = max(self._at + len(letters), bisect_left(self._ends, ends_ms - _TOLERANCE_MS) + 1)
        last = bisect_right(self._ends, ends_ms + _TOLERANCE_MS)
        for end in range(first, last + 1):
            if self._text[end - len(letters) : end] == letters and (
                best is None
                or abs(self._ends[end - 1] - ends_ms) < abs(self._ends[best - 1] - ends_ms)
            ):
                best = end
        return best

    def _begun(self, letters: str, begins_ms: int, ends_ms: int) -> int:
        """Return how many of these letters the given text ends with, if it ends inside them."""
        left = len(self._text) - self._at
        for count in range(min(len(letters) - 1, left), 0, -1):
            at_ms = begins_ms + (ends_ms - begins_ms) * count / len(letters)
            if (
                self._text.endswith(letters[:count])
                and abs(at_ms - self.ends_ms) <= _LONG_TOLERANCE_MS
            ):
                return count
        return 0


class TranslationSeam:
    """Leaves out the translations of a new connection that were given before.

    Translations have no times, but each follows its originals: in the next message, or later in the
    same one. Where some of those originals are new, all of it is given.

    Args:
        missing_from_ms: Where the first original begins whose translation is missing; None if
            none is.
    """

    __slots__ = ("_missing_from_ms", "_now", "_run", "_waiting")

    def __init__(self, missing_from_ms: int | None) -> None:
        self._missing_from_ms = missing_from_ms
        # Whether the originals that await a translation are new: those of earlier messages, those
        # of this one, and those of the translation that is coming in.
        self._waiting: bool | None = None
        self._now: bool | None = None
        self._run: bool | None = None

    def begin_message(self) -> None:
        """Note that a message begins."""
        if self._now is not None:
            self._waiting = self._now or bool(self._waiting)
        self._now = self._run = None

    def note_original(self, begins_ms: int | None, ends_ms: int | None, *, is_new: bool) -> None:
        """Note an original, and whether it was given out just now."""
        # A translation behind it is another one.
        self._run = None
        missing = self._missing_from_ms
        if missing is not None and begins_ms is not None and ends_ms is not None:
            is_new = is_new or (begins_ms + ends_ms) / 2 >= missing
        self._now = is_new or bool(self._now)

    def is_new(self) -> bool:
        """Return whether the next token of a translation is to be given out."""
        if self._run is None:
            if self._waiting is not None:
                self._run, self._waiting = self._waiting, None
            else:
                self._run, self._now = self._now is not False, None
        return self._run
