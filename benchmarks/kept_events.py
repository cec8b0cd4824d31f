"""How much memory does an event take while it is kept?"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final

from benchmarks.harness import OURS, SONIOX, Effort, Figure, Series, ratio_at_most
from benchmarks.messages import event_json, look_at
from soniox_proto import RealtimeEvent

__all__ = ["measure"]

_EVENTS: Final = 500
_TOKENS: Final = 20
_ROUNDS: Final = 3


def measure(effort: Effort) -> list[Figure]:
    """Parse events of different texts, look at every token, and keep the events."""
    parsers: dict[str, Callable[[str], Any]] = {}
    if find_spec("soniox") is not None:
        from soniox.types import RealtimeEvent as SonioxEvent

        parsers[SONIOX] = SonioxEvent.validate_event
    parsers[OURS] = RealtimeEvent.validate_event
    events, no_tokens = effort.operations(_EVENTS), 0
    whole: dict[str, list[float]] = {name: [] for name in parsers}
    token: dict[str, list[float]] = {name: [] for name in parsers}
    for _ in range(effort.rounds(_ROUNDS)):
        for name, parse in parsers.items():
            kept = _bytes_kept(parse, _TOKENS, events)
            empty = _bytes_kept(parse, no_tokens, events)
            whole[name].append(kept / 1000)
            token[name].append((kept - empty) / _TOKENS / 1000)
    target = ratio_at_most(0.50)
    return [
        Figure("memory of a kept 20-token event", "KB", _series(whole), target),
        Figure("memory of a kept token", "KB", _series(token), target),
    ]


def _bytes_kept(parse: Callable[[str], Any], tokens: int, events: int) -> float:
    """Return the bytes per event when `events` of them are kept."""
    messages = [event_json(tokens, first=tokens * number).decode() for number in range(events)]
    gc.collect()
    tracemalloc.start()
    kept = []
    for message in messages:
        event = parse(message)
        look_at(event)
        kept.append(event)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(kept)


def _series(values: dict[str, list[float]]) -> dict[str, Series]:
    return {name: Series(measured) for name, measured in values.items()}
