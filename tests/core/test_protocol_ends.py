"""The message layer: how a session ends, and what that makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from soniox_proto import (
    Closed,
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
)
from tests.support.core.messages import (
    CONFIG,
    FINALIZE,
    FINISHED,
    UNAUTHENTICATED,
    error,
    result,
)
from tests.support.core.protocol import kinds, started


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
        protocol.fail(SonioxConnectionError("lost again"), 1.0, close_code=1011)
        assert protocol.close_code == 1002

    def test_after_the_end_there_is_nothing_to_close(self) -> None:
        protocol = started()
        protocol.receive_close(1000, "", 1.0)
        assert protocol.fail(SonioxConnectionError("lost"), 1.0, close_code=1011) == []
        assert protocol.close_code is None

    @pytest.mark.parametrize("end", [FINISHED, UNAUTHENTICATED])
    def test_what_came_first_is_not_changed_by_what_follows(self, end: str) -> None:
        protocol = started()
        protocol.receive_message(end, 1.0)
        outcome = Outcome.FINISHED if end is FINISHED else Outcome.SERVER_ERROR
        later = protocol.receive_message(UNAUTHENTICATED if end is FINISHED else FINISHED, 1.5)
        assert kinds(later) == [Result], "it is a message still, but no end"
        protocol.close(2.0)
        (closed,) = protocol.fail(SonioxConnectionError("lost"), 2.0)
        assert isinstance(closed, Closed)
        assert (closed.outcome, closed.code) == (outcome, 1006)
        assert (closed.error is None) is (end is FINISHED)


class TestFinishAgain:
    """Once end-of-audio is queued, `finish` has no effect for ever."""

    ENDS: ClassVar[dict[str, Callable[[RealtimeSTTProtocol], object]]] = {
        "finished response": lambda protocol: protocol.receive_message(FINISHED, 2.0),
        "error message": lambda protocol: protocol.receive_message(UNAUTHENTICATED, 2.0),
        "server's close": lambda protocol: protocol.receive_close(1000, "", 2.0),
        "loss": lambda protocol: protocol.fail(SonioxConnectionError("lost"), 2.0),
        "close": lambda protocol: protocol.close(2.0),
        "abort": lambda protocol: protocol.abort(2.0),
    }

    @pytest.mark.parametrize("end", ENDS)
    @pytest.mark.parametrize("closed", [False, True])
    def test_whatever_ended_the_session(self, end: str, closed: bool) -> None:
        protocol = started()
        protocol.finish(1.0)
        assert protocol.messages_to_send() == [""]
        self.ENDS[end](protocol)
        if closed:
            protocol.receive_close(1000, "", 3.0)
            assert protocol.state is SessionState.CLOSED
        state, deadline = protocol.state, protocol.next_timeout()
        protocol.finish(2.0)
        assert protocol.messages_to_send() == []
        assert (protocol.state, protocol.next_timeout()) == (state, deadline)
        with pytest.raises(SonioxStateError):
            protocol.send_audio(b"more", 2.0)

    def test_after_a_close_that_ended_the_audio_itself(self) -> None:
        protocol = started()
        protocol.send_audio(b"spoken", 1.0)
        protocol.close(2.0)
        assert protocol.messages_to_send() == [b"spoken", ""]
        protocol.finish(3.0)
        assert protocol.messages_to_send() == []

    @pytest.mark.parametrize("end", ENDS)
    def test_without_end_of_audio_it_is_refused(self, end: str) -> None:
        protocol = started()
        self.ENDS[end](protocol)
        with pytest.raises(SonioxStateError):
            protocol.finish(3.0)
        assert protocol.messages_to_send() == []


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

    def test_the_server_s_close_frame_may_wait_unread(self) -> None:
        """Unless the user closes, who is promised an end within the timeout."""
        protocol = started()
        protocol.pause_reading(1.0)
        protocol.receive_message(UNAUTHENTICATED, 2.0)
        assert protocol.next_timeout() is None
        protocol.resume_reading(100.0)
        assert protocol.next_timeout() == 105.0
        protocol.pause_reading(102.0)
        assert protocol.next_timeout() is None
        protocol.close(110.0)
        assert protocol.next_timeout() == 113.0
        protocol.pause_reading(111.0)
        assert protocol.next_timeout() == 113.0

    def test_no_other_deadline_is_left(self) -> None:
        protocol = started(finalize_timeout=4.0)
        protocol.finalize(1.0)
        protocol.close(3.0)
        assert protocol.messages_to_send() == [FINALIZE]
        assert protocol.next_timeout() == 8.0
        assert protocol.handle_timeout(7.9) == []
        assert protocol.messages_to_send() == []

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
