"""What does the core cost per message, without any I/O?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Final

from benchmarks.far_end import frame
from benchmarks.harness import OURS, Effort, Figure, Sample, Stopwatch, interleave, series_of
from benchmarks.messages import API_KEY, CONFIG_FIELDS, START_MESSAGE, event_json, look_at
from soniox_proto import (
    RealtimeEvent,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    RealtimeSTTProtocol,
    RealtimeSTTServerConnection,
    Result,
)
from soniox_proto.websocket.connection import WebSocket

__all__ = ["measure", "open_connection"]

_MESSAGES: Final = 5_000
_ROUNDS: Final = 9
_BASELINE: Final = "ours on wsproto alone"
_TEXT: Final = 1


@dataclass(frozen=True, slots=True)
class _Core:
    """A core without any I/O."""

    send: Callable[[bytes], object]
    """Send a chunk; return the bytes to write."""
    receive: Callable[[bytes], object]
    """Feed bytes as if read, and look at the events in them."""


def measure(effort: Effort) -> list[Figure]:
    """Send chunks and receive events with each core."""
    openers: dict[str, Callable[[], _Core]] = {
        _BASELINE: partial(_ours, direct_framing=False),
        OURS: partial(_ours, direct_framing=True),
    }
    if find_spec("websockets") is not None:
        openers["websockets' core"] = _websockets
    count, rounds = effort.operations(_MESSAGES), effort.rounds(_ROUNDS)

    def compare(name: str, run: Callable[[_Core, bytes, int], Sample], data: bytes) -> Figure:
        turns = {
            who: partial(_with_new_core, opener, run, data, count)
            for who, opener in openers.items()
        }
        series = series_of(interleave(turns, rounds))
        return Figure(name, "µs", series, baseline=_BASELINE)

    figures = [
        compare(f"core: send a {size} B chunk", _send, bytes(size))
        for size in (640, 3840, 32 * 1024)
    ]
    for tokens in (5, 20):
        event = frame(_TEXT, event_json(tokens))
        name = f"core: receive a {tokens}-token event"
        figures.append(compare(f"{name}, one in a read", _receive, event))
        figures.append(compare(f"{name}, 16 in a read", _receive_sixteen, event))
    figures.append(_message_layer(count, rounds))
    return figures


def open_connection(now: float = 0.0) -> tuple[RealtimeSTTConnection, RealtimeSTTServerConnection]:
    """Return an open connection and its server's core, connected in memory at time `now`."""
    client = RealtimeSTTConnection(
        "ws://benchmark", RealtimeSTTConfig(**CONFIG_FIELDS), api_key=API_KEY
    )
    server = RealtimeSTTServerConnection()
    client.connect(now)
    server.receive_data(client.data_to_send(), now)
    server.accept(now)
    client.receive_data(server.data_to_send(), now)
    server.receive_data(client.data_to_send(), now)
    return client, server


def _ours(*, direct_framing: bool) -> _Core:
    usual = WebSocket.direct_framing
    WebSocket.direct_framing = direct_framing
    try:
        connection, _ = open_connection()
    finally:
        WebSocket.direct_framing = usual

    def send(chunk: bytes) -> bytes:
        connection.send_audio(chunk, 1.0)
        return connection.data_to_send()

    def receive(data: bytes) -> None:
        for event in connection.receive_data(data, 1.0):
            if type(event) is Result:
                look_at(event.message)

    return _Core(send, receive)


def _websockets() -> _Core:
    from websockets.client import ClientProtocol
    from websockets.frames import Frame
    from websockets.server import ServerProtocol
    from websockets.uri import parse_uri

    client, server = ClientProtocol(parse_uri("ws://benchmark")), ServerProtocol()
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()
    client.send_text(START_MESSAGE.encode())
    client.data_to_send()
    parse = RealtimeEvent.validate_event

    def send(chunk: bytes) -> list[bytes]:
        client.send_binary(chunk)
        return client.data_to_send()

    def receive(data: bytes) -> None:
        client.receive_data(data)
        for received in client.events_received():
            if isinstance(received, Frame):
                look_at(parse(bytes(received.data)))

    return _Core(send, receive)


def _with_new_core(
    opener: Callable[[], _Core],
    run: Callable[[_Core, bytes, int], Sample],
    data: bytes,
    count: int,
) -> Sample:
    return run(opener(), data, count)


def _send(core: _Core, chunk: bytes, count: int) -> Sample:
    send = core.send
    with Stopwatch() as watch:
        for _ in range(count):
            send(chunk)
    return watch.per(count)


def _receive(core: _Core, event: bytes, count: int) -> Sample:
    receive = core.receive
    with Stopwatch() as watch:
        for _ in range(count):
            receive(event)
    return watch.per(count)


def _receive_sixteen(core: _Core, event: bytes, count: int) -> Sample:
    receive, events = core.receive, event * 16
    with Stopwatch() as watch:
        for _ in range(count // 16):
            receive(events)
    return watch.per(count // 16 * 16)


def _message_layer(count: int, rounds: int) -> Figure:
    message = event_json(5).decode()

    def run() -> Sample:
        protocol = RealtimeSTTProtocol(RealtimeSTTConfig(**CONFIG_FIELDS))
        protocol.start(0.0)
        with Stopwatch() as watch:
            for _ in range(count):
                for event in protocol.receive_message(message, 1.0):
                    if type(event) is Result:
                        look_at(event.message)
        return watch.per(count)

    series = series_of(interleave({OURS: run}, rounds))
    return Figure("message layer: receive a 5-token event", "µs", series, baseline=_BASELINE)
