"""Can one process serve a thousand blocking sessions at the full rate?

For every contender, four threads send for a quarter of the sessions each. To receive, soniox needs
a thread per session. Ours is measured with such threads too, and also with one thread that waits
for all sessions, using a selector on `fileno()`.
"""

from __future__ import annotations

import dataclasses
import selectors
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from benchmarks.blocking_contenders import BLOCKING_CONTENDERS, BlockingClient
from benchmarks.harness import OURS, SONIOX, Effort, Figure, Stopwatch, at_least
from benchmarks.many_sessions import concurrent_figures, percentiles, serve_in_turn
from benchmarks.messages import Event, latency_us, look_at
from benchmarks.processes import FarEnd
from soniox_proto import SonioxTimeoutError

__all__ = ["measure", "serve"]

_SESSIONS: Final = 1000
_CHUNKS_PER_SECOND: Final = 10.0
_EVENTS_PER_SECOND: Final = 1.0
_CHUNK_BYTES: Final = 640
_TOKENS: Final = 5
_SENDERS: Final = 4
_ROUNDS: Final = 2
_SECONDS: Final = 3.0
_SETTLE_SECONDS: Final = 1.0
_WITH_SELECTOR: Final = "ours, one selector"


def measure(effort: Effort) -> list[Figure]:
    """Let every session send chunks at a steady pace, and receive events."""
    sessions, seconds = effort.sessions(_SESSIONS), effort.seconds(_SECONDS)
    contenders = [OURS, _WITH_SELECTOR]
    if find_spec("soniox") is not None:
        contenders.insert(0, SONIOX)
    taken = serve_in_turn(serve, contenders, (sessions, seconds), effort.rounds(_ROUNDS))
    name = f"{sessions} blocking sessions, 10 chunks/s and 1 event/s each"
    cpu, rate, p50, p99 = concurrent_figures(name, taken)
    rate = dataclasses.replace(rate, target=at_least(99))
    with_selector = dataclasses.replace(
        rate,
        name=f"{rate.name}, ours with one selector",
        series={name: one for name, one in rate.series.items() if name != OURS},
        contender=_WITH_SELECTOR,
    )
    return [rate, with_selector, cpu, p50, p99]


def serve(name: str, sessions: int, seconds: float) -> dict[str, float]:
    """Serve the sessions for a while; return the same as `benchmarks.many_sessions.serve`."""
    load = _Load()
    base = OURS if name == _WITH_SELECTOR else name
    (contender,) = [one for one in BLOCKING_CONTENDERS if one.name == base]
    # Not closed, because all threads would have to be stopped first. It ends with this process.
    far_end = FarEnd()
    url = far_end.url(f"/steady?tokens={_TOKENS}&rate={_EVENTS_PER_SECOND:g}")
    clients = [contender.open(url) for _ in range(sessions)]
    if name == _WITH_SELECTOR:
        _start(load.receive_for, clients)
    else:
        for client in clients:
            _start(load.receive, client)
    start = time.monotonic()
    for number in range(_SENDERS):
        _start(load.send_for, clients[number::_SENDERS])
    time.sleep(_SETTLE_SECONDS)
    load.latencies.clear()
    with Stopwatch(far_end) as watch:
        time.sleep(seconds)
    due = (time.monotonic() - start) * _CHUNKS_PER_SECOND * sessions
    sent = sum(load.sent.values())
    p50, p99 = percentiles(list(load.latencies))
    load.over = True
    return {
        "cpu": watch.cpu / watch.wall * 100,
        "rate": sent / due * 100,
        "p50": p50,
        "p99": p99,
        "far end": (watch.far_end_cpu or 0.0) / watch.wall,
    }


class _Load:
    """The work of the threads, which go on until the process exits."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.sent: dict[int, int] = {}
        self.over = False

    def send_for(self, clients: list[BlockingClient]) -> None:
        chunk, interval = bytes(_CHUNK_BYTES), 1 / (_CHUNKS_PER_SECOND * len(clients))
        due, sent, me = time.monotonic(), 0, threading.get_ident()
        while not self.over:
            for client in clients:
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                if self.over:
                    return
                client.send(chunk)
                sent += 1
                self.sent[me] = sent
                due += interval

    def receive(self, client: BlockingClient) -> None:
        for event in client.events():
            self._note(event)

    def receive_for(self, clients: list[BlockingClient]) -> None:
        selector = selectors.DefaultSelector()
        for client in clients:
            selector.register(client.session.fileno(), selectors.EVENT_READ, client.session)
        while not self.over:
            for key, _ in selector.select():
                session = key.data
                try:
                    event = session.receive_event(timeout=0)
                except SonioxTimeoutError:
                    continue
                if event is None:
                    selector.unregister(key.fd)
                else:
                    self._note(event)

    def _note(self, event: Event) -> None:
        look_at(event)
        self.latencies.append(latency_us(event, time.monotonic_ns()))


def _start(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()
