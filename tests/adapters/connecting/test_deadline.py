"""A connect has one deadline for all it does, and ends at once when the session is closed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from soniox_adapters import (
    Endpoint,
    Outcome,
    RealtimeSTTConnection,
    SessionState,
    SonioxConnectionError,
    SonioxStateError,
    SonioxTimeoutError,
)
from tests.support.adapters.listener import listener_that_accepts_nobody
from tests.support.adapters.proxy import FakeProxy, http_connect, silent_proxy
from tests.support.adapters.resolver import NAME, FakeResolver
from tests.support.adapters.server import PATIENCE, FakeServer, Peer
from tests.support.adapters.sessions import Kind, SessionDriver, open_session

LIMIT = 1.5
"""Seconds that a connect may take."""

STEP = 1.4
"""Seconds that its first step takes."""

MOST = 2.8
"""Seconds in which it has to fail; where a second step has a limit of its own it takes 2.9."""


@pytest.fixture(params=[Kind.BLOCKING, Kind.ASYNCIO, Kind.TRIO], ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Kinds of session, without the one that has a connector already."""
    assert isinstance(request.param, Kind)
    return request.param


def join_abandoned() -> None:
    """Wait for threads that were left alone with a call that could not be interrupted.

    Those of trio have the name of the call while it runs, and stay for the next one.
    """
    deadline = time.monotonic() + PATIENCE
    while any(
        thread.name == "soniox-connect" or "_resolve" in thread.name
        for thread in threading.enumerate()
    ):
        assert time.monotonic() < deadline, "the thread does not end"
        time.sleep(0.005)


# One deadline


def check_deadline(driver: SessionDriver) -> None:
    start = time.monotonic()
    with pytest.raises(SonioxTimeoutError) as late:
        driver.enter()
    assert LIMIT * 0.99 <= time.monotonic() - start < MOST
    assert (late.value.operation, late.value.retryable) == ("connect", True)
    assert driver.outcome is Outcome.LOST


@pytest.mark.skipif(sys.platform != "linux", reason="full queues are refused elsewhere")
def test_addresses(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many that those tried last, with a limit of their own, would take too long."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(listener_that_accepts_nobody()) for _ in range(8)]
        FakeResolver(monkeypatch, *ports)
        with open_session(kind, f"ws://{NAME}", connect_timeout_sec=LIMIT) as driver:
            check_deadline(driver)


def test_name_resolution(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = FakeResolver(monkeypatch, 1)
    resolver.released.clear()
    with open_session(kind, f"ws://{NAME}", connect_timeout_sec=LIMIT) as driver:
        check_deadline(driver)
        resolver.released.set()
    join_abandoned()


def test_slow_proxy_before_silent_tls(kind: Kind, client_tls: ssl.SSLContext) -> None:
    def slow(proxy: FakeProxy, client: socket.socket) -> bool:
        time.sleep(STEP)
        return http_connect(proxy, client)

    options = {"connect_timeout_sec": LIMIT, "ssl_context": client_tls}
    with (
        FakeServer(Peer.hold) as server,
        FakeProxy(slow, scheme="http", server_port=server.port) as proxy,
        open_session(kind, "wss://localhost", proxy=proxy.url(), **options) as driver,
    ):
        check_deadline(driver)


@pytest.mark.parametrize("secure", [True, False], ids=["silent-tls", "silent-upgrade"])
def test_slow_connector(kind: Kind, client_tls: ssl.SSLContext, secure: bool) -> None:
    def connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
        time.sleep(STEP)
        return socket.create_connection(("127.0.0.1", server.port))

    async def connect_async(endpoint: Endpoint) -> socket.socket:
        await anyio.sleep(STEP)
        return socket.create_connection(("127.0.0.1", server.port))

    options = {"connect_timeout_sec": LIMIT, "ssl_context": client_tls}
    transport = connect_async if kind.asynchronous else connect
    url = "wss://localhost" if secure else "ws://localhost"
    with (
        FakeServer(Peer.hold) as server,
        open_session(kind, url, transport=transport, **options) as driver,
    ):
        check_deadline(driver)


def test_connector_that_never_returns(kind: Kind) -> None:
    """The socket that it returns in the end is closed."""
    near, far = socket.socketpair()
    over = threading.Event()

    def connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
        assert timeout is not None
        assert 0 < timeout <= LIMIT
        assert over.wait(PATIENCE)
        return near

    async def connect_async(endpoint: Endpoint) -> socket.socket:
        try:
            await anyio.sleep_forever()
        finally:
            near.close()
        raise AssertionError

    transport = connect_async if kind.asynchronous else connect
    with open_session(
        kind, f"ws://{NAME}", transport=transport, connect_timeout_sec=LIMIT
    ) as driver:
        check_deadline(driver)
        over.set()
    join_abandoned()
    assert near.fileno() == -1
    far.close()


# Closed and aborted meanwhile


@dataclass
class Stage:
    """How to make a session that stays in one phase of its connect."""

    url: str
    reached: Callable[[], object]
    """Waits until the session is there."""
    options: Mapping[str, Any] = field(default_factory=dict)
    release: Callable[[], object] = bool
    """Ends a call that nothing else can end."""


@contextmanager
def resolving(kind: Kind, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> Iterator[Stage]:
    resolver = FakeResolver(monkeypatch, 1)
    resolver.released.clear()
    try:
        asked = resolver.asked
        yield Stage(f"ws://{NAME}", lambda: asked.wait(PATIENCE), release=resolver.released.set)
    finally:
        join_abandoned()


@contextmanager
def connecting(kind: Kind, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> Iterator[Stage]:
    with listener_that_accepts_nobody() as port:
        resolver = FakeResolver(monkeypatch, port)
        yield Stage(f"ws://{NAME}", lambda: resolver.asked.wait(PATIENCE))


@contextmanager
def asking_a_proxy(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext, scheme: str = "http"
) -> Iterator[Stage]:
    asked = threading.Event()

    def silent(proxy: FakeProxy, client: socket.socket) -> bool:
        client.recv(1)
        asked.set()
        return silent_proxy(proxy, client)

    with FakeProxy(silent, scheme=scheme) as proxy:
        yield Stage(f"ws://{NAME}", lambda: asked.wait(PATIENCE), {"proxy": proxy.url()})
        assert proxy.left.wait(PATIENCE)


@contextmanager
def asking_a_socks_proxy(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> Iterator[Stage]:
    with asking_a_proxy(kind, monkeypatch, tls, "socks5") as phase:
        yield phase


@contextmanager
def shaking_hands(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> Iterator[Stage]:
    with FakeServer(Peer.hold) as server:
        url = server.url.replace("ws:", "wss:")
        yield Stage(url, lambda: server.peer().wait_until_readable(), {"ssl_context": tls})


@contextmanager
def upgrading(kind: Kind, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> Iterator[Stage]:
    with FakeServer(Peer.hold) as server:
        yield Stage(server.url, lambda: server.peer().wait_until_readable())


@contextmanager
def in_a_connector(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> Iterator[Stage]:
    called, over = threading.Event(), threading.Event()
    near, far = socket.socketpair()

    def connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
        assert timeout is None
        called.set()
        assert over.wait(PATIENCE)
        return near

    async def connect_async(endpoint: Endpoint) -> socket.socket:
        called.set()
        try:
            await anyio.sleep_forever()
        finally:
            near.close()
        raise AssertionError

    transport = connect_async if kind.asynchronous else connect
    with far:
        options = {"transport": transport}
        yield Stage(f"ws://{NAME}", lambda: called.wait(PATIENCE), options, over.set)
        join_abandoned()
        assert near.fileno() == -1


PHASES = [
    resolving,
    connecting,
    asking_a_proxy,
    asking_a_socks_proxy,
    shaking_hands,
    upgrading,
    in_a_connector,
]


@pytest.mark.skipif(sys.platform != "linux", reason="full queues are refused elsewhere")
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
@pytest.mark.parametrize("call", ["close", "abort", "abort-with-cause"])
def test_ends_at_once(
    kind: Kind,
    phase: Callable[..., AbstractContextManager[Stage]],
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    client_tls: ssl.SSLContext,
) -> None:
    cause = SonioxConnectionError("the user went away") if call == "abort-with-cause" else None
    with phase(kind, monkeypatch, client_tls) as stage:
        no_limits = {"connect_timeout_sec": None, "close_timeout_sec": 0.2}
        with open_session(kind, stage.url, **no_limits, **stage.options) as driver:
            entering = driver.start("enter")
            stage.reached()
            if call == "close":
                driver.close()
            else:
                driver.abort(cause)
            error = entering.exception(PATIENCE)
            if cause is None:
                assert isinstance(error, SonioxStateError)
                assert "closed" in str(error)
            else:
                assert type(error) is SonioxConnectionError
                assert str(error) == str(cause)
            assert driver.session.state is SessionState.CLOSED
            if call == "close":
                assert driver.outcome is Outcome.CLOSED_LOCALLY
            elif cause is None:
                assert driver.outcome is Outcome.ABORTED
            with contextlib.suppress(type(error)):
                assert driver.receive() is None
            stage.release()


def test_closed_before_the_first_step(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aborted from another thread or task when the connect has only been asked for."""
    with open_session(kind, f"ws://{NAME}", connect_timeout_sec=None) as driver:
        connect = RealtimeSTTConnection.connect

        def connect_and_abort(machine: RealtimeSTTConnection, now: float) -> None:
            connect(machine, now)
            machine.abort(now)

        monkeypatch.setattr(RealtimeSTTConnection, "connect", connect_and_abort)
        with pytest.raises(SonioxStateError, match="closed"):
            driver.enter()
