"""Tokens become words, wherever they were cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import RealtimeEvent, Segment, Token, Transcript, Utterance, Word


def spoken(*texts: str, **fields: Any) -> Utterance:
    return Utterance(tuple(Token(text=text, is_final=True, **fields) for text in texts))


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([" tal", "k", " to", " me"], ["talk", "to", "me"]),
        (["Hello", ",", " wor", "ld", "!"], ["Hello,", "world!"]),
        (["it", "'s", " 3", ".", "5"], ["it's", "3.5"]),
        (["good ", "morning"], ["good", "morning"]),
        (["one two th", "ree"], ["one", "two", "three"]),
        ([" ", "", "one", " ", "two", " "], ["one", "two"]),
        ([], []),
        ([" "], []),
        # Languages without spaces: a token is a word, with its punctuation.
        (["今天", "天气", "很好", "。", "我", "们"], ["今天", "天气", "很好。", "我", "们"]),
        (["「", "はい", "」", "と"], ["「はい」", "と"]),
        (["สวัส", "ดี", "\u0e35"], ["สวัส", "ดี\u0e35"]),
        (["我", "like", "茶"], ["我", "like", "茶"]),
        # With spaces: Korean, Arabic.
        (["안녕", "하세요", " 여러분"], ["안녕하세요", "여러분"]),
        (["مر", "حبا", " بك"], ["مرحبا", "بك"]),
    ],
)
def test_words(tokens: list[str], words: list[str]) -> None:
    assert [word.text for word in spoken(*tokens).words] == words


def test_a_word_has_what_its_tokens_say() -> None:
    utterance = Utterance(
        (
            Token(text=" tal", start_ms=100, end_ms=200, confidence=0.9, speaker="1"),
            Token(text="k", start_ms=200, end_ms=260, confidence=0.5, language="en"),
            Token(text=" now"),
        )
    )
    assert utterance.words == (
        Word("talk", 100, 260, 0.5, "1", "en"),
        Word("now", space_before=True),
    )


def test_the_time_of_a_token_is_shared_by_its_words() -> None:
    words = spoken(" one  three", start_ms=0, end_ms=1000).words
    assert [(word.text, word.start_ms, word.end_ms) for word in words] == [
        ("one", 0, 300),
        ("three", 500, 1000),
    ]


def test_translations_are_not_among_the_words() -> None:
    translation = Token(text="Hola", translation_status="translation")
    assert [word.text for word in Utterance((Token(text="Hello"), translation)).words] == ["Hello"]


def test_another_speaker_says_another_word() -> None:
    tokens = (Token(text="Hi", speaker="1"), Token(text=".", speaker="1"))
    other = Token(text="Hello", speaker="2")
    assert [word.text for word in Utterance((*tokens, other)).words] == ["Hi.", "Hello"]


def test_no_label_divides_a_word() -> None:
    tokens = (Token(text=" tal", speaker="1"), Token(text="k", speaker="2", language="de"))
    assert [word.text for word in Utterance(tokens).words] == ["talk"]
    assert Utterance(tokens).segments == (Segment(tokens, "1", "de"),)


@pytest.mark.parametrize(
    "parts",
    [
        (" \u0928\u092e\u0938", "\u094d\u0924\u0947"),  # Hindi, before and behind a sign
        (" \u0928\u092e\u0938\u094d", "\u0924\u0947"),
        (" cafe", "\u0301"),
        (" e\u0301", "tude"),
        (" \u0645\u06cc\u200c", "\u062e\u0648\u0627\u0647\u0645"),  # Persian, at a non-joiner
        (" \u0e44\u0e21", "\u0e48"),  # Thai, before a tone
        (" don", "'t"),
        (" don\u2019", "t"),
        (" Yes", "."),
        (" Yes", "?!"),
        (" \U0001f44d", "\U0001f3fd"),
    ],
)
def test_a_label_that_flips_inside_a_word_or_at_its_punctuation_divides_nothing(
    parts: tuple[str, str],
) -> None:
    first, second = (Token(text=text, is_final=True) for text in parts)
    tokens = [
        first.model_copy(update={"speaker": "1", "language": "en"}),
        second.model_copy(update={"speaker": "2", "language": "hi"}),
    ]
    transcript = Transcript()
    transcript.feed(RealtimeEvent(tokens=tokens, finished=True))
    (utterance,) = transcript.utterances
    assert utterance.text == "".join(parts).strip()
    assert [word.text for word in utterance.words] == [utterance.text]
    assert len(utterance.segments) == 1


@pytest.mark.parametrize(
    "parts", [("Yes.", "No"), ("Yes.", "\u00bf"), ("Yes", "("), ("Yes-", "No")]
)
def test_another_speaker_may_begin_without_a_space(parts: tuple[str, str]) -> None:
    transcript = Transcript()
    tokens = [
        Token(text=text, speaker=speaker, is_final=True)
        for text, speaker in zip(parts, "12", strict=True)
    ]
    transcript.feed(RealtimeEvent(tokens=tokens, finished=True))
    assert [utterance.text for utterance in transcript.utterances] == list(parts)


def cut(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(place % (len(text) + 1) for place in cuts)})
    return [text[a:b] for a, b in pairwise(places)]


@given(st.lists(st.integers(0, 1000), max_size=12))
def test_it_does_not_matter_where_words_are_cut(cuts: list[int]) -> None:
    text = "Well, it's 3.5 degrees; \u00e7a va?  Nothing (much) changed -- 24/7."
    words = spoken(*cut(text, cuts)).words
    assert [word.text for word in words] == text.split()


def test_segments_are_runs_of_one_speaker_and_language() -> None:
    tokens = (
        Token(text="Hi", speaker="1", language="en", start_ms=0, end_ms=90),
        Token(text=" there", start_ms=50, end_ms=400),
        Token(text=" Hola", language="es", speaker="1", start_ms=500, end_ms=700),
        Token(text=" si", language="es", speaker="2"),
        Token(text=" yes", language="en", translation_status="translation"),
    )
    segments = Utterance(tokens).segments
    assert [(s.text, s.speaker, s.language, s.is_translation) for s in segments] == [
        ("Hi there", "1", "en", False),
        ("Hola", "1", "es", False),
        ("si", "2", "es", False),
        ("yes", None, "en", True),
    ]
    assert [(s.start_ms, s.end_ms) for s in segments] == [
        (0, 400),
        (500, 700),
        (None, None),
        (None, None),
    ]
    assert Utterance(()).segments == ()


def test_clauses_are_pairs() -> None:
    def said(text: str, status: str) -> Token:
        return Token(text=text, translation_status=status)

    utterance = Utterance(
        (
            said("Good", "original"),
            said(" day,", "original"),
            said("Buen día,", "translation"),
            said(" hola", "none"),
            said(" Bob", "original"),
            said(" Roberto", "translation"),
        )
    )
    assert [(clause.text, clause.translation) for clause in utterance.clauses] == [
        ("Good day,", "Buen día,"),
        ("hola", None),
        ("Bob", "Roberto"),
    ]


def test_words_can_be_part_of_the_dict() -> None:
    utterance = spoken("Hi", " you", start_ms=0, end_ms=5)
    assert utterance.as_dict(words=True)["words"] == [
        {"text": "Hi", "start_ms": 0, "end_ms": 5},
        {"text": "you", "start_ms": 0, "end_ms": 5},
    ]
