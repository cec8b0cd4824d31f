"""What was said, added to the context of a configuration."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import RealtimeSTTConfig, StructuredContext
from soniox_proto.config import MAX_CONTEXT_CHARACTERS, character_count, checked_config
from soniox_proto.recovery.carried_context import with_said
from tests.support.core.model_service import AUDIO_CONFIG

TERMS: dict[str, Any] = {"terms": ["Xolair"], "general": {"domain": "Healthcare"}}


def config(context: Any) -> RealtimeSTTConfig:
    return checked_config({**AUDIO_CONFIG, "context": context})


@pytest.mark.parametrize(
    ("context", "said", "carried"),
    [
        (None, " good morning", StructuredContext(text="good morning")),
        (None, " ", None),
        ("a meeting", " good morning", "a meeting\ngood morning"),
        (TERMS, " good morning", StructuredContext(**TERMS, text="good morning")),
        (
            {**TERMS, "text": "a meeting"},
            " good",
            StructuredContext(**TERMS, text="a meeting\ngood"),
        ),
        ("x" * 9_989, " good morning", "x" * 9_989 + "\nmorning"),
        ("x" * 9_993, " good morning", "x" * 9_993),
        ("x" * 9_995, "お早うございます", "x" * 9_995 + "\nざいます"),
        ("x" * 10_000, " good morning", "x" * 10_000),
    ],
)
def test_it_comes_last_and_as_far_as_there_is_room(context: Any, said: str, carried: Any) -> None:
    assert with_said(config(context), said).context == carried


@given(
    context=st.one_of(
        st.none(),
        st.text(max_size=5).map(lambda text: text * 2000),
        st.integers(0, 9_900).map(lambda count: {"text": "x" * count, "terms": ["y"]}),
    ),
    said=st.integers(0, 400).map(lambda count: " word" * count),
)
def test_it_is_never_too_long(context: Any, said: str) -> None:
    before = config(context)
    after = with_said(before, said)
    assert checked_config(after).model_copy(update={"context": None}) == config(None)
    carried = after.model_dump()["context"]
    assert character_count(carried) <= MAX_CONTEXT_CHARACTERS
    text = carried["text"] if isinstance(carried, dict) else carried
    assert after is before or text.endswith("word")
