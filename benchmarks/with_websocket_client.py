"""What do the ways with websocket-client cost, beside a bare session and JSON by hand?"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from benchmarks.blocking_contenders import BLOCKING_CONTENDERS
from benchmarks.harness import OURS, Effort, Figure, Sample, Stopwatch, interleave, series_of
from benchmarks.messages import API_KEY, CONFIG_FIELDS, START_MESSAGE, Event, look_at
from benchmarks.processes import FarEnd
from benchmarks.streams import TRIGGER

__all__ = ["measure"]

BY_HAND: Final = "JSON by hand"
"""The program that people write on websocket-client without any other package."""

_CHUNKS: Final = 4_000
_EVENTS: Final = 1_000
_TOKENS: Final = 20
_ROUNDS: Final = 9


@dataclass(frozen=True, slots=True)
class Stream:
    """An open stream."""

    send: Callable[[bytes], object]
    """Send a chunk."""
    receive: Callable[[int], None]
    """Ask for so many events, receive them, and look at every token."""
    close: Callable[[], object]
    """Close the stream."""


def measure(effort: Effort) -> list[Figure]:
    """Send 640 B chunks and receive 20-token events in each way."""
    chunks, events = effort.operations(_CHUNKS), effort.operations(_EVENTS)
    rounds = effort.rounds(_ROUNDS)
    with FarEnd() as far_end:
        exercises: dict[str, Callable[[Callable[[str], Stream]], Sample]] = {
            "send a 640 B chunk": partial(_send, far_end, chunks),
            f"receive a {_TOKENS}-token event": partial(_receive, far_end, events),
        }
        return [
            Figure(
                f"{name}, with websocket-client",
                "µs",
                series_of(
                    interleave({way: partial(run, open_) for way, open_ in WAYS.items()}, rounds)
                ),
                baseline=BY_HAND,
            )
            for name, run in exercises.items()
        ]


def _send(far_end: FarEnd, count: int, open_: Callable[[str], Stream]) -> Sample:
    stream, chunk = open_(far_end.url("/discard")), bytes(640)
    send = stream.send
    with Stopwatch(far_end) as watch:
        for _ in range(count):
            send(chunk)
    stream.close()
    return watch.per(count)


def _receive(far_end: FarEnd, count: int, open_: Callable[[str], Stream]) -> Sample:
    stream = open_(far_end.url(f"/flood?tokens={_TOKENS}&count={count}"))
    with Stopwatch(far_end) as watch:
        stream.receive(count)
    stream.close()
    return watch.per(count)


# The ways


def _open_bare(url: str) -> Stream:
    (ours,) = [one for one in BLOCKING_CONTENDERS if one.name == OURS]
    return _stream_of(ours.open(url).session)


def _open_with_transport(url: str) -> Stream:
    from soniox_adapters import RealtimeSTTSession, websocket_client

    session = RealtimeSTTSession(url, CONFIG_FIELDS, API_KEY, transport=websocket_client())
    return _stream_of(session.enter())


def _stream_of(session: Any) -> Stream:
    def receive(count: int) -> None:
        left = count
        session.send_byte_chunk(TRIGGER)
        for event in session.receive_events():
            look_at(event)
            left -= 1
            if not left:
                return

    return Stream(session.send_byte_chunk, receive, session.close)


def _open_app(url: str) -> Stream:
    from soniox_adapters import RealtimeSTTApp

    opened, received = threading.Event(), threading.Event()
    left = 0

    def on_event(app: Any, event: Event) -> None:
        nonlocal left
        look_at(event)
        left -= 1
        if not left:
            received.set()

    app = RealtimeSTTApp(
        url, CONFIG_FIELDS, API_KEY, on_open=lambda _: opened.set(), on_event=on_event
    )
    thread = threading.Thread(target=app.run_forever)
    thread.start()
    opened.wait()

    def receive(count: int) -> None:
        nonlocal left
        left = count
        app.send_byte_chunk(TRIGGER)
        received.wait()

    def close() -> None:
        app.close()
        thread.join()

    return Stream(app.send_byte_chunk, receive, close)


def _open_by_hand(url: str, *, checked: bool = True) -> Stream:
    from websocket import create_connection

    connection = create_connection(
        url, header={"Authorization": f"Bearer {API_KEY}"}, skip_utf8_validation=not checked
    )
    connection.send(START_MESSAGE)

    def receive(count: int) -> None:
        seen = 0
        connection.send_binary(TRIGGER)
        for _ in range(count):
            for token in json.loads(connection.recv())["tokens"]:
                if token["is_final"]:
                    seen += len(token["text"])

    return Stream(connection.send_binary, receive, connection.close)


WAYS: Final[dict[str, Callable[[str], Stream]]] = {
    BY_HAND: _open_by_hand,
    "JSON by hand, UTF-8 unchecked": partial(_open_by_hand, checked=False),
    OURS: _open_bare,
    "ours, websocket_client()": _open_with_transport,
    "ours, RealtimeSTTApp": _open_app,
}
"""Each way, by its name in the table."""
