"""The messages of a stream, gathered into what was said, utterance by utterance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from soniox_proto.messages import TOKEN_TEXT_END, TOKEN_TEXT_FIN, RealtimeEvent, Token

__all__ = ["Transcript", "Utterance"]


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
    streams without endpoint detection, also at a pause of that many ms. The service translates
    clause by clause, and sends a translation in the message after its original, so usually after
    the `<end>` too: an utterance that is owed its translation is complete when that has come.
    """

    def __init__(self, *, pause_ms: int | None = None) -> None:
        self.utterances: list[Utterance] = []
        """Complete utterances."""
        self.current: tuple[tuple[Token, ...], tuple[Token, ...]] = ((), ())
        """The utterance under way: its final tokens, and those that may still change."""
        self._pause_ms = pause_ms
        self._open = _Draft()
        self._owed: _Draft | None = None
        self._completed: list[Utterance] = []

    @property
    def text(self) -> str:
        """The text of all complete utterances, one a line."""
        return "\n".join(utterance.text for utterance in self.utterances if utterance.text)

    @property
    def tokens(self) -> list[Token]:
        """The tokens of all complete utterances."""
        return [token for utterance in self.utterances for token in utterance.tokens]

    def add(self, event: RealtimeEvent, at: float) -> list[Utterance]:
        """Take a message that came `at` so many seconds; return the utterances it completes.

        A translation that comes when its utterance is complete is returned as one of its own, and
        is part of the other in `utterances`.
        """
        tail: list[Token] = []
        late: list[Token] = []
        for token in event.tokens:
            if token.text == TOKEN_TEXT_END:
                self._end_utterance()
            elif token.text == TOKEN_TEXT_FIN:
                continue
            elif not token.is_final:
                tail.append(token)
            elif not _is_translation(token):
                self._add_original(token, at)
            elif self._is_late(token):
                late.append(token)
            else:
                owner = self._owed or self._open
                owner.add(token, at)
                owner.translated = True
        if self._owed is not None and self._owed.translated:
            self._complete_owed()
        if late:
            before = self.utterances[-1]
            self.utterances[-1] = Utterance((*before.tokens, *late), before.settled_at)
            self._completed.append(Utterance(tuple(late)))
        if event.error_code is not None:
            # An error brings no tokens, but takes none back either.
            tail = list(self.current[1])
        owed = () if self._owed is None else self._owed.tokens
        # In one step: the display reads it from another thread.
        self.current = ((*owed, *self._open.tokens), tuple(tail))
        completed, self._completed = self._completed, []
        return completed

    def complete(self) -> list[Utterance]:
        """End the utterance under way where the stream ended; return what that completes."""
        _, tail = self.current
        self.current = ((), ())
        self._complete_owed()
        if tail:
            self._open.tokens += tail
            self._open.settled_at = None
        self._complete(self._open)
        self._open = _Draft()
        completed, self._completed = self._completed, []
        return completed

    def _add_original(self, token: Token, at: float) -> None:
        if self._owed is not None and self._owed.translated:
            self._complete_owed()
        if self._begins_anew(token):
            self._end_utterance()
        self._open.add(token, at)
        # Its clause is still to be translated.
        self._open.translated = token.translation_status != "original"

    def _is_late(self, token: Token) -> bool:
        """Return whether the utterance that this translates is complete already."""
        if self._owed is not None or not self.utterances:
            return False
        if not self._open.tokens:
            return True
        speaker = self._open.speaker
        return token.speaker is not None and speaker is not None and token.speaker != speaker

    def _begins_anew(self, token: Token) -> bool:
        if not self._open.tokens:
            return False
        before = Utterance(tuple(self._open.tokens))
        if token.speaker is not None and before.speaker not in {None, token.speaker}:
            return True
        if self._pause_ms is None or token.start_ms is None:
            return False
        end_ms = before.end_ms
        return end_ms is not None and token.start_ms - end_ms >= self._pause_ms

    def _end_utterance(self) -> None:
        if not self._open.tokens:
            return
        self._complete_owed()
        ended, self._open = self._open, _Draft()
        if ended.translated:
            self._complete(ended)
        else:
            self._owed = ended

    def _complete_owed(self) -> None:
        owed, self._owed = self._owed, None
        if owed is not None:
            self._complete(owed)

    def _complete(self, draft: _Draft) -> None:
        if any(token.text.strip() for token in draft.tokens):
            utterance = Utterance(tuple(draft.tokens), draft.settled_at)
            self.utterances.append(utterance)
            self._completed.append(utterance)


@dataclass(slots=True)
class _Draft:
    """An utterance that is not complete."""

    tokens: list[Token] = field(default_factory=lambda: list[Token]())
    settled_at: float | None = None
    translated: bool = True
    """Whether it has the translation of everything that is translated."""

    @property
    def speaker(self) -> str | None:
        return next((token.speaker for token in self.tokens if token.speaker is not None), None)

    def add(self, token: Token, at: float) -> None:
        self.tokens.append(token)
        self.settled_at = at


def _is_translation(token: Token) -> bool:
    return token.translation_status == "translation"


def _language(tokens: Iterable[Token]) -> str | None:
    return next((token.language for token in tokens if token.language is not None), None)


def _joined(tokens: Iterable[Token]) -> str:
    return "".join(token.text for token in tokens).strip()
