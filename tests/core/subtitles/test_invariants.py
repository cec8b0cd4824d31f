"""What holds for the subtitles of any stream of tokens."""

from __future__ import annotations

import html
import io
import re
from datetime import timedelta
from itertools import pairwise
from typing import Any

import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import Cue, RealtimeEvent, Subtitles, Transcript
from soniox_proto.subtitles.layout import printable, width
from tests.support.core.token_streams import events

TRANSCRIPTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"pause_ms": st.just(500), "split_on_speaker": st.booleans()}
)
OPTIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "max_line_characters": st.sampled_from([2, 5, 12, 42]),
        "max_lines": st.integers(2, 3),
        "max_characters_per_second": st.sampled_from([0.5, 20.0]),
        "min_duration_ms": st.sampled_from([1, 1000]),
        "max_duration_ms": st.sampled_from([1000, 7000]),
        "gap_ms": st.sampled_from([0, 80]),
        "speakers": st.sampled_from([False, True, {"1": "A"}]),
        "track": st.sampled_from(["original", "translation", "both"]),
    },
)


def cues_of(
    messages: list[RealtimeEvent], transcript: Transcript, subtitles: Subtitles
) -> list[Cue]:
    cues: list[Cue] = []
    for message in messages:
        cues += subtitles.feed_cues(transcript.feed(message))
    return [*cues, *subtitles.feed_cues(transcript.finish()), *subtitles.finish_cues()]


@given(events(), TRANSCRIPTS, OPTIONS)
def test_cues_are_in_order_and_within_their_bounds(
    messages: list[RealtimeEvent], settings: dict[str, Any], options: dict[str, Any]
) -> None:
    cues = cues_of(messages, Transcript(**settings), Subtitles("srt", **options))
    for cue in cues:
        assert 0 < cue.end_ms - cue.start_ms <= options["max_duration_ms"]
        assert 1 <= len(cue.lines) <= options["max_lines"]
        for line in cue.lines:
            assert line
            assert width(line) <= options["max_line_characters"]
    for cue, following in pairwise(cues):
        assert following.start_ms >= cue.end_ms + options["gap_ms"]
        # One that is shorter than it should be uses all the room there is.
        if cue.end_ms - cue.start_ms < options["min_duration_ms"]:
            assert following.start_ms == cue.end_ms + options["gap_ms"]
    for cue in cues[-1:]:
        assert cue.end_ms - cue.start_ms >= options["min_duration_ms"]


@given(events(), TRANSCRIPTS, OPTIONS)
def test_cues_have_all_that_was_said(
    messages: list[RealtimeEvent], settings: dict[str, Any], options: dict[str, Any]
) -> None:
    transcript = Transcript(**settings)
    options |= {"speakers": False, "track": "original"}
    cues = cues_of(messages, transcript, Subtitles("srt", **options))
    shown = "".join("".join(cue.lines) for cue in cues)
    assert "".join(shown.split()) == printable("".join(transcript.text.split()))


def written(messages: list[RealtimeEvent], subtitles: Subtitles) -> str:
    transcript = Transcript()
    parts = [subtitles.feed(transcript.feed(message)) for message in messages]
    return "".join((*parts, subtitles.feed(transcript.finish()), subtitles.finish()))


@given(events(), OPTIONS)
def test_a_parser_reads_the_srt_that_was_written(
    messages: list[RealtimeEvent], options: dict[str, Any]
) -> None:
    cues = cues_of(messages, Transcript(), Subtitles("srt", **options))
    read = list(srt.parse(written(messages, Subtitles("srt", **options)), ignore_errors=False))
    assert [item.index for item in read] == list(range(1, len(cues) + 1))
    assert [(item.start, item.end) for item in read] == [
        (timedelta(milliseconds=cue.start_ms), timedelta(milliseconds=cue.end_ms)) for cue in cues
    ]
    assert [item.content.split("\n") for item in read] == [
        [re.sub("--+>", "->", line) for line in cue.lines] for cue in cues
    ]


@given(events(), OPTIONS)
def test_a_parser_reads_the_webvtt_that_was_written(
    messages: list[RealtimeEvent], options: dict[str, Any]
) -> None:
    cues = cues_of(messages, Transcript(), Subtitles("vtt", **options))
    text = written(messages, Subtitles("vtt", **options))
    captions = webvtt.from_buffer(io.StringIO(text)).captions
    assert [caption.voice for caption in captions] == [cue.speaker for cue in cues]
    times = [(caption.start, caption.end) for caption in captions]
    assert [tuple(map(srt.srt_timestamp_to_timedelta, both)) for both in times] == [
        (timedelta(milliseconds=cue.start_ms), timedelta(milliseconds=cue.end_ms)) for cue in cues
    ]
    assert [html.unescape(caption.text).split("\n") for caption in captions] == [
        list(cue.lines) for cue in cues
    ]
