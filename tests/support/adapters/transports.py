"""What stands in for a session where a transport is tested alone."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.lowlevel

from soniox_adapters.async_.transport import (
    AsyncTransport,
    ConnectOptions,
    TransportCallbacks,
)
from soniox_proto import Endpoint
from tests.support.adapters.server import PATIENCE

__all__ = ["Notes", "connect_options", "opened_on_a_socket"]

_Transport = TypeVar("_Transport", bound=AsyncTransport)


class Notes:
    """Takes what a transport tells, and keeps it."""

    def __init__(self, received: Callable[[bytes], object] | None = None) -> None:
        """Make one; `received`, if given, is called with the data too."""
        self._received = received
        self.data = b""
        self.ended = False
        self.failure: OSError | None = None
        self.resumed = 0
        self.closed = 0
        self._changed: anyio.Event | None = None

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` is true, with the event loop running."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                self._changed = anyio.Event()
                await self._changed.wait()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self._received is not None:
            self._received(data)
        self._told()

    def eof_received(self) -> None:
        self.ended = True
        self._told()

    def connection_failed(self, error: OSError) -> None:
        self.failure = error
        self._told()

    def writing_resumed(self) -> None:
        self.resumed += 1
        self._told()

    def transport_closed(self) -> None:
        self.closed += 1
        self._told()

    def _told(self) -> None:
        if self._changed is not None:
            self._changed.set()


def connect_options(transport: object, *, url: str = "ws://localhost") -> ConnectOptions:
    """Return options to open what is given."""
    return ConnectOptions(Endpoint.parse(url), PATIENCE, None, None, transport)


@asynccontextmanager
async def opened_on_a_socket(
    make_transport: Callable[[TransportCallbacks], _Transport],
    give: Callable[[socket.socket], Awaitable[object]] | None = None,
) -> AsyncIterator[tuple[_Transport, Notes, socket.socket]]:
    """An open transport on a socket or on what `give` makes of it, its notes, the other end."""
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    notes = Notes()
    transport = make_transport(notes)
    await transport.open(connect_options(near if give is None else await give(near)))
    with far:
        try:
            yield transport, notes, far
        finally:
            transport.close()
            await transport.wait_closed()
    # With anyio before 4.16 asyncio closes a socket that had unsent data a few turns later.
    with anyio.fail_after(PATIENCE):
        while near.fileno() != -1:
            await anyio.lowlevel.checkpoint()
