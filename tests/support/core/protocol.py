"""The message layer, open and ready."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from soniox_proto import RealtimeSTTProtocol
from tests.support.core.messages import CONFIG, START_MESSAGE


def started(**options: Any) -> RealtimeSTTProtocol:
    """Return an open session whose start message has been taken."""
    protocol = RealtimeSTTProtocol(CONFIG, **options)
    protocol.start(0.0)
    assert protocol.messages_to_send() == [START_MESSAGE]
    return protocol


def kinds(events: Iterable[object]) -> list[type]:
    """Return of which kind each event is."""
    return [type(event) for event in events]
