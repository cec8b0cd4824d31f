"""Idle connections of a client: what users give them, and what goes wrong around them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
import trio

from soniox_adapters import (
    AsyncSonioxClient,
    ReconnectPolicy,
    SonioxClient,
    SonioxConnectionError,
    SonioxValidationError,
)
from tests.adapters.test_preconnect import POOL, dies, ready, serve, talk
from tests.support.adapters.clients import WORLDS, open_client
from tests.support.adapters.conditions import be_collected, come_true
from tests.support.adapters.server import PATIENCE, FakeServer, Peer
from tests.support.core import frames
from tests.support.core.frames import Opcode
from tests.support.core.messages import API_KEY, FINISHED, START_MESSAGE, result
from tests.support.core.model_service import AUDIO_CONFIG


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def sent_headers(peer: Peer, name: str) -> list[str]:
    assert peer.request is not None
    return peer.request.values(name)


# What the user gives


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"X One": "1"}},
        {"additional_headers": 5},
        {"authentication": "bogus"},
        {"additional_headers": {"Authorization": "Bearer mine"}},
    ],
)
def test_a_warm_up_that_was_refused_changes_nothing(world: str, options: dict[str, Any]) -> None:
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        with pytest.raises(SonioxValidationError):
            client.warm_up(**options)
        talk(client)
        client.warm_up()
        come_true(lambda: ready(client) == 1)


def test_headers_are_those_of_the_moment_in_which_they_were_given(world: str) -> None:
    headers = {"X-Tenant": "first"}
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up(additional_headers=headers)
        early = client.connect(additional_headers=headers)
        headers["X-Tenant"] = "second"
        talk(client, additional_headers=headers)
        assert [sent_headers(peer, "x-tenant") for peer in server._peers] == [["first"], ["second"]]
        assert server.peer(0).messages == []
        with early as session:
            session.send(b"audio")
            server.peer(0).wait_for(lambda: b"audio" in server.peer(0).messages)
        come_true(lambda: server.connections == 3 and ready(client) == 1)
        assert sent_headers(server.peer(2), "x-tenant") == ["first"]


# What the service sends


def test_a_ping_that_came_just_before_a_session_is_answered(world: str) -> None:
    pinged = threading.Event()

    def ping(peer: Peer) -> None:
        peer.accept()
        time.sleep(0.1)
        peer.send(frames.ping(b"are you there?"))
        pinged.set()
        while (frame := peer.read()).opcode is not Opcode.CLOSE:
            if frame.opcode is Opcode.TEXT and not frame.payload:
                peer.say(result("heard"), FINISHED)
                peer.close()
        peer.close()

    with FakeServer(ping, serve) as server, open_client(world, server.url, **POOL) as client:
        client.warm_up()
        assert pinged.wait(PATIENCE)
        time.sleep(0.05)
        talk(client)
        peer = server.peer(0)
        assert START_MESSAGE in peer.messages
        pongs = [frame.payload for frame in peer.frames if frame.opcode is Opcode.PONG]
        assert pongs == [b"are you there?"]


# What is left behind


@pytest.mark.parametrize("closed", [False, True], ids=["dropped", "closed"])
def test_a_function_that_leads_to_the_client_does_not_keep_it_alive(closed: bool) -> None:
    class App:
        def __init__(self, url: str) -> None:
            self.client = SonioxClient(api_key=self.key, websocket_base_url=url, **POOL)  # type: ignore[arg-type]

        def key(self) -> str:
            return API_KEY

    with FakeServer(serve) as server:
        app = App(server.url)
        app.client.realtime.stt.warmup_connection_pool(proxy=None)
        if closed:
            app.client.close()
        alive = weakref.ref(app)
        del app
        be_collected(alive)
        server.peer(0).wait_until_done()


@pytest.mark.parametrize("closed", [False, True], ids=["dropped", "closed"])
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
def test_nor_does_one_of_an_async_client(anyio_backend: str, closed: bool) -> None:
    class App:
        def __init__(self, url: str) -> None:
            self.client = AsyncSonioxClient(api_key=self.key, websocket_base_url=url, **POOL)  # type: ignore[arg-type]

        async def key(self) -> str:
            return API_KEY

    async def use(url: str) -> None:
        app = App(url)
        await app.client.realtime.stt.warmup_connection_pool(proxy=None)
        if closed:
            await app.client.aclose()
        alive = weakref.ref(app)
        del app
        deadline = time.monotonic() + 2
        while alive() is not None or not server.peer(0).done.is_set():
            gc.collect()
            assert time.monotonic() < deadline
            await anyio.sleep(0.01)

    with FakeServer(serve) as server:
        anyio.run(use, server.url, backend=anyio_backend)


def test_the_functions_of_one_session_are_not_kept_for_the_others(world: str) -> None:
    class Watcher:
        def __call__(self, _: object) -> None:
            pass

    watcher = Watcher()
    alive = weakref.ref(watcher)
    with FakeServer(serve) as server, open_client(world, server.url, **POOL) as client:
        talk(
            client,
            config={
                "model": "m",
                "audio_format": "pcm_s16le",
                "sample_rate": 100,
                "num_channels": 1,
            },
            on_measurement=watcher,
            reconnect=ReconnectPolicy(on_event=watcher),
        )
        del watcher
        come_true(lambda: ready(client) == 1)
        be_collected(alive)


# What fails


def test_a_system_without_threads_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    failures = 2

    def failing(thread: threading.Thread) -> None:
        nonlocal failures
        if thread.name == "soniox-idle-link" and failures:
            failures -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", failing)
    monkeypatch.setattr("soniox_proto.preconnect.pool._FIRST_DELAY", 0.02)
    with FakeServer(serve) as server, open_client("blocking", server.url, **POOL) as client:
        with pytest.raises(SonioxConnectionError, match="can't start new thread"):
            client.warm_up()
        come_true(lambda: failures == 0 and ready(client) == 1)


def interrupts(call: int) -> Callable[[], str]:
    """Return a function for the key, during one of whose calls the user presses Ctrl-C."""
    calls = itertools.count(1)

    def ask() -> str:
        if next(calls) == call:
            raise KeyboardInterrupt
        return API_KEY

    return ask


def interrupted(use: Coroutine[Any, Any, None]) -> BaseException | None:
    """Run a task in an event loop that Ctrl-C interrupts once; return how the task ends then."""
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(use)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.wait([task]))
        return task.exception()
    finally:
        loop.close()


async def warm_up_twice(url: str) -> None:
    async with AsyncSonioxClient(interrupts(1), websocket_base_url=url, **POOL) as client:  # type: ignore[arg-type]
        with pytest.raises(SonioxConnectionError):
            await client.realtime.stt.warmup_connection_pool(proxy=None)
        await client.realtime.stt.warmup_connection_pool(proxy=None)


def test_ctrl_c_while_the_pool_asks_for_a_key_ends_the_event_loop() -> None:
    with FakeServer(serve) as server:
        assert interrupted(warm_up_twice(server.url)) is None
        assert server.connections == 1


def test_so_does_one_while_a_session_asks_for_its_next_key() -> None:
    async def use(url: str) -> None:
        client = AsyncSonioxClient(interrupts(2), websocket_base_url=url)
        policy = ReconnectPolicy(initial_delay=0.01)
        async with client.realtime.stt.connect(
            config=AUDIO_CONFIG, proxy=None, reconnect=policy
        ) as session:
            await session.finish()
            async for _ in session.receive_events():
                pass

    with FakeServer(dies, serve) as server:
        failure = interrupted(use(server.url))
        assert isinstance(failure, SonioxConnectionError)
        assert isinstance(failure.__cause__, KeyboardInterrupt)
        assert server.connections == 1


def test_on_trio_a_function_cannot_end_the_program() -> None:
    with FakeServer(serve) as server:
        trio.run(warm_up_twice, server.url)
        assert server.connections == 1
