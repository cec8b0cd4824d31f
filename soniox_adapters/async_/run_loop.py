"""The half of the async session that moves bytes between its core and its transport.

One pattern runs through it: the core is called, what it made is written, what it returned is
handed on, and the timer is armed anew.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from soniox_adapters.async_.transport import (
    AsyncHost,
    AsyncTransport,
    ConnectOptions,
    EventLoop,
    Signal,
    give_way,
    running_library,
)
from soniox_adapters.session.base import SessionBase
from soniox_proto import (
    Endpoint,
    Event,
    Result,
    SonioxError,
    SonioxStateError,
    SonioxValidationError,
)

if TYPE_CHECKING:
    import anyio

__all__ = ["AsyncRunLoop"]


class AsyncRunLoop(SessionBase):
    """What drives the core of an async session, without the documented methods."""

    _changed: Signal
    """Notified with every message and at the end. Made when the session is entered."""

    def _set_up(self) -> None:
        self._transport: AsyncTransport | None = None
        self._connecting: anyio.CancelScope | None = None
        self._loop: EventLoop | None = None
        self._clock: Callable[[], float] = _before_the_loop
        self._runs_here: Callable[[], bool] = _anywhere
        # Whether `close` or `abort` is done.
        self._released = False
        # Sends since other tasks had their turn.
        self._calls = 0

    def _abort_here(self, cause: BaseException | None) -> None:
        self._process(self._abort_machine(cause, self._clock()))

    async def _abort(self, cause: BaseException | None) -> None:
        """Abort, without a checkpoint that could replace the exception which is under way."""
        if not self._runs_here():
            await self._end_from_elsewhere(cause)
            return
        self._abort_here(cause)
        if self._transport is not None:
            await self._transport.wait_closed()
        self._released = True

    async def _end_from_elsewhere(self, cause: BaseException | None) -> None:
        """End the session from another event loop than its own, and raise."""
        if self._released:
            return
        loop, error = self._loop, self._elsewhere_error()
        assert loop is not None, "a session that was not entered runs anywhere"
        if not loop.call_from_elsewhere(partial(self._abort_here, cause)):
            # Nothing can run there any more, so there is nobody to interfere with.
            self._released = True
            if self._transport is not None:
                self._transport.release()
            self._inbox.put(self._abort_machine(cause, _before_the_loop()))
        await give_way()
        raise error

    def _elsewhere_error(self) -> SonioxStateError:
        return SonioxStateError(
            "the session belongs to the event loop that it was entered in, which has ended or does "
            "not run this task; enter, use and close a session in one event loop"
        )

    async def _open_transport(self) -> None:
        """Open the transport; returns without one if the session is closed meanwhile."""
        import anyio

        deadline = self._machine.next_timeout()
        # One deadline for all of it: the function given as transport, TCP, the proxy, TLS.
        scope = anyio.CancelScope(deadline=math.inf if deadline is None else deadline)
        self._connecting = scope
        try:
            with scope:
                given = await self._given_stream()
                timeout = None if deadline is None else max(deadline - self._clock(), 0.001)
                self._transport = await self._opened_transport(given, timeout)
            if scope.cancelled_caught and not self._machine.closed:
                raise TimeoutError
        except OSError as error:
            failure = self._connect_error(error)
            raise failure from failure.__cause__
        finally:
            self._connecting = None

    async def _given_stream(self) -> object:
        given = self._transport_option
        if not callable(given):
            return given
        from soniox_adapters.connecting.failures import connector_errors

        with connector_errors():
            awaitable = cast("Callable[[Endpoint], object]", given)(self._machine.endpoint)
            if isinstance(awaitable, Awaitable):
                return cast("object", await awaitable)
        _close_socket(awaitable)
        raise SonioxValidationError(
            "a function given as transport must be an async one; it returned "
            f"{type(awaitable).__name__}"
        )

    async def _opened_transport(self, given: object, timeout: float | None) -> AsyncTransport:
        transport = self._make_transport(given)
        try:
            await transport.open(
                ConnectOptions(
                    self._machine.endpoint, timeout, self._ssl_context, self._proxy, given
                )
            )
        except BaseException:
            _close_socket(given)
            raise
        return transport

    def _make_transport(self, given: object) -> AsyncTransport:
        host = AsyncHost(
            data_received=self._data_received,
            eof_received=self._eof_received,
            connection_failed=self._connection_failed,
            writing_resumed=self._writing_resumed,
            timer_expired=self._timer_expired,
        )
        # Loaded where it is needed: only one of the two is.
        if running_library() == "asyncio" and (given is None or _is_socket(given)):
            from soniox_adapters.async_.on_asyncio import AsyncioTransport

            return AsyncioTransport(host)
        from soniox_adapters.async_.on_streams import StreamTransport

        return StreamTransport(host)

    async def _call(self, queue: Callable[..., None], *arguments: object) -> None:
        """Have the core queue something, and write it."""
        try:
            self._require_here()
            queue(self._clock(), *arguments)
        except Exception:
            await give_way()
            raise
        self._arm_timer()
        await self._send()

    def _require_here(self) -> None:
        if not self._runs_here():
            raise self._elsewhere_error()

    async def _send(self) -> None:
        """Write what the core made; wait while too much waits to be written."""
        transport = self._transport
        self._calls += 1
        if transport is None:
            await self._finish_sending()
            return
        transport.write(self._machine.data_to_send())
        if transport.writing_paused or self._calls >= transport.calls_between_checkpoints:
            await self._finish_sending()

    async def _finish_sending(self) -> None:
        self._calls = 0
        transport = self._transport
        if transport is None:
            await give_way()
            return
        if not transport.writing_paused:
            await transport.checkpoint()
            return
        # What comes in is read while this waits, or two full buffers would wait for each other.
        self._flow.waiting_senders += 1
        self._control_reading()
        try:
            while transport.writing_paused and not self._machine.closed:
                await transport.writable.wait()
        finally:
            self._flow.waiting_senders -= 1
            self._control_reading()
        if self._machine.closed:
            raise self._why_not_sent()

    async def _receive(self) -> Result | None:
        """Return the next message, waiting for it, or None at the end of the stream."""
        inbox = self._inbox
        try:
            self._require_here()
            while not inbox.ready:
                self._require_started()
                await self._changed.wait()
            result = self._take_ready() or inbox.take()
        except SonioxError:
            await give_way()
            raise
        if result is None:
            # A loop that goes on after the end must not keep other tasks from running.
            await give_way()
        return result

    def _take_ready(self) -> Result | None:
        """Return a message that can be had without waiting, if there is one."""
        if not self._runs_here():
            return None
        if not self._flow.full:
            return self._inbox.take_message()
        result = self._inbox.take_message()
        self._control_reading()
        return result

    def _control_reading(self) -> None:
        """Read on, or read no further, as what waits on either side allows."""
        transport, machine = self._transport, self._machine
        if transport is None or machine.closed:
            return
        if self._flow.update(self._clock()):
            transport.resume_reading()
        else:
            transport.pause_reading()
        self._arm_timer()

    def _process(self, events: list[Event], *, reply: bool = False) -> None:
        """Hand on what the core returned, write what it made, and arm its next timer."""
        self._inbox.put(events)
        transport, machine = self._transport, self._machine
        if self._connecting is not None and machine.closed:
            self._connecting.cancel()
        if transport is not None:
            data = machine.data_to_send()
            if data:
                transport.write(data)
                if reply and transport.writing_paused:
                    self._flow.unsent_replies += len(data)
            if machine.closed:
                transport.close()
            elif len(events) != 1 or type(events[0]) is not Result:
                # A result alone brings no deadline nearer.
                self._arm_timer()
        if events:
            self._changed.notify()

    def _arm_timer(self) -> None:
        if self._transport is not None:
            self._transport.set_timer(self._machine.next_timeout())

    # Called by the transport

    def _data_received(self, data: bytes) -> None:
        self._process(self._machine.receive_data(data, self._clock()), reply=True)
        if self._flow.too_much:
            error = self._overflow_error()
            self._process(self._machine.fail(error, self._clock(), close_code=1001))
        elif not self._flow.may_read:
            self._control_reading()

    def _eof_received(self) -> None:
        self._process(self._machine.receive_eof(self._clock()))

    def _connection_failed(self, error: OSError) -> None:
        self._process(self._machine.fail(self._lost_error(error), self._clock()))

    def _writing_resumed(self) -> None:
        self._flow.unsent_replies = 0
        self._control_reading()

    def _timer_expired(self) -> None:
        self._process(self._machine.handle_timeout(self._clock()))


def _close_socket(given: object) -> None:
    """Close a socket that was given and cannot be used; streams are closed where they are used."""
    import socket

    if isinstance(given, socket.socket):
        given.close()


def _is_socket(given: object) -> bool:
    """Return whether `given` is a socket."""
    import socket

    return isinstance(given, socket.socket)


def _before_the_loop() -> float:
    # Nothing that happens before the session is entered depends on the time.
    return 0.0


def _anywhere() -> bool:
    # A session that was not entered yet has no event loop.
    return True
