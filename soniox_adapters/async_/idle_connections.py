"""Idle connections of an async client, on asyncio and on trio.

They belong to the event loop in which the client first needed them, as sessions do, and not to a
task: opening them goes on in the background, and any task may take one. What is done after each
call of the pool is in `process`, which contains no await, so nothing needs a lock.

One background task waits for the event loop to end. Both libraries cancel such tasks before they
close the loop, so no socket outlives it, even if nobody closes the client.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from soniox_adapters.async_.event_loop import (
    EventLoop,
    Signal,
    Timer,
    current_event_loop,
    give_way,
    make_signal,
    pass_on_interrupt,
)
from soniox_adapters.async_.opening import given_stream, open_transport
from soniox_adapters.async_.transport import AsyncTransport
from soniox_adapters.session.api_keys import APIKeyFunction, key_errors
from soniox_adapters.session.options import SessionOptions
from soniox_adapters.session.preconnect import (
    ConnectArguments,
    IdleConnectionsBase,
    PoolSettings,
    upgrade_request,
)
from soniox_proto import APIKey, SonioxConnectionError, SonioxRealtimeError
from soniox_proto.errors import fresh

if TYPE_CHECKING:
    import anyio

    from soniox_proto.preconnect.idle_link import IdleLink
    from soniox_proto.preconnect.pool import ConnectionPool

__all__ = ["AsyncIdleConnections", "IdleTransport"]


class AsyncIdleConnections(IdleConnectionsBase):
    """The idle connections of an `AsyncSonioxClient`."""

    _asynchronous = True

    def __init__(self, url: str, arguments: ConnectArguments, settings: PoolSettings) -> None:
        super().__init__(url, arguments, settings)
        self._here: _LoopConnections | None = None

    def take(self, options: SessionOptions) -> IdleTransport | None:
        """Hand out a connection for a session with these options, and have the pool refilled."""
        if self._closed or not self._serves(options):
            return None
        here = self._in_this_loop()
        return None if here is None else here.take()

    async def warm_up(self, options: SessionOptions) -> None:
        """Open connections, and wait until there are as many as wanted, or some have failed.

        Raises the error of one that failed if there is none at all.
        """
        await give_way()
        self._require(options)
        here = self._in_this_loop()
        if here is not None:
            await here.warm_up(options.connect_timeout_sec)

    async def aclose(self) -> None:
        """Close all connections. Safe to repeat, and to call in any event loop."""
        self._closed = True
        await give_way()
        here, self._here = self._here, None
        if here is not None:
            await here.aclose()

    def abandon(self) -> None:
        """Close all connections soon: the client is gone.

        Called by the garbage collector, in any thread.
        """
        self._closed = True
        if self._here is not None:
            self._here.close_from_elsewhere()

    def _in_this_loop(self) -> _LoopConnections | None:
        """Return the connections of the running event loop; None if those of another one live."""
        here = self._here
        if here is not None and here.is_over():
            here = self._here = None
        if here is None:
            here = self._here = _LoopConnections(self, self._make_pool())
        return here if here.runs_here() else None

    def to_connect_with(self) -> tuple[ConnectArguments, SessionOptions] | None:
        """Return what to open connections with; None once the client is gone."""
        return self._to_connect_with()

    async def open(
        self, one: IdleTransport, api_key: APIKey | APIKeyFunction, options: SessionOptions
    ) -> None:
        """Open the transport of an idle link; raises `OSError` if that fails."""
        link = one.link
        with key_errors():
            key = api_key() if callable(api_key) else api_key
            link.connect(upgrade_request(await key if isinstance(key, Awaitable) else key, options))
        given = await given_stream(options.transport, link.endpoint)
        one.transport = await open_transport(one, link.endpoint, options, given, None)

    def connect_error(self, error: BaseException, options: SessionOptions) -> SonioxRealtimeError:
        """Return the error for a connection that could not be opened."""
        return self._connect_error(error, options)


class _LoopConnections:
    """The idle connections in one event loop."""

    def __init__(self, owner: AsyncIdleConnections, pool: ConnectionPool) -> None:
        self._owner = owner
        self._pool = pool
        self._loop: EventLoop = current_event_loop()
        self._process_id = os.getpid()
        self._links: list[IdleTransport] = []
        self._opening: list[anyio.CancelScope] = []
        self._changed: Signal = make_signal()
        self._timer: Timer = self._loop.make_timer(self._timer_expired)
        self._over = False
        self._loop.spawn(self._guard)

    @property
    def clock(self) -> float:
        """The event loop's time, in seconds."""
        return self._loop.clock()

    def runs_here(self) -> bool:
        """Return whether the running task may use these connections."""
        # A process that was forked has the event loop of its parent, but not its connections.
        return self._loop.runs_here() and os.getpid() == self._process_id

    def is_over(self) -> bool:
        """Return whether the event loop has ended, or the process is another one."""
        if os.getpid() != self._process_id:
            self._over = True
        elif not (self._over or self._loop.runs_here() or self._loop.call_from_elsewhere(_nothing)):
            # It has ended, and has not cancelled its tasks before.
            self._release()
        return self._over

    def take(self) -> IdleTransport | None:
        """Hand out a connection."""
        link = self._pool.take(self.clock)
        taken = next((one for one in self._links if one.link is link), None)
        if taken is not None:
            self._links.remove(taken)
        self.process()
        return taken

    async def warm_up(self, connect_timeout: float | None) -> None:
        """Wait until nothing is being opened any more."""
        self._pool.connect_timeout = connect_timeout
        self._pool.hurry(self.clock)
        self.process()
        while self._pool.opening:
            await self._changed.wait()
        error = self._pool.last_error
        if error is not None and not self._pool.ready and not self._over:
            raise fresh(error)

    async def aclose(self) -> None:
        """Close all connections, and wait until their sockets are closed."""
        if not self.runs_here():
            self.close_from_elsewhere()
            return
        self._close()
        await self._wait_closed()

    def close_from_elsewhere(self) -> None:
        """Close all connections soon, from any thread."""
        if os.getpid() == self._process_id and not self._loop.call_from_elsewhere(self._close):
            self._release()

    # Inside

    async def _guard(self) -> None:
        """Close all connections when the event loop ends."""
        try:
            while not self._over:
                await self._changed.wait()
        finally:
            self._close()
            await self._wait_closed()

    def _close(self) -> None:
        self._over = True
        self._pool.close()
        for scope in self._opening:
            scope.cancel()
        self.process()
        self._timer.cancel()

    async def _wait_closed(self) -> None:
        for one in tuple(self._links):
            await one.transport.wait_closed()

    def _release(self) -> None:
        """Close the sockets of an event loop that has ended."""
        self._over = True
        for one in self._links:
            one.transport.release()
        self._links.clear()

    def _timer_expired(self) -> None:
        self._pool.handle_timeout(self.clock)
        self.process()

    def process(self) -> None:
        """Do what has to follow every call of the pool and of a link."""
        given = self._owner.to_connect_with()
        if given is not None:
            arguments, options = given
            for link in self._pool.links_to_open(self.clock):
                self._loop.spawn(self._open, link, arguments.api_key, options)
        for one in tuple(self._links):
            data = one.link.data_to_send()
            if data:
                one.transport.write(data)
            if one.link.closed:
                one.transport.close()
        if not self._over:
            self._timer.set(self._pool.next_timeout())
        self._changed.notify()

    async def _open(
        self, link: IdleLink, api_key: APIKey | APIKeyFunction, options: SessionOptions
    ) -> None:
        import anyio

        one = IdleTransport(link, self)
        scope = anyio.CancelScope(deadline=math.inf if link.open_by is None else link.open_by)
        self._opening.append(scope)
        try:
            with scope:
                await self._owner.open(one, api_key, options)
                self._links.append(one)
                link.opened(self.clock)
            if scope.cancelled_caught:
                raise TimeoutError
        except anyio.get_cancelled_exc_class():
            link.failed(SonioxConnectionError("the event loop has ended"), self.clock)
            raise
        except BaseException as error:
            # No task awaits this one. The pool tries again later.
            link.failed(self._owner.connect_error(error, options), self.clock)
            pass_on_interrupt(error)
        finally:
            self._opening.remove(scope)
            self.process()

    def forget(self, one: IdleTransport) -> None:
        """Forget a connection whose socket is closed."""
        if one in self._links:
            self._links.remove(one)


class IdleTransport:
    """An idle link and its transport, whose `TransportCallbacks` it is until a session takes it."""

    transport: AsyncTransport

    def __init__(self, link: IdleLink, owner: _LoopConnections) -> None:
        self.link = link
        self._owner = owner

    def data_received(self, data: bytes) -> None:
        """Feed the link bytes from the server."""
        self.link.receive_data(data, self._owner.clock)
        self._owner.process()

    def eof_received(self) -> None:
        """Feed the link the end of its stream."""
        self.link.receive_eof(self._owner.clock)
        self._owner.process()

    def connection_failed(self, error: OSError) -> None:
        """Make the link fail."""
        failure = SonioxConnectionError(f"the idle connection was lost: {error.strerror or error}")
        failure.__cause__ = error
        self.link.failed(failure, self._owner.clock)
        self._owner.process()

    def writing_resumed(self) -> None:
        """Do nothing: nobody waits to send."""

    def transport_closed(self) -> None:
        """Forget the link."""
        self._owner.forget(self)


def _nothing() -> None:
    """Only to see whether an event loop takes calls."""
