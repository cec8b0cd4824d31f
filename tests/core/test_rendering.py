"""Tokens as text."""

from __future__ import annotations

import pytest
import soniox.types
import soniox.utils

from soniox_adapters import TOKEN_TEXT_END, TOKEN_TEXT_FIN, Token, render_tokens


def tokens(*items: tuple[str, dict[str, str]] | str) -> list[Token]:
    pairs = [(item, {}) if isinstance(item, str) else item for item in items]
    return [Token.model_validate({"text": text, **fields}) for text, fields in pairs]


def spoken(text: str, speaker: str, language: str | None = None) -> tuple[str, dict[str, str]]:
    return text, {"speaker": speaker} | ({} if language is None else {"language": language})


def translated(text: str, language: str) -> tuple[str, dict[str, str]]:
    return text, {"language": language, "translation_status": "translation"}


def test_text_alone() -> None:
    assert render_tokens(tokens("Hel", "lo", " world"), tokens("!")) == "Hello world!"
    assert render_tokens([], []) == ""
    assert render_tokens(iter(tokens("a")), iter(tokens("b"))) == "ab"


@pytest.mark.parametrize("marker", [TOKEN_TEXT_END, TOKEN_TEXT_FIN])
def test_markers_are_never_shown(marker: str) -> None:
    final = tokens("one", marker, (marker, {"speaker": "9", "language": "xx"}), " two", marker)
    assert render_tokens(final, tokens(marker, " three", marker)) == "one two three"


def test_text_that_only_resembles_a_marker_is_shown() -> None:
    assert render_tokens(tokens("<end", "> <fin> "), []) == "<end> <fin> "


def test_speakers_begin_paragraphs() -> None:
    final = tokens(spoken(" Hello", "1"), spoken(" there", "1"), spoken(" Hi", "2"))
    assert render_tokens(final, tokens(spoken(" you", "1"))) == (
        "Speaker 1: Hello there\n\nSpeaker 2: Hi\n\nSpeaker 1: you"
    )


def test_languages_begin_lines() -> None:
    final = tokens(
        spoken(" Hello", "1", "en"), spoken(" Hallo", "1", "de"), spoken(" Welt", "1", "de")
    )
    assert render_tokens(final, tokens(spoken(" Hi", "2", "de"))) == (
        "Speaker 1:\n[en] Hello\n[de] Hallo Welt\n\nSpeaker 2:\n[de] Hi"
    )


def test_translations_are_told_apart_from_the_original() -> None:
    original = ("Hello", {"language": "en", "translation_status": "original"})
    back = ("again", {"language": "es", "translation_status": "original"})
    text = render_tokens(tokens(original, translated(" Hola", "es"), back), [])
    assert text == "\n[en] Hello\n[Translation] [es] Hola\n[es] again"


@pytest.mark.parametrize(
    ("final", "rest"),
    [
        (["one", " two"], [" three"]),
        ([spoken("a", "1"), spoken(" b", "2")], [spoken(" c", "1")]),
        ([spoken(" a", "1", "en"), spoken(" b", "2", "en")], [spoken(" c", "2", "de")]),
        ([("a", {"language": "en"}), translated(" b", "es")], [translated(" c", "fr")]),
    ],
)
def test_same_text_as_the_official_helper(
    final: list[tuple[str, dict[str, str]] | str], rest: list[tuple[str, dict[str, str]] | str]
) -> None:
    both = [tokens(*final), tokens(*rest)]
    official = [
        [soniox.types.Token(**token.model_dump(exclude_none=True)) for token in part]
        for part in both
    ]
    assert render_tokens(*both) == soniox.utils.render_tokens(*official)
