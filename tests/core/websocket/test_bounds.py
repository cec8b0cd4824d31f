"""What a peer can make the WebSocket layer keep is bounded, however it goes about it."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from wsproto import ConnectionType

from soniox_proto.websocket.connection import (
    MAX_EMPTY_FRAGMENTS,
    Accepted,
    Rejected,
    UpgradeRequested,
    Violation,
    WebSocket,
)
from soniox_proto.websocket.http_head import MAX_HEAD_SIZE
from tests.support.core import frames
from tests.support.core.frames import CLIENT_MASK, Opcode
from tests.support.core.websocket import Received, one_by_one

LARGE = [("X-Large", "x" * MAX_HEAD_SIZE)]


def requesting(**options: bool) -> tuple[WebSocket, bytes]:
    websocket = WebSocket(ConnectionType.CLIENT, max_message_size=1000, **options)
    websocket.request_upgrade(host="localhost", target="/", headers=[], subprotocols=[])
    return websocket, websocket.data_to_send()


def feed(websocket: WebSocket, data: bytes, size: int) -> list[Received]:
    """Feed `data` in pieces of `size` bytes."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [event for piece in pieces for event in one_by_one(websocket.receive_data(piece))]


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
class TestHeads:
    def test_of_an_answer(self, size: int) -> None:
        websocket, request = requesting()
        answer = frames.switching_protocols(request, LARGE)
        (violation,) = feed(websocket, answer, size)
        assert isinstance(violation, Violation)
        assert f"the head is larger than {MAX_HEAD_SIZE} bytes" in violation.message
        assert websocket.data_to_send() == b""

    def test_of_a_request(self, size: int) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        (violation,) = feed(websocket, frames.upgrade_request(headers=LARGE), size)
        assert isinstance(violation, Violation)
        assert websocket.data_to_send().startswith(b"HTTP/1.1 431 ")

    def test_those_within_the_bound_are_taken(self, size: int) -> None:
        websocket, request = requesting()
        answer = frames.switching_protocols(request, [("X-Large", "x" * (MAX_HEAD_SIZE - 200))])
        (accepted,) = feed(websocket, answer, size)
        assert isinstance(accepted, Accepted)


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
class TestEarlyData:
    """Frames that a client sends before its request is answered, which RFC 6455 forbids."""

    MESSAGE = frames.binary(b"early", mask=CLIENT_MASK)

    def test_is_kept_until_the_request_is_accepted(self, size: int) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        (request,) = feed(websocket, frames.upgrade_request() + self.MESSAGE * 3, size)
        assert isinstance(request, UpgradeRequested)
        assert not websocket.pending
        websocket.accept(subprotocol=None, headers=[])
        assert websocket.pending
        late = frames.binary(b"late", mask=CLIENT_MASK)
        assert feed(websocket, late, len(late)) == [b"early"] * 3 + [b"late"]
        assert not websocket.pending

    def test_is_dropped_when_the_request_is_refused(self, size: int) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        feed(websocket, frames.upgrade_request() + self.MESSAGE, size)
        websocket.reject(503)
        assert not websocket.pending
        assert list(websocket.receive_data(b"")) == []

    def test_is_bounded(self, size: int) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        flood = frames.binary(b"x" * MAX_HEAD_SIZE, mask=CLIENT_MASK)
        request, violation = feed(websocket, frames.upgrade_request() + flood, size)
        assert isinstance(request, UpgradeRequested)
        assert isinstance(violation, Violation)
        assert websocket.data_to_send().startswith(b"HTTP/1.1 400 ")
        assert not websocket.pending


def peak_memory(websocket: WebSocket, data: bytes) -> tuple[list[Received], int]:
    """Feed `data` at once; return the events and the most memory that this took."""
    tracemalloc.start()
    try:
        return list(one_by_one(websocket.receive_data(data))), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_frame_that_inflates_to_a_large_message_takes_little_memory() -> None:
    websocket, request = requesting(compression=True)
    headers = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    (accepted,) = feed(websocket, frames.switching_protocols(request, headers), 1 << 20)
    assert isinstance(accepted, Accepted)
    deflate = zlib.compressobj(wbits=-15)
    bomb = deflate.compress(bytes(64 << 20)) + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]
    assert len(bomb) < 1 << 17
    events, peak = peak_memory(websocket, frames.encode(Opcode.BINARY, bomb, reserved=4))
    (violation,) = events
    assert isinstance(violation, Violation)
    assert violation.code == 1009
    assert peak < 8 << 20


def test_a_body_of_tiny_chunks_takes_little_memory() -> None:
    websocket, _ = requesting()
    head = frames.http_head("HTTP/1.1 503 Busy", [("Transfer-Encoding", "chunked")])
    events, peak = peak_memory(websocket, head + b"1\r\nx\r\n" * 5_000 + b"0\r\n\r\n")
    (rejected,) = events
    assert isinstance(rejected, Rejected)
    assert rejected.body == b"x" * 5_000
    assert peak < 300_000


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_message_of_tiny_fragments_takes_little_memory(opcode: Opcode) -> None:
    websocket = WebSocket(ConnectionType.CLIENT, max_message_size=1 << 20)
    websocket.request_upgrade(host="localhost", target="/", headers=[], subprotocols=[])
    feed(websocket, frames.switching_protocols(websocket.data_to_send()), 1 << 20)
    fragment = frames.encode(Opcode.CONTINUATION, b"four", final=False)
    data = frames.encode(opcode, b"four", final=False) + fragment * 5_000
    events, peak = peak_memory(websocket, data + frames.encode(Opcode.CONTINUATION, b"end"))
    (message,) = events
    assert message == (
        "four" * 5_001 + "end" if opcode is Opcode.TEXT else b"four" * 5_001 + b"end"
    )
    assert peak < 200_000


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize(("excess", "ends"), [(0, False), (1, True)])
def test_the_empty_fragments_of_one_message_are_bounded(
    size: int, compression: bool, excess: int, ends: bool
) -> None:
    websocket, request = requesting(compression=compression)
    headers = [("Sec-WebSocket-Extensions", "permessage-deflate")] if compression else []
    (accepted,) = feed(websocket, frames.switching_protocols(request, headers), 1 << 20)
    assert isinstance(accepted, Accepted)
    empty = frames.encode(Opcode.CONTINUATION, b"", final=False)
    begun = frames.encode(Opcode.TEXT, b"{", final=False)
    ended = frames.encode(Opcode.CONTINUATION, b"}")
    data = begun + empty * (MAX_EMPTY_FRAGMENTS + excess) + ended
    # Each message has its own.
    data = begun + empty * MAX_EMPTY_FRAGMENTS + ended + data
    first, second = feed(websocket, data, size)
    assert first == "{}"
    if ends:
        assert isinstance(second, Violation)
        assert second.code == 1008
        assert frames.decode(websocket.data_to_send())[-1].close_code == 1008
    else:
        assert second == "{}"
