"""A host for transports that keeps what it is told."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.lowlevel

from soniox_adapters.async_.transport import AsyncHost, AsyncTransport, ConnectOptions
from soniox_proto import Endpoint
from tests.support.adapters.server import PATIENCE

__all__ = ["Notes", "connect_options", "opened_on_a_socket"]

_Transport = TypeVar("_Transport", bound=AsyncTransport)


class Notes:
    """What a transport told its host."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.failure: OSError | None = None
        self.resumed = 0
        self.timers = 0
        self._changed: anyio.Event | None = None
        self.host = AsyncHost(
            data_received=self._data_received,
            eof_received=self._eof_received,
            connection_failed=self._connection_failed,
            writing_resumed=self._writing_resumed,
            timer_expired=self._timer_expired,
        )

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` is true, with the event loop running."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                self._changed = anyio.Event()
                await self._changed.wait()

    def _data_received(self, data: bytes) -> None:
        self.data += data
        self._told()

    def _eof_received(self) -> None:
        self.ended = True
        self._told()

    def _connection_failed(self, error: OSError) -> None:
        self.failure = error
        self._told()

    def _writing_resumed(self) -> None:
        self.resumed += 1
        self._told()

    def _timer_expired(self) -> None:
        self.timers += 1
        self._told()

    def _told(self) -> None:
        if self._changed is not None:
            self._changed.set()


def connect_options(transport: object, *, url: str = "ws://localhost") -> ConnectOptions:
    """Return options to open what is given."""
    return ConnectOptions(Endpoint.parse(url), PATIENCE, None, None, transport)


@asynccontextmanager
async def opened_on_a_socket(
    make_transport: Callable[[AsyncHost], _Transport],
    give: Callable[[socket.socket], Awaitable[object]] | None = None,
) -> AsyncIterator[tuple[_Transport, Notes, socket.socket]]:
    """An open transport on a socket or on what `give` makes of it, its notes, the other end."""
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    notes = Notes()
    transport = make_transport(notes.host)
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
