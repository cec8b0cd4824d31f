"""Streams of tokens as the service might send them, and as it should not but could."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from soniox_proto import RealtimeEvent, Token

__all__ = [
    "END",
    "FIN",
    "event",
    "events",
    "final_tokens",
    "finals_of",
    "is_marker",
    "split_events",
]

END = Token(text="<end>", is_final=True, start_ms=0, end_ms=0, speaker="9", language="xx")
FIN = Token(text="<fin>", is_final=True)

_PIECES = (
    (" he", "llo", ".", ",", " wor", "ld", " ", "", "a b", " c d", "\n", "-", "'s"),
    ("你", "好", "。", "「", "日本語", "ไทย", "\u0e35", "e\u0301", "\u2028x"),
    (" -->", "&", "<b>", " supercalifragilistic"),
)
TEXTS = st.sampled_from([text for texts in _PIECES for text in texts])
LABELS = st.sampled_from([None, None, "1", "2"])
LANGUAGES = st.sampled_from([None, "en", "es"])
STATUSES = st.sampled_from([None, "none", "original", "original", "translation"])


@st.composite
def tokens(draw: st.DrawFn, *, is_final: bool, timed: bool = False) -> Token:
    """Draw one token: part of a word, of several words, or of nothing."""
    fields: dict[str, Any] = {
        "text": draw(TEXTS),
        "is_final": is_final,
        "speaker": draw(LABELS),
        "language": draw(LANGUAGES),
        "translation_status": draw(STATUSES),
    }
    if fields["translation_status"] == "translation":
        fields["source_language"] = draw(LANGUAGES)
    elif timed or draw(st.booleans()):
        fields["start_ms"] = draw(st.integers(0, 20_000))
        fields["end_ms"] = fields["start_ms"] + draw(st.integers(0, 3_000))
    return Token.model_validate(fields)


@st.composite
def final_tokens(draw: st.DrawFn, *, translated: bool = True) -> list[Token]:
    """Draw the final tokens of a stream, with markers among them, and with times that ascend."""
    found: list[Token] = []
    clock = 0
    for token in draw(st.lists(tokens(is_final=True) | st.sampled_from([END, FIN]), max_size=40)):
        if is_marker(token):
            found.append(token)
            continue
        if token.start_ms is not None and token.end_ms is not None:
            clock += draw(st.sampled_from([0, 0, 40, 300, 1500]))
            length = token.end_ms - token.start_ms
            token.start_ms, token.end_ms = clock, clock + length
            clock += length
        if not translated and token.translation_status == "translation":
            token.translation_status = "original"
        found.append(token)
    return found


@st.composite
def split_events(draw: st.DrawFn, finals: list[Token]) -> list[RealtimeEvent]:
    """Draw a split of final tokens into messages, with tails that come, change and go."""
    cuts = sorted(draw(st.lists(st.integers(0, len(finals)), max_size=10)))
    parts = [finals[a:b] for a, b in zip([0, *cuts], [*cuts, len(finals)], strict=True)]
    tails = st.lists(tokens(is_final=False), max_size=5)
    return [event(*part, *draw(tails), total_ms=draw(st.integers(0, 90_000))) for part in parts]


@st.composite
def events(draw: st.DrawFn) -> list[RealtimeEvent]:
    """Draw the messages of a stream, an error or a finished response among them now and then."""
    messages = draw(split_events(draw(final_tokens())))
    for _ in range(draw(st.integers(0, 1))):
        position = draw(st.integers(0, len(messages)))
        ending = draw(
            st.sampled_from([RealtimeEvent(error_code=503), RealtimeEvent(finished=True)])
        )
        messages.insert(position, ending)
    return messages


def event(*tokens: Token, total_ms: int | None = None) -> RealtimeEvent:
    """Return a message."""
    return RealtimeEvent(tokens=list(tokens), total_audio_proc_ms=total_ms)


def is_marker(token: Token) -> bool:
    """Return whether a token is a marker."""
    return token.text in {"<end>", "<fin>"}


def finals_of(messages: Iterable[RealtimeEvent]) -> list[Token]:
    """Return the final tokens of messages, without markers."""
    every = (token for message in messages for token in message.tokens)
    return [token for token in every if token.is_final and not is_marker(token)]
