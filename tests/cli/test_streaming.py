"""A recording through both sessions, against a local server."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from typing import BinaryIO, cast

import pytest

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    RealtimeSTTSession,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxTimeoutError,
)
from soniox_adapters.cli import streaming
from soniox_adapters.cli.recording import Recording, recording_of_bytes
from soniox_adapters.cli.streaming import (
    Listener,
    Pace,
    StreamEnd,
    stream_async,
    stream_blocking,
)
from soniox_adapters.server import LocalServer, run_in_thread

from .servers import SECOND, HeldRecognizer, scripted_server

CONFIG = RealtimeSTTConfig(
    model="m",
    audio_format="pcm_s16le",
    sample_rate=16_000,
    num_channels=1,
    enable_endpoint_detection=True,
)
UNLIMITED = Pace(None)

Streamer = Callable[[str, Recording, Pace, Listener], StreamEnd]


def through_async(url: str, recording: Recording, pace: Pace, listener: Listener) -> StreamEnd:
    session = AsyncRealtimeSTTSession(url, CONFIG, proxy=None)
    return asyncio.run(stream_async(session, recording, pace, listener))


def through_blocking(url: str, recording: Recording, pace: Pace, listener: Listener) -> StreamEnd:
    session = RealtimeSTTSession(url, CONFIG, proxy=None)
    return stream_blocking(session, recording, pace, listener)


@pytest.fixture(params=[through_async, through_blocking], ids=["async", "blocking"])
def stream(request: pytest.FixtureRequest) -> Streamer:
    """Each way to stream."""
    return cast("Streamer", request.param)


class Received:
    """Remembers what comes, and may press Ctrl-C at the first final token."""

    def __init__(self, *, interrupts: int = 0) -> None:
        self.raw: list[bytes] = []
        self.words: list[str] = []
        self.stops = 0
        self._interrupts = interrupts

    def stopping(self) -> None:
        self.stops += 1

    def message(self, raw: bytes, event: RealtimeEvent) -> None:
        self.raw.append(raw)
        assert RealtimeEvent.validate_event(raw) == event
        self.words += [token.text.strip() for token in event.tokens if token.is_final]
        if self.words:
            presses, self._interrupts = self._interrupts, 0
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)


class EndlessAudio(RawIOBase):
    """Silence, at once at first and then only when it is let go."""

    def __init__(self, size: int) -> None:
        self._rest = size
        self._closing = threading.Event()

    def read(self, size: int = -1) -> bytes:
        if self._rest:
            size, self._rest = min(size, self._rest), self._rest - min(size, self._rest)
            return bytes(size)
        self._closing.wait()
        return b""

    def release(self) -> None:
        """Let a waiting read return."""
        self._closing.set()


@pytest.fixture
def endless() -> Iterator[Recording]:
    """A second of audio, after which no more comes, and no end."""
    source = EndlessAudio(len(SECOND))
    with Recording(cast("BinaryIO", source), "endless") as recording:
        yield recording
    source.release()


def test_the_transcript_comes(stream: Streamer, server: LocalServer) -> None:
    received = Received()
    with recording_of_bytes(SECOND, "x") as recording:
        end = stream(server.url, recording, UNLIMITED, received)
    assert end == StreamEnd(Outcome.FINISHED, None, interrupted=False)
    assert (end.problem, end.exit_status) == (None, 0)
    assert received.words == ["one", "two", "<end>", "three", "four", "<end>"]


def test_the_audio_is_paced(stream: Streamer, server: LocalServer) -> None:
    with recording_of_bytes(SECOND, "x") as recording:
        end = stream(server.url, recording, Pace(4.0), Received())
        assert end.exit_status == 0
        assert recording.played >= 0.2


def test_an_error_of_the_server_ends_it(stream: Streamer) -> None:
    received = Received()
    with (
        run_in_thread(scripted_server(api_key="sesame")) as server,
        recording_of_bytes(SECOND * 60, "x") as recording,
    ):
        end = stream(server.url, recording, UNLIMITED, received)
    assert isinstance(end.problem, SonioxAuthenticationError)
    assert (end.outcome, end.exit_status) == (Outcome.SERVER_ERROR, 1)
    assert b'"error_code":401' in received.raw[-1]


def test_a_server_that_is_not_there(stream: Streamer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    with recording_of_bytes(SECOND, "x") as recording:
        end = stream(url, recording, UNLIMITED, Received())
    assert isinstance(end.problem, SonioxConnectionError)
    assert end.exit_status == 1


def test_a_source_that_fails_ends_it(stream: Streamer, server: LocalServer) -> None:
    class Broken(RawIOBase):
        def read(self, size: int = -1) -> bytes:
            if size and not self.closed:
                raise OSError(5, "Input/output error")
            return b""

    with Recording(cast("BinaryIO", Broken()), "broken") as recording:
        end = stream(server.url, recording, Pace(1.0), Received())
    assert type(end.problem) is SonioxRealtimeError
    assert isinstance(end.problem.__cause__, OSError)


def test_ctrl_c_ends_the_audio_and_waits_for_the_rest(
    stream: Streamer, server: LocalServer, endless: Recording
) -> None:
    received = Received(interrupts=1)
    end = stream(server.url, endless, UNLIMITED, received)
    assert end == StreamEnd(Outcome.FINISHED, None, interrupted=True)
    assert (end.problem, end.exit_status) == (None, 130)
    assert received.words[-1] == "<end>"
    assert received.stops == 1


def test_ctrl_c_twice_ends_it_at_once(stream: Streamer, endless: Recording) -> None:
    held = HeldRecognizer()
    with run_in_thread(LocalServer(recognizer=held)) as server:
        end = stream(server.url, endless, UNLIMITED, Received(interrupts=2))
        held.released.set()
    assert end == StreamEnd(Outcome.ABORTED, None, interrupted=True)
    assert end.exit_status == 130


@contextmanager
def interrupted_when_connected() -> Iterator[str]:
    """Yield the URL of a server that never answers; press Ctrl-C when somebody comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_ctrl_c_while_connecting_ends_it_at_once(stream: Streamer) -> None:
    with interrupted_when_connected() as url, recording_of_bytes(SECOND, "x") as recording:
        end = stream(url, recording, UNLIMITED, Received())
    assert (end.problem, end.exit_status, end.interrupted) == (None, 130, True)


def test_an_interrupt_of_somebody_else_goes_on(stream: Streamer, server: LocalServer) -> None:
    class Interrupted(Received):
        def message(self, raw: bytes, event: RealtimeEvent) -> None:
            raise KeyboardInterrupt

    with recording_of_bytes(SECOND, "x") as recording, pytest.raises(KeyboardInterrupt):
        stream(server.url, recording, UNLIMITED, Interrupted())


def test_a_cancellation_of_somebody_else_goes_on(server: LocalServer, endless: Recording) -> None:
    started = asyncio.Event()

    class Started(Received):
        def message(self, raw: bytes, event: RealtimeEvent) -> None:
            started.set()

    async def main() -> None:
        session = AsyncRealtimeSTTSession(server.url, CONFIG, proxy=None)
        task = asyncio.create_task(stream_async(session, endless, UNLIMITED, Started()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.outcome is Outcome.ABORTED

    asyncio.run(main())


def test_an_end_without_the_finished_response_is_a_problem() -> None:
    end = StreamEnd(Outcome.CLOSED_BY_SERVER, None, interrupted=False)
    assert "before the transcript was complete" in str(end.problem)
    assert end.exit_status == 1


def test_a_blocking_wait_looks_for_signals_now_and_then(
    monkeypatch: pytest.MonkeyPatch, endless: Recording
) -> None:
    monkeypatch.setattr(streaming, "_SIGNAL_INTERVAL", 0.01)
    held = HeldRecognizer()
    with run_in_thread(LocalServer(recognizer=held)) as server:
        release = threading.Timer(0.1, held.released.set)
        release.start()
        with recording_of_bytes(SECOND, "x") as recording:
            end = through_blocking(server.url, recording, UNLIMITED, Received())
        release.join()
    assert end.outcome is Outcome.FINISHED


def test_another_deadline_is_not_taken_for_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_out(session: RealtimeSTTSession, timeout: float | None = None) -> bytes:
        raise SonioxTimeoutError("no pong", operation="ping")

    monkeypatch.setattr(RealtimeSTTSession, "recv_bytes", time_out)
    with (
        run_in_thread(scripted_server()) as server,
        recording_of_bytes(SECOND, "x") as recording,
    ):
        end = through_blocking(server.url, recording, UNLIMITED, Received())
    assert isinstance(end.problem, SonioxTimeoutError)
