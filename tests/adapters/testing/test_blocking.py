"""Blocking sessions against a scripted server: in memory, in virtual time."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from soniox_adapters import (
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    RealtimeSTTSession,
    SonioxClient,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxRealtimeError,
    SonioxServiceUnavailableError,
    SonioxTimeoutError,
    SonioxValidationError,
    start_audio_thread,
    stream_audio,
    throttle_audio,
)
from soniox_adapters.testing import (
    ScriptedServer,
    endpoint,
    scripted_client,
    scripted_session,
    token,
    virtual_threads,
)
from soniox_adapters.testing.virtual_threads import VirtualThreads
from tests.support.adapters.conditions import come_true

SECOND = bytes(32_000)


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


def text_of(events: list[RealtimeEvent]) -> str:
    return "".join(token.text for event in events for token in event.tokens if token.is_final)


def test_a_whole_session(server: ScriptedServer) -> None:
    server.expect_upgrade(api_key="scripted")
    server.expect_start(model="stt-rt-v5", sample_rate=16_000)
    server.after_audio(ms=500).say(token("hel", final=False))
    server.after_audio(ms=1_500).say("hello", endpoint())
    with scripted_session(server) as session:
        assert isinstance(session, RealtimeSTTSession)
        assert session.fileno() == -1
        began = time.monotonic()
        start_audio_thread(session, throttle_audio(SECOND * 3, config=session.config))
        arrived = [round(time.monotonic() - began, 3) for _ in session.receive_events()]
        assert arrived == [0.384, 1.408, 3.104]
    assert session.outcome is Outcome.FINISHED
    server.check()


def test_an_hour() -> None:
    server = ScriptedServer(max_duration=3_600.0)
    server.expect_keepalive(times=700)
    with scripted_session(server, raise_on_error=False) as session:
        assert time.monotonic() == 0.0
        assert [event.error_code for event in session.receive_events()] == [413]
        assert time.monotonic() == pytest.approx(3_600.0)
    server.check()


def test_keepalives_flow_while_the_program_sleeps(server: ScriptedServer) -> None:
    server.expect_keepalive(times=11)
    with scripted_session(server) as session:
        time.sleep(60.0)
        assert session.stats.sent_keepalives in {11, 12}
    server.check()


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_sleep_of_a_length_that_no_thread_can_sleep(
    server: ScriptedServer, seconds: float
) -> None:
    with scripted_session(server), pytest.raises(ValueError, match="non-negative number"):
        time.sleep(seconds)


@pytest.mark.parametrize("server", [None, ScriptedServer, "wss://localhost"])
def test_something_that_is_no_scripted_server(server: Any) -> None:
    for make in (scripted_client, scripted_session):
        with pytest.raises(SonioxValidationError, match="server must be a ScriptedServer, not"):
            make(server)


def test_a_timeout_in_virtual_time(server: ScriptedServer) -> None:
    with scripted_session(server) as session:
        with pytest.raises(SonioxTimeoutError):
            session.receive_event(timeout=90.0)
        assert time.monotonic() == pytest.approx(90.0)


def test_an_error_of_the_service(server: ScriptedServer) -> None:
    server.at(12.0).error(503)
    with scripted_session(server) as session:
        with pytest.raises(SonioxServiceUnavailableError):
            list(session.receive_events())
        assert time.monotonic() == pytest.approx(12.0)
    server.check()


def test_options_of_the_session(server: ScriptedServer) -> None:
    server.at(1.0).error(503)
    config = {"model": "stt-rt-v4"}
    server.expect_start(model="stt-rt-v4")
    with scripted_session(server, config, raise_on_error=False) as session:
        assert [event.error_code for event in session.receive_events()] == [503]
    server.check()


def test_a_refused_upgrade(server: ScriptedServer) -> None:
    server.on_upgrade().refuse(429, body="slow down")
    with pytest.raises(SonioxHandshakeError, match="slow down"), scripted_session(server):
        pass
    server.check()


def test_a_lost_connection(server: ScriptedServer) -> None:
    server.after_audio(seconds=1).say("hello").drop()
    with scripted_session(server) as session:
        session.send_byte_chunk(SECOND)
        assert session.receive_event() is not None
        with pytest.raises(SonioxConnectionError):
            session.receive_event()


def test_a_dead_peer(server: ScriptedServer) -> None:
    server.at(5.0).half_open()
    with scripted_session(server) as session:
        with pytest.raises(SonioxTimeoutError, match="ping"):
            session.receive_event()
        assert time.monotonic() == pytest.approx(40.0)


def test_a_sender_waits_for_a_stalled_server(server: ScriptedServer) -> None:
    server.at(1.0).stall(30.0)
    with scripted_session(server) as session:
        time.sleep(2.0)
        for _ in range(3):
            session.send_byte_chunk(SECOND)
        assert time.monotonic() < 3.0
        session.send_bytes([SECOND, SECOND], finish=False)
        assert time.monotonic() == pytest.approx(31.0)
        time.sleep(1.0)
        assert server.connections[0].audio_ms == 5_000


def test_a_session_is_closed_while_another_thread_receives(server: ScriptedServer) -> None:
    received: list[list[RealtimeEvent]] = []
    with scripted_session(server) as session:
        receiving = [
            threading.Thread(target=lambda: received.append(list(session.receive_events())))
            for _ in range(3)
        ]
        for thread in receiving:
            thread.start()
        time.sleep(1.0)
        session.close()
        for thread in receiving:
            thread.join()
    assert received == [[], [], []]


def test_a_thread_in_a_wait_that_the_kit_does_not_know(server: ScriptedServer) -> None:
    """The main thread joins; time goes on for the others."""
    server.after_audio(seconds=2).say("hello")
    with scripted_session(server) as session:
        chunks = throttle_audio(SECOND * 3, config=session.config)
        sender = start_audio_thread(session, chunks)
        sender.join()
        assert time.monotonic() > 2.0
        assert text_of(list(session.receive_events())) == "hello"


def test_other_threads_keep_the_real_time(server: ScriptedServer) -> None:
    asked, stop = threading.Event(), threading.Event()
    times: list[float] = []

    def bystander() -> None:
        while not stop.is_set():
            asked.wait(60.0)
            time.sleep(0.001)
            times.append(time.monotonic())
            stop.set()

    thread = threading.Thread(target=bystander)
    thread.start()
    real = time.monotonic()
    with scripted_session(server):
        time.sleep(1_000.0)
        assert time.monotonic() >= 1_000.0
        asked.set()
        thread.join()
    assert real < times[0] < real + 500.0
    assert time.monotonic() >= times[0]


def captions(client: SonioxClient) -> str:
    """Transcribe, once more for each error that is worth it."""
    config = RealtimeSTTConfig(
        model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
    )
    text: list[str] = []
    try:
        with client.realtime.stt.connect(config=config) as session:
            session.send_bytes([SECOND] * 2)
            text += (text_of([event]) for event in session.receive_events())
    except SonioxRealtimeError as error:
        time.sleep(1.0 if error.retry_after is None else error.retry_after)
        text.append(captions(client))
    return "".join(text)


def test_a_client_makes_such_sessions(server: ScriptedServer) -> None:
    server.after_audio(seconds=1).say("Good").error(429)
    server.next_connection().after_audio(seconds=1).say(" morning")
    with scripted_client(server, api_key="sk-mine") as client:
        assert client.api_key == "sk-mine"
        assert captions(client) == "Good morning"
        assert time.monotonic() == pytest.approx(10.16), "a 429 is tried again after ten seconds"
    server.check()


def test_audio_from_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "audio").write_bytes(SECOND * 2)
    server.expect_audio(seconds=2)
    with scripted_session(server) as session:
        session.send_bytes(stream_audio(tmp_path / "audio"))
        assert [event.finished for event in session.receive_events()] == [True]
    server.check()


def test_an_exception_in_the_block_aborts_the_session(server: ScriptedServer) -> None:
    server.expect_close(code=1001)
    with pytest.raises(KeyError), scripted_session(server) as session:
        raise KeyError
    assert session.outcome is Outcome.ABORTED
    server.check()


def test_visits_that_fail_end_the_session_and_not_time() -> None:
    """A visit comes again when it says so, at the earliest now."""
    visits: list[float] = []

    class Visited:
        def tick(self) -> float | None:
            visits.append(virtual.clock.now)
            return virtual.clock.now - 1.0 if len(visits) == 1 else None

    virtual = VirtualThreads()
    with virtual.running():
        virtual.schedule(Visited(), 5.0)
        time.sleep(10.0)
    assert visits == [5.0, 5.0]


def test_blocks_of_several_threads_end_in_any_order() -> None:
    real = time.sleep, time.monotonic
    first, second = (scripted_session(ScriptedServer()) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    began = time.monotonic()
    time.sleep(3_600.0)
    assert time.monotonic() == began + 3_600.0
    second.__exit__(None, None, None)
    assert (time.sleep, time.monotonic) == real


class TestThreadsThatRun:
    """Threads in no wait that the kit knows, which may be at work."""

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which threads would run")
    def test_time_waits_for_one_that_is_at_work(self) -> None:
        ended_at: list[float] = []

        def work() -> None:
            until = time.perf_counter() + 10 * virtual_threads.QUIET
            while time.perf_counter() < until:
                pass
            ended_at.append(virtual.clock.now)

        virtual = VirtualThreads()
        with virtual.running():
            thread = threading.Thread(target=work)
            thread.start()
            time.sleep(5.0)
            thread.join()
        assert ended_at == [0.0]

    def test_but_not_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(virtual_threads, "LONGEST_RUN", 2 * virtual_threads.QUIET)
        virtual = VirtualThreads()
        over = False

        def wait_in_a_way_of_its_own() -> None:
            while not over:
                pass

        with virtual.running():
            thread = threading.Thread(target=wait_in_a_way_of_its_own)
            thread.start()
            time.sleep(5.0)
            over = True
            thread.join()
        assert virtual.clock.now == 5.0

    def test_which_ones_do(self) -> None:
        lock = threading.Lock()
        thread = threading.Thread(target=lock.acquire)
        assert virtual_threads._is_runnable(thread), "it is about to begin"
        with lock:
            thread.start()
            come_true(lambda: not virtual_threads._is_runnable(thread))
        thread.join()
        # The system's own thread ends a moment later.
        come_true(lambda: not virtual_threads._is_runnable(thread))
