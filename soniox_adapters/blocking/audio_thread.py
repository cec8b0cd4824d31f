"""Sending audio from a thread, for blocking programs that receive in the main thread.

A plain `threading.Thread` would swallow an exception of the audio source, and the receiver would
wait for results that never come. Here the session ends with that exception.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterable, Generator, Iterable

from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.session.base import AudioChunk
from soniox_proto import SonioxRealtimeError

__all__ = ["start_audio_thread"]


def start_audio_thread(
    session: RealtimeSTTSession,
    chunks: AudioChunk | Iterable[AudioChunk],
    *,
    name: str | None = None,
    daemon: bool = True,
) -> threading.Thread:
    """Send `chunks` in a new thread, then end-of-audio (for an iterable), and return the thread.

    If the source of the chunks raises, the session ends, and its receiver gets a
    `SonioxRealtimeError` with that exception as its `__cause__`, after every message that arrived
    before. A generator is closed if the session ends before the generator does.

    Args:
        session: A blocking session that has been entered.
        chunks: Bytes, or an iterable of them.
        name: Name of the thread.
        daemon: Whether the program may exit while the thread is running.

    Raises `TypeError` for an async session, an async iterable or text.
    """
    send_bytes = getattr(session, "send_bytes", None)
    if (
        isinstance(session, type)
        or not callable(send_bytes)
        or inspect.iscoroutinefunction(send_bytes)
    ):
        raise TypeError(
            "start_audio_thread needs a blocking RealtimeSTTSession, not "
            f"{type(session).__name__}; send to an async session from a task instead: "
            "session.send_bytes(chunks)"
        )
    if isinstance(chunks, (str, AsyncIterable)):
        raise TypeError(
            f"audio must be bytes or a plain iterable of bytes, not {type(chunks).__name__}"
        )

    def send() -> None:
        try:
            _send_and_close(session, chunks)
        except BaseException as error:
            # An error of the session itself already reaches its receiver.
            if not (isinstance(error, SonioxRealtimeError) and session.outcome is not None):
                session.abort(error)

    thread = threading.Thread(target=send, name=name or "soniox-audio", daemon=daemon)
    thread.start()
    return thread


def _send_and_close(session: RealtimeSTTSession, chunks: AudioChunk | Iterable[AudioChunk]) -> None:
    try:
        session.send_bytes(chunks)
    finally:
        # The session keeps the error, and its traceback keeps the generator's frames alive: without
        # this, a microphone would stay open.
        if isinstance(chunks, Generator):
            chunks.close()
