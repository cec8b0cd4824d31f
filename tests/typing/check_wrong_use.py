"""Mistakes that a type checker must find: each line here is one, and says which.

With `warn_unused_ignores` a line without the mistake is itself an error.
"""

from __future__ import annotations

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    AsyncSonioxClient,
    RealtimeEvent,
    RealtimeSTTConfig,
    RealtimeSTTSession,
    SonioxClient,
)


def blocking(session: RealtimeSTTSession, config: RealtimeSTTConfig) -> None:
    session.send_byte_chunk("text")  # type: ignore[arg-type]
    session.send_bytes(5)  # type: ignore[arg-type]
    session.send_bytes(b"audio", True)  # type: ignore[call-arg]
    session.receive_event("now")  # type: ignore[arg-type]
    session.paused = True  # type: ignore[misc]
    session.handle_events(async_handler)  # type: ignore[arg-type]
    RealtimeSTTSession("ws://localhost")  # type: ignore[call-arg]
    SonioxClient().realtime.stt.connect(config)  # type: ignore[call-arg]
    SonioxClient().realtime.stt.connect()  # type: ignore[call-arg]
    SonioxClient().realtime.stt.connect(config=config, timeout=1)  # type: ignore[call-arg]


async def asynchronous(session: AsyncRealtimeSTTSession, config: RealtimeSTTConfig) -> None:
    await session.send_byte_chunk("text")  # type: ignore[arg-type]
    await session.receive_event(timeout=1)  # type: ignore[call-arg]
    await session.handle_events(handler)  # type: ignore[arg-type]
    for _ in session.receive_events():  # type: ignore[attr-defined]
        pass
    AsyncSonioxClient().realtime.stt.connect(config=5)  # type: ignore[arg-type]


def handler(event: RealtimeEvent) -> None:
    """Handle an event at once."""


async def async_handler(event: RealtimeEvent) -> None:
    """Handle an event in its own time."""
