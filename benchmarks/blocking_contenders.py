"""The blocking clients, all with the same four methods.

Where possible these are the library's own methods, so that nothing else is measured. Libraries that
only do WebSocket parse with our models, as an adapter built on them would.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.contenders import BARE_SOCKET
from benchmarks.harness import OURS, SONIOX
from benchmarks.messages import API_KEY, CONFIG_FIELDS, START_MESSAGE, Event, event_json
from soniox_proto import RealtimeEvent

__all__ = [
    "BLOCKING_CONTENDERS",
    "BlockingClient",
    "BlockingContender",
    "bare_event_size",
    "bare_frame",
    "bare_upgrade",
]

_READ_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class BlockingClient:
    """An open stream."""

    send: Callable[[bytes], object]
    """Send a chunk."""
    receive: Callable[[], Event | None]
    """Wait for the next event."""
    events: Callable[[], Iterator[Event]]
    """Iterate over the events."""
    close: Callable[[], object]
    """Close the stream."""
    session: Any = None
    """The library's own object."""


@dataclass(frozen=True, slots=True)
class BlockingContender:
    """A client library."""

    name: str
    module: str
    open: Callable[[str], BlockingClient]
    """Open a stream to a URL."""
    share: float = 1.0
    """Share of an exercise's operations to do, because the slowest client would take too long."""


def _enter(client: Any, config: Any) -> BlockingClient:
    """Enter a session of ours or of the official client: they have the same methods."""
    session = client.realtime.stt.connect(config=config).enter()
    return BlockingClient(
        session.send_byte_chunk,
        session.receive_event,
        session.receive_events,
        session.close,
        session,
    )


@cache
def _our_client(url: str) -> Any:
    from soniox_adapters import SonioxClient

    return SonioxClient(api_key=API_KEY, websocket_base_url=url)


def _open_ours(url: str) -> BlockingClient:
    from soniox_adapters import RealtimeSTTConfig

    return _enter(_our_client(url), RealtimeSTTConfig(**CONFIG_FIELDS))


@cache
def _soniox_client(url: str) -> Any:
    from soniox import SonioxClient

    # Cached, because programs have one for all their sessions: it takes 30 ms to make.
    return SonioxClient(api_key=API_KEY, websocket_base_url=url)


def _open_soniox(url: str) -> BlockingClient:
    from soniox.types import RealtimeSTTConfig

    return _enter(_soniox_client(url), RealtimeSTTConfig(**CONFIG_FIELDS))


def _open_websockets(url: str) -> BlockingClient:
    from websockets.sync.client import connect

    connection = connect(url, additional_headers={"Authorization": f"Bearer {API_KEY}"})
    connection.send(START_MESSAGE)
    parse = RealtimeEvent.validate_event

    def receive() -> Event:
        return parse(connection.recv())

    def events() -> Iterator[Event]:
        for message in connection:
            yield parse(message)

    return BlockingClient(connection.send, receive, events, connection.close, connection)


def _open_websocket_client(url: str) -> BlockingClient:
    from websocket import create_connection

    connection = create_connection(url, header={"Authorization": f"Bearer {API_KEY}"})
    connection.send(START_MESSAGE)
    parse = RealtimeEvent.validate_event

    def receive() -> Event:
        return parse(connection.recv())

    def events() -> Iterator[Event]:
        while True:
            yield parse(connection.recv())

    return BlockingClient(connection.send_binary, receive, events, connection.close, connection)


def bare_frame(first_byte: int, payload: bytes) -> bytes:
    """Return a masked frame. The mask is zero, because nobody looks at the payload."""
    size = len(payload)
    if size < 126:
        header = bytes((first_byte, 0x80 | size))
    elif size < 65536:
        header = bytes((first_byte, 0xFE)) + size.to_bytes(2, "big")
    else:
        header = bytes((first_byte, 0xFF)) + size.to_bytes(8, "big")
    return header + bytes(4) + payload


def bare_upgrade(url: str) -> bytes:
    """Return an upgrade request, without any checks."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return (
        f"GET {target} HTTP/1.1\r\nHost: benchmark\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )


def bare_event_size(url: str) -> int:
    """Return the size of an event's frame, given `tokens` in the URL."""
    tokens = parse_qs(urlsplit(url).query).get("tokens", ["0"])[0]
    payload = len(event_json(int(tokens)))
    return payload + (2 if payload < 126 else 4)


def _open_bare_socket(url: str) -> BlockingClient:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(bare_upgrade(url))
    # Read the response before sending the start message, so that only events follow.
    assert connection.recv(_READ_BYTES).endswith(b"\r\n\r\n")
    connection.sendall(bare_frame(0x81, START_MESSAGE.encode()))
    frames: dict[int, bytes] = {}
    nothing = RealtimeEvent()

    def send(chunk: bytes) -> None:
        size = len(chunk)
        if size not in frames:
            frames[size] = bare_frame(0x82, chunk)
        connection.sendall(frames[size])

    def receive() -> Event | None:
        return nothing if connection.recv(_READ_BYTES) else None

    def events() -> Iterator[Event]:
        size = bare_event_size(url)
        waiting = 0
        while True:
            waiting += len(connection.recv(_READ_BYTES))
            while waiting >= size:
                waiting -= size
                yield nothing

    return BlockingClient(send, receive, events, connection.close, connection)


BLOCKING_CONTENDERS: Final = (
    BlockingContender(SONIOX, "soniox", _open_soniox),
    BlockingContender(OURS, "soniox_adapters", _open_ours),
    BlockingContender("websockets", "websockets", _open_websockets),
    BlockingContender("websocket-client", "websocket", _open_websocket_client, share=0.1),
    BlockingContender(BARE_SOCKET, "socket", _open_bare_socket),
)
"""All blocking clients. The two that matter most are next to each other, so their runs are too."""
