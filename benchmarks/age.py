"""Does a message cost more, or a session take more memory, the older the stream is?"""

from __future__ import annotations

import gc
import sys
from typing import Final

from benchmarks.core import open_connection
from benchmarks.far_end import frame
from benchmarks.harness import (
    OURS,
    Effort,
    Figure,
    Sample,
    Series,
    Stopwatch,
    at_most,
    interleave,
    ratio_at_most,
    series_of,
)
from benchmarks.messages import event_json, look_at
from soniox_proto import Result

__all__ = ["measure"]

_STREAM_SECONDS: Final = 300 * 60.0
"""The longest stream that the service allows. It passes on a virtual clock."""

_EVENTS: Final = 1_000_000
_EVENTS_OF_ONE_MEASUREMENT: Final = 10_000
_ROUNDS: Final = 9
_NEW: Final = "new session"
_TEXT: Final = 1


class _Stream:
    """A core in a stream that, with every step of its clock, sends a chunk and gets an event."""

    def __init__(self, seconds_of_a_step: float) -> None:
        self._now = 0.0
        self._step = seconds_of_a_step
        self._client, self._server = open_connection(self._now)
        self._chunk = bytes(640)
        self._event = frame(_TEXT, event_json(1))

    def live(self, events: int) -> None:
        """Live through `events` events, and every timer that becomes due meanwhile."""
        client, chunk, event, step, now = (
            self._client,
            self._chunk,
            self._event,
            self._step,
            self._now,
        )
        for _ in range(events):
            now += step
            client.send_audio(chunk, now)
            client.data_to_send()
            for received in client.receive_data(event, now):
                if type(received) is Result:
                    look_at(received.message)
            deadline = client.next_timeout()
            if deadline is not None and deadline <= now:
                client.handle_timeout(now)
                # The server has to answer pings, or the session would be lost.
                self._server.receive_data(client.data_to_send(), now)
                client.receive_data(self._server.data_to_send(), now)
        self._now = now
        assert not client.closed, "the session is to last as long as the stream"


def measure(effort: Effort) -> list[Figure]:
    """Live through 300 minutes, then compare that session with a new one."""
    events = effort.operations(_EVENTS)
    step = _STREAM_SECONDS / events
    old = _Stream(step)
    old.live(events // 100)
    blocks = _allocated_blocks()
    old.live(events - events // 100)
    growth = float(_allocated_blocks() - blocks)
    new = _Stream(step)
    count = effort.operations(_EVENTS_OF_ONE_MEASUREMENT)

    def run(stream: _Stream) -> Sample:
        with Stopwatch() as watch:
            stream.live(count)
        return watch.per(count)

    series = series_of(
        interleave({_NEW: lambda: run(new), OURS: lambda: run(old)}, effort.rounds(_ROUNDS))
    )
    return [
        Figure(
            f"chunk out and event in after {events:,} events, no I/O",
            "µs",
            series,
            ratio_at_most(1.10),
            baseline=_NEW,
        ),
        Figure(
            f"blocks of memory that {events:,} events in 300 minutes left behind",
            "",
            {OURS: Series([growth])},
            at_most(100),
        ),
    ]


def _allocated_blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()
