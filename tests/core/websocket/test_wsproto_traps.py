"""Where wsproto surprises: each trap as raw wsproto sets it, and how our layer steps over it.

The tests of raw wsproto notice when a new version behaves otherwise; our layer may then be
simplified.
"""

from __future__ import annotations

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import XorMaskerSimple
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from soniox_proto import (
    Closed,
    Opened,
    Outcome,
    Result,
    SessionState,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxStateError,
)
from soniox_proto.websocket.http_head import MAX_BODY_SIZE
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import Frame, Opcode
from tests.support.core.messages import FINISHED, KEEPALIVE, START_MESSAGE, result
from tests.support.core.protocol import kinds
from tests.support.core.random import counting_random

HELLO = frames.text(result("hello"))
BAD_FRAME = frames.encode(3)


class Raw:
    """Raw wsproto as a client."""

    def __init__(self, *, compression: bool = False) -> None:
        self.wsproto = WSConnection(ConnectionType.CLIENT)
        self.request = self.wsproto.send(Request(host="localhost", target="/"))

    def open(self) -> Raw:
        (accepted,) = self.feed(frames.switching_protocols(self.request))
        assert isinstance(accepted, AcceptConnection)
        return self

    def feed(self, data: bytes | None) -> list[Event]:
        self.wsproto.receive_data(data)
        return list(self.wsproto.events())

    def send(self, event: Event) -> bytes:
        return self.wsproto.send(event)

    @property
    def state(self) -> ConnectionState:
        return self.wsproto.state


class TestTrap01FramingErrorsLookLikeCloseFramesOfThePeer:
    def test_raw(self) -> None:
        raw = Raw().open()
        (close,) = raw.feed(BAD_FRAME)
        assert isinstance(close, CloseConnection)
        assert close.code == 1002
        assert raw.state is ConnectionState.OPEN
        assert raw.feed(HELLO) == []
        assert raw.send(TextMessage("still framed"))

    def test_ours_closes_with_the_code_and_reads_no_further(self) -> None:
        client = Client().open()
        (closed,) = client.feed(BAD_FRAME + HELLO)
        assert isinstance(closed, Closed)
        assert (closed.outcome, closed.code) == (Outcome.LOST, 1006)
        assert isinstance(closed.error, SonioxProtocolError)
        assert closed.error.close_code == 1002
        assert client.close_codes == [1002]
        with pytest.raises(SonioxStateError):
            client.connection.send_audio(b"more", client.now)
        assert client.feed(HELLO) == []


class TestTrap02PingsAfterOurCloseCannotBeAnswered:
    def test_raw(self) -> None:
        raw = Raw().open()
        raw.send(CloseConnection(1000))
        (ping,) = raw.feed(frames.ping(b"?"))
        assert isinstance(ping, Ping)
        with pytest.raises(LocalProtocolError):
            raw.send(ping.response())

    def test_ours_ignores_them(self) -> None:
        client = Client().open()
        client.connection.close(client.now)
        client.drain()
        assert client.feed(frames.ping(b"?") + HELLO)
        assert client.drain() == []
        assert client.connection.state is SessionState.CLOSING


class TestTrap03TheEndOfTheStreamIsReportedAfterACleanCloseToo:
    def test_raw(self) -> None:
        raw = Raw().open()
        raw.feed(frames.close())
        raw.send(CloseConnection(1000))
        (again,) = raw.feed(None)
        assert isinstance(again, CloseConnection)
        assert again.code == 1006

        early = Raw()
        with pytest.raises(RemoteProtocolError):
            early.feed(None)
        assert early.state is ConnectionState.CONNECTING

    def test_ours_knows_that_it_is_closed(self) -> None:
        client = Client().open()
        client.feed(frames.close())
        assert client.eof() == []
        assert client.eof() == []
        assert client.closed.outcome is Outcome.CLOSED_BY_SERVER

    def test_ours_is_lost_without_a_close_frame_and_before_the_answer(self) -> None:
        opened = Client().open()
        opened.eof()
        assert (opened.closed.outcome, opened.closed.code) == (Outcome.LOST, 1006)
        early = Client()
        early.connect()
        early.eof()
        assert (early.closed.outcome, early.closed.code) == (Outcome.LOST, None)
        assert "before the server answered" in str(early.closed.error)


class TestTrap04NoBytesMeanTheEndOfTheStreamDuringTheHandshake:
    def test_raw(self) -> None:
        with pytest.raises(RemoteProtocolError):
            Raw().feed(b"")
        assert Raw().open().feed(b"") == []

    def test_ours_takes_no_bytes_for_nothing(self) -> None:
        client = Client()
        client.connect()
        assert client.feed(b"") == []
        assert kinds(client.accept()) == [Opened]
        assert client.feed(b"") == []
        assert client.connection.state is SessionState.OPEN


class TestTrap05BytesAfterTheCloseHandshakeRaise:
    def test_raw(self) -> None:
        raw = Raw().open()
        raw.feed(frames.close())
        assert raw.feed(HELLO) == [], "ignored while the answer is owed"
        raw.send(CloseConnection(1000))
        with pytest.raises(LocalProtocolError):
            raw.feed(HELLO)

    def test_ours_ignores_them(self) -> None:
        client = Client().open()
        client.feed(frames.close() + HELLO)
        assert client.feed(HELLO + BAD_FRAME) == []
        assert kinds(client.events) == [Opened, Closed]


class TestTrap06NoFrameIsTooLarge:
    ENDLESS = b"\x81\x7f" + (1 << 62).to_bytes(8, "big")

    def test_raw(self) -> None:
        raw = Raw().open()
        assert raw.feed(self.ENDLESS) == []
        (piece,) = raw.feed(b"x" * 1000)
        assert isinstance(piece, TextMessage)
        assert not piece.message_finished

    def test_ours_is_bounded_by_max_message_size(self) -> None:
        client = Client(max_message_size=1000).open()
        assert client.feed(self.ENDLESS + b"x" * 999) == []
        assert client.feed(b"x") == []
        (closed,) = client.feed(b"x")
        assert isinstance(closed, Closed)
        assert closed.outcome is Outcome.LOST
        assert client.close_codes == [1009]


class TestTrap07OneFrameInTenReadsIsTenMessages:
    def test_raw(self) -> None:
        raw = Raw().open()
        pieces = [event for byte in HELLO for event in raw.feed(bytes([byte]))]
        assert len(pieces) > 10
        last = pieces[-1]
        assert isinstance(last, TextMessage)
        assert last.message_finished

    def test_ours_joins_them(self) -> None:
        client = Client().open()
        events = [event for byte in HELLO for event in client.feed(bytes([byte]))]
        assert kinds(events) == [Result]


class TestTrap08ARefusalComesInPieces:
    ANSWER = frames.refusal("403 Forbidden", b"no such project", [("X-Request-Id", "r-1")])

    def test_raw(self) -> None:
        raw = Raw()
        events = raw.feed(self.ANSWER)
        assert kinds(events) == [RejectConnection, RejectData, RejectData]
        assert isinstance(events[-1], RejectData)
        assert events[-1].body_finished

        head, body = self.ANSWER[:-15], self.ANSWER[-15:]
        cut = Raw()
        assert kinds(cut.feed(head)) == [RejectConnection]
        assert cut.state is ConnectionState.REJECTING
        assert kinds([event for byte in body for event in cut.feed(bytes([byte]))])[0] is RejectData

    def test_ours_is_one_error_with_the_whole_body(self) -> None:
        client = Client()
        client.connect()
        for byte in self.ANSWER:
            client.feed(bytes([byte]))
        error = client.closed.error
        assert client.closed.outcome is Outcome.REJECTED
        assert isinstance(error, SonioxHandshakeError)
        assert (error.status_code, error.body) == (403, b"no such project")
        assert error.headers["x-request-id"] == "r-1"
        assert str(error).endswith("HTTP status 403: no such project")

    def test_the_end_of_the_stream_may_end_the_body(self) -> None:
        client = Client()
        client.connect()
        head = frames.http_head("HTTP/1.1 502 Bad Gateway", [("Connection", "close")])
        assert client.feed(head + b"upstream ") == []
        assert client.feed(b"is down") == []
        client.eof()
        error = client.closed.error
        assert isinstance(error, SonioxHandshakeError)
        assert (error.status_code, error.body) == (502, b"upstream is down")

    def test_a_body_that_does_not_end_is_cut_at_its_bound_or_at_the_deadline(self) -> None:
        head = frames.http_head("HTTP/1.1 503 Busy", [("Content-Length", "9" * 15)])
        flood = Client()
        flood.connect()
        flood.feed(head)
        while not flood.feed(b"x" * 8192):
            pass
        assert isinstance(flood.closed.error, SonioxHandshakeError)
        assert len(flood.closed.error.body) == MAX_BODY_SIZE

        trickle = Client()
        trickle.connect()
        trickle.feed(head + b"busy")
        trickle.wait(10.0)
        assert trickle.closed.outcome is Outcome.REJECTED
        assert isinstance(trickle.closed.error, SonioxHandshakeError)
        assert trickle.closed.error.body == b"busy"


class TestTrap09TheFirstMessageMayComeWithThe101:
    def test_raw(self) -> None:
        raw = Raw()
        events = raw.feed(frames.switching_protocols(raw.request) + HELLO)
        assert kinds(events) == [AcceptConnection, TextMessage]

    def test_ours_delivers_it(self) -> None:
        client = Client()
        client.connect()
        events = client.feed(frames.switching_protocols(client.request) + HELLO)
        assert kinds(events) == [Opened, Result]
        assert client.messages == [START_MESSAGE]


class TestTrap10NothingCanBeSentDuringTheHandshake:
    def test_raw(self) -> None:
        for message in (TextMessage("early"), BytesMessage(b"early"), Ping()):
            with pytest.raises(LocalProtocolError):
                Raw().send(message)

    def test_ours_holds_it_and_sends_it_after_the_start_message(self) -> None:
        client = Client()
        client.connect()
        client.connection.send_audio(b"first words", client.now)
        client.connection.keep_alive(client.now)
        assert client.drain() == []
        client.accept()
        assert client.messages == [START_MESSAGE, b"first words", KEEPALIVE]


class TestTrap11RandomnessIsTakenFromTheModuleOs:
    def test_raw(self) -> None:
        with counting_random():
            raw = Raw().open()
            frame = raw.send(TextMessage("hi"))
        assert b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==" in raw.request
        assert frame[2:6] == bytes([16, 17, 18, 19])

    def test_ours_draws_no_other_randomness(self) -> None:
        def conversation() -> bytes:
            with counting_random():
                client = Client().open()
                client.connection.send_audio(b"spoken", client.now)
                client.wait(20.0)
                return client.request + client.connection.data_to_send()

        assert conversation() == conversation()


class TestTrap12MaskingCopiesThePayload:
    def test_raw(self) -> None:
        payload = bytearray(b"spoken")
        masked = XorMaskerSimple(b"\x01\x02\x03\x04").process(payload)
        assert masked is not payload
        assert payload == b"spoken"

    def test_ours_hands_the_payload_over_once_and_leaves_it_alone(self) -> None:
        client = Client().open()
        chunk = bytearray(b"\x01" * 70_000)
        client.connection.send_audio(chunk, client.now)
        chunk[:] = b"\x02" * 70_000
        assert client.messages == [START_MESSAGE, b"\x01" * 70_000]
        assert chunk == b"\x02" * 70_000


class TestTrap13TheStateMovesWhileEventsAreIterated:
    def test_raw(self) -> None:
        raw = Raw().open()
        ping, close = raw.feed(frames.ping(b"?") + frames.close())
        assert isinstance(ping, Ping)
        assert isinstance(close, CloseConnection)
        with pytest.raises(LocalProtocolError):
            raw.send(ping.response())

    def test_ours_answers_the_ping_before_the_close(self) -> None:
        client = Client().open()
        client.drain()
        client.feed(frames.ping(b"?") + frames.close(1001))
        pong, close = client.drain()
        assert pong == Frame(Opcode.PONG, b"?")
        assert close.close_code == 1001

    def test_ours_frames_the_start_message_before_the_answer_to_a_close(self) -> None:
        client = Client()
        client.connect()
        client.connection.send_audio(b"first words", client.now)
        segment = frames.switching_protocols(client.request) + frames.text(FINISHED)
        client.feed(segment + frames.close())
        assert client.messages == [START_MESSAGE, b"first words"]
        assert client.close_codes == [1000]
        assert client.closed.outcome is Outcome.FINISHED


class TestTrap14CompressionIsOfferedOnlyByAnExtensionObject:
    def test_raw(self) -> None:
        assert b"Sec-WebSocket-Extensions" not in Raw().request

    def test_ours_offers_it_only_when_asked(self) -> None:
        assert Client().connect().values("sec-websocket-extensions") == []
        (offer,) = Client(compression=True).connect().values("sec-websocket-extensions")
        assert offer.startswith("permessage-deflate")

    def test_ours_does_not_take_what_was_not_offered(self) -> None:
        client = Client()
        client.connect()
        client.accept([("Sec-WebSocket-Extensions", "permessage-deflate")])
        assert client.closed.outcome is Outcome.LOST
