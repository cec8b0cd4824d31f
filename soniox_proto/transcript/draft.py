"""An utterance that is not complete yet."""

from __future__ import annotations

from dataclasses import dataclass, field

from soniox_proto.messages import Token
from soniox_proto.transcript.utterance import Utterance, UtteranceEnd, is_translation
from soniox_proto.transcript.words import highest, lowest

__all__ = ["Draft"]


@dataclass(slots=True)
class Draft:
    """An utterance as it grows, with what has to be known about it at every token."""

    index: int
    tokens: list[Token] = field(default_factory=list[Token])
    settled_at: float | None = None
    ended_by: UtteranceEnd | None = None
    awaits_translation: bool = False
    """Whether its latest original is going to be translated, and has not been."""
    waits_from_ms: int | None = None
    """How much audio had been transcribed when it had ended, and began to wait for that."""
    is_spoken: bool = False
    """Whether it has any original."""
    last_original: str = ""
    """The text of its latest original."""
    characters: int = 0
    """The length of its originals."""
    speaker: str | None = None
    languages: set[str] = field(default_factory=set[str])
    """The languages of its originals."""
    start_ms: int | None = None
    end_ms: int | None = None

    def add(self, token: Token, now: float | None) -> None:
        """Add a final token."""
        text = token.text
        self.tokens.append(token)
        self.settled_at = now
        if self.speaker is None:
            self.speaker = token.speaker
        if is_translation(token):
            self.awaits_translation = False
            return
        self.is_spoken = True
        self.characters += len(text)
        self.last_original = text or self.last_original
        self.start_ms = lowest(self.start_ms, token.start_ms)
        self.end_ms = highest(self.end_ms, token.end_ms)
        if token.language is not None:
            self.languages.add(token.language)
        # The service marks with `original` what it is going to translate.
        self.awaits_translation = token.translation_status == "original"

    def may_be_original_of(self, translation: Token) -> bool:
        """Return whether the labels allow that a translation translates this."""
        speaker, language = translation.speaker, translation.source_language
        return (speaker is None or self.speaker in {None, speaker}) and (
            language is None or not self.languages or language in self.languages
        )

    def utterance(self) -> Utterance:
        """Return it as it is now."""
        return Utterance(tuple(self.tokens), self.settled_at, self.index, self.ended_by)
