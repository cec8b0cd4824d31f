"""What holds for a transcript of any stream of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import RealtimeEvent, Token, Transcript, Utterance
from tests.support.core.token_streams import (
    events,
    final_tokens,
    finals_of,
    is_marker,
    split_events,
)

OPTIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "pause_ms": st.sampled_from([1, 500]),
        "max_utterance_ms": st.sampled_from([1, 2000]),
        "max_utterance_characters": st.sampled_from([1, 12]),
        "split_on_speaker": st.booleans(),
        "split_on_finalize": st.booleans(),
    },
)
BOUNDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 8),
        "max_ms": st.sampled_from([1, 1000, 5000]),
    },
)


def with_text(tokens: Iterable[Token]) -> list[int]:
    """Return the identities of the tokens that have any text."""
    return [id(token) for token in tokens if token.text.strip()]


def is_original(token: Token) -> bool:
    return token.translation_status != "translation"


@given(events(), OPTIONS)
def test_no_final_token_is_lost_doubled_or_reordered(
    messages: list[RealtimeEvent], options: dict[str, Any]
) -> None:
    transcript = Transcript(**options)
    sent: list[Token] = []
    for message in messages:
        update = transcript.feed(message)
        sent += finals_of([message])
        if message.finished:
            # What was provisional until then is kept.
            sent += [token for token in update.final_tokens if not token.is_final]
        kept = transcript.tokens
        assert sorted(with_text(kept)) == sorted(with_text(sent))
        assert with_text(filter(is_original, kept)) == with_text(filter(is_original, sent))
        assert not any(map(is_marker, kept))


@given(events(), OPTIONS, BOUNDS)
def test_what_leaves_is_handed_out(
    messages: list[RealtimeEvent], options: dict[str, Any], bounds: dict[str, Any]
) -> None:
    transcript = Transcript(**options, **bounds)
    left: list[Utterance] = []
    sent: list[int] = []
    for message in messages:
        update = transcript.feed(message)
        left += update.removed
        sent += with_text(update.final_tokens)
        here = [token for utterance in left for token in utterance.tokens] + [*transcript.tokens]
        assert sorted(with_text(here)) == sorted(sent)
        if "max_tokens" in bounds:
            assert len(transcript.tokens) <= bounds["max_tokens"]
    indexes = [utterance.index for utterance in (*left, *transcript.utterances)]
    assert indexes == list(range(len(indexes)))


@given(events(), OPTIONS, BOUNDS)
def test_the_edits_make_the_text(
    messages: list[RealtimeEvent], options: dict[str, Any], bounds: dict[str, Any]
) -> None:
    transcript = Transcript(**options, **bounds)
    text = translation = ""
    updates = (transcript.finish() if m is None else transcript.feed(m) for m in (*messages, None))
    for update in updates:
        text = update.apply(text)
        translation = update.apply_translation(translation)
        assert text == transcript.text
        assert translation == transcript.translation_text
        assert transcript.final_text + transcript.provisional_text == text
        for edit in (*update.edits, *update.translation_edits):
            assert edit.deleted or edit.inserted
        assert "<end>" not in text + translation
        assert "<fin>" not in text + translation
    assert transcript.provisional_text == ""
    assert transcript.open_utterances == ()


@given(events(), OPTIONS)
def test_segments_divide_the_tokens(messages: list[RealtimeEvent], options: dict[str, Any]) -> None:
    transcript = Transcript(**options)
    for message in messages:
        transcript.feed(message)
    tokens = [token for segment in transcript.segments for token in segment.tokens]
    assert [*map(id, tokens)] == [*map(id, transcript.tokens)]
    for segment in transcript.segments:
        assert {is_original(token) for token in segment.tokens} == {not segment.is_translation}
        starts = [token.start_ms for token in segment.tokens if token.start_ms is not None]
        assert segment.start_ms == min(starts, default=None)
        ends = [token.end_ms for token in segment.tokens if token.end_ms is not None]
        assert segment.end_ms == max(ends, default=None)
    for utterance in transcript.utterances:
        clauses = [token for clause in utterance.clauses for token in clause.tokens]
        assert [*map(id, clauses)] == [*map(id, utterance.tokens)]


@given(events(), OPTIONS)
def test_words_have_all_of_the_text(messages: list[RealtimeEvent], options: dict[str, Any]) -> None:
    transcript = Transcript(**options)
    for message in messages:
        transcript.feed(message)
    words = transcript.words
    assert "".join(word.text for word in words) == "".join(transcript.final_text.split())
    for utterance in transcript.utterances:
        spaced = "".join(f" {w.text}" if w.space_before else w.text for w in utterance.words)
        assert spaced.split() == utterance.text.split()
        assert not any(word.space_before for word in utterance.words[:1])


@given(st.data(), OPTIONS)
def test_what_was_said_does_not_depend_on_the_messages(
    data: st.DataObject, options: dict[str, Any]
) -> None:
    finals = data.draw(final_tokens(translated=False))
    found: list[list[tuple[str, Any]]] = []
    for _ in range(2):
        transcript = Transcript(**options)
        for message in data.draw(split_events(finals)):
            transcript.feed(message)
        transcript.feed(RealtimeEvent())
        transcript.finish()
        found.append([(u.text, u.ended_by) for u in transcript.utterances])
    assert found[0] == found[1]


@given(events(), OPTIONS)
def test_a_complete_utterance_changes_only_by_amendment(
    messages: list[RealtimeEvent], options: dict[str, Any]
) -> None:
    transcript = Transcript(**options)
    known: dict[int, Utterance] = {}
    for message in messages:
        update = transcript.feed(message)
        assert not {u.index for u in update.completed} & known.keys()
        known.update({u.index: u for u in update.completed})
        for utterance in update.amended:
            before = known[utterance.index]
            assert utterance.tokens[: len(before.tokens)] == before.tokens
            assert utterance.text == before.text
            known[utterance.index] = utterance
        assert list(transcript.utterances) == list(known.values())
