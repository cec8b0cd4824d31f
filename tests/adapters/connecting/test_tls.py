"""TLS: who is trusted, what an untrusted server gets, and the same endings as without it."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from soniox_adapters import (
    Outcome,
    SonioxConnectionError,
    SonioxError,
    SonioxServerError,
    SonioxStateError,
    SonioxTimeoutError,
)
from soniox_adapters.connecting.tls import _default_context, client_context
from soniox_proto import Endpoint
from tests.support.adapters.scenarios import ONE, RESTART, TIMES, TWO
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, obliging, silent
from tests.support.adapters.sessions import Kind, label, open_session
from tests.support.core.messages import FINISHED, KEEPALIVE


def tls_server(server_tls: ssl.SSLContext, *scripts: Callable[[Peer], None]) -> FakeServer:
    return FakeServer(*scripts, tls=server_tls, host="localhost")


def context_for(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


# Trust


def test_default_context_verifies() -> None:
    context = client_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert client_context(None) is context, "the trust store is read once"
    assert client_context(context) is context


def test_a_system_whose_tls_cannot_be_set_up(
    kind: Kind, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # OpenSSL is to log the keys of sessions to a file that cannot be written.
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path))
    _default_context.cache_clear()
    with (
        tls_server(server_tls, silent) as server,
        open_session(kind, server.url, **TIMES) as driver,
    ):
        # websocket-client makes its own settings, and reports what the system says.
        text = "(?i)directory" if kind is Kind.WEBSOCKET_CLIENT else "TLS cannot be set up"
        with pytest.raises(SonioxConnectionError, match=text) as refused:
            driver.enter()
        assert not refused.value.retryable
        assert isinstance(refused.value.__cause__, OSError)
    _default_context.cache_clear()


@pytest.mark.parametrize("given", [False, True], ids=["system", "given"])
def test_unknown_authority_is_refused(kind: Kind, server_tls: ssl.SSLContext, given: bool) -> None:
    options = {"ssl_context": ssl.create_default_context()} if given else {}
    with (
        tls_server(server_tls, silent) as server,
        open_session(kind, server.url, **TIMES, **options) as driver,
    ):
        with pytest.raises(SonioxConnectionError) as refused:
            driver.enter()
        assert not refused.value.retryable
        assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)
        assert driver.outcome is Outcome.LOST
        server.peer().wait_until_done()
        assert server.peer().request is None, "nothing may be said to a server that is not trusted"


def test_other_host_name_is_refused(
    kind: Kind, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    with (
        tls_server(context_for(authority, "example.test"), silent) as server,
        open_session(kind, server.url, **TIMES, ssl_context=client_tls) as driver,
    ):
        with pytest.raises(SonioxConnectionError) as refused:
            driver.enter()
        assert not refused.value.retryable
        assert server.peer().request is None


def test_address_in_the_certificate_is_accepted(
    kind: Kind, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    with (
        FakeServer(obliging, tls=context_for(authority, "127.0.0.1")) as server,
        open_session(kind, server.url, **TIMES, ssl_context=client_tls) as driver,
    ):
        driver.enter()


def test_trailing_dot_of_a_host_is_not_part_of_its_name(
    kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    with tls_server(server_tls, obliging) as server:
        # Not every resolver knows this name, so the connection is made here.
        url = server.url.replace("localhost", "localhost.")
        endpoint = Endpoint.parse(url)
        connected = socket.create_connection(("localhost", endpoint.port))
        options = {"transport": connected, "ssl_context": client_tls}
        with open_session(kind, url, **TIMES, **options) as driver:
            driver.enter()


def test_client_certificate(kind: Kind, authority: trustme.CA) -> None:
    server_context = context_for(authority, "localhost")
    server_context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    authority.issue_cert("client@example.test").configure_cert(client_context)
    with (
        tls_server(server_context, obliging) as server,
        open_session(kind, server.url, **TIMES, ssl_context=client_context) as driver,
    ):
        driver.enter()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_missing_client_certificate(
    kind: Kind, authority: trustme.CA, client_tls: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """Whether the handshake fails or, with TLS 1.3, the first read after it."""
    server_context = context_for(authority, "localhost")
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.maximum_version = version

    def refuses(peer: Peer) -> None:
        assert not peer.accept_tls(server_context)
        # Ended with unread data, the connection would be reset, and the alert might get lost.
        while socket.socket.recv(peer._socket, 4096):
            pass

    with (
        FakeServer(refuses, host="localhost") as server,
        open_session(
            kind, server.url.replace("ws:", "wss:"), **TIMES, ssl_context=client_tls
        ) as driver,
    ):
        with pytest.raises(SonioxConnectionError) as refused:
            driver.enter()
        assert not refused.value.retryable


# Handshakes that fail in other ways


def test_server_without_tls(kind: Kind, client_tls: ssl.SSLContext) -> None:
    def plain(peer: Peer) -> None:
        peer.wait_until_readable()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.hold()

    with FakeServer(plain, host="localhost") as server:
        url = server.url.replace("ws://", "wss://")
        with open_session(kind, url, **TIMES, ssl_context=client_tls) as driver:
            with pytest.raises(SonioxConnectionError) as refused:
                driver.enter()
            assert isinstance(refused.value.__cause__, OSError)
            assert not refused.value.retryable, "a server without TLS stays one"


def test_no_version_in_common(
    kind: Kind, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    server_context = context_for(authority, "localhost")
    server_context.maximum_version = ssl.TLSVersion.TLSv1_2
    client_context = ssl.create_default_context()
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    with (
        tls_server(server_context, obliging) as server,
        open_session(kind, server.url, **TIMES, ssl_context=client_context) as driver,
    ):
        with pytest.raises(SonioxConnectionError) as refused:
            driver.enter()
        assert not refused.value.retryable


def test_end_of_the_stream_in_the_handshake(kind: Kind, client_tls: ssl.SSLContext) -> None:
    def cut(peer: Peer) -> None:
        peer.wait_until_readable()
        peer.cut()
        peer.hold()

    with FakeServer(cut, host="localhost") as server:
        url = server.url.replace("ws://", "wss://")
        with (
            open_session(kind, url, **TIMES, ssl_context=client_tls) as driver,
            pytest.raises(SonioxConnectionError) as cut_off,
        ):
            driver.enter()
        assert cut_off.value.retryable


def test_handshake_that_is_never_answered(kind: Kind, client_tls: ssl.SSLContext) -> None:
    with FakeServer(Peer.hold, host="localhost") as server:
        url = server.url.replace("ws://", "wss://")
        options = {**TIMES, "connect_timeout_sec": 0.2}
        with open_session(kind, url, **options, ssl_context=client_tls) as driver:
            with pytest.raises(SonioxTimeoutError) as late:
                driver.enter()
            assert late.value.operation == "connect"
            assert driver.outcome is Outcome.LOST


# Sessions


def test_session(kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with (
        tls_server(server_tls, obliging) as server,
        open_session(kind, server.url, **TIMES, ssl_context=client_tls) as driver,
    ):
        audio = bytes(range(256)) * 4000
        with driver.connected():
            driver.call("send_bytes", [audio[:1], audio[1:]])
            assert [label(event) for event in driver.collect()] == ["finished"]
        assert driver.outcome is Outcome.FINISHED
        peer = server.peer()
        peer.wait_until_done()
        assert peer.audio == audio


def test_messages_of_many_records(
    kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    # One record holds 16 KiB, one read may hold several records.
    text = "long " * 100_000
    long = f'{{"tokens": [{{"text": "{text}", "is_final": true}}]}}'

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(*[ONE] * 100, long, TWO, FINISHED)
        peer.read_to_the_end()

    with (
        tls_server(server_tls, script) as server,
        open_session(kind, server.url, **TIMES, ssl_context=client_tls) as driver,
    ):
        driver.enter()
        received = [label(event) for event in driver.collect()]
        assert received == ["one"] * 100 + [text, "two", "finished"]


def ends_without_alert(peer: Peer) -> None:
    peer.cut()
    peer.hold()


def ends_with_alert(peer: Peer) -> None:
    peer.end_tls()
    peer.hold()


def reports_an_error(peer: Peer) -> None:
    peer.say(RESTART)
    peer.hold()


@pytest.mark.parametrize(
    ("ending", "outcome", "raises"),
    [
        (ends_without_alert, Outcome.LOST, SonioxConnectionError),
        (ends_with_alert, Outcome.LOST, SonioxConnectionError),
        (Peer.reset, Outcome.LOST, SonioxConnectionError),
        (reports_an_error, Outcome.SERVER_ERROR, SonioxServerError),
    ],
    ids=["cut", "closing-alert", "reset", "error-message"],
)
def test_endings(
    kind: Kind,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    ending: Callable[[Peer], Any],
    outcome: Outcome,
    raises: type[SonioxError],
) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.say(ONE, TWO)
        ending(peer)

    with (
        tls_server(server_tls, script) as server,
        open_session(kind, server.url, **TIMES, ssl_context=client_tls) as driver,
    ):
        driver.enter()
        assert [label(driver.first_event()) for _ in range(2)] == ["one", "two"]
        with pytest.raises(raises) as ended:
            driver.collect()
        assert re.search(r": .|without a close frame$", str(ended.value)), "it says why"
        driver.close()
        assert driver.outcome is outcome


def test_reset_while_another_sends(
    kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        peer.reset()

    with (
        tls_server(server_tls, script) as server,
        open_session(kind, server.url, **TIMES, ssl_context=client_tls) as driver,
    ):
        driver.enter()
        sender = driver.start("send_bytes", itertools.repeat(bytes(1024 * 1024)))
        with pytest.raises(SonioxConnectionError):
            driver.receive()
        # It waited for room, or was about to send more.
        assert isinstance(sender.exception(PATIENCE), (SonioxConnectionError, SonioxStateError))
        assert driver.outcome is Outcome.LOST


def test_close_does_not_wait_for_the_end_of_tls(
    kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.read_until_close()
        peer.close()
        peer.hold()

    with (
        tls_server(server_tls, script) as server,
        open_session(kind, server.url, ssl_context=client_tls, close_timeout_sec=None) as driver,
    ):
        driver.enter()
        driver.close()
        assert driver.outcome is Outcome.CLOSED_LOCALLY


def test_keepalives_while_nobody_receives(
    kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    options = {**TIMES, "keepalive_interval_sec": 0.05, "ssl_context": client_tls}
    with (
        tls_server(server_tls, silent) as server,
        open_session(kind, server.url, **options) as driver,
    ):
        driver.enter()
        peer = server.peer()
        peer.wait_for(lambda: peer.count(KEEPALIVE) >= 3)


def test_connection_refused(kind: Kind, client_tls: ssl.SSLContext) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"wss://localhost:{unused.getsockname()[1]}"
        with (
            open_session(kind, url, **TIMES, ssl_context=client_tls) as driver,
            pytest.raises(SonioxConnectionError) as refused,
        ):
            driver.enter()
    assert refused.value.retryable
