"""Sending audio from an iterable of the user's, async or not.

A source that always has data never waits, so it would keep every other task from running; and one
that is left early may hold a microphone or a file. Both are handled here.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
)
from typing import TypeVar, cast

from soniox_adapters.async_.event_loop import Turn, clock_of_work
from soniox_adapters.async_.transport import CLOSE_GRACE

__all__ = ["send_each"]

_Chunk = TypeVar("_Chunk")


async def send_each(
    chunks: AsyncIterable[_Chunk] | Iterable[_Chunk],
    send: Callable[[_Chunk], Awaitable[None]],
) -> None:
    """Send every chunk. A generator is closed even after an error or a cancellation."""
    turn = Turn(clock_of_work())
    if isinstance(chunks, AsyncIterable):
        source = aiter(chunks)
        try:
            async for chunk in source:
                await send(chunk)
                await turn.end_if_long()
        finally:
            if isinstance(source, AsyncGenerator):
                await _close(cast("AsyncGenerator[_Chunk, None]", source))
    else:
        iterator = iter(chunks)
        try:
            for chunk in iterator:
                await send(chunk)
                await turn.end_if_long()
        finally:
            if isinstance(iterator, Generator):
                iterator.close()


async def _close(source: AsyncGenerator[_Chunk, None]) -> None:
    import anyio

    # Its cleanup may have to await something even if this task is cancelled, but not for long.
    with anyio.move_on_after(CLOSE_GRACE, shield=True):
        await source.aclose()
