"""A byte stream of anyio to which faults happen, on asyncio and on trio."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import anyio
import anyio.abc
import anyio.lowlevel
from typing_extensions import override

from soniox_proto.testing import FaultyChannel

__all__ = ["FaultyStream"]

_RESETS: Final = struct.pack("ii", 1, 0)
"""SO_LINGER that makes closing reset the connection."""


class FaultyStream(anyio.abc.ByteStream):
    """A stream around another one, whose bytes pass as a channel says.

    A send returns once its bytes have gone, so a delay or a stall makes it wait. Times are those of
    the event loop, so they may be virtual.
    """

    def __init__(self, stream: anyio.abc.ByteStream, channel: FaultyChannel) -> None:
        self._stream = stream
        self._channel = channel
        self._rest = b""
        self._came_to_end = False
        self._closed = False
        self._finished = False
        self._waits: set[anyio.CancelScope] = set()

    @property
    @override
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return cast(
            "Mapping[Any, Callable[[], Any]]",
            self._stream.extra_attributes,  # pyright: ignore[reportUnknownMemberType]
        )

    @override
    async def receive(self, max_bytes: int = 65_536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while True:
            now = anyio.current_time()
            data = self._rest or self._channel.take("received", now)
            if data:
                self._rest = data[max_bytes:]
                return data[:max_bytes]
            await self._finish()
            if self._channel.ended == "cut" or self._channel.at_eof("received", now):
                raise anyio.EndOfStream
            with self._until(self._channel.next_timeout("received")):
                await self._feed()

    async def _feed(self) -> None:
        room = self._channel.room("received")
        if self._came_to_end or not room:
            await anyio.sleep_forever()
        try:
            data = await self._stream.receive(room)
        except anyio.EndOfStream:
            self._came_to_end = True
            self._channel.feed_eof("received", anyio.current_time())
        else:
            self._channel.feed("received", data, anyio.current_time())

    @override
    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        channel = self._channel
        left = bytes(item)
        while True:
            now = anyio.current_time()
            room = channel.room("sent")
            channel.feed("sent", left[:room], now)
            left = left[room:]
            if data := channel.take("sent", now):
                await self._stream.send(data)
            await self._finish()
            if not left and not channel.waiting("sent"):
                return
            if not data and (channel.waiting("sent") or not room):
                with self._until(channel.next_timeout("sent")):
                    await anyio.sleep_forever()

    @override
    async def send_eof(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self._channel.ended is None:
            await self._stream.send_eof()

    @override
    async def aclose(self) -> None:
        self._closed = True
        self._wake()
        await self._stream.aclose()

    async def _finish(self) -> None:
        """Let both ends see it if a fault has ended the connection."""
        if self._closed:
            raise anyio.ClosedResourceError
        ended = self._channel.ended
        if ended in {"cut", "reset"} and not self._finished:
            self._finished = True
            self._wake()
            if ended == "cut":
                with suppress(anyio.BrokenResourceError, OSError):
                    await self._stream.send_eof()
            else:
                connected = self._stream.extra(anyio.abc.SocketAttribute.raw_socket, None)
                if connected is not None:
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
                await anyio.aclose_forcefully(self._stream)
        if ended == "reset":
            raise anyio.BrokenResourceError from ConnectionResetError(
                "the connection was reset by a fault"
            )

    @contextmanager
    def _until(self, deadline: float | None) -> Generator[None, None, None]:
        """Limit a wait: until a time, or until the other task has something to tell."""
        with anyio.CancelScope(deadline=math.inf if deadline is None else deadline) as scope:
            self._waits.add(scope)
            try:
                yield
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                # If a fault or a close in the other task is the reason, it will say so itself.
                if not self._closed and self._channel.ended != "reset":
                    raise
            finally:
                self._waits.discard(scope)

    def _wake(self) -> None:
        for scope in self._waits:
            scope.cancel()
