"""The way to a server that is not there, or not yet: names, addresses, and TCP."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from soniox_adapters import (
    Outcome,
    SonioxConnectionError,
    SonioxStateError,
    SonioxTimeoutError,
)
from tests.support.adapters.listener import listener_that_accepts_nobody, port_that_refuses
from tests.support.adapters.scenarios import TIMES
from tests.support.adapters.server import FakeServer, obliging
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session
from tests.support.core.messages import START_MESSAGE


def check_failed(driver: SessionDriver, error: BaseException) -> None:
    """What comes after a session that could not connect."""
    assert driver.outcome is Outcome.LOST
    with pytest.raises(type(error)):
        driver.receive()
    with pytest.raises(SonioxStateError) as late:
        driver.send(b"late")
    assert repr(late.value.__cause__) == repr(error)
    driver.close()
    assert driver.session.state.value == "closed"


def test_connection_refused(kind: Kind) -> None:
    with (
        port_that_refuses() as port,
        open_session(kind, f"ws://127.0.0.1:{port}", **TIMES) as driver,
    ):
        with pytest.raises(SonioxConnectionError, match=f"127.0.0.1:{port}") as refused:
            driver.enter()
        assert isinstance(refused.value.__cause__, OSError)
        assert (refused.value.retryable, refused.value.close_code) == (True, None)
        check_failed(driver, refused.value)


def test_name_that_does_not_exist(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: Any, *_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with open_session(kind, "ws://stt.example.test", **TIMES) as driver:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with pytest.raises(SonioxConnectionError, match=r"stt\.example\.test") as unknown:
            driver.enter()
        assert isinstance(unknown.value.__cause__, OSError)
        assert unknown.value.retryable
        check_failed(driver, unknown.value)


def test_name_with_an_address_that_does_not_answer(kind: Kind) -> None:
    """`localhost` is often ::1 first, where the server does not listen."""
    with (
        FakeServer(obliging, host="localhost") as server,
        open_session(kind, server.url, **TIMES) as driver,
        driver.connected(),
    ):
        driver.call("send_bytes", [b"audio"])
        assert [label(event) for event in driver.collect()] == ["finished"]


@pytest.mark.skipif(sys.platform != "linux", reason="full queues are refused elsewhere")
def test_tcp_that_is_never_accepted(kind: Kind) -> None:
    options = {**TIMES, "connect_timeout_sec": 0.2}
    with (
        listener_that_accepts_nobody() as port,
        open_session(kind, f"ws://127.0.0.1:{port}", **options) as driver,
    ):
        with pytest.raises(SonioxTimeoutError) as late:
            driver.enter()
        assert (late.value.operation, late.value.retryable) == ("connect", True)
        check_failed(driver, late.value)


def test_no_connect_timeout(kind: Kind) -> None:
    options = {**TIMES, "connect_timeout_sec": None}
    with FakeServer(obliging) as server, open_session(kind, server.url, **options) as driver:
        driver.enter()


@pytest.mark.parametrize("authentication", ["header", "subprotocol"])
def test_how_the_key_travels(kind: Kind, authentication: str) -> None:
    options = {**TIMES, "api_key": "temporary-key", "authentication": authentication}
    with FakeServer(obliging) as server, open_session(kind, server.url, **options) as driver:
        with driver.connected():
            driver.call("send_bytes", [b"audio"])
            assert [label(event) for event in driver.collect()] == ["finished"]
        request = server.peer().request
        assert request is not None
        sent = {
            "header": request.values("authorization") == ["Bearer temporary-key"],
            "subprotocol": request.values("sec-websocket-protocol")
            == ["soniox-api-key, temporary-key"],
        }
        assert [name for name, there in sent.items() if there] == [authentication]
        assert server.peer().messages[0] == START_MESSAGE


def test_session_without_a_key(kind: Kind) -> None:
    with FakeServer(obliging) as server:
        with open_session(kind, server.url, **TIMES, api_key=None) as driver:
            driver.enter()
        request = server.peer().request
        assert request is not None
        assert request.values("authorization") == []
        assert request.values("sec-websocket-protocol") == []


def test_compression_is_offered_on_demand_only(kind: Kind) -> None:
    for compression in (False, True):
        with FakeServer(obliging) as server:
            with open_session(kind, server.url, **TIMES, compression=compression) as driver:
                driver.enter()
            request = server.peer().request
            assert request is not None
            offered = " ".join(request.values("sec-websocket-extensions"))
            assert ("permessage-deflate" in offered) is compression
