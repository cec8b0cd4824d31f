"""The blocking world's connect by itself: what it returns, and who may cancel it."""

from __future__ import annotations

import random
import signal
import socket
import ssl
import sys
import threading
import time
from typing import Any

import pytest

from soniox_adapters import Endpoint, SonioxValidationError
from soniox_adapters.connecting.blocking import (
    BlockingTransport,
    ConnectCancelledError,
    Connecting,
)
from tests.support.adapters.listener import listener_that_accepts_nobody
from tests.support.adapters.resolver import NAME, FakeResolver
from tests.support.adapters.server import PATIENCE, FakeServer, Peer

LONG = 10.0
"""Seconds that no connect here is expected to take."""


def open_socket(
    connecting: Connecting,
    url: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    transport: BlockingTransport | None = None,
) -> socket.socket:
    return connecting.open(
        Endpoint.parse(url), ssl_context=ssl_context, proxy=None, transport=transport
    )


def soon() -> Connecting:
    return Connecting(time.monotonic() + LONG)


def test_socket_is_non_blocking_and_without_delay() -> None:
    with FakeServer(Peer.hold) as server, open_socket(soon(), server.url) as opened:
        assert opened.gettimeout() == 0
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_given_socket_is_closed_where_tls_fails(client_tls: ssl.SSLContext) -> None:
    near, far = socket.socketpair()
    far.sendall(b"this is no TLS at all")
    with far, pytest.raises(ssl.SSLError):
        open_socket(soon(), "wss://localhost", ssl_context=client_tls, transport=near)
    assert near.fileno() == -1


def test_given_socket_is_closed_where_tls_cannot_be_set_up() -> None:
    class Refusing(ssl.SSLContext):
        def wrap_socket(self, *_: object, **__: object) -> ssl.SSLSocket:
            raise ValueError("no such host")

    near, far = socket.socketpair()
    context = Refusing(ssl.PROTOCOL_TLS_CLIENT)
    with far, pytest.raises(OSError, match="TLS cannot be set up: no such host"):
        open_socket(soon(), "wss://localhost", ssl_context=context, transport=near)
    assert near.fileno() == -1


def test_connector_has_the_context_of_its_caller() -> None:
    """It runs in another thread, so that it can be left alone."""
    import contextvars

    variable = contextvars.ContextVar("variable", default="default")
    variable.set("of the caller")
    seen: list[object] = []
    near, far = socket.socketpair()

    def connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
        seen.extend([variable.get(), timeout])
        return near

    with far, open_socket(Connecting(None), f"ws://{NAME}", transport=connect):
        assert seen == ["of the caller", None]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_connector_that_ends_the_program(error: BaseException) -> None:
    def connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
        raise error

    with pytest.raises(type(error)):
        open_socket(soon(), f"ws://{NAME}", transport=connect)


def test_cancelled_before_it_began() -> None:
    connecting = Connecting(None)
    connecting.cancel()
    connecting.cancel()
    with FakeServer(Peer.hold) as server:
        with pytest.raises(ConnectCancelledError):
            open_socket(connecting, server.url)
        server.peer()


def test_cancelled_when_it_is_over() -> None:
    connecting = soon()
    with FakeServer(Peer.hold) as server, open_socket(connecting, server.url):
        connecting.cancel()


def test_deadline_that_has_passed() -> None:
    with FakeServer(Peer.hold) as server, pytest.raises(TimeoutError):
        open_socket(Connecting(time.monotonic() - 1.0), server.url)


def test_function_that_returns_no_socket() -> None:
    connect: Any = lambda *_: 42  # noqa: E731
    with pytest.raises(SonioxValidationError, match=r"transport must be .* not int"):
        open_socket(soon(), f"ws://{NAME}", transport=connect)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no interval timers")
def test_cancelled_by_a_signal_handler_at_any_moment(
    monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The handler runs in the thread that connects, between any two of its steps."""
    moments = random.Random(1)
    current: list[Connecting] = []
    before = signal.signal(signal.SIGALRM, lambda *_: current[-1].cancel())
    ended = 0
    try:
        with (
            FakeServer(Peer.hold, tls=server_tls) as server,
            listener_that_accepts_nobody() as port,
        ):
            FakeResolver(monkeypatch, port, server.port)
            for _ in range(150):
                current.append(soon())
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0001, 0.004))
                try:
                    url = f"wss://localhost:{server.port}"
                    open_socket(current[-1], moments.choice([url, f"ws://{NAME}"])).close()
                except (ConnectCancelledError, ssl.SSLError):
                    ended += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended
    for thread in threading.enumerate():
        if thread.name == "soniox-connect":
            thread.join(PATIENCE)
