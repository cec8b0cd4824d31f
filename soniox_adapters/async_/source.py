"""Audio from a source of the user's, which may block, and which is closed when it is left early."""

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

from soniox_adapters.async_.event_loop import Turn
from soniox_adapters.async_.transport import CLOSE_GRACE

__all__ = ["send_each"]

_Chunk = TypeVar("_Chunk")


async def send_each(
    chunks: AsyncIterable[_Chunk] | Iterable[_Chunk],
    send: Callable[[_Chunk], Awaitable[None]],
) -> None:
    """Send every chunk. Generators are closed also if that fails or is cancelled."""
    turn = Turn()
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

    # It may have something to wait for, in a task that is cancelled already; but not for long.
    with anyio.move_on_after(CLOSE_GRACE, shield=True):
        await source.aclose()
