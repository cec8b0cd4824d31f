"""How an async session moves its bytes: its tasks, its transports and its timer.

Whatever happens to a session, a call by its user, bytes from the server, a deadline, the same steps
follow: call the core, deliver its events to the inbox, open the links that it wants, write its
output, set the timer, wake the tasks that wait (`_process`; `_call` for the user's controls).

**No lock.** Everything runs in one event loop, and these steps contain no await. So bytes leave in
the order in which the core made them, and a task that is cancelled while it waits cannot leave the
core half changed or a frame half written. It holds only within one event loop: a call from any
other would come between the steps, so it is refused (`_runs_here`).

**Tasks.** An idle session on asyncio has no task at all, because the event loop calls its transport
(`on_asyncio.py`). On trio, and on streams given by the user, each transport has one task that reads
and one that writes (`on_streams.py`). Those belong to the event loop, not to the task that entered
the session, which may be closed in another. Tasks of the user wait for one of two signals:
`_changed` (a message, the end) or `_writable` (a blocked sender may go on).

**Transports.** A link is one connection with a transport of its own. The core asks for links
through `links_to_open`, and every `_flush` looks there. The task that enters the session opens the
first. Any later one is opened by a new task, because the request may come up in a callback of the
event loop, which cannot wait. `TransportLink` joins the two: it feeds the link what the transport
reads. Its transport is closed once the core says that the link is `closed`, or with the session;
the link stays in `_links` until its resources are really released, so that `close` can wait for
that and leaves no socket behind. A transport that is still being opened is cancelled instead.

**Waiting for the network.** A send normally waits for nothing: what the kernel does not take, the
transport keeps. Once that is too much, senders wait until most of it is written. Meanwhile reading
goes on, even if nobody receives (`flow_control.py` explains why). A send that does not wait does
not let other tasks run either, so every few sends end with a checkpoint; one after every send would
cost more than the send.

**The timer.** One per session, set to the core's next deadline after everything that can bring it
nearer. It may fire early, because the core ignores early calls of `handle_timeout`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from soniox_adapters.async_.event_loop import (
    EventLoop,
    Signal,
    Timer,
    give_way,
    make_signal,
    pass_on_interrupt,
)
from soniox_adapters.async_.link import SessionSide, TransportLink
from soniox_adapters.async_.opening import given_stream, open_transport
from soniox_adapters.session.api_keys import key_errors
from soniox_adapters.session.base import SessionBase
from soniox_proto import Event, Result, SonioxError, SonioxStateError

if TYPE_CHECKING:
    import anyio

    from soniox_adapters.async_.idle_connections import AsyncIdleConnections
    from soniox_proto import Link
    from soniox_proto.preconnect.warm_stream import WarmStream

__all__ = ["AsyncRunLoop"]


class AsyncRunLoop(SessionBase):
    """Drives the core of an async session; the documented methods are in the subclass."""

    _changed: Signal
    """Notified of every message and of the end. Created when the session is entered."""
    _writable: Signal
    """Notified when blocked senders may go on. Created when the session is entered."""
    _side: SessionSide
    """What links need. Created when the session is entered."""

    def _set_up(self) -> None:
        self._links: list[TransportLink] = []
        # Links whose transport is being opened, with the scope to cancel if they are given up.
        self._opening: list[tuple[Link, anyio.CancelScope]] = []
        self._loop: EventLoop | None = None
        self._timer: Timer | None = None
        self._clock: Callable[[], float] = _before_the_loop
        self._runs_here: Callable[[], bool] = _anywhere
        # Whether a `close` or `abort` has completed, so that nothing is left to release.
        self._released = False
        # Sends since the last checkpoint, and how many are allowed.
        self._calls = 0
        self._calls_between_checkpoints = 1

    def _enter_loop(self, loop: EventLoop) -> None:
        """Begin to connect, and bind the session to this event loop."""
        self._machine.connect(loop.clock())
        self._loop, self._clock, self._runs_here = loop, loop.clock, loop.runs_here
        self._changed, self._writable = make_signal(), make_signal()
        self._timer = loop.make_timer(self._timer_expired)
        self._side = SessionSide(
            loop.clock, self._process, self._control_reading, self._writable, self._links
        )

    def _abort_here(self, cause: BaseException | None) -> None:
        self._process(self._abort_machine(cause, self._clock()))

    async def _abort(self, cause: BaseException | None) -> None:
        """Abort without a checkpoint, which could replace the exception that is being raised."""
        if not self._runs_here():
            await self._end_from_elsewhere(cause)
            return
        self._abort_here(cause)
        await self._wait_released()

    async def _wait_released(self) -> None:
        """Wait until all transports of a session that is over are closed."""
        for link in tuple(self._links):
            await link.transport.wait_closed()
        self._released = True

    async def _end_from_elsewhere(self, cause: BaseException | None) -> None:
        """End the session from an event loop other than its own, and raise `SonioxStateError`."""
        if self._released:
            return
        loop, error = self._loop, self._elsewhere_error()
        assert loop is not None, "a session that was not entered runs anywhere"
        if not loop.call_from_elsewhere(partial(self._abort_here, cause)):
            # Its event loop has ended, so nothing there can interfere.
            self._released = True
            for link in self._links:
                link.transport.release()
            self._links.clear()
            self._inbox.put(self._abort_machine(cause, _before_the_loop()))
        await give_way()
        raise error

    def _elsewhere_error(self) -> SonioxStateError:
        return self._recorded(
            SonioxStateError(
                "the session belongs to the event loop that it was entered in, which has ended or "
                "does not run this task; enter, use and close a session in one event loop"
            )
        )

    # Links

    async def _open_first(self) -> None:
        """Open the first link in this task, which has to wait for it anyway."""
        for link in self._machine.links_to_open():
            await self._open(link)

    def _open_in_tasks(self, links: Sequence[Link]) -> None:
        """Open each link in a new task, because the callers of `_flush` cannot wait."""
        for link in links:
            assert self._loop is not None, "it asks for links once it is connected"
            self._loop.spawn(self._open_later, link)
            self._arm_timer()

    async def _open_later(self, link: Link) -> None:
        import anyio

        try:
            await self._open(link)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            # No task awaits this one. On trio its exception would end the program.
            self._process(link.failed(self._unusable_error(error), self._clock()))
            pass_on_interrupt(error)

    async def _open(self, link: Link) -> None:
        """Open the transport of a link.

        An `OSError` makes the link fail; a link that is closed meanwhile is dropped.
        """
        import anyio

        if self._use_warm(link):
            # Everything else that opens a link lets other tasks run.
            await give_way()
            return
        # One deadline for everything: the user's function, DNS, TCP, the proxy, TLS.
        deadline = math.inf if link.open_by is None else link.open_by
        scope = anyio.CancelScope(deadline=deadline)
        opening = (link, scope)
        self._opening.append(opening)
        try:
            with scope:
                await self._authenticate(link)
                given = await given_stream(self._transport_for_link(), link.endpoint)
                timeout = max(deadline - self._clock(), 0.001)
                opened = TransportLink(link, self._side, self._flow)
                opened.transport = await open_transport(
                    opened,
                    link.endpoint,
                    self._options,
                    given,
                    None if timeout == math.inf else timeout,
                )
                self._add(opened)
            if scope.cancelled_caught:
                if link.closed or self._machine.closed:
                    return
                raise TimeoutError
        except OSError as error:
            self._process(link.failed(self._connect_error(error, link), self._clock()))
        else:
            self._process(link.opened(self._clock()))
        finally:
            self._opening.remove(opening)

    def _use_warm(self, link: Link) -> bool:
        """Use a connection that was waiting, if there is one for this link."""
        if not self._may_be_warm(link):
            return False
        idle = cast("AsyncIdleConnections", self._idle_connections).take(self._options)
        if idle is None:
            return False
        warm = cast("WarmStream", self._machine).warm(link, idle.link)
        opened = TransportLink(warm, self._side, self._flow)
        opened.transport = idle.transport
        idle.transport.hand_over(opened)
        self._add(opened)
        self._process(warm.opened(self._clock()))
        return True

    def _add(self, link: TransportLink) -> None:
        self._calls_between_checkpoints = link.transport.calls_between_checkpoints
        self._links.append(link)

    async def _authenticate(self, link: Link) -> None:
        """Ask the user for the key of a link that needs one."""
        function = self._key_function
        if function is None:
            return
        with key_errors():
            key = function()
            link.authenticate(await key if isinstance(key, Awaitable) else key)

    # Sending

    async def _call(self, queue: Callable[..., None], *arguments: object) -> None:
        """Call the core for the user, and write what it queued."""
        try:
            self._require_here()
            queue(self._clock(), *arguments)
        except Exception:
            await give_way()
            raise
        self._process([])
        await self._send()

    def _require_here(self) -> None:
        if not self._runs_here():
            raise self._elsewhere_error()

    async def _send(self) -> None:
        """Write the core's output; wait if too much is unwritten, or a checkpoint is due."""
        self._calls += 1
        if self._flush() or self._calls >= self._calls_between_checkpoints:
            await self._finish_sending()

    def _flush(self, replying: TransportLink | None = None) -> bool:
        """Have wanted links opened, and write the core's output; return whether senders must wait.

        Args:
            replying: The link that has just received something. Its output counts as replies, which
                `FlowControl` bounds.
        """
        links = self._machine.links_to_open()
        if links:
            self._open_in_tasks(links)
        paused = False
        for link in self._links:
            paused |= link.flush(replying=link is replying)
        return paused

    @property
    def _writing_paused(self) -> bool:
        # A link that was given up takes no more output, and its transport is about to close.
        return any(link.transport.writing_paused for link in self._links if not link.link.closed)

    async def _finish_sending(self) -> None:
        self._calls = 0
        if not self._links:
            await give_way()
            return
        if not self._writing_paused:
            await self._links[0].transport.checkpoint()
            return
        with self._sender_waiting():
            while self._writing_paused and not self._machine.closed:
                await self._writable.wait()
        if self._machine.closed:
            raise self._why_not_sent()

    @contextmanager
    def _sender_waiting(self) -> Generator[None, None, None]:
        """Count a waiting sender, so that reading goes on: the server may be blocked sending."""
        self._flow.waiting_senders += 1
        self._control_reading()
        try:
            yield
        finally:
            self._flow.waiting_senders -= 1
            self._control_reading()

    async def _wait_for_room(self) -> None:
        """Wait while a connection is missing and no more audio can be kept for the next one."""
        if not self._machine.holds_too_much:
            return
        with self._sender_waiting():
            while self._machine.holds_too_much:
                await self._changed.wait()

    # Receiving

    async def _receive(self) -> Result | None:
        """Wait for the next message and return it, None at the end of the stream."""
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
            # Otherwise a loop that calls this on and on after the end would block all other tasks.
            await give_way()
        return result

    def _take_ready(self) -> Result | None:
        """Return a message if one is waiting. Not async, to save receivers a coroutine."""
        if not self._runs_here():
            return None
        if not self._flow.full:
            return self._inbox.take_message()
        result = self._inbox.take_message()
        self._control_reading()
        return result

    def _control_reading(self) -> None:
        """Start or stop reading on all links, as the flow control says."""
        if self._machine.closed:
            return
        if self._flow.update(self._clock()):
            for link in self._links:
                link.transport.resume_reading()
        else:
            for link in self._links:
                link.transport.pause_reading()
        self._arm_timer()

    def _process(self, events: list[Event], replying: TransportLink | None = None) -> None:
        """Do what has to follow every call of the core that returns events.

        Args:
            events: What the core returned.
            replying: The link that has just received something, if any.
        """
        self._inbox.put(events)
        self._flush(replying)
        if (
            replying is None
            or len(events) != 1
            or type(events[0]) is not Result
            or replying.link.closed
        ):
            # Skipped for the most frequent case: a lone result brings no deadline nearer.
            self._arm_timer()
            self._close_links()
        if events or self._waits_for_room:
            self._changed.notify()
        if replying is not None and self._flow.is_strained:
            self._bound_memory()

    def _close_links(self) -> None:
        """Close the transports that are done with, and cancel the opening of those not wanted."""
        for link in tuple(self._links):
            if link.link.closed or self._machine.closed:
                link.transport.close()
        for wanted, scope in self._opening:
            if wanted.closed:
                scope.cancel()

    def _bound_memory(self) -> None:
        """Stop reading if enough messages are waiting; end the session if they take too much."""
        if self._flow.too_much:
            error = self._overflow_error()
            self._process(self._machine.fail(error, self._clock(), close_code=1001))
        else:
            self._control_reading()

    def _arm_timer(self) -> None:
        if self._timer is None:
            return
        if self._machine.closed:
            self._timer.cancel()
        else:
            self._timer.set(self._machine.next_timeout())

    def _timer_expired(self) -> None:
        self._process(self._machine.handle_timeout(self._clock()))
        if self._waits_for_room:
            # Audio that was held may have gone out, so that there is room for more.
            self._changed.notify()


def _before_the_loop() -> float:
    # Nothing depends on the time before the session is entered.
    return 0.0


def _anywhere() -> bool:
    # A session that has not been entered is not bound to an event loop.
    return True
