"""Bring your own transport: sockets, streams, and functions that open them."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.abc
import anyio.streams.tls
import pytest
import trio

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Endpoint,
    Outcome,
    RealtimeSTTSession,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from tests.support.adapters.pipe import Pipe, pump
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, obliging
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session
from tests.support.core.messages import API_KEY, CONFIG

URL = "ws://stt.example.test:8765/path"
"""Nobody can connect there."""

SECURE_URL = "wss://localhost/path"

OPTIONS: dict[str, Any] = {"close_timeout_sec": 0.2, "connect_timeout_sec": 5.0}

AnyStream: TypeAlias = "anyio.abc.ByteStream | trio.abc.Stream"
Opener: TypeAlias = Callable[[FakeServer], Awaitable[AnyStream]]

TAKES_SOCKETS = [Kind.BLOCKING, Kind.ASYNCIO, Kind.TRIO]


@pytest.fixture(params=TAKES_SOCKETS, ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Kinds of session, without the one that has a transport already."""
    assert isinstance(request.param, Kind)
    return request.param


def check_session(driver: SessionDriver) -> None:
    with driver.connected():
        driver.call("send_bytes", [b"audio"])
        assert [label(event) for event in driver.collect()] == ["finished"]
    assert driver.outcome is Outcome.FINISHED


async def check_async_session(session: AsyncRealtimeSTTSession) -> None:
    async with session:
        await session.send_bytes([b"audio"])
        assert [label(event) async for event in session.receive_events()] == ["finished"]
    assert session.outcome is Outcome.FINISHED


def make_async(transport: Any, url: str = URL, **options: Any) -> AsyncRealtimeSTTSession:
    return AsyncRealtimeSTTSession(
        url, CONFIG, API_KEY, transport=transport, **{**OPTIONS, **options}
    )


def connector(kind: Kind, open_socket: Callable[[], socket.socket]) -> object:
    """Return a function that a session of `kind` takes for opening its transport."""

    def connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
        check_endpoint(endpoint)
        assert timeout is not None
        assert 0 < timeout <= 5.0
        return open_socket()

    async def connect_async(endpoint: Endpoint) -> socket.socket:
        check_endpoint(endpoint)
        await anyio.lowlevel.checkpoint()
        return open_socket()

    return connect_async if kind.asynchronous else connect


def check_endpoint(endpoint: Endpoint) -> None:
    assert (endpoint.host, endpoint.port) == ("stt.example.test", 8765)
    assert (endpoint.target, endpoint.secure) == ("/path", False)


# Sockets


def test_connected_socket(kind: Kind) -> None:
    with FakeServer(obliging) as server:
        connected = socket.create_connection(("127.0.0.1", server.port))
        with open_session(kind, URL, transport=connected, **OPTIONS) as driver:
            check_session(driver)
        assert connected.fileno() == -1, "the session owns what it was given"
        request = server.peer().request
        assert request is not None
        assert request.values("host") == ["stt.example.test:8765"]


def test_socket_pair(kind: Kind) -> None:
    with FakeServer(obliging) as server:
        near, far = socket.socketpair()
        server.adopt(far)
        with open_session(kind, URL, transport=near, **OPTIONS) as driver:
            check_session(driver)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no unix sockets here")
def test_unix_socket(kind: Kind, tmp_path: Path) -> None:
    address = str(tmp_path / "proxy")
    with socket.socket(socket.AF_UNIX) as listener, FakeServer(obliging) as server:
        listener.bind(address)
        listener.listen()
        near = socket.socket(socket.AF_UNIX)
        near.connect(address)
        server.adopt(listener.accept()[0])
        with open_session(kind, URL, transport=near, **OPTIONS) as driver:
            check_session(driver)


TUNNEL = """
import contextlib, os, socket, sys, threading
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def send():
    with contextlib.suppress(OSError):
        while data := os.read(0, 4096):
            far.sendall(data)
    far.shutdown(socket.SHUT_RDWR)
threading.Thread(target=send).start()
with contextlib.suppress(OSError):
    while data := far.recv(4096):
        os.write(1, data)
"""
"""A program that joins its standard input and output to a server, as `ssh -W` does."""


@pytest.mark.skipif(sys.platform == "win32", reason="a socket is no standard input there")
def test_tunnel_through_another_program(kind: Kind) -> None:
    programs: list[subprocess.Popen[bytes]] = []
    with FakeServer(obliging) as server:

        def open_it() -> socket.socket:
            near, far = socket.socketpair()
            with far:
                command = [sys.executable, "-c", TUNNEL, str(server.port)]
                pipe = far.fileno()
                programs.append(subprocess.Popen(command, stdin=pipe, stdout=pipe))
            return near

        with open_session(kind, URL, transport=connector(kind, open_it), **OPTIONS) as driver:
            check_session(driver)
    assert programs[0].wait(PATIENCE) == 0


def test_function_that_returns_a_socket(kind: Kind) -> None:
    with FakeServer(obliging) as server:

        def open_it() -> socket.socket:
            return socket.create_connection(("127.0.0.1", server.port))

        with open_session(kind, URL, transport=connector(kind, open_it), **OPTIONS) as driver:
            check_session(driver)


@pytest.mark.parametrize("as_function", [False, True], ids=["socket", "function"])
def test_tls_on_top_of_a_socket(
    kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, as_function: bool
) -> None:
    with FakeServer(obliging, tls=server_tls) as server:
        connected = socket.create_connection(("127.0.0.1", server.port))

        async def connect_async(endpoint: Endpoint) -> socket.socket:
            return connected

        given: object = connected
        if as_function:
            given = connect_async if kind.asynchronous else lambda *_: connected
        options = {**OPTIONS, "transport": given, "ssl_context": client_tls}
        with open_session(kind, SECURE_URL, **options) as driver:
            check_session(driver)


def test_socket_that_is_tls_already(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with FakeServer(obliging, tls=server_tls) as server:
        plain = socket.create_connection(("127.0.0.1", server.port))
        secure = client_tls.wrap_socket(plain, server_hostname="localhost")
        with RealtimeSTTSession(SECURE_URL, CONFIG, API_KEY, transport=secure) as session:
            session.send_bytes([b"audio"])
            assert [event.finished for event in session.receive_events()] == [True]


@pytest.mark.parametrize("kind", [Kind.ASYNCIO, Kind.TRIO], ids=lambda kind: kind.value)
def test_tls_socket_is_refused_where_it_cannot_be_used(
    kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Event loops move the bytes of plain sockets only: a clear word instead of wrong bytes."""
    with FakeServer(Peer.hold, tls=server_tls) as server:
        plain = socket.create_connection(("127.0.0.1", server.port))
        with (
            client_tls.wrap_socket(plain, server_hostname="localhost") as secure,
            open_session(kind, SECURE_URL, transport=secure, **OPTIONS) as driver,
            pytest.raises(SonioxValidationError),
        ):
            driver.enter()


# Functions that fail


@contextmanager
def failing(kind: Kind, error: Exception) -> Iterator[SessionDriver]:
    def fail() -> socket.socket:
        raise error

    with open_session(kind, URL, transport=connector(kind, fail), **OPTIONS) as driver:
        yield driver


def test_function_that_cannot_connect(kind: Kind) -> None:
    error = ConnectionRefusedError(111, "the tunnel is down")
    with failing(kind, error) as driver:
        with pytest.raises(SonioxConnectionError, match="the tunnel is down") as raised:
            driver.enter()
        assert raised.value.__cause__ is error
        assert driver.outcome is Outcome.LOST


def test_function_that_takes_too_long(kind: Kind) -> None:
    with failing(kind, TimeoutError()) as driver, pytest.raises(SonioxTimeoutError):
        driver.enter()


def test_function_that_has_a_fault_of_its_own(kind: Kind) -> None:
    with failing(kind, LookupError("no such tunnel")) as driver:
        with pytest.raises(SonioxConnectionError, match=r"LookupError.*no such tunnel") as raised:
            driver.enter()
        assert isinstance(raised.value.__cause__, LookupError)
        assert not raised.value.retryable, "the function would fail again"
        assert driver.outcome is Outcome.LOST
        assert driver.session.state.value == "closed"


def test_function_that_fails_in_the_words_of_its_library(kind: Kind) -> None:
    class TunnelError(Exception):
        pass

    with failing(kind, TunnelError("no route")) as driver:
        with pytest.raises(SonioxConnectionError, match="no route") as raised:
            driver.enter()
        assert isinstance(raised.value.__cause__, TunnelError)
        assert raised.value.retryable


def test_function_that_raises_an_error_of_this_library(kind: Kind) -> None:
    error = SonioxConnectionError("the pool is empty")
    with failing(kind, error) as driver:
        with pytest.raises(SonioxConnectionError) as raised:
            driver.enter()
        assert raised.value is error


@pytest.mark.anyio
async def test_async_function_that_never_returns() -> None:
    async def connect(endpoint: Endpoint) -> anyio.abc.ByteStream:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(PATIENCE):
        with pytest.raises(SonioxTimeoutError) as late:
            await make_async(connect, connect_timeout_sec=0.1).enter()
    assert late.value.operation == "connect"


@pytest.mark.anyio
async def test_session_is_used_while_the_function_connects(anyio_backend: str) -> None:
    """Audio is held and goes out first; the deadline holds whatever else is called."""
    allowed = anyio.Event()
    with FakeServer(obliging) as server:

        async def connect(endpoint: Endpoint) -> AnyStream:
            await allowed.wait()
            return await open_anyio_stream(server)

        session = make_async(connect)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(session.enter)
                await anyio.wait_all_tasks_blocked()
                await session.send_byte_chunk(b"first words")
                allowed.set()
        await session.finish()
        assert [label(event) async for event in session.receive_events()] == ["finished"]
        await session.close()
        assert server.peer().messages[1:] == [b"first words", ""]


@pytest.mark.anyio
async def test_closing_while_the_function_connects(anyio_backend: str) -> None:
    async def connect(endpoint: Endpoint) -> AnyStream:
        await anyio.sleep_forever()
        raise AssertionError

    session = make_async(connect, connect_timeout_sec=0.3)

    async def enter() -> None:
        with pytest.raises(SonioxRealtimeError):
            await session.enter()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(enter)
            await anyio.wait_all_tasks_blocked()
            await session.close()
            assert session.outcome is Outcome.CLOSED_LOCALLY
    assert session.outcome is Outcome.CLOSED_LOCALLY


@pytest.mark.anyio
async def test_function_that_is_not_async() -> None:
    near, far = socket.socketpair()
    with far, pytest.raises(SonioxValidationError, match="must be an async"):
        await make_async(lambda _: near).enter()
    assert near.fileno() == -1


def test_function_that_returns_something_else(kind: Kind) -> None:
    with (
        open_session(kind, URL, transport=connector(kind, lambda: 42), **OPTIONS) as driver,  # type: ignore[arg-type,return-value]
        pytest.raises(SonioxValidationError, match="transport"),
    ):
        driver.enter()


# Streams


async def open_anyio_stream(server: FakeServer) -> anyio.abc.ByteStream:
    return await anyio.connect_tcp("127.0.0.1", server.port)


async def open_trio_stream(server: FakeServer) -> trio.abc.Stream:
    return await trio.open_tcp_stream("127.0.0.1", server.port)


def openers(backend: str) -> list[Opener]:
    return [open_anyio_stream, open_trio_stream] if backend == "trio" else [open_anyio_stream]


@pytest.mark.anyio
@pytest.mark.parametrize("as_function", [False, True], ids=["stream", "function"])
async def test_stream(anyio_backend: str, as_function: bool) -> None:
    for opener in openers(anyio_backend):
        with FakeServer(obliging) as server:

            async def connect(
                endpoint: Endpoint, opener: Opener = opener, server: FakeServer = server
            ) -> AnyStream:
                return await opener(server)

            given = connect if as_function else await opener(server)
            await check_async_session(make_async(given))


@pytest.mark.anyio
async def test_tls_on_top_of_a_stream(
    anyio_backend: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    for opener in openers(anyio_backend):
        with FakeServer(obliging, tls=server_tls) as server:
            stream = await opener(server)
            await check_async_session(make_async(stream, SECURE_URL, ssl_context=client_tls))


@pytest.mark.anyio
async def test_stream_is_closed_if_tls_fails(anyio_backend: str) -> None:
    for opener in openers(anyio_backend):
        with FakeServer(speaks_no_tls) as server:
            stream = await opener(server)
            with pytest.raises(SonioxConnectionError):
                await make_async(stream, SECURE_URL).enter()
            # The server's end, and the check for leaks, tell whether it is closed.
            server.peer().wait_until_left()


def speaks_no_tls(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    while True:
        peer.read_request()


@pytest.mark.anyio
async def test_stream_that_is_tls_already(
    anyio_backend: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    with FakeServer(obliging, tls=server_tls) as server:
        stream = await anyio.streams.tls.TLSStream.wrap(
            await open_anyio_stream(server),
            hostname="localhost",
            ssl_context=client_tls,
            standard_compatible=False,
        )
        await check_async_session(make_async(stream, SECURE_URL))
    if anyio_backend == "trio":
        with FakeServer(obliging, tls=server_tls) as server:
            secure = trio.SSLStream(
                await open_trio_stream(server), client_tls, server_hostname="localhost"
            )
            await check_async_session(make_async(secure, SECURE_URL))


@pytest.mark.anyio
async def test_pipe_in_memory() -> None:
    to_client, from_server = anyio.create_memory_object_stream[bytes](10)
    to_server, from_client = anyio.create_memory_object_stream[bytes](10)
    session = make_async(Pipe(from_server, to_server))
    with FakeServer(obliging) as server:
        async with (
            await open_anyio_stream(server) as stream,
            to_client,
            from_client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(pump, from_client, stream)
            group.start_soon(pump, stream, to_client)
            await check_async_session(session)
            group.cancel_scope.cancel()
