"""Async sessions against a scripted server, on asyncio and on trio: in memory, in virtual time."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trio
import trio.testing

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    AsyncSonioxClient,
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    SonioxConnectionError,
    SonioxError,
    SonioxHandshakeError,
    SonioxRealtimeError,
    SonioxServiceUnavailableError,
    SonioxTimeoutError,
    throttle_audio_async,
)
from soniox_adapters.testing import (
    ScriptedServer,
    endpoint,
    scripted_client,
    scripted_session,
    token,
)
from soniox_adapters.testing.byte_stream import ScriptedByteStream
from soniox_adapters.testing.virtual_loop import virtual_time
from soniox_adapters.testing.virtual_trio import JumpingClock

pytestmark = pytest.mark.anyio

SECOND = bytes(32_000)


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


def text_of(events: list[RealtimeEvent]) -> str:
    return "".join(token.text for event in events for token in event.tokens if token.is_final)


async def events_of(session: AsyncRealtimeSTTSession) -> list[RealtimeEvent]:
    return [event async for event in session.receive_events()]


async def test_a_whole_session(server: ScriptedServer) -> None:
    server.expect_upgrade(api_key="scripted")
    server.after_audio(ms=500).say(token("hel", final=False))
    server.after_audio(ms=1_500).say("hello", endpoint())
    async with scripted_session(server) as session:
        assert isinstance(session, AsyncRealtimeSTTSession)
        began = anyio.current_time()
        chunks = throttle_audio_async(SECOND * 3, config=session.config)
        async with anyio.create_task_group() as group:
            group.start_soon(session.send_bytes, chunks)
            arrived = [
                round(anyio.current_time() - began, 3) async for _ in session.receive_events()
            ]
        assert arrived == [0.384, 1.408, 3.104]
    assert session.outcome is Outcome.FINISHED
    server.check()


async def test_an_hour() -> None:
    server = ScriptedServer(max_duration=3_600.0)
    server.expect_keepalive(times=700)
    with pytest.raises(SonioxRealtimeError, match="max_duration_reached"):
        async with scripted_session(server) as session:
            await events_of(session)
    server.check()


async def test_keepalives_flow_while_the_program_sleeps(server: ScriptedServer) -> None:
    server.expect_keepalive(times=11)
    async with scripted_session(server) as session:
        await anyio.sleep(61.0)
        assert session.stats.sent_keepalives == 12
    server.check()


async def test_an_error_of_the_service(server: ScriptedServer) -> None:
    server.at(12.0).error(503)
    async with scripted_session(server) as session:
        began = anyio.current_time()
        with pytest.raises(SonioxServiceUnavailableError):
            await events_of(session)
        assert anyio.current_time() - began == pytest.approx(12.0)
    server.check()


async def test_a_refused_upgrade(server: ScriptedServer) -> None:
    server.on_upgrade().refuse(429, body="slow down")
    with pytest.raises(SonioxHandshakeError, match="slow down"):
        async with scripted_session(server):
            pass
    server.check()


async def test_a_lost_connection(server: ScriptedServer) -> None:
    server.after_audio(seconds=1).say("hello").drop()
    async with scripted_session(server) as session:
        await session.send_byte_chunk(SECOND)
        assert await session.receive_event() is not None
        with pytest.raises(SonioxConnectionError):
            await session.receive_event()


async def test_a_dead_peer(server: ScriptedServer) -> None:
    server.at(5.0).half_open()
    async with scripted_session(server) as session:
        began = anyio.current_time()
        with pytest.raises(SonioxTimeoutError, match="ping"):
            await session.receive_event()
        assert anyio.current_time() - began == pytest.approx(40.0)


async def test_a_sender_waits_for_a_stalled_server(server: ScriptedServer) -> None:
    server.at(1.0).stall(30.0)
    async with scripted_session(server) as session:
        began = anyio.current_time()
        await anyio.sleep(2.0)
        for _ in range(10):
            await session.send_byte_chunk(SECOND)
        assert anyio.current_time() - began == pytest.approx(31.0)
        await anyio.sleep(1.0)
        assert server.connections[0].audio_ms == 10_000


async def captions(client: AsyncSonioxClient) -> str:
    """Transcribe, once more for each error that is worth it."""
    config = RealtimeSTTConfig(
        model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
    )
    text: list[str] = []
    try:
        async with client.realtime.stt.connect(config=config) as session:
            await session.send_bytes([SECOND] * 2)
            async for event in session.receive_events():
                text.append(text_of([event]))  # noqa: PERF401
    except SonioxRealtimeError as error:
        await anyio.sleep(1.0 if error.retry_after is None else error.retry_after)
        text.append(await captions(client))
    return "".join(text)


async def test_a_client_makes_such_sessions(server: ScriptedServer) -> None:
    server.after_audio(seconds=1).say("Good").error(429)
    server.next_connection().after_audio(seconds=1).say(" morning")
    async with scripted_client(server, api_key="sk-mine") as client:
        assert client.api_key == "sk-mine"
        began = anyio.current_time()
        assert await captions(client) == "Good morning"
        assert anyio.current_time() - began == pytest.approx(10.16)
    server.check()


async def test_time_does_not_run_ahead_of_threads_at_work(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """What a thread brings would come hours late, and be ended by a timeout."""
    (tmp_path / "audio").write_bytes(SECOND * 3)
    async with scripted_session(server) as session:
        began = anyio.current_time()
        await anyio.to_thread.run_sync(threading.Event().wait, 0.05)
        if _on_asyncio():
            await asyncio.to_thread(threading.Event().wait, 0.05)
        assert anyio.current_time() == began
        chunks = throttle_audio_async(tmp_path / "audio", config=session.config)
        await session.send_bytes(chunks)
        assert anyio.current_time() - began == pytest.approx(2.944)
        assert [event.finished for event in await events_of(session)] == [True]
    assert session.stats.sent_keepalives == 0


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def test_a_session_may_be_cancelled(server: ScriptedServer) -> None:
    server.expect_close(code=1001)
    with anyio.move_on_after(7.0) as scope:
        async with scripted_session(server) as session:
            await session.receive_event()
    assert scope.cancelled_caught
    assert session.outcome is Outcome.ABORTED
    server.check()


async def test_blocks_may_be_nested(server: ScriptedServer) -> None:
    server.expect_keepalive(times=2)
    server.next_connection().expect_keepalive(times=2)
    async with scripted_session(server), scripted_session(server):
        await anyio.sleep(11.0)
    with virtual_time():
        await anyio.sleep(1_000.0)
    server.check()


async def test_time_goes_on_after_the_block() -> None:
    with virtual_time():
        began = anyio.current_time()
        await anyio.sleep(1_000.0)
        assert anyio.current_time() - began == pytest.approx(1_000.0)
    real = time.monotonic()
    between = anyio.current_time()
    assert between - began >= 1_000.0
    await anyio.sleep(0.02)
    assert time.monotonic() - real >= 0.015, "time is real again"
    assert anyio.current_time() - between < 500.0


async def test_sockets_are_heard_in_virtual_time() -> None:
    with virtual_time():
        near, far = socket.socketpair()
        async with (
            await anyio.abc.SocketStream.from_socket(near) as one,
            await anyio.abc.SocketStream.from_socket(far) as other,
        ):
            with anyio.move_on_after(100.0) as scope:
                await one.send(b"hello")
                assert await other.receive() == b"hello"
                await other.receive()
            assert scope.cancelled_caught


class TestTheStream:
    async def test_ends_with_the_connection(self, server: ScriptedServer) -> None:
        connection = server.connect(anyio.current_time())
        stream = ScriptedByteStream(connection)
        await stream.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"")

    async def test_closing_ends_a_wait(self, server: ScriptedServer) -> None:
        stream = ScriptedByteStream(server.connect(anyio.current_time()))
        async with anyio.create_task_group() as group:

            async def receive() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await stream.receive()

            group.start_soon(receive)
            await anyio.lowlevel.checkpoint()
            await stream.aclose()


def test_a_loop_whose_time_cannot_be_virtual(server: ScriptedServer) -> None:
    if sys.platform == "win32":
        pytest.skip("uvloop is not for Windows")
    import uvloop

    async def use() -> None:
        with pytest.raises(SonioxError, match="time cannot be virtual in Loop"):
            async with scripted_session(server):
                pass

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(use())
    finally:
        loop.close()


def test_a_dead_peer_without_anyio(server: ScriptedServer) -> None:
    """A timer of asyncio is no task; anyio knows the event loop there only if it started it."""
    server.after_audio(seconds=1).stall()

    async def use() -> None:
        async with scripted_session(server, ping_interval_sec=5.0, ping_timeout_sec=3.0) as session:
            await session.send_bytes(bytes(32_000))
            with anyio.fail_after(60.0):
                with pytest.raises(SonioxTimeoutError, match="did not answer a ping"):
                    await session.receive_event()

    asyncio.run(use())


@pytest.mark.parametrize(
    "clock", [trio.testing.MockClock(autojump_threshold=0), JumpingClock()], ids=["trio's", "ours"]
)
def test_a_clock_of_trio_that_jumps_already(server: ScriptedServer, clock: trio.abc.Clock) -> None:
    async def use() -> None:
        async with scripted_session(server):
            assert trio.lowlevel.current_clock() is clock
            await trio.sleep(100.0)

    trio.run(use, clock=clock)


def test_a_trio_whose_clock_cannot_be_replaced(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use() -> None:
        import trio._core._run as run

        class Context:
            runner = None

        with monkeypatch.context() as patches:
            patches.setattr(run, "GLOBAL_RUN_CONTEXT", Context())
            from soniox_adapters.testing.virtual_trio import _replace_clock

            with pytest.raises(SonioxError, match="cannot be virtual in this version"):
                _replace_clock(JumpingClock())

    trio.run(use)
