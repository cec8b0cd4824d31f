"""The documented methods that receive, on every kind of session (see `test_documented_names`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from soniox_adapters import (
    Outcome,
    RealtimeEvent,
    SonioxProtocolError,
    SonioxRealtimeError,
    SonioxStateError,
)
from tests.support.adapters.server import FakeServer, Peer, Script, silent
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session
from tests.support.core.messages import CONFIG, FINISHED, error, result

ONE = result("one", final_audio_proc_ms=10, total_audio_proc_ms=20)
TWO = result("zwei \N{GRINNING FACE}")
FAILED = error(400, "invalid_request", "No audio received")


def says(*messages: str) -> Script:
    """Return a script that sends messages and closes with 1000."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(*messages)
        peer.close()
        peer.read_to_the_end()

    return script


@contextmanager
def listening(kind: Kind, *messages: str, **options: Any) -> Iterator[SessionDriver]:
    """An entered session to which the server sends `messages`."""
    with FakeServer(says(*messages)) as server, open_session(kind, server.url, **options) as driver:
        driver.enter()
        yield driver


# Properties


def test_config(kind: Kind) -> None:
    with open_session(kind, "ws://localhost") as driver:
        assert driver.session.config is CONFIG


def test_paused_is_false_at_first(kind: Kind) -> None:
    with open_session(kind, "ws://localhost") as driver:
        assert driver.session.paused is False


def test_last_message(kind: Kind) -> None:
    with listening(kind, ONE, TWO, FINISHED) as driver:
        assert driver.session.last_message is None
        first = driver.receive()
        assert driver.session.last_message is first
        driver.call("recv_bytes")
        assert driver.session.last_message is not None
        assert label(driver.session.last_message) == "zwei \N{GRINNING FACE}"
        finished = driver.receive()
        assert driver.receive() is None
        assert driver.session.last_message is finished


# recv_bytes()


def test_recv_bytes(kind: Kind) -> None:
    with listening(kind, ONE, TWO, FINISHED) as driver:
        received = [driver.call("recv_bytes") for _ in range(5)]
        assert received == [ONE.encode(), TWO.encode(), FINISHED.encode(), b"", b""]


def test_recv_bytes_raises_like_receive_event(kind: Kind) -> None:
    with listening(kind, FAILED) as driver:
        assert driver.call("recv_bytes") == FAILED.encode()
        with pytest.raises(SonioxRealtimeError) as receive:
            driver.call("recv_bytes")
        with pytest.raises(SonioxRealtimeError) as again:
            driver.receive()
        assert type(again.value) is type(receive.value)
        # What has happened since is noted too.
        first, second = ({**vars(one.value), "flight_record": None} for one in (receive, again))
        assert first == second


def test_binary_messages_count_too(kind: Kind) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.say_binary(ONE.encode(), TWO.encode())
        peer.close()
        peer.read_to_the_end()

    with FakeServer(script) as server, open_session(kind, server.url) as driver:
        driver.enter()
        assert driver.call("recv_bytes") == ONE.encode()
        event = driver.receive()
        assert event is not None
        assert label(event) == "zwei \N{GRINNING FACE}"


# parse_event()


def test_parse_event(kind: Kind) -> None:
    with open_session(kind, "ws://localhost") as driver:
        for raw in (ONE, ONE.encode()):
            event = driver.session.parse_event(raw)
            assert isinstance(event, RealtimeEvent)
            assert label(event) == "one"
            assert event.final_audio_proc_ms == 10
        for wrong in ("", "{", "[]", '{"tokens": 1}', b"\xff"):
            with pytest.raises(SonioxProtocolError):
                driver.session.parse_event(wrong)


# receive_event()


def test_receive_event(kind: Kind) -> None:
    with listening(kind, ONE, TWO, FINISHED) as driver:
        first = driver.receive()
        assert isinstance(first, RealtimeEvent)
        assert first == RealtimeEvent.validate_event(ONE)
        assert driver.receive() == RealtimeEvent.validate_event(TWO)
        finished = driver.receive()
        assert finished is not None
        assert finished.finished
        assert driver.receive() is None
        assert driver.receive() is None


def test_receive_event_keeps_unknown_fields(kind: Kind) -> None:
    with listening(kind, result({"text": "a", "pitch": 3}, mood="good")) as driver:
        event = driver.receive()
        assert event is not None
        assert event.model_extra == {"mood": "good"}
        assert event.tokens[0].model_extra == {"pitch": 3}


@pytest.mark.parametrize("method", ["receive_event", "recv_bytes"])
def test_receiving_before_entering_raises(kind: Kind, method: str) -> None:
    with open_session(kind, "ws://localhost") as driver:
        with pytest.raises(SonioxStateError, match="not connected"):
            driver.call(method)
        with pytest.raises(SonioxStateError, match="not connected"):
            driver.collect()


# receive_events()


def test_receive_events(kind: Kind) -> None:
    with listening(kind, ONE, TWO, FINISHED) as driver:
        assert [label(event) for event in driver.collect()] == [
            "one",
            "zwei \N{GRINNING FACE}",
            "finished",
        ]
        assert driver.collect() == []


def test_receive_events_delivers_the_error_then_raises_it(kind: Kind) -> None:
    seen: list[str] = []
    with listening(kind, ONE, FAILED) as driver:
        with pytest.raises(SonioxRealtimeError, match="No audio received"):
            driver.handle_events(lambda event: seen.append(label(event)))
        assert seen == ["one", "error 400"]
        assert driver.outcome is Outcome.SERVER_ERROR


def test_receive_events_can_be_left_and_taken_up_again(kind: Kind) -> None:
    with listening(kind, ONE, TWO, FINISHED) as driver:
        assert label(driver.first_event()) == "one"
        assert label(driver.first_event()) == "zwei \N{GRINNING FACE}"
        assert [label(event) for event in driver.collect()] == ["finished"]


# handle_events()


def test_handle_events(kind: Kind) -> None:
    seen: list[str] = []
    with listening(kind, ONE, TWO, FINISHED) as driver:
        driver.handle_events(lambda event: seen.append(label(event)))
    assert seen == ["one", "zwei \N{GRINNING FACE}", "finished"]


def test_handle_events_passes_on_what_the_handler_raises(kind: Kind) -> None:
    def handler(event: RealtimeEvent) -> None:
        raise LookupError(label(event))

    with listening(kind, ONE, FINISHED) as driver:
        with pytest.raises(LookupError, match="one"):
            driver.handle_events(handler)
        assert [label(event) for event in driver.collect()] == ["finished"]


# Entering


def test_entering_returns_the_session(kind: Kind) -> None:
    for method in ("enter", "aenter") if kind.asynchronous else ("enter",):
        with FakeServer(silent) as server, open_session(kind, server.url) as driver:
            assert driver.call(method) is driver.session
            with pytest.raises(SonioxStateError):
                driver.call(method)
            driver.close()


def test_context_closes(kind: Kind) -> None:
    with FakeServer(silent) as server, open_session(kind, server.url) as driver:
        with driver.connected() as entered:
            assert entered is driver.session
            driver.send(b"audio")
        assert driver.outcome is Outcome.CLOSED_LOCALLY
        peer = server.peer()
        peer.wait_until_done()
        assert peer.messages[1:] == [b"audio", ""]
        assert peer.close_codes == [1000]


def test_context_aborts_on_an_exception(kind: Kind) -> None:
    def use(driver: SessionDriver) -> None:
        with driver.connected():
            driver.send(b"audio")
            raise LookupError

    with FakeServer(silent) as server, open_session(kind, server.url) as driver:
        with pytest.raises(LookupError):
            use(driver)
        assert driver.outcome is Outcome.ABORTED
        peer = server.peer()
        peer.wait_until_done()
        assert peer.messages[1:] == [b"audio"], "an aborted stream is not complete"
        assert 1000 not in peer.close_codes


def test_repr_tells_class_and_state(kind: Kind) -> None:
    with open_session(kind, "ws://localhost") as driver:
        assert type(driver.session).__name__ in repr(driver.session)
        assert "idle" in repr(driver.session)
        driver.close()
        assert "closed" in repr(driver.session)
