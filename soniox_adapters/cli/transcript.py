"""The messages of a stream, gathered into what was said, utterance by utterance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from soniox_proto import TOKEN_TEXT_END, TOKEN_TEXT_FIN, RealtimeEvent, Token

__all__ = ["Transcript", "Utterance"]

_MARKERS: Final = {TOKEN_TEXT_END, TOKEN_TEXT_FIN}


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one speaker said in one go."""

    tokens: tuple[Token, ...]
    """Its tokens, without markers."""
    settled_at: float | None = None
    """When the last of it became final, in seconds; None if it never did."""

    @property
    def text(self) -> str:
        """What was said."""
        return _joined(token for token in self.tokens if not _is_translation(token))

    @property
    def translation(self) -> str | None:
        """Its translation, if there is one."""
        return _joined(filter(_is_translation, self.tokens)) or None

    @property
    def start_ms(self) -> int | None:
        """Where it begins in the audio, in ms, if the tokens tell."""
        return next((token.start_ms for token in self.tokens if token.start_ms is not None), None)

    @property
    def end_ms(self) -> int | None:
        """Where it ends in the audio, in ms, if the tokens tell."""
        ends = (token.end_ms for token in reversed(self.tokens) if token.end_ms is not None)
        return next(ends, None)

    @property
    def speaker(self) -> str | None:
        """Who said it, if the tokens tell."""
        return next((token.speaker for token in self.tokens if token.speaker is not None), None)

    @property
    def language(self) -> str | None:
        """The language it begins in, if the tokens tell."""
        return _language(token for token in self.tokens if not _is_translation(token))

    @property
    def translation_language(self) -> str | None:
        """The language of its translation, if the tokens tell."""
        return _language(filter(_is_translation, self.tokens))

    def as_dict(self) -> dict[str, Any]:
        """Return what is known about it, for JSON."""
        values = {
            "text": self.text,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
            "speaker": self.speaker,
            "language": self.language,
            "translation": self.translation,
            "translation_language": self.translation_language,
        }
        return {name: value for name, value in values.items() if value is not None}


class Transcript:
    """Everything said so far: utterances that are complete, and the one under way.

    An utterance ends at an `<end>` token and where the speaker changes; with `pause_ms`, for
    streams without endpoint detection, also at a pause of so many ms.
    """

    def __init__(self, *, pause_ms: int | None = None) -> None:
        self.utterances: list[Utterance] = []
        """Complete utterances."""
        self.current: tuple[tuple[Token, ...], tuple[Token, ...]] = ((), ())
        """The utterance under way: its final tokens, and those that may still change."""
        self._pause_ms = pause_ms
        self._settled_at: float | None = None

    @property
    def text(self) -> str:
        """The text of all complete utterances, one a line."""
        return "\n".join(utterance.text for utterance in self.utterances if utterance.text)

    @property
    def tokens(self) -> list[Token]:
        """The tokens of all complete utterances."""
        return [token for utterance in self.utterances for token in utterance.tokens]

    def add(self, event: RealtimeEvent, at: float) -> list[Utterance]:
        """Take a message that came `at` so many seconds; return the utterances it completes."""
        completed: list[Utterance] = []
        final = list(self.current[0])
        tail: list[Token] = []
        for token in event.tokens:
            if token.text == TOKEN_TEXT_END or (token.is_final and self._begins_anew(final, token)):
                completed += self._utterance(final, self._settled_at)
                final = []
            if token.text in _MARKERS:
                continue
            if token.is_final:
                final.append(token)
                self._settled_at = at
            else:
                tail.append(token)
        if event.error_code is not None:
            # An error brings no tokens, but takes none back either.
            tail = list(self.current[1])
        self.utterances += completed
        # In one step: the display reads it from another thread.
        self.current = (tuple(final), tuple(tail))
        return completed

    def complete(self) -> list[Utterance]:
        """End the utterance under way where the stream ended, and return it, if there is one."""
        final, tail = self.current
        self.current = ((), ())
        completed = self._utterance([*final, *tail], None if tail else self._settled_at)
        self.utterances += completed
        return completed

    def _begins_anew(self, final: list[Token], token: Token) -> bool:
        if not final:
            return False
        before = Utterance(tuple(final))
        if token.speaker is not None and before.speaker not in {None, token.speaker}:
            return True
        if self._pause_ms is None or token.start_ms is None:
            return False
        end_ms = before.end_ms
        return end_ms is not None and token.start_ms - end_ms >= self._pause_ms

    @staticmethod
    def _utterance(tokens: list[Token], settled_at: float | None) -> list[Utterance]:
        if not any(token.text.strip() for token in tokens):
            return []
        return [Utterance(tuple(tokens), settled_at)]


def _is_translation(token: Token) -> bool:
    return token.translation_status == "translation"


def _language(tokens: Iterable[Token]) -> str | None:
    return next((token.language for token in tokens if token.language is not None), None)


def _joined(tokens: Iterable[Token]) -> str:
    return "".join(token.text for token in tokens).strip()
