"""Many threads, or many tasks, in one session at once."""

from __future__ import annotations

import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from soniox_adapters import (
    Outcome,
    RealtimeSTTSession,
    SonioxStateError,
    SonioxTimeoutError,
)
from soniox_adapters.blocking.socket_stream import SocketStream
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, obliging, silent
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session
from tests.support.core import frames
from tests.support.core.frames import Opcode
from tests.support.core.messages import FINISHED, KEEPALIVE, result

HEADER: Final = struct.Struct("!II")

SENDERS: Final = 8
CHUNKS: Final = 120
MESSAGES: Final = 1000

OPTIONS: Final[dict[str, Any]] = {"close_timeout_sec": 0.3, "ping_interval_sec": None}


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def secure(request: pytest.FixtureRequest) -> bool:
    """Whether the connection is TLS."""
    return bool(request.param)


@pytest.fixture
def make_server(secure: bool, server_tls: ssl.SSLContext) -> Callable[..., FakeServer]:
    """Make a server, with TLS or without."""

    def make(*scripts: Callable[[Peer], None], **options: Any) -> FakeServer:
        tls = server_tls if secure else None
        return FakeServer(*scripts, tls=tls, host="localhost", **options)

    return make


@pytest.fixture
def switching_often() -> Iterator[None]:
    """Have the interpreter change threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def numbered_chunks(sender: int) -> list[bytes]:
    """Chunks of many sizes whose content tells the sender, the number, and any mixture."""
    chunks = []
    for number in range(CHUNKS):
        size = (sender * 7919 + number * 104_729) % 20_000
        chunks.append(HEADER.pack(sender, number) + bytes([sender * 16 + number % 16]) * size)
    return chunks


def check_chunks(messages: list[str | bytes]) -> None:
    """Every chunk of every sender came whole, and each sender's in order."""
    by_sender: dict[int, list[bytes]] = {}
    for message in messages:
        if isinstance(message, bytes):
            by_sender.setdefault(HEADER.unpack_from(message)[0], []).append(message)
    assert by_sender == {sender: numbered_chunks(sender) for sender in range(SENDERS)}


def talks_while_listening(peer: Peer) -> None:
    """Read slowly enough to fill buffers, and send messages in between."""
    peer.start()
    for number in range(MESSAGES):
        peer.say(result(str(number)))
        if number % 2:
            peer.read()
    while True:
        frame = peer.read()
        if frame.opcode is Opcode.TEXT and not frame.payload:
            break
    peer.say(FINISHED)
    peer.close()
    peer.read_to_the_end()


@pytest.mark.usefixtures("switching_often")
def test_many_senders_and_receivers(
    kind: Kind, client_tls: ssl.SSLContext, make_server: Callable[..., FakeServer]
) -> None:
    options = {**OPTIONS, "keepalive_interval_sec": 0.01, "ssl_context": client_tls}
    with (
        make_server(talks_while_listening, receive_buffer=32 * 1024) as server,
        open_session(kind, server.url, **options) as driver,
    ):
        driver.enter()
        senders = [
            driver.start("send_bytes", numbered_chunks(sender), finish=False)
            for sender in range(SENDERS)
        ]
        receivers = [driver.start_collecting() for _ in range(3)]
        controls = [driver.start("finalize") for _ in range(5)]
        for future in (*senders, *controls):
            future.result(PATIENCE * 2)
        driver.call("finish")
        received = [[label(event) for event in receiver.result(PATIENCE)] for receiver in receivers]
        check_received(received)
        peer = server.peer()
        driver.close()
        peer.wait_until_done()
        check_chunks(peer.messages)
        assert peer.messages.count("") == 1
        assert peer.messages.count('{"type":"finalize"}') == 5


def check_received(received: list[list[str]]) -> None:
    """Receivers shared the messages: none twice, none lost, each receiver's in order."""
    together = [text for texts in received for text in texts]
    assert together.count("finished") == 1
    numbers = [[int(text) for text in texts if text != "finished"] for texts in received]
    assert sorted(number for part in numbers for number in part) == list(range(MESSAGES))
    assert all(part == sorted(part) for part in numbers)


class Guard:
    """Notices two threads inside one stream."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inside: dict[int, int] = {}
        self.calls = 0
        self.trespasses = 0
        for name in ("read", "write", "write_buffers", "has_more"):
            monkeypatch.setattr(SocketStream, name, self._guarded(getattr(SocketStream, name)))

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(stream: SocketStream, *arguments: Any) -> Any:
            self.calls += 1
            if self.inside.setdefault(id(stream), threading.get_ident()) != threading.get_ident():
                self.trespasses += 1
            time.sleep(0)  # Invites another thread.
            try:
                return method(stream, *arguments)
            finally:
                self.inside.pop(id(stream), None)

        return call


class BrokenLock:
    """A lock that keeps nobody out."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return True

    def release(self) -> None:
        pass

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass


def send_from_many_threads(driver: SessionDriver) -> list[BaseException | None]:
    senders = [
        driver.start("send_bytes", iter(numbered_chunks(sender)), finish=False)
        for sender in range(SENDERS)
    ]
    return [sender.exception(PATIENCE * 2) for sender in senders]


@pytest.mark.usefixtures("switching_often")
def test_one_thread_at_a_time_is_inside_the_stream(
    client_tls: ssl.SSLContext,
    make_server: Callable[..., FakeServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = Guard(monkeypatch)
    options = {**OPTIONS, "keepalive_interval_sec": 0.01, "ssl_context": client_tls}
    with (
        make_server(silent, receive_buffer=32 * 1024) as server,
        open_session(Kind.BLOCKING, server.url, **options) as driver,
    ):
        driver.enter()
        receiver = driver.start("receive_event")
        assert send_from_many_threads(driver) == [None] * SENDERS
        driver.close()
        assert receiver.result(PATIENCE) is None
        server.peer().wait_until_done()
        check_chunks(server.peer().messages)
    assert guard.calls > SENDERS * CHUNKS
    assert guard.trespasses == 0


@pytest.mark.usefixtures("switching_often")
def test_the_guard_notices_a_broken_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test before this one can fail: it does, on a lock that keeps nobody out."""
    guard = Guard(monkeypatch)

    def reads_anything(peer: Peer) -> None:
        peer.accept()
        while True:
            peer.read_raw()

    with (
        FakeServer(reads_anything, receive_buffer=32 * 1024) as server,
        open_session(Kind.BLOCKING, server.url, **OPTIONS) as driver,
    ):
        driver.enter()
        lock: Any = BrokenLock()
        monkeypatch.setattr(driver.session, "_lock", lock)
        # Neither does what notices signal handlers.
        never = property(lambda _: False, lambda _, __: None)
        monkeypatch.setattr(RealtimeSTTSession, "_busy", never, raising=False)
        send_from_many_threads(driver)
    assert guard.trespasses > 0


# The end, told to others


def test_close_ends_a_blocked_receive(kind: Kind) -> None:
    with FakeServer(silent) as server, open_session(kind, server.url, **OPTIONS) as driver:
        driver.enter()
        receivers = [driver.start("receive_event") for _ in range(3)]
        collecting = driver.start_collecting()
        driver.close()
        assert [receiver.result(PATIENCE) for receiver in receivers] == [None] * 3
        assert collecting.result(PATIENCE) == []
        assert driver.outcome is Outcome.CLOSED_LOCALLY


def test_close_leaves_a_receiver_its_messages(kind: Kind) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.read_until_close()
        peer.say(result("late"), FINISHED)
        peer.close()
        peer.read_to_the_end()

    with FakeServer(script) as server, open_session(kind, server.url, **OPTIONS) as driver:
        driver.enter()
        driver.send(b"audio")
        collecting = driver.start_collecting()
        driver.close()
        assert [label(event) for event in collecting.result(PATIENCE)] == ["late", "finished"]
        assert driver.outcome is Outcome.FINISHED


def test_abort_ends_a_blocked_receive(kind: Kind) -> None:
    with FakeServer(silent) as server, open_session(kind, server.url, **OPTIONS) as driver:
        driver.enter()
        receiver = driver.start("receive_event")
        driver.abort()
        assert receiver.result(PATIENCE) is None
        assert driver.outcome is Outcome.ABORTED


@pytest.mark.parametrize("method", ["close", "abort"])
def test_ending_a_session_that_is_being_entered(kind: Kind, method: str) -> None:
    def never_answers(peer: Peer) -> None:
        peer.read_request()
        peer.hold()

    options = {**OPTIONS, "connect_timeout_sec": None}
    with FakeServer(never_answers) as server, open_session(kind, server.url, **options) as driver:
        entering = driver.start("enter")
        peer = server.peer()
        peer.wait_for(lambda: peer.request is not None)
        sender = driver.start("send_byte_chunk", b"held")
        sender.result(PATIENCE)
        driver.call(method)
        assert isinstance(entering.exception(PATIENCE), SonioxStateError)
        assert driver.outcome in {Outcome.CLOSED_LOCALLY, Outcome.ABORTED}
        assert driver.receive() is None


def test_audio_given_while_connecting_goes_out_first(kind: Kind) -> None:
    allowed = threading.Event()

    def accepts_late(peer: Peer) -> None:
        peer.read_request()
        allowed.wait(PATIENCE)
        peer.send(peer.accepting_bytes())
        peer.read_to_the_end()

    with FakeServer(accepts_late) as server, open_session(kind, server.url, **OPTIONS) as driver:
        entering = driver.start("enter")
        peer = server.peer()
        peer.wait_for(lambda: peer.request is not None)
        for chunk in (b"first", b"words"):
            driver.send(chunk)
        allowed.set()
        entering.result(PATIENCE)
        driver.send(b"later")
        driver.close()
        peer.wait_until_done()
        assert peer.messages[1:] == [b"first", b"words", b"later", ""]


def test_closing_from_many_places(kind: Kind) -> None:
    with FakeServer(obliging) as server, open_session(kind, server.url, **OPTIONS) as driver:
        driver.enter()
        driver.send(b"audio")
        for future in [driver.start("close") for _ in range(8)]:
            assert future.result(PATIENCE) is None
        peer = server.peer()
        peer.wait_until_done()
        assert peer.messages[1:] == [b"audio", ""]
        assert len(peer.close_codes) == 1


# While nobody receives


def test_pings_are_answered_while_nobody_receives(kind: Kind) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        for number in range(3):
            peer.send(frames.ping(b"%d" % number))
            frame = peer.read_frame()
            assert (frame.opcode, frame.payload) == (Opcode.PONG, b"%d" % number)
        peer.close(1001)
        assert peer.read_frame().opcode is Opcode.CLOSE
        peer.read_to_the_end()

    options = {**OPTIONS, "keepalive_interval_sec": None}
    with FakeServer(script) as server, open_session(kind, server.url, **options) as driver:
        driver.enter()
        server.peer().wait_until_done()
        assert driver.outcome is Outcome.CLOSED_BY_SERVER


def test_dead_peer_is_noticed_while_nobody_receives(kind: Kind) -> None:
    def vanishes(peer: Peer) -> None:
        peer.start()
        peer.hold()

    options = {**OPTIONS, "ping_interval_sec": 0.1, "ping_timeout_sec": 0.1}
    with FakeServer(vanishes) as server, open_session(kind, server.url, **options) as driver:
        driver.enter()
        deadline = time.monotonic() + PATIENCE
        while driver.outcome is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert driver.outcome is Outcome.LOST
        with pytest.raises(SonioxTimeoutError):
            driver.receive()


def test_keepalives_flow_while_a_receiver_waits(kind: Kind) -> None:
    options = {**OPTIONS, "keepalive_interval_sec": 0.05}
    with FakeServer(silent) as server, open_session(kind, server.url, **options) as driver:
        driver.enter()
        receiver = driver.start("receive_event")
        peer = server.peer()
        peer.wait_for(lambda: peer.count(KEEPALIVE) >= 3)
        driver.close()
        assert receiver.result(PATIENCE) is None
