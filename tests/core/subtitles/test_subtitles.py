"""Subtitles: what a player gets to show."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from soniox_proto import (
    Cue,
    RealtimeEvent,
    SonioxValidationError,
    Subtitles,
    Token,
    Transcript,
)
from soniox_proto.testing import token
from tests.support.core.token_streams import END, event

translation = partial(token, translation=True)


def said(text: str, start_ms: int | None = None, end_ms: int | None = None, **more: Any) -> Token:
    return token(text, start_ms=start_ms, end_ms=end_ms, **more)


def spoken(text: str, *, word_ms: int = 300, start_ms: int = 0, **more: Any) -> list[Token]:
    """Return a text word by word, each taking so long."""
    return [
        said(f" {word}", start_ms + n * word_ms, start_ms + (n + 1) * word_ms, **more)
        for n, word in enumerate(text.split())
    ]


def cues_of(*messages: RealtimeEvent, **options: Any) -> list[Cue]:
    transcript, subtitles = Transcript(split_on_speaker=False), Subtitles(**options)
    cues = [cue for message in messages for cue in subtitles.feed_cues(transcript.feed(message))]
    return [*cues, *subtitles.feed_cues(transcript.finish()), *subtitles.finish_cues()]


def texts(cues: list[Cue]) -> list[str]:
    return ["/".join(cue.lines) for cue in cues]


def spans(cues: list[Cue]) -> list[tuple[int, int]]:
    return [(cue.start_ms, cue.end_ms) for cue in cues]


LONG = (
    "Good morning, everyone. Welcome to the meeting about the weather in the city, please sit down"
)


# Files


SPOKEN = [
    event(*spoken("Hello & <welcome>.", speaker="1"), END),
    event(*spoken("Thank you --> all.", start_ms=3_600_000, speaker="2"), END),
]


def written(**options: Any) -> str:
    transcript, subtitles = Transcript(), Subtitles(**options)
    parts = [subtitles.feed(transcript.feed(message)) for message in SPOKEN]
    return "".join((*parts, subtitles.finish()))


def test_srt() -> None:
    assert written(speakers=True) == (
        "1\n00:00:00,000 --> 00:00:01,450\nSpeaker 1: Hello & <welcome>.\n\n"
        "2\n01:00:00,000 --> 01:00:01,450\nSpeaker 2: Thank you -> all.\n\n"
    )


def test_vtt() -> None:
    assert written(format="vtt", speakers={"1": "Ann\n& Bo"}) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.000\n<v Ann &amp; Bo>Hello &amp; &lt;welcome&gt;.</v>\n\n"
        "01:00:00.000 --> 01:00:01.200\n<v Speaker 2>Thank you --&gt; all.</v>\n\n"
    )


def test_without_speech_a_file_is_valid_too() -> None:
    assert Subtitles("vtt").finish() == "WEBVTT\n\n"
    assert Subtitles("srt").finish() == ""


def test_the_document_of_a_transcript_is_what_was_written_while_it_grew() -> None:
    transcript = Transcript()
    for message in SPOKEN:
        transcript.feed(message)
    assert Subtitles(speakers=True).document(transcript.utterances) == written(speakers=True)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"format": "ass"}, "format must be srt or vtt"),
        ({"track": "all"}, "track must be one of original, translation, both"),
        ({"max_line_characters": 1}, "max_line_characters must be a whole number of 2 or more"),
        ({"max_lines": 0}, "max_lines must be a whole number of 1 or more"),
        ({"max_lines": 1, "track": "both"}, "max_lines must be a whole number of 2 or more"),
        ({"min_duration_ms": 0}, "min_duration_ms must be a whole number of 1 or more"),
        ({"max_duration_ms": 999}, "max_duration_ms must be a whole number of 1000 or more"),
        ({"gap_ms": 0.5}, "gap_ms must be a whole number of 0 or more"),
        ({"max_characters_per_second": 0}, "max_characters_per_second must be above 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SonioxValidationError, match=problem):
        Subtitles(**options)


# Layout


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            26,
            [
                "Good morning, everyone.",
                "Welcome to the meeting/about the weather in the",
                "city, please sit down",
            ],
        ),
        (
            42,
            [
                "Good morning, everyone. Welcome to the/meeting about the weather in the city,",
                "please sit down",
            ],
        ),
    ],
)
def test_a_cue_ends_where_a_sentence_or_a_clause_does(columns: int, expected: list[str]) -> None:
    assert texts(cues_of(event(*spoken(LONG), END), max_line_characters=columns)) == expected


def test_a_full_cue_that_ends_a_sentence_is_not_divided() -> None:
    tokens = spoken("One, two. (Three.) Four")
    assert texts(cues_of(event(*tokens), max_line_characters=18, max_lines=1)) == [
        "One, two. (Three.)",
        "Four",
    ]


def test_a_cue_ends_at_a_pause_if_there_is_no_better_place() -> None:
    tokens = [*spoken("one two three"), *spoken("four five six", start_ms=1_200)]
    assert texts(cues_of(event(*tokens), max_line_characters=20, max_lines=1)) == [
        "one two three",
        "four five six",
    ]


def test_lines_are_of_about_the_same_length() -> None:
    cues = cues_of(event(*spoken("one two three four five six seven eight nine ten")))
    assert texts(cues) == ["one two three four five/six seven eight nine ten"]


def test_a_long_pause_begins_another_cue() -> None:
    tokens = [*spoken("one"), *spoken("two", start_ms=1_300)]
    assert texts(cues_of(event(*tokens))) == ["one", "two"]


def test_a_cue_is_not_longer_than_it_may_be() -> None:
    cues = cues_of(event(*spoken("one two three four", word_ms=900)), max_duration_ms=2_000)
    assert texts(cues) == ["one two", "three four"]
    assert spans(cues_of(event(said("one", 0, 9_000)))) == [(0, 7_000)]


def test_words_without_spaces_and_words_that_fit_no_line() -> None:
    tokens = [said(text, n * 100, n * 100 + 100) for n, text in enumerate("今天天气很好我们走")]
    assert texts(cues_of(event(*tokens), max_line_characters=8, max_lines=1)) == [
        "今天天气",
        "很好我们",
        "走",
    ]
    assert texts(cues_of(event(said("abcdefghij", 0, 1000)), max_line_characters=4)) == [
        "abcd/efgh",
        "ij",
    ]
    assert texts(cues_of(event(said("abcdefgh")), max_line_characters=4)) == ["abcd/efgh"]


def test_marks_take_no_room_and_control_characters_are_dropped() -> None:
    tokens = [said("a\u0301b\u0301c\u0301", 0, 300), said(" \x07\x1b[1m", 300, 600), said(" \x07")]
    assert texts(cues_of(event(*tokens), max_line_characters=3)) == ["a\u0301b\u0301c\u0301/[1m"]


# Speakers


def test_a_speaker_is_named_where_they_begin() -> None:
    tokens = [
        *spoken("one two", speaker="1"),
        *spoken("three", start_ms=600, speaker="2"),
        said(" four", 900, 1200),
    ]
    assert texts(cues_of(event(*tokens), speakers={"1": "Ann"}, max_line_characters=12)) == [
        "Ann: one two",
        "Speaker 2:/three four",
    ]
    assert texts(cues_of(event(*tokens))) == ["one two", "three four"]
    assert [cue.speaker for cue in cues_of(event(*tokens), format="vtt", speakers=True)] == [
        "Speaker 1",
        "Speaker 2",
    ]


@pytest.mark.parametrize(("columns", "lines"), [(10, 1), (8, 2)])
def test_a_name_without_room_is_left_out(columns: int, lines: int) -> None:
    cues = cues_of(
        event(*spoken("everybody" if columns == 10 else "all", speaker="1")),
        speakers={"1": "Ann" if columns == 10 else "Annabelle"},
        max_line_characters=columns,
        max_lines=lines,
    )
    assert texts(cues) == ["everybody" if columns == 10 else "all"]


# Times


def test_a_cue_stands_long_enough_to_be_read_as_far_as_there_is_room() -> None:
    one = cues_of(event(*spoken("Yes.", word_ms=200), END))
    assert spans(one) == [(0, 1000)]
    slow = cues_of(event(*spoken("Yes, indeed.", word_ms=200), END), max_characters_per_second=4)
    assert spans(slow) == [(0, 3000)]
    tokens = [*spoken("Yes.", word_ms=200), END, *spoken("No.", start_ms=700)]
    assert spans(cues_of(event(*tokens))) == [(0, 620), (700, 1700)]


def test_short_cues_in_a_row_do_not_overlap() -> None:
    tokens = [
        token for n in range(3) for token in (*spoken("Yes.", word_ms=50, start_ms=50 * n), END)
    ]
    assert spans(cues_of(event(*tokens))) == [(0, 50), (130, 131), (211, 1211)]


def test_words_without_times_are_shown_after_those_before_them() -> None:
    cues = cues_of(event(said("one", 0, 2000), END, said("two"), END, said("three")))
    assert spans(cues) == [(0, 2000), (2080, 3080), (3160, 4160)]


# While it grows


def feed(subtitles: Subtitles, transcript: Transcript, *tokens: Token, to_ms: int) -> list[str]:
    return texts(list(subtitles.feed_cues(transcript.feed(event(*tokens, total_ms=to_ms)))))


def test_a_cue_is_returned_when_it_is_settled() -> None:
    transcript, subtitles = Transcript(), Subtitles()
    assert feed(subtitles, transcript, *spoken("Good morning."), END, to_ms=700) == []
    # Nobody speaks until 1.08 s, so it can stand for a second, and the gap.
    assert feed(subtitles, transcript, to_ms=1079) == []
    assert feed(subtitles, transcript, to_ms=1080) == ["Good morning."]
    # Now it is the next speech that settles it.
    tail = Token(text=" Next", is_final=False, start_ms=5000, end_ms=5300)
    assert feed(subtitles, transcript, *spoken("Hello.", start_ms=2000), to_ms=2300) == []
    assert feed(subtitles, transcript, tail, to_ms=5300) == ["Hello."]


def test_silence_ends_what_has_no_endpoint() -> None:
    transcript, subtitles = Transcript(), Subtitles()
    assert feed(subtitles, transcript, *spoken("Good mor"), said("ning", 600, 700), to_ms=800) == []
    # While something provisional has no time, nothing is known.
    tail = Token(text=" you", is_final=False)
    assert feed(subtitles, transcript, tail, to_ms=1699) == []
    assert feed(subtitles, transcript, to_ms=1699) == []
    assert feed(subtitles, transcript, to_ms=1700) == ["Good morning"]
    assert feed(subtitles, transcript, to_ms=9999) == []


# Translation


def clauses() -> list[RealtimeEvent]:
    original: dict[str, Any] = {"translation_status": "original", "language": "en", "speaker": "1"}
    return [
        event(*spoken("Good morning everyone.", **original), END),
        event(translation("Buenos días a todos.", speaker="1")),
        event(*spoken("Hola.", start_ms=2000, translation_status="none", language="es"), END),
    ]


def test_the_translation_stands_while_its_original_is_spoken() -> None:
    cues = cues_of(*clauses(), track="translation", min_duration_ms=1)
    assert texts(cues) == ["Buenos días a todos.", "Hola."]
    assert spans(cues) == [(0, 1000), (2000, 2300)]


def test_both_languages_in_one_cue() -> None:
    cues = cues_of(*clauses(), track="both", speakers=True)
    assert texts(cues) == [
        "Speaker 1: Good morning everyone./Buenos días a todos.",
        "Hola.",
    ]


def test_both_languages_are_divided_together() -> None:
    cues = cues_of(*clauses(), track="both", max_line_characters=12)
    assert texts(cues) == ["Good/Buenos", "morning/días", "everyone./a todos.", "Hola."]
    long = [
        event(said("Yes.", 0, 1000, translation_status="original"), END),
        event(translation("Sí, claro que sí.")),
    ]
    assert texts(cues_of(*long, track="both", max_line_characters=10)) == [
        "Sí, claro",
        "Yes./que sí.",
    ]


def test_a_translation_without_original_or_text() -> None:
    assert texts(cues_of(event(translation("Hola.")), track="both")) == ["Hola."]
    nothing = [event(said("\x07", 0, 1, translation_status="original"), translation("\x07"))]
    assert cues_of(*nothing, track="both") == []


def test_a_cue_ends_after_a_clause_if_there_is_no_sentence() -> None:
    tokens = spoken("One two three four, five six seven")
    assert texts(cues_of(event(*tokens), max_line_characters=24, max_lines=1)) == [
        "One two three four,",
        "five six seven",
    ]


def test_both_languages_of_a_word_that_is_longer_than_a_cue_may_be() -> None:
    messages = [event(said("Yes", 0, 9000, translation_status="original"), translation("Sí"))]
    cues = cues_of(*messages, track="both")
    assert (texts(cues), spans(cues)) == (["Yes/Sí"], [(0, 7000)])


@pytest.mark.parametrize("arrow", ["-->", "--->", "-->-->", "----->"])
def test_no_text_of_srt_looks_like_a_line_of_times(arrow: str) -> None:
    messages = [event(*spoken(f"a {arrow} b"), END)]
    transcript, subtitles = Transcript(), Subtitles("srt")
    text = "".join(subtitles.feed(transcript.feed(message)) for message in messages)
    text += subtitles.finish()
    assert text.count("-->") == 1, "the line of times itself"


@pytest.mark.parametrize(
    ("track", "lines"), [("translation", ["Ho", "la."]), ("both", ["Hello./Ho", "la."])]
)
def test_a_translation_that_comes_late_is_shown_late(track: str, lines: list[str]) -> None:
    cues = cues_of(
        event(said("Hello.", 0, 900, translation_status="original"), END),
        event(translation("Ho")),
        event(translation("la.")),
        track=track,
    )
    assert texts(cues) == lines
    assert cues[1].start_ms > cues[0].end_ms


@pytest.mark.parametrize(
    ("cluster", "columns"),
    [
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", 10),  # a family
        ("\U0001f44d\U0001f3fd", 10),  # a thumb with a skin tone
        ("\u0915\u093f", 5),  # Hindi, a consonant with its vowel
        ("e\u0301", 4),
    ],
)
def test_long_words_are_not_cut_inside_what_is_seen_as_one_character(
    cluster: str, columns: int
) -> None:
    (*cues,) = cues_of(event(said(cluster * 20, 0, 900), END), max_line_characters=columns)
    lines = [line for cue in cues for line in cue.lines]
    assert "".join(lines) == cluster * 20
    assert {line.replace(cluster, "") for line in lines} == {""}


def test_what_is_wider_than_a_line_is_cut() -> None:
    (cue,) = cues_of(event(said("\U0001f468\u200d\U0001f469", 0, 900), END), max_line_characters=2)
    assert cue.lines == ("\U0001f468\u200d", "\U0001f469")
