"""The server's end, against the bytes of a client made by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    APIKey,
    AudioReceived,
    ClientClosed,
    EndOfAudioReceived,
    FinalizeReceived,
    KeepAliveReceived,
    RealtimeEvent,
    RealtimeSTTServerConnection,
    RequestRefused,
    ServerEvent,
    ServerState,
    SonioxStateError,
    SonioxValidationError,
    StartReceived,
    Token,
    UpgradeReceived,
)
from tests.support import core_frames as frames
from tests.support.core_frames import CLIENT_MASK, Frame, Headers, Opcode
from tests.support.core_messages import CONFIG, FINALIZE, KEEPALIVE, START_MESSAGE, result

NOW = 1.0


class Server:
    """A server core whose client is made by hand."""

    def __init__(self, **options: Any) -> None:
        self.core = RealtimeSTTServerConnection(**options)

    def request(self, headers: Headers = (), target: str = "/path?query") -> UpgradeReceived:
        (event,) = self.feed(frames.upgrade_request(target, headers))
        assert isinstance(event, UpgradeReceived)
        return event

    def open(self, headers: Headers = ()) -> Server:
        self.request(headers)
        self.core.accept(NOW)
        self.core.data_to_send()
        return self

    def start(self, headers: Headers = ()) -> Server:
        (event,) = self.open(headers).say(START_MESSAGE)
        assert isinstance(event, StartReceived)
        return self

    def feed(self, data: bytes) -> list[ServerEvent]:
        return self.core.receive_data(data, NOW)

    def say(self, *messages: str | bytes) -> list[ServerEvent]:
        """Feed messages of the client in one segment."""
        return self.feed(
            b"".join(
                frames.text(message, mask=CLIENT_MASK)
                if isinstance(message, str)
                else frames.binary(message, mask=CLIENT_MASK)
                for message in messages
            )
        )

    def drain(self) -> list[Frame]:
        return frames.decode(self.core.data_to_send(), from_client=False)

    def answer(self) -> tuple[dict[str, Any], int | None]:
        """Return the one message that the server sent, and the code of a close frame after it."""
        first, *rest = self.drain()
        return json.loads(first.message), rest[0].close_code if rest else None


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


class TestStart:
    def test_gives_the_checked_configuration_and_the_key_of_the_request(self) -> None:
        server = Server().open([("Authorization", "Bearer sk-1")])
        assert server.core.config is None
        assert server.say(START_MESSAGE) == [StartReceived(CONFIG, APIKey("sk-1"))]
        assert server.core.config == CONFIG
        assert server.core.state is ServerState.STREAMING

    def test_may_hold_the_key(self) -> None:
        message = json.dumps({"api_key": "sk-3", "model": "stt-rt-v5"})
        assert Server().open().say(message) == [StartReceived(CONFIG, APIKey("sk-3"))]
        message = json.dumps({"api_key": "", "model": "stt-rt-v5"})
        assert Server().open().say(message) == [StartReceived(CONFIG, None)]

    def test_may_be_preceded_by_keepalives(self) -> None:
        server = Server(start_timeout=7.0).open()
        frame = frames.text(KEEPALIVE, mask=CLIENT_MASK)
        assert server.core.receive_data(frame, 6.0) == [KeepAliveReceived()]
        assert server.core.next_timeout() == 13.0
        assert isinstance(server.say(START_MESSAGE)[0], StartReceived)

    @pytest.mark.parametrize(
        ("message", "problem"),
        [
            ("", "must be a start request"),
            ("hello", "must be a start request"),
            ("[1]", "must be a start request"),
            ("[" * 100_000, "must be a start request"),
            ("1" * 5000, "must be a start request"),
            (b"audio", "must be a start request"),
            (START_MESSAGE.encode(), "must be a start request"),
            (FINALIZE, "type: Extra inputs"),
            ("{}", "model: Field required"),
            ('{"model":"m","audio_format":"pcm_s8"}', "needs sample_rate and num_channels"),
            ('{"model":"m","api_key":5}', "api_key must be a string"),
        ],
    )
    def test_anything_else_is_refused(self, message: str | bytes, problem: str) -> None:
        server = Server().open()
        (refused,) = server.say(message)
        assert isinstance(refused, RequestRefused)
        assert (refused.error_code, refused.error_type) == (400, "invalid_request")
        assert problem in refused.error_message
        assert server.core.state is ServerState.REFUSED
        assert server.core.next_timeout() is None
        assert server.say(START_MESSAGE) == [], "its input is over"

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
        assert refused == RequestRefused(
            400, "invalid_request", "The API key was sent in two places"
        )


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

    def test_an_empty_binary_message_ends_the_audio_too(self) -> None:
        assert Server().start().say(b"one", b"")[1:] == [EndOfAudioReceived()]

    @pytest.mark.parametrize("message", ["", b""])
    def test_an_end_without_audio_is_refused(self, message: str | bytes) -> None:
        assert Server().start().say(message) == [
            RequestRefused(400, "invalid_request", "No audio received")
        ]

    @pytest.mark.parametrize(
        "message",
        [
            "nonsense",
            "[]",
            "{}",
            '{"type":"resume"}',
            '{"type":["finalize"]}',
            '{"type":"finalize","trailing_silence_ms":-1}',
            '{"type":"finalize","trailing_silence_ms":1.5}',
            '{"type":"finalize","trailing_silence_ms":true}',
            '{"type":"finalize","trailing_silence_ms":"300"}',
            START_MESSAGE,
        ],
    )
    def test_a_control_message_that_is_none_is_refused(self, message: str) -> None:
        server = Server().start()
        assert server.say(message, b"ignored") == [
            RequestRefused(400, "invalid_request", "Malformed control message")
        ]
        assert server.core.received_audio_bytes == 0

    def test_pings_are_answered_and_pongs_are_nothing(self) -> None:
        server = Server().start()
        ping, pong = frames.ping(b"?", mask=CLIENT_MASK), frames.pong(b"!", mask=CLIENT_MASK)
        assert server.feed(ping + pong) == []
        assert server.drain() == [Frame(Opcode.PONG, b"?")]


class TestAnswers:
    def test_a_mapping_is_sent_as_it_is(self) -> None:
        server = Server().start()
        fields = {"tokens": [{"text": "é", "mood": "joy"}], "queue": None}
        server.core.send_result(fields, NOW)
        assert server.answer() == (fields, None)

    def test_a_message_is_sent_without_what_is_unset(self) -> None:
        server = Server().start()
        message = RealtimeEvent(tokens=[Token(text="a", is_final=True)], final_audio_proc_ms=5)
        server.core.send_result(message, NOW)
        assert server.answer() == (
            {"tokens": [{"text": "a", "is_final": True}], "final_audio_proc_ms": 5},
            None,
        )

    @pytest.mark.parametrize(
        "message", [{"tokens": [], "more": 1}, RealtimeEvent.model_validate({"more": 1})]
    )
    def test_the_finished_response_is_followed_by_the_close_frame(self, message: Any) -> None:
        server = Server().start()
        server.core.finish(message, NOW)
        assert server.answer() == ({"tokens": [], "finished": True, "more": 1}, 1000)
        assert server.core.state is ServerState.CLOSING
        assert server.core.next_timeout() == NOW + 5.0

    def test_a_finished_response_that_is_no_message_is_refused(self) -> None:
        server = Server().start()
        with pytest.raises(SonioxValidationError, match="tokens"):
            server.core.finish({"tokens": 5}, NOW)
        assert server.core.state is ServerState.STREAMING
        assert server.drain() == []

    def test_an_error_is_followed_by_the_close_frame(self) -> None:
        server = Server().open()
        server.core.send_error(
            401, "unauthenticated", "Wrong key", NOW, request_id="r-1", more_info="https://x"
        )
        assert server.answer() == (
            {
                "tokens": [],
                "error_code": 401,
                "error_type": "unauthenticated",
                "error_message": "Wrong key",
                "request_id": "r-1",
                "more_info": "https://x",
            },
            1000,
        )

    def test_an_error_may_lack_its_type(self) -> None:
        server = Server().start()
        server.core.send_error(500, None, "Oops", NOW)
        assert server.answer()[0] == {"tokens": [], "error_code": 500, "error_message": "Oops"}

    def test_nothing_can_be_sent_before_the_start(self) -> None:
        server = Server().open()
        for call in (server.core.send_result, server.core.finish):
            with pytest.raises(SonioxStateError, match="the session is starting"):
                call({"tokens": []}, NOW)
        assert server.drain() == []


class TestEnds:
    def test_close_frame_of_the_client(self) -> None:
        server = Server().start()
        assert server.feed(frames.close(4001, "bye", mask=CLIENT_MASK)) == [
            ClientClosed(4001, "bye")
        ]
        assert [frame.close_code for frame in server.drain()] == [4001]
        assert server.core.closed

    def test_close_frame_without_a_code(self) -> None:
        server = Server().start()
        assert server.feed(frames.close(None, mask=CLIENT_MASK)) == [ClientClosed(1005, "")]
        assert [frame.close_code for frame in server.drain()] == [1000]

    def test_end_of_the_stream(self) -> None:
        server = Server().start()
        server.core.send_result({"tokens": []}, NOW)
        assert server.core.receive_eof(NOW) == [ClientClosed(1006, "the connection was lost")]
        assert server.core.receive_eof(NOW) == []
        assert server.core.data_to_send() == b""
        assert server.core.next_timeout() is None

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frames.text("not masked"), 1002),
            (frames.encode(Opcode.TEXT, b"\xff", mask=CLIENT_MASK), 1007),
            (frames.binary(b"x" * 101, mask=CLIENT_MASK), 1009),
        ],
    )
    def test_violation(self, data: bytes, code: int) -> None:
        server = Server(max_message_size=100).start()
        (closed,) = server.feed(data + frames.ping(mask=CLIENT_MASK))
        assert isinstance(closed, ClientClosed)
        assert closed.code == 1006
        assert [frame.close_code for frame in server.drain()] == [code]

    def test_close_and_the_clients_answer(self) -> None:
        server = Server().start()
        server.core.close(NOW, 1001, "restart")
        server.core.close(NOW)
        (frame,) = server.drain()
        assert (frame.close_code, frame.payload[2:]) == (1001, b"restart")
        assert server.say(b"on its way") == []
        assert server.feed(frames.close(1001, mask=CLIENT_MASK)) == [ClientClosed(1001, "")]

    @pytest.mark.parametrize("prepare", [lambda server: None, lambda server: server.request()])
    def test_close_before_the_websocket_is_open(self, prepare: Any) -> None:
        server = Server()
        prepare(server)
        server.core.close(NOW)
        server.core.close(NOW)
        assert server.core.closed
        assert server.core.data_to_send() == b""
        assert server.core.next_timeout() is None
        assert server.feed(frames.upgrade_request()) == []

    @pytest.mark.parametrize("code", [-1, 0, 999, 1005, 1006, 1015, 2999, 5000, 70000])
    def test_close_with_a_code_that_may_not_be_sent(self, code: int) -> None:
        server = Server().start()
        with pytest.raises(SonioxValidationError, match="not a code for a close frame"):
            server.core.close(NOW, code)
        assert server.core.state is ServerState.STREAMING
        assert server.drain() == []


@given(
    st.lists(
        st.text(max_size=20)
        | st.binary(max_size=20)
        | st.sampled_from([START_MESSAGE, KEEPALIVE, FINALIZE, result("x")]),
        max_size=12,
    )
)
def test_no_messages_whatever_raise_and_one_refusal_ends_the_input(
    messages: list[str | bytes],
) -> None:
    server = Server().open()
    events = [event for message in messages for event in server.say(message)]
    ends = [index for index, event in enumerate(events) if isinstance(event, RequestRefused)]
    assert ends in ([], [len(events) - 1])
    audio = b"".join(event.data for event in events if isinstance(event, AudioReceived))
    assert server.core.received_audio_bytes == len(audio)
