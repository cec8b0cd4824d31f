"""Files of a transcript, as they are written while it grows."""

from __future__ import annotations

import csv
import io
import json
from functools import partial

import pytest
from hypothesis import given

from soniox_proto import (
    JSONWriter,
    RealtimeEvent,
    SonioxValidationError,
    Subtitles,
    TableWriter,
    TextWriter,
    Transcript,
    TranscriptWriter,
)
from soniox_proto.testing import token
from tests.support.core.token_streams import END, event, events

said = partial(token, confidence=None)

MESSAGES = [
    event(
        said("Good,", start_ms=0, end_ms=300, speaker="1", language="en", confidence=0.5),
        said(' "day"\n', start_ms=300, end_ms=600, translation_status="original"),
        END,
    ),
    event(said("Buen día.", translation_status="translation", language="es")),
    event(said(" Adiós.", translation_status="translation", language="es")),
    event(said("One\ttwo\x07", speaker="2"), END),
]


def written(writer: TranscriptWriter, messages: list[RealtimeEvent]) -> str:
    transcript = Transcript()
    parts = [writer.feed(transcript.feed(message)) for message in messages]
    return "".join((*parts, writer.feed(transcript.finish()), writer.finish()))


def test_text() -> None:
    assert written(TextWriter(), MESSAGES) == (
        'Speaker 1: [en] Good, "day"\n'
        "    [es] Buen día.\n"
        "    [es] Buen día. Adiós.\n"
        "Speaker 2: One two\n"
    )
    assert written(TextWriter(speakers=False, languages=False), MESSAGES[:2]) == (
        'Good, "day"\n    Buen día.\n'
    )


def test_csv() -> None:
    assert written(TableWriter(), MESSAGES) == (
        "start_ms,end_ms,speaker,language,text,translation_language,translation\r\n"
        '0,600,1,en,"Good, ""day""",es,Buen día.\r\n'
        ",,,,,es,Buen día. Adiós.\r\n"
        ",,2,,One two,,\r\n"
    )


def test_tsv() -> None:
    lines = written(TableWriter("tsv"), MESSAGES).split("\n")
    assert lines[0].split("\t")[:3] == ["start_ms", "end_ms", "speaker"]
    assert lines[3] == "\t\t2\t\tOne two\t\t"


def test_a_table_has_one_of_two_formats() -> None:
    with pytest.raises(SonioxValidationError, match="format must be csv or tsv, not 'xls'"):
        TableWriter("xls")  # type: ignore[arg-type]


def test_json() -> None:
    writer = JSONWriter()
    transcript = Transcript()
    text = "".join(writer.feed(transcript.feed(message)) for message in MESSAGES)
    document = json.loads(text + writer.finish(outcome="finished", error=None))
    first, late, second = document.pop("utterances")
    assert document == {"outcome": "finished", "error": None}
    assert first == {
        "index": 0,
        "text": 'Good, "day"',
        "start_ms": 0,
        "end_ms": 600,
        "speaker": "1",
        "language": "en",
        "translation": "Buen día.",
        "translation_language": "es",
        "words": [
            {
                "text": "Good,",
                "start_ms": 0,
                "end_ms": 300,
                "confidence": 0.5,
                "speaker": "1",
                "language": "en",
            },
            {"text": '"day"', "start_ms": 300, "end_ms": 600},
        ],
    }
    assert late == {
        "index": 0,
        "translation": "Buen día. Adiós.",
        "translation_language": "es",
    }
    assert second["index"] == 1


def test_json_without_words_or_without_anything() -> None:
    document = json.loads(written(JSONWriter(words=False), MESSAGES))
    assert "words" not in document["utterances"][0]
    assert json.loads(JSONWriter().finish(text="")) == {"utterances": [], "text": ""}


@given(events())
def test_every_file_can_be_read_again(messages: list[RealtimeEvent]) -> None:
    utterances = Transcript()
    updates = [utterances.feed(message) for message in messages] + [utterances.finish()]
    count = sum(len(update.completed) + len(update.amended) for update in updates)
    assert len(json.loads(written(JSONWriter(), messages))["utterances"]) == count
    for kind, separator in (("csv", ","), ("tsv", "\t")):
        text = written(TableWriter(kind), messages)  # type: ignore[arg-type]
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
        assert len(rows) == count + 1
        assert {len(row) for row in rows} == {7}


def test_subtitles_are_a_writer_too() -> None:
    writer: TranscriptWriter = Subtitles("vtt")
    assert written(writer, []) == "WEBVTT\n\n"
