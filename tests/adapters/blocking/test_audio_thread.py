"""Audio from a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Outcome,
    RealtimeSTTSession,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxStateError,
    start_audio_thread,
    stream_audio_async,
)
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, obliging, silent
from tests.support.adapters.sessions import label
from tests.support.core.messages import API_KEY, CONFIG, result


def make_session(server: FakeServer) -> RealtimeSTTSession:
    return RealtimeSTTSession(server.url, CONFIG, API_KEY, close_timeout_sec=0.2)


def wait_for(thread: threading.Thread) -> None:
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_iterable_is_sent_and_finished() -> None:
    with FakeServer(obliging) as server, make_session(server) as session:
        thread = start_audio_thread(session, iter([b"one", b"two"]))
        assert [label(event) for event in session.receive_events()] == ["finished"]
        wait_for(thread)
        assert server.peer().messages[1:] == [b"one", b"two", ""]


def test_bytes_are_sent_and_not_finished() -> None:
    with FakeServer(silent) as server, make_session(server) as session:
        wait_for(start_audio_thread(session, b"one"))
        server.peer().wait_for(lambda: server.peer().audio == b"one")
        session.send_byte_chunk(b"two")


def test_name_and_daemon() -> None:
    asked = threading.Event()

    def chunks() -> Iterator[bytes]:
        asked.wait(PATIENCE)
        yield b"one"

    with FakeServer(obliging) as server, make_session(server) as session:
        thread = start_audio_thread(session, chunks(), name="microphone", daemon=False)
        assert thread.is_alive()
        assert (thread.name, thread.daemon) == ("microphone", False)
        asked.set()
        wait_for(thread)
    with FakeServer(silent) as server, make_session(server) as session:
        thread = start_audio_thread(session, b"one")
        assert thread.daemon
        wait_for(thread)


def test_exception_of_the_source_reaches_the_receiver() -> None:
    fault = OSError("microphone unplugged")
    heard = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"one"
        assert heard.wait(PATIENCE)
        raise fault

    def script(peer: Peer) -> None:
        peer.start()
        assert peer.read().payload == b"one"
        peer.say(result("heard"))
        peer.read_to_the_end()

    received: list[str] = []

    def use(session: RealtimeSTTSession) -> None:
        with session:
            start_audio_thread(session, chunks())
            for event in session.receive_events():
                received.append(label(event))
                heard.set()

    with FakeServer(script) as server:
        session = make_session(server)
        with pytest.raises(SonioxRealtimeError, match="microphone unplugged") as raised:
            use(session)
        assert raised.value.__cause__ is fault
        assert received == ["heard"]
        peer = server.peer()
        peer.wait_until_done()
        assert peer.messages[1:] == [b"one"], "a stream that broke off is not complete"
        with pytest.raises(SonioxRealtimeError) as again:
            session.receive_event()
        assert again.value.__cause__ is fault


def test_error_of_this_library_in_the_source_reaches_the_receiver_as_it_is() -> None:
    fault = SonioxConnectionError("the upstream session broke")

    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise fault

    with FakeServer(silent) as server:
        session = make_session(server)
        session.enter()
        thread = start_audio_thread(session, chunks())
        with pytest.raises(SonioxConnectionError) as raised:
            list(session.receive_events())
        assert (str(raised.value), vars(raised.value)) == (str(fault), vars(fault))
        assert raised.traceback[-1].path == raised.traceback[0].path, "it comes from the source"
        wait_for(thread)


def test_end_of_the_session_ends_the_thread_quietly() -> None:
    sending = threading.Event()

    def chunks() -> Iterator[bytes]:
        while True:
            yield b"more"
            sending.set()

    with FakeServer(silent) as server, make_session(server) as session:
        thread = start_audio_thread(session, chunks())
        assert sending.wait(PATIENCE)
        session.close()
        wait_for(thread)
        assert session.outcome is Outcome.CLOSED_LOCALLY
        assert session.receive_event() is None


def test_lost_connection_is_told_once_and_to_the_receiver() -> None:
    def chunks() -> Iterator[bytes]:
        while True:
            yield bytes(4096)

    def script(peer: Peer) -> None:
        peer.start()
        peer.read()
        peer.reset()

    with FakeServer(script) as server:
        session = make_session(server)
        session.enter()
        thread = start_audio_thread(session, chunks())
        with pytest.raises(SonioxConnectionError):
            list(session.receive_events())
        wait_for(thread)
        assert session.outcome is Outcome.LOST


def test_generator_is_closed_when_the_session_ends_while_its_error_is_kept() -> None:
    closed = threading.Event()

    def microphone() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(100)
        finally:
            closed.set()

    chunks = microphone()
    with FakeServer(silent) as server, make_session(server) as session:
        thread = start_audio_thread(session, chunks)
        session.close()
        wait_for(thread)
        assert closed.is_set()


@pytest.mark.parametrize("session", [None, 5, object(), RealtimeSTTSession])
def test_what_is_no_session_is_refused_at_once(session: Any) -> None:
    with pytest.raises(TypeError, match="needs a blocking RealtimeSTTSession"):
        start_audio_thread(session, [b"x"])


def test_async_session_is_refused_at_once() -> None:
    session: Any = AsyncRealtimeSTTSession("ws://127.0.0.1:1/", CONFIG, API_KEY)
    with pytest.raises(TypeError, match="blocking RealtimeSTTSession, not AsyncRealtimeSTTSession"):
        start_audio_thread(session, [b"one"])


@pytest.mark.parametrize("chunks", ["text", stream_audio_async(b"")])
def test_what_is_not_audio_is_refused_at_once(chunks: Any) -> None:
    session = RealtimeSTTSession("ws://127.0.0.1:1/", CONFIG, API_KEY)
    with pytest.raises(TypeError, match=f"plain iterable of bytes, not {type(chunks).__name__}"):
        start_audio_thread(session, chunks)


def test_session_that_was_not_entered() -> None:
    with FakeServer(silent) as server:
        session = make_session(server)
        wait_for(start_audio_thread(session, [b"one"]))
        with pytest.raises(SonioxStateError):
            session.receive_event()
        with pytest.raises(SonioxStateError):
            session.enter()
        assert server.connections == 0
