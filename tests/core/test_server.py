"""The server's end, against the bytes of a client made by hand."""

from __future__ import annotations

import json

import pytest

from soniox_proto import (
    APIKey,
    AudioReceived,
    ClientClosed,
    EndOfAudioReceived,
    FinalizeReceived,
    KeepAliveReceived,
    RealtimeSTTServerConnection,
    RequestRefused,
    ServerState,
    SonioxValidationError,
    StartReceived,
    UpgradeReceived,
)
from tests.support.core import frames
from tests.support.core.frames import CLIENT_MASK, Frame, Headers, Opcode
from tests.support.core.messages import CONFIG, FINALIZE, KEEPALIVE, START_MESSAGE
from tests.support.core.server import NOW, Server


def refusal(text: str) -> RequestRefused:
    return RequestRefused(400, "invalid_request", text)


class TestUpgrade:
    def test_request_with_a_key_in_the_header(self) -> None:
        event = Server().request([("Authorization", "bearer  sk-1 "), ("X-One", "1")])
        assert event.target == "/path?query"
        assert event.api_key == APIKey("sk-1")
        assert event.headers["x-one"] == "1"
        assert "authorization" not in event.headers
        assert event.subprotocols == []

    def test_request_with_a_key_as_subprotocol(self) -> None:
        server = Server()
        event = server.request([("Sec-WebSocket-Protocol", "soniox-api-key, sk-2, other")])
        assert event.api_key == APIKey("sk-2")
        assert event.subprotocols == ["soniox-api-key", "other"]
        server.core.accept(NOW)
        head, _ = frames.split_head(server.core.data_to_send())
        assert head.values("sec-websocket-protocol") == ["soniox-api-key"]

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("Authorization", "Basic dXNlcg==")],
            [("Authorization", "Bearer")],
            [("Sec-WebSocket-Protocol", "other")],
            [("Sec-WebSocket-Protocol", "soniox-api-key")],
        ],
    )
    def test_request_without_a_key(self, headers: Headers) -> None:
        assert Server().request(headers).api_key is None

    def test_acceptance_with_headers(self) -> None:
        server = Server()
        server.request()
        server.core.accept(NOW, headers=[("Server", "test")])
        head, rest = frames.split_head(server.core.data_to_send())
        assert head.start_line.startswith("HTTP/1.1 101 ")
        assert head.values("server") == ["test"]
        assert head.values("sec-websocket-protocol") == []
        assert rest == b""
        assert server.core.state is ServerState.STARTING

    def test_refusal_ends_the_session_without_an_event(self) -> None:
        server = Server()
        server.request()
        server.core.reject(503, NOW, headers=[("Retry-After", "5")], body=b"busy")
        head, body = frames.split_head(server.core.data_to_send())
        assert head.start_line.startswith("HTTP/1.1 503 ")
        assert (head.values("retry-after"), body) == (["5"], b"busy")
        assert server.core.closed
        assert server.core.next_timeout() is None
        assert server.core.receive_eof(NOW) == []

    @pytest.mark.parametrize("status_code", [400, 599])
    def test_refusal_takes_any_status_of_an_error(self, status_code: int) -> None:
        server = Server()
        server.request()
        server.core.reject(status_code, NOW)
        assert f" {status_code} " in server.core.data_to_send().decode()

    @pytest.mark.parametrize("status_code", [101, 200, 302, 399, 600])
    def test_refusal_needs_the_status_of_an_error(self, status_code: int) -> None:
        server = Server()
        server.request()
        with pytest.raises(SonioxValidationError, match="status_code"):
            server.core.reject(status_code, NOW)
        assert server.core.state is ServerState.UPGRADING
        assert server.core.data_to_send() == b""

    @pytest.mark.parametrize(
        "header",
        [("X", "a\r\nb"), ("X Y", "1"), ("X", "é"), ("Connection", "close"), ("X", " 1")],
    )
    def test_headers_that_are_none_are_refused(self, header: tuple[str, str]) -> None:
        server = Server()
        server.request()
        with pytest.raises(SonioxValidationError):
            server.core.accept(NOW, headers=[header])
        with pytest.raises(SonioxValidationError):
            server.core.reject(503, NOW, headers=[header])
        assert server.core.data_to_send() == b""
        server.core.accept(NOW)

    def test_what_is_no_upgrade_request_is_answered_and_over(self) -> None:
        server = Server()
        (closed,) = server.feed(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert isinstance(closed, ClientClosed)
        assert closed.code == 1006
        assert server.core.data_to_send().startswith(b"HTTP/1.1 400 ")
        assert server.feed(frames.upgrade_request()) == []

    def test_the_clock_may_stand_at_zero_when_the_request_is_due(self) -> None:
        core = RealtimeSTTServerConnection(connect_timeout=10.0)
        core.receive_data(b"GET ", -10.0)
        core.receive_data(b"/ ", -1.0)
        assert core.next_timeout() == 0.0


class TestEarlyData:
    """Messages that come right behind the request, before it is accepted."""

    DATA = frames.text(START_MESSAGE, mask=CLIENT_MASK) + frames.binary(b"one", mask=CLIENT_MASK)
    EVENTS = (StartReceived(CONFIG, None), AudioReceived(b"one"))

    def accepted(self) -> Server:
        server = Server()
        (event,) = server.feed(frames.upgrade_request() + self.DATA)
        assert isinstance(event, UpgradeReceived)
        assert server.core.next_timeout() is None
        server.core.accept(NOW)
        return server

    def test_is_looked_at_by_the_next_feeding_call(self) -> None:
        server = self.accepted()
        assert server.core.next_timeout() == NOW
        assert server.core.handle_timeout(NOW) == list(self.EVENTS)
        assert server.core.next_timeout() == NOW + 20.0
        assert self.accepted().say(b"two") == [*self.EVENTS, AudioReceived(b"two")]

    def test_is_not_lost_with_the_connection(self) -> None:
        server = self.accepted()
        assert server.core.receive_eof(NOW) == [
            *self.EVENTS,
            ClientClosed(1006, "the connection was lost"),
        ]
        assert server.core.next_timeout() is None

    def test_is_nothing_to_a_server_that_closes(self) -> None:
        server = self.accepted()
        server.core.close(NOW)
        assert server.core.handle_timeout(NOW) == []
        assert server.core.next_timeout() == NOW + 5.0


class TestStart:
    def test_gives_the_checked_configuration_and_the_key_of_the_request(self) -> None:
        server = Server().open([("Authorization", "Bearer sk-1")])
        assert server.core.config is None
        assert server.say(START_MESSAGE) == [StartReceived(CONFIG, APIKey("sk-1"))]
        assert server.core.config == CONFIG
        assert server.core.state is ServerState.STREAMING

    @pytest.mark.parametrize(("key", "expected"), [("sk-3", APIKey("sk-3")), ("", None)])
    def test_may_hold_the_key(self, key: str, expected: APIKey | None) -> None:
        message = json.dumps({"api_key": key, **json.loads(START_MESSAGE)})
        assert Server().open().say(message) == [StartReceived(CONFIG, expected)]

    def test_a_key_that_is_no_text_is_refused(self) -> None:
        message = json.dumps({"api_key": 5, **json.loads(START_MESSAGE)})
        (refused,) = Server().open().say(message)
        assert refused == refusal("Start request is malformed. (api_key must be a string)")

    def test_unknown_fields_are_kept_and_mean_nothing(self) -> None:
        (start,) = Server().open().say(json.dumps({**json.loads(START_MESSAGE), "mood": ["x"]}))
        assert isinstance(start, StartReceived)
        assert (start.config, start.unknown_fields) == (CONFIG, {"mood": ["x"]})

    def test_may_be_preceded_by_keepalives(self) -> None:
        server = Server(start_timeout=7.0).open()
        frame = frames.text(KEEPALIVE, mask=CLIENT_MASK)
        assert server.core.receive_data(frame, 6.0) == [KeepAliveReceived()]
        assert server.core.next_timeout() == 13.0
        assert isinstance(server.say(START_MESSAGE)[0], StartReceived)

    @pytest.mark.parametrize(
        "message", ["", "hello", "[1]", "[" * 100_000, "1" * 5000, '{"model":' * 1000]
    )
    def test_anything_else_is_refused(self, message: str) -> None:
        server = Server().open()
        assert server.say(message) == [refusal("Start request is malformed.")]
        assert server.core.state is ServerState.REFUSED
        assert server.core.next_timeout() is None
        assert server.say(START_MESSAGE) == [], "its input is over"

    @pytest.mark.parametrize("message", [b"", b"audio", START_MESSAGE.encode()])
    def test_a_binary_message_is_refused(self, message: bytes) -> None:
        assert Server().open().say(message) == [refusal("Start request must be a text message.")]

    def test_a_huge_message_is_not_even_parsed(self) -> None:
        fields = {"model": "m", "audio_format": "auto", "context": {"terms": [[]] * 100_000}}
        (refused,) = Server().open().say(json.dumps(fields))
        assert refused == refusal("Start request is too long (max length 262144).")

    @pytest.mark.parametrize(
        ("headers", "message"),
        [
            ([("Authorization", "Bearer a")], '{"model":"m","api_key":"a"}'),
            ([("Sec-WebSocket-Protocol", "soniox-api-key, a")], '{"model":"m","api_key":"a"}'),
            (
                [("Authorization", "Bearer a"), ("Sec-WebSocket-Protocol", "soniox-api-key, a")],
                '{"model":"m"}',
            ),
        ],
    )
    def test_a_key_in_two_places_is_refused(self, headers: Headers, message: str) -> None:
        (refused,) = Server().open(headers).say(message)
        assert refused == refusal("The API key was sent in two places")

    def test_a_key_twice_in_the_request_is_known_before_the_first_message(self) -> None:
        headers = [("Authorization", "Bearer a"), ("Sec-WebSocket-Protocol", "soniox-api-key, a")]
        assert Server().request(headers).refusal == refusal("The API key was sent in two places")
        assert Server().request(headers[:1]).refusal is None
        assert Server().request(headers[1:]).refusal is None
        assert len(Server().open(headers).say(KEEPALIVE, START_MESSAGE)) == 1


class TestStream:
    def test_everything_comes_in_order(self) -> None:
        server = Server().start()
        events = server.say(
            b"one",
            KEEPALIVE,
            FINALIZE,
            '{"type":"finalize","trailing_silence_ms":300}',
            b"two",
            "",
            b"ignored",
            "nonsense",
        )
        assert events == [
            AudioReceived(b"one"),
            KeepAliveReceived(),
            FinalizeReceived(None),
            FinalizeReceived(300),
            AudioReceived(b"two"),
            EndOfAudioReceived(),
        ]
        assert server.core.received_audio_bytes == 6
        assert server.core.state is ServerState.FINISHING
        assert server.core.next_timeout() is None

    def test_an_empty_binary_message_is_no_audio_and_ends_nothing(self) -> None:
        server = Server(idle_timeout=7.0).start()
        assert server.say(b"one") == [AudioReceived(b"one")]
        empty = frames.binary(b"", mask=CLIENT_MASK)
        assert server.core.receive_data(empty, NOW + 6.0) == []
        assert server.core.next_timeout() == NOW + 7.0
        assert server.core.handle_timeout(NOW + 7.0) == [
            RequestRefused(408, "request_timeout", "Request timeout.")
        ]

    def test_an_end_without_audio_is_refused(self) -> None:
        assert Server().start().say(b"", "") == [refusal("No audio received.")]

    def test_no_audio_at_all_is_refused_after_a_time(self) -> None:
        server = Server(idle_timeout=7.0).start()
        keepalive = frames.text(KEEPALIVE, mask=CLIENT_MASK)
        server.core.receive_data(keepalive, NOW + 6.0)
        assert server.core.handle_timeout(NOW + 12.0) == []
        (refused,) = server.core.handle_timeout(NOW + 13.0)
        assert refused == RequestRefused(
            408, "request_timeout", "Timed out while waiting for the first audio chunk"
        )

    @pytest.mark.parametrize(
        "message",
        [
            "nonsense",
            "[]",
            "{}",
            "[" * 4000,
            '{"type":["finalize"]}',
            '{"type":"finalize","trailing_silence_ms":-1}',
            '{"type":"finalize","trailing_silence_ms":1.5}',
            '{"type":"finalize","trailing_silence_ms":true}',
            '{"type":"finalize","trailing_silence_ms":"300"}',
            f'{{"type":"finalize","trailing_silence_ms":{"9" * 4000}}}',
            KEEPALIVE + " " * 4096,
            START_MESSAGE,
        ],
    )
    def test_a_malformed_control_message_is_refused(self, message: str) -> None:
        server = Server().start()
        assert server.say(message, b"ignored") == [refusal("Control request is malformed.")]
        assert server.core.received_audio_bytes == 0

    @pytest.mark.parametrize("message", ['{"type":"resume"}', '{"type":""}'])
    def test_an_unknown_control_message_is_refused(self, message: str) -> None:
        assert Server().start().say(message) == [refusal("Control request invalid type.")]

    def test_pings_are_answered_and_pongs_are_nothing(self) -> None:
        server = Server().start()
        ping, pong = frames.ping(b"?", mask=CLIENT_MASK), frames.pong(b"!", mask=CLIENT_MASK)
        assert server.feed(ping + pong) == []
        assert server.drain() == [Frame(Opcode.PONG, b"?")]
