"""The messages of a stream, gathered into what was said, utterance by utterance.

What makes this more than joining texts is the order in which the service sends things:

- Provisional tokens are replaced by every message. Only final ones are kept.
- Translation comes clause by clause. The originals of a clause become final first, and their
  translations follow in a later message (Soniox docs, "Real-time translation"), usually just after
  the `<end>` of the utterance that they belong to. So an utterance whose audio is over may still be
  owed its translation, while the next one is already under way.
- The markers `<end>` and `<fin>` are not text, and `<fin>` ends no utterance: a finalize may come
  in the middle of a sentence.
"""

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
    """When the last of its tokens became final, in seconds on the clock of `Transcript.add`; None
    if some never did."""

    @property
    def text(self) -> str:
        """What was said, in the language in which it was said."""
        return _joined(token for token in self.tokens if not _is_translation(token))

    @property
    def translation(self) -> str | None:
        """Its translation, if there is one."""
        return _joined(filter(_is_translation, self.tokens)) or None

    @property
    def start_ms(self) -> int | None:
        """Where it begins in the audio, in ms; None if no token has a time."""
        return next((token.start_ms for token in self.tokens if token.start_ms is not None), None)

    @property
    def end_ms(self) -> int | None:
        """Where it ends in the audio, in ms; None if no token has a time."""
        ends = (token.end_ms for token in reversed(self.tokens) if token.end_ms is not None)
        return next(ends, None)

    @property
    def speaker(self) -> str | None:
        """Who said it; None without diarization."""
        return next((token.speaker for token in self.tokens if token.speaker is not None), None)

    @property
    def language(self) -> str | None:
        """The language in which it begins; None if it was not identified."""
        return _language(token for token in self.tokens if not _is_translation(token))

    @property
    def translation_language(self) -> str | None:
        """The language of its translation; None if there is none."""
        return _language(filter(_is_translation, self.tokens))

    def as_dict(self) -> dict[str, Any]:
        """Return what is known about it, for JSON. What is not known is left out."""
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

    An utterance ends at an `<end>` token and where the speaker changes. With `pause_ms`, meant for
    streams without endpoint detection, it also ends at a pause of that many ms. It is complete
    then, unless it still waits for its translation.
    """

    def __init__(self, *, pause_ms: int | None = None) -> None:
        self.utterances: list[Utterance] = []
        """Complete utterances."""
        self.current: tuple[tuple[Token, ...], tuple[Token, ...]] = ((), ())
        """The utterance under way: its final tokens, and those that may still change."""
        self._pause_ms = pause_ms
        self._open = _Draft()
        # The utterance before, if it has ended but waits for its translation.
        self._owed: _Draft | None = None
        self._completed: list[Utterance] = []

    @property
    def text(self) -> str:
        """The text of all complete utterances, one on each line."""
        return "\n".join(utterance.text for utterance in self.utterances if utterance.text)

    @property
    def tokens(self) -> list[Token]:
        """The tokens of all complete utterances."""
        return [token for utterance in self.utterances for token in utterance.tokens]

    def add(self, event: RealtimeEvent, at: float) -> list[Utterance]:
        """Take a message that arrived at `at` seconds; return the utterances that it completes.

        A translation that arrives after its utterance was complete is returned as an utterance of
        its own, since the first has been returned already. In `utterances` the two are one.
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
            # An error message has no tokens, but that does not mean that the tail has gone.
            tail = list(self.current[1])
        owed = () if self._owed is None else self._owed.tokens
        # Assigned once, because a display reads it from another thread.
        self.current = ((*owed, *self._open.tokens), tuple(tail))
        completed, self._completed = self._completed, []
        return completed

    def complete(self) -> list[Utterance]:
        """End the utterance under way, because the stream has ended; return what that completes.

        Tokens that are still provisional are kept: nothing better will come.
        """
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
        # What follows a translation in the stream belongs to the next clause, so the utterance
        # before has got all that it was owed.
        if self._owed is not None and self._owed.translated:
            self._complete_owed()
        if self._begins_anew(token):
            self._end_utterance()
        self._open.add(token, at)
        # The service marks with `original` what it is going to translate.
        self._open.translated = token.translation_status != "original"

    def _is_late(self, token: Token) -> bool:
        """Return whether the utterance that this translates was already complete.

        It must have been if nothing is under way that could be its original, or only something that
        another speaker said.
        """
        if self._owed is not None or not self.utterances:
            return False
        if not self._open.tokens:
            return True
        speaker = self._open.speaker
        return token.speaker is not None and speaker is not None and token.speaker != speaker

    def _begins_anew(self, token: Token) -> bool:
        """Return whether this original starts another utterance, by its speaker or by a pause."""
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
        # Only the latest utterance waits for its translation; the one before has waited enough.
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
        # Without any text there was no utterance, for example after a second `<end>`.
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
    """Whether nothing of it waits for a translation."""

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
