"""Tokens as text for a person."""

from __future__ import annotations

from collections.abc import Iterable

from soniox_proto.messages import MARKERS, Token

__all__ = ["render_tokens"]


def render_tokens(final_tokens: Iterable[Token], non_final_tokens: Iterable[Token]) -> str:
    """Return the text of the tokens, final ones first, divided by speaker and language.

    A new speaker begins a paragraph (``Speaker 1:``), a new language a line (``[en]``, or
    ``[Translation] [es]`` for a translation). The markers `<end>` and `<fin>` are not shown.
    """
    parts: list[str] = []
    speaker: str | None = None
    language: tuple[bool, str] | None = None
    for token in (*final_tokens, *non_final_tokens):
        text = token.text
        if text in MARKERS:
            continue
        if token.speaker is not None and token.speaker != speaker:
            parts.append(f"{'' if speaker is None else chr(10) * 2}Speaker {token.speaker}:")
            speaker, language = token.speaker, None
        if token.language is not None:
            translated = token.translation_status == "translation"
            if (translated, token.language) != language:
                language = (translated, token.language)
                label = f"[Translation] [{token.language}]" if translated else f"[{token.language}]"
                parts.append(f"\n{label} ")
                # The label ends with a space already.
                text = text.lstrip()
        parts.append(text)
    return "".join(parts)
