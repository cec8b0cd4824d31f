"""The WebSocket layer by itself, in both roles, against bytes made by hand."""

from __future__ import annotations

import gc
import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection

from soniox_proto.websocket.connection import (
    Accepted,
    CloseReceived,
    PongReceived,
    Rejected,
    UpgradeRequested,
    Violation,
    WebSocket,
    close_code_may_be_sent,
)
from soniox_proto.websocket.framing import LARGE_MESSAGE
from soniox_proto.websocket.http_head import MAX_BODY_SIZE
from tests.support.core import frames
from tests.support.core.frames import CLIENT_MASK, Frame, Opcode
from tests.support.core.websocket import Received, one_by_one

MAX_SIZE = 100


def requesting(*, compression: bool = False) -> tuple[WebSocket, bytes]:
    """Return a client that has asked for the upgrade, and its request."""
    websocket = WebSocket(ConnectionType.CLIENT, max_message_size=MAX_SIZE, compression=compression)
    websocket.request_upgrade(host="localhost", target="/", headers=[], subprotocols=["a", "b"])
    return websocket, websocket.data_to_send()


def client(*, compression: bool = False) -> WebSocket:
    websocket, request = requesting(compression=compression)
    headers = [("Sec-WebSocket-Extensions", "permessage-deflate")] if compression else []
    (accepted,) = receive(websocket, frames.switching_protocols(request, headers))
    assert isinstance(accepted, Accepted)
    return websocket


def server() -> WebSocket:
    websocket = WebSocket(ConnectionType.SERVER, max_message_size=MAX_SIZE)
    (request,) = receive(websocket, frames.upgrade_request())
    assert isinstance(request, UpgradeRequested)
    websocket.accept(subprotocol=None, headers=[])
    websocket.data_to_send()
    return websocket


def receive(websocket: WebSocket, data: bytes) -> list[Received]:
    return list(one_by_one(websocket.receive_data(data)))


class TestClientHandshake:
    def test_request(self) -> None:
        websocket, request = requesting()
        head, rest = frames.split_head(request)
        assert head.start_line == "GET / HTTP/1.1"
        assert head.values("sec-websocket-protocol") == ["a, b"]
        assert head.values("sec-websocket-version") == ["13"]
        assert rest == b""
        assert not websocket.open
        assert websocket.data_to_send() == b""

    def test_acceptance_with_subprotocol_and_headers(self) -> None:
        websocket, request = requesting()
        headers = [("Sec-WebSocket-Protocol", "b"), ("X-One", "1"), ("x-one", "2"), ("Server", "x")]
        (accepted,) = receive(websocket, frames.switching_protocols(request, headers))
        assert accepted == Accepted("b", {"x-one": "1, 2", "server": "x"})
        assert websocket.open

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda answer: answer.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
            lambda answer: answer.replace(b"Connection: Upgrade", b"Connection: close"),
            lambda answer: answer.replace(b"Connection: Upgrade", b"Connection: \xff"),
            lambda answer: re.sub(rb"Accept: .", b"Accept: !", answer),
            lambda answer: answer[:-2] + b"Sec-WebSocket-Protocol: c\r\n\r\n",
            lambda answer: answer[:-2] + b"Sec-WebSocket-Extensions: gzip\r\n\r\n",
            lambda answer: b"\x16\x03\x01\x02" + answer,
            lambda answer: answer.replace(b"HTTP/1.1", b"SSH-2.0"),
        ],
    )
    def test_an_answer_that_is_none_is_a_violation(self, spoil: object) -> None:
        assert callable(spoil)
        websocket, request = requesting()
        (violation,) = receive(websocket, spoil(frames.switching_protocols(request)))
        assert isinstance(violation, Violation)
        assert violation.code == 1002
        assert violation.message.startswith("not a WebSocket handshake: ")
        assert not websocket.open
        assert receive(websocket, frames.switching_protocols(request)) == []
        assert websocket.data_to_send() == b""

    @pytest.mark.parametrize("parameters", ["server_max_window_bits=7", "client_max_window_bits"])
    def test_bad_parameters_of_an_offered_extension_are_a_violation(self, parameters: str) -> None:
        websocket, request = requesting(compression=True)
        headers = [("Sec-WebSocket-Extensions", f"permessage-deflate; {parameters}")]
        assert receive(websocket, frames.switching_protocols(request, headers)) == [
            Violation(1002, "not a WebSocket handshake: malformed header")
        ]

    @pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199"])
    def test_interim_answers_are_passed_over(self, status: str) -> None:
        """RFC 9110 section 15.2: any number of them may come before the answer."""
        websocket, request = requesting()
        interim = frames.http_head(f"HTTP/1.1 {status}", [("Link", "</style.css>")])
        assert receive(websocket, interim) == []
        data = interim + interim + frames.switching_protocols(request) + frames.text("hello")
        accepted, message = receive(websocket, data)
        assert isinstance(accepted, Accepted)
        assert message == "hello"

    def test_an_interim_answer_is_no_refusal_if_nothing_follows(self) -> None:
        websocket, _ = requesting()
        assert receive(websocket, frames.http_head("HTTP/1.1 103 Early Hints")) == []
        assert list(websocket.receive_eof()) == []

    def test_a_refusal_may_follow_an_interim_answer(self) -> None:
        websocket, _ = requesting()
        refusal = frames.http_head("HTTP/1.1 429 Too Many Requests", [("Content-Length", "4")])
        data = frames.http_head("HTTP/1.1 100 Continue") + refusal + b"wait"
        assert receive(websocket, data) == [Rejected(429, {"content-length": "4"}, b"wait")]

    @pytest.mark.parametrize("line", ["HTTP/1.1 1000 x", "HTTP/1.1 1x1 x", "HTTP/2 100 x"])
    def test_what_only_looks_like_an_interim_answer_is_a_violation(self, line: str) -> None:
        websocket, _ = requesting()
        (violation,) = receive(websocket, frames.http_head(line))
        assert isinstance(violation, Violation)


class TestServerHandshake:
    def test_request(self) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        headers = [("Sec-WebSocket-Protocol", "a, b"), ("X-One", "1")]
        (request,) = receive(websocket, frames.upgrade_request("/path?query", headers))
        assert isinstance(request, UpgradeRequested)
        assert request.target == "/path?query"
        assert request.subprotocols == ["a", "b"]
        assert request.headers["x-one"] == "1"
        assert request.headers["host"] == "localhost"

    def test_acceptance(self) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        receive(websocket, frames.upgrade_request(headers=[("Sec-WebSocket-Protocol", "a, b")]))
        websocket.accept(subprotocol="b", headers=[("Server", "x")])
        head, rest = frames.split_head(websocket.data_to_send())
        assert head.start_line.startswith("HTTP/1.1 101 ")
        assert head.values("sec-websocket-accept") == [
            frames.accept_token("AAECAwQFBgcICQoLDA0ODw==")
        ]
        assert (head.values("sec-websocket-protocol"), head.values("server")) == (["b"], ["x"])
        assert rest == b""
        assert websocket.open

    def test_refusal(self) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        receive(websocket, frames.upgrade_request())
        websocket.reject(429, headers=[("Retry-After", "7")], body=b"slow down")
        head, body = frames.split_head(websocket.data_to_send())
        assert head.start_line.startswith("HTTP/1.1 429 ")
        assert head.values("retry-after") == ["7"]
        assert (head.values("content-length"), head.values("connection")) == (["9"], ["close"])
        assert body == b"slow down"
        assert receive(websocket, frames.upgrade_request()) == []
        assert not websocket.open

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (frames.upgrade_request().replace(b"GET", b"POST"), "400"),
            (frames.upgrade_request().replace(b": 13", b": 8"), "426"),
            (frames.upgrade_request().replace(b"Upgrade: websocket\r\n", b""), "400"),
            (frames.upgrade_request().replace(b"Connection: Upgrade\r\n", b""), "400"),
            (re.sub(rb"Sec-WebSocket-Key: .*\r\n", b"", frames.upgrade_request()), "400"),
            (b"hello\r\n\r\n", "400"),
        ],
    )
    def test_a_request_that_is_none_is_answered_and_a_violation(
        self, request_bytes: bytes, status: str
    ) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        (violation,) = receive(websocket, request_bytes)
        assert isinstance(violation, Violation)
        head, _ = frames.split_head(websocket.data_to_send())
        assert head.start_line.startswith(f"HTTP/1.1 {status}")
        assert not websocket.open

    def test_headers_that_cannot_be_decoded_are_a_violation(self) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        request = frames.upgrade_request().replace(b"Host: localhost", b"Host: \xff")
        assert receive(websocket, request) == [
            Violation(1002, "not a WebSocket handshake: malformed header")
        ]


class TestMessages:
    @pytest.mark.parametrize("message", ["", "héllo", b"", b"\x00\xff", "x" * 70_000, b"y" * 126])
    def test_are_framed_whole_and_masked_by_the_client(self, message: str | bytes) -> None:
        websocket = client()
        websocket.send_message(message)
        (frame,) = frames.decode(websocket.data_to_send())
        assert frame.message == message

    def test_of_a_server_are_not_masked(self) -> None:
        websocket = server()
        websocket.send_message("hi")
        assert websocket.data_to_send() == frames.text("hi")

    def test_several_leave_as_one_piece_in_order(self) -> None:
        websocket = client()
        websocket.send_message("one")
        websocket.send_ping(b"two")
        websocket.send_message(b"three")
        assert frames.decode(websocket.data_to_send()) == [
            Frame(Opcode.TEXT, b"one"),
            Frame(Opcode.PING, b"two"),
            Frame(Opcode.BINARY, b"three"),
        ]

    @pytest.mark.parametrize("message", ["", "héllo", b"", b"\x00\xff"])
    def test_are_received_whole(self, message: str | bytes) -> None:
        data = frames.text(message) if isinstance(message, str) else frames.binary(message)
        assert receive(client(), data) == [message]

    @given(
        content=st.text(max_size=30),
        cuts=st.lists(st.integers(0, 100), max_size=4),
        text=st.booleans(),
    )
    def test_fragments_are_joined_around_control_frames(
        self, content: str, cuts: list[int], text: bool
    ) -> None:
        payload = content.encode()[:MAX_SIZE]
        content = payload.decode(errors="ignore")
        payload = content.encode()
        edges = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
        pieces = [payload[a:b] for a, b in itertools.pairwise(edges)]
        opcode = Opcode.TEXT if text else Opcode.BINARY
        data = b"".join(
            frames.encode(
                Opcode.CONTINUATION if index else opcode, piece, final=index == len(pieces) - 1
            )
            + frames.pong(b"between")
            for index, piece in enumerate(pieces)
        )
        events = [event for event in receive(client(), data) if not isinstance(event, PongReceived)]
        assert events == [content if text else payload]

    def test_one_message_after_a_fragmented_one_starts_afresh(self) -> None:
        websocket = client()
        fragments = frames.encode(Opcode.TEXT, b"a", final=False) + frames.encode(0, b"b")
        assert receive(websocket, fragments * 2 + frames.binary(b"c")) == ["ab", "ab", b"c"]

    def test_compressed_ones_are_inflated_and_sent_deflated(self) -> None:
        websocket = client(compression=True)
        websocket.send_message("hello " * 10)
        deflated = websocket.data_to_send()
        assert len(deflated) < 60
        assert deflated[0] == 0xC1, "the bit of RFC 7692 is set"
        mask, payload = deflated[2:6], deflated[6:]
        plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        assert receive(websocket, frames.encode(Opcode.TEXT, plain, reserved=4)) == ["hello " * 10]


class TestMessagesTogether:
    """Whole messages that follow each other come in one list."""

    def test_all_that_are_complete(self) -> None:
        websocket = client()
        data = frames.text("one") + frames.binary(b"two")
        assert list(websocket.receive_data(data + frames.text("half")[:4])) == [["one", b"two"]]
        assert list(websocket.receive_data(frames.text("half")[4:])) == [["half"]]
        assert list(websocket.receive_data(b"")) == []

    def test_what_comes_between_is_handled_in_its_turn(self) -> None:
        websocket = client()
        events = websocket.receive_data(
            frames.text("one") + frames.ping(b"now") + frames.text("two")
        )
        assert next(events) == ["one"]
        assert websocket.data_to_send() == b"", "the ping is not read yet"
        assert next(events) == ["two"]
        assert frames.decode(websocket.data_to_send()) == [Frame(Opcode.PONG, b"now")]
        assert list(events) == []

    def test_none_follow_the_end(self) -> None:
        websocket = client()
        data = frames.text("one") + frames.close(1001) + frames.text("two")
        assert list(websocket.receive_data(data)) == [["one"], CloseReceived(1001, "")]
        assert list(websocket.receive_data(frames.text("late"))) == []

    def test_none_follow_text_that_is_not_utf_8(self) -> None:
        websocket = client()
        bad = frames.encode(Opcode.TEXT, b"\xff")
        data = frames.text("one") + bad + frames.text("two")
        messages, violation = websocket.receive_data(data)
        assert messages == ["one"]
        assert isinstance(violation, Violation)
        assert violation.code == 1007
        assert list(websocket.receive_data(b"more")) == []

    def test_with_the_answer_to_the_upgrade(self) -> None:
        websocket, request = requesting()
        answer = frames.switching_protocols(request) + frames.text("one") + frames.text("two")
        assert list(websocket.receive_data(answer)) == [Accepted(None, {}), ["one", "two"]]

    def test_one_by_one_where_an_extension_changes_frames(self) -> None:
        websocket = client(compression=True)
        assert list(websocket.receive_data(frames.text("one") * 2)) == [["one"], ["one"]]

    def test_what_came_too_early_comes_first(self) -> None:
        websocket = WebSocket(ConnectionType.SERVER)
        early = frames.binary(b"one", mask=CLIENT_MASK)
        receive(websocket, frames.upgrade_request())
        assert list(websocket.receive_data(early)) == []
        websocket.accept(subprotocol=None, headers=[])
        assert websocket.pending
        two = frames.binary(b"two", mask=CLIENT_MASK)
        assert list(websocket.receive_data(two)) == [[b"one", b"two"]]
        assert not websocket.pending
        assert list(websocket.receive_data(early)) == [[b"one"]]


def test_messages_are_dropped_unless_the_websocket_is_open() -> None:
    websocket = client()
    websocket.send_message("first")
    websocket.send_close(1000)
    websocket.send_message("second")
    websocket.send_ping(b"third")
    first, closing = frames.decode(websocket.data_to_send())
    assert (first.message, closing.close_code) == ("first", 1000)
    early, _ = requesting()
    early.send_message(b"audio")
    early.send_ping(b"there?")
    assert early.data_to_send() == b""


@pytest.mark.parametrize("make", [client, server])
def test_wsproto_is_kept_out_of_memory_until_a_frame_needs_it(
    make: Callable[[], WebSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    websocket = make()
    mask = None if make is client else CLIENT_MASK
    made: list[ConnectionType] = []

    def make_connection(role: ConnectionType) -> Connection:
        made.append(role)
        return Connection(role)

    monkeypatch.setattr("soniox_proto.websocket.connection.Connection", make_connection)
    websocket.send_message("message")
    websocket.send_ping(b"ping")
    received = frames.ping(mask=mask) + frames.pong(mask=mask) + frames.binary(b"more", mask=mask)
    assert receive(websocket, received) == [PongReceived(b""), b"more"]
    assert not any(isinstance(kept, Connection) for kept in gc.get_referents(websocket))
    assert made == []
    websocket.send_close(1000)
    assert made == [ConnectionType.CLIENT if make is client else ConnectionType.SERVER]


class TestBuffers:
    @pytest.mark.parametrize("size", [LARGE_MESSAGE - 100, LARGE_MESSAGE, LARGE_MESSAGE + 1])
    @pytest.mark.parametrize("make", [client, server])
    def test_of_large_messages_are_not_joined(
        self, make: Callable[[], WebSocket], size: int
    ) -> None:
        websocket = make()
        messages: list[str | bytes] = ["before", b"x" * size, b"after"]
        for message in messages:
            websocket.send_message(message)
        buffers = websocket.buffers_to_send()
        assert (len(buffers) > 1) is (size >= LARGE_MESSAGE)
        sent = frames.decode(b"".join(buffers), from_client=make is client)
        assert [frame.message for frame in sent] == messages
        assert websocket.buffers_to_send() == []
        assert websocket.data_to_send() == b""

    def test_are_one_where_little_waits_and_none_where_nothing_does(self) -> None:
        websocket = client()
        assert websocket.buffers_to_send() == []
        websocket.send_message("one")
        websocket.send_ping(b"two")
        (buffer,) = websocket.buffers_to_send()
        assert len(frames.decode(buffer)) == 2

    def test_may_be_taken_as_one(self) -> None:
        websocket = client()
        message = b"x" * LARGE_MESSAGE
        websocket.send_message(message)
        (frame,) = frames.decode(websocket.data_to_send())
        assert frame.message == message


class TestSize:
    @pytest.mark.parametrize("unit", ["x", "é"])
    def test_counts_bytes_and_is_inclusive(self, unit: str) -> None:
        count = MAX_SIZE // len(unit.encode())
        assert receive(client(), frames.text(unit * count)) == [unit * count]
        assert receive(client(), frames.binary(b"x" * MAX_SIZE)) == [b"x" * MAX_SIZE]
        for data in (frames.text(unit * (count + 1)), frames.binary(b"x" * (MAX_SIZE + 1))):
            websocket = client()
            (violation,) = receive(websocket, data + frames.text("never read"))
            assert isinstance(violation, Violation)
            assert violation.code == 1009
            assert "max_message_size (100 bytes)" in violation.message
            assert [frame.close_code for frame in frames.decode(websocket.data_to_send())] == [1009]

    def test_is_that_of_all_fragments_together(self) -> None:
        websocket = client()
        piece = frames.encode(Opcode.CONTINUATION, b"x" * 40, final=False)
        first = frames.encode(Opcode.BINARY, b"x" * 40, final=False)
        assert receive(websocket, first + piece) == []
        (violation,) = receive(websocket, piece)
        assert isinstance(violation, Violation)

    def test_of_a_refusals_body_is_bounded(self) -> None:
        websocket, _ = requesting()
        body = b"x" * (MAX_BODY_SIZE + 1)
        (rejected,) = receive(websocket, frames.refusal("503 No", body))
        assert isinstance(rejected, Rejected)
        assert len(rejected.body) == MAX_BODY_SIZE
        assert receive(websocket, b"more") == []


class TestControlFrames:
    def test_pings_are_answered(self) -> None:
        websocket = client()
        assert receive(websocket, frames.ping(b"one") + frames.ping()) == []
        assert frames.decode(websocket.data_to_send()) == [
            Frame(Opcode.PONG, b"one"),
            Frame(Opcode.PONG, b""),
        ]

    @given(
        payloads=st.lists(st.binary(max_size=125), max_size=5), cuts=st.lists(st.integers(1, 300))
    )
    @pytest.mark.parametrize("masked", [False, True])
    def test_any_number_of_them_in_any_pieces(
        self, masked: bool, payloads: list[bytes], cuts: list[int]
    ) -> None:
        websocket, mask = (server(), CLIENT_MASK) if masked else (client(), None)
        sent = b"".join(
            frames.ping(payload, mask=mask) + frames.pong(payload, mask=mask)
            for payload in payloads
        )
        edges = [0, *sorted({cut for cut in cuts if cut < len(sent)}), len(sent)]
        events: list[Received] = []
        for start, stop in itertools.pairwise(edges):
            events += receive(websocket, sent[start:stop])
        assert events == [PongReceived(payload) for payload in payloads]
        answers = frames.decode(websocket.data_to_send(), from_client=not masked)
        assert answers == [Frame(Opcode.PONG, payload) for payload in payloads]

    def test_pongs_are_reported(self) -> None:
        assert receive(client(), frames.pong(b"one")) == [PongReceived(b"one")]

    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1011, 3000, 4999])
    def test_close_frames_are_reported_and_can_be_answered(self, code: int) -> None:
        websocket = client()
        assert receive(websocket, frames.close(code, "bye")) == [CloseReceived(code, "bye")]
        assert not websocket.open
        websocket.send_close(code)
        websocket.send_close(code)
        assert [frame.close_code for frame in frames.decode(websocket.data_to_send())] == [code]
        assert receive(websocket, frames.text("too late")) == []

    def test_a_close_frame_without_a_code_is_1005(self) -> None:
        assert receive(client(), frames.close(None)) == [CloseReceived(1005, "")]

    def test_our_close_frame_is_answered_by_the_peers(self) -> None:
        websocket = client()
        websocket.send_close(1000, "bye")
        (frame,) = frames.decode(websocket.data_to_send())
        assert frame.payload == b"\x03\xe8bye"
        assert receive(websocket, frames.text("last words") + frames.close()) == [
            "last words",
            CloseReceived(1000, ""),
        ]

    def test_before_the_handshake_there_is_nothing_to_close(self) -> None:
        websocket, _ = requesting()
        websocket.send_close(1000)
        assert websocket.data_to_send() == b""

    @pytest.mark.parametrize(
        ("code", "may"),
        [
            *[(code, True) for code in (1000, 1001, 1002, 1003, 1007, 1014, 3000, 4999)],
            *[(code, False) for code in (-1, 0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 70000)],
        ],
    )
    def test_codes_that_may_be_sent(self, code: int, may: bool) -> None:
        assert close_code_may_be_sent(code) is may


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frames.encode(3), 1002),
        (frames.encode(Opcode.TEXT, reserved=4), 1002),
        (frames.encode(Opcode.PING, final=False), 1002),
        (frames.encode(Opcode.PING, b"x" * 126), 1002),
        (frames.encode(Opcode.CONTINUATION, b"x"), 1002),
        (frames.encode(Opcode.TEXT, b"x", final=False) + frames.text("y"), 1002),
        (frames.text("masked", mask=CLIENT_MASK), 1002),
        (b"\x81\x7e\x00\x01x", 1002),
        (b"\x82\x7f\x80" + bytes(7), 1002),
        (frames.encode(Opcode.CLOSE, b"\x03"), 1002),
        (frames.close(999), 1002),
        (frames.close(1005), 1002),
        (frames.close(2000), 1002),
        (frames.close(5000), 1002),
        (frames.encode(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
        (frames.encode(Opcode.TEXT, b"\xff"), 1007),
        (frames.encode(Opcode.TEXT, "é".encode()[:1]), 1007),
    ],
)
def test_what_breaks_rfc_6455_is_a_violation_and_closes(data: bytes, code: int) -> None:
    websocket = client()
    events = receive(websocket, frames.text("before") + data + frames.text("after"))
    before, violation = events
    assert before == "before"
    assert isinstance(violation, Violation)
    assert violation.code == code
    assert [frame.close_code for frame in frames.decode(websocket.data_to_send())] == [code]
    assert not websocket.open
    assert receive(websocket, frames.text("after")) == []


@given(data=st.binary(max_size=300))
def test_no_bytes_whatever_raise(data: bytes) -> None:
    requested, _ = requesting()
    for websocket in (
        client(),
        client(compression=True),
        server(),
        requested,
        WebSocket(ConnectionType.SERVER),
    ):
        receive(websocket, data)
        list(websocket.receive_eof())
