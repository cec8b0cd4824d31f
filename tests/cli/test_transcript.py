"""Messages become utterances."""

from __future__ import annotations

from typing import Any

import pytest

from soniox_adapters.cli.transcript import Transcript, Utterance
from soniox_proto import RealtimeEvent, Token


def message(*tokens: dict[str, Any], **fields: Any) -> RealtimeEvent:
    return RealtimeEvent.model_validate({"tokens": tokens, **fields})


def final(text: str, **fields: Any) -> dict[str, Any]:
    return {"text": text, "is_final": True, **fields}


def tentative(text: str, **fields: Any) -> dict[str, Any]:
    return {"text": text, "is_final": False, **fields}


END = final("<end>")


def texts(utterances: list[Utterance]) -> list[str]:
    return [utterance.text for utterance in utterances]


def test_an_endpoint_completes_an_utterance() -> None:
    transcript = Transcript()
    assert transcript.add(message(final("Good"), tentative(" mourn")), 1.0) == []
    completed = transcript.add(message(final(" morning"), END, final(" Next"), tentative(" o")), 2)
    assert texts(completed) == ["Good morning"]
    assert transcript.utterances == completed
    assert [[token.text for token in part] for part in transcript.current] == [[" Next"], [" o"]]


def test_non_final_tokens_are_replaced_at_every_message() -> None:
    transcript = Transcript()
    transcript.add(message(tentative("I"), tentative(" scream")), 1)
    transcript.add(message(tentative("ice"), tentative(" cream")), 2)
    assert [token.text for token in transcript.current[1]] == ["ice", " cream"]
    transcript.add(message(), 3)
    assert transcript.current == ((), ())


def test_an_error_message_takes_nothing_back() -> None:
    transcript = Transcript()
    transcript.add(message(final("so"), tentative(" far")), 1)
    transcript.add(message(error_code=503), 2)
    assert texts(transcript.complete()) == ["so far"]


def test_the_answer_to_a_finalize_is_not_text_and_ends_nothing() -> None:
    transcript = Transcript()
    transcript.add(message(final("one"), final("<fin>"), final(" two")), 1)
    assert texts(transcript.complete()) == ["one two"]


def test_a_change_of_speaker_completes_an_utterance() -> None:
    transcript = Transcript()
    completed = transcript.add(
        message(
            final("Hi", speaker="1"),
            final("!"),
            final(" Hello", speaker="2"),
            final(" you", speaker="2"),
        ),
        1,
    )
    assert [(utterance.speaker, utterance.text) for utterance in completed] == [("1", "Hi!")]
    assert [utterance.speaker for utterance in transcript.complete()] == ["2"]


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
    transcript.add(message(final("one", start_ms=0, end_ms=500)), 1)
    transcript.add(message(final(" two", start_ms=start_ms)), 2)
    transcript.complete()
    assert texts(transcript.utterances) == expected


def test_no_pause_is_seen_where_tokens_have_no_times() -> None:
    transcript = Transcript(pause_ms=1000)
    transcript.add(message(final("one"), final(" two", start_ms=5000)), 1)
    assert texts(transcript.complete()) == ["one two"]


def test_blank_utterances_are_none() -> None:
    transcript = Transcript()
    assert transcript.add(message(final(" "), END, END), 1) == []
    assert transcript.complete() == []
    assert transcript.text == ""


def test_the_transcript_as_a_whole() -> None:
    transcript = Transcript()
    transcript.add(message(final("One"), final(" two"), END, final(" three")), 1)
    transcript.complete()
    assert transcript.text == "One two\nthree"
    assert [token.text for token in transcript.tokens] == ["One", " two", " three"]


def test_an_utterance_is_settled_with_its_last_final_token() -> None:
    transcript = Transcript()
    transcript.add(message(final("one")), 1.5)
    transcript.add(message(tentative(" tw")), 1.75)
    (first,) = transcript.add(message(END), 2.0)
    assert first.settled_at == 1.5
    transcript.add(message(final("two")), 3.0)
    assert [utterance.settled_at for utterance in transcript.complete()] == [3.0]


def test_an_utterance_with_non_final_tokens_is_not_settled() -> None:
    transcript = Transcript()
    transcript.add(message(final("one"), tentative(" two")), 1.5)
    (utterance,) = transcript.complete()
    assert (utterance.text, utterance.settled_at) == ("one two", None)


def test_translations_are_kept_apart() -> None:
    transcript = Transcript()
    (utterance,) = transcript.add(
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


def test_what_is_not_known_is_left_out() -> None:
    utterance = Utterance((Token(text=" hi"),))
    assert utterance.as_dict() == {"text": "hi"}
    assert (utterance.start_ms, utterance.end_ms, utterance.speaker) == (None, None, None)
