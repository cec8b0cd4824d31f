"""What one message changes, gathered while its tokens are gone through."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from soniox_proto.messages import Token
from soniox_proto.transcript.utterance import is_translation

__all__ = ["Change", "text_of"]


@dataclass(slots=True)
class Change:
    """What a message changes."""

    completed: list[int] = field(default_factory=list[int])
    """Utterances that became complete."""
    additions: list[tuple[int, list[Token]]] = field(
        default_factory=list["tuple[int, list[Token]]"]
    )
    """Utterances, and the final tokens that joined them."""
    late: dict[int, list[Token]] = field(default_factory=dict[int, "list[Token]"])
    """Translations of utterances that are complete already."""

    def add(self, index: int, token: Token) -> None:
        """Note a final token, and the utterance that it joined."""
        if not self.additions or self.additions[-1][0] != index:
            self.additions.append((index, []))
        self.additions[-1][1].append(token)

    def texts(self, *, translations: bool) -> dict[int, str]:
        """Return what was added to each utterance, of its original or of its translation."""
        texts: dict[int, str] = {}
        for index, tokens in self.additions:
            added = text_of(token for token in tokens if is_translation(token) is translations)
            texts[index] = texts.get(index, "") + added
        return texts


def text_of(tokens: Iterable[Token]) -> str:
    """Return the text of tokens, with the white space around it."""
    return "".join(token.text for token in tokens)
