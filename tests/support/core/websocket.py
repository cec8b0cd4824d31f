"""What a WebSocket yields, one message at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from soniox_proto.websocket.connection import (
    Accepted,
    CloseReceived,
    PongReceived,
    Rejected,
    UpgradeRequested,
    Violation,
    WebSocketEvent,
)

__all__ = ["Received", "one_by_one"]

Received: TypeAlias = (
    str | bytes | UpgradeRequested | Accepted | Rejected | PongReceived | CloseReceived | Violation
)
"""An event, or one of the messages that came together."""


def one_by_one(events: Iterable[WebSocketEvent]) -> Iterator[Received]:
    """Yield what `events` hold: how many messages come together depends on how the input is cut."""
    for event in events:
        if isinstance(event, list):
            yield from event
        else:
            yield event
