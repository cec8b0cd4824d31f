"""Every program of this folder, against the local server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Outcome,
    RealtimeSTTConfig,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxServiceUnavailableError,
)
from soniox_adapters.server import LocalServer, run_in_thread, scripted
from tests.examples import in_pyodide, on_aiohttp, on_selectors, on_websockets, relay
from tests.examples.on_websockets_asyncio import transcribe as on_asyncio
from tests.support.adapters.listener import port_that_refuses
from tests.support.adapters.server import FakeServer, Peer
from tests.support.core.messages import FINISHED, result

API_KEY = "key-of-the-examples"
TEXT = "Good morning, everyone."
CONFIG = on_websockets.CONFIG
CHUNKS = [bytes(3_200)] * 20
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    service = LocalServer(recognizer=scripted(TEXT), api_key=API_KEY, max_streams=100)
    with run_in_thread(service):
        yield service


async def from_microphone() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk
        await asyncio.sleep(0)


async def from_microphone_that_never_ends() -> AsyncIterator[bytes]:
    yield CHUNKS[0]
    await asyncio.Event().wait()


def run(program: str, *arguments: str) -> str:
    """Run a program in a process of its own, because its library takes over the process."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.examples.{program}", *arguments],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_websockets(server: LocalServer) -> None:
    assert on_websockets.transcribe(server.url, API_KEY, CHUNKS) == TEXT


def test_websockets_on_asyncio(server: LocalServer) -> None:
    assert asyncio.run(on_asyncio(server.url, API_KEY, from_microphone())) == TEXT


def test_aiohttp(server: LocalServer) -> None:
    assert asyncio.run(on_aiohttp.transcribe(server.url, API_KEY, CHUNKS)) == TEXT


def test_a_hundred_sessions_in_one_thread(server: LocalServer) -> None:
    audio = b"".join(CHUNKS)
    assert on_selectors.transcribe(server.url, API_KEY, [audio] * 100) == [TEXT] * 100


def test_twisted(server: LocalServer) -> None:
    assert run("on_twisted", server.url, API_KEY, "2") == f"{TEXT}\n"


def test_gevent(server: LocalServer) -> None:
    assert run("on_gevent", server.url, API_KEY, "2") == f"{TEXT}\n" * 3


class TestRelay:
    @staticmethod
    async def through_relay(url: str, key: str, config: RealtimeSTTConfig = CONFIG) -> str:
        """Be the browser: a session without a key, through a relay that has one."""
        served = asyncio.Event()

        async def serve(*stream: Any) -> None:
            await relay.Relay(url, key).serve(*stream)
            served.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            session = AsyncRealtimeSTTSession(f"ws://127.0.0.1:{port}", config, proxy=None)
            text = ""
            async with session:
                await session.send_bytes(CHUNKS)
                async for event in session.receive_events():
                    text += "".join(token.text for token in event.tokens if token.is_final)
            assert session.outcome is Outcome.FINISHED
            await served.wait()
        return text

    def test_a_whole_session(self, server: LocalServer) -> None:
        assert asyncio.run(self.through_relay(server.url, API_KEY)) == TEXT

    def test_the_service_refuses(self, server: LocalServer) -> None:
        with pytest.raises(SonioxAuthenticationError):
            asyncio.run(self.through_relay(server.url, "wrong"))

    def test_the_service_is_away(self) -> None:
        with port_that_refuses() as port, pytest.raises(SonioxServiceUnavailableError):
            asyncio.run(self.through_relay(f"ws://127.0.0.1:{port}", API_KEY))

    def test_the_service_is_lost(self) -> None:
        def script(peer: Peer) -> None:
            peer.start()
            peer.reset()

        with FakeServer(script) as server, pytest.raises(SonioxConnectionError) as lost:
            asyncio.run(self.through_relay(server.url, API_KEY))
        assert lost.value.close_code == 1011


class StandIn:
    """A browser's WebSocket, as far as it is used; its other end is the test's."""

    def __init__(self, url: str, protocols: list[str]) -> None:
        self.url, self.protocols = url, protocols
        self.sent: list[str | bytes] = []
        self.closed_with: list[int] = []
        self.onopen: Callable[[Any], None]
        self.onmessage: Callable[[Any], None]
        self.onclose: Callable[[Any], None]

    def send(self, message: str | bytes, /) -> None:
        self.sent.append(message)

    def close(self, code: int, /) -> None:
        self.closed_with.append(code)


def test_pyodide() -> None:
    made: list[StandIn] = []
    timers: list[Callable[[], None]] = []
    pieces: list[str] = []

    def connect(url: str, protocols: list[str]) -> StandIn:
        made.append(StandIn(url, protocols))
        return made[0]

    def later(call: Callable[[], None], milliseconds: float) -> None:
        timers.append(call)

    session = in_pyodide.BrowserSession(connect, later, "wss://x", "temporary", pieces.append)
    (websocket,) = made
    assert websocket.protocols == ["soniox-api-key", "temporary"]
    session.send_audio(b"first words")
    assert websocket.sent == []
    websocket.onopen(None)
    session.finish()
    assert websocket.sent[1:] == [b"first words", ""]
    timers.pop()()
    websocket.onmessage(SimpleNamespace(data=result("hello", is_final=True)))
    websocket.onmessage(SimpleNamespace(data=FINISHED))
    assert pieces == ["hello", ""]
    websocket.onclose(SimpleNamespace(code=1000, reason=""))
    assert session.protocol.outcome is Outcome.FINISHED
    timers.pop()()
    assert not timers, "the timers end with the session"


class TestEnds:
    """What the programs with whole messages do at an end that nobody wishes for."""

    def test_a_wrong_key(self, server: LocalServer) -> None:
        with pytest.raises(SonioxAuthenticationError):
            on_websockets.transcribe(server.url, "wrong", CHUNKS)
        with pytest.raises(SonioxAuthenticationError):
            asyncio.run(on_asyncio(server.url, "wrong", from_microphone_that_never_ends()))
        with pytest.raises(SonioxAuthenticationError):
            asyncio.run(on_aiohttp.transcribe(server.url, "wrong", CHUNKS))

    def test_a_connection_that_is_lost(self) -> None:
        def script(peer: Peer) -> None:
            peer.start()
            peer.reset()

        with FakeServer(script) as server:
            with pytest.raises(SonioxConnectionError):
                on_websockets.transcribe(server.url, API_KEY, CHUNKS)
            with pytest.raises(SonioxConnectionError):
                asyncio.run(on_asyncio(server.url, API_KEY, from_microphone_that_never_ends()))
            with pytest.raises(SonioxConnectionError):
                asyncio.run(on_aiohttp.transcribe(server.url, API_KEY, CHUNKS))
