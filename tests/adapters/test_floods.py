"""Servers that never stop sending, against a blocking session that others need, too."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import pytest

from soniox_adapters import Outcome, RealtimeSTTSession, SessionState, SonioxError
from soniox_adapters.blocking.ticker import Ticker
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script, silent
from tests.support.adapters.sessions import Kind, open_session
from tests.support.core import frames
from tests.support.core.frames import Opcode
from tests.support.core.messages import API_KEY, CONFIG, KEEPALIVE, result

OPTIONS: Final[dict[str, Any]] = {
    "close_timeout_sec": 0.5,
    "ping_interval_sec": None,
    "keepalive_interval_sec": None,
    "proxy": None,
}

EMPTY_FRAGMENT: Final = frames.encode(Opcode.CONTINUATION, b"", final=False)
NOTHING: Final = {
    "fragments": (frames.encode(Opcode.TEXT, b" ", final=False), EMPTY_FRAGMENT * 50),
    "pings": (b"", frames.ping()),
    "pongs": (b"", frames.pong()),
}
"""What begins a flood that holds no message, and what is repeated then."""

FLOODS: Final = {**NOTHING, "messages": (b"", frames.text('{"tokens":[]}'))}


def flooding(kind: str) -> Script:
    """Send as fast as the client reads, until it leaves; never read."""
    begin, again = FLOODS[kind]

    def script(peer: Peer) -> None:
        peer.start()
        peer.send(begin)
        again_and_again = again * (16 * 1024 // len(again))
        while True:
            peer.send(again_and_again)

    return script


def make_session(url: str, **options: Any) -> RealtimeSTTSession:
    return RealtimeSTTSession(url, CONFIG, API_KEY, **{**OPTIONS, **options})


def receive_on_and_on(session: RealtimeSTTSession) -> None:
    with suppress(SonioxError):
        while session.receive_event() is not None:
            pass


@contextmanager
def running(function: Callable[..., Any], *arguments: Any) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    yield thread
    thread.join(PATIENCE)
    assert not thread.is_alive()


def seconds_of(function: Callable[..., Any], *arguments: Any) -> float:
    start = time.monotonic()
    with suppress(SonioxError):
        function(*arguments)
    return time.monotonic() - start


@pytest.mark.parametrize("kind", NOTHING)
def test_receive_gives_up_in_time(kind: str) -> None:
    with FakeServer(flooding(kind)) as server, make_session(server.url) as session:
        assert seconds_of(session.receive_event, 0.5) < PATIENCE / 4


@pytest.mark.parametrize("kind", FLOODS)
def test_close_takes_its_time_at_most(kind: str) -> None:
    with FakeServer(flooding(kind)) as server, make_session(server.url) as session:
        assert seconds_of(session.close) < PATIENCE / 4
        assert session.state is SessionState.CLOSED


@pytest.mark.parametrize("method", ["abort", "close", "finalize"])
@pytest.mark.parametrize("kind", FLOODS)
def test_another_thread_gets_its_turn(kind: str, method: str) -> None:
    with (
        FakeServer(flooding(kind)) as server,
        make_session(server.url) as session,
        running(receive_on_and_on, session),
    ):
        # The receiver is in the midst of it.
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline and session.state is SessionState.OPEN:
            time.sleep(0.01)
        assert seconds_of(getattr(session, method)) < PATIENCE / 4
        session.abort()


@pytest.mark.parametrize("kind", FLOODS)
def test_other_sessions_keep_their_keepalives(kind: str) -> None:
    """One hostile server is looked after by the ticker, another by a thread that receives."""
    with (
        FakeServer(flooding(kind)) as hostile,
        FakeServer(silent) as server,
        make_session(hostile.url) as unattended,
        make_session(hostile.url) as attended,
        make_session(server.url, keepalive_interval_sec=0.05),
        running(receive_on_and_on, attended),
    ):
        peer = server.peer()
        for _ in range(3):
            seen = peer.count(KEEPALIVE)
            start = time.monotonic()
            peer.wait_for(lambda seen=seen: peer.count(KEEPALIVE) > seen + 3)  # type: ignore[misc]
            assert time.monotonic() - start < PATIENCE / 4
        attended.abort()
        unattended.abort()


def test_ticker_does_not_wait_for_a_busy_session() -> None:
    def hold(session: RealtimeSTTSession) -> None:
        with session._lock:
            held.set()
            release.wait(PATIENCE)

    held, release = threading.Event(), threading.Event()
    with (
        FakeServer(silent) as server,
        make_session(server.url) as session,
        running(hold, session),
    ):
        assert held.wait(PATIENCE)
        start = time.monotonic()
        again = session.tick()
        assert time.monotonic() - start < PATIENCE / 4
        assert again is not None
        assert again > start, "it comes again, and not at once"
        release.set()


def test_slow_tls_record(server_tls: Any, client_tls: Any) -> None:
    """A record of TLS that comes byte by byte is no message, and holds up nobody."""

    def script(peer: Peer) -> None:
        peer.start()
        slow.set()
        peer.say(result("x" * 10_000))
        peer.read_to_the_end()

    slow = threading.Event()
    with (
        FakeServer(script, tls=server_tls, host="localhost") as server,
        Relay(server.port, slow) as relay,
        make_session(server.url, ssl_context=client_tls, transport=relay.connect) as session,
        running(receive_on_and_on, session),
    ):
        assert seconds_of(session.receive_event, 0.3) < PATIENCE / 4
        assert session.outcome is None
        session.send_byte_chunk(b"audio")
        assert seconds_of(session.close) < PATIENCE / 4


class Relay:
    """Passes bytes on, and once it is told so, the server's one at a time."""

    def __init__(self, port: int, slow: threading.Event) -> None:
        self._slow = slow
        self._server = socket.create_connection(("127.0.0.1", port))
        self._near, self._client = socket.socketpair()
        self._threads = [
            threading.Thread(target=self._pass_on, args=pair)
            for pair in ((self._server, self._near), (self._near, self._server))
        ]

    def connect(self, *_: object) -> socket.socket:
        for thread in self._threads:
            thread.start()
        return self._client

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source is self._server and self._slow.is_set():
                    for byte in data:
                        target.sendall(bytes([byte]))
                        time.sleep(0.002)
                else:
                    target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
        self._server.close()
        self._near.close()


# Who reads when, and what a silent server owes


def test_dead_peer_is_noticed_by_a_user_who_only_sends() -> None:
    """Much of what it said waits for the user; then it does nothing any more, and reads nothing."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(*[result("x")] * 300)
        peer.hold()

    def send_on_and_on() -> None:
        while True:
            driver.send(bytes(32 * 1024))

    options = {**OPTIONS, "ping_interval_sec": 0.2, "ping_timeout_sec": 0.3}
    with (
        FakeServer(script, receive_buffer=32 * 1024) as server,
        open_session(Kind.BLOCKING, server.url, **options) as driver,
    ):
        driver.enter()
        server.peer().wait_until_said()
        # Reading stops first. A sender makes it go on, and what the server owes is due again.
        flow, deadline = driver.session._flow, time.monotonic() + PATIENCE
        while flow._listening:
            assert time.monotonic() < deadline, "the session reads on and on"
            time.sleep(0.002)
        with pytest.raises(SonioxError, match="ping"):
            send_on_and_on()
        assert driver.outcome is Outcome.LOST


def test_two_sessions_of_one_ticker_take_turns() -> None:
    """One that always has more to do does not keep the other waiting."""

    class Eager:
        ticks = 0

        def tick(self) -> float | None:
            self.ticks += 1
            return time.monotonic() if self.ticks < 1000 else None

    first, second, ticker = Eager(), Eager(), Ticker()
    ticker.schedule(first, time.monotonic())
    ticker.schedule(second, time.monotonic())
    deadline = time.monotonic() + PATIENCE
    while ticker.thread is not None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert first.ticks == second.ticks == 1000
