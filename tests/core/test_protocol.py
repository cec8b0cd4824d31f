"""The message layer: what it says, what it makes of the answers, and how it ends."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    Closed,
    EndpointDetected,
    Finalized,
    Finished,
    Outcome,
    RealtimeSTTProtocol,
    Result,
    ServerError,
    SessionState,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxServiceUnavailableError,
    SonioxStateError,
    SonioxValidationError,
)
from tests.support.core_messages import (
    CONFIG,
    FINALIZE,
    FINISHED,
    KEEPALIVE,
    START_MESSAGE,
    UNAUTHENTICATED,
    error,
    result,
    token,
)


def started(**options: Any) -> RealtimeSTTProtocol:
    """Return an open session whose start message has been taken."""
    protocol = RealtimeSTTProtocol(CONFIG, **options)
    protocol.start(0.0)
    assert protocol.messages_to_send() == [START_MESSAGE]
    return protocol


def kinds(events: list[Any]) -> list[type]:
    return [type(event) for event in events]


class TestOutput:
    def test_goes_out_in_the_order_of_the_calls(self) -> None:
        protocol = started()
        protocol.send_audio(b"one", 1.0)
        protocol.keep_alive(1.0)
        protocol.finalize(1.0, trailing_silence_ms=300)
        protocol.send_audio(bytearray(b"two"), 1.0)
        protocol.pause(1.0)
        protocol.finish(1.0)
        assert protocol.messages_to_send() == [
            b"one",
            KEEPALIVE,
            '{"type":"finalize","trailing_silence_ms":300}',
            b"two",
            FINALIZE,
            "",
        ]
        assert protocol.messages_to_send() == []

    def test_is_held_until_the_start_and_follows_the_start_message(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        protocol.connect(0.0)
        protocol.send_audio(b"first words", 1.0)
        protocol.finalize(1.0)
        protocol.keep_alive(1.0)
        assert protocol.messages_to_send() == []
        protocol.start(2.0)
        assert protocol.messages_to_send() == [START_MESSAGE, b"first words", FINALIZE, KEEPALIVE]

    def test_a_websocket_that_is_open_already_needs_no_connect(self) -> None:
        protocol = started()
        assert protocol.state is SessionState.OPEN
        assert protocol.next_timeout() == 5.0

    def test_end_of_audio_goes_out_once(self) -> None:
        protocol = started()
        protocol.finish(1.0)
        protocol.finish(2.0)
        protocol.close(3.0)
        assert protocol.messages_to_send() == [""]


class TestAudio:
    @pytest.mark.parametrize("chunk", [b"", bytearray(), memoryview(b"")])
    def test_an_empty_chunk_would_end_the_stream_and_is_never_sent(self, chunk: bytes) -> None:
        protocol = started()
        protocol.send_audio(chunk, 3.0)
        assert protocol.messages_to_send() == []
        assert protocol.stats.sent_audio_chunks == 0
        assert protocol.next_timeout() == 5.0, "and it does not count as audio"

    def test_may_be_any_contiguous_bytes(self) -> None:
        protocol = started()
        samples = array.array("H", [0x0101, 0x0202])
        for chunk in (b"b", bytearray(b"a"), memoryview(b"m"), memoryview(samples)):
            protocol.send_audio(chunk, 1.0)
        assert protocol.messages_to_send() == [b"b", b"a", b"m", b"\x01\x01\x02\x02"]
        assert protocol.stats.sent_audio_bytes == 7
        assert protocol.stats.sent_audio_chunks == 4

    @pytest.mark.parametrize("chunk", ["text", None, 7])
    def test_must_be_bytes(self, chunk: Any) -> None:
        protocol = started()
        with pytest.raises(TypeError, match="audio must be bytes"):
            protocol.send_audio(chunk, 1.0)
        with pytest.raises(SonioxValidationError, match="contiguous"):
            protocol.send_audio(memoryview(b"abc")[::2], 1.0)
        assert protocol.messages_to_send() == []

    def test_waiting_for_the_start_is_bounded(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG, max_pending_audio=10)
        protocol.connect(0.0)
        protocol.send_audio(b"123456", 0.0)
        with pytest.raises(SonioxStateError, match="6 bytes of audio wait"):
            protocol.send_audio(b"12345", 0.0)
        protocol.send_audio(b"1234", 0.0)
        with pytest.raises(SonioxStateError, match=r"max_pending_audio \(10\)"):
            protocol.send_audio(b"1", 0.0)
        protocol.start(1.0)
        assert protocol.messages_to_send() == [START_MESSAGE, b"123456", b"1234"]
        protocol.send_audio(b"more than ten bytes", 1.0)

    def test_is_dropped_and_counted_while_paused(self) -> None:
        protocol = started()
        protocol.pause(1.0)
        assert protocol.paused
        protocol.send_audio(b"dropped", 1.0)
        protocol.pause(2.0)
        protocol.resume(3.0)
        assert not protocol.paused
        protocol.send_audio(b"heard", 3.0)
        protocol.resume(4.0)
        assert protocol.messages_to_send() == [FINALIZE, b"heard"]
        assert protocol.stats.dropped_while_paused_bytes == 7
        assert protocol.stats.sent_audio_bytes == 5
        assert protocol.stats.sent_finalizes == 1

    def test_pausing_without_a_finalize_sends_nothing(self) -> None:
        protocol = started()
        protocol.pause(1.0, finalize=False)
        assert protocol.messages_to_send() == []

    @pytest.mark.parametrize("silence", [-1, 2.5])
    def test_a_bad_finalize_changes_nothing(self, silence: Any) -> None:
        protocol = started()
        with pytest.raises(SonioxValidationError):
            protocol.finalize(1.0, silence)
        assert protocol.messages_to_send() == []
        assert protocol.stats.sent_finalizes == 0
        assert kinds(protocol.receive_message(result("<fin>"), 2.0)) == [Result, Finalized]


class TestResults:
    def test_every_message_is_a_result_with_what_was_received(self) -> None:
        protocol = started()
        assert protocol.last_message is None
        raw = result("Hello", token(" wor", is_final=False), total_audio_proc_ms=900)
        (event,) = protocol.receive_message(raw, 1.0)
        assert isinstance(event, Result)
        assert event.raw is raw
        assert [item.text for item in event.message.tokens] == ["Hello", " wor"]
        assert protocol.last_message is event.message
        assert protocol.stats.received_messages == 1

    def test_markers_follow_their_message_in_order(self) -> None:
        protocol = started()
        protocol.finalize(1.0)
        raw = result(
            "a", token("<end>", end_ms=700), "b", "<fin>", "<end>", final_audio_proc_ms=900
        )
        events = protocol.receive_message(raw, 1.5)
        message = protocol.last_message
        assert message is not None
        assert events == [
            Result(message, raw),
            EndpointDetected(message, 1, 700),
            Finalized(message, 3, 0, 0.5),
            EndpointDetected(message, 4, 900),
        ]

    @pytest.mark.parametrize("marker", ["<end>", "<fin>"])
    @pytest.mark.parametrize("fields", [{"is_final": False}, {"is_final": None}])
    def test_only_a_final_marker_is_one(self, marker: str, fields: dict[str, Any]) -> None:
        events = started().receive_message(result(token(marker, **fields)), 1.0)
        assert kinds(events) == [Result]

    def test_an_endpoint_may_have_no_position(self) -> None:
        events = started().receive_message(result("<end>"), 1.0)
        assert isinstance(events[1], EndpointDetected)
        assert events[1].position_ms is None

    @given(st.lists(st.sampled_from(["finalize", "answer"]), max_size=20))
    def test_finalizes_are_answered_in_order(self, steps: list[str]) -> None:
        protocol = started()
        outstanding: list[tuple[int, float]] = []
        for now, step in enumerate(steps):
            if step == "finalize":
                protocol.finalize(float(now))
                outstanding.append((protocol.stats.sent_finalizes - 1, float(now)))
                continue
            answer = protocol.receive_message(result("<fin>"), float(now))[1]
            assert isinstance(answer, Finalized)
            number, asked_at = outstanding.pop(0) if outstanding else (None, None)
            assert answer.finalize_index == number
            assert answer.round_trip == (None if asked_at is None else now - asked_at)


class TestEnds:
    """What the session has come to decides, then how the end came."""

    def test_finished_and_closed_by_the_server(self) -> None:
        protocol = started()
        protocol.finish(1.0)
        assert kinds(protocol.receive_message(FINISHED, 2.0)) == [Result, Finished]
        assert protocol.state is SessionState.CLOSING
        assert not protocol.closed
        assert protocol.close_code is None, "the server closes"
        assert protocol.outcome is Outcome.FINISHED, "nothing can change that any more"
        events = protocol.receive_close(1000, "", 2.5)
        assert events == [Closed(Outcome.FINISHED, 1000, "", None)]
        assert protocol.closed
        assert (protocol.outcome, protocol.error) == (Outcome.FINISHED, None)

    def test_an_error_message(self) -> None:
        protocol = started()
        _, server_error = protocol.receive_message(UNAUTHENTICATED, 1.0)
        assert isinstance(server_error, ServerError)
        assert isinstance(server_error.error, SonioxAuthenticationError)
        assert protocol.outcome is Outcome.SERVER_ERROR
        (closed,) = protocol.receive_close(1000, "", 1.5)
        assert closed == Closed(Outcome.SERVER_ERROR, 1000, "", server_error.error)
        with pytest.raises(SonioxStateError, match="Incorrect API key") as caught:
            protocol.send_audio(b"more", 2.0)
        assert caught.value.__cause__ is server_error.error

    @pytest.mark.parametrize(
        "message",
        [error(503, None, "Please restart"), error(None, "service_unavailable", "Restart")],
    )
    def test_a_code_or_a_type_alone_makes_an_error_message(self, message: str) -> None:
        protocol = started()
        _, event = protocol.receive_message(message, 1.0)
        assert isinstance(event, ServerError)
        assert isinstance(event.error, SonioxServiceUnavailableError)
        with pytest.raises(SonioxStateError, match="the session is closing") as caught:
            protocol.send_audio(b"more", 2.0)
        assert caught.value.__cause__ is event.error

    @pytest.mark.parametrize(
        ("code", "outcome", "reported"),
        [
            (1000, Outcome.CLOSED_BY_SERVER, 1000),
            (1001, Outcome.CLOSED_BY_SERVER, 1001),
            (1005, Outcome.LOST, 1005),
            (None, Outcome.LOST, 1005),
            (1006, Outcome.LOST, 1006),
            (1011, Outcome.LOST, 1011),
            (4000, Outcome.LOST, 4000),
        ],
    )
    @pytest.mark.parametrize("reason", ["", "maintenance"])
    def test_a_close_without_a_finished_response(
        self, code: int | None, outcome: Outcome, reported: int, reason: str
    ) -> None:
        (closed,) = started().receive_close(code, reason, 1.0)
        assert isinstance(closed, Closed)
        assert (closed.outcome, closed.code, closed.reason) == (outcome, reported, reason)
        if outcome is Outcome.LOST:
            assert isinstance(closed.error, SonioxConnectionError)
            assert (closed.error.close_code, closed.error.reason) == (reported, reason)
            assert f"code {reported}" in str(closed.error)
            assert f"({reason})" in str(closed.error) or not reason
        else:
            assert closed.error is None

    def test_what_is_no_message_loses_the_session(self) -> None:
        protocol = started()
        (closed,) = protocol.receive_message("not JSON", 1.0)
        assert isinstance(closed, Closed)
        assert (closed.outcome, closed.code) == (Outcome.LOST, 1006)
        assert isinstance(closed.error, SonioxProtocolError)
        assert protocol.error is closed.error
        assert protocol.close_code == 1007
        assert protocol.receive_message(FINISHED, 2.0) == []
        assert protocol.stats.received_messages == 0

    @pytest.mark.parametrize(
        ("failure", "outcome"),
        [
            (SonioxConnectionError("reset by peer"), Outcome.LOST),
            (SonioxHandshakeError("refused", status_code=503), Outcome.REJECTED),
        ],
    )
    def test_the_driver_tells_of_failures(
        self, failure: SonioxConnectionError, outcome: Outcome
    ) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        assert protocol.fail(failure, 0.0) == [], "nothing was begun, so nothing ends"
        protocol.connect(0.0)
        assert protocol.fail(failure, 1.0) == [Closed(outcome, None, "", failure)]
        assert protocol.fail(failure, 2.0) == []
        assert protocol.close_code is None

    def test_a_failure_may_name_the_code_to_close_with(self) -> None:
        protocol = started()
        protocol.fail(SonioxConnectionError("lost"), 1.0, close_code=1002)
        assert protocol.close_code == 1002

    @pytest.mark.parametrize("end", [FINISHED, UNAUTHENTICATED])
    def test_what_came_first_is_not_changed_by_what_follows(self, end: str) -> None:
        protocol = started()
        protocol.receive_message(end, 1.0)
        outcome = Outcome.FINISHED if end is FINISHED else Outcome.SERVER_ERROR
        later = protocol.receive_message(UNAUTHENTICATED if end is FINISHED else FINISHED, 1.5)
        assert len(later) == 2, "it is told of, though"
        protocol.close(2.0)
        (closed,) = protocol.fail(SonioxConnectionError("lost"), 2.0)
        assert isinstance(closed, Closed)
        assert (closed.outcome, closed.code) == (outcome, 1006)
        assert (closed.error is None) is (end is FINISHED)


class TestClose:
    def test_ends_the_audio_and_asks_for_the_close_frame(self) -> None:
        protocol = started()
        protocol.send_audio(b"spoken", 1.0)
        protocol.close(2.0)
        assert protocol.messages_to_send() == [b"spoken", ""]
        assert protocol.close_code == 1000
        assert protocol.state is SessionState.CLOSING
        assert protocol.next_timeout() == 7.0
        protocol.close(3.0)
        assert protocol.next_timeout() == 7.0, "closing again does not put the end off"

    def test_without_audio_there_is_nothing_to_end(self) -> None:
        protocol = started()
        protocol.pause(1.0, finalize=False)
        protocol.send_audio(b"dropped", 1.0)
        protocol.close(2.0)
        assert protocol.messages_to_send() == []

    @pytest.mark.parametrize(
        ("message", "outcome"),
        [
            (result("late"), Outcome.CLOSED_LOCALLY),
            (FINISHED, Outcome.FINISHED),
            (UNAUTHENTICATED, Outcome.SERVER_ERROR),
        ],
    )
    def test_what_the_server_said_before_it_saw_the_close_still_counts(
        self, message: str, outcome: Outcome
    ) -> None:
        protocol = started()
        protocol.close(1.0)
        assert protocol.outcome is None, "the server may have finished before"
        assert kinds(protocol.receive_message(message, 1.5))[0] is Result
        (closed,) = protocol.receive_close(1000, "", 2.0)
        assert isinstance(closed, Closed)
        assert closed.outcome is outcome

    def test_while_connecting_it_is_over_at_once(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        protocol.connect(0.0)
        protocol.send_audio(b"never sent", 0.0)
        protocol.close(1.0)
        assert protocol.closed
        assert protocol.next_timeout() == 1.0, "the event waits"
        assert protocol.handle_timeout(1.0) == [Closed(Outcome.CLOSED_LOCALLY, None, "", None)]
        assert protocol.next_timeout() is None
        assert protocol.messages_to_send() == []
        assert protocol.close_code is None

    @pytest.mark.parametrize("call", ["close", "abort"])
    def test_of_what_was_never_begun_leaves_no_event(self, call: str) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        getattr(protocol, call)(0.0)
        assert protocol.closed
        assert protocol.outcome is None
        assert protocol.receive_close(1000, "", 1.0) == []
        with pytest.raises(SonioxStateError, match="the session is closed"):
            protocol.connect(1.0)

    def test_a_close_frame_before_the_connect_is_none_of_ours(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        assert protocol.receive_close(1000, "", 0.0) == []
        assert protocol.state is SessionState.IDLE


class TestAbort:
    @pytest.mark.parametrize(
        ("prepare", "outcome", "close_code"),
        [
            (lambda protocol: None, Outcome.ABORTED, 1001),
            (lambda protocol: protocol.finish(1.0), Outcome.ABORTED, 1001),
            (lambda protocol: protocol.close(1.0), Outcome.ABORTED, 1000),
            (lambda protocol: protocol.receive_message(FINISHED, 1.0), Outcome.FINISHED, 1001),
            (
                lambda protocol: protocol.receive_message(UNAUTHENTICATED, 1.0),
                Outcome.SERVER_ERROR,
                1001,
            ),
        ],
    )
    def test_ends_at_once_and_drops_what_waits(
        self, prepare: Any, outcome: Outcome, close_code: int
    ) -> None:
        protocol = started()
        protocol.send_audio(b"unsent", 1.0)
        prepare(protocol)
        protocol.abort(2.0)
        protocol.abort(2.0)
        assert protocol.closed
        assert protocol.messages_to_send() == []
        assert protocol.close_code == close_code
        (closed,) = protocol.handle_timeout(2.0)
        assert isinstance(closed, Closed)
        assert (closed.outcome, closed.code) == (outcome, None)

    def test_while_connecting_there_is_nobody_to_send_a_close_frame_to(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        protocol.connect(0.0)
        protocol.abort(1.0)
        assert protocol.close_code is None
        assert protocol.receive_message(FINISHED, 1.0) == [Closed(Outcome.ABORTED, None, "", None)]


def test_the_configuration_is_the_one_given() -> None:
    assert started().config is CONFIG
