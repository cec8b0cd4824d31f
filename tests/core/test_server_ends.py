"""The server's end: what it answers, and how a session ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    AudioReceived,
    ClientClosed,
    RealtimeEvent,
    RequestRefused,
    ServerState,
    SonioxStateError,
    SonioxValidationError,
    Token,
)
from tests.support.core import frames
from tests.support.core.frames import CLIENT_MASK, Opcode
from tests.support.core.messages import FINALIZE, KEEPALIVE, START_MESSAGE, result
from tests.support.core.server import NOW, Server


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

    def test_an_error_may_quote_what_cannot_be_encoded(self) -> None:
        server = Server().start()
        server.core.send_error(400, None, "bad \ud800", NOW)
        assert server.answer()[0]["error_message"] == "bad ?"

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
