"""How a thread of a blocking session waits, and how long that counts."""

from __future__ import annotations

import socket
import time

import pytest

from soniox_adapters.blocking.socket_stream import SocketStream
from soniox_adapters.blocking.waiting import (
    GRACE,
    LONGEST_WAIT,
    TURN,
    YIELD_TIME,
    Wait,
    WaitingThreads,
)


def test_a_thread_that_reads_on_and_on_pauses_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Locks are not fair: without a pause, others might never get theirs."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    wait = Wait()
    seen: list[int] = []
    for half_turn in range(6):
        now = half_turn * TURN / 2
        # Nothing came at the third time, so that the turn begins anew.
        wait.note_input(half_turn != 3, now)
        wait.plan_to_go_on(now)
        wait.wait()
        seen.append(len(pauses))
    assert seen == [0, 0, 1, 1, 1, 1]
    assert pauses == [YIELD_TIME]


def test_a_wait_counts_until_its_time_has_passed() -> None:
    """Its thread may be stuck in a signal handler, or never have signed off."""
    near, far = socket.socketpair()
    with near, far:
        stream, waiting = SocketStream(near), WaitingThreads()
        wait = Wait(sending=True)
        wait.thread = -1
        wait.plan_to_watch(10.0, None, [(stream, True, False)])
        wait.reads = True
        waiting.add(wait)
        end = 10.0 + LONGEST_WAIT + GRACE
        for now, counts in ((end - 0.1, True), (end, False)):
            assert waiting.has_reader(stream, now) is counts
            assert waiting.senders(now) == int(counts)
            assert waiting.use(stream, now) is counts
