"""Proxies: which one is used, the way through it, and what goes wrong on that way."""

from __future__ import annotations

import itertools
import socket
import ssl
import sys
import time
from typing import Any

import pytest

import soniox_adapters.proxy
from soniox_adapters import (
    Endpoint,
    Outcome,
    SonioxConnectionError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_adapters.proxy import proxy_url
from tests.support.adapter_listener import listener_that_accepts_nobody
from tests.support.adapter_proxy import (
    FakeProxy,
    Greeting,
    answers_with_garbage,
    cuts,
    drips,
    http_connect,
    refuses,
    silent_proxy,
    socks5,
)
from tests.support.adapter_scenarios import TIMES
from tests.support.adapter_server import FakeServer, Peer, obliging
from tests.support.adapter_sessions import Kind, SessionDriver, label, open_session

REMOTE = "stt.example.test"
"""A host that only the proxy can resolve."""

PLAIN = Endpoint.parse("ws://stt.example.test:8765")
SECURE = Endpoint.parse("wss://stt.example.test")


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


# Which one


def test_no_proxy_by_default() -> None:
    for nothing in (None, False, "", True):
        assert proxy_url(nothing, PLAIN) is None
        assert proxy_url(nothing, SECURE) is None


def test_given_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://environment:1")
    assert proxy_url("socks5://given:1080", PLAIN) == "socks5://given:1080"
    assert proxy_url(None, PLAIN) is None
    assert proxy_url(False, PLAIN) is None


@pytest.mark.parametrize(
    ("variables", "plain", "secure"),
    [
        ({"http_proxy": "http://h:1"}, "http://h:1", None),
        ({"https_proxy": "http://s:1"}, "http://s:1", "http://s:1"),
        ({"HTTPS_PROXY": "http://S:1"}, "http://S:1", "http://S:1"),
        ({"all_proxy": "http://a:1"}, "http://a:1", "http://a:1"),
        ({"all_proxy": "http://a:1", "https_proxy": "http://s:1"}, "http://s:1", "http://s:1"),
        ({"socks_proxy": "socks5://k:1", "https_proxy": "http://s:1"},) + ("socks5://k:1",) * 2,
        ({"ws_proxy": "http://w:1", "http_proxy": "http://h:1"}, "http://w:1", None),
        ({"wss_proxy": "http://ws:1", "https_proxy": "http://s:1"}, "http://s:1", "http://ws:1"),
        ({"https_proxy": ""}, None, None),
        ({"https_proxy": "http://s:1", "no_proxy": "example.test"}, None, None),
        ({"https_proxy": "http://s:1", "no_proxy": ".example.test"}, None, None),
        ({"https_proxy": "http://s:1", "no_proxy": "stt.example.test"}, None, None),
        ({"https_proxy": "http://s:1", "NO_PROXY": "other,stt.example.test"}, None, None),
        ({"https_proxy": "http://s:1", "no_proxy": "*"}, None, None),
        ({"https_proxy": "http://s:1", "no_proxy": "stt.example.test:8765"}, None, "http://s:1"),
        ({"https_proxy": "http://s:1", "no_proxy": "ample.test"}, "http://s:1", "http://s:1"),
        ({"https_proxy": "http://s:1", "no_proxy": "elsewhere"}, "http://s:1", "http://s:1"),
        ({"no_proxy": "elsewhere"}, None, None),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    plain: str | None,
    secure: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_url(True, PLAIN) == plain
    assert proxy_url(True, SECURE) == secure


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
    ("greeting", "scheme"), [(http_connect, "http"), (socks5, "socks5"), (socks5, "socks5h")]
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
        assert proxy.credentials == (["user:secret"] if credentials else [])
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


# What goes wrong


def test_missing_python_socks(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", ".sync", ".async_", ".async_.asyncio", ".async_.trio"):
        monkeypatch.setitem(sys.modules, f"python_socks{name}", None)
    with open_session(kind, "ws://localhost:8765", proxy="http://localhost:1") as driver:
        with pytest.raises(SonioxValidationError, match=r"soniox-proto\[proxy\]") as missing:
            driver.enter()
        assert isinstance(missing.value.__cause__, ImportError)


@pytest.mark.parametrize(
    "url", ["localhost:3128", "gopher://localhost:1", "http://", "http://host:port", "http://h:1:2"]
)
def test_malformed_proxy_urls(kind: Kind, url: str) -> None:
    with (
        open_session(kind, "ws://localhost:8765", **TIMES, proxy=url) as driver,
        pytest.raises(SonioxValidationError),
    ):
        driver.enter()


def refused(kind: Kind, proxy_url: str, **options: Any) -> BaseException:
    """Return the error of a session that cannot pass its proxy."""
    with open_session(kind, f"ws://{REMOTE}", **{**TIMES, **options}, proxy=proxy_url) as driver:
        start = time.monotonic()
        with pytest.raises((SonioxConnectionError, SonioxTimeoutError)) as error:
            driver.enter()
        assert time.monotonic() - start < 4.0
        assert driver.outcome is Outcome.LOST
        assert "secret" not in str(error.value)
        return error.value


@pytest.mark.parametrize("greeting", [refuses, answers_with_garbage, cuts])
def test_proxy_that_does_not_connect(kind: Kind, greeting: Greeting) -> None:
    with FakeProxy(greeting, scheme="http") as proxy:
        error = refused(kind, proxy.url("user:secret@"))
        assert isinstance(error, SonioxConnectionError)
        assert error.__cause__ is not None
        assert "proxy" in str(error)
        assert proxy.left.wait(10)


def test_socks_proxy_that_does_not_connect(kind: Kind) -> None:
    def says_no(proxy: FakeProxy, client: socket.socket) -> bool:
        client.recv(100)
        client.sendall(b"\x05\xff")
        return silent_proxy(proxy, client)

    with FakeProxy(says_no, scheme="socks5") as proxy:
        assert isinstance(refused(kind, proxy.url()), SonioxConnectionError)


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


def test_time_is_up_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy accepted at the last moment: nothing more is asked of it."""
    moments = itertools.chain([0.0, 0.1], itertools.repeat(5.0))

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return next(moments)

    with FakeProxy(silent_proxy, scheme="http") as proxy:
        monkeypatch.setattr(soniox_adapters.proxy, "time", Clock)
        error = refused(Kind.BLOCKING, proxy.url(), connect_timeout_sec=3.0)
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
