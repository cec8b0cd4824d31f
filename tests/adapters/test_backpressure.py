"""Bounded memory, and progress all the same: full buffers on one side, on the other, on both."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

import soniox_adapters.session.flow_control
from soniox_adapters import (
    Outcome,
    RealtimeSTTSession,
    SonioxRealtimeError,
    SonioxStateError,
)
from soniox_adapters.session.flow_control import (
    CLOSING_MEMORY,
    FULL_MEMORY,
    MAX_WAITING_MESSAGES,
    message_memory,
)
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session
from tests.support.core import frames
from tests.support.core.frames import Opcode
from tests.support.core.messages import FINISHED, result

BUFFER: Final = 32 * 1024
"""Bytes of each kernel buffer, so that little data fills them."""

MESSAGE: Final = result("x" * 1000)
SHORT_MESSAGE: Final = result("x")
READ_SIZE: Final = 64 * 1024

MOST_KEPT: Final = MAX_WAITING_MESSAGES + READ_SIZE // len(MESSAGE) + 1
"""Messages that may wait for the user: the limit, and what came with the last read."""

MEGABYTE: Final = 1024 * 1024

LARGE_CHUNK: Final = bytes(4 * 1024 * 1024)

NO_TIMERS: Final = {"ping_interval_sec": None, "keepalive_interval_sec": None}


@pytest.fixture(params=[Kind.BLOCKING, Kind.ASYNCIO, Kind.TRIO], ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Kinds of session that take a socket, whose buffers a test can choose."""
    assert isinstance(request.param, Kind)
    return request.param


@contextmanager
def narrow(
    kind: Kind, script: Script, *, size: int = BUFFER, **options: Any
) -> Iterator[tuple[SessionDriver, Peer]]:
    """An entered session whose connection has buffers of that size everywhere."""
    with FakeServer(script, receive_buffer=size, send_buffer=size) as server:
        connected = socket.socket()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            connected.setsockopt(socket.SOL_SOCKET, option, size)
        connected.connect(("127.0.0.1", server.port))
        options = {"close_timeout_sec": 0.5, **NO_TIMERS, **options, "transport": connected}
        with open_session(kind, server.url, **options) as driver:
            driver.enter()
            yield driver, server.peer()


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.002)


def wait_until_watching(driver: SessionDriver) -> None:
    """Wait until a blocking session's receiver waits for the socket; tasks do so at once."""
    if isinstance(driver.session, RealtimeSTTSession):
        session = driver.session
        (link,) = session._links
        wait_until(lambda: session._waiting.has_reader(link.stream, time.monotonic()))


def count_messages(driver: SessionDriver) -> int:
    """Receive to the end and return how many messages came before the finished response."""
    labels = [label(event) for event in driver.collect()]
    assert labels.pop() == "finished"
    assert set(labels) <= {"x", "x" * 1000}
    return len(labels)


# A user who does not receive


def floods_then_finishes(message: str) -> Script:
    def script(peer: Peer) -> None:
        peer.start()
        peer.count_sent = peer.send_until_stalled(frames.text(message))
        peer.stalled.set()
        peer.send(b"")
        peer.say(FINISHED)
        peer.close()
        peer.read_to_the_end()

    return script


def test_slow_receiver_stops_the_server(kind: Kind) -> None:
    with narrow(kind, floods_then_finishes(MESSAGE)) as (driver, peer):
        assert peer.stalled.wait(PATIENCE), "the session reads on and on"
        assert driver.stats.received_messages <= MOST_KEPT
        assert peer.count_sent < 10 * MOST_KEPT
        assert count_messages(driver) == peer.count_sent
        assert driver.outcome is Outcome.FINISHED


def test_slow_receiver_stops_the_server_again(kind: Kind) -> None:
    """The receiver catches up, falls behind, and catches up: reading stops and goes on."""

    def script(peer: Peer) -> None:
        peer.start()
        for _ in range(2):
            peer.count_sent += peer.send_until_stalled(frames.text(MESSAGE))
            peer.stalled.set()
            peer.send(b"")
            while peer.read().payload != b"go on":
                pass
        peer.say(FINISHED)
        peer.close()
        peer.read_to_the_end()

    with narrow(kind, script) as (driver, peer):
        received = 0
        for _ in range(2):
            assert peer.stalled.wait(PATIENCE)
            peer.stalled.clear()
            while received < peer.count_sent:
                assert driver.receive() is not None
                received += 1
            driver.send(b"go on")
        assert count_messages(driver) == 0
        assert received == peer.count_sent


def test_slow_receiver_does_not_lose_the_session_for_a_missing_pong(kind: Kind) -> None:
    """The pong is behind what the user has not taken yet: that is not the server's fault."""
    options: dict[str, Any] = {"ping_interval_sec": 0.1, "ping_timeout_sec": 0.5}
    with narrow(kind, floods_then_finishes(SHORT_MESSAGE), **options) as (driver, peer):
        assert peer.stalled.wait(PATIENCE)
        time.sleep(1.0)  # Longer than both times together.
        assert driver.outcome is None
        assert count_messages(driver) == peer.count_sent
        assert driver.outcome is Outcome.FINISHED


def test_close_with_messages_waiting(kind: Kind) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.count_sent = peer.send_until_stalled(frames.text(MESSAGE))
        peer.stalled.set()
        peer.send(b"")
        peer.read_to_the_end()

    with narrow(kind, script, close_timeout_sec=PATIENCE) as (driver, peer):
        assert peer.stalled.wait(PATIENCE)
        driver.close()
        assert driver.outcome is Outcome.CLOSED_LOCALLY
        received = 0
        while driver.receive() is not None:
            received += 1
        assert received == peer.count_sent, "what came before the server's answer is delivered"


def test_complete_transcript_outlives_a_write_that_fails(kind: Kind) -> None:
    """The server is done and gone while most of it waits here; then a keepalive cannot be sent."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(*[SHORT_MESSAGE] * 5000, FINISHED)
        peer.close()

    with narrow(kind, script, size=4 * MEGABYTE, keepalive_interval_sec=0.05) as (driver, _):
        wait_until(lambda: driver.outcome is not None)
        assert driver.outcome is Outcome.FINISHED
        assert count_messages(driver) == 5000


# A server that does not read


def test_both_buffers_full(kind: Kind) -> None:
    """Each side wants to be rid of its data first; nobody receives."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        peer.send(frames.text(MESSAGE) * 2000)
        while len(peer.audio) < len(LARGE_CHUNK):
            peer.read()
        peer.say(FINISHED)
        peer.close()
        peer.read_to_the_end()

    with narrow(kind, script) as (driver, peer):
        driver.send(LARGE_CHUNK)
        assert count_messages(driver) == 2000
        assert driver.outcome is Outcome.FINISHED
        assert peer.audio == LARGE_CHUNK


def test_both_buffers_full_after_reading_had_stopped(kind: Kind) -> None:
    """What nobody receives fills everything first; then a sender has to read on."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.count_sent = peer.send_until_stalled(frames.text(MESSAGE))
        peer.stalled.set()
        peer.send(frames.text(MESSAGE) * 2000)
        while len(peer.audio) < len(LARGE_CHUNK):
            peer.read()
        peer.say(FINISHED)
        peer.close()
        peer.read_to_the_end()

    with narrow(kind, script) as (driver, peer):
        assert peer.stalled.wait(PATIENCE)
        driver.send(LARGE_CHUNK)
        assert count_messages(driver) == peer.count_sent + 2000


def test_both_buffers_full_and_the_receiver_has_gone(kind: Kind) -> None:
    """Who read for the sender got what it wanted: the sender has to read for itself."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        peer.say(result("one"))
        peer.received_one.wait(PATIENCE)
        peer.send(frames.text(MESSAGE) * 2000)
        while len(peer.audio) < len(LARGE_CHUNK):
            peer.read()
        peer.say(FINISHED)
        peer.close()
        peer.read_to_the_end()

    with narrow(kind, script) as (driver, peer):
        receiver = driver.start("receive_event")
        wait_until_watching(driver)
        sender = driver.start("send_byte_chunk", LARGE_CHUNK)
        assert label(receiver.result(PATIENCE)) == "one"
        peer.received_one.set()
        sender.result(PATIENCE)
        assert count_messages(driver) == 2000


@pytest.mark.parametrize("method", ["finish", "finalize", "keep_alive", "pause"])
def test_control_waits_behind_audio_that_is_not_taken(kind: Kind, method: str) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.stalled.wait(PATIENCE)
        peer.read_to_the_end()

    with narrow(kind, script, close_timeout_sec=PATIENCE) as (driver, peer):
        sender = driver.start("send_byte_chunk", LARGE_CHUNK)
        peer.wait_until_readable()
        control = driver.start(method)
        peer.stalled.set()
        sender.result(PATIENCE)
        control.result(PATIENCE)
        driver.close()
        peer.wait_until_done()
        assert peer.messages[1] == LARGE_CHUNK
        # The start message, the audio, the control, and end-of-audio, whoever sent it.
        assert len(peer.messages) == (3 if method == "finish" else 4)
        assert peer.messages[-1] == ""


def test_pongs_do_not_pile_up(kind: Kind) -> None:
    """A server that pings and never reads is read no further after a while."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.count_sent = peer.send_until_stalled(frames.ping(b"p" * 125))
        peer.stalled.set()
        pongs = 0
        while pongs < peer.count_sent - 1:
            pongs += peer.read_frame().opcode is Opcode.PONG
        peer.send(b"")
        peer.say(FINISHED)
        peer.read_to_the_end()

    with narrow(kind, script) as (driver, peer):
        receiver = driver.start("receive_event")
        assert peer.stalled.wait(PATIENCE), "pongs pile up without end"
        event = receiver.result(PATIENCE)
        assert event is not None
        assert event.finished


def test_sender_that_is_stuck_while_messages_pile_up(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes no audio before its messages are taken, and nobody takes them."""
    monkeypatch.setattr(soniox_adapters.session.flow_control, "MAX_WAITING_MEMORY", 512 * 1024)

    def script(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        while True:
            peer.send(frames.text(MESSAGE) * 20)

    with narrow(kind, script) as (driver, _):
        sender = driver.start("send_byte_chunk", LARGE_CHUNK)
        assert isinstance(sender.exception(PATIENCE), SonioxRealtimeError)
        received: list[str] = []
        with pytest.raises(SonioxRealtimeError, match="receive while sending"):
            driver.handle_events(lambda event: received.append(label(event)))
        assert len(received) * message_memory(MESSAGE) >= 512 * 1024
        assert driver.outcome is Outcome.LOST


def test_close_is_bounded_while_the_server_neither_reads_nor_stops(kind: Kind) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        while True:
            peer.send(frames.text(MESSAGE) * 20)

    with narrow(kind, script, close_timeout_sec=0.3) as (driver, peer):
        sender = driver.start("send_byte_chunk", LARGE_CHUNK)
        peer.wait_until_readable()
        driver.close()
        assert isinstance(sender.exception(PATIENCE), (SonioxStateError, SonioxRealtimeError))
        assert driver.outcome in {Outcome.CLOSED_LOCALLY, Outcome.LOST}


@pytest.mark.parametrize("with_sender", [False, True], ids=["alone", "with-blocked-sender"])
def test_memory_is_bounded_during_a_close(kind: Kind, with_sender: bool) -> None:
    """Small messages take far more memory than their text is long."""

    def floods(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        while True:
            peer.send(frames.text('{"tokens":[]}') * 2000)

    with narrow(kind, floods, close_timeout_sec=PATIENCE) as (driver, peer):
        if with_sender:
            sender = driver.start("send_byte_chunk", LARGE_CHUNK)
            peer.wait_until_readable()
        else:
            driver.send(b"audio")
        closing = driver.start("close")
        closing.result(PATIENCE)
        if with_sender:
            assert isinstance(sender.exception(PATIENCE), SonioxRealtimeError)
        flow = driver.session._flow
        assert flow.waiting_memory <= FULL_MEMORY + 2 * CLOSING_MEMORY
