"""The text of a transcript as a display holds it: only its recent lines, and every change of them.

A line is the text of one utterance. It has a firm part, which only grows, and a tail that each
message replaces. The text itself is not kept here, since the utterances have it: lengths are
enough, and so a change costs the same however long the text has become.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from soniox_proto.transcript.update import TextEdit, smallest_edit

__all__ = ["LINE_BREAK", "LiveText"]

LINE_BREAK: Final = "\n"
"""What separates the lines. Lines without text have none, and do not show."""


class LiveText:
    """Keeps account of a text of lines, of which the last `kept_lines` may still change."""

    __slots__ = ("_frozen", "_kept_lines", "_lines")

    def __init__(self, kept_lines: int) -> None:
        self._kept_lines = kept_lines
        # The length of the lines that are no longer kept, with the breaks between them.
        self._frozen = 0
        self._lines: list[_Line] = []

    def change(self, added: Mapping[int, str], tails: Mapping[int, str]) -> list[TextEdit]:
        """Add firm text to lines, replace all tails, and return the edits.

        A line's number says where it stands among the others. Lines come into being when first
        named, and those that may still change are never more than `kept_lines` apart.
        """
        with_tail = (line.number for line in self._lines if line.tail)
        edits = [
            edit
            for number in sorted({*added, *tails, *with_tail})
            for edit in self._change_line(number, added.get(number, ""), tails.get(number, ""))
        ]
        while len(self._lines) > self._kept_lines:
            line = self._lines.pop(0)
            self._frozen = _total((self._frozen, line.length))
        return edits

    def tail_of(self, number: int) -> str:
        """Return the tail of a line as it shows, with the line break that it begins with, if so."""
        line, before, _ = self._find(number)
        return LINE_BREAK + line.tail if before and line.tail and not line.firm else line.tail

    def remove_first(self, number: int, length: int) -> list[TextEdit]:
        """Remove the first line, of which only the length is known to the caller."""
        if self._lines and self._lines[0].number == number:
            length = self._lines.pop(0).length
        elif length:
            self._frozen = max(0, self._frozen - length - len(LINE_BREAK))
        if not length:
            return []
        rest = _total((self._frozen, *(line.length for line in self._lines)))
        return [TextEdit(0, length + (len(LINE_BREAK) if rest else 0), "")]

    def _change_line(self, number: int, added: str, tail: str) -> list[TextEdit]:
        line, before, after = self._find(number)
        firm, length, old_tail = line.firm, line.length, line.tail
        new = line.change(added, tail)
        if length and line.length:
            start = _total((before, length)) - length + firm
            return smallest_edit(start, old_tail, new)
        # The line appears or disappears, and a line break with it.
        if line.length:
            start, inserted, deleted = before, new, 0
        elif length:
            start, inserted, deleted = before, "", length
        else:
            return []
        if before or after:
            inserted = _separated(inserted, before)
            deleted += len(LINE_BREAK) if deleted else 0
        return [TextEdit(start, deleted, inserted)]

    def _find(self, number: int) -> tuple[_Line, int, int]:
        """Return a line, new if need be, and the lengths of the text before and after it."""
        position = len(self._lines)
        while position and self._lines[position - 1].number >= number:
            position -= 1
        if position == len(self._lines) or self._lines[position].number != number:
            self._lines.insert(position, _Line(number))
        before = _total((self._frozen, *(line.length for line in self._lines[:position])))
        after = _total(line.length for line in self._lines[position + 1 :])
        return self._lines[position], before, after


def _separated(inserted: str, before: int) -> str:
    if not inserted:
        return ""
    return LINE_BREAK + inserted if before else inserted + LINE_BREAK


def _total(lengths: Iterable[int]) -> int:
    """Return the length of lines together, with breaks between those that have any text."""
    shown = [length for length in lengths if length]
    return sum(shown) + len(LINE_BREAK) * max(0, len(shown) - 1)


@dataclass(slots=True)
class _Line:
    """The account of one line. White space around a line does not show."""

    number: int
    firm: int = 0
    """Length of its firm text."""
    space: str = ""
    """White space at the end of its firm text, which does not show unless something follows."""
    tail: str = ""
    """Its tail, as it shows."""

    @property
    def length(self) -> int:
        return self.firm + len(self.tail)

    def change(self, added: str, tail: str) -> str:
        """Add firm text, replace the tail, and return the new text after the old firm part."""
        grown, self.space = self._continued(added)
        self.firm += len(grown)
        self.tail, _ = self._continued(tail)
        return grown + self.tail

    def _continued(self, text: str) -> tuple[str, str]:
        """Return what more shows with `text` added, and the white space that then does not."""
        text = self.space + text
        if not self.firm:
            text = text.lstrip()
        shown = text.rstrip()
        return shown, text[len(shown) :]
