"""Audio from a thread of its own, for blocking programs that receive in the main thread."""

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

    If the source of the chunks raises, the session is ended, and the receiver gets a
    `SonioxRealtimeError` with that exception as its `__cause__`, after all messages before it.
    A generator is closed when the session takes no more of it.

    Args:
        session: A blocking session that was entered.
        chunks: Bytes, or an iterable of them.
        name: Name of the thread.
        daemon: Whether the program may end while the thread runs.

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
            # The session's own errors already reach its receiver.
            if not (isinstance(error, SonioxRealtimeError) and session.outcome is not None):
                session.abort(error)

    thread = threading.Thread(target=send, name=name or "soniox-audio", daemon=daemon)
    thread.start()
    return thread


def _send_and_close(session: RealtimeSTTSession, chunks: AudioChunk | Iterable[AudioChunk]) -> None:
    try:
        session.send_bytes(chunks)
    finally:
        # The session keeps the error, whose traceback would keep a microphone open.
        if isinstance(chunks, Generator):
            chunks.close()
