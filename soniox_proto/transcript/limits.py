"""When an utterance ends that the service does not end, and how much of a transcript is kept."""

from __future__ import annotations

from dataclasses import dataclass, fields

from soniox_proto.errors import SonioxValidationError
from soniox_proto.messages import Token
from soniox_proto.transcript.draft import Draft
from soniox_proto.transcript.utterance import UtteranceEnd
from soniox_proto.transcript.words import begins_word, is_divisible

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a transcript; `Transcript` explains them."""

    pause_ms: int | None
    max_utterance_ms: int | None
    max_utterance_characters: int | None
    max_tokens: int | None
    max_ms: int | None
    split_on_speaker: bool

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is None or field.name == "split_on_speaker":
                continue
            if type(limit) is not int or limit < 1:
                raise SonioxValidationError(
                    f"{field.name} must be a whole number of 1 or more, or None; not {limit!r}"
                )

    def end_before(self, draft: Draft, token: Token) -> UtteranceEnd | None:
        """Return why an utterance ends before this original, or None if it goes on."""
        text = token.text
        if not draft.is_spoken or not text:
            return None
        if self.are_reached_by(draft) or _exceeds(self.max_ms, draft.start_ms, token.end_ms):
            return UtteranceEnd.LENGTH
        if (
            self.split_on_speaker
            and token.speaker is not None
            and draft.speaker not in {None, token.speaker}
            and is_divisible(draft.last_original, text)
        ):
            return UtteranceEnd.SPEAKER
        if not begins_word(draft.last_original, text):
            return None
        if self.pause_ms and _exceeds(self.pause_ms - 1, draft.end_ms, token.start_ms):
            return UtteranceEnd.PAUSE
        if (
            _exceeds(_half(self.max_tokens), 0, len(draft.tokens) + 1)
            or _exceeds(self.max_utterance_ms, draft.start_ms, token.end_ms)
            or _exceeds(_half(self.max_ms), draft.start_ms, token.end_ms)
            or _exceeds(self.max_utterance_characters, 0, draft.characters + len(text))
        ):
            return UtteranceEnd.LENGTH
        return None

    def are_reached_by(self, draft: Draft) -> bool:
        """Return whether an utterance takes all the room there is. Even words are cut then."""
        return self.max_tokens is not None and len(draft.tokens) >= self.max_tokens

    def are_exceeded_by(self, tokens: int, start_ms: int | None, end_ms: int | None) -> bool:
        """Return whether a transcript of so many tokens, and of this audio, has to be shortened."""
        return _exceeds(self.max_tokens, 0, tokens) or _exceeds(self.max_ms, start_ms, end_ms)


def _half(limit: int | None) -> int | None:
    return None if limit is None else (limit + 1) // 2


def _exceeds(limit: int | None, start: int | None, end: int | None) -> bool:
    """Return whether it is further from start to end than the limit, as far as all are known."""
    return limit is not None and start is not None and end is not None and end - start > limit
