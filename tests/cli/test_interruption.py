"""Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from typing import Any, cast

import pytest

from soniox_adapters import RealtimeSTTConfig, RealtimeSTTSession
from soniox_adapters.cli.interruption import (
    Interruption,
    signals_handled,
    signals_handled_in_loop,
)
from soniox_adapters.cli.recording import Recording, recording_of_bytes


def session_that_sent(size: int) -> RealtimeSTTSession:
    session = RealtimeSTTSession("ws://localhost/", RealtimeSTTConfig(model="m"))
    session.stats.sent_audio_bytes = size
    return session


def interruption_of(
    session: RealtimeSTTSession, recording: Recording, stops: list[str]
) -> Interruption:
    return Interruption(
        session,
        recording,
        announce_stop=lambda: stops.append("gently"),
        stop_at_once=lambda: stops.append("at once"),
    )


def test_signals_are_handled_for_a_while_only() -> None:
    calls: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with signals_handled(lambda: calls.append("called"), signal.SIGINT, signal.SIGTERM):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert calls == ["called", "called"]
    assert signal.getsignal(signal.SIGINT) is before


def stop_by_a_signal_in_another_thread() -> str:
    """Return whether the signal ended the wait of the event loop, or something else did later."""

    async def wait_for_the_signal() -> str:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()

        def end(how: str) -> None:
            if not ended.done():
                ended.set_result(how)

        def send_signal() -> None:
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

        late = threading.Timer(5.0, loop.call_soon_threadsafe, (end, "something else"))
        sender = threading.Timer(0.05, send_signal)
        with signals_handled_in_loop(lambda: end("the signal"), signal.SIGTERM):
            late.start()
            sender.start()
            how = await ended
        for thread in (late, sender):
            thread.cancel()
            thread.join()
        return how

    return asyncio.run(wait_for_the_signal())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_signal_ends_the_wait_of_the_event_loop_wherever_it_arrives() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert stop_by_a_signal_in_another_thread() == "the signal"
    assert signal.getsignal(signal.SIGTERM) is before


def test_event_loops_without_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_for_the_signal() -> None:
        handled = asyncio.Event()
        with signals_handled_in_loop(handled.set, signal.SIGTERM):
            signal.raise_signal(signal.SIGTERM)
            await handled.wait()

    def missing(self: object, number: int, callback: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", missing)
    asyncio.run(wait_for_the_signal())


def test_a_handler_that_python_did_not_set_becomes_the_default(monkeypatch: Any) -> None:
    handlers: list[Any] = []

    def replace(number: int, handler: Any) -> None:
        handlers.append(handler)

    monkeypatch.setattr(signal, "signal", replace)
    with signals_handled(lambda: None, signal.SIGINT):
        pass
    assert cast("Any", handlers)[-1] is signal.SIG_DFL


def test_the_first_ctrl_c_ends_the_audio_and_the_second_everything() -> None:
    stops: list[str] = []
    with recording_of_bytes(bytes(100), "x") as recording:
        interruption = interruption_of(session_that_sent(10), recording, stops)
        assert not interruption.happened
        interruption()
        assert interruption.happened
        assert not interruption.at_once
        assert recording.read(10) == b""
        interruption()
        assert interruption.at_once
    assert stops == ["gently", "at once"]


def test_without_any_audio_the_first_ends_everything() -> None:
    stops: list[str] = []
    with recording_of_bytes(bytes(100), "x") as recording:
        interruption = interruption_of(session_that_sent(0), recording, stops)
        interruption()
    assert (interruption.at_once, stops) == (True, ["at once"])
