"""The last things that happened in a session, for the error message that nobody expected.

A recorder notes state changes, controls and answers, never what was said, and no key. Notes are
tuples of what is at hand, a few for each session and minute; they become text only if somebody
reads them. Audio and results are too many to be noted. Each note has their counts instead.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

__all__ = ["FlightNote", "FlightRecord", "FlightRecorder"]

_KEPT: Final = 64
"""Notes that a record has at most."""

_LONGEST_DETAIL: Final = 200
"""Characters of a detail that are shown. A server may name an error as it likes."""


class FlightNote(NamedTuple):
    """Something that happened."""

    at: float
    """When, in seconds on the session's clock."""
    what: str
    """What: a control, an answer, a change of state."""
    detail: object
    """More about it, for example a close code; None for nothing more."""
    sent_audio_bytes: int
    """Audio accepted on the connection before, in bytes."""
    received_messages: int
    """Messages received on the connection before."""

    def __str__(self) -> str:
        detail = self.detail
        if isinstance(detail, Enum):
            detail = detail.value
        shown = "" if detail is None else f" {str(detail)[:_LONGEST_DETAIL]!r}"
        return (
            f"{self.what}{shown}, after {self.sent_audio_bytes} bytes of audio and "
            f"{self.received_messages} messages"
        )


class FlightRecord(tuple[FlightNote, ...]):
    """The last notes of a session, the oldest first. As text, one on each line."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(f"{note.at - self[-1].at:+9.3f} s  {note}" for note in self)

    def __repr__(self) -> str:
        return f"<FlightRecord of {len(self)} notes>"


class FlightRecorder:
    """Keeps the last notes of a session."""

    __slots__ = ("_notes", "count")

    def __init__(self) -> None:
        self._notes: list[FlightNote] = []
        self.count = 0
        """How many notes there were, those that are not kept included."""

    def note(
        self, at: float, what: str, detail: object, sent_audio_bytes: int, received_messages: int
    ) -> None:
        """Add a note."""
        if len(self._notes) >= 2 * _KEPT:
            self._notes = self._notes[-_KEPT:]
        self._notes.append(FlightNote(at, what, detail, sent_audio_bytes, received_messages))
        self.count += 1

    def record(self, latest: int = _KEPT) -> FlightRecord:
        """Return the latest notes, at most so many."""
        return FlightRecord(self._notes[-min(latest, _KEPT) :] if latest > 0 else ())
