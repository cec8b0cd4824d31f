"""Sending a recording through a session, and passing on the messages that come back."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NoReturn, Protocol, cast

from soniox_adapters.async_.session import AsyncRealtimeSTTSession
from soniox_adapters.audio.pacing import (
    stream_audio,
    stream_audio_async,
    throttle_audio,
    throttle_audio_async,
)
from soniox_adapters.blocking.audio_thread import start_audio_thread
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.cli.interruption import Interruption, signals_handled, signals_handled_in_loop
from soniox_adapters.cli.recording import Recording
from soniox_proto import (
    Outcome,
    RealtimeEvent,
    SessionStats,
    SonioxError,
    SonioxRealtimeError,
    SonioxTimeoutError,
)

__all__ = ["Listener", "Pace", "StreamEnd", "stream_async", "stream_blocking"]

_SIGNAL_INTERVAL: Final = 0.5
"""Maximum seconds of one blocking wait, because Ctrl-C does not interrupt a wait on Windows."""

_THREAD_TIMEOUT: Final = 1.0
"""Seconds for the audio thread to notice the end; it may sleep until its next chunk is due."""


class Listener(Protocol):
    """Receives what happens in a stream."""

    def message(self, raw: bytes, event: RealtimeEvent) -> None:
        """Handle a message, given unparsed and parsed."""
        ...

    def stopping(self) -> None:
        """Handle Ctrl-C: the audio has ended, and the rest of the text is still to come."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the audio is sent."""

    speed: float | None = 1.0
    """Seconds of audio per second, if the duration of the audio is known; None for no limit."""
    chunk_seconds: float = 0.1
    """Seconds between chunks."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a stream ended."""

    outcome: Outcome | None
    """The session's outcome."""
    error: SonioxError | None
    """The error that ended it."""
    interrupted: bool
    """Whether Ctrl-C was pressed."""
    stats: SessionStats = field(default_factory=SessionStats, compare=False)
    """The session's counters."""

    @property
    def problem(self) -> SonioxError | None:
        """Why the transcript is incomplete; None if it is complete, or the user stopped it."""
        if self.error is not None:
            return self.error
        if self.outcome is Outcome.FINISHED or self.interrupted:
            return None
        return SonioxRealtimeError(
            "the server closed the session before the transcript was complete; try again"
        )

    @property
    def exit_status(self) -> int:
        """Exit status of the command that ran the stream."""
        if self.interrupted:
            return 128 + signal.SIGINT
        return 1 if self.problem is not None else 0


async def stream_async(
    session: AsyncRealtimeSTTSession, recording: Recording, pace: Pace, listener: Listener
) -> StreamEnd:
    """Send the recording through an async session, on asyncio, and wait for the transcript."""
    streaming = asyncio.ensure_future(_exchange_async(session, recording, pace, listener))
    interruption = Interruption(
        session, recording, announce_stop=listener.stopping, stop_at_once=streaming.cancel
    )
    error: SonioxError | None = None
    with signals_handled_in_loop(interruption, signal.SIGINT):
        try:
            await streaming
        except SonioxError as failure:
            error = failure
        except asyncio.CancelledError:
            if not interruption.at_once:
                raise
    return StreamEnd(session.outcome, error, interruption.happened, session.stats)


def stream_blocking(
    session: RealtimeSTTSession, recording: Recording, pace: Pace, listener: Listener
) -> StreamEnd:
    """Send the recording through a blocking session, and wait for the transcript."""
    interruption = Interruption(
        session,
        recording,
        announce_stop=listener.stopping,
        stop_at_once=_raise_keyboard_interrupt,
    )
    error: SonioxError | None = None
    try:
        with signals_handled(interruption, signal.SIGINT):
            _exchange_blocking(session, recording, pace, listener)
    except SonioxError as failure:
        error = failure
    except KeyboardInterrupt:
        if not interruption.at_once:
            raise
    return StreamEnd(session.outcome, error, interruption.happened, session.stats)


async def _exchange_async(
    session: AsyncRealtimeSTTSession, recording: Recording, pace: Pace, listener: Listener
) -> None:
    async with session:
        sender = asyncio.ensure_future(_send(session, recording, pace))
        try:
            while raw := await session.recv_bytes():
                assert session.last_message is not None, "a message that came is the last one"
                listener.message(raw, session.last_message)
        finally:
            recording.stop()
            sender.cancel()
            await asyncio.wait({sender})


async def _send(session: AsyncRealtimeSTTSession, recording: Recording, pace: Pace) -> None:
    try:
        async with aclosing(_chunks_async(session, recording, pace)) as chunks:
            await session.send_bytes(chunks)
    except SonioxRealtimeError:
        pass  # The receiver gets the error that ended the session.
    except Exception as error:
        await session.abort(error)


def _exchange_blocking(
    session: RealtimeSTTSession, recording: Recording, pace: Pace, listener: Listener
) -> None:
    thread: threading.Thread | None = None
    try:
        with session:
            thread = start_audio_thread(session, _chunks(session, recording, pace))
            while (raw := _receive(session)) != b"":
                if raw is not None:
                    assert session.last_message is not None, "a message that came is the last one"
                    listener.message(raw, session.last_message)
    finally:
        recording.stop()
        if thread is not None:
            thread.join(_THREAD_TIMEOUT)


def _receive(session: RealtimeSTTSession) -> bytes | None:
    """Return what `recv_bytes` returns, or None if nothing came within `_SIGNAL_INTERVAL`."""
    try:
        return session.recv_bytes(timeout=_SIGNAL_INTERVAL)
    except SonioxTimeoutError as error:
        if error.operation != "receive":
            raise
        return None


def _chunks_async(
    session: AsyncRealtimeSTTSession, recording: Recording, pace: Pace
) -> AsyncGenerator[bytes, None]:
    file = cast("BinaryIO", recording)
    if pace.speed is None:
        chunks = stream_audio_async(file)
    else:
        chunks = throttle_audio_async(
            file,
            chunk_size_bytes=recording.chunk_size(pace.chunk_seconds * pace.speed),
            config=session.config,
            speed=pace.speed,
        )
    return cast("AsyncGenerator[bytes, None]", chunks)


def _chunks(session: RealtimeSTTSession, recording: Recording, pace: Pace) -> Iterator[bytes]:
    file = cast("BinaryIO", recording)
    if pace.speed is None:
        return stream_audio(file)
    return throttle_audio(
        file,
        chunk_size_bytes=recording.chunk_size(pace.chunk_seconds * pace.speed),
        config=session.config,
        speed=pace.speed,
    )


def _raise_keyboard_interrupt() -> NoReturn:
    raise KeyboardInterrupt
