"""What only the blocking session has: deadlines, a descriptor, and a clock that may be late."""

from __future__ import annotations

import gc
import select
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import soniox_adapters.blocking.waiting
from soniox_adapters import (
    Outcome,
    RealtimeSTTSession,
    SessionState,
    SonioxConnectionError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_adapters.blocking.run_loop import SocketSession
from soniox_adapters.blocking.ticker import Ticker
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script, silent
from tests.support.adapters.sessions import label
from tests.support.core import frames
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, KEEPALIVE, result


def make_session(url: str, **options: Any) -> RealtimeSTTSession:
    options = {"close_timeout_sec": 0.3, "ping_interval_sec": None, **options}
    return RealtimeSTTSession(url, CONFIG, API_KEY, **options)


@contextmanager
def entered(script: Script, **options: Any) -> Iterator[tuple[RealtimeSTTSession, Peer]]:
    with FakeServer(script) as server, make_session(server.url, **options) as session:
        yield session, server.peer()


class LateClock:
    """A clock that can jump."""

    def __init__(self) -> None:
        self.jumped = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.jumped


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[LateClock]:
    """The sessions' clock; their ticker is one of the test's own, which ends with it."""
    clock, ticker = LateClock(), Ticker()
    monkeypatch.setattr(SocketSession, "_clock", staticmethod(clock))
    monkeypatch.setattr(SocketSession, "_ticker", ticker)
    yield clock
    ticker.forget_all()
    deadline = time.monotonic() + PATIENCE
    while ticker.thread is not None:
        assert time.monotonic() < deadline, "the thread of the ticker does not end"
        time.sleep(0.001)


def idle_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "soniox" in thread.name}


# Deadlines


@pytest.mark.parametrize("method", ["receive_event", "recv_bytes"])
def test_receive_timeout(method: str) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.read()
        peer.say(result("heard"))
        peer.read_to_the_end()

    with entered(script) as (session, _):
        for timeout in (0.05, 0, -1):
            with pytest.raises(SonioxTimeoutError) as late:
                getattr(session, method)(timeout=timeout)
            assert late.value.operation == "receive"
            assert not late.value.retryable, "the session goes on"
            assert isinstance(late.value, TimeoutError)
        session.send_byte_chunk(b"audio")
        assert getattr(session, method)(timeout=PATIENCE)


@pytest.mark.parametrize("method", ["receive_event", "recv_bytes"])
@pytest.mark.parametrize("timeout", ["1", True, float("nan")])
def test_receive_timeout_of_a_wrong_kind(method: str, timeout: Any) -> None:
    with pytest.raises(SonioxValidationError, match="timeout must be a number of seconds"):
        getattr(make_session("ws://localhost"), method)(timeout=timeout)


def test_receive_timeout_takes_its_time() -> None:
    with entered(silent) as (session, _):
        start = time.monotonic()
        with pytest.raises(SonioxTimeoutError):
            session.receive_event(0.1)
        assert time.monotonic() - start >= 0.1


def test_receive_without_waiting() -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.say(result("one"), FINISHED)
        peer.read_to_the_end()

    with entered(script) as (session, _):
        assert select.select([session], [], [], PATIENCE)[0] == [session]
        first, second = session.receive_event(timeout=0), session.receive_event(timeout=0)
        assert first is not None
        assert second is not None
        assert (label(first), label(second)) == ("one", "finished")
        assert session.receive_event(timeout=0) is None


def test_a_pong_that_has_arrived_counts_although_nobody_receives() -> None:
    """The ticker finds it when the deadline is due already."""
    options = {"ping_interval_sec": 0.3, "ping_timeout_sec": 0.2}
    with FakeServer(silent) as server, make_session(server.url, **options) as session:
        server.peer().wait_for(lambda: server.peer().count_pings() >= 3)
        assert session.state is SessionState.OPEN
        assert session.stats.latency is not None


def test_receivers_with_different_deadlines() -> None:
    """One gives up while the other, who waits behind it, takes over and gets the message."""
    with entered(silent) as (session, peer):
        received: list[str] = []

        def receive() -> None:
            event = session.receive_event(timeout=PATIENCE)
            assert event is not None
            received.append(label(event))

        def give_up() -> None:
            with pytest.raises(SonioxTimeoutError):
                session.receive_event(timeout=0.2)

        impatient = threading.Thread(target=give_up)
        patient = threading.Thread(target=receive)
        impatient.start()
        patient.start()
        impatient.join(PATIENCE)
        peer.say(result("late"))
        patient.join(PATIENCE)
        assert received == ["late"]


# Descriptor


def test_descriptor() -> None:
    with FakeServer(silent) as server:
        session = make_session(server.url)
        assert session.fileno() == -1
        with session:
            assert session.fileno() > 0
        assert session.fileno() == -1


# Threads


def test_idle_sessions_share_one_thread() -> None:
    with FakeServer(silent) as server:
        sessions = [make_session(server.url) for _ in range(10)]
        before = threading.active_count()
        for session in sessions:
            session.enter()
        for index in range(10):
            server.peer(index)
        ours = idle_threads()
        assert ours == {"soniox-ticker"}
        servers = 10
        assert threading.active_count() <= before + servers + 1
        for session in sessions:
            session.close()


def test_forgotten_session_is_collected() -> None:
    """The ticker holds it weakly; only the socket complains, as every forgotten socket does."""
    with FakeServer(silent) as server:
        session = make_session(server.url)
        session.enter()
        forgotten = weakref.ref(session)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del session
            deadline = time.monotonic() + PATIENCE
            # The ticker may just hold it.
            while forgotten() is not None and time.monotonic() < deadline:
                gc.collect()
                time.sleep(0.01)
        assert forgotten() is None
        server.peer().wait_until_left()


# Time


def test_suspended_process_sends_one_keepalive(clock: LateClock) -> None:
    with entered(silent, keepalive_interval_sec=5.0) as (session, peer):
        session.pause(finalize=False)
        clock.jumped += 60.0
        peer.wait_for(lambda: peer.count(KEEPALIVE) == 1)
        session.resume()
        session.send_byte_chunk(b"audio")
        peer.wait_for(lambda: peer.audio == b"audio")
        assert peer.count(KEEPALIVE) == 1, "not one for each interval that was missed"


def test_clock_that_runs_backwards_does_no_harm(clock: LateClock) -> None:
    clock.jumped = 1.0

    def script(peer: Peer) -> None:
        peer.start()
        peer.read()
        peer.say(result("heard"))
        peer.read_to_the_end()

    with entered(script) as (session, _):
        clock.jumped = 0.0
        session.send_byte_chunk(b"audio")
        event = session.receive_event(timeout=PATIENCE)
        assert event is not None
        assert label(event) == "heard"


# Ends


def test_second_entering_is_refused_and_changes_nothing() -> None:
    with entered(silent) as (session, peer):
        with pytest.raises(SonioxStateError):
            session.enter()
        session.send_byte_chunk(b"audio")
        peer.wait_for(lambda: peer.audio == b"audio")


def test_interrupted_entering_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while connecting: the exception goes on, the socket is closed."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with FakeServer(silent) as server:
        session = make_session(server.url)
        monkeypatch.setattr(soniox_adapters.blocking.waiting, "wait_for_streams", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.enter()
        assert session.outcome is Outcome.ABORTED
        assert session.fileno() == -1


def test_end_of_the_receiver_while_another_thread_sends() -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        peer.send(frames.text(result("one")) + frames.close(1011))
        peer.hold()

    with entered(script) as (session, _):
        errors: list[BaseException] = []

        def send() -> None:
            try:
                while True:
                    session.send_byte_chunk(bytes(64 * 1024))
            except Exception as error:
                errors.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        event = session.receive_event()
        assert event is not None
        with pytest.raises(SonioxConnectionError):
            session.receive_event()
        sender.join(PATIENCE)
        assert isinstance(errors[0], (SonioxConnectionError, SonioxStateError))


# What the user brings


class GenerousIterator:
    """Chunks without end from an iterator that is no generator; it is not ours to close."""

    closed = False

    def __iter__(self) -> GenerousIterator:
        return self

    def __next__(self) -> bytes:
        return bytes(4096)

    def close(self) -> None:
        self.closed = True


def test_generator_is_closed_when_it_is_given_up() -> None:
    """A microphone behind it must not go on recording."""
    closed = threading.Event()

    def microphone() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(4096)
        finally:
            closed.set()

    class Microphone:
        def __iter__(self) -> Iterator[bytes]:
            return microphone()

    def script(peer: Peer) -> None:
        peer.start()
        peer.read()
        peer.close(1011)

    for source in (microphone(), Microphone()):
        closed.clear()
        with FakeServer(script) as server, make_session(server.url) as session:
            with pytest.raises((SonioxConnectionError, SonioxStateError)) as lost:
                session.send_bytes(source)
            # The traceback holds the frame that holds the generator, so nothing else closed it.
            assert lost.value.__traceback__ is not None
            assert closed.is_set()


def test_generator_is_closed_when_a_chunk_is_refused() -> None:
    closed = threading.Event()

    def chunks() -> Iterator[Any]:
        try:
            yield "text"
        finally:
            closed.set()

    with entered(silent) as (session, _):
        generator = chunks()
        with pytest.raises(TypeError, match="not str"):
            session.send_bytes(generator)
        assert closed.is_set()


def test_other_iterators_are_left_open() -> None:
    source = GenerousIterator()
    with entered(silent) as (session, _):
        threading.Timer(0.05, session.abort).start()
        with pytest.raises(SonioxStateError):
            session.send_bytes(source)
    assert not source.closed


class BrokenSocket(socket.socket):
    """A user's own class, one method of which raises what no socket raises."""

    broken = ""

    def recv(self, *arguments: Any) -> bytes:
        self._break("recv")
        return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        self._break("send")
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self._break("sendmsg")
        return super().sendmsg(*arguments)

    def close(self) -> None:
        self._break("close")
        super().close()

    def _break(self, method: str) -> None:
        if self.broken == method:
            raise LookupError(f"deliberate: {method}")


@pytest.mark.parametrize("method", ["recv", "send", "sendmsg", "close"])
@pytest.mark.parametrize("attended", [True, False], ids=["attended", "unattended"])
def test_socket_of_the_user_that_raises(method: str, attended: bool) -> None:
    """The session ends with an error that says so; another one goes on."""
    with FakeServer(silent, receive_buffer=32 * 1024) as server:
        broken = BrokenSocket()
        broken.connect(("127.0.0.1", server.port))
        session = make_session(server.url, transport=broken, keepalive_interval_sec=0.05)
        other = make_session(server.url, keepalive_interval_sec=0.05)
        with other, session:
            broken.broken = method
            if method == "sendmsg":
                with pytest.raises(SonioxConnectionError, match="deliberate"):
                    session.send_byte_chunk(bytes(256 * 1024))
            elif method == "close":
                session.close()
            elif attended:
                with pytest.raises(SonioxConnectionError, match="deliberate") as lost:
                    session.receive_event(timeout=PATIENCE)
                assert isinstance(lost.value.__cause__, OSError)
                assert isinstance(lost.value.__cause__.__cause__, LookupError)
            deadline = time.monotonic() + PATIENCE
            while session.outcome is None or session.fileno() != -1:
                assert time.monotonic() < deadline, "nobody notices"
                time.sleep(0.001)
            peer = server.peer(1)
            seen = peer.count(KEEPALIVE)
            peer.wait_for(lambda: peer.count(KEEPALIVE) > seen)
