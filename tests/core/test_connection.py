"""The byte layer: handshake, frames, pings and ends, over what the message layer decides."""

from __future__ import annotations

from typing import Any

import pytest

from soniox_proto import (
    APIKey,
    Closed,
    Endpoint,
    Finished,
    Opened,
    Outcome,
    RealtimeSTTConnection,
    Result,
    SessionState,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from tests.support.core import frames
from tests.support.core.client import URL, Client
from tests.support.core.frames import Frame, Opcode
from tests.support.core.messages import (
    CONFIG,
    FINALIZE,
    FINISHED,
    KEEPALIVE,
    START_MESSAGE,
    UNAUTHENTICATED,
    result,
)
from tests.support.core.protocol import kinds


class TestViews:
    def test_of_a_new_connection(self) -> None:
        connection = RealtimeSTTConnection(URL, CONFIG)
        assert connection.config is CONFIG
        assert connection.endpoint == Endpoint.parse(URL)
        assert connection.state is SessionState.IDLE
        assert not connection.paused
        assert not connection.closed
        assert (connection.outcome, connection.error, connection.last_message) == (None, None, None)
        assert connection.data_to_send() == b""
        assert connection.next_timeout() is None

    def test_follow_the_session(self) -> None:
        client = Client().open()
        connection = client.connection
        connection.pause(client.now)
        assert connection.paused
        client.receive(result("hello"))
        assert connection.last_message is not None
        assert connection.last_message.tokens[0].text == "hello"
        client.receive(UNAUTHENTICATED)
        client.feed(frames.close())
        assert connection.closed
        assert connection.outcome is Outcome.SERVER_ERROR
        assert connection.error is client.closed.error
        assert connection.stats.received_messages == 2

    def test_a_key_may_be_given_wrapped(self) -> None:
        connection = RealtimeSTTConnection(URL, CONFIG, api_key=APIKey("wrapped"))
        connection.connect(0.0)
        assert b"Authorization: Bearer wrapped\r\n" in connection.data_to_send()

    @pytest.mark.parametrize("form", ["", "Header", "cookie", None])
    def test_an_unknown_form_of_authentication_is_refused(self, form: Any) -> None:
        with pytest.raises(SonioxValidationError, match="'header', 'subprotocol', 'message'"):
            Client(authentication=form)


class TestSession:
    def test_from_connect_to_finished(self) -> None:
        client = Client()
        client.connect()
        (opened,) = client.accept([("X-Served-By", "node-7")])
        assert opened == Opened(None, {"x-served-by": "node-7"})
        connection = client.connection
        connection.send_audio(b"one", client.now)
        connection.finalize(client.now)
        connection.pause(client.now, finalize=False)
        connection.keep_alive(client.now)
        connection.resume(client.now)
        connection.send_audio(b"two", client.now)
        connection.finish(client.now)
        assert client.messages == [START_MESSAGE, b"one", FINALIZE, KEEPALIVE, b"two", ""]
        events = client.receive(result("hello"), FINISHED)
        events += client.feed(frames.close())
        assert kinds(events) == [Result, Result, Finished, Closed]
        assert client.closed == Closed(Outcome.FINISHED, 1000, "", None)
        assert client.close_codes == [1000]
        assert connection.next_timeout() is None

    def test_end_of_audio_is_an_empty_text_frame(self) -> None:
        client = Client().open()
        client.connection.finish(client.now)
        assert client.drain()[-1] == Frame(Opcode.TEXT, b"")

    @pytest.mark.parametrize("message", [result("hello"), FINISHED])
    def test_a_binary_frame_may_hold_a_message_too(self, message: str) -> None:
        client = Client().open()
        assert kinds(client.feed(frames.binary(message.encode())))[0] is Result

    @pytest.mark.parametrize("code", [1000, 1001, 1011, 3008, 4000, None])
    def test_the_servers_close_frame_is_answered_with_its_code(self, code: int | None) -> None:
        client = Client().open()
        client.feed(frames.close(code, "bye" if code else ""))
        assert client.closed.code == (code or 1005)
        assert client.closed.reason == ("bye" if code else "")
        assert client.close_codes == [code or 1000]

    def test_what_is_no_message_is_answered_with_1007(self) -> None:
        client = Client().open()
        (closed,) = client.receive("not JSON")
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, SonioxProtocolError)
        assert client.close_codes == [1007]


class TestEnds:
    def test_refused_upgrade(self) -> None:
        client = Client()
        client.connect()
        answer = frames.refusal(
            "429 Too Many Requests", b"  slow \r\n\t down  ", [("Retry-After", "30")]
        )
        client.feed(answer)
        error = client.closed.error
        assert (client.closed.outcome, client.closed.code) == (Outcome.REJECTED, None)
        assert isinstance(error, SonioxHandshakeError)
        assert (error.retryable, error.retry_after) == (True, 30.0)
        assert str(error).endswith("HTTP status 429: slow down")
        assert client.drain() == []

    def test_a_long_explanation_is_quoted_in_part(self) -> None:
        client = Client()
        client.connect()
        client.feed(frames.refusal("503 No", "é".encode() * 5000))
        error = client.closed.error
        assert isinstance(error, SonioxHandshakeError)
        assert error.body == "é".encode() * 5000
        assert str(error).endswith("status 503: " + "é" * 200)

    def test_a_refusal_whose_body_is_malformed_is_one_all_the_same(self) -> None:
        client = Client()
        client.connect()
        head = frames.http_head("HTTP/1.1 502 Bad", [("Transfer-Encoding", "chunked")])
        client.feed(head + b"4\r\nsome\r\nnonsense\r\n")
        error = client.closed.error
        assert client.closed.outcome is Outcome.REJECTED
        assert isinstance(error, SonioxHandshakeError)
        assert (error.status_code, error.body) == (502, b"some")

    def test_a_refusal_without_a_body(self) -> None:
        client = Client()
        client.connect()
        client.feed(frames.refusal("404 Not Found"))
        assert str(client.closed.error).endswith("HTTP status 404")

    @pytest.mark.parametrize("connect_timeout", [10.0, None])
    def test_a_refusal_has_time_to_end_whenever_the_deadlines_are_served(
        self, connect_timeout: float | None
    ) -> None:
        client = Client(connect_timeout=connect_timeout)
        client.connect()
        answer = frames.refusal("403 Forbidden", b"no such project")
        for byte in answer:
            assert client.timeout() == []
            client.feed(bytes([byte]))
        assert isinstance(client.closed.error, SonioxHandshakeError)
        assert client.closed.error.body == b"no such project"

    @pytest.mark.parametrize("cut", [True, False])
    def test_what_follows_a_whole_refusal_does_not_change_it(self, cut: bool) -> None:
        client = Client()
        client.connect()
        refusal = frames.refusal("403 Forbidden", b"no", [("Connection", "close")])
        for segment in [refusal, b"garbage"] if cut else [refusal + b"garbage"]:
            client.feed(segment)
        assert client.closed.outcome is Outcome.REJECTED

    def test_not_a_websocket_server(self) -> None:
        client = Client()
        client.connect()
        client.feed(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        assert (client.closed.outcome, client.closed.code) == (Outcome.LOST, None)
        assert isinstance(client.closed.error, SonioxProtocolError)
        assert client.close_codes == []

    @pytest.mark.parametrize("given", ["eof", "fail"])
    def test_a_lost_connection_delivers_nothing_more_and_owes_nothing(self, given: str) -> None:
        client = Client().open()
        client.connection.send_audio(b"unsent", client.now)
        if given == "eof":
            client.eof()
            assert isinstance(client.closed.error, SonioxConnectionError)
            assert client.closed.error.close_code == 1006
        else:
            reset = SonioxConnectionError("reset by peer", close_code=1006)
            client.events += client.connection.fail(reset, client.now)
            assert client.closed.error is reset
        assert client.closed.outcome is Outcome.LOST
        assert client.connection.data_to_send() == b""
        assert client.connection.next_timeout() is None

    def test_a_session_that_its_driver_gives_up_says_good_bye_where_it_can(self) -> None:
        client = Client().open()
        client.connection.send_audio(b"spoken", client.now)
        late = SonioxTimeoutError("the user took too long", operation="send")
        client.events += client.connection.fail(late, client.now, close_code=1001)
        assert client.closed == Closed(Outcome.LOST, 1006, "", late)
        assert client.messages == [START_MESSAGE, b"spoken"]
        assert client.close_codes == [1001]
        assert client.connection.next_timeout() is None

    def test_a_connection_that_could_not_be_made(self) -> None:
        client = Client()
        refused = SonioxConnectionError("connection refused")
        assert client.connection.fail(refused, client.now) == []
        assert client.eof() == []
        client.connection.connect(client.now)
        client.events += client.connection.fail(refused, client.now)
        assert client.closed == Closed(Outcome.LOST, None, "", refused)
        assert client.connection.data_to_send() == b"", "there is nobody to send the request to"

    def test_close_with_audio_outstanding(self) -> None:
        client = Client().open()
        client.connection.send_audio(b"spoken", client.now)
        client.connection.close(client.now)
        client.connection.close(client.now)
        assert client.messages == [START_MESSAGE, b"spoken", ""]
        assert client.close_codes == [1000]
        client.receive(result("late"))
        client.feed(frames.close())
        assert client.closed == Closed(Outcome.CLOSED_LOCALLY, 1000, "", None)

    def test_abort_sends_a_close_frame_and_no_end_of_audio(self) -> None:
        client = Client().open()
        client.connection.send_audio(b"spoken", client.now)
        client.connection.abort(client.now)
        assert client.messages == [START_MESSAGE, b"spoken"]
        assert client.close_codes == [1001]
        assert client.connection.next_timeout() == client.now
        client.feed(frames.text(FINISHED))
        assert client.closed == Closed(Outcome.ABORTED, None, "", None)

    @pytest.mark.parametrize("call", ["close", "abort"])
    def test_an_acceptance_that_comes_too_late_is_not_taken(self, call: str) -> None:
        client = Client()
        client.connect()
        getattr(client.connection, call)(client.now)
        assert kinds(client.accept()) == [Closed]
        assert client.drain() == []

    def test_an_error_with_which_the_session_ended_explains_later_refusals(self) -> None:
        client = Client().open()
        client.eof()
        with pytest.raises(SonioxStateError, match="lost without a close frame") as caught:
            client.connection.send_audio(b"more", client.now)
        assert caught.value.__cause__ is client.closed.error


def test_buffers_to_send_are_the_data_to_send() -> None:
    client = Client().open()
    chunks = [b"small", b"x" * 300_000, b"y" * 200_000]
    for chunk in chunks:
        client.connection.send_audio(chunk, client.now)
    sent = frames.decode(b"".join(client.connection.buffers_to_send()))
    assert [frame.message for frame in sent] == [START_MESSAGE, *chunks]
    assert client.connection.buffers_to_send() == []


class TestPings:
    def test_are_sent_by_the_clock_and_measured_by_their_pongs(self) -> None:
        client = Client(keepalive_interval=None).open()
        client.drain()
        client.wait(20.0)
        (ping,) = client.drain()
        assert ping.opcode is Opcode.PING
        client.wait(0.25)
        assert client.feed(frames.pong(ping.payload)) == []
        assert client.connection.stats.latency == 0.25
        assert client.connection.next_timeout() == 40.0

    def test_each_is_told_apart_from_the_others(self) -> None:
        client = Client(keepalive_interval=None).open()
        payloads = []
        for _ in range(3):
            client.wait(20.0)
            ping = client.drain()[-1]
            payloads.append(ping.payload)
            client.feed(frames.pong(ping.payload))
        assert len(set(payloads)) == 3

    @pytest.mark.parametrize("payload", [b"", b"\0\0\0\x02", b"something else"])
    def test_pongs_that_answer_no_ping_of_ours_prove_nothing(self, payload: bytes) -> None:
        client = Client().open()
        client.feed(frames.pong(b"\0\0\0\x01"))
        client.wait(20.0)
        client.feed(frames.pong(payload))
        client.wait(20.0)
        assert isinstance(client.closed.error, SonioxTimeoutError)
        assert client.connection.stats.latency is None
        assert client.close_codes == [1011]

    def test_go_on_unanswered_where_no_pong_is_expected(self) -> None:
        client = Client(keepalive_interval=None, ping_timeout=None).open()
        client.drain()
        for _ in range(3):
            client.wait(20.0)
            assert [frame.opcode for frame in client.drain()] == [Opcode.PING]
        assert client.connection.state is SessionState.OPEN

    def test_stop_with_the_close_frame(self) -> None:
        client = Client(close_timeout=None, keepalive_interval=None).open()
        client.connection.close(client.now)
        client.drain()
        client.wait(100.0)
        assert client.drain() == []

    def test_nothing_is_armed_by_a_driver_that_reads_again_after_the_end(self) -> None:
        client = Client().open()
        client.wait(20.0)
        client.connection.pause_reading(client.now)
        client.eof()
        client.connection.resume_reading(client.now)
        assert client.connection.next_timeout() is None
        assert client.feed(frames.ping()) == []
        assert client.connection.data_to_send() == b""


class TestDeadlines:
    def test_close_wins_over_whatever_is_due_with_it(self) -> None:
        client = Client(close_timeout=5.0, ping_interval=5.0, keepalive_interval=5.0).open()
        client.connection.close(client.now)
        client.drain()
        client.now = 60.0
        client.timeout()
        assert client.drain() == []
        assert client.closed.outcome is Outcome.CLOSED_LOCALLY

    def test_the_connect_deadline_leaves_nothing_to_send(self) -> None:
        client = Client(connect_timeout=3.0)
        client.connect()
        client.wait(3.0)
        assert isinstance(client.closed.error, SonioxTimeoutError)
        assert client.drain() == []

    def test_without_deadlines_a_session_waits_for_ever(self) -> None:
        client = Client(
            connect_timeout=None,
            close_timeout=None,
            keepalive_interval=None,
            ping_interval=None,
        )
        client.connect()
        assert client.connection.next_timeout() is None
        client.accept()
        assert client.connection.next_timeout() is None
        client.connection.close(client.now)
        assert client.connection.next_timeout() is None

    def test_a_server_that_finished_and_does_not_close_gets_a_close_frame(self) -> None:
        client = Client().open()
        client.receive(FINISHED)
        assert client.close_codes == []
        client.wait(5.0)
        assert client.close_codes == [1000]
        assert client.closed == Closed(Outcome.FINISHED, 1006, "", None)
