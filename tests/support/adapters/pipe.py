"""A byte stream in memory."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc

__all__ = ["Pipe", "pump"]


class Pipe(anyio.abc.ByteStream):
    """One end of a pipe in memory that hands out a few bytes at a time."""

    def __init__(
        self,
        incoming: anyio.abc.ObjectReceiveStream[bytes],
        outgoing: anyio.abc.ObjectSendStream[bytes],
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._rest = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        self._rest = self._rest or await self._incoming.receive()
        size = min(max_bytes, 7)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    async def send(self, item: bytes) -> None:
        await self._outgoing.send(bytes(item))

    async def send_eof(self) -> None:
        await self._outgoing.aclose()

    async def aclose(self) -> None:
        await self._outgoing.aclose()
        await self._incoming.aclose()


async def pump(source: Any, sink: Any) -> None:
    """Pass on what comes until either side ends."""
    try:
        while True:
            await sink.send(await source.receive())
    except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
        return
