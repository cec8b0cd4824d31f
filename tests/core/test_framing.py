"""Direct framing gives what wsproto gives, for any bytes, cut anywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Request,
    TextMessage,
)

from soniox_proto import framing
from soniox_proto.framing import (
    BINARY_FRAME,
    INTEGER_MASKING_LIMIT,
    KEYS_IN_POOL,
    TEXT_FRAME,
    FrameReader,
    FrameWriter,
    apply_mask_in_python,
)
from soniox_proto.websocket import WebSocket, WebSocketEvent
from tests.support.core_frames import CLIENT_MASK, Opcode, encode

MAX_MESSAGE_SIZE = 300


@pytest.fixture(autouse=True)
def no_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: b"key " * (size // 4))


def open_pair(*, direct: bool) -> tuple[WebSocket, WSConnection]:
    """Return an open client of ours, and a raw server that it talks to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WebSocket, "direct_framing", direct)
        client = WebSocket(ConnectionType.CLIENT, max_message_size=MAX_MESSAGE_SIZE)
        client.request_upgrade(host="server", target="/", headers=[], subprotocols=[])
        server = WSConnection(ConnectionType.SERVER)
        server.receive_data(client.data_to_send())
        assert isinstance(next(server.events()), Request)
        list(client.receive_data(server.send(AcceptConnection())))
    return client, server


def open_server(*, direct: bool) -> WebSocket:
    """Return an open server of ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WebSocket, "direct_framing", direct)
        server = WebSocket(ConnectionType.SERVER, max_message_size=MAX_MESSAGE_SIZE)
        client = WSConnection(ConnectionType.CLIENT)
        list(server.receive_data(client.send(Request(host="server", target="/"))))
        server.accept(subprotocol=None, headers=[])
        server.data_to_send()
    return server


def receive(websocket: WebSocket, pieces: Sequence[bytes]) -> tuple[list[WebSocketEvent], bytes]:
    events = [event for piece in pieces for event in websocket.receive_data(piece)]
    return events, websocket.data_to_send()


def pieces_of(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(places)]


def payloads() -> st.SearchStrategy[bytes]:
    sizes = st.sampled_from([0, 1, 125, 126, 127, MAX_MESSAGE_SIZE, MAX_MESSAGE_SIZE + 1])
    return st.one_of(
        st.text(max_size=20).map(str.encode),
        st.binary(max_size=20),
        sizes.map(lambda size: b"x" * size),
    )


def frames(mask: bytes | None) -> st.SearchStrategy[bytes]:
    """Frames of which most are legal."""
    common = st.sampled_from([Opcode.TEXT, Opcode.BINARY])
    legal = st.builds(encode, common, payloads(), mask=st.just(mask))
    fragments = st.builds(
        encode,
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION]),
        payloads(),
        final=st.booleans(),
        mask=st.just(mask),
    )
    control = st.builds(
        encode,
        st.sampled_from([Opcode.PING, Opcode.PONG]),
        st.binary(max_size=125),
        mask=st.just(mask),
    )
    closes = st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x03", b"\x00\x01"]).map(
        lambda payload: encode(Opcode.CLOSE, payload, mask=mask)
    )
    wild = st.builds(
        encode,
        st.integers(0, 15),
        payloads(),
        final=st.booleans(),
        reserved=st.integers(0, 7),
        mask=st.sampled_from([None, CLIENT_MASK]),
    )
    wasteful = st.sampled_from([b"\x81\x7e\x00\x05hello", b"\x82\x7f" + bytes(7) + b"\x05hello"])
    return st.one_of(legal, legal, legal, fragments, control, closes, wild, wasteful)


def streams(mask: bytes | None) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda parts, rest: b"".join(parts) + rest,
        st.lists(frames(mask), max_size=8),
        st.binary(max_size=12),
    )


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(streams(None), CUTS)
@example(encode(Opcode.TEXT, b"ab") * 3, [])
@example(encode(Opcode.TEXT, "é".encode() * 20), list(range(50)))
@example(b"\x81\x7f\x40" + bytes(7), [])
@example(b"\x89\x7e", [])
def test_a_client_hears_the_same_either_way(stream: bytes, cuts: Sequence[int]) -> None:
    pieces = pieces_of(stream, cuts)
    direct, slow = (open_pair(direct=choice)[0] for choice in (True, False))
    assert receive(direct, pieces) == receive(slow, pieces)
    assert direct.open == slow.open


@given(streams(CLIENT_MASK), CUTS)
def test_a_server_hears_the_same_either_way(stream: bytes, cuts: Sequence[int]) -> None:
    pieces = pieces_of(stream, cuts)
    direct, slow = (open_server(direct=choice) for choice in (True, False))
    assert receive(direct, pieces) == receive(slow, pieces)
    assert direct.open == slow.open


@given(streams(None), CUTS)
def test_cutting_changes_nothing(stream: bytes, cuts: Sequence[int]) -> None:
    whole, cut, bytewise = (open_pair(direct=True)[0] for _ in range(3))
    expected = receive(whole, [stream])
    assert receive(cut, pieces_of(stream, cuts)) == expected
    assert receive(bytewise, [stream[at : at + 1] for at in range(len(stream))]) == expected


@given(streams(None))
def test_after_our_close_frame_both_ways_agree_too(stream: bytes) -> None:
    direct, slow = (open_pair(direct=choice)[0] for choice in (True, False))
    for client in (direct, slow):
        client.send_close(1000)
    assert receive(direct, [stream]) == receive(slow, [stream])


@given(st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300)), max_size=5))
@example([b"x" * 125, b"x" * 126, b"x" * 65535, b"x" * 65536, "", b""])
def test_what_is_sent_is_understood(messages: Sequence[str | bytes]) -> None:
    client, server = open_pair(direct=True)
    for message in messages:
        client.send_message(message)
    client.send_close(1000)
    server.receive_data(client.data_to_send())
    received = list(server.events())
    assert isinstance(received.pop(), CloseConnection)
    whole: list[str | bytes] = []
    for event in received:
        assert isinstance(event, TextMessage | BytesMessage)
        assert event.message_finished
        whole.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
    assert whole == messages


def test_a_new_key_masks_each_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def draw(size: int) -> bytes:
        drawn.append(b"".join(at.to_bytes(4, "big") for at in range(len(drawn), size // 4)))
        return drawn[-1]

    monkeypatch.setattr(os, "urandom", draw)
    writer = FrameWriter(masked=True)
    keys = [writer.frame(BINARY_FRAME, b"")[2:6] for _ in range(KEYS_IN_POOL)]
    assert len(set(keys)) == KEYS_IN_POOL
    assert len(drawn) == 1
    writer.frame(BINARY_FRAME, b"")
    assert len(drawn) == 2


def test_a_server_does_not_mask() -> None:
    assert FrameWriter(masked=False).frame(TEXT_FRAME, b"hi") == b"\x81\x02hi"


@given(st.binary(max_size=40), st.binary(min_size=4, max_size=4))
@example(bytes(INTEGER_MASKING_LIMIT), b"abcd")
@example(bytes(INTEGER_MASKING_LIMIT + 3), b"abcd")
def test_masking_in_python(data: bytes, key: bytes) -> None:
    expected = bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
    assert apply_mask_in_python(data, key) == expected
    assert apply_mask_in_python(expected, key) == data


@pytest.fixture
def without_cache() -> Iterator[None]:
    framing.best_mask.cache_clear()
    yield
    framing.best_mask.cache_clear()


@pytest.mark.usefixtures("without_cache")
def test_masking_needs_no_other_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    assert framing.best_mask() is apply_mask_in_python


def test_masking_in_c_is_the_same() -> None:
    assert framing.best_mask() is not apply_mask_in_python
    assert framing.best_mask()(b"hello", b"abcd") == apply_mask_in_python(b"hello", b"abcd")


def test_a_held_header_takes_no_memory_to_speak_of() -> None:
    reader = FrameReader(masked=False, max_message_size=10)
    for byte in b"\x82\x7f" + b"\x7f" * 7:
        assert list(reader.read(bytes([byte]))) == []
