"""Where utterances end that the service does not end, what a transcript keeps, and its edits."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from soniox_proto import (
    RealtimeEvent,
    SonioxValidationError,
    TextEdit,
    Token,
    Transcript,
    UtteranceEnd,
)
from soniox_proto.testing import token as said
from tests.support.core.token_streams import END, FIN, event

tail = partial(said, final=False)
translation = partial(said, translation=True)
original = partial(said, translation_status="original")


def words(count: int, *, length_ms: int = 100) -> list[Token]:
    return [
        said(f" w{number}", start_ms=number * length_ms, end_ms=(number + 1) * length_ms)
        for number in range(count)
    ]


def ended(transcript: Transcript) -> list[tuple[str, UtteranceEnd | None]]:
    return [(utterance.text, utterance.ended_by) for utterance in transcript.utterances]


@pytest.mark.parametrize(
    "name",
    ["pause_ms", "max_utterance_ms", "max_utterance_characters", "max_tokens", "max_ms"],
)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1"])
def test_limits_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(SonioxValidationError, match=f"{name} must be a whole number of 1 or more"):
        Transcript(**{name: value})


def test_what_ended_an_utterance() -> None:
    transcript = Transcript(split_on_finalize=True, pause_ms=1000)
    transcript.feed(event(said("a"), END, said("b"), FIN, FIN))
    transcript.feed(event(said("c", speaker="1"), said(" d", speaker="2", end_ms=0)))
    transcript.feed(event(said(" e", start_ms=1000)))
    transcript.feed(RealtimeEvent(finished=True))
    assert ended(transcript) == [
        ("a", UtteranceEnd.ENDPOINT),
        ("b", UtteranceEnd.FINALIZE),
        ("c", UtteranceEnd.SPEAKER),
        ("d", UtteranceEnd.PAUSE),
        ("e", UtteranceEnd.STREAM),
    ]


def test_speakers_can_share_an_utterance() -> None:
    transcript = Transcript(split_on_speaker=False)
    transcript.feed(event(said("a", speaker="1"), said(" b", speaker="2")))
    transcript.finish()
    (utterance,) = transcript.utterances
    assert [segment.speaker for segment in utterance.segments] == ["1", "2"]


@pytest.mark.parametrize(
    ("limit", "texts"),
    [
        ({"max_utterance_ms": 300}, ["w0 w1 w2", "w3 w4 w5", "w6"]),
        ({"max_utterance_characters": 7}, ["w0 w1", "w2 w3", "w4 w5", "w6"]),
        ({"max_tokens": 1000}, ["w0 w1 w2 w3 w4 w5 w6"]),
    ],
)
def test_limits_end_utterances_between_words(limit: dict[str, Any], texts: list[str]) -> None:
    transcript = Transcript(**limit)
    transcript.feed(event(*words(7)))
    transcript.finish()
    assert [utterance.text for utterance in transcript.utterances] == texts


def test_no_limit_cuts_a_word() -> None:
    transcript = Transcript(max_utterance_characters=5, max_utterance_ms=1, pause_ms=1)
    transcript.feed(event(*(said(part, start_ms=9, end_ms=1) for part in (" anti", "dis", "est"))))
    transcript.finish()
    assert transcript.text == "antidisest"


@pytest.mark.parametrize("bound", [{"max_tokens": 10}, {"max_ms": 1000}])
def test_what_is_over_the_bound_leaves(bound: dict[str, Any]) -> None:
    transcript = Transcript(**bound)
    update = transcript.feed(event(*words(23)))
    assert [u.text for u in update.removed] == [
        "w0 w1 w2 w3 w4",
        "w5 w6 w7 w8 w9",
        "w10 w11 w12 w13 w14",
    ]
    assert update.completed[:3] == update.removed
    assert transcript.text == "w15 w16 w17 w18 w19\nw20 w21 w22"
    assert update.apply("") == transcript.text
    assert [utterance.index for utterance in transcript.utterances] == [3]


def test_a_bound_holds_against_words_without_end() -> None:
    transcript = Transcript(max_tokens=3)
    for _ in range(5):
        transcript.feed(event(said("ab"), said("cd")))
        assert len(transcript.tokens) <= 3
    for _ in range(5):
        transcript.feed(event(translation("xy", speaker="9", source_language="zz")))
        assert len(transcript.tokens) <= 3
    transcript = Transcript(max_ms=100)
    update = transcript.feed(event(*(said("a", start_ms=n, end_ms=n + 60) for n in (0, 60, 120))))
    assert [utterance.text for utterance in update.removed] == ["a", "a"]


def test_lines_that_left_long_ago_are_counted_right() -> None:
    transcript = Transcript(max_tokens=30)
    text = ""
    for word in words(100):
        text = transcript.feed(event(word, END)).apply(text)
        assert text == transcript.text
    assert len(transcript.utterances) == 30


def test_what_waits_for_its_translation_leaves_too() -> None:
    transcript = Transcript(max_tokens=2)
    transcript.feed(event(original("one"), END))
    update = transcript.feed(event(original("two"), original(" three")))
    assert [utterance.text for utterance in update.removed] == ["one"]
    assert update.removed == update.completed


# Translations, by their labels


def test_labels_say_which_original_a_late_translation_belongs_to() -> None:
    transcript = Transcript()
    transcript.feed(event(original("Hello.", language="en"), END))
    transcript.feed(event(original("Hola.", language="es"), END))
    transcript.feed(event(translation("Buenas.", source_language="en")))
    transcript.feed(event(translation("Hi.", source_language="es")))
    assert [u.translation for u in transcript.utterances] == ["Buenas.", "Hi."]
    assert transcript.translation_text == "Buenas.\nHi."


def test_a_translation_that_fits_nothing_belongs_to_what_comes() -> None:
    transcript = Transcript()
    transcript.feed(event(said("Hello.", language="en"), END))
    transcript.feed(event(translation("Hi.", source_language="es")))
    transcript.feed(event(original("Hola.", language="es"), END))
    transcript.finish()
    assert [(u.text, u.translation) for u in transcript.utterances] == [
        ("Hello.", None),
        ("Hola.", "Hi."),
    ]


def test_a_translation_may_come_first() -> None:
    transcript = Transcript(pause_ms=1)
    transcript.feed(event(translation("Hola."), original(""), original("Hello."), END))
    transcript.feed(event())
    assert [(u.text, u.translation) for u in transcript.finish().completed] == [("Hello.", "Hola.")]


def test_the_provisional_translation_stands_with_its_utterance() -> None:
    transcript = Transcript()
    transcript.feed(event(original("Hello."), END))
    transcript.feed(event(tail("Ho", translation_status="translation"), tail("Good")))
    assert [(u.text, u.translation) for u in transcript.open_utterances] == [
        ("Hello.", "Ho"),
        ("Good", None),
    ]
    assert (transcript.text, transcript.translation_text) == ("Hello.\nGood", "Ho")
    assert (transcript.final_text, transcript.provisional_text) == ("Hello.", "\nGood")
    update = transcript.finish()
    assert [(u.text, u.translation) for u in update.completed] == [("Hello.", "Ho"), ("Good", None)]


# Edits


@pytest.mark.parametrize(
    ("before", "after", "edits"),
    [
        ([tail("I scream")], [tail("I scream")], ()),
        ([tail("I scream")], [said("I scream")], ()),
        ([tail("I scream")], [tail("ice scream")], (TextEdit(0, 1, "ice"),)),
        ([tail("one two three")], [tail("one too three")], (TextEdit(5, 1, "o"),)),
        ([tail("aaa")], [tail("aa")], (TextEdit(2, 1, ""),)),
        ([said("one")], [said(" two")], (TextEdit(3, 0, " two"),)),
        ([said("one "), tail("two")], [], (TextEdit(3, 4, ""),)),
        ([said("one"), END], [tail("two")], (TextEdit(3, 0, "\ntwo"),)),
        ([said("one"), END, tail("two")], [], (TextEdit(3, 4, ""),)),
        ([tail("one")], [], (TextEdit(0, 3, ""),)),
    ],
)
def test_edits_are_as_small_as_can_be(
    before: list[Token], after: list[Token], edits: tuple[TextEdit, ...]
) -> None:
    transcript = Transcript()
    text = transcript.feed(event(*before)).apply("")
    update = transcript.feed(event(*after))
    assert update.edits == edits
    assert update.apply(text) == transcript.text


def test_an_update_says_how_far_the_audio_has_come() -> None:
    assert Transcript().feed(event(total_ms=120)).audio_ms == 120
    assert Transcript().feed(event()).audio_ms is None


def test_the_provisional_translation_of_what_left_is_gone() -> None:
    transcript = Transcript(max_tokens=2)
    transcript.feed(event(original("one", language="en"), END))
    transcript.feed(event(translation("uno", source_language="en")))
    late = tail(" (1)", translation_status="translation", source_language="en")
    update = transcript.feed(event(said("dos", language="es"), said(" 3", language="es"), late))
    assert [utterance.text for utterance in update.removed] == ["one"]
    assert (transcript.translation_text, update.provisional_tokens) == ("", ())
    # An error message leaves the tail as it is.
    transcript.feed(RealtimeEvent(error_code=503))
    assert transcript.finish().apply_translation("") == transcript.translation_text == ""


def test_the_provisional_translation_of_what_was_said_long_ago_is_kept_at_the_end() -> None:
    transcript = Transcript()
    transcript.feed(event(said("one", language="en"), END))
    late = tail("uno", translation_status="translation", source_language="en")
    transcript.feed(event(said("dos", language="es"), late))
    many = [token for _ in range(9) for token in (said("más", language="es"), END)]
    transcript.feed(RealtimeEvent(error_code=503, tokens=many))
    transcript.finish()
    assert "uno" in transcript.translation_text
