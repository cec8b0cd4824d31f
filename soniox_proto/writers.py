"""Files of a transcript, written while it grows: text, JSON, and tables.

All writers are used alike, `Subtitles` too: feed them each update of a transcript, and append what
they return to the file. They write utterances once those are complete. What has been written is not
changed any more, so a translation that comes late is written by itself.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

from soniox_proto.errors import SonioxValidationError
from soniox_proto.subtitles.layout import printable
from soniox_proto.transcript import TranscriptUpdate, Utterance
from soniox_proto.transcript.utterance import is_translation

__all__ = ["JSONWriter", "TableWriter", "TextWriter", "TranscriptWriter"]

_DIALECTS: Final[Mapping[str, tuple[str, str]]] = {"csv": (",", "\r\n"), "tsv": ("\t", "\n")}
"""What separates the fields of a table, and its rows (RFC 4180; text/tab-separated-values)."""

_COLUMNS: Final = (
    "start_ms",
    "end_ms",
    "speaker",
    "language",
    "text",
    "translation_language",
    "translation",
)

_JSON_BEGINNING: Final = '{\n  "utterances": ['


class TranscriptWriter(Protocol):
    """What all writers of files have in common."""

    def feed(self, update: TranscriptUpdate, /) -> str:
        """Take the next update of the transcript; return the text to append to the file."""
        ...

    def finish(self) -> str:
        """Return the rest of the text, because the transcript has ended."""
        ...


class TextWriter:
    """Writes each utterance as a line, and its translation as another, further to the right.

    Args:
        speakers: Whether to begin with the speaker, where one is known.
        languages: Whether to begin with the language, where one is known, such as ``[en]``.
    """

    def __init__(self, *, speakers: bool = True, languages: bool = True) -> None:
        self._speakers = speakers
        self._languages = languages

    def feed(self, update: TranscriptUpdate, /) -> str:
        """Take the next update of the transcript; return the text to append to the file."""
        return "".join(f"{self.text_of(utterance)}\n" for utterance in written_now(update))

    def finish(self) -> str:
        """Return nothing, since all has been written."""
        return ""

    def text_of(self, utterance: Utterance) -> str:
        """Return the line or lines of one utterance, without a line break at the end."""
        line = self._labelled(utterance.text, utterance.language)
        if self._speakers and utterance.speaker is not None:
            line = _one_line(f"Speaker {utterance.speaker}: {line}")
        if utterance.translation is None:
            return line
        translation = self._labelled(utterance.translation, utterance.translation_language)
        return f"{line}\n    {translation}" if utterance.text else f"    {translation}"

    def _labelled(self, text: str, language: str | None) -> str:
        if self._languages and language is not None:
            text = f"[{language}] {text}"
        return _one_line(text)


class TableWriter:
    """Writes each utterance as a row of a table, below a row with the names of the columns.

    Args:
        format: `csv`, or `tsv` with tabs between the fields.

    Raises:
        SonioxValidationError: The format is neither.
    """

    def __init__(self, format: Literal["csv", "tsv"] = "csv") -> None:
        if format not in _DIALECTS:
            raise SonioxValidationError(f"format must be csv or tsv, not {format!r}")
        self._separator, self._line_break = _DIALECTS[format]
        self._rows: list[tuple[object, ...]] = [_COLUMNS]

    def feed(self, update: TranscriptUpdate, /) -> str:
        """Take the next update of the transcript; return the text to append to the file."""
        utterances = list(written_now(update))
        if not utterances:
            return ""
        for utterance in utterances:
            values = utterance.as_dict()
            row = (values.get(column, "") for column in _COLUMNS)
            self._rows.append(
                tuple(_one_line(value) if isinstance(value, str) else value for value in row)
            )
        return self.finish()

    def finish(self) -> str:
        """Return the names of the columns, if nothing has been written; else nothing."""
        lines = _Lines()
        csv.writer(lines, delimiter=self._separator, lineterminator=self._line_break).writerows(
            self._rows
        )
        self._rows = []
        return "".join(lines.written)


class JSONWriter:
    """Writes a JSON object with the field `utterances`, a list that grows.

    Args:
        words: Whether each utterance has its words, with their times.
    """

    def __init__(self, *, words: bool = True) -> None:
        self._words = words
        self._begun = False

    def feed(self, update: TranscriptUpdate, /) -> str:
        """Take the next update of the transcript; return the text to append to the file."""
        parts: list[str] = []
        for utterance in written_now(update):
            values = {"index": utterance.index, **utterance.as_dict(words=self._words)}
            if not utterance.text:
                values = {name: value for name, value in values.items() if value not in ("", [])}
            parts += (",\n" if self._begun else _JSON_BEGINNING + "\n", f"    {_json(values)}")
            self._begun = True
        return "".join(parts)

    def finish(self, **fields: Any) -> str:
        """Return the rest of the text, with further fields of the object."""
        end = "\n  ]" if self._begun else f"{_JSON_BEGINNING}]"
        more = (f",\n  {_json(name)}: {_json(value)}" for name, value in fields.items())
        return "".join((end, *more, "\n}\n"))


def written_now(update: TranscriptUpdate) -> Iterator[Utterance]:
    """Yield what an update adds to a file: late translations, then complete utterances."""
    for utterance in update.amended:
        yield replace(utterance, tokens=tuple(filter(is_translation, utterance.tokens)))
    yield from update.completed


class _Lines:
    """A file for the module csv that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
