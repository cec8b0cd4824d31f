"""What one message changed in a transcript."""

from __future__ import annotations

from dataclasses import dataclass

from soniox_proto.messages import Token
from soniox_proto.transcript.utterance import Utterance

__all__ = ["Addition", "TextEdit", "TranscriptUpdate", "smallest_edit"]


@dataclass(frozen=True, slots=True)
class TextEdit:
    """A change of a text: what to delete at a place, and what to insert there."""

    start: int
    """Where it begins, in characters from the beginning of the text."""
    deleted: int
    """How many characters to delete there."""
    inserted: str
    """What to insert in their place."""

    def apply(self, text: str) -> str:
        """Return the text with the change made."""
        return text[: self.start] + self.inserted + text[self.start + self.deleted :]


@dataclass(frozen=True, slots=True)
class Addition:
    """Final tokens that joined an utterance."""

    utterance_index: int
    """Which utterance, counted from 0 since the beginning of the stream."""
    tokens: tuple[Token, ...]
    """The tokens, without markers."""


@dataclass(frozen=True, slots=True)
class TranscriptUpdate:
    """What one message changed.

    The edits are the smallest that will do, so a display that applies them does not flicker.
    """

    edits: tuple[TextEdit, ...] = ()
    """Changes of `Transcript.text`, to be made in this order."""
    translation_edits: tuple[TextEdit, ...] = ()
    """Changes of `Transcript.translation_text`, to be made in this order."""
    additions: tuple[Addition, ...] = ()
    """New final tokens, in the order in which they came."""
    provisional_tokens: tuple[Token, ...] = ()
    """All tokens that may still change. They replace those of the update before."""
    completed: tuple[Utterance, ...] = ()
    """Utterances that are complete now."""
    amended: tuple[Utterance, ...] = ()
    """Utterances that were complete already, and got a late translation. They replace those with
    the same index."""
    removed: tuple[Utterance, ...] = ()
    """Utterances that left the transcript, because it is bounded."""
    audio_ms: int | None = None
    """How much of the audio has been transcribed, provisionally at least, in ms; None if the
    message did not say."""

    @property
    def final_tokens(self) -> tuple[Token, ...]:
        """New final tokens, in the order in which they came."""
        return tuple(token for addition in self.additions for token in addition.tokens)

    def apply(self, text: str) -> str:
        """Return what `Transcript.text` is now, given what it was before."""
        for edit in self.edits:
            text = edit.apply(text)
        return text

    def apply_translation(self, text: str) -> str:
        """Return what `Transcript.translation_text` is now, given what it was before."""
        for edit in self.translation_edits:
            text = edit.apply(text)
        return text


def smallest_edit(start: int, before: str, after: str) -> list[TextEdit]:
    """Return the edit that turns `before`, which stands at `start`, into `after`; [] if none."""
    if before == after:
        return []
    shorter = min(len(before), len(after))
    same = 0
    while same < shorter and before[same] == after[same]:
        same += 1
    # The ends that are alike may not overlap the beginnings that are.
    alike = 0
    while alike < shorter - same and before[-1 - alike] == after[-1 - alike]:
        alike += 1
    deleted = len(before) - same - alike
    return [TextEdit(start + same, deleted, after[same : len(after) - alike])]
