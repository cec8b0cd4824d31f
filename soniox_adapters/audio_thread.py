"""Audio from a thread of its own, for blocking programs that receive in the main thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from soniox_adapters.blocking import RealtimeSTTSession
from soniox_adapters.session import AudioChunk
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

    If the source of the chunks raises, the session is ended, and whoever receives gets a
    `SonioxRealtimeError` with that exception as its `__cause__`, after all messages before it.

    Args:
        session: A session that was entered.
        chunks: Bytes, or an iterable of them.
        name: Name of the thread.
        daemon: Whether the program may end while the thread runs.
    """

    def send() -> None:
        try:
            session.send_bytes(chunks)
        except BaseException as error:
            # What the session itself has to say, its receiver is told already.
            if not (isinstance(error, SonioxRealtimeError) and session.outcome is not None):
                session.abort(error)

    thread = threading.Thread(target=send, name=name or "soniox-audio", daemon=daemon)
    thread.start()
    return thread
