"""Messages become utterances."""

from __future__ import annotations

from functools import partial

import pytest

from soniox_proto import RealtimeEvent, Token, Transcript, Utterance
from soniox_proto.testing import endpoint, result
from soniox_proto.testing import token as final

message = partial(result, start_ms=None)
tentative = partial(final, final=False)
END = endpoint()


def add(transcript: Transcript, event: RealtimeEvent, now: float) -> list[Utterance]:
    return list(transcript.feed(event, now).completed)


def finish(transcript: Transcript) -> list[Utterance]:
    return list(transcript.finish().completed)


def under_way(transcript: Transcript) -> list[list[str]]:
    return [[token.text for token in part.tokens] for part in transcript.open_utterances]


def texts(utterances: list[Utterance]) -> list[str]:
    return [utterance.text for utterance in utterances]


def test_an_endpoint_completes_an_utterance() -> None:
    transcript = Transcript()
    assert add(transcript, message(final("Good"), tentative(" mourn")), 1.0) == []
    completed = add(transcript, message(final(" morning"), END, final(" Next"), tentative(" o")), 2)
    assert texts(completed) == ["Good morning"]
    assert list(transcript.utterances) == completed
    assert under_way(transcript) == [[" Next", " o"]]
    assert (transcript.final_text, transcript.provisional_text) == ("Good morning\nNext", " o")


def test_non_final_tokens_are_replaced_at_every_message() -> None:
    transcript = Transcript()
    add(transcript, message(tentative("I"), tentative(" scream")), 1)
    add(transcript, message(tentative("ice"), tentative(" cream")), 2)
    assert under_way(transcript) == [["ice", " cream"]]
    add(transcript, message(), 3)
    assert under_way(transcript) == []


def test_an_error_message_takes_nothing_back() -> None:
    transcript = Transcript()
    add(transcript, message(final("so"), tentative(" far")), 1)
    add(transcript, message(error_code=503), 2)
    assert texts(finish(transcript)) == ["so far"]


def test_the_answer_to_a_finalize_is_not_text_and_ends_nothing() -> None:
    transcript = Transcript()
    add(transcript, message(final("one"), final("<fin>"), final(" two")), 1)
    assert texts(finish(transcript)) == ["one two"]


def test_a_change_of_speaker_completes_an_utterance() -> None:
    transcript = Transcript()
    completed = add(
        transcript,
        message(
            final("Hi", speaker="1"),
            final("!"),
            final(" Hello", speaker="2"),
            final(" you", speaker="2"),
        ),
        1,
    )
    assert [(utterance.speaker, utterance.text) for utterance in completed] == [("1", "Hi!")]
    assert [utterance.speaker for utterance in finish(transcript)] == ["2"]


@pytest.mark.parametrize(
    ("pause_ms", "start_ms", "expected"),
    [
        (None, 9000, ["one two"]),
        (1000, 1499, ["one two"]),
        (1000, 1500, ["one", "two"]),
        (1000, None, ["one two"]),
    ],
)
def test_a_long_pause_completes_an_utterance_where_it_is_asked_for(
    pause_ms: int | None, start_ms: int | None, expected: list[str]
) -> None:
    transcript = Transcript(pause_ms=pause_ms)
    add(transcript, message(final("one", start_ms=0, end_ms=500)), 1)
    add(transcript, message(final(" two", start_ms=start_ms)), 2)
    finish(transcript)
    assert texts(list(transcript.utterances)) == expected


def test_no_pause_is_seen_where_tokens_have_no_times() -> None:
    transcript = Transcript(pause_ms=1000)
    add(transcript, message(final("one"), final(" two", start_ms=5000)), 1)
    assert texts(finish(transcript)) == ["one two"]


def test_blank_utterances_are_none() -> None:
    transcript = Transcript()
    assert add(transcript, message(final(" "), END, END), 1) == []
    assert finish(transcript) == []
    assert transcript.text == ""


def test_the_transcript_as_a_whole() -> None:
    transcript = Transcript()
    add(transcript, message(final("One"), final(" two"), END, final(" three")), 1)
    finish(transcript)
    assert transcript.text == "One two\nthree"
    assert [token.text for token in transcript.tokens] == ["One", " two", " three"]
    assert [word.text for word in transcript.words] == ["One", "two", "three"]
    assert [segment.text for segment in transcript.segments] == ["One two", "three"]


def test_an_utterance_is_settled_with_its_last_final_token() -> None:
    transcript = Transcript()
    add(transcript, message(final("one")), 1.5)
    add(transcript, message(tentative(" tw")), 1.75)
    (first,) = add(transcript, message(END), 2.0)
    assert first.settled_at == 1.5
    add(transcript, message(final("two")), 3.0)
    assert [utterance.settled_at for utterance in finish(transcript)] == [3.0]


def test_an_utterance_with_non_final_tokens_is_not_settled() -> None:
    transcript = Transcript()
    add(transcript, message(final("one"), tentative(" two")), 1.5)
    (utterance,) = finish(transcript)
    assert (utterance.text, utterance.settled_at) == ("one two", None)


def test_translations_are_kept_apart() -> None:
    transcript = Transcript()
    (utterance,) = add(
        transcript,
        message(
            final("Good", start_ms=100, end_ms=300, language="en", translation_status="original"),
            final("Buenos", language="es", translation_status="translation"),
            final(" day", start_ms=300, end_ms=700, language="en", translation_status="original"),
            final(" días", language="es", translation_status="translation"),
            END,
        ),
        1,
    )
    assert utterance.as_dict() == {
        "text": "Good day",
        "start_ms": 100,
        "end_ms": 700,
        "language": "en",
        "translation": "Buenos días",
        "translation_language": "es",
    }


original = partial(final, language="en", translation_status="original")
translation = partial(final, language="es", translation=True)


def pairs(utterances: list[Utterance]) -> list[tuple[str, str | None]]:
    return [(utterance.text, utterance.translation) for utterance in utterances]


GREETING = ("Hello.", "Hola.")
PARTING = ("Goodbye.", "Adiós.")


@pytest.mark.parametrize(
    ("messages", "completed"),
    [
        # The usual order: a translation comes in the message after its original, and after <end>.
        (
            [
                [original("Hello."), END],
                [translation("Hola.")],
                [original(" Goodbye."), END],
                [translation("Adiós.")],
            ],
            [[], [GREETING], [], [PARTING]],
        ),
        # The next utterance is final before the translation comes.
        (
            [
                [original("Hello."), END],
                [original(" Good")],
                [translation("Ho"), translation("la.")],
                [original("bye."), END],
                [translation("Adiós.")],
            ],
            [[], [], [GREETING], [], [PARTING]],
        ),
        # A translation, and the next utterance, in one message.
        (
            [
                [original("Hello."), END],
                [translation("Hola."), original(" Goodbye."), END],
                [translation("Adiós.")],
            ],
            [[], [GREETING], [PARTING]],
        ),
        # Clause by clause.
        (
            [
                [original("Hello,")],
                [translation("Hola,")],
                [original(" you."), END],
                [translation(" tú.")],
            ],
            [[], [], [], [("Hello, you.", "Hola, tú.")]],
        ),
        # The translation before <end>.
        (
            [
                [original("Hello."), translation("Hola."), END],
                [original("Goodbye."), translation("Adiós.")],
                [END],
            ],
            [[GREETING], [], [PARTING]],
        ),
        # All in one message.
        (
            [
                [
                    original("Hello."),
                    END,
                    translation("Hola."),
                    original(" Goodbye."),
                    END,
                    translation("Adiós."),
                ]
            ],
            [[GREETING, PARTING]],
        ),
        # A translation that never comes holds up its own utterance only.
        (
            [
                [original("Hello."), END],
                [original(" Goodbye."), END],
                [translation("Adiós.")],
            ],
            [[], [("Hello.", None)], [PARTING]],
        ),
        # What is not translated waits for nothing.
        (
            [
                [final("Hola.", language="es", translation_status="none"), END],
                [original("Goodbye."), END],
                [translation("Adiós.")],
            ],
            [[("Hola.", None)], [], [PARTING]],
        ),
    ],
)
def test_a_translation_belongs_to_its_original(
    messages: list[list[Token]], completed: list[list[tuple[str, str | None]]]
) -> None:
    transcript = Transcript()
    assert [pairs(add(transcript, message(*tokens), 1)) for tokens in messages] == completed
    assert finish(transcript) == []
    assert pairs(list(transcript.utterances)) == [pair for part in completed for pair in part]


def test_two_way_translation() -> None:
    transcript = Transcript()
    add(transcript, message(original("How are you?", language="en"), END), 1)
    add(transcript, message(translation("¿Cómo estás?", language="es", source_language="en")), 1)
    add(transcript, message(original("Bien, gracias.", language="es"), END), 1)
    add(transcript, message(translation("Fine, thanks.", language="en", source_language="es")), 1)
    add(transcript, message(original("Good.", language="en"), END), 1)
    add(transcript, message(translation("Bueno.", language="es", source_language="en")), 1)
    assert [utterance.as_dict() for utterance in transcript.utterances] == [
        {
            "text": "How are you?",
            "language": "en",
            "translation": "¿Cómo estás?",
            "translation_language": "es",
        },
        {
            "text": "Bien, gracias.",
            "language": "es",
            "translation": "Fine, thanks.",
            "translation_language": "en",
        },
        {"text": "Good.", "language": "en", "translation": "Bueno.", "translation_language": "es"},
    ]


def test_a_change_of_speaker_waits_for_the_translation_too() -> None:
    transcript = Transcript()
    add(transcript, message(original("Hello.", speaker="1")), 1)
    assert add(transcript, message(original("Goodbye.", speaker="2")), 2) == []
    assert under_way(transcript) == [["Hello."], ["Goodbye."]]
    assert pairs(add(transcript, message(translation("Hola.", speaker="1")), 3)) == [GREETING]
    add(transcript, message(translation("Adiós.", speaker="2")), 4)
    assert pairs(finish(transcript)) == [PARTING]


def test_a_translation_that_never_comes_is_not_awaited_for_ever() -> None:
    transcript = Transcript()
    add(transcript, message(original("Hello."), END), 1)
    completed: list[int] = []
    for total_ms in (None, 3_000, 8_000, None, 13_000, 13_001, 20_000):
        if add(transcript, RealtimeEvent(total_audio_proc_ms=total_ms), 2):
            assert total_ms is not None
            completed.append(total_ms)
    assert completed == [13_001]
    update = transcript.feed(message(translation("Hola.")), 3)
    assert pairs(list(update.amended)) == [GREETING], "it may come yet"


def test_the_rest_of_a_translation_joins_its_utterance() -> None:
    transcript = Transcript()
    transcript.feed(message(original("Hello.", speaker="1"), END), 1)
    assert pairs(add(transcript, message(translation("Ho")), 2)) == [("Hello.", "Ho")]
    update = transcript.feed(message(translation("la")), 3)
    assert (update.completed, pairs(list(update.amended))) == ((), [("Hello.", "Hola")])
    transcript.feed(message(original("Goodbye.", speaker="2")), 4)
    update = transcript.feed(message(translation(".", speaker="1")), 5)
    assert [(u.index, u.translation, u.settled_at) for u in update.amended] == [(0, "Hola.", 2)]
    transcript.feed(message(translation("Adiós.", speaker="2")), 6)
    transcript.finish()
    assert pairs(list(transcript.utterances)) == [GREETING, PARTING]


def test_what_is_owed_at_the_end_is_complete_too() -> None:
    transcript = Transcript()
    add(transcript, message(original("Hello."), END, original("Goodbye.")), 1)
    add(transcript, message(tentative(" And")), 2)
    completed = finish(transcript)
    assert pairs(completed) == [("Hello.", None), ("Goodbye. And", None)]
    assert [utterance.settled_at for utterance in completed] == [1, None]


def test_what_is_not_known_is_left_out() -> None:
    utterance = Utterance((Token(text=" hi"),))
    assert utterance.as_dict() == {"text": "hi"}
    assert (utterance.start_ms, utterance.end_ms, utterance.speaker) == (None, None, None)
