"""Signal handlers that raise, at any point of any call, and handlers that use the session."""

from __future__ import annotations

import ast
import inspect
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

import pytest

from soniox_adapters import (
    Outcome,
    RealtimeSTTSession,
    SessionState,
    SonioxError,
    SonioxRealtimeError,
    SonioxStateError,
)
from soniox_adapters.blocking import session as blocking_session
from soniox_adapters.blocking import steps, waiting
from soniox_adapters.blocking.socket_stream import SocketStream
from tests.support.adapters.server import PATIENCE, ClientLeftError, FakeServer, Peer, silent
from tests.support.adapters.sessions import label
from tests.support.core.frames import Opcode
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, KEEPALIVE, result

FINALIZE: Final = '{"type":"finalize"}'

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")


class InterruptionError(BaseException):
    """What the handlers of these tests raise."""


def answers(peer: Peer) -> None:
    """Say something, and something more for each chunk, to the proper end."""
    peer.start()
    peer.say(result("first"))
    while (frame := peer.read()).opcode is not Opcode.CLOSE:
        if frame.opcode is Opcode.BINARY:
            peer.say(result("heard"))
        elif not frame.payload:
            peer.say(FINISHED)
    peer.close()
    peer.read_to_the_end()


def make_session(url: str, **options: Any) -> RealtimeSTTSession:
    options = {"close_timeout_sec": PATIENCE, "proxy": None, **options}
    return RealtimeSTTSession(url, CONFIG, API_KEY, **options)


def in_thread(function: Callable[[], Any]) -> None:
    """Run a function in another thread, which needs the lock that this one has let go."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "a lock is stuck"
    if failures:
        raise failures[0]


def check_usable_or_closed(session: RealtimeSTTSession) -> None:
    """The session does what its state promises, and can be ended by another thread."""
    start = time.monotonic()
    try:
        if session.state is SessionState.OPEN:
            in_thread(lambda: session.send_byte_chunk(b"audio"))
            while label(received(session)) != "heard":
                pass
        elif session.state is SessionState.FINISHING:
            while session.receive_event(timeout=PATIENCE):
                pass
    except SonioxRealtimeError:
        assert session.state is SessionState.CLOSED, "only a session that is over refuses"
    in_thread(session.close)
    assert session.state is SessionState.CLOSED
    with suppress(SonioxRealtimeError):
        while session.receive_event(timeout=PATIENCE):
            pass
    while session.fileno() != -1:
        assert time.monotonic() - start < PATIENCE, "the descriptor leaks"
        time.sleep(0.001)
    assert time.monotonic() - start < PATIENCE / 2, "something waited for what never came"


def received(session: RealtimeSTTSession) -> Any:
    event = session.receive_event(timeout=PATIENCE)
    assert event is not None, "an open session has no end"
    return event


# A handler that raises, wherever CPython could run it


class Interruptor:
    """Raises at the n-th point where CPython looks for signals.

    Those are the beginnings of functions, and the ends of calls of functions in C.
    """

    def __init__(self, at: int) -> None:
        self._left = at
        self.raised = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in {"call", "c_return"}:
            self._left -= 1
            if self._left < 0:
                # Python forgets this function then.
                self.raised = True
                raise InterruptionError

    @contextmanager
    def at_work(self) -> Iterator[None]:
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)


def enter(session: RealtimeSTTSession) -> None:
    session.enter()


def receive(session: RealtimeSTTSession) -> None:
    while label(received(session)) != "first":
        pass


def send(session: RealtimeSTTSession) -> None:
    session.send_byte_chunk(b"audio")


def send_large(session: RealtimeSTTSession) -> None:
    session.send_byte_chunk(bytes(100_000))


def send_many(session: RealtimeSTTSession) -> None:
    session.send_bytes([b"audio"] * 3, finish=False)


CALLS: Final[list[Callable[[RealtimeSTTSession], Any]]] = [
    receive,
    send,
    send_large,
    send_many,
    RealtimeSTTSession.finish,
    RealtimeSTTSession.finalize,
    RealtimeSTTSession.close,
    RealtimeSTTSession.abort,
]


# What is interrupted while Python finalises it, or drops it half made, only warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__.strip("_"))
def test_interrupted_at_every_point(
    call: Callable[[RealtimeSTTSession], Any], secure: bool, server_tls: Any, client_tls: Any
) -> None:
    tls = server_tls if secure else None
    with FakeServer(answers, tls=tls, host="localhost" if secure else "127.0.0.1") as server:

        def connected() -> RealtimeSTTSession:
            session = make_session(server.url, ssl_context=client_tls)
            session.enter()
            server.peer(server.connections - 1).wait_until_said()
            return session

        interrupt_at_every_point(connected, call, step=3 if secure else 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_interrupted_at_every_point_of_entering() -> None:
    """With a connected socket, because Python's own opening of one can be left half done.

    An exception inside `socketpair` or `wrap_socket` loses a descriptor, one inside
    `Thread.start` leaves the thread stuck.
    """
    with FakeServer(answers) as server:

        def connected() -> RealtimeSTTSession:
            given.append(socket.create_connection(("127.0.0.1", server.port)))
            return make_session(server.url, transport=given[-1])

        given: list[socket.socket] = []
        interrupt_at_every_point(connected, enter, step=1)
        for one in given:
            one.close()


def interrupt_at_every_point(
    make: Callable[[], RealtimeSTTSession], call: Callable[[RealtimeSTTSession], Any], *, step: int
) -> None:
    """Interrupt a call at every point of it, each time with another session, and check each."""
    # Imports what is imported on first need, and keeps the ticker's thread.
    other = make()
    if other.state is SessionState.IDLE:
        other.enter()
    for point in range(0, 10_000, step):
        session = make()
        interruptor = Interruptor(point)
        try:
            with interruptor.at_work():
                call(session)
        except InterruptionError:
            assert interruptor.raised
        check_usable_or_closed(session)
        if not interruptor.raised:
            other.close()
            return
    raise AssertionError("the call never ends")


LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)


def functions_that_set_busy() -> Iterator[ast.FunctionDef]:
    for module in (steps, blocking_session):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.FunctionDef) and "self._busy = True" in ast.unparse(node):
                yield node


def test_functions_that_set_busy_have_no_loop() -> None:
    """The jump back would not be covered by their handlers on every Python."""
    functions = list(functions_that_set_busy())
    names = {"_step", "_settle", "send_byte_chunk", "_receive"}
    assert {function.name for function in functions} == names
    for function in functions:
        assert not any(isinstance(node, LOOPS) for node in ast.walk(function)), function.name


def test_interrupted_at_random() -> None:
    """Real signals, in a program of its own, which has a main thread and a timer to itself."""
    seed = random.randrange(10**6)
    command = [sys.executable, "-m", "tests.support.adapters.interrupted", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=55)
    assert done.returncode == 0, f"seed {seed}:\n{done.stdout}{done.stderr}"


# What the session says


class Raising:
    """Has a handler of a signal run, and raise, in the middle of a write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, handler: Callable[[], Any]) -> None:
        self._handler = handler
        self._write = SocketStream.write
        self.armed = False
        monkeypatch.setattr(SocketStream, "write", lambda *arguments: self.write(*arguments))

    def write(self, stream: SocketStream, data: Any) -> int:
        if self.armed:
            self.armed = False
            signal.raise_signal(signal.SIGUSR1)
        return self._write(stream, data)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        before = signal.signal(signal.SIGUSR1, lambda *_: self._handler())
        self.armed = True
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)
            assert not self.armed, "nothing was written"


def fail(error: BaseException) -> Callable[[], Any]:
    def handler() -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        # What handlers of alarms like to raise, and is what sockets raise, too.
        TimeoutError("alarm"),
        # What looks like a refusal of the core, and came from another session.
        SonioxStateError("another session is closed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_interrupted_write_ends_the_session(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much of it was written is unknown, so nothing can follow."""
    with FakeServer(silent) as server, make_session(server.url) as session:
        with pytest.raises(type(error)), Raising(monkeypatch, fail(error)).at_work():
            session.send_byte_chunk(b"audio")
        assert session.outcome is Outcome.LOST
        assert session.fileno() == -1
        with pytest.raises(SonioxRealtimeError, match="interrupted by") as told:
            session.receive_event()
        assert told.value.__cause__ is error
        with pytest.raises(SonioxStateError, match="interrupted by"):
            session.send_byte_chunk(b"audio")


@pytest.mark.parametrize(
    "function", ["_judge", "_settle", "_end_interrupted", "_deliver", "_release"]
)
def test_interrupted_again_while_the_first_is_dealt_with(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever presses Ctrl-C does so twice. The next call, or the ticker, does the rest."""

    def interrupt_again(*arguments: Any) -> None:
        monkeypatch.setattr(RealtimeSTTSession, function, original)
        raise InterruptionError

    original = getattr(RealtimeSTTSession, function)
    with FakeServer(silent) as server, make_session(server.url) as session:
        monkeypatch.setattr(RealtimeSTTSession, function, interrupt_again)
        raising = Raising(monkeypatch, fail(KeyboardInterrupt()))
        with pytest.raises(InterruptionError), raising.at_work():
            session.send_byte_chunk(b"audio")
        deadline = time.monotonic() + PATIENCE
        while session.state is not SessionState.CLOSED or session.fileno() != -1:
            assert time.monotonic() < deadline, "nobody ends the session"
            time.sleep(0.001)
        with pytest.raises(SonioxRealtimeError, match="interrupted by"):
            session.receive_event()


def test_interrupted_leaving_of_the_context_aborts() -> None:
    def script(peer: Peer) -> None:
        peer.start()
        with suppress(ClientLeftError):
            peer.drain()

    with FakeServer(script) as server:
        session = make_session(server.url)
        start = time.monotonic()
        with alarm(0.1, fail(InterruptionError())), pytest.raises(InterruptionError), session:
            session.send_byte_chunk(b"audio")
        assert time.monotonic() - start < PATIENCE / 2, "it waits for the server no longer"
        assert session.state is SessionState.CLOSED
        assert session.fileno() == -1


def test_failure_in_the_ticker_ends_its_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there to be raised at; who comes to receive is told."""

    def raising(now: float) -> Any:
        raise LookupError("deliberate")

    with (
        FakeServer(silent) as server,
        make_session(server.url) as session,
        make_session(server.url, keepalive_interval_sec=0.05),
    ):
        monkeypatch.setattr(type(session._machine), "handle_timeout", only_for(session, raising))
        deadline = time.monotonic() + PATIENCE
        while session.state is not SessionState.CLOSED or session.fileno() != -1:
            assert time.monotonic() < deadline, "nobody ends the session"
            time.sleep(0.001)
        monkeypatch.undo()
        with pytest.raises(SonioxRealtimeError, match="LookupError"):
            session.receive_event()
        peer = server.peer(1)
        seen = peer.count(KEEPALIVE)
        peer.wait_for(lambda: peer.count(KEEPALIVE) > seen)


def only_for(session: RealtimeSTTSession, replacement: Callable[..., Any]) -> Callable[..., Any]:
    machine = session._machine
    original = type(machine).handle_timeout

    def call(self: Any, now: float) -> Any:
        return replacement(now) if self is machine else original(self, now)

    return call


def test_interrupted_waiting_changes_nothing() -> None:
    with FakeServer(answers) as server, make_session(server.url) as session:
        receive(session)
        with alarm(0.05, fail(TimeoutError("alarm"))), pytest.raises(TimeoutError, match="alarm"):
            session.receive_event()
        send(session)
        assert label(received(session)) == "heard"


def test_a_refusal_of_the_core_is_no_interruption() -> None:
    with FakeServer(answers) as server, make_session(server.url) as session:
        for _ in range(2):
            with pytest.raises(SonioxError, match="trailing_silence_ms"):
                session.finalize(trailing_silence_ms=-1)
            with pytest.raises(TypeError):
                session.send_bytes([b"audio", "text"])  # type: ignore[list-item]
            with pytest.raises(SonioxStateError):
                session.enter()
        receive(session)
        assert label(received(session)) == "heard", "what came before the text was sent"


def test_another_thread_takes_over_from_an_interrupted_reader() -> None:
    with FakeServer(answers) as server, make_session(server.url) as session:
        receive(session)
        texts: list[str] = []
        other = threading.Thread(target=lambda: texts.append(label(received(session))))

        def handler() -> None:
            other.start()
            raise InterruptionError

        with alarm(0.05, handler), pytest.raises(InterruptionError):
            session.receive_event()
        send(session)
        other.join(PATIENCE)
        assert texts == ["heard"]


def test_a_reader_that_is_stuck_in_a_handler_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads do not wait for messages that it does not read."""
    monkeypatch.setattr(waiting, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(waiting, "GRACE", 0.05)
    texts: list[str] = []

    def use_it() -> None:
        send(session)
        texts.append(label(received(session)))
        send(session)

    # No timer may have anybody read instead.
    options = {"keepalive_interval_sec": None, "ping_interval_sec": None}
    with FakeServer(answers) as server, make_session(server.url, **options) as session:
        receive(session)
        with alarm(0.05, lambda: in_thread(use_it)):
            assert label(received(session)) == "heard"
        assert texts == ["heard"]


# Handlers that use the session


@contextmanager
def alarm(seconds: float, handler: Callable[[], Any]) -> Iterator[None]:
    """Have `handler` called in the main thread, which waits for something else by then."""
    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    main = threading.get_ident()
    timer = threading.Timer(seconds, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("finish", ""),
        ("finalize", FINALIZE),
        ("keep_alive", KEEPALIVE),
        ("pause", FINALIZE),
        ("resume", None),
        ("close", ""),
        ("abort", None),
    ],
)
def test_control_in_a_handler_that_interrupted_a_step(
    method: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer(silent) as server, make_session(server.url) as session:
        peer = server.peer()
        with Raising(monkeypatch, getattr(session, method)).at_work():
            session.send_byte_chunk(b"audio")
        peer.wait_for(lambda: peer.audio == b"audio")
        if said is not None:
            peer.wait_for(lambda: peer.messages[-1] == said)
        assert session.paused is (method == "pause")
        if method == "close":
            assert session.receive_event(timeout=PATIENCE) is None
            assert session.outcome is Outcome.CLOSED_LOCALLY
        if method == "abort":
            assert session.outcome is Outcome.ABORTED
            assert session.fileno() == -1


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("enter", ()),
        ("receive_event", (1.0,)),
        ("recv_bytes", (1.0,)),
        ("send_byte_chunk", (b"more",)),
        ("send_bytes", ([b"more"],)),
    ],
)
def test_call_with_a_result_in_a_handler_that_interrupted_a_step(
    method: str, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[SonioxStateError] = []

    def handler() -> None:
        with pytest.raises(SonioxStateError, match="signal handler") as refusal:
            getattr(session, method)(*arguments)
        refusals.append(refusal.value)

    with FakeServer(answers) as server, make_session(server.url) as session:
        server.peer().wait_until_said()
        with Raising(monkeypatch, handler).at_work():
            session.send_byte_chunk(b"audio")
        assert refusals
        receive(session)
        assert label(received(session)) == "heard", "it did no harm"


def test_receiving_in_a_handler_what_has_arrived_already(monkeypatch: pytest.MonkeyPatch) -> None:
    def says_two_things(peer: Peer) -> None:
        peer.start()
        peer.say(result("first"), result("second"))
        peer.read_to_the_end()

    def handler() -> None:
        with pytest.raises(SonioxStateError, match="signal handler"):
            session.receive_event()

    with FakeServer(says_two_things) as server, make_session(server.url) as session:
        receive(session)
        with Raising(monkeypatch, handler).at_work():
            session.send_byte_chunk(b"audio")
        assert label(received(session)) == "second", "it is still there"


def test_control_for_a_session_that_ended_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nobody to be told that it came too late."""

    def handler() -> None:
        session.abort()
        session.finish()

    with FakeServer(silent) as server, make_session(server.url) as session:
        with Raising(monkeypatch, handler).at_work():
            session.send_byte_chunk(b"audio")
        assert session.outcome is Outcome.ABORTED


def test_finish_in_a_handler_while_the_session_waits() -> None:
    """The usual way to stop a program."""
    with FakeServer(answers) as server, make_session(server.url) as session:
        receive(session)
        with alarm(0.05, session.finish):
            assert label(received(session)) == "finished"
        assert session.receive_event() is None


@pytest.mark.parametrize("method", ["close", "abort"])
def test_ending_in_a_handler_while_the_session_waits(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler waits for the close itself: the call that it interrupted reads nothing."""
    monkeypatch.setattr(waiting, "LONGEST_WAIT", PATIENCE)
    # No timer may have anybody read instead.
    options = {"keepalive_interval_sec": None, "ping_interval_sec": None}
    with FakeServer(answers) as server, make_session(server.url, **options) as session:
        receive(session)
        start = time.monotonic()
        with alarm(0.05, getattr(session, method)):
            assert session.receive_event() is None
        assert time.monotonic() - start < PATIENCE / 2
        assert session.fileno() == -1
