"""A cue, and its form in the files that players read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["FORMATS", "Cue", "CueFormat"]

_ARROW: Final = re.compile("-{2,}>")


@dataclass(frozen=True, slots=True)
class Cue:
    """Text to be shown for a time."""

    start_ms: int
    """When it appears, in ms."""
    end_ms: int
    """When it disappears, in ms."""
    lines: tuple[str, ...]
    """Its text."""
    speaker: str | None = None
    """The name of the speaker, if names are wanted and it is known."""


@dataclass(frozen=True, slots=True)
class CueFormat:
    """How a file of subtitles is written."""

    header: str
    """What the file begins with."""
    cue: Callable[[int, Cue], str]
    """Returns the text of a cue, given its number, counted from 1."""
    names_in_text: bool
    """Whether the name of a speaker is part of the text, and takes room in its lines."""


def _srt(number: int, cue: Cue) -> str:
    start, end = _time(cue.start_ms, ","), _time(cue.end_ms, ",")
    # SRT knows no escapes, and an arrow would look like a line of times.
    text = "\n".join(_ARROW.sub("->", line) for line in cue.lines)
    return f"{number}\n{start} --> {end}\n{text}\n\n"


def _vtt(number: int, cue: Cue) -> str:
    start, end = _time(cue.start_ms, "."), _time(cue.end_ms, ".")
    text = "\n".join(escape(line, quote=False) for line in cue.lines)
    if cue.speaker is not None:
        text = f"<v {escape(cue.speaker, quote=False)}>{text}</v>"
    return f"{start} --> {end}\n{text}\n\n"


FORMATS: Final = {
    "srt": CueFormat("", _srt, names_in_text=True),
    "vtt": CueFormat("WEBVTT\n\n", _vtt, names_in_text=False),
}
"""The formats by name: SubRip, and WebVTT (W3C, "WebVTT: The Web Video Text Tracks Format")."""


def _time(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
