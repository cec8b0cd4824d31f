"""Sessions through a proxy, and what goes wrong on that way."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from typing import Any

import pytest

from soniox_adapters import (
    Outcome,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from tests.support.adapters.listener import listener_that_accepts_nobody
from tests.support.adapters.proxy import (
    FakeProxy,
    Greeting,
    answers_with_garbage,
    cuts,
    drips,
    http_connect,
    http_connect_in_pieces,
    refuses,
    resets,
    silent_proxy,
    socks4,
    socks5,
    with_first_bytes,
)
from tests.support.adapters.scenarios import TIMES
from tests.support.adapters.server import FakeServer, Peer, obliging
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session

REMOTE = "stt.example.test"
"""A host that only the proxy can resolve."""


@pytest.fixture(params=[Kind.BLOCKING, Kind.ASYNCIO, Kind.TRIO], ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Kinds of session that open their own connection."""
    assert isinstance(request.param, Kind)
    return request.param


def check_session(driver: SessionDriver) -> None:
    with driver.connected():
        driver.call("send_bytes", [b"audio"])
        assert [label(event) for event in driver.collect()] == ["finished"]
    assert driver.outcome is Outcome.FINISHED


def test_environment_decides_in_a_session(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        FakeServer(obliging) as server,
        FakeProxy(http_connect, scheme="http", server_port=server.port) as proxy,
    ):
        monkeypatch.setenv("http_proxy", proxy.url())
        url = f"ws://{REMOTE}:8765"
        with open_session(kind, url, **TIMES, proxy=True) as driver:
            check_session(driver)
        assert proxy.targets == [(REMOTE, 8765)]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with open_session(kind, server.url, **TIMES, proxy=True) as driver:
            check_session(driver)
        assert len(proxy.targets) == 1


# The way through


@pytest.mark.parametrize(
    ("greeting", "scheme"),
    [
        (http_connect, "http"),
        (http_connect_in_pieces, "http"),
        (socks4, "socks4"),
        (socks4, "socks4a"),
        (socks5, "socks5"),
        (socks5, "socks5h"),
    ],
)
@pytest.mark.parametrize("credentials", ["", "user:secret@"], ids=["open", "password"])
def test_session_through_a_proxy(
    kind: Kind, greeting: Greeting, scheme: str, credentials: str
) -> None:
    with (
        FakeServer(obliging) as server,
        FakeProxy(greeting, scheme=scheme, server_port=server.port) as proxy,
        open_session(
            kind, f"ws://{REMOTE}:8765/path", **TIMES, proxy=proxy.url(credentials)
        ) as driver,
    ):
        check_session(driver)
        assert proxy.targets == [(REMOTE, 8765)]
        expected = "user" if greeting is socks4 else "user:secret"
        assert proxy.credentials == ([expected] if credentials else [])
        request = server.peer().request
        assert request is not None
        assert request.start_line == "GET /path HTTP/1.1"
        assert request.values("host") == [f"{REMOTE}:8765"]
        assert request.values("proxy-authorization") == []


def test_tls_through_a_proxy(
    kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    with (
        FakeServer(obliging, tls=server_tls) as server,
        FakeProxy(http_connect, scheme="http", server_port=server.port) as proxy,
        open_session(
            kind, "wss://localhost", **TIMES, proxy=proxy.url(), ssl_context=client_tls
        ) as driver,
    ):
        check_session(driver)
        assert proxy.targets == [("localhost", 443)]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_server_that_speaks_with_the_proxy(kind: Kind, scheme: str) -> None:
    """Bytes right behind the proxy's answer are the server's, and reach the session."""

    def speaks_first(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
        peer.read_request()

    with (
        FakeServer(speaks_first) as server,
        FakeProxy(with_first_bytes(scheme), scheme=scheme, server_port=server.port) as proxy,
    ):
        with (
            open_session(kind, f"ws://{REMOTE}", **TIMES, proxy=proxy.url()) as driver,
            pytest.raises(SonioxHandshakeError) as busy,
        ):
            driver.enter()
        assert (busy.value.status_code, busy.value.body) == (503, b"busy")


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
@pytest.mark.parametrize(("greeting", "scheme"), [(http_connect, "http"), (socks5, "socks5")])
def test_ipv6_proxy_and_ipv6_target(kind: Kind, greeting: Greeting, scheme: str) -> None:
    with (
        FakeServer(obliging) as server,
        FakeProxy(greeting, scheme=scheme, server_port=server.port, host="::1") as proxy,
        open_session(kind, "ws://[2001:db8::1]:8765", **TIMES, proxy=proxy.url()) as driver,
    ):
        check_session(driver)
        assert [host.strip("[]") for host, _ in proxy.targets] == ["2001:db8::1"]


# What goes wrong


def test_missing_python_socks(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", ".sync", ".async_", ".async_.asyncio", ".async_.trio"):
        monkeypatch.setitem(sys.modules, f"python_socks{name}", None)
    with open_session(kind, "ws://localhost:8765", proxy="socks5://localhost:1") as driver:
        with pytest.raises(SonioxValidationError, match=r"soniox-proto\[proxy\]") as missing:
            driver.enter()
        assert isinstance(missing.value.__cause__, ImportError)


def test_malformed_proxy_urls(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameter is checked when the session is made, the environment when it is read."""
    with (
        pytest.raises(SonioxValidationError, match="the parameter proxy"),
        open_session(kind, "ws://localhost:8765", proxy="gopher://localhost:1"),
    ):
        pass
    monkeypatch.setenv("ALL_PROXY", "http://user:secret@host:port")
    with (
        open_session(kind, "ws://localhost:8765", **TIMES, proxy=True) as driver,
        pytest.raises(SonioxValidationError, match="variable ALL_PROXY") as refused,
    ):
        driver.enter()
    assert "secret" not in str(refused.value)


def refused(kind: Kind, proxy_url: str | bool, **options: Any) -> BaseException:
    """Return the error of a session that cannot pass its proxy."""
    with open_session(kind, f"ws://{REMOTE}", **{**TIMES, **options}, proxy=proxy_url) as driver:
        start = time.monotonic()
        with pytest.raises((SonioxConnectionError, SonioxTimeoutError)) as error:
            driver.enter()
        assert time.monotonic() - start < 4.0
        assert driver.outcome is Outcome.LOST
        assert "secret" not in str(error.value)
        return error.value


@pytest.mark.parametrize(
    ("greeting", "retryable"),
    [(refuses, False), (answers_with_garbage, False), (cuts, True), (resets, True)],
)
def test_proxy_that_does_not_connect(kind: Kind, greeting: Greeting, retryable: bool) -> None:
    with FakeProxy(greeting, scheme="http") as proxy:
        error = refused(kind, proxy.url("user:secret@"))
        assert isinstance(error, SonioxConnectionError)
        assert error.retryable is retryable
        assert error.__cause__ is not None
        port = proxy.url().rpartition(":")[2]
        assert f"through the proxy 127.0.0.1:{port} (from the parameter proxy)" in str(error)
        assert proxy.left.wait(10)


def test_error_names_the_variable(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    for greeting, timeout in ((refuses, 5.0), (silent_proxy, 0.2)):
        with FakeProxy(greeting, scheme="http") as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url("user:secret@").removeprefix("http://"))
            error = refused(kind, True, connect_timeout_sec=timeout)
            assert "(from the environment variable HTTP_PROXY)" in str(error)
            assert isinstance(error, SonioxTimeoutError) is (greeting is silent_proxy)


SOCKS_REFUSALS = {
    "no-method": (b"\x05\xff", False),
    "not-allowed": (b"\x05\x00\x05\x02\x00\x01" + bytes(6), False),
    "unreachable": (b"\x05\x00\x05\x04\x00\x01" + bytes(6), True),
    "cut": (b"\x05\x00\x05", True),
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
    "not-text": (b"\x05\x00\x05\x00\x00\x03\x02\xff\xff\x00\x00", False),
}


@pytest.mark.parametrize(("answer", "retryable"), SOCKS_REFUSALS.values(), ids=list(SOCKS_REFUSALS))
def test_socks_proxy_that_does_not_connect(kind: Kind, answer: bytes, retryable: bool) -> None:
    def says_no(proxy: FakeProxy, client: socket.socket) -> bool:
        client.recv(100)
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        return silent_proxy(proxy, client)

    with FakeProxy(says_no, scheme="socks5") as proxy:
        error = refused(kind, proxy.url())
        assert isinstance(error, SonioxConnectionError)
        assert error.retryable is retryable
        assert "(from the parameter proxy)" in str(error)


def test_fault_of_python_socks_is_no_refusal(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sync", "async_.asyncio", "async_.trio"):

        def fail(*_: object, **__: object) -> None:
            raise TypeError("unexpected keyword")

        monkeypatch.setattr(f"python_socks.{module}.Proxy", fail)
    with FakeProxy(silent_proxy, scheme="socks5") as proxy:
        with (
            open_session(kind, "ws://localhost:1", **TIMES, proxy=proxy.url()) as driver,
            pytest.raises(TypeError, match="unexpected keyword"),
        ):
            driver.enter()
        assert proxy.left.wait(10)


def test_proxy_that_is_not_there(kind: Kind) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = refused(kind, f"http://user:secret@127.0.0.1:{port}")
    assert isinstance(error, SonioxConnectionError)
    assert "proxy" in str(error), "not the server is out of reach"


@pytest.mark.parametrize(
    ("greeting", "scheme"), [(silent_proxy, "http"), (silent_proxy, "socks5"), (drips, "socks5")]
)
def test_proxy_that_takes_too_long(kind: Kind, greeting: Greeting, scheme: str) -> None:
    with FakeProxy(greeting, scheme=scheme) as proxy:
        error = refused(kind, proxy.url(), connect_timeout_sec=0.2)
        assert isinstance(error, SonioxTimeoutError)
        assert error.operation == "connect"
        # The connection to the proxy is given up, not left behind.
        assert proxy.left.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="full queues are refused elsewhere")
def test_proxy_that_never_accepts(kind: Kind) -> None:
    with listener_that_accepts_nobody() as port:
        error = refused(kind, f"http://127.0.0.1:{port}", connect_timeout_sec=0.2)
        assert isinstance(error, SonioxTimeoutError)


def test_no_connect_timeout(kind: Kind) -> None:
    with (
        FakeServer(obliging) as server,
        FakeProxy(http_connect, scheme="http", server_port=server.port) as proxy,
        open_session(kind, f"ws://{REMOTE}", proxy=proxy.url(), connect_timeout_sec=None) as driver,
    ):
        check_session(driver)


def test_server_behind_the_proxy_refuses(kind: Kind) -> None:
    def leaves(peer: Peer) -> None:
        peer.read_request()

    with (
        FakeServer(leaves) as server,
        FakeProxy(http_connect, scheme="http", server_port=server.port) as proxy,
    ):
        assert isinstance(refused(kind, proxy.url()), SonioxConnectionError)
