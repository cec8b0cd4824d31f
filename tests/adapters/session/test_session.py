"""What both sessions share: the inbox, and the errors that tell of an end."""

from __future__ import annotations

import ssl
import traceback
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    Opened,
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    RealtimeSTTSession,
    Result,
    ServerError,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_adapters.session.base import lost_error
from soniox_adapters.session.flow_control import FlowControl, message_memory
from soniox_adapters.session.inbox import Inbox
from tests.support.adapters.flow import FakeCore
from tests.support.adapters.sessions import label
from tests.support.core.messages import CONFIG, FINISHED, error, result

LOST = SonioxConnectionError("lost", close_code=1006)


def message(text: str) -> Result:
    return Result(RealtimeEvent.validate_event(result(text)), result(text))


def finished() -> list[Event]:
    event = RealtimeEvent.validate_event(FINISHED)
    return [Result(event, FINISHED), Finished(event)]


def server_error(code: int) -> list[Event]:
    raw = error(code, None, "no")
    event = RealtimeEvent.validate_event(raw)
    failure = SonioxServerError("no", error_code=code)
    return [Result(event, raw), ServerError(failure, event)]


def closed(outcome: Outcome, error: SonioxRealtimeError | None = None) -> Closed:
    return Closed(outcome, 1000, "", error)


def taken(inbox: Inbox, count: int) -> list[str | None]:
    results = [inbox.take() for _ in range(count)]
    return [None if result is None else label(result.message) for result in results]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(FlowControl(FakeCore()), raise_on_error=True)


@pytest.mark.parametrize(
    "name",
    [
        *("connect_timeout_sec", "close_timeout_sec", "keepalive_interval_sec"),
        *("ping_interval_sec", "ping_timeout_sec", "finalize_timeout_sec"),
    ],
)
@pytest.mark.parametrize("session_type", [RealtimeSTTSession, AsyncRealtimeSTTSession])
def test_an_error_names_the_option_that_was_given(
    session_type: Callable[..., object], name: str
) -> None:
    for value in (0, float("inf"), "5", True):
        with pytest.raises(SonioxValidationError, match=f"^{name} must be a number"):
            session_type("ws://localhost/", CONFIG, **{name: value})


def test_a_mapping_is_a_configuration() -> None:
    assert RealtimeSTTSession("ws://localhost/", {"model": "m"}).config == RealtimeSTTConfig(
        model="m"
    )


def test_messages_come_in_order(inbox: Inbox) -> None:
    assert not inbox.ready
    inbox.put([Opened(None, {}), message("one"), message("two")])
    inbox.put([message("three")])
    assert inbox.ready
    assert taken(inbox, 3) == ["one", "two", "three"]
    assert not inbox.ready


def test_events_without_a_message_make_nothing_ready(inbox: Inbox) -> None:
    inbox.put([Opened(None, {})])
    inbox.put([])
    assert not inbox.ready


def test_events_about_a_message_are_not_messages(inbox: Inbox) -> None:
    one = message("one")
    inbox.put([one, EndpointDetected(one.message, 0, None), Finalized(one.message, 0, 0, 1.0)])
    assert taken(inbox, 1) == ["one"]
    assert not inbox.ready


def test_finished_is_the_end_before_the_close(inbox: Inbox) -> None:
    inbox.put([message("one"), *finished()])
    assert taken(inbox, 4) == ["one", "finished", None, None]
    assert inbox.ready
    inbox.put([closed(Outcome.FINISHED)])
    assert taken(inbox, 1) == [None]


def test_messages_behind_the_finished_response_are_not_delivered(inbox: Inbox) -> None:
    inbox.put([*finished(), message("ghost")])
    assert taken(inbox, 2) == ["finished", None]


def test_error_message_is_delivered_then_raised_again_and_again(inbox: Inbox) -> None:
    inbox.put([message("one"), *server_error(400)])
    assert taken(inbox, 2) == ["one", "error 400"]
    for _ in range(2):
        with pytest.raises(SonioxServerError) as raised:
            inbox.take()
        assert raised.value.error_code == 400


def test_first_error_message_counts(inbox: Inbox) -> None:
    inbox.put([*server_error(503), *server_error(400)])
    assert taken(inbox, 1) == ["error 503"]
    with pytest.raises(SonioxServerError) as raised:
        inbox.take()
    assert raised.value.error_code == 503


def test_error_without_a_code_is_raised_next(inbox: Inbox) -> None:
    raw = error(None, "internal_error", "no")
    event = RealtimeEvent.validate_event(raw)
    inbox.put([Result(event, raw), ServerError(SonioxServerError("no"), event)])
    assert inbox.take() is not None
    assert inbox.ready, "the receiver must not wait for the server's close"
    with pytest.raises(SonioxServerError):
        inbox.take()


def test_error_that_closed_the_session_is_raised_whatever_else_is_missing(inbox: Inbox) -> None:
    failure = SonioxServerError("no")
    event = RealtimeEvent.validate_event(error(400, None, "no"))
    inbox.put([ServerError(failure, event), closed(Outcome.SERVER_ERROR, failure)])
    with pytest.raises(SonioxServerError) as raised:
        inbox.take()
    assert vars(raised.value) == vars(failure)


def test_error_message_that_is_not_to_be_raised_is_the_end() -> None:
    inbox = Inbox(FlowControl(FakeCore()), raise_on_error=False)
    inbox.put([*server_error(400), closed(Outcome.SERVER_ERROR, SonioxServerError("no"))])
    assert taken(inbox, 3) == ["error 400", None, None]


@pytest.mark.parametrize("raise_on_error", [True, False])
def test_lost_connection_is_raised_behind_all_messages(raise_on_error: bool) -> None:
    inbox = Inbox(FlowControl(FakeCore()), raise_on_error=raise_on_error)
    inbox.put([message("one"), closed(Outcome.LOST, LOST)])
    assert taken(inbox, 1) == ["one"]
    for _ in range(2):
        with pytest.raises(SonioxConnectionError, match=r"^lost$") as raised:
            inbox.take()
        assert vars(raised.value) == vars(LOST)


def test_an_error_raised_again_and_again_has_the_same_traceback(inbox: Inbox) -> None:
    inbox.put([closed(Outcome.LOST, LOST)])
    lengths: set[int] = set()
    for _ in range(5):
        with pytest.raises(SonioxConnectionError) as raised:
            inbox.take()
        lengths.add(len(traceback.extract_tb(raised.value.__traceback__)))
        assert raised.value.__context__ is None
    assert len(lengths) == 1


@pytest.mark.parametrize(
    "outcome", [Outcome.CLOSED_BY_SERVER, Outcome.CLOSED_LOCALLY, Outcome.ABORTED]
)
def test_end_that_is_no_error(inbox: Inbox, outcome: Outcome) -> None:
    inbox.put([message("one"), closed(outcome)])
    assert taken(inbox, 3) == ["one", None, None]


@given(st.lists(st.integers(-200, 200), max_size=12))
def test_ready_and_flow_follow_what_is_put_and_taken(steps: list[int]) -> None:
    flow = FlowControl(FakeCore())
    inbox = Inbox(flow, raise_on_error=True)
    waiting: deque[str] = deque()
    one = message("x")
    for step in steps:
        if step > 0:
            inbox.put([one] * step)
            waiting.extend("x" * step)
        for _ in range(min(-step, len(waiting))):
            assert taken(inbox, 1) == [waiting.popleft()]
        assert inbox.ready is bool(waiting)
        assert flow.waiting_messages == len(waiting)
        assert flow.waiting_memory == len(waiting) * message_memory(one.raw)


def test_inboxes_have_nothing_in_common(inbox: Inbox) -> None:
    other = Inbox(FlowControl(FakeCore()), raise_on_error=True)
    inbox.put([message("one")])
    assert not other.ready
    other.put([message("two")])
    assert taken(inbox, 1) == ["one"]
    assert taken(other, 1) == ["two"]
    assert not Inbox(FlowControl(FakeCore()), raise_on_error=True).ready


# Errors, as the session makes them


@pytest.fixture
def session() -> RealtimeSTTSession:
    return RealtimeSTTSession("wss://example.test:8443", CONFIG)


def connect_error(session: RealtimeSTTSession, error: OSError) -> SonioxRealtimeError:
    """Return the error for the session's link, if that cannot be opened because of `error`."""
    return session._connect_error(error, RealtimeSTTConnection("wss://example.test:8443", CONFIG))


def test_connect_errors(session: RealtimeSTTSession) -> None:
    timeout = connect_error(session, TimeoutError())
    assert isinstance(timeout, SonioxTimeoutError)
    assert (timeout.operation, timeout.retryable) == ("connect", True)
    assert "in time (connect_timeout_sec)" in str(timeout), "by the name that the user gave"
    refused = connect_error(session, ConnectionRefusedError(111, "Connection refused"))
    assert isinstance(refused, SonioxConnectionError)
    assert refused.retryable
    assert "example.test:8443" in str(refused)
    assert "Connection refused" in str(refused)
    untrusted = connect_error(session, ssl.SSLCertVerificationError("self-signed"))
    assert isinstance(untrusted, SonioxConnectionError)
    assert not untrusted.retryable


def test_lost_errors_have_their_cause() -> None:
    cause = ConnectionResetError(104, "Connection reset by peer")
    lost = lost_error(cause)
    assert lost.close_code == 1006
    assert lost.__cause__ is cause
    assert "Connection reset by peer" in str(lost)
    assert "odd" in str(lost_error(OSError("odd")))


def test_abort_before_entering(session: RealtimeSTTSession) -> None:
    session.abort(LookupError())
    assert session.outcome is None
    for call in (session.receive_event, session.finish, session.enter):
        with pytest.raises(SonioxStateError):
            call()
