"""Sessions on connections that websocket-client opens, or that a user opened with it."""

from __future__ import annotations

import io
import logging
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import websocket

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Endpoint,
    Outcome,
    RealtimeSTTSession,
    SonioxConnectionError,
    SonioxError,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
    websocket_client,
)
from soniox_adapters.blocking import run_loop
from soniox_adapters.connecting.blocking import Connecting
from tests.support.adapters import proxy as proxies
from tests.support.adapters.listener import listener_that_accepts_nobody, port_that_refuses
from tests.support.adapters.proxy import FakeProxy
from tests.support.adapters.server import (
    PATIENCE,
    ClientLeftError,
    FakeServer,
    Peer,
    Script,
    obliging,
)
from tests.support.adapters.sessions import label
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, result

REMOTE = "ws://stt.example.test:8765/path"
"""Nobody can connect there without a proxy."""


def make(url: str, transport: Any = None, **options: Any) -> RealtimeSTTSession:
    options = {"close_timeout_sec": 0.2, "connect_timeout_sec": 5.0, **options}
    if transport is None:
        transport = websocket_client()
    return RealtimeSTTSession(
        url, CONFIG, options.pop("api_key", API_KEY), transport=transport, **options
    )


def use(session: RealtimeSTTSession) -> None:
    with session:
        session.send_bytes([b"audio"])
        assert [label(event) for event in session.receive_events()] == ["finished"]
    assert session.outcome is Outcome.FINISHED


def failure_of(session: RealtimeSTTSession) -> SonioxError:
    with pytest.raises(SonioxError) as raised:
        session.enter()
    return raised.value


def answers(data: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)
        peer.drain()

    return script


# What was read ahead


@contextmanager
def talkative_server(tls: ssl.SSLContext | None, messages: list[str]) -> Iterator[FakeServer]:
    """Sends messages in one segment with its answer, then nothing."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(peer.accepting_bytes() + b"".join(map(frames.text, messages)))
        peer.read_to_the_end()

    with FakeServer(script, tls=tls, host="localhost" if tls else "127.0.0.1") as server:
        yield server


@pytest.mark.parametrize("given", [False, True], ids=["opened", "given"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("size", [1, 5_000], ids=["small", "large"])
def test_what_follows_the_answer_is_received(
    given: bool,
    secure: bool,
    size: int,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing else makes the session read.
    monkeypatch.setattr(run_loop, "TICK_INTERVAL", 10 * PATIENCE)
    options = {"ping_interval_sec": None, "keepalive_interval_sec": None}
    words = ["one" * size, "two" * size]
    messages = [*map(result, words), FINISHED]
    with talkative_server(server_tls if secure else None, messages) as server:
        sslopt = {"context": client_tls}
        transport: Any = websocket_client(sslopt=sslopt)
        if given:
            transport = websocket.create_connection(server.url, sslopt=sslopt)
        with make(server.url, transport, **options) as session:
            events = [session.receive_event(timeout=PATIENCE) for _ in range(3)]
            assert [label(event) for event in events if event] == [*words, "finished"]


def test_what_tls_has_decrypted_is_read_without_polling_first(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing polls before it reads, and the socket has nothing more to show."""
    monkeypatch.setattr(run_loop, "TICK_INTERVAL", 10 * PATIENCE)

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(peer.accepting_bytes() + frames.text(FINISHED) + frames.close(1000))
        peer.hold()

    with FakeServer(script, tls=server_tls, host="localhost") as server:
        options = {"close_timeout_sec": None, "ping_interval_sec": None}
        session = make(server.url, ssl_context=client_tls, **options)
        session.enter()
        closing = threading.Thread(target=session.close)
        closing.start()
        closing.join(PATIENCE)
        assert session.outcome is Outcome.FINISHED
        assert not closing.is_alive()


# A WebSocket of the user's


def test_a_connected_websocket_is_taken_over() -> None:
    with FakeServer(obliging) as server:
        given = websocket.create_connection(server.url, header=["Authorization: Bearer own-key"])
        session = make(server.url, given, api_key=None)
        use(session)
        assert given.sock is None
        assert not given.connected
        given.close()
        request = server.peer().request
        assert request is not None
        assert request.values("authorization") == ["Bearer own-key"]


def test_a_function_may_return_a_websocket() -> None:
    with FakeServer(obliging) as server:

        def connect(endpoint: Endpoint, timeout: float | None) -> websocket.WebSocket:
            return websocket.create_connection(server.url, timeout=timeout)

        use(make(REMOTE, connect))


def test_a_function_that_returns_a_websocket_too_late() -> None:
    made: list[websocket.WebSocket] = []
    allowed = threading.Event()
    with FakeServer(Peer.accept) as server:

        def connect(endpoint: Endpoint, timeout: float | None) -> websocket.WebSocket:
            made.append(websocket.create_connection(server.url))
            allowed.wait(PATIENCE)
            return made[0]

        session = make(REMOTE, connect, connect_timeout_sec=0.2)
        assert isinstance(failure_of(session), SonioxTimeoutError)
        allowed.set()
        join_threads_named("soniox-connect")
        assert made[0].sock is None, "nobody uses it, so it is closed"


def test_a_websocket_that_is_not_connected_is_refused() -> None:
    assert "is not connected" in str(failure_of(make(REMOTE, websocket.WebSocket())))


@pytest.mark.parametrize(
    "data",
    [
        frames.text("12345")[:1],
        frames.text("12345")[:4],
        frames.encode(1, b"12345", final=False),
    ],
    ids=["half a header", "half a frame", "half a message"],
)
def test_a_websocket_that_received_a_part_of_a_message_is_refused(data: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(data)
        peer.drain()

    with FakeServer(script) as server:
        given = websocket.create_connection(server.url, timeout=0.2)
        with pytest.raises(websocket.WebSocketTimeoutException):
            given.recv()
        refused = failure_of(make(server.url, given))
        assert isinstance(refused, SonioxValidationError)
        assert "part of a message" in str(refused)
        assert given.sock is None


def test_messages_that_the_user_has_received_are_the_users() -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.send(frames.text("greeting") + frames.text(FINISHED))
        peer.read_to_the_end()

    with FakeServer(script) as server:
        given = websocket.create_connection(server.url)
        assert given.recv() == "greeting"
        with make(server.url, given) as session:
            assert [label(event) for event in session.receive_events()] == ["finished"]


def test_a_websocket_without_a_real_socket_is_refused() -> None:
    given = websocket.WebSocket()
    given.sock, given.connected = Any, True  # type: ignore[assignment]
    assert isinstance(failure_of(make(REMOTE, given)), SonioxValidationError)


# Keywords of websocket-client


def test_options_of_the_socket_are_kept() -> None:
    with FakeServer(obliging) as server:
        option = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        with make(server.url, websocket_client(sockopt=[option])) as session:
            (link,) = session._links
            connected = link.stream._socket
            assert connected.getsockopt(*option[:2]) == 0
            assert connected.gettimeout() == 0


@pytest.mark.parametrize(
    "header",
    [["X-Own: 1"], {"X-Own": "1", "X-None": None}, None, ()],
    ids=["list", "dict", "none", "empty"],
)
def test_headers_of_both_are_sent(header: Any) -> None:
    with FakeServer(obliging) as server:
        transport = websocket_client(header=header, cookie="a=b", suppress_origin=True)
        use(make(server.url, transport, additional_headers={"X-Session": "2"}))
        request = server.peer().request
        assert request is not None
        assert request.values("x-own") == (["1"] if header else [])
        assert request.values("x-none") == []
        assert request.values("x-session") == ["2"]
        assert request.values("cookie") == ["a=b"]
        assert request.values("origin") == []
        assert request.values("authorization") == [f"Bearer {API_KEY}"]
        assert request.values("host") == [f"127.0.0.1:{server.port}"]


def test_a_key_in_two_places_is_refused() -> None:
    session = make(REMOTE, websocket_client(header={"authorization": "Bearer other"}))
    refused = failure_of(session)
    assert isinstance(refused, SonioxValidationError)
    assert "api_key" in str(refused)


def test_the_url_is_the_sessions() -> None:
    with pytest.raises(SonioxValidationError, match="URL"):
        websocket_client(url="ws://elsewhere")


def test_a_transport_connects_any_number_of_sessions() -> None:
    transport = websocket_client(header=iter(["X-Own: 1"]))
    with FakeServer(obliging) as server:
        for index in range(2):
            use(make(server.url, transport))
            request = server.peer(index).request
            assert request is not None
            assert request.values("x-own") == ["1"]


def test_unknown_keywords_are_refused() -> None:
    with pytest.raises(
        SonioxValidationError, match=r"no option http_proxy, ssl_opt; it has class_"
    ):
        websocket_client(ssl_opt={}, http_proxy="localhost")
    with pytest.raises(SonioxValidationError, match="derived from"):
        websocket_client(class_=dict)


def test_a_plain_socket_for_a_secure_url_is_refused() -> None:
    near, far = socket.socketpair()
    with near, far:
        transport = websocket_client(socket=near)
        refused = failure_of(make("wss://stt.example.test", transport))
        assert isinstance(refused, SonioxValidationError)
        assert "unprotected" in str(refused)


@pytest.mark.parametrize("name", ["certfile", "ca_certs", "context"])
def test_settings_of_tls_in_two_places_are_refused(name: str, client_tls: ssl.SSLContext) -> None:
    transport = websocket_client(sslopt={name: client_tls})
    refused = failure_of(make("wss://127.0.0.1:1", transport, ssl_context=client_tls))
    assert isinstance(refused, SonioxValidationError)
    assert name in str(refused)


def test_a_class_of_the_users() -> None:
    class Own(websocket.WebSocket):
        def __init__(self, own: str = "", **options: Any) -> None:
            assert own == "own"
            super().__init__(**options)

    with FakeServer(obliging) as server:
        use(make(server.url, websocket_client(class_=Own, own="own")))


def test_the_certificate_is_checked(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with FakeServer(obliging, tls=server_tls, host="localhost") as server:
        refused = failure_of(make(server.url))
        assert isinstance(refused, SonioxConnectionError)
        assert not refused.retryable
        assert isinstance(refused.__cause__, ssl.SSLCertVerificationError)
    for transport, options in (
        (websocket_client(sslopt={"context": client_tls}), {}),
        (websocket_client(), {"ssl_context": client_tls}),
    ):
        with FakeServer(obliging, tls=server_tls, host="localhost") as server:
            use(make(server.url, transport, **options))


def test_an_ssl_context_keeps_its_checks(server_tls: ssl.SSLContext) -> None:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    with FakeServer(obliging, tls=server_tls, host="localhost") as server:
        use(make(server.url, ssl_context=trusting))
    assert trusting.verify_mode is ssl.CERT_NONE


def test_tls_options_that_cannot_work() -> None:
    with FakeServer(Peer.drain) as server:
        url = server.url.replace("ws://", "wss://")
        refused = failure_of(make(url, websocket_client(sslopt={"ca_certs": "/no/such/file"})))
        assert isinstance(refused, SonioxConnectionError)
        assert not refused.retryable


@pytest.mark.parametrize(
    ("scheme", "greeting"),
    [("http", proxies.http_connect), ("socks5h", proxies.socks5)],
    ids=["http", "socks5"],
)
def test_proxy(scheme: str, greeting: proxies.Greeting) -> None:
    with (
        FakeServer(obliging) as server,
        FakeProxy(greeting, scheme="http", server_port=server.port) as proxy,
    ):
        url = urlsplit(proxy.url())
        transport = websocket_client(
            http_proxy_host=url.hostname,
            http_proxy_port=url.port,
            http_proxy_auth=("user", "word"),
            proxy_type=scheme,
        )
        use(make(REMOTE, transport))
        assert proxy.targets == [("stt.example.test", 8765)]
        assert proxy.credentials == ["user:word"]


@pytest.mark.parametrize(
    ("greeting", "retryable"),
    [(proxies.refuses, False), (proxies.cuts, True), (proxies.resets, True)],
    ids=["refuses", "cuts", "resets"],
)
def test_proxy_that_fails(greeting: proxies.Greeting, retryable: bool) -> None:
    with FakeProxy(greeting, scheme="http") as proxy:
        url = urlsplit(proxy.url())
        transport = websocket_client(http_proxy_host=url.hostname, http_proxy_port=url.port)
        refused = failure_of(make(REMOTE, transport))
        assert isinstance(refused, SonioxConnectionError)
        assert "proxy" in str(refused)
        assert refused.retryable is retryable


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("limit", [{"timeout": 0.1}, {"http_proxy_timeout": 0.1, "timeout": 0.1}])
def test_a_proxy_that_stalls(scheme: str, limit: dict[str, float]) -> None:
    with FakeProxy(proxies.silent_proxy, scheme="http") as proxy:
        url = urlsplit(proxy.url())
        transport = websocket_client(
            http_proxy_host=url.hostname, http_proxy_port=url.port, proxy_type=scheme, **limit
        )
        late = failure_of(make(REMOTE, transport, connect_timeout_sec=None))
        assert isinstance(late, SonioxTimeoutError)
        assert late.retryable


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("answers_late", [False, True])
def test_aborted_while_a_proxy_stalls(scheme: str, answers_late: bool) -> None:
    asked, aborted = threading.Event(), threading.Event()
    sent: list[bytes] = []

    def stall(proxy: FakeProxy, client: socket.socket) -> bool:
        client.recv(4096)
        asked.set()
        aborted.wait(PATIENCE)
        if answers_late:
            client.sendall(proxies.ESTABLISHED)
        with suppress(ConnectionError):
            while data := client.recv(4096):
                sent.append(data)
        return False

    with FakeProxy(stall, scheme="http") as proxy:
        url = urlsplit(proxy.url())
        transport = websocket_client(
            http_proxy_host=url.hostname, http_proxy_port=url.port, proxy_type=scheme
        )
        session = make(REMOTE, transport, connect_timeout_sec=None)
        entering = threading.Thread(target=failure_of, args=(session,))
        entering.start()
        assert asked.wait(PATIENCE)
        session.abort()
        aborted.set()
        entering.join(PATIENCE)
        join_threads_named("soniox-connect")
        assert proxy.left.wait(PATIENCE)
        assert sent == []


@pytest.mark.parametrize("by_default", [False, True])
def test_a_timeout_of_websocket_clients(by_default: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_default:
        monkeypatch.setattr("websocket._socket._default_timeout", 0.1)
    transport = websocket_client(**({} if by_default else {"timeout": 0.1}))
    with FakeServer(Peer.drain) as server:
        session = make(server.url, transport, connect_timeout_sec=10 * PATIENCE)
        late = failure_of(session)
        assert isinstance(late, SonioxTimeoutError)
        assert (late.operation, late.retryable) == ("connect", True)
        assert "websocket_client" in str(late)


# Redirects


def redirects(port: int) -> Script:
    return answers(frames.refusal("302 Found", b"", [("Location", f"ws://127.0.0.1:{port}/x")]))


def test_the_key_does_not_follow_a_redirect() -> None:
    with FakeServer(obliging) as elsewhere, FakeServer(redirects(elsewhere.port)) as server:
        refused = failure_of(make(server.url))
        assert isinstance(refused, SonioxHandshakeError)
        assert refused.status_code == 302
        assert refused.headers["location"].endswith("/x")
        assert elsewhere.connections == 0


def test_redirects_are_followed_where_the_user_wants_them() -> None:
    with FakeServer(obliging) as elsewhere, FakeServer(redirects(elsewhere.port)) as server:
        use(make(server.url, websocket_client(redirect_limit=1)))
        assert elsewhere.connections == 1


def test_what_happens_after_a_redirect_is_reported() -> None:
    with port_that_refuses() as port, FakeServer(redirects(port)) as server:
        refused = failure_of(make(server.url, websocket_client(redirect_limit=1)))
        assert isinstance(refused, SonioxConnectionError)
        assert not isinstance(refused, SonioxHandshakeError)
        assert f"redirected to ws://127.0.0.1:{port}/x" in str(refused)
        assert refused.retryable


def test_the_last_redirect_is_refused() -> None:
    with FakeServer(redirects(1)) as elsewhere, FakeServer(redirects(elsewhere.port)) as server:
        refused = failure_of(make(server.url, websocket_client(redirect_limit=1)))
        assert isinstance(refused, SonioxHandshakeError)
        assert refused.headers["location"] == "ws://127.0.0.1:1/x"


def test_a_redirect_is_asked_for_its_own_host() -> None:
    with FakeServer(obliging) as elsewhere, FakeServer(redirects(elsewhere.port)) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        use(make(url, websocket_client(redirect_limit=1)))
        request = elsewhere.peer().request
        assert request is not None
        assert request.values("host") == [f"127.0.0.1:{elsewhere.port}"]


@pytest.mark.parametrize(
    "before", [[], [("Location", "wss://stt.example.test")]], ids=["one", "the second"]
)
def test_no_redirect_leads_out_of_tls(
    before: list[tuple[str, str]], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    with FakeServer(obliging) as elsewhere:
        headers = [*before, ("Location", f"ws://127.0.0.1:{elsewhere.port}/x")]
        script = answers(frames.refusal("302 Found", b"", headers))
        with FakeServer(script, tls=server_tls, host="localhost") as server:
            transport = websocket_client(redirect_limit=1)
            refused = failure_of(make(server.url, transport, ssl_context=client_tls))
        assert isinstance(refused, SonioxHandshakeError)
        assert elsewhere.connections == 0


def test_no_socket_without_tls_is_used_for_a_secure_url() -> None:
    class Careless(websocket.WebSocket):
        def connect(self, url: str, **options: Any) -> None:
            super().connect(url.replace("wss:", "ws:"), **options)  # type: ignore[no-untyped-call]

    with FakeServer(obliging) as server:
        url = server.url.replace("ws:", "wss:")
        refused = failure_of(make(url, websocket_client(class_=Careless)))
        assert isinstance(refused, SonioxConnectionError)
        assert not refused.retryable
        assert "TLS" in str(refused)
        assert server.peer().request is None


# Failures, and the key in them


def shown(error: BaseException) -> str:
    """Return everything that a log of an error may contain, variables of its frames included."""
    details = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(details.format()) + repr(vars(error))


ECHOES = {
    "status": frames.refusal(
        "401 Unauthorized", f"no {API_KEY}".encode(), [("X-Echo", f"Bearer {API_KEY}")]
    ),
    "status line": f"HTTP/1.1 Bearer {API_KEY}\r\n\r\n".encode(),
    "header": f"HTTP/1.1 101 OK\r\nBearer {API_KEY}\r\n\r\n".encode(),
    "not text": f"HTTP/1.1 101 OK\r\nX: {API_KEY}".encode() + b"\xff\r\n\r\n",
    "length": f"HTTP/1.1 401 No\r\nContent-Length: {API_KEY}\r\n\r\n".encode(),
    "redirect": f"HTTP/1.1 302 No\r\nLocation: {API_KEY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "no upgrade": b"HTTP/1.1 101 OK\r\n\r\n",
}


@pytest.mark.parametrize("authentication", ["header", "subprotocol"])
@pytest.mark.parametrize("answer", ECHOES)
@pytest.mark.parametrize("redirect_limit", [0, 3])
def test_no_failure_shows_the_key(
    answer: str, authentication: str, redirect_limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with FakeServer(answers(ECHOES[answer])) as server:
        transport = websocket_client(redirect_limit=redirect_limit)
        session = make(server.url, transport, authentication=authentication)
        refused = failure_of(session)
        assert API_KEY not in shown(refused)
        assert API_KEY not in caplog.text
        assert API_KEY not in repr((session, transport))
        if answer in {"status line", "header", "not text", "length", "no upgrade"}:
            assert isinstance(refused, SonioxProtocolError)
            assert "not a WebSocket handshake" in str(refused)


@pytest.mark.parametrize("authentication", ["header", "subprotocol"])
def test_the_trace_of_the_library_does_not_show_the_key(authentication: str) -> None:
    traced = io.StringIO()
    websocket.enableTrace(True, logging.StreamHandler(traced))
    try:
        with FakeServer(obliging) as server:
            secret = {"X-Secret": "hidden-too"}
            use(make(server.url, authentication=authentication, additional_headers=secret))
            request = server.peer().request
    finally:
        websocket.enableTrace(False)
    assert "Upgrade: websocket" in traced.getvalue()
    assert API_KEY not in traced.getvalue()
    assert "hidden-too" not in traced.getvalue()
    assert request is not None
    assert request.values("x-secret") == ["hidden-too"]
    assert request.values("x-headers-of-the-session") == []


def test_a_refusal_has_status_headers_and_body() -> None:
    with FakeServer(answers(ECHOES["status"])) as server:
        session = make(server.url)
        refused = failure_of(session)
        assert isinstance(refused, SonioxHandshakeError)
        assert refused.status_code == 401
        assert refused.headers["x-echo"] == "Bearer [API key]"
        assert refused.body == b"no [API key]"
        assert session.outcome is Outcome.REJECTED


def test_the_libraries_error_is_the_cause_unless_it_quotes_the_key() -> None:
    with FakeServer(answers(ECHOES["no upgrade"])) as server:
        assert isinstance(failure_of(make(server.url)).__cause__, websocket.WebSocketException)
    with FakeServer(answers(ECHOES["header"])) as server:
        assert isinstance(failure_of(make(server.url)).__cause__, websocket.WebSocketException)
    with FakeServer(answers(f"HTTP/1.1 101 {API_KEY}\r\n: \xff\r\n\r\n".encode())) as server:
        assert API_KEY not in shown(failure_of(make(server.url)))


def test_a_cause_that_leads_to_one_that_quotes_the_key() -> None:
    class Wrapping(websocket.WebSocket):
        def connect(self, url: str, **options: Any) -> None:
            try:
                super().connect(url, **options)  # type: ignore[no-untyped-call]
            except websocket.WebSocketException as error:
                raise LibraryError("no") from error

    answer = f"HTTP/1.1 101 OK\r\nX: {API_KEY}".encode() + b"\xff\r\n\r\n"
    with FakeServer(answers(answer)) as server:
        refused = failure_of(make(server.url, websocket_client(class_=Wrapping)))
        assert API_KEY not in shown(refused)


def test_a_key_that_repr_escapes_is_hidden() -> None:
    key = "sk-ab\\cd'ef-0123456789\"x"

    def script(peer: Peer) -> None:
        request = peer.read_request()
        peer.send(f"HTTP/1.1 101 OK\r\n{request.values('authorization')[0]}\xff".encode("latin1"))
        peer.send(b"\r\n\r\n")
        peer.drain()

    with FakeServer(script) as server:
        refused = failure_of(make(server.url, api_key=key))
        assert "0123456789" not in shown(refused)


UNFINISHED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nbad key"
REFUSALS = {
    "no length": b"HTTP/1.1 402 Payment\r\nConnection: close\r\n\r\nno balance",
    "cut short": UNFINISHED,
    "chunked": (
        b"HTTP/1.1 402 Payment\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nbalance\r\n0\r\n\r\n"
    ),
    "interim": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    ),
    "too large": b"HTTP/1.1 401 No\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000),
    "too large a head": b"HTTP/1.1 401 No\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: ws://x/\r\nContent-Length: 2\r\n\r\nno",
    "no redirect": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "nothing": b"",
}


def described(error: SonioxError) -> list[Any]:
    names = ("retryable", "retry_after", "status_code", "headers", "body", "close_code")
    return [type(error), str(error), *(getattr(error, name, None) for name in names)]


@pytest.mark.parametrize(
    ("answer", "redirect_limit"),
    [(answer, 0) for answer in REFUSALS]
    + [(answer, 1) for answer in REFUSALS if answer != "redirect"],
)
def test_refusals_end_as_on_a_connection_of_its_own(answer: str, redirect_limit: int) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        with suppress(OSError, ClientLeftError):
            peer.send(REFUSALS[answer])

    failures = []
    for transport in (None, websocket_client(redirect_limit=redirect_limit)):
        with FakeServer(script) as server:
            session = RealtimeSTTSession(
                server.url, CONFIG, API_KEY, transport=transport, proxy=None
            )
            failures.append(described(failure_of(session)))
    assert failures[0] == failures[1]


def test_a_refusal_whose_body_stalls() -> None:
    with FakeServer(answers(UNFINISHED)) as server:
        refused = failure_of(make(server.url, connect_timeout_sec=0.5))
        assert isinstance(refused, SonioxHandshakeError)
        assert (refused.status_code, refused.body) == (401, b"bad key")
        join_threads_named("soniox-connect")


def test_a_subprotocol_that_was_not_offered() -> None:
    def script(peer: Peer) -> None:
        peer.accept([("Sec-WebSocket-Protocol", "other")])
        peer.drain()

    with FakeServer(script) as server:
        refused = failure_of(make(server.url, authentication="subprotocol"))
        assert isinstance(refused, SonioxProtocolError)
        assert "subprotocol" in str(refused)


@pytest.mark.parametrize("selected", [None, "soniox-api-key", "own"])
def test_subprotocols_of_both_are_offered(selected: str | None) -> None:
    def script(peer: Peer) -> None:
        peer.accept([("Sec-WebSocket-Protocol", selected)] if selected else [])
        assert peer.read().message
        peer.say(FINISHED)
        peer.read_to_the_end()

    with FakeServer(script) as server:
        transport = websocket_client(subprotocols=["own"])
        with make(server.url, transport, authentication="subprotocol") as session:
            assert [label(event) for event in session.receive_events()] == ["finished"]
        request = server.peer().request
        assert request is not None
        offered = request.values("sec-websocket-protocol")
        assert offered == [f"soniox-api-key, {API_KEY}, own"]


class LibraryError(Exception):
    """Of some library that websocket-client uses."""


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (TypeError("no"), False),
        (websocket.WebSocketException("no"), False),
        (IsADirectoryError(21, "no"), False),
        (ConnectionResetError(104, "no"), True),
        (ConnectionResetError(), True),
        (websocket.WebSocketAddressException(socket.gaierror(-2, "no")), True),
        (LibraryError("no"), True),
    ],
    ids=["bug", "options", "file", "network", "no text", "name", "library"],
)
def test_failures_of_the_users_class(error: Exception, retryable: bool) -> None:
    class Failing(websocket.WebSocket):
        def connect(self, url: str, **options: Any) -> None:
            raise error

    refused = failure_of(make(REMOTE, websocket_client(class_=Failing)))
    assert isinstance(refused, SonioxConnectionError)
    assert refused.retryable is retryable
    assert isinstance(refused.__cause__, (type(error), OSError))


# The end of connecting


def join_threads_named(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_closing_while_the_upgrade_is_not_answered(
    tls: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    asked = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        asked.set()
        peer.drain()

    context = server_tls if tls else None
    with FakeServer(script, tls=context, host="localhost" if tls else "127.0.0.1") as server:
        session = make(server.url, connect_timeout_sec=None, ssl_context=client_tls)
        ended: list[BaseException] = []

        def enter() -> None:
            with pytest.raises(SonioxStateError) as raised:
                session.enter()
            ended.append(raised.value)

        thread = threading.Thread(target=enter)
        thread.start()
        assert asked.wait(PATIENCE)
        session.close()
        thread.join(PATIENCE)
        assert ended
        assert session.outcome is Outcome.CLOSED_LOCALLY
        # Without a deadline, only the end of its socket can have ended it.
        join_threads_named("soniox-connect")


def test_a_websocket_after_the_deadline_is_closed() -> None:
    with FakeServer(Peer.accept) as server:
        given = websocket.create_connection(server.url)
        connected = given.sock
        assert connected is not None
        with pytest.raises(TimeoutError):
            Connecting(time.monotonic() - 1.0).open(
                Endpoint.parse(server.url), ssl_context=None, proxy=None, transport=given
            )
        assert connected.fileno() == -1


@pytest.mark.skipif(sys.platform != "linux", reason="full queues are refused elsewhere")
def test_giving_up_before_there_is_a_socket() -> None:
    with listener_that_accepts_nobody() as port:
        session = make(f"ws://127.0.0.1:{port}", connect_timeout_sec=0.2)
        begun = time.monotonic()
        assert isinstance(failure_of(session), SonioxTimeoutError)
        assert time.monotonic() - begun < PATIENCE
        join_threads_named("soniox-connect")


def test_giving_up_leaves_the_sockets_of_a_later_thread_alone() -> None:
    """Systems give the number of a thread that has ended to the next one."""
    attempt = websocket_client().attempt(Client().connection.upgrade_request, None)
    ended, given_up = threading.Event(), threading.Event()
    near, far = socket.socketpair()

    def connect(port: int) -> None:
        with pytest.raises(OSError, match="cannot connect"):
            attempt(Endpoint.parse(f"ws://127.0.0.1:{port}"), PATIENCE)
        mine = near  # From here on it is as if this were the next thread.
        ended.set()
        assert given_up.wait(PATIENCE)
        mine.sendall(b"x")

    with near, far, port_that_refuses() as port:
        thread = threading.Thread(target=connect, args=(port,))
        thread.start()
        assert ended.wait(PATIENCE)
        attempt.abandon()
        given_up.set()
        thread.join(PATIENCE)
        far.settimeout(PATIENCE)
        assert far.recv(1) == b"x"


# Where it cannot be used


@pytest.mark.parametrize("transport", [websocket_client, websocket.WebSocket])
def test_async_sessions_refuse_it(transport: Callable[[], Any]) -> None:
    with pytest.raises(SonioxValidationError, match="for blocking sessions"):
        AsyncRealtimeSTTSession(REMOTE, CONFIG, transport=transport())


def test_the_library_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websocket", None)
    with pytest.raises(SonioxValidationError, match=r"soniox-proto\[websocket-client\]"):
        websocket_client()
    with pytest.raises(SonioxValidationError, match="WebSocket of websocket-client"):
        RealtimeSTTSession(REMOTE, CONFIG, transport=object())  # type: ignore[arg-type]
