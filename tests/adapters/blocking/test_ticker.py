"""The one thread that looks after idle blocking sessions."""

from __future__ import annotations

import gc
import heapq
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from soniox_adapters import RealtimeSTTSession
from soniox_adapters.blocking.ticker import Ticker, ticker
from tests.support.adapters.server import PATIENCE, FakeServer, silent
from tests.support.core.messages import API_KEY, CONFIG, KEEPALIVE

THREAD_NAME = "soniox-ticker"


class Ticking:
    """Notes when it is called, and comes again as often as it was told."""

    def __init__(self, *again: float) -> None:
        self.again = list(again)
        self.calls: list[float] = []
        self.threads: set[threading.Thread] = set()
        self.called = threading.Semaphore(0)

    def tick(self) -> float | None:
        self.calls.append(time.monotonic())
        self.threads.add(threading.current_thread())
        self.called.release()
        return time.monotonic() + self.again.pop(0) if self.again else None

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.called.acquire(timeout=PATIENCE), "the ticker does not come"


class Failing(Ticking):
    def tick(self) -> float | None:
        super().tick()
        raise LookupError("deliberate")


def now() -> float:
    return time.monotonic()


def ticker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def wait_until_ended(thread: threading.Thread) -> None:
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture
def own() -> Iterator[Ticker]:
    """A ticker of the test's own, whose thread must have ended at the end."""
    own, before = Ticker(), ticker_threads()
    yield own
    deadline = now() + PATIENCE
    while own.thread is not None:
        assert now() < deadline, "the thread does not end"
        time.sleep(0.001)
    for thread in ticker_threads():
        if thread not in before:
            wait_until_ended(thread)


def test_ticks_at_the_time(own: Ticker) -> None:
    ticking = Ticking()
    due = now() + 0.05
    own.schedule(ticking, due)
    ticking.wait()
    assert ticking.calls[0] >= due


def test_ticks_again_when_told_so(own: Ticker) -> None:
    ticking = Ticking(0.01, 0.01)
    own.schedule(ticking, now())
    ticking.wait(3)
    assert len(ticking.threads) == 1


def test_earlier_one_goes_first(own: Ticker) -> None:
    late, early = Ticking(), Ticking()
    own.schedule(late, now() + 0.2)
    own.schedule(early, now() + 0.02)
    late.wait()
    early.wait()
    assert early.calls < late.calls
    assert early.threads == late.threads, "one thread serves all"


def test_one_thread_for_many(own: Ticker) -> None:
    many = [Ticking(0.01) for _ in range(100)]
    when = now() + 0.01
    for ticking in many:
        own.schedule(ticking, when)
    for ticking in many:
        ticking.wait(2)
    assert len({thread for ticking in many for thread in ticking.threads}) == 1


def test_thread_ends_and_another_starts(own: Ticker) -> None:
    first, second = Ticking(), Ticking()
    for ticking in (first, second):
        own.schedule(ticking, now())
        ticking.wait()
        (thread,) = ticking.threads
        assert thread.daemon
        wait_until_ended(thread)
    assert first.threads != second.threads


def test_forgotten_ones_are_forgotten(own: Ticker) -> None:
    forgotten, kept = Ticking(), Ticking()
    reference = weakref.ref(forgotten)
    own.schedule(forgotten, now() + 0.05)
    own.schedule(kept, now() + 0.1)
    del forgotten
    gc.collect()
    assert reference() is None
    kept.wait()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_failure_of_one_does_not_stop_the_others(own: Ticker) -> None:
    failing, other = Failing(), Ticking()
    own.schedule(failing, now())
    own.schedule(other, now() + 0.05)
    failing.wait()
    other.wait()


# Signal handlers


def test_schedule_that_is_interrupted_by_another(
    own: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a handler that uses another session."""
    first, second = Ticking(), Ticking()

    def interrupted(push: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            monkeypatch.undo()
            own.schedule(second, now())
            push(*arguments)

        return call

    monkeypatch.setattr(heapq, "heappush", interrupted(heapq.heappush))
    own.schedule(first, now())
    first.wait()
    second.wait()


@pytest.mark.parametrize("started", [False, True])
def test_thread_whose_start_was_interrupted_is_replaced(
    own: Ticker, started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Ticking(), Ticking()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if started:
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        own.schedule(first, now())
    monkeypatch.undo()
    own.schedule(second, now())
    first.wait()
    second.wait()


# The ticker of the process


def test_thread_of_the_process_ends_when_no_session_needs_it() -> None:
    with FakeServer(silent) as server:
        sessions = [
            RealtimeSTTSession(server.url, CONFIG, API_KEY, keepalive_interval_sec=0.05)
            for _ in range(5)
        ]
        for session in sessions:
            session.enter()
        for index in range(5):
            peer = server.peer(index)
            peer.wait_for(lambda peer=peer: peer.count(KEEPALIVE) >= 2)  # type: ignore[misc]
        # Not the one of that name: tests before may have left tickers of their own.
        thread = ticker.thread
        assert thread is not None
        for session in sessions:
            session.close()
        wait_until_ended(thread)
        assert ticker.thread is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_has_a_ticker_of_its_own() -> None:
    """The parent's session is the parent's; a new one in the child gets its keepalives."""
    with FakeServer(silent) as server:
        parent = RealtimeSTTSession(server.url, CONFIG, API_KEY, keepalive_interval_sec=0.05)
        with parent:
            assert ticker_threads()
            child = os.fork()
            if child == 0:  # pragma: no cover (another process)
                status = 1
                try:
                    with RealtimeSTTSession(
                        server.url, CONFIG, API_KEY, keepalive_interval_sec=0.05
                    ) as own:
                        deadline = now() + PATIENCE
                        while own.stats.sent_keepalives < 3 and now() < deadline:
                            time.sleep(0.01)
                        status = 0 if own.stats.sent_keepalives >= 3 else 2
                finally:
                    os._exit(status)
            _, exit_status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(exit_status) == 0
            peer = server.peer(0)
            seen = peer.count(KEEPALIVE)
            peer.wait_for(lambda: peer.count(KEEPALIVE) > seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_while_another_thread_holds_its_lock() -> None:
    """That thread does not exist in the child, and would never let it go."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with ticker._lock:
            held.set()
            assert release.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE)
    child = os.fork()
    if child == 0:  # pragma: no cover (another process)
        # Ends it if it hangs.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE))
        ticker.schedule(Ticking(), now() + 1.0)
        os._exit(0)
    release.set()
    thread.join()
    _, exit_status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(exit_status) == 0
