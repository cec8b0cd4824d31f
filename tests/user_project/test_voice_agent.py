"""The tests of a project that has the installed package only."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest
from voice_agent import VoiceAgent, transcribe

import soniox_adapters
from soniox_adapters import (
    Outcome,
    RealtimeSTTSession,
    SonioxAuthenticationError,
    SonioxTimeoutError,
)
from soniox_adapters.server import LocalServer
from soniox_adapters.testing import (
    GoldenTraces,
    ScriptedServer,
    endpoint,
    scripted_client,
    scripted_session,
    token,
)

SECOND = bytes(32_000)


def test_this_is_the_installed_package() -> None:
    assert not (Path(soniox_adapters.__file__).parent.parent / "tests").exists()


async def a_turn(server: ScriptedServer) -> None:
    server.expect_start(model="stt-rt-v5")
    server.after_audio(seconds=1).say(token("What tim", final=False))
    server.after_audio(seconds=2).say("What time is it?", endpoint())
    server.at(30.0).say(" Hello?", endpoint())
    async with scripted_session(server) as session:
        agent = VoiceAgent(session)
        await session.send_bytes([SECOND] * 2, finish=False)
        assert await agent.turn() == "What time is it?"
        began = anyio.current_time()
        assert await agent.turn() == "Hello?"
        assert anyio.current_time() - began == pytest.approx(30.0, abs=0.1)
    assert agent.heard == ["What time is it?", "Hello?"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_turn_with_the_plugin_of_anyio(
    soniox_server: ScriptedServer, anyio_backend: str
) -> None:
    await a_turn(soniox_server)


@pytest.mark.asyncio
async def test_a_turn_with_pytest_asyncio(soniox_server: ScriptedServer) -> None:
    await a_turn(soniox_server)


@pytest.mark.trio
async def test_a_turn_with_pytest_trio(soniox_server: ScriptedServer) -> None:
    await a_turn(soniox_server)


def test_errors_are_survived(soniox_server: ScriptedServer) -> None:
    soniox_server.on_upgrade().refuse(503, body="later")
    soniox_server.next_connection().on_start().error(429)
    soniox_server.next_connection().after_audio(seconds=1).say("lost").drop()
    soniox_server.next_connection().after_audio(seconds=1).say("Good morning")
    with scripted_client(soniox_server) as client:
        assert transcribe(client, [SECOND] * 2, time.sleep) == "Good morning"
        assert 15.0 < time.monotonic() < 16.0


def test_a_wrong_key_is_not_tried_again(soniox_server: ScriptedServer) -> None:
    soniox_server.expect_upgrade(api_key="sk-wrong")
    soniox_server.on_start().error(401)
    with (
        scripted_client(soniox_server, api_key="sk-wrong") as client,
        pytest.raises(SonioxAuthenticationError),
    ):
        transcribe(client, [SECOND], time.sleep)
    assert len(soniox_server.connections) == 1


def test_a_dead_connection_is_noticed(soniox_server: ScriptedServer) -> None:
    soniox_server.at(3_600.0).half_open()
    with scripted_session(soniox_server) as session:
        with pytest.raises(SonioxTimeoutError, match="ping"):
            session.receive_event()
        assert time.monotonic() < 3_660.0


def test_the_conversation_goes_as_before(
    soniox_server: ScriptedServer, soniox_trace: GoldenTraces
) -> None:
    soniox_server.after_audio(seconds=1).say("hello", endpoint())
    with scripted_client(soniox_server) as client:
        session = client.realtime.stt.connect(config={"model": "stt-rt-v5"})
        soniox_trace(session)
        with session:
            session.send_byte_chunk(SECOND)
            session.finalize()
            time.sleep(12.0)
            session.finish()
            list(session.receive_events())


def test_the_local_server(soniox_local_server: LocalServer) -> None:
    config = {
        "model": "stt-rt-v5",
        "audio_format": "pcm_s16le",
        "sample_rate": 16_000,
        "num_channels": 1,
    }
    with RealtimeSTTSession(soniox_local_server.url, config, "any") as session:
        session.send_bytes([SECOND])
        list(session.receive_events())
    assert session.outcome is Outcome.FINISHED
