"""What does it cost to parse an event and look at every token, without any WebSocket?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, Final
from unittest.mock import patch

from pydantic_core import from_json

from benchmarks.harness import (
    OURS,
    SONIOX,
    Effort,
    Figure,
    Sample,
    Stopwatch,
    interleave,
    series_of,
)
from benchmarks.messages import event_json, look_at
from soniox_proto import RealtimeEvent, messages

__all__ = ["measure"]

_TOKENS: Final = (0, 5, 20, 60)
_DIFFERENT_EVENTS: Final = 100
_TOKENS_OF_ONE_MEASUREMENT: Final = 40_000
_ROUNDS: Final = 9
_WITHOUT_MSGSPEC: Final = "ours without msgspec"


def measure(effort: Effort) -> list[Figure]:
    """Parse events with different texts from `str`, because text frames arrive as that."""
    parsers: dict[str, Callable[[str], Any]] = {}
    if find_spec("soniox") is not None:
        from soniox.types import RealtimeEvent as SonioxEvent

        parsers[SONIOX] = SonioxEvent.validate_event
    parsers[OURS] = messages.EventParser().parse
    parsers[_WITHOUT_MSGSPEC] = _parser_without_msgspec()
    parsers["JSON alone, to dicts"] = from_json
    figures: list[Figure] = []
    for tokens in _TOKENS:
        events = [
            event_json(tokens, first=tokens * number).decode()
            for number in range(_DIFFERENT_EVENTS)
        ]
        times = effort.operations(_TOKENS_OF_ONE_MEASUREMENT) // (tokens + 2) // _DIFFERENT_EVENTS
        turns = {
            name: partial(
                _parse, parse, events, max(1, times), look=name in {OURS, SONIOX, _WITHOUT_MSGSPEC}
            )
            for name, parse in parsers.items()
        }
        series = series_of(interleave(turns, effort.rounds(_ROUNDS)))
        figures.append(Figure(f"parse a {tokens}-token event", "µs", series))
    return figures


def _parser_without_msgspec() -> Callable[[str], RealtimeEvent]:
    validator = messages._known_fields_validator
    validator.cache_clear()
    # Makes importing it fail, as if it were not installed.
    with patch.dict(sys.modules, {"msgspec": None}):
        parse = messages.EventParser().parse
    validator.cache_clear()
    return parse


def _parse(parse: Callable[[str], Any], events: list[str], times: int, *, look: bool) -> Sample:
    with Stopwatch() as watch:
        if look:
            for _ in range(times):
                for event in events:
                    look_at(parse(event))
        else:
            for _ in range(times):
                for event in events:
                    parse(event)
    return watch.per(times * len(events))
