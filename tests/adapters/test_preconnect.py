"""Connections opened before they are needed, with real sockets, in all three worlds."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import os
import pickle
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import anyio
import pytest
import trio
import websocket

from soniox_adapters import (
    AsyncSonioxClient,
    Outcome,
    ReconnectPolicy,
    SonioxAuthenticationError,
    SonioxClient,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
    websocket_client,
)
from soniox_adapters.testing import record
from tests.support.adapters.clients import WORLDS, AnyClient, open_client
from tests.support.adapters.conditions import be_collected, come_true
from tests.support.adapters.server import PATIENCE, ClientLeftError, FakeServer, Peer
from tests.support.core import frames
from tests.support.core.frames import Opcode
from tests.support.core.messages import (
    API_KEY,
    CONFIG,
    FINISHED,
    KEEPALIVE,
    START_MESSAGE,
    UNAUTHENTICATED,
    error,
    result,
)

POOL: Final = {"stt_connection_pool_size": 1}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def serve(peer: Peer) -> None:
    """Do what the service does, for a connection that may wait for its start message."""
    peer.accept()
    while (frame := peer.read()).opcode is not Opcode.CLOSE:
        if frame.opcode is Opcode.TEXT and not frame.payload:
            peer.say(result("heard"), FINISHED)
            peer.close()
    peer.close()


def ready(client: AnyClient) -> int:
    """Return how many connections are waiting."""
    idle = client.client.idle_connections
    pool = idle._pool if isinstance(client.client, SonioxClient) else idle._here._pool
    count: int = pool.ready
    return count


def talk(client: AnyClient, **options: Any) -> None:
    """Send something, and get the answer."""
    with client.connect(**options) as session:
        session.send(b"audio")
        session.call("finish")
        texts = [token.text for token in session.receive().tokens]  # type: ignore[union-attr]
        assert texts == ["heard"]
        assert session.receive().finished  # type: ignore[union-attr]
        assert session.receive() is None
        session.call("close")
        assert session.session.outcome is Outcome.FINISHED


def test_a_session_takes_a_connection_and_the_pool_is_refilled(world: str) -> None:
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        assert server.connections == 1
        talk(client)
        assert server.peer(0).messages == [START_MESSAGE, b"audio", ""]
        come_true(lambda: server.connections == 2 and ready(client) == 1)
        talk(client)
        assert server.peer(1).messages == [START_MESSAGE, b"audio", ""]
        come_true(lambda: server.connections == 3 and ready(client) == 1)
        client.close()
        for index in range(3):
            server.peer(index).wait_until_done()
        assert server.peer(2).messages == []
        assert server.peer(2).close_codes == [1000]


def test_several_at_once(world: str) -> None:
    options = {"stt_connection_pool_size": 3}
    with FakeServer(serve) as server, open_client(world, server.url, **options) as client:
        client.warm_up()
        assert ready(client) == server.connections == 3
        with client.connect() as one, client.connect() as two, client.connect() as three:
            for session in (one, two, three):
                session.send(b"audio")
            come_true(lambda: sum(b"audio" in peer.messages for peer in server._peers) == 3)
        assert [server.peer(index).messages[0] for index in range(3)] == [START_MESSAGE] * 3


def test_over_tls(world: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with (
        FakeServer(serve, tls=server_tls, host="localhost") as server,
        open_client(world, server.url, **POOL) as client,
    ):
        client.warm_up(ssl_context=client_tls)
        assert server.connections == 1
        talk(client, ssl_context=client_tls)
        come_true(lambda: server.connections == 2 and ready(client) == 1)


def test_without_a_warm_up_the_first_session_starts_the_pool(world: str) -> None:
    with (
        FakeServer(serve) as server,
        open_client(world, server.url, **POOL) as client,
        client.connect() as session,
    ):
        session.send(b"audio")
        come_true(lambda: server.connections == 2 and ready(client) == 1)


def test_without_a_pool_nothing_is_opened(world: str) -> None:
    with FakeServer(serve) as server, open_client(world, server.url) as client:
        client.warm_up()
        assert client.client.idle_connections is None
        talk(client)
        assert server.connections == 1


# What keeps them alive


def test_keepalives_while_they_wait(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soniox_proto.preconnect.idle_link.DEFAULT_KEEPALIVE_INTERVAL", 0.05)
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        peer = server.peer()
        peer.wait_for(lambda: peer.count(KEEPALIVE) >= 4)
        assert server.connections == 1
        talk(client)
        assert peer.messages[-3:] == [START_MESSAGE, b"audio", ""]


def test_one_that_is_dead_is_replaced(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soniox_proto.preconnect.idle_link.DEFAULT_KEEPALIVE_INTERVAL", 0.05)

    def vanish(peer: Peer) -> None:
        """Answer one ping, then no more."""
        peer.accept()
        peer.read()
        peer.send(frames.pong(peer.read_frame().payload))
        peer.hold()

    with FakeServer(vanish, serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        come_true(lambda: server.connections == 2 and ready(client) == 1)
        talk(client)
        assert server.peer(1).messages[-3:] == [START_MESSAGE, b"audio", ""]


def test_old_ones_are_replaced(world: str) -> None:
    options = {**POOL, "stt_idle_max_lifetime_sec": 0.3, "stt_idle_refresh_before_sec": 0.2}
    with FakeServer(serve) as server, open_client(world, server.url, **options) as client:
        client.warm_up()
        come_true(lambda: server.connections >= 4)
        server.peer(0).wait_until_done()
        assert server.peer(0).close_codes == [1000]
        talk(client)


@pytest.mark.parametrize("end", ["cut", "reset", "close"])
def test_one_that_ends_is_replaced(world: str, end: str) -> None:
    ends = threading.Event()

    def leave(peer: Peer) -> None:
        peer.accept()
        assert ends.wait(PATIENCE)
        getattr(peer, end)()
        if end != "reset":
            peer.read_to_the_end()

    with FakeServer(leave, serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        ends.set()
        come_true(lambda: server.connections == 2 and ready(client) == 1)
        talk(client)
        assert server.peer(1).messages[-3:] == [START_MESSAGE, b"audio", ""]


# Dead ones that nobody had noticed


def dies(peer: Peer) -> None:
    """Accept, and end as soon as the start message comes."""
    peer.start()
    peer.cut()


def resets(peer: Peer) -> None:
    peer.start()
    peer.reset()


def says_goodbye(peer: Peer) -> None:
    peer.start()
    peer.close(1000)
    peer.read_to_the_end()


def has_waited_too_long(peer: Peer) -> None:
    peer.start()
    peer.say(error(408, "request_timeout", "Start request timeout"))
    peer.close(1000)
    peer.read_to_the_end()


def says_nothing(peer: Peer) -> None:
    peer.accept()
    try:
        while True:
            peer.read_frame()
    except ClientLeftError:
        return


@pytest.mark.parametrize("policy", [None, ReconnectPolicy()], ids=["without", "with"])
@pytest.mark.parametrize("death", [dies, resets, says_goodbye, has_waited_too_long, says_nothing])
def test_a_session_on_a_dead_one_gets_another(
    world: str,
    death: Callable[[Peer], None],
    policy: ReconnectPolicy | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("soniox_proto.preconnect.warm_links.TRIAL_SECONDS", 0.2)
    config = {**dict(CONFIG), "audio_format": "pcm_s16le", "sample_rate": 100, "num_channels": 1}
    with FakeServer(death, serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        with client.connect(config=config, reconnect=policy) as session:
            session.send(b"first.")
            session.send(b"second")
            session.call("finish")
            event = session.receive()
            assert event is not None
            assert [token.text for token in event.tokens] == ["heard"]
            assert session.receive().finished  # type: ignore[union-attr]
            session.call("close")
            assert session.session.outcome is Outcome.FINISHED
            assert session.session.stats.reconnects == 0
        heard = [peer for peer in server._peers[1:] if peer.audio]
        assert [peer.audio for peer in heard] == [b"first.second"]


def test_audio_that_a_dead_one_did_not_take_waits_for_another(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soniox_proto.preconnect.warm_links.TRIAL_SECONDS", 0.2)
    audio = [bytes([number]) * 100_000 for number in range(40)]
    with (
        FakeServer(says_nothing, serve) as server,
        open_client(world, server.url, **POOL) as client,
    ):
        client.warm_up()
        with client.connect() as session:
            session.call("send_bytes", audio)
            assert session.receive() is not None
        assert b"".join(audio) in [peer.audio for peer in server._peers[1:]]


def test_errors_that_concern_the_session_are_raised(world: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.start()
        peer.say(error(400, "invalid_request", "Invalid model specified."))
        peer.close(1000)
        peer.read_to_the_end()

    with FakeServer(refuse, serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        with client.connect() as session:
            assert session.receive().error_code == 400  # type: ignore[union-attr]
            with pytest.raises(Exception, match="Invalid model"):
                session.receive()


# Which sessions


def test_sessions_that_connect_in_another_way_open_their_own(world: str) -> None:
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        others: list[dict[str, Any]] = [
            {"additional_headers": {"X-One": "1"}},
            {"api_key": "another-key-0123456789"},
            {"compression": True},
            {"authentication": "subprotocol"},
        ]
        for number, options in enumerate(others, start=1):
            talk(client, **options)
            assert server.connections == number + 1
            assert ready(client) == 1
        talk(client, keepalive_interval_sec=3.0, api_key=API_KEY)
        assert server.peer(0).messages == [START_MESSAGE, b"audio", ""]
        with pytest.raises(SonioxValidationError, match="other options"):
            client.warm_up(additional_headers={"X-One": "1"})


def test_the_way_to_connect_is_that_of_the_warm_up(world: str) -> None:
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up(additional_headers={"X-One": "1"})
        talk(client, additional_headers=[("X-One", "1")])
        request = server.peer(0).request
        assert request is not None
        assert request.values("x-one") == ["1"]
        assert request.values("authorization") == [f"Bearer {API_KEY}"]


@pytest.mark.parametrize("options", [{"compression": True}, {"transport": "socket"}])
def test_what_cannot_be_opened_beforehand(world: str, options: dict[str, Any]) -> None:
    given, other = socket.socketpair()
    with given, other, open_client(world, "ws://localhost", **POOL) as client:
        if "transport" in options:
            options = {"transport": given}
        with pytest.raises(SonioxValidationError, match="cannot be opened before"):
            client.warm_up(**options)


def test_websocket_client_makes_its_own_connections() -> None:
    with FakeServer(serve) as server, open_client("blocking", server.url, **POOL) as client:
        transport = websocket_client()
        with pytest.raises(SonioxValidationError, match="websocket-client"):
            client.warm_up(transport=transport)
        talk(client, transport=transport)
        assert server.connections == 1


def test_functions_that_open_streams(world: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    def connected(port: int) -> socket.socket:
        seen.append(variable.get("lost"))
        return socket.create_connection(("127.0.0.1", port))

    async def connect(endpoint: Any) -> socket.socket:
        return connected(endpoint.port)

    def connect_blocking(endpoint: Any, timeout: float | None) -> socket.socket:
        return connected(endpoint.port)

    transport = connect_blocking if world == "blocking" else connect
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        token = variable.set("kept")
        client.warm_up(transport=transport)
        variable.reset(token)
        assert server.connections == 1
        talk(client, transport=transport)
        come_true(lambda: ready(client) == 1)
        assert len(seen) == 2
        if world == "blocking":
            assert seen == ["kept", "kept"]


def test_a_key_that_is_asked_for(world: str) -> None:
    keys = iter(f"temporary-key-{number:04}" for number in range(100))

    def ask() -> str:
        return next(keys)

    async def ask_async() -> str:
        return next(keys)

    key = ask if world == "blocking" else ask_async
    with FakeServer(serve) as server, open_client(world, server.url, api_key=key, **POOL) as client:
        client.warm_up()
        talk(client)
        come_true(lambda: server.connections == 2 and ready(client) == 1)
        sent = [peer.request.values("authorization") for peer in server._peers if peer.request]
        assert sent == [["Bearer temporary-key-0000"], ["Bearer temporary-key-0001"]]


def test_a_key_that_cannot_be_had(world: str) -> None:
    def ask() -> str:
        raise LookupError(API_KEY)

    with open_client(world, "ws://localhost:1", api_key=ask, **POOL) as client:
        with pytest.raises(SonioxConnectionError, match="LookupError") as raised:
            client.warm_up()
        assert API_KEY not in str(raised.value)


# Failures


def test_a_warm_up_without_a_server_raises(world: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with (
            open_client(world, f"ws://127.0.0.1:{port}", **POOL) as client,
            pytest.raises(SonioxConnectionError, match="cannot connect"),
        ):
            client.warm_up()


def test_a_warm_up_that_is_refused_raises(world: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_request()
        peer.send(frames.refusal("401 Unauthorized", f"no {API_KEY}".encode()))
        peer.read_to_the_end()

    with FakeServer(refuse) as server, open_client(world, server.url, **POOL) as client:
        with pytest.raises(SonioxHandshakeError) as raised:
            client.warm_up()
        assert raised.value.status_code == 401
        assert API_KEY not in str(raised.value)


def test_a_key_that_the_service_refuses(world: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.accept()
        peer.say(UNAUTHENTICATED)
        peer.close(1000)
        peer.read_to_the_end()

    with FakeServer(refuse) as server, open_client(world, server.url, **POOL) as client:
        # The upgrade is accepted, and the error may come a moment later.
        with suppress(SonioxAuthenticationError):
            client.warm_up()
        come_true(lambda: server.connections == 1 and ready(client) == 0)
        with client.connect() as session:
            assert session.receive().error_code == 401  # type: ignore[union-attr]
            with pytest.raises(SonioxAuthenticationError):
                session.receive()


def test_after_a_failure_it_goes_on_in_the_background(world: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_request()
        peer.send(frames.refusal("503 Busy", b"later"))
        peer.read_to_the_end()

    with FakeServer(refuse, serve) as server, open_client(world, server.url, **POOL) as client:
        with pytest.raises(SonioxHandshakeError):
            client.warm_up()
        come_true(lambda: ready(client) == 1)
        talk(client)
        assert server.connections >= 2


def test_a_server_that_does_not_answer_the_upgrade(world: str) -> None:
    def hold(peer: Peer) -> None:
        peer.read_request()
        peer.read_to_the_end()

    with FakeServer(hold) as server, open_client(world, server.url, **POOL) as client:
        session = client.connect(connect_timeout_sec=0.3)
        with pytest.raises(SonioxTimeoutError):
            session.call("enter")


# Ends


def test_a_closed_client(world: str) -> None:
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        client.close()
        client.close()
        server.peer(0).wait_until_done()
        with pytest.raises(SonioxStateError, match="client is closed"):
            client.warm_up()
        talk(client)
        assert server.connections == 2, "sessions open their own"


def test_closing_while_connections_are_being_opened(world: str) -> None:
    def hold(peer: Peer) -> None:
        peer.read_request()
        peer.read_to_the_end()

    with FakeServer(serve, hold) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        talk(client)
        server.peer(1)
        client.close()
        assert "soniox-idle-link" not in {thread.name for thread in threading.enumerate()}
        server.peer(1).wait_until_done()


def test_closing_while_a_key_is_asked_for(world: str) -> None:
    asked, over = threading.Event(), threading.Event()

    def ask() -> str:
        asked.set()
        assert over.wait(PATIENCE)
        return API_KEY

    async def ask_async() -> str:
        asked.set()
        await anyio.sleep_forever()
        return API_KEY

    key = ask if world == "blocking" else ask_async
    with FakeServer(serve) as server, open_client(world, server.url, api_key=key, **POOL) as client:
        warming = threading.Thread(target=client.warm_up)
        warming.start()
        assert asked.wait(PATIENCE)
        client.close()
        over.set()
        warming.join(PATIENCE)
        assert not warming.is_alive()
        assert server.connections == 0


def test_a_key_function_may_close_the_client() -> None:
    def ask() -> str:
        client.close()
        return API_KEY

    with FakeServer(serve) as server:
        client = SonioxClient(api_key=ask, websocket_base_url=server.url, **POOL)  # type: ignore[arg-type]
        client.realtime.stt.warmup_connection_pool(proxy=None)
        assert server.connections == 0


@pytest.mark.parametrize("ended_by", ["deadline", "close"])
def test_a_warm_up_does_not_outlast_a_key_function_that_hangs(ended_by: str) -> None:
    asked, over = threading.Event(), threading.Event()

    def ask() -> str:
        asked.set()
        assert over.wait(PATIENCE)
        return API_KEY

    failures: list[Exception] = []

    def warm_up() -> None:
        try:
            client.warm_up(connect_timeout_sec=0.2 if ended_by == "deadline" else None)
        except SonioxTimeoutError as failure:
            failures.append(failure)

    with FakeServer(serve) as server:
        with open_client("blocking", server.url, api_key=ask, **POOL) as client:
            warming = threading.Thread(target=warm_up)
            warming.start()
            try:
                assert asked.wait(PATIENCE)
                if ended_by == "close":
                    client.close()
                warming.join(PATIENCE / 2)
                assert not warming.is_alive()
            finally:
                over.set()
                warming.join()
        assert len(failures) == (ended_by == "deadline")
        assert server.connections == 0


def test_opening_has_a_deadline(world: str) -> None:
    def wait(endpoint: Any, timeout: float | None) -> socket.socket:
        time.sleep(timeout or 0.0)
        raise TimeoutError

    async def wait_async(endpoint: Any) -> socket.socket:
        await anyio.sleep_forever()
        raise AssertionError

    transport = wait if world == "blocking" else wait_async
    with (
        open_client(world, "ws://localhost", **POOL) as client,
        pytest.raises(SonioxTimeoutError),
    ):
        client.warm_up(transport=transport, connect_timeout_sec=0.2)


def test_a_fork_sends_nothing() -> None:
    with FakeServer(serve) as server, open_client("blocking", server.url, **POOL) as client:
        client.warm_up()
        client.client.idle_connections.drop()
        server.peer(0).wait_until_done()
        assert server.peer(0).frames == []
        talk(client)


def test_websockets_that_are_upgraded_already() -> None:
    def connect(endpoint: Any, timeout: float | None) -> Any:
        return websocket.create_connection(server.url, header={"Authorization": "Bearer other"})

    with FakeServer(serve) as server, open_client("blocking", server.url, **POOL) as client:
        client.warm_up(transport=connect)
        assert server.connections == 1
        talk(client, transport=connect)
        assert server.peer(0).messages == [START_MESSAGE, b"audio", ""]


def test_a_blocking_client_that_is_dropped() -> None:
    with FakeServer(serve) as server:
        client = SonioxClient(api_key=API_KEY, websocket_base_url=server.url, **POOL)  # type: ignore[arg-type]
        client.realtime.stt.warmup_connection_pool(proxy=None)
        assert server.connections == 1
        idle = weakref.ref(client.idle_connections)
        del client
        be_collected(idle)
        server.peer(0).wait_until_done()
        # The collector may take the socket first; then there is no close frame.
        assert server.peer(0).close_codes in ([], [1000])


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
def test_an_async_client_that_is_dropped(anyio_backend: str) -> None:
    async def use(url: str, sleep: Any) -> None:
        client = AsyncSonioxClient(api_key=API_KEY, websocket_base_url=url, **POOL)  # type: ignore[arg-type]
        await client.realtime.stt.warmup_connection_pool(proxy=None)
        del client
        deadline = time.monotonic() + PATIENCE
        while not server.peer(0).done.is_set():
            gc.collect()
            assert time.monotonic() < deadline
            await sleep(0.01)

    with FakeServer(serve) as server:
        if anyio_backend == "trio":
            trio.run(use, server.url, trio.sleep)
        else:
            asyncio.run(use(server.url, asyncio.sleep))
        # The collector may take the socket first; then there is no close frame.
        assert server.peer(0).close_codes in ([], [1000])


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
def test_the_end_of_the_event_loop(anyio_backend: str) -> None:
    """Nobody closes the client; it serves a second event loop all the same."""

    async def use(client: AsyncSonioxClient) -> None:
        await client.realtime.stt.warmup_connection_pool(proxy=None)
        async with client.realtime.stt.connect(config=CONFIG, proxy=None) as session:
            await session.send_bytes([b"audio"])
            async for _ in session.receive_events():
                pass
        await client.realtime.stt.warmup_connection_pool(proxy=None)
        assert client.idle_connections._here._pool.ready == 1  # type: ignore[union-attr]

    with FakeServer(serve) as server:
        client = AsyncSonioxClient(api_key=API_KEY, websocket_base_url=server.url, **POOL)  # type: ignore[arg-type]
        for number in (1, 2):
            if anyio_backend == "trio":
                trio.run(use, client)
            else:
                asyncio.run(use(client))
            come_true(lambda: all(peer.done.is_set() for peer in server._peers))
            assert server.connections == 2 * number


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
def test_the_end_of_the_event_loop_while_a_connection_is_being_opened(anyio_backend: str) -> None:
    opening: list[bool] = []

    async def connect(endpoint: Any) -> socket.socket:
        opening.append(True)
        try:
            await anyio.sleep_forever()
        finally:
            opening.clear()
        raise AssertionError

    async def use() -> None:
        client = AsyncSonioxClient(api_key=API_KEY, **POOL)  # type: ignore[arg-type]
        with anyio.move_on_after(0.01) as scope:
            await client.realtime.stt.warmup_connection_pool(transport=connect)
        assert scope.cancelled_caught
        assert opening

    anyio.run(use, backend=anyio_backend)
    assert not opening


def test_an_event_loop_that_ends_without_notice() -> None:
    with FakeServer(serve) as server:
        client = AsyncSonioxClient(api_key=API_KEY, websocket_base_url=server.url, **POOL)  # type: ignore[arg-type]
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.realtime.stt.warmup_connection_pool(proxy=None))
        pending = asyncio.all_tasks(loop)
        asyncio.run(client.realtime.stt.warmup_connection_pool(proxy=None))
        come_true(lambda: all(peer.done.is_set() for peer in server._peers))
        assert server.connections == 2
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()


def test_two_event_loops_at_a_time() -> None:
    """The one that came first has the pool; sessions in the other open their own."""
    with FakeServer(serve) as server, open_client("asyncio", server.url, **POOL) as client:
        client.warm_up()

        async def use() -> None:
            await client.client.realtime.stt.warmup_connection_pool(proxy=None)
            async with client.client.realtime.stt.connect(config=CONFIG, proxy=None) as session:
                await session.finish()
                async for _ in session.receive_events():
                    pass
            assert ready(client) == 1

        asyncio.run(use())
        assert server.connections == 2
        asyncio.run(client.client.aclose())
        server.peer(0).wait_until_done()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("world", ["blocking", "asyncio"])
def test_a_process_that_is_forked_opens_its_own(world: str) -> None:
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        child = os.fork()
        if not child:
            status = 1
            try:
                if world == "blocking":
                    assert client.client.idle_connections._sockets == []
                    assert client.client.idle_connections._pool.ready == 0
                    talk(client)
                else:
                    client._portal = None
                    asyncio.run(talk_alone(client.client))
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert server.peer(0).messages == []
        assert server.connections >= 2
        talk(client)
        assert server.peer(0).messages == [START_MESSAGE, b"audio", ""]


async def talk_alone(client: Any) -> None:
    await client.realtime.stt.warmup_connection_pool(proxy=None)
    assert client.idle_connections._here._process_id == os.getpid()
    assert client.idle_connections._here._pool.ready == 1
    async with client.realtime.stt.connect(config=CONFIG, proxy=None) as session:
        await session.finish()
        async for _ in session.receive_events():
            pass


@pytest.mark.parametrize("client_class", [SonioxClient, AsyncSonioxClient])
def test_pools_are_not_copied(client_class: Any) -> None:
    client = client_class(api_key=API_KEY, **POOL)
    assert copy.copy(client).idle_connections is client.idle_connections
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="pickled"):
            copied(client.idle_connections)


@pytest.mark.parametrize("client_class", [SonioxClient, AsyncSonioxClient])
def test_options_that_make_no_sense(client_class: Any) -> None:
    with pytest.raises(SonioxValidationError, match="stt_connection_pool_size"):
        client_class(api_key=API_KEY, stt_connection_pool_size=-1)
    with pytest.raises(SonioxValidationError, match="stt_idle_refresh_before_sec"):
        client_class(api_key=API_KEY, stt_idle_max_lifetime_sec=10.0)
    assert client_class(**POOL).idle_connections is None, "without a key there is none to use"


def test_unknown_options_of_a_warm_up(world: str) -> None:
    with (
        open_client(world, "ws://localhost", **POOL) as client,
        pytest.raises(TypeError, match="warmup_connection_pool"),
    ):
        client.warm_up(speed=5)


def test_a_recorded_session_makes_its_own_connection(world: str) -> None:
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        session = client.connect()
        recorded = record(session.session)
        with session:
            session.call("finish")
            assert session.receive() is not None
        assert "GET " not in str(recorded.trace().header)
        assert server.connections == 2


def test_no_thread_while_they_wait() -> None:
    options = {"stt_connection_pool_size": 5}
    with FakeServer(serve) as server, open_client("blocking", server.url, **options) as client:
        client.warm_up()

        def names() -> set[str]:
            return {thread.name for thread in threading.enumerate()}

        # The last one may be about to end.
        come_true(lambda: "soniox-idle-link" not in names())
        assert "soniox-ticker" in names()
