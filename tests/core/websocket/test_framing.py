"""Direct framing gives what wsproto gives, for any bytes, cut anywhere."""

from __future__ import annotations

import itertools
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

from soniox_proto.websocket import framing
from soniox_proto.websocket.connection import WebSocket
from soniox_proto.websocket.framing import (
    BINARY_FRAME,
    INTEGER_MASKING_LIMIT,
    KEYS_IN_POOL,
    TEXT_FRAME,
    FrameReader,
    FrameWriter,
    apply_mask_in_python,
)
from tests.support.core.frames import CLIENT_MASK, Opcode, encode
from tests.support.core.websocket import Received, one_by_one

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


def receive(websocket: WebSocket, pieces: Sequence[bytes]) -> tuple[list[Received], bytes]:
    events = [event for piece in pieces for event in one_by_one(websocket.receive_data(piece))]
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


def test_keys_are_used_once_and_in_the_order_in_which_they_were_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = itertools.count()

    def draw(size: int) -> bytes:
        return b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4))

    monkeypatch.setattr(os, "urandom", draw)
    writers = [FrameWriter(masked=True) for _ in range(2)]
    frames = [writers[at % 2].frame(BINARY_FRAME, b"ab") for at in range(1000)]
    keys = [frame[2:6] for frame in frames]
    assert len(set(keys)) == 1000
    assert keys[::2] == sorted(keys[::2])
    for frame, key in zip(frames, keys, strict=True):
        assert frame == encode(Opcode.BINARY, b"ab", mask=key)


SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 3840, 65535, 65536, 70_000])


@given(st.lists(st.tuples(st.sampled_from([TEXT_FRAME, BINARY_FRAME]), SIZES), max_size=12))
def test_headers_are_right_whatever_was_framed_before(steps: list[tuple[int, int]]) -> None:
    client, server = FrameWriter(masked=True), FrameWriter(masked=False)
    for first_byte, size in steps:
        payload = b"x" * size
        opcode = first_byte & 0x0F
        assert client.frame(first_byte, payload) == encode(opcode, payload, mask=b"key ")
        assert server.frame(first_byte, payload) == encode(opcode, payload)


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


def read_all(reader: FrameReader, pieces: Sequence[bytes]) -> tuple[list[str | bytes], bytes]:
    """Return the messages, and all that was left to wsproto, up to text that is not UTF-8."""
    messages: list[str | bytes] = []
    foreign = b""
    for piece in pieces:
        messages += reader.read(piece)
        while reader.stopped and not reader.invalid_text:
            taken = bytes(reader.read_delegated())
            assert taken, "where it stops there is something"
            foreign += taken
            messages += reader.read()
    return messages, foreign


OURS = st.one_of(
    st.text(max_size=20).map(lambda content: (content, encode(Opcode.TEXT, content.encode()))),
    st.binary(max_size=200).map(lambda content: (content, encode(Opcode.BINARY, content))),
)
FRAGMENTED = st.lists(st.binary(max_size=5), max_size=3).map(
    lambda parts: (
        encode(Opcode.TEXT, b"first", final=False)
        + b"".join(encode(Opcode.CONTINUATION, part, final=False) for part in parts)
        + encode(Opcode.PING, b"between")
        + encode(Opcode.CONTINUATION, b"last")
    )
)
LEFT = st.one_of(
    st.binary(max_size=125).map(lambda payload: encode(Opcode.PING, payload)),
    st.just(encode(Opcode.PONG)),
    st.just(encode(Opcode.BINARY, b"x" * (MAX_MESSAGE_SIZE + 1))),
    st.just(encode(Opcode.TEXT, b"masked", mask=CLIENT_MASK)),
    st.just(encode(Opcode.TEXT, b"extended", reserved=4)),
    st.just(encode(Opcode.PING, b"x" * 70_000)),
    FRAGMENTED,
).map(lambda raw: (None, raw))


@given(st.lists(OURS | OURS | LEFT, max_size=8), CUTS)
def test_whole_messages_are_read_and_all_the_rest_is_left(
    parts: list[tuple[str | bytes | None, bytes]], cuts: Sequence[int]
) -> None:
    reader = FrameReader(masked=False, max_message_size=MAX_MESSAGE_SIZE)
    stream = b"".join(raw for _, raw in parts)
    messages, foreign = read_all(reader, pieces_of(stream, cuts))
    assert messages == [message for message, _ in parts if message is not None]
    assert foreign == b"".join(raw for message, raw in parts if message is None)
    assert not reader.stopped
    assert reader.read() == []


def test_a_reader_stops_where_something_else_begins() -> None:
    reader = FrameReader(masked=False, max_message_size=MAX_MESSAGE_SIZE)
    ping, after = encode(Opcode.PING, b"now"), encode(Opcode.TEXT, b"after")
    assert reader.read(encode(Opcode.TEXT, b"before") + ping + after) == ["before"]
    assert reader.stopped
    assert bytes(reader.read_delegated()) == ping
    assert reader.read() == ["after"]
    assert not reader.stopped


def test_a_frame_that_is_left_may_come_in_pieces() -> None:
    reader = FrameReader(masked=False, max_message_size=MAX_MESSAGE_SIZE)
    ping = encode(Opcode.PING, b"now")
    assert reader.read(ping[:3]) == []
    assert bytes(reader.read_delegated()) == ping[:3]
    assert reader.read() == []
    assert not reader.stopped, "there is nothing more"
    assert reader.read(ping[3:] + encode(Opcode.BINARY, b"after")) == []
    assert bytes(reader.read_delegated()) == ping[3:]
    assert reader.read() == [b"after"]


@pytest.mark.parametrize("cut", range(9))
def test_text_that_is_not_utf_8_ends_it(cut: int) -> None:
    reader = FrameReader(masked=False, max_message_size=MAX_MESSAGE_SIZE)
    assert reader.read(encode(Opcode.TEXT, b"before")) == ["before"]
    assert not reader.invalid_text
    bad = encode(Opcode.TEXT, b"ab\xffcdef")
    messages = reader.read(bad[:cut]) if cut else []
    if not reader.invalid_text:
        messages += reader.read(bad[cut:])
    assert messages == []
    assert reader.stopped
    assert reader.invalid_text


def test_what_came_before_text_that_is_not_utf_8_is_read() -> None:
    reader = FrameReader(masked=False, max_message_size=MAX_MESSAGE_SIZE)
    stream = encode(Opcode.TEXT, b"one") + encode(Opcode.BINARY, b"\xff")
    assert reader.read(stream + encode(Opcode.TEXT, b"\xff")) == ["one", b"\xff"]
    assert reader.invalid_text


def test_a_server_reads_masked_audio_and_leaves_text() -> None:
    reader = FrameReader(masked=True, max_message_size=MAX_MESSAGE_SIZE)
    audio = encode(Opcode.BINARY, b"audio", mask=CLIENT_MASK)
    text = encode(Opcode.TEXT, b"text", mask=CLIENT_MASK)
    assert read_all(reader, [audio + text + audio]) == ([b"audio", b"audio"], text)
    assert read_all(reader, [audio[:8], audio[8:] + text[:3], text[3:]]) == ([b"audio"], text)
    bare = encode(Opcode.BINARY, b"not masked")
    assert read_all(reader, [bare]) == ([], bare)
