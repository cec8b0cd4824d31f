"""The messages of the benchmarks: the start message, results, and their time stamps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Protocol

__all__ = [
    "API_KEY",
    "CONFIG_FIELDS",
    "STAMP_LENGTH",
    "STAMP_PLACEHOLDER",
    "START_MESSAGE",
    "Event",
    "event_json",
    "latency_us",
    "look_at",
    "stamp",
]

API_KEY: Final = "benchmark"
"""The key that every client sends. The far end does not check it."""

CONFIG_FIELDS: Final[dict[str, Any]] = {
    "model": "stt-rt-v5",
    "audio_format": "pcm_s16le",
    "sample_rate": 16_000,
    "num_channels": 1,
}
"""Fields of the stream's configuration, for 16 kHz speech."""

START_MESSAGE: Final = json.dumps(CONFIG_FIELDS)
"""The start message of clients that only do WebSocket."""

_STAMP_BASE: Final = 10**15
"""Added to a stamp, so that it always has the same number of digits."""

STAMP_PLACEHOLDER: Final = _STAMP_BASE
"""The value of `total_audio_proc_ms` that the far end replaces by a stamp."""

STAMP_LENGTH: Final = len(str(STAMP_PLACEHOLDER))
"""Number of digits of a stamp."""


class Token(Protocol):
    """What the tokens of all clients have in common."""

    @property
    def text(self) -> str:
        """The text."""
        ...

    @property
    def is_final(self) -> bool | None:
        """Whether the token will never change again."""
        ...


class Event(Protocol):
    """What the events of all clients have in common."""

    @property
    def tokens(self) -> Sequence[Token]:
        """The tokens."""
        ...

    @property
    def total_audio_proc_ms(self) -> int | None:
        """The field in which the far end puts its stamp."""
        ...


def event_json(tokens: int, *, first: int = 0) -> bytes:
    """Return a result like those of the service, with about 95 bytes per token.

    Args:
        tokens: How many tokens.
        first: Number of the first token. Other numbers give other texts, so that a parser that
            keeps strings cannot find the same ones again.
    """
    return json.dumps(
        {
            "tokens": [
                {
                    "text": f" word{number}",
                    "start_ms": number * 100,
                    "end_ms": number * 100 + 90,
                    "confidence": 0.95,
                    "is_final": number % 2 == 0,
                }
                for number in range(first, first + tokens)
            ],
            "final_audio_proc_ms": (first + tokens) * 100,
            "total_audio_proc_ms": STAMP_PLACEHOLDER,
        }
    ).encode()


def look_at(event: Event | None) -> int:
    """Look at the text and finality of every token, as a program that shows a transcript does.

    Returns a number that depends on all of them. Raises `RuntimeError` for None, because the stream
    has then ended before the benchmark.
    """
    if event is None:
        raise RuntimeError("the stream ended before the benchmark did")
    seen = 0
    for token in event.tokens:
        if token.is_final:
            seen += len(token.text)
    return seen


def stamp(clock_ns: int) -> bytes:
    """Return a time of `time.monotonic_ns` as digits that fit in place of the placeholder."""
    return b"%d" % (_STAMP_BASE + clock_ns)


def latency_us(event: Event, clock_ns: int) -> float:
    """Return the µs from the stamp in `event` to `clock_ns`, a time of `time.monotonic_ns`."""
    return (clock_ns + _STAMP_BASE - (event.total_audio_proc_ms or 0)) / 1000
