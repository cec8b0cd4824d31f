"""Every program of this folder, against the local server."""

from __future__ import annotations

import asyncio
import itertools
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import pytest
import trustme
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTSession,
    SessionStats,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxRealtimeError,
    SonioxServiceUnavailableError,
    SonioxTimeoutError,
)
from soniox_adapters.server import LocalServer, run_in_thread, scripted
from soniox_proto import Event, RealtimeSTTConnection, RealtimeSTTProtocol
from tests.examples import (
    in_pyodide,
    on_aiohttp,
    on_selectors,
    on_websockets,
    relay,
    with_opentelemetry,
)
from tests.examples.on_websockets_asyncio import transcribe as on_asyncio
from tests.support.adapters.listener import port_that_refuses
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script, silent
from tests.support.core import frames
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


IMPATIENT = """
import functools, runpy, sys, soniox_proto
soniox_proto.RealtimeSTTConnection = functools.partial(
    soniox_proto.RealtimeSTTConnection, ping_interval=0.1, ping_timeout=0.1, close_timeout=0.1
)
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""
"""Runs the module named first with connections that notice a dead server soon."""


KILLED = """
import gc, sys, gevent
from tests.examples.on_gevent import transcribe
def alive():
    return [one for one in gc.get_objects() if isinstance(one, gevent.Greenlet) and not one.dead]
session = gevent.spawn(transcribe, sys.argv[1], "key", bytes(3_200))
while len(alive()) < 2:
    gevent.sleep(0.001)
session.kill()
print(alive())
"""
"""Kills a session of gevent as soon as its second greenlet is there."""


def run(program: str, *arguments: str, impatient: bool = False, **environment: str) -> str:
    """Run a program in a process of its own, because its library takes over the process."""
    how = ["-c", IMPATIENT] if impatient else ["-m"]
    done = subprocess.run(
        [sys.executable, *how, f"tests.examples.{program}", *arguments],
        cwd=HERE.parent.parent,
        env={**os.environ, **environment},
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


def test_opentelemetry(server: LocalServer) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    telemetry = with_opentelemetry.Telemetry(provider.get_meter("test"))
    audio = b"".join(CHUNKS)
    for _ in range(2):
        assert with_opentelemetry.transcribe(server.url, API_KEY, audio, telemetry) == TEXT
    exported = reader.get_metrics_data()
    assert exported is not None
    # Counters and gauges have a value, histograms a count.
    points: dict[str, Any] = {
        metric.name: metric.data.data_points[0]
        for resource in exported.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert points["soniox.sent_audio_bytes"].value == 2 * len(audio)
    assert points["soniox.open_time"].value > 0
    assert points["soniox.lag"].value == 0
    assert points["soniox.finalize_latency"].count == 2
    assert points["soniox.time_to_first_token"].count == 2
    provider.shutdown()


def test_opentelemetry_never_sees_a_counter_go_back() -> None:
    telemetry = with_opentelemetry.Telemetry(MeterProvider().get_meter("test"))
    seen: list[float] = []

    def look() -> None:
        (observed,) = telemetry.count("sent_audio_bytes", CallbackOptions())
        seen.append(observed.value)

    class Session:
        ends = False

        @property
        def stats(self) -> SessionStats:
            if self.ends:
                self.ends = False
                look()
            return SessionStats(sent_audio_bytes=7)

    for _ in range(2):
        session = Session()
        with telemetry.watch(cast("RealtimeSTTSession", session)):
            look()
            session.ends = True
        look()
    assert seen == [7, 7, 7, 14, 14, 14]


def test_opentelemetry_as_a_program(server: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "audio.raw"
    path.write_bytes(b"".join(CHUNKS))
    text, _, exported = run("with_opentelemetry", server.url, API_KEY, str(path)).partition("\n")
    assert text == TEXT
    assert "soniox.finalize_latency" in exported


class TestRelay:
    @staticmethod
    @asynccontextmanager
    async def relayed(url: str, key: str) -> AsyncGenerator[str]:
        """Run a relay for one browser; yield its URL."""
        served = asyncio.Event()

        async def serve(*stream: Any) -> None:
            await relay.Relay(url, key).serve(*stream)
            served.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await served.wait()

    async def through_relay(self, url: str, key: str, config: RealtimeSTTConfig = CONFIG) -> str:
        """Be the browser: a session without a key, through a relay that has one."""
        async with self.relayed(url, key) as near:
            session = AsyncRealtimeSTTSession(near, config, proxy=None)
            text = ""
            async with session:
                await session.send_bytes(CHUNKS)
                async for event in session.receive_events():
                    text += "".join(token.text for token in event.tokens if token.is_final)
            assert session.outcome is Outcome.FINISHED
        return text

    def test_a_whole_session(self, server: LocalServer) -> None:
        assert asyncio.run(self.through_relay(server.url, API_KEY)) == TEXT

    def test_audio_waits_while_the_service_is_called(self) -> None:
        chunks = [bytes(32_000)] * 100
        came: list[int] = []

        def script(peer: Peer) -> None:
            # Not before more is on its way than a connection holds that is not open.
            assert called.wait(PATIENCE)
            peer.start()
            while payload := peer.read().payload:
                came.append(len(payload))
            peer.say(FINISHED)
            peer.close()
            peer.read_to_the_end()

        async def talk(service: str) -> None:
            async with (
                self.relayed(service, API_KEY) as url,
                AsyncRealtimeSTTSession(url, CONFIG, proxy=None) as session,
            ):
                sending = asyncio.create_task(session.send_bytes(chunks))
                await asyncio.wait([sending], timeout=0.3)
                called.set()
                await sending
                assert [event.finished async for event in session.receive_events()] == [True]

        called = threading.Event()
        with FakeServer(script) as server:
            asyncio.run(talk(server.url))
        assert sum(came) == sum(map(len, chunks))

    def test_the_service_says_much_before_it_reads(self) -> None:
        count, words = 400, "x" * 10_000

        def script(peer: Peer) -> None:
            peer.start()
            for _ in range(count):
                peer.say(result(words))
            while peer.read().payload:
                pass
            peer.say(FINISHED)
            peer.close()
            peer.read_to_the_end()

        async def talk(service: str) -> int:
            async with (
                self.relayed(service, API_KEY) as url,
                AsyncRealtimeSTTSession(url, CONFIG, proxy=None) as session,
            ):
                sending = asyncio.create_task(session.send_bytes([bytes(32_000)] * 300))
                events = [event async for event in session.receive_events()]
                await sending
                return len(events)

        with FakeServer(script, receive_buffer=4096, send_buffer=4096) as server:
            assert asyncio.run(talk(server.url)) == count + 1

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

    ends: list[SonioxRealtimeError | None] = []
    session = in_pyodide.BrowserSession(
        connect, later, "wss://x", "temporary", pieces.append, ends.append
    )
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
    assert websocket.closed_with
    websocket.onclose(SimpleNamespace(code=1000, reason=""))
    assert session.protocol.outcome is Outcome.FINISHED
    timers.pop()()
    assert not timers, "the timers end with the session"
    assert ends == [None]


@pytest.mark.parametrize(("code", "kind"), [(1000, SonioxConnectionError), (1006, None)])
def test_pyodide_cut_off(code: int, kind: type[Exception] | None) -> None:
    ends: list[SonioxRealtimeError | None] = []
    websocket = StandIn("wss://x", [])
    session = in_pyodide.BrowserSession(
        lambda *_: websocket, lambda *_: None, "wss://x", "key", print, ends.append
    )
    websocket.onopen(None)
    websocket.onclose(SimpleNamespace(code=code, reason=""))
    (error,) = ends
    assert isinstance(error, kind or SonioxConnectionError)
    assert session.protocol.outcome is not Outcome.FINISHED


def finished(text: str) -> Script:
    """Return what a server does that lets the client close first."""

    def script(peer: Peer) -> None:
        peer.start()
        while peer.read().payload:
            pass
        peer.say(result(text, is_final=True))
        peer.say(FINISHED)
        peer.read_to_the_end()

    return script


def cut_off(data: bytes) -> Script:
    """Return what a server does that ends in the middle of a transcript."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(result("Good mor", is_final=True))
        peer.send(data)
        while data and peer.read().opcode is not frames.Opcode.CLOSE:
            pass

    return script


Program: TypeAlias = Callable[[str, str], str]
"""A program of this folder, with a URL and a key; returns its transcript."""


def on_selectors_alone(url: str, key: str) -> str:
    (outcome,) = on_selectors.transcribe(url, key, [CHUNKS[0]])
    if isinstance(outcome, str):
        return outcome
    raise outcome


PROGRAMS: dict[str, Program] = {
    "websockets": lambda url, key: on_websockets.transcribe(url, key, CHUNKS),
    "websockets on asyncio": lambda url, key: asyncio.run(on_asyncio(url, key, from_microphone())),
    "websockets, endless": lambda url, key: asyncio.run(
        on_asyncio(url, key, from_microphone_that_never_ends())
    ),
    "aiohttp": lambda url, key: asyncio.run(on_aiohttp.transcribe(url, key, CHUNKS)),
    "selectors": on_selectors_alone,
}
ALONE = ["on_gevent", "on_twisted"]
"""Programs that need a process of their own."""


class TestEnds:
    """What the programs do at an end that nobody wishes for, and at one that is long in coming."""

    @pytest.mark.parametrize("program", PROGRAMS)
    def test_a_wrong_key(self, program: str, server: LocalServer) -> None:
        with pytest.raises((SonioxAuthenticationError, SonioxHandshakeError)):
            PROGRAMS[program](server.url, "wrong")

    @pytest.mark.parametrize("program", PROGRAMS)
    @pytest.mark.parametrize("data", [b"", frames.close(1000), frames.close(1011)])
    def test_a_transcript_that_is_cut_off(self, program: str, data: bytes) -> None:
        with (
            FakeServer(cut_off(data)) as server,
            pytest.raises(SonioxConnectionError),
        ):
            PROGRAMS[program](server.url, API_KEY)

    @pytest.mark.parametrize("program", ALONE)
    def test_a_transcript_that_is_cut_off_elsewhere(self, program: str) -> None:
        with (
            FakeServer(cut_off(frames.close(1000))) as server,
            pytest.raises(AssertionError, match="before the transcript was complete"),
        ):
            run(program, server.url, API_KEY, "1")

    @pytest.mark.parametrize("program", [name for name in PROGRAMS if "endless" not in name])
    def test_the_client_may_close_first(self, program: str) -> None:
        with FakeServer(finished("hello")) as server:
            assert PROGRAMS[program](server.url, API_KEY) == "hello"

    def test_a_source_that_fails(self) -> None:
        class DeliberateError(Exception):
            pass

        def fails() -> Iterator[bytes]:
            yield CHUNKS[0]
            raise DeliberateError

        async def fails_later() -> AsyncIterator[bytes]:
            yield CHUNKS[0]
            raise DeliberateError

        with FakeServer(silent) as server:
            with pytest.raises(DeliberateError):
                on_websockets.transcribe(server.url, API_KEY, fails())
            with pytest.raises(DeliberateError):
                asyncio.run(on_asyncio(server.url, API_KEY, fails_later()))

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_no_thread_outlives_a_session(
        self, interrupted: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Interrupted(RealtimeSTTProtocol):
            def receive_message(self, data: str | bytes, now: float) -> list[Event]:
                raise KeyboardInterrupt

        if interrupted:
            monkeypatch.setattr(on_websockets, "RealtimeSTTProtocol", Interrupted)
        before = set(threading.enumerate())
        with (
            FakeServer(cut_off(frames.close(1000))) as server,
            pytest.raises(KeyboardInterrupt if interrupted else SonioxConnectionError),
        ):
            on_websockets.transcribe(server.url, API_KEY, itertools.repeat(CHUNKS[0]))
        for thread in set(threading.enumerate()) - before:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def test_cancellation_ends_all_tasks(self) -> None:
        async def cancel(url: str) -> None:
            begun = asyncio.Event()

            async def microphone() -> AsyncIterator[bytes]:
                while True:
                    begun.set()
                    yield CHUNKS[0]
                    await asyncio.sleep(0)

            task = asyncio.create_task(on_asyncio(url, API_KEY, microphone()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with FakeServer(silent) as server:
            asyncio.run(cancel(server.url))

    def test_a_greenlet_that_is_killed_leaves_none(self) -> None:
        with FakeServer(silent) as server:
            killed = subprocess.run(
                [sys.executable, "-c", KILLED, server.url],
                cwd=HERE.parent.parent,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
        assert killed.stdout == "[]\n"

    def test_a_server_that_reads_nothing_until_it_is_read(self) -> None:
        def script(peer: Peer) -> None:
            peer.start()
            for _ in range(400):
                peer.say(result("x" * 10_000, is_final=True))
            while peer.read().payload:
                pass
            peer.say(FINISHED)
            peer.close()
            peer.read_to_the_end()

        audio = [bytes(32_000)] * 300

        async def source() -> AsyncIterator[bytes]:
            for chunk in audio:
                yield chunk

        programs: list[Callable[[str], Coroutine[Any, Any, str]]] = [
            lambda url: on_asyncio(url, API_KEY, source()),
            lambda url: on_aiohttp.transcribe(url, API_KEY, audio),
        ]
        for program in programs:
            with FakeServer(script, receive_buffer=4096, send_buffer=4096) as server:
                text = asyncio.run(asyncio.wait_for(program(server.url), 2 * PATIENCE))
                assert text == "x" * 4_000_000

    def test_tls(self) -> None:
        authority = trustme.CA()
        server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server_tls)
        client_tls = ssl.create_default_context()
        authority.configure_trust(client_tls)
        with FakeServer(finished("hello"), tls=server_tls, host="localhost") as server:
            assert on_selectors.transcribe(server.url, API_KEY, CHUNKS[:2], client_tls) == (
                ["hello"] * 2
            )

    @pytest.mark.parametrize(
        ("program", "text"), [("on_gevent", "hello\n" * 3), ("on_twisted", "hello\n")]
    )
    def test_tls_in_another_loop(self, program: str, text: str, tmp_path: Path) -> None:
        authority = trustme.CA()
        server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server_tls)
        trusted = tmp_path / "authority.pem"
        authority.cert_pem.write_to_path(str(trusted))
        with FakeServer(finished("hello"), tls=server_tls, host="localhost") as server:
            said = run(program, server.url, API_KEY, "1", SSL_CERT_FILE=str(trusted))
        assert said == text

    @pytest.mark.parametrize("program", ["on_selectors", *ALONE])
    def test_without_tls_nothing_is_sent(self, program: str) -> None:
        """This server knows no TLS, so the key must not reach it."""
        received: list[bytes] = []

        def script(peer: Peer) -> None:
            received.append(peer._socket.recv(4096))

        with FakeServer(script) as server, pytest.raises(AssertionError):
            run(program, server.url.replace("ws:", "wss:"), API_KEY, "1")
        assert not any(API_KEY.encode() in data for data in received)

    @pytest.mark.parametrize("program", ALONE)
    def test_a_server_that_stops_reading_elsewhere(self, program: str) -> None:
        def deaf(peer: Peer) -> None:
            peer.accept()
            over.wait(PATIENCE)

        over = threading.Event()
        with FakeServer(deaf, receive_buffer=4096) as server:
            with pytest.raises(AssertionError, match="did not answer a ping"):
                run(program, server.url, API_KEY, "31", impatient=True)
            over.set()

    def test_a_server_that_stops_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        impatient = {"ping_interval": 0.1, "ping_timeout": 0.1, "close_timeout": 0.1}
        make = partial(RealtimeSTTConnection, **impatient)  # type: ignore[arg-type]
        monkeypatch.setattr(on_selectors, "RealtimeSTTConnection", make)

        def deaf(peer: Peer) -> None:
            peer.accept()
            over.wait(PATIENCE)

        over = threading.Event()
        with FakeServer(deaf, receive_buffer=4096) as server:
            (lost,) = on_selectors.transcribe(server.url, API_KEY, [bytes(1_000_000)])
            over.set()
        assert isinstance(lost, SonioxTimeoutError)
