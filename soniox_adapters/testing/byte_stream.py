"""A byte stream of anyio that leads to a scripted server, for async sessions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.tls import TLSAttribute
from typing_extensions import override

from soniox_proto.testing import ScriptedConnection

__all__ = ["ScriptedByteStream"]

MAX_UNREAD: Final = 64 * 1024
"""Bytes that a stalled server takes before a sender has to wait, as a kernel's buffers would."""


class ScriptedByteStream(anyio.abc.ByteStream):
    """The client's end of one connection. The server's timers run while somebody receives."""

    def __init__(self, connection: ScriptedConnection) -> None:
        self._connection = connection
        self._rest = b""
        self._closed = False
        self._changed = anyio.Event()

    @property
    @override
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        # For sessions with a wss:// URL, so that they do not add TLS of their own.
        return {TLSAttribute.standard_compatible: lambda: True}

    @override
    async def receive(self, max_bytes: int = 65_536) -> bytes:
        await anyio.lowlevel.checkpoint()
        connection = self._connection
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            connection.handle_timeout(anyio.current_time())
            data = self._rest or connection.data_to_send()
            if data:
                self._rest = data[max_bytes:]
                return data[:max_bytes]
            if connection.closed:
                raise anyio.EndOfStream
            await self._wait()

    @override
    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        connection = self._connection
        while connection.unread_bytes >= MAX_UNREAD and not self._closed:
            await self._wait()
            connection.handle_timeout(anyio.current_time())
        if self._closed:
            raise anyio.ClosedResourceError
        connection.receive_data(bytes(item), anyio.current_time())
        self._change()

    @override
    async def send_eof(self) -> None:
        await anyio.lowlevel.checkpoint()
        self._connection.receive_eof(anyio.current_time())
        self._change()

    @override
    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.receive_eof(anyio.current_time())
            self._change()
        await anyio.lowlevel.checkpoint()

    async def _wait(self) -> None:
        """Wait until the other task of the session has done something, or a timer is due."""
        deadline = self._connection.next_timeout()
        with anyio.CancelScope(deadline=math.inf if deadline is None else deadline):
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
