"""The documented methods that send, on every kind of session (see `test_documented_names`)."""

from __future__ import annotations

import array
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from soniox_adapters import (
    Outcome,
    RealtimeControlType,
    SessionState,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxValidationError,
)
from soniox_proto.websocket.framing import LARGE_MESSAGE
from tests.support.adapters.server import FakeServer, Peer, obliging, silent
from tests.support.adapters.sessions import ALL_KINDS, Kind, SessionDriver, open_session
from tests.support.core.messages import FINALIZE, KEEPALIVE, START_MESSAGE

END_OF_AUDIO = ""

ASYNC_KINDS = [kind for kind in ALL_KINDS if kind.asynchronous]

SENDING_CALLS: list[tuple[Any, ...]] = [
    ("send_byte_chunk", b"audio"),
    ("send_bytes", b"audio"),
    ("send_bytes", [b"audio"]),
    ("send_control_message", RealtimeControlType.FINALIZE),
    ("keep_alive",),
    ("finalize",),
    ("pause",),
]


@contextmanager
def running(kind: Kind, **options: Any) -> Iterator[tuple[SessionDriver, Peer]]:
    """An entered session and its server, which says nothing."""
    options = {"keepalive_interval_sec": None, "ping_interval_sec": None, **options}
    with FakeServer(silent) as server, open_session(kind, server.url, **options) as driver:
        driver.enter()
        yield driver, server.peer()


def sent(driver: SessionDriver, peer: Peer) -> list[str | bytes]:
    """End the session without another message and return what came after the start message."""
    driver.abort()
    peer.wait_until_done()
    assert peer.messages[0] == START_MESSAGE
    return peer.messages[1:]


# send_byte_chunk()


def test_send_byte_chunk(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.send(b"\x01\x02")
        driver.send(b"\x03")
        assert driver.stats.sent_audio_bytes == 3
        assert sent(driver, peer) == [b"\x01\x02", b"\x03"]


@pytest.mark.parametrize(
    ("chunk", "content"),
    [
        (bytearray(b"abcd"), b"abcd"),
        (memoryview(b"abcd"), b"abcd"),
        (memoryview(b"xabcdx")[1:5], b"abcd"),
        (memoryview(array.array("h", [1, -2, 3])), array.array("h", [1, -2, 3]).tobytes()),
        (memoryview(array.array("f", [0.5, -1.0])), array.array("f", [0.5, -1.0]).tobytes()),
        (memoryview(bytes(range(12))).cast("B", (3, 4)), bytes(range(12))),
    ],
    ids=["bytearray", "memoryview", "slice", "int16", "float32", "two-dimensional"],
)
def test_send_byte_chunk_of_any_contiguous_buffer(
    kind: Kind, chunk: bytearray | memoryview, content: bytes
) -> None:
    with running(kind) as (driver, peer):
        driver.call("send_byte_chunk", chunk)
        driver.call("send_bytes", chunk)
        assert driver.stats.sent_audio_bytes == 2 * len(content)
        assert sent(driver, peer) == [content, content]


def test_send_byte_chunk_takes_a_copy(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        reused = bytearray(b"first")
        driver.call("send_byte_chunk", reused)
        reused[:] = b"later"
        driver.call("send_byte_chunk", reused)
        assert sent(driver, peer) == [b"first", b"later"]


@pytest.mark.parametrize("method", ["send_byte_chunk", "send_bytes"])
def test_audio_that_is_no_audio_is_refused(kind: Kind, method: str) -> None:
    with running(kind) as (driver, peer):
        with pytest.raises(TypeError):
            driver.call(method, "text")
        with pytest.raises(SonioxValidationError):
            driver.call(method, memoryview(b"abcdef")[::2])
        with pytest.raises(TypeError, match=r"audio must be bytes.* not NoneType"):
            driver.call(method, None)
        driver.send(b"still usable")
        assert sent(driver, peer) == [b"still usable"]


def test_empty_chunk_is_never_sent(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.send(b"")
        driver.call("send_bytes", b"")
        driver.call("send_bytes", [b"", b"audio", b"", bytearray()], finish=False)
        assert sent(driver, peer) == [b"audio"]


# send_bytes()


def chunks_of_an_iterator() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


@pytest.mark.parametrize(
    "make_chunks",
    [lambda: [b"one", b"two"], lambda: (b"one", b"two"), chunks_of_an_iterator],
    ids=["list", "tuple", "generator"],
)
def test_send_bytes_of_an_iterable_finishes(
    kind: Kind, make_chunks: Callable[[], Iterable[bytes]]
) -> None:
    with running(kind) as (driver, peer):
        driver.call("send_bytes", make_chunks())
        assert sent(driver, peer) == [b"one", b"two", END_OF_AUDIO]


def test_send_bytes_of_bytes_does_not_finish(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.call("send_bytes", b"one")
        driver.call("send_bytes", bytearray(b"two"))
        driver.call("send_bytes", memoryview(b"three"))
        assert sent(driver, peer) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("chunks", [b"one", [b"one"]], ids=["bytes", "iterable"])
def test_send_bytes_finish_wins(kind: Kind, chunks: bytes | list[bytes]) -> None:
    with running(kind) as (driver, peer):
        driver.call("send_bytes", chunks, finish=False)
        driver.call("send_bytes", chunks, finish=True)
        assert sent(driver, peer) == [b"one", b"one", END_OF_AUDIO]


def test_send_bytes_of_a_list_keeps_the_order(kind: Kind) -> None:
    chunks = [bytes([number]) * 3000 for number in range(40)]
    with running(kind) as (driver, peer):
        driver.call("send_bytes", chunks)
        assert sent(driver, peer) == [*chunks, END_OF_AUDIO]


def test_send_bytes_of_a_list_sends_what_comes_before_a_refused_chunk(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        with pytest.raises(TypeError, match="audio must be bytes"):
            driver.call("send_bytes", [b"one", b"two", "three", b"four"])
        driver.send(b"still usable")
        assert sent(driver, peer) == [b"one", b"two", b"still usable"]


@pytest.mark.parametrize("size", [LARGE_MESSAGE - 1, LARGE_MESSAGE, 1024 * 1024])
def test_large_chunks_arrive_whole(kind: Kind, size: int) -> None:
    chunk = random.Random(size).randbytes(size)
    with running(kind) as (driver, peer):
        driver.send(b"before")
        driver.send(chunk)
        driver.send(b"after")
        assert sent(driver, peer) == [b"before", chunk, b"after"]


def test_send_bytes_of_nothing_finishes(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.call("send_bytes", iter(()))
        assert sent(driver, peer) == [END_OF_AUDIO]


@pytest.mark.parametrize("kind", ASYNC_KINDS, ids=lambda kind: kind.value)
def test_send_bytes_of_an_async_iterable_finishes(kind: Kind) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        yield b""
        yield b"two"

    with running(kind) as (driver, peer):
        driver.call("send_bytes", chunks(), finish=False)
        driver.call("send_bytes", chunks())
        assert sent(driver, peer) == [b"one", b"two", b"one", b"two", END_OF_AUDIO]


def test_send_bytes_passes_on_what_the_iterable_raises(kind: Kind) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise OSError("microphone unplugged")

    with running(kind) as (driver, peer):
        with pytest.raises(OSError, match="microphone unplugged"):
            driver.call("send_bytes", chunks())
        driver.send(b"still usable")
        assert sent(driver, peer) == [b"one", b"still usable"]


# finish()


def test_finish_sends_end_of_audio_once(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.send(b"audio")
        driver.call("finish")
        driver.call("finish")
        driver.call("send_control_message", RealtimeControlType.FINISH)
        for call in SENDING_CALLS:
            with pytest.raises(SonioxStateError):
                driver.call(*call)
        assert driver.session.state is SessionState.FINISHING
        driver.close()
        peer.wait_until_done()
        assert peer.messages[1:] == [b"audio", END_OF_AUDIO]


# keep_alive()


def test_keep_alive(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.call("keep_alive")
        driver.call("keep_alive")
        assert driver.stats.sent_keepalives == 2
        assert sent(driver, peer) == [KEEPALIVE, KEEPALIVE]


def test_keepalives_flow_by_themselves_when_idle(kind: Kind) -> None:
    with running(kind, keepalive_interval_sec=0.05) as (driver, peer):
        peer.wait_for(lambda: peer.count(KEEPALIVE) >= 3)
        assert not driver.session.paused


def test_keepalives_can_be_switched_off(kind: Kind) -> None:
    with running(kind, keepalive_interval_sec=None, ping_interval_sec=0.1) as (driver, peer):
        driver.call("pause", finalize=False)
        peer.wait_for(lambda: peer.count_pings() >= 2)
        assert sent(driver, peer) == []


def test_keepalives_stop_with_end_of_audio(kind: Kind) -> None:
    options = {"keepalive_interval_sec": 0.05, "ping_interval_sec": 0.1}
    with running(kind, **options) as (driver, peer):
        peer.wait_for(lambda: peer.count(KEEPALIVE) >= 1)
        driver.call("finish")
        pings = peer.count_pings()
        peer.wait_for(lambda: peer.count_pings() >= pings + 3)
        messages = sent(driver, peer)
        assert messages[-1] == END_OF_AUDIO


# finalize()


def test_finalize(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.call("finalize")
        driver.call("finalize", trailing_silence_ms=300)
        for wrong in (-1, 0.5, "300"):
            with pytest.raises(SonioxValidationError):
                driver.call("finalize", trailing_silence_ms=wrong)
        assert driver.stats.sent_finalizes == 2
        with_silence = '{"type":"finalize","trailing_silence_ms":300}'
        assert sent(driver, peer) == [FINALIZE, with_silence]


# send_control_message()


def test_send_control_message(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.call("send_control_message", RealtimeControlType.KEEP_ALIVE)
        driver.call("send_control_message", RealtimeControlType.FINALIZE)
        driver.call("send_control_message", RealtimeControlType.FINISH)
        assert sent(driver, peer) == [KEEPALIVE, FINALIZE, END_OF_AUDIO]


def test_send_control_message_refuses_an_unknown_one(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        with pytest.raises(SonioxValidationError):
            driver.call("send_control_message", "applause")
        assert sent(driver, peer) == []


# pause() and resume()


def test_pause_drops_audio_and_counts_it(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.send(b"before")
        driver.call("pause")
        assert driver.session.paused
        driver.send(b"dropped")
        driver.call("send_bytes", [b"this", b"too"], finish=False)
        driver.call("pause")
        driver.call("resume")
        assert not driver.session.paused
        driver.call("resume")
        driver.send(b"after")
        assert driver.stats.dropped_while_paused_bytes == len(b"droppedthistoo")
        assert driver.stats.sent_audio_bytes == len(b"beforeafter")
        assert sent(driver, peer) == [b"before", FINALIZE, b"after"]


def test_pause_without_finalize(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.call("pause", finalize=False)
        assert driver.session.paused
        driver.call("resume")
        assert sent(driver, peer) == []


def test_pause_keeps_the_session_alive_while_nobody_receives(kind: Kind) -> None:
    with running(kind, keepalive_interval_sec=0.05) as (driver, peer):
        driver.call("pause")
        # Dropped audio is no traffic: it must not put the keepalives off.
        for count in range(1, 4):
            driver.send(b"dropped")
            peer.wait_for(lambda count=count: peer.count(KEEPALIVE) >= count)  # type: ignore[misc]
        assert peer.audio == b""
        driver.call("resume")


def test_finish_while_paused(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.send(b"audio")
        driver.call("pause", finalize=False)
        driver.call("finish")
        assert sent(driver, peer) == [b"audio", END_OF_AUDIO]


# close()


def test_close_sends_end_of_audio_if_it_is_owed(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.send(b"audio")
        driver.close()
        driver.close()
        peer.wait_until_done()
        assert peer.messages[1:] == [b"audio", END_OF_AUDIO]
        assert peer.close_codes == [1000]
        assert peer.left
        assert driver.outcome is Outcome.CLOSED_LOCALLY


def test_close_without_audio_sends_no_end_of_audio(kind: Kind) -> None:
    with running(kind) as (driver, peer):
        driver.close()
        peer.wait_until_done()
        assert peer.messages[1:] == []
        assert peer.close_codes == [1000]


def test_close_after_the_finished_response(kind: Kind) -> None:
    with FakeServer(obliging) as server, open_session(kind, server.url) as driver:
        with driver.connected():
            driver.call("send_bytes", [b"audio"])
            assert [event.finished for event in driver.collect()] == [True]
        assert driver.outcome is Outcome.FINISHED
        driver.close()
        peer = server.peer()
        peer.wait_until_done()
        assert peer.messages[1:] == [b"audio", END_OF_AUDIO]


def test_close_before_entering(kind: Kind) -> None:
    with FakeServer(silent) as server, open_session(kind, server.url) as driver:
        driver.close()
        driver.close()
        assert driver.outcome is None
        for call in (*SENDING_CALLS, ("enter",), ("receive_event",)):
            with pytest.raises(SonioxStateError):
                driver.call(*call)
        assert server.connections == 0


# All of them


@pytest.mark.parametrize(
    "call", [*SENDING_CALLS, ("finish",), ("resume",)], ids=lambda call: str(call[0])
)
def test_sending_before_entering_raises(kind: Kind, call: tuple[Any, ...]) -> None:
    with FakeServer(silent) as server, open_session(kind, server.url) as driver:
        with pytest.raises(SonioxRealtimeError, match="not connected"):
            driver.call(*call)
        # Nothing is remembered of it.
        driver.enter()
        assert sent(driver, server.peer()) == []
