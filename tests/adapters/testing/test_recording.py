"""Real sessions of every kind, recorded on real sockets, and run again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    RealtimeSTTSession,
    SonioxConnectionError,
    SonioxServerError,
    SonioxValidationError,
)
from soniox_adapters.server import Drop, LocalServer, run_in_thread, scripted
from soniox_adapters.testing import (
    GoldenTraces,
    ScriptedServer,
    Trace,
    record,
    replay,
    scripted_client,
)
from soniox_proto import Closed, Finalized, Outcome, Reconnected, ReconnectPolicy, Result
from tests.support.adapters.sessions import Kind, open_session
from tests.support.core.messages import API_KEY, CONFIG

SECOND = bytes(32_000)
RAW = CONFIG.model_copy(
    update={"audio_format": "pcm_s16le", "sample_rate": 16_000, "num_channels": 1}
)


def test_a_session_is_recorded(kind: Kind) -> None:
    recognizer = scripted("one two. three four.", ms_per_word=100)
    with (
        run_in_thread(LocalServer(recognizer=recognizer)) as server,
        open_session(kind, server.url, config=RAW, ping_interval_sec=0.05) as driver,
    ):
        recorded = record(driver.session)
        driver.enter()
        for _ in range(3):
            driver.send(SECOND)
        driver.call("finalize")
        driver.call("send_bytes", [SECOND, SECOND])
        messages = driver.collect()
        driver.close()
        assert driver.outcome is Outcome.FINISHED
    text = recorded.trace().dumps()
    assert API_KEY not in text
    events = [event for _, event in replay(Trace.loads(text))]
    assert [event.message for event in events if isinstance(event, Result)] == messages
    assert len([event for event in events if isinstance(event, Finalized)]) == 1
    assert isinstance(events[-1], Closed)


def test_a_session_that_fails_is_recorded(kind: Kind) -> None:
    error = {"error_code": 503, "error_type": "service_unavailable", "error_message": "Restart."}
    with (
        run_in_thread(LocalServer(recognizer=scripted([error]))) as server,
        open_session(kind, server.url, config=RAW) as driver,
    ):
        recorded = record(driver.session, audio=False, text=False)
        driver.enter()
        driver.send(SECOND)
        with pytest.raises(SonioxServerError):
            driver.collect()
        driver.close()
    events = replay(Trace.loads(recorded.trace().dumps()))
    assert isinstance(events[-1][1], Closed)


def test_a_session_that_reconnects_is_recorded(kind: Kind) -> None:
    recognizer = scripted("one two. three four.", ms_per_word=100)
    with (
        run_in_thread(LocalServer(recognizer=recognizer, faults=[Drop(after_ms=1_500)])) as server,
        open_session(
            kind, server.url, config=RAW, reconnect=ReconnectPolicy(initial_delay=0.01)
        ) as driver,
    ):
        recorded = record(driver.session)
        driver.enter()
        for _ in range(3):
            driver.send(SECOND)
        driver.call("finish")
        messages = driver.collect()
        driver.close()
        assert driver.outcome is Outcome.FINISHED
    events = [event for _, event in replay(Trace.loads(recorded.trace().dumps()))]
    assert [event.message for event in events if isinstance(event, Result)] == messages
    assert len([event for event in events if isinstance(event, Reconnected)]) == 1


def test_a_server_that_cannot_be_reached(kind: Kind) -> None:
    with open_session(kind, "ws://127.0.0.1:1", config=RAW) as driver:
        recorded = record(driver.session)
        with pytest.raises(SonioxConnectionError):
            driver.enter()
    ((_, event),) = replay(Trace.loads(recorded.trace().dumps()))
    assert isinstance(event, Closed)
    assert isinstance(event.error, SonioxConnectionError)


def test_a_scripted_session_is_recorded_like_a_real_one() -> None:
    server = ScriptedServer()
    server.after_audio(seconds=1).say("hello")
    headers = {"X-Mine": "secret"}
    with scripted_client(server) as client:
        session = client.realtime.stt.connect(config=RAW, additional_headers=headers)
        recorded = record(session)
        with session:
            session.send_bytes([SECOND])
            list(session.receive_events())
    text = recorded.trace().dumps()
    assert "secret" not in text
    assert len(replay(Trace.loads(text))) == 5


def test_a_session_that_reconnects_with_keys_that_are_asked_for() -> None:
    server = ScriptedServer()
    server.expect_upgrade(api_key="temp:alice1")
    server.after_audio(seconds=1).say("Good").drop()
    again = server.next_connection()
    again.expect_upgrade(api_key="temp:robert2")
    again.after_audio(seconds=3).say(" morning")
    keys = iter(["temp:alice1", "temp:robert2"])
    with scripted_client(server, api_key=lambda: next(keys)) as client:
        session = client.realtime.stt.connect(config=RAW, reconnect=ReconnectPolicy())
        recorded = record(session, audio=False)
        with session:
            session.send_bytes([SECOND] * 3)
            messages = list(session.receive_events())
    server.check()
    text = recorded.trace().dumps()
    assert "alice" not in text
    assert "robert" not in text
    events = [event for _, event in replay(Trace.loads(text))]
    assert [event.message for event in events if isinstance(event, Result)] == messages
    assert len([event for event in events if isinstance(event, Reconnected)]) == 1


def test_what_cannot_be_recorded() -> None:
    url = "wss://localhost"
    with pytest.raises(SonioxValidationError, match="compression"):
        record(RealtimeSTTSession(url, CONFIG, compression=True))
    session = AsyncRealtimeSTTSession(url, CONFIG)
    record(session)
    with pytest.raises(SonioxValidationError, match="only before it is entered, and once"):
        record(session)


def test_golden_traces_of_sessions_that_reconnect_do_not_depend_on_the_clock(
    tmp_path: Path,
) -> None:
    async def run(*, update: bool) -> None:
        golden = GoldenTraces(tmp_path, "talk", update=update)
        server = ScriptedServer()
        server.after_audio(seconds=1).say("Good").drop()
        async with scripted_client(server) as client:
            policy = ReconnectPolicy(jitter=False, initial_delay=0.3)
            session = client.realtime.stt.connect(config=RAW, reconnect=policy)
            golden(session)
            async with session:
                await session.send_bytes([SECOND] * 3)
                assert [event async for event in session.receive_events()]
        golden.check()

    asyncio.run(run(update=True))
    asyncio.run(run(update=False))
    assert '"gap": 300}' in (tmp_path / "talk.jsonl").read_text()


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_golden_traces_do_not_depend_on_how_busy_the_machine_is(
    library: str, tmp_path: Path
) -> None:
    def audio(busy_seconds: float) -> Iterator[bytes]:
        for _ in range(3):
            time.sleep(busy_seconds)
            yield SECOND

    async def run(busy_seconds: float) -> None:
        golden = GoldenTraces(tmp_path, "talk", update=not busy_seconds)
        server = ScriptedServer()
        server.after_audio(seconds=1).say("Good")
        async with scripted_client(server) as client:
            session = client.realtime.stt.connect(config=RAW)
            golden(session)
            async with session:
                await session.send_bytes(audio(busy_seconds))
                assert [event async for event in session.receive_events()]
        golden.check()

    for busy_seconds in (0.0, 0.02, 0.001, 0.001, 0.001):
        anyio.run(run, busy_seconds, backend=library)
