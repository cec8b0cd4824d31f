"""Open ends and segments, for the tests of hostile input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from soniox_proto import (
    Closed,
    Event,
    Outcome,
    RealtimeSTTServerConnection,
    ServerEvent,
    SonioxProtocolError,
    StartReceived,
)
from tests.fuzz.measure import KIBIBYTE
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import CLIENT_MASK
from tests.support.core.messages import START_MESSAGE

__all__ = [
    "READ_SIZE",
    "accepted_server",
    "feed",
    "feeding",
    "fragments",
    "open_client",
    "open_server",
    "padded",
    "segments",
    "violation",
]

READ_SIZE: Final = 64 * KIBIBYTE
"""Bytes of a segment, as a driver reads them."""

_NOTHING: Final = b'{"tokens":[]}'


def segments(data: bytes, size: int = READ_SIZE) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def padded(size: int) -> bytes:
    """Return a message of `size` bytes that says nothing."""
    return _NOTHING[:-1] + b" " * (size - len(_NOTHING)) + b"}"


def fragments(message: bytes, size: int, mask: bytes | None = None) -> bytes:
    """Return a text message in fragments of `size` bytes each."""
    pieces = segments(message, size)
    last = len(pieces) - 1
    return b"".join(
        frames.encode(0 if index else 1, piece, final=index == last, mask=mask)
        for index, piece in enumerate(pieces)
    )


def open_client(**options: Any) -> Client:
    """Return a client that has sent its start message."""
    client = Client(**options).open()
    client.drain()
    return client


def accepted_server(**options: int) -> RealtimeSTTServerConnection:
    """Return a server that awaits the start message."""
    server = RealtimeSTTServerConnection(**options)
    server.receive_data(frames.upgrade_request(), 0.0)
    server.accept(0.0)
    server.data_to_send()
    return server


def open_server(**options: int) -> RealtimeSTTServerConnection:
    """Return a server that has the start message."""
    server = accepted_server(**options)
    (started,) = server.receive_data(frames.text(START_MESSAGE, mask=CLIENT_MASK), 0.0)
    assert isinstance(started, StartReceived)
    return server


def feed(client: Client, data: Iterable[bytes]) -> list[Event]:
    """Feed segments, and return all events."""
    return [event for piece in data for event in client.connection.receive_data(piece, 0.0)]


def feeding(
    end: Client | RealtimeSTTServerConnection, data: Iterable[bytes]
) -> Callable[[], Event | ServerEvent | None]:
    """Return the work of feeding segments; the last event comes of it."""
    receive = end.connection.receive_data if isinstance(end, Client) else end.receive_data

    def work() -> Event | ServerEvent | None:
        last: Event | ServerEvent | None = None
        for piece in data:
            for event in receive(piece, 0.0):
                last = event
        return last

    return work


def violation(event: Event | ServerEvent | None) -> SonioxProtocolError:
    """Return the error of a client that found its server to break the protocol."""
    assert isinstance(event, Closed)
    assert event.outcome is Outcome.LOST
    assert isinstance(event.error, SonioxProtocolError)
    return event.error
