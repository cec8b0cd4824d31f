"""Every ending of the table, on every kind of session."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from soniox_adapters import (
    Outcome,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxError,
    SonioxProtocolError,
    SonioxRealtimeError,
    SonioxStateError,
)
from tests.support.adapters.scenarios import (
    HEADER,
    ONE,
    SCENARIOS,
    TIMES,
    TWO,
    Scenario,
    User,
    rows,
)
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session
from tests.support.core import frames
from tests.support.core.messages import FINISHED, UNAUTHENTICATED

BLOCKING_CHUNK = bytes(16 * 1024 * 1024)
"""More than all buffers between a client and a server that does not read."""

WITH_BLOCKED_SENDER = [scenario for scenario in SCENARIOS if scenario.blocked_sender is not None]


class DeliberateError(Exception):
    """Raised by the user inside the context."""


def by_name(scenario: Scenario) -> str:
    return scenario.name


def server_of(scenario: Scenario) -> Script:
    if not scenario.connects:
        return scenario.server

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(ONE, TWO)
        scenario.server(peer)

    return script


def check_error(scenario: Scenario, raised: BaseException | None) -> None:
    if scenario.raises is None:
        assert raised is None
        return
    assert isinstance(raised, scenario.raises)
    for name, value in scenario.details.items():
        assert getattr(raised, name) == value, name


def check_aftermath(scenario: Scenario, driver: SessionDriver) -> None:
    """Whoever comes later learns the same, in the way that the table says."""
    assert driver.outcome is scenario.outcome
    for _ in range(2):
        driver.close()
        if scenario.later_receive is None:
            assert driver.receive() is None
            assert driver.call("recv_bytes") == b""
        else:
            with pytest.raises(scenario.later_receive) as receive:
                driver.receive()
            check_error(scenario, receive.value)
            with pytest.raises(scenario.later_receive):
                driver.call("recv_bytes")
        for call in (("send_byte_chunk", b"late"), ("finish",), ("finalize",), ("pause",)):
            with pytest.raises(scenario.later_send) as send:
                driver.call(*call)
            if scenario.raises is not None:
                assert send.value.__cause__ is not None, "the sender is not told why"
    with pytest.raises(SonioxStateError):
        driver.enter()
    assert driver.outcome is scenario.outcome


def act(scenario: Scenario, driver: SessionDriver) -> None:
    match scenario.user:
        case User.CLOSES:
            driver.close()
        case User.ABORTS:
            driver.abort()
        case User.ABORTS_WITH_CAUSE:
            driver.abort(DeliberateError())
        case User.RAISES:
            raise DeliberateError
        case _:
            pass


def use_session(scenario: Scenario, driver: SessionDriver, received: list[str]) -> None:
    """Enter, receive to the end, leave; what the user of the scenario does, after `one`."""
    if scenario.user is User.IS_CANCELLED:
        received += map(label, driver.cancel_inside(2))
        return
    with driver.connected():
        while (event := driver.receive()) is not None:
            received.append(label(event))
            if received == ["one"] and scenario.user not in {User.CLOSES, User.RECEIVES}:
                event = driver.receive()
                assert event is not None
                received.append(label(event))
                act(scenario, driver)
            elif received == ["one"]:
                act(scenario, driver)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=by_name)
def test_ending(scenario: Scenario, kind: Kind) -> None:
    received: list[str] = []
    raised: BaseException | None = None
    with (
        FakeServer(server_of(scenario)) as server,
        open_session(kind, server.url, **{**TIMES, **scenario.options}) as driver,
    ):
        try:
            use_session(scenario, driver, received)
        except SonioxError as error:
            raised = error
        except DeliberateError:
            assert scenario.user is User.RAISES
        assert tuple(received) == scenario.receives
        check_error(scenario, raised)
        check_aftermath(scenario, driver)
        peer = server.peer()
        peer.wait_until_done()
        assert peer.close_codes == ([] if scenario.told is None else [scenario.told])
        if scenario.user is User.ABORTS_WITH_CAUSE:
            assert isinstance(raised, SonioxRealtimeError)
            assert isinstance(raised.__cause__, DeliberateError)


@pytest.mark.parametrize("scenario", WITH_BLOCKED_SENDER, ids=by_name)
def test_blocked_sender(scenario: Scenario, kind: Kind) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        # A server that reads would let the sender go on.
        peer.deaf = True
        server_of_ending(peer)

    def server_of_ending(peer: Peer) -> None:
        peer.say(ONE, TWO)
        if scenario.user is User.RECEIVES:
            scenario.server(peer)
        else:
            peer.hold()

    assert scenario.blocked_sender is not None
    with (
        FakeServer(script, receive_buffer=64 * 1024) as server,
        open_session(kind, server.url, **{**TIMES, **scenario.options}) as driver,
    ):
        driver.enter()
        sender = driver.start("send_byte_chunk", BLOCKING_CHUNK)
        server.peer().wait_until_said()
        if scenario.user is not User.RECEIVES:
            act(scenario, driver)
        check_sender(scenario, sender)
        received, raised = receive_all(driver)
        # What was sent before the end is delivered; a user who ends it may be too early for it.
        if scenario.user is User.RECEIVES:
            assert tuple(received) == scenario.receives
            check_error(scenario, raised)
        assert driver.outcome is scenario.outcome


@pytest.mark.parametrize(
    ("last", "labels", "raises"),
    [
        (frames.text(FINISHED) + frames.close(1000), ["one", "finished"], None),
        (frames.text(FINISHED), ["one", "finished"], None),
        (
            frames.text(UNAUTHENTICATED) + frames.close(1000),
            ["one", "error 401"],
            SonioxAuthenticationError,
        ),
        (frames.close(1000), ["one"], None),
        (frames.close(1011), ["one"], SonioxConnectionError),
        (frames.text("no JSON"), ["one"], SonioxProtocolError),
    ],
    ids=["finished", "finished-without-close", "wrong-key", "closed", "lost", "violation"],
)
def test_ended_before_entering_returns(
    kind: Kind, last: bytes, labels: list[str], raises: type[SonioxError] | None
) -> None:
    def in_one_segment(peer: Peer) -> None:
        peer.read_request()
        peer.send(peer.accepting_bytes() + frames.text(ONE) + last)
        peer.hold()

    with FakeServer(in_one_segment) as server, open_session(kind, server.url, **TIMES) as driver:
        driver.enter()
        received, raised = receive_all(driver)
        assert received == labels
        assert raised is None if raises is None else isinstance(raised, raises)


def check_sender(scenario: Scenario, sender: Future[Any]) -> None:
    assert scenario.blocked_sender is not None
    error = sender.exception(PATIENCE)
    assert isinstance(error, scenario.blocked_sender)
    if scenario.outcome is Outcome.LOST:
        check_error(scenario, error)


def receive_all(driver: SessionDriver) -> tuple[list[str], SonioxError | None]:
    received: list[str] = []
    try:
        while (event := driver.receive()) is not None:
            received.append(label(event))
    except SonioxError as error:
        return received, error
    return received, None


def test_table_is_complete_text() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert {scenario.outcome for scenario in SCENARIOS} == set(Outcome)
    for row in rows():
        assert len(row) == len(HEADER)
        assert all(row)
