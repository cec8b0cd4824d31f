"""How a blocking session moves its bytes, and how its threads share that work.

**Who may do what.** One lock guards the core, the socket and the buffers. It is held for one *step*
at a time (`steps.py`): never while waiting, and never for more than one read. So bytes
leave in the order in which the core made them, one thread at a time is inside TLS, and a server
that sends without pause keeps no other thread out.

**Who reads.** Threads that wait do so without the lock (`waiting.py`): one of them, the reader,
waits for input, and the others sleep until it wakes them. While no thread of the user waits, the
ticker, one thread for all sessions, looks in; it never waits for a lock.

**In which order.** Whoever takes a step first runs the timers that are due, then reads once, then
writes what the core made of it, and only then looks whether it has what it wants.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from soniox_adapters.blocking.steps import SteppedSession
from soniox_adapters.blocking.ticker import ticker
from soniox_adapters.blocking.waiting import Wait, WaitingThreads
from soniox_proto import Closed, Event, Outcome, SessionState, SonioxError, SonioxRealtimeError

if TYPE_CHECKING:
    from soniox_adapters.blocking.link import SocketLink
    from soniox_adapters.blocking.socket_stream import SocketStream
    from soniox_adapters.connecting.blocking import BlockingTransport, Connecting
    from soniox_proto import Link

__all__ = ["Marks", "SocketSession"]

TICK_INTERVAL: Final = 1.0
"""Seconds after which the ticker looks for pings and close frames that nobody is reading."""

RETRY_DELAY: Final = 0.01
"""Seconds until another try where another thread is expected to act first."""

Marks: TypeAlias = "list[tuple[SocketLink, int]]"
"""How much of the output of each link has to be taken before a sender may go on."""

_clock = time.monotonic


class SocketSession(SteppedSession):
    """A session on sockets. Its methods are called during a step, unless they say otherwise."""

    def _set_up(self) -> None:
        super()._set_up()
        self._waiting = WaitingThreads()
        self._links: list[SocketLink] = []
        # Links whose socket is being opened, each by a thread.
        self._opening: list[tuple[Link, Connecting]] = []
        self._tick_at: float | None = None

    # Links

    def _take_wanted(self) -> list[tuple[Link, Connecting]]:
        """Return the links that the machine wants now, to be opened."""
        return self._begin_opening(self._machine.links_to_open())

    def _begin_opening(self, links: Sequence[Link]) -> list[tuple[Link, Connecting]]:
        # Loaded on first need: it loads the system's TLS.
        from soniox_adapters.connecting.blocking import Connecting

        opening = [(link, Connecting(link.open_by)) for link in links]
        self._opening += opening
        return opening

    def _open_in_threads(self, links: Sequence[Link]) -> None:
        """Open links, each in a thread of its own: there may be no other to do it."""
        for link, connecting in self._begin_opening(links):
            threading.Thread(
                target=self._open_later, args=(link, connecting), name="soniox-link", daemon=True
            ).start()

    def _open_later(self, link: Link, connecting: Connecting) -> None:
        """Open a link in a thread of its own; called without the lock."""
        try:
            self._open(link, connecting)
        except SonioxError as error:
            failure = self._unusable_error(error)
            self._step(lambda: self._handle(link.failed(failure, _clock())))
        # Another thread that reads does not know of this link yet.
        self._wait_until(lambda: not self._is_unattended(link), readable=True)

    def _open(self, link: Link, connecting: Connecting) -> None:
        """Open the socket of a link; called without the lock, so audio may be given meanwhile."""
        from soniox_adapters.blocking.socket_stream import SocketStream
        from soniox_adapters.connecting.blocking import ConnectCancelledError

        try:
            connected = connecting.open(
                link.endpoint,
                ssl_context=self._options.ssl_context,
                proxy=self._options.proxy,
                transport=cast("BlockingTransport | None", self._transport_for_link()),
            )
        except ConnectCancelledError:
            return
        except OSError as error:
            failure = self._connect_error(error, link)
            self._step(lambda: self._handle(link.failed(failure, _clock())))
            return
        finally:
            self._opening.remove((link, connecting))
        self._step(lambda: self._use(link, SocketStream(connected)))

    def _use(self, link: Link, stream: SocketStream) -> None:
        from soniox_adapters.blocking.link import SocketLink

        self._links.append(SocketLink(link, stream, self._flow))
        self._handle(link.opened(_clock()))
        self._reschedule()

    def _is_unattended(self, link: Link) -> bool:
        """Return whether nobody but this thread reads a link that has just been opened."""
        used = next((used for used in self._links if used.link is link), None)
        if used is None or used.done or used.has_read:
            return False
        return not self._waiting.has_reader(used.stream, _clock())

    def _release(self) -> None:
        """Give back the sockets that are done with, once no thread waits for them."""
        for link in tuple(self._links):
            if not link.link.closed:
                continue
            link.done = True
            if self._waiting.use(link.stream, _clock()):
                # Wakes them. The last one to leave comes here again, or else the ticker does.
                link.stream.shutdown()
            else:
                link.stream.close()
                link.leave()
                self._links.remove(link)
        for opening, connecting in tuple(self._opening):
            if opening.closed:
                connecting.cancel()
        self._waiting.wake_sleepers()

    def _end_interrupted(self, cause: BaseException) -> None:
        """End a session that was interrupted in the middle of a step."""
        now = _clock()
        error = SonioxRealtimeError(
            f"the session was interrupted by {cause!r} in the middle of a change, and cannot go on"
        )
        error.__cause__ = cause
        # How much of what was written is unknown, so nothing can follow it, not even a close frame.
        for link in self._links:
            link.output = bytearray()
        # What is half changed may refuse; it closes all the same.
        with suppress(Exception):
            self._deliver(self._machine.fail(error, now))
        with suppress(Exception):
            self._machine.abort(now)
        # For the receivers, if the core's own was lost; a second one is ignored.
        self._deliver([Closed(Outcome.LOST, 1006, "", error)])
        self._release()

    # Bytes

    def _handle(self, events: list[Event], replying: SocketLink | None = None) -> None:
        """Deliver events, and write what they made."""
        self._deliver(events)
        self._flush(replying)

    def _deliver(self, events: list[Event]) -> None:
        if events:
            self._inbox.put(events)
            self._waiting.wake_sleepers()

    def _flush(self, replying: SocketLink | None = None) -> None:
        """Do what the core asks for: open links, write, and give back what is done with.

        Args:
            replying: The link that has just been read: what it says now is an answer.
        """
        links = self._machine.links_to_open()
        if links:
            self._open_in_threads(links)
        done = False
        for link in self._links:
            link.flush(replying=link is replying)
            if link.write_error is not None:
                self._reschedule(_clock())
            done = done or link.link.closed
        if done or self._opening:
            self._release()

    def _write_out(self) -> Marks | None:
        """Write what the core made; return what has to be taken, if that is to be awaited."""
        self._flush()
        for link in self._links:
            if link.output and self._machine.state is not SessionState.CONNECTING:
                return [(link, link.taken + len(link.output)) for link in self._links]
        return None

    def _wait_until_taken(self, marks: Marks) -> None:
        """Wait until the kernel has taken the output up to `marks`; called without the lock."""

        def taken() -> bool:
            return all(link.taken >= end or link.done for link, end in marks)

        self._wait_until(taken, sending=True)
        if self._machine.closed and any(link.taken < end for link, end in marks):
            raise self._why_not_sent()

    def _read(self, now: float, *, may_read: bool, wanted: bool) -> bool:
        """Read each link once, and return whether anything came.

        If it is not `wanted`, read only what servers said before a write failed; when there is no
        more, give up on them.
        """
        came = False
        for link in tuple(self._links):
            failure = link.write_error
            if link.done or (failure is None and not wanted):
                continue
            read = may_read and self._read_link(link, now)
            if failure is not None and link.is_drained(read, now):
                self._lose(link, failure, now)
            came |= read
        return came

    def _read_link(self, link: SocketLink, now: float) -> bool:
        try:
            events = link.read(now)
        except OSError as error:
            self._lose(link, error, now)
            return False
        if events is None:
            return False
        self._handle(events, link)
        if self._flow.full and self._flow.too_much:
            self._handle(self._machine.fail(self._overflow_error(), now, close_code=1001))
        return True

    def _lose(self, link: SocketLink, error: OSError, now: float) -> None:
        self._handle(link.link.failed(self._lost_error(error), now))

    # Threads that wait

    def _wait_until(
        self,
        done: Callable[[], bool],
        *,
        timeout: float | None = None,
        readable: bool = False,
        sending: bool = False,
    ) -> None:
        """Move bytes and run timers until `done`, the end of the session, or `timeout` seconds.

        Called without the lock; `done` is called during steps.
        """
        deadline = None if timeout is None else _clock() + timeout
        wait = Wait(deadline=deadline, sending=sending, readable=readable)
        step = partial(self._progress, wait, done)
        try:
            while not self._step(step):
                wait.wait()
        except BaseException:
            wait.until = 0.0
            self._step(lambda: self._leave(wait, _clock()), deferrable=True)
            raise

    def _progress(self, wait: Wait, done: Callable[[], bool]) -> bool:
        """Do what can be done now; return False if the thread has to wait, as planned in `wait`."""
        now = _clock()
        machine, waiting, flow = self._machine, self._waiting, self._flow
        alone = waiting.remove(wait)
        flow.waiting_senders = wait.sending if alone else waiting.senders(now) + wait.sending
        if wait.timer is None:
            wait.timer = self._next_timeout()
        if due := wait.timer <= now:
            self._handle(machine.handle_timeout(now))
        # Threads that other threads read for need not read.
        watched = not alone and self._others_read(now)
        may_read = flow.update(now)
        came = self._read(now, may_read=may_read, wanted=wait.readable and not watched)
        if not came and not due and self._has_output():
            self._flush()
        if done():
            if wait.sending or not alone:
                self._leave(wait, now)
            return True
        if machine.closed or (wait.deadline is not None and wait.deadline <= now):
            self._leave(wait, now)
            return True
        if came or due:
            wait.timer = self._next_timeout()
            may_read = flow.update(now)
        wait.note_input(came, now)
        self._plan(wait, now, may_read=may_read, watched=watched)
        waiting.add(wait)
        return False

    def _next_timeout(self) -> float:
        timer = self._machine.next_timeout()
        return float("inf") if timer is None else timer

    def _has_output(self) -> bool:
        return any(link.output for link in self._links)

    def _others_read(self, now: float) -> bool:
        """Return whether each link has another thread that waits for its input."""
        return all(self._waiting.has_reader(link.stream, now) for link in self._links)

    def _plan(self, wait: Wait, now: float, *, may_read: bool, watched: bool) -> None:
        """Decide what a thread waits for; `watched` if others wait for input."""
        links, timer = self._links, wait.timer
        until = wait.deadline
        if until is None or (timer is not None and timer < until):
            until = timer
        reads = may_read and not watched
        if not links or not (reads or self._has_output()):
            wait.plan_to_sleep(now, until)
        elif any(link.write_error or (reads and link.more_to_read) for link in links):
            wait.plan_to_go_on(now)
        elif watched and wait.readable:
            # There is input, which the other thread will read.
            wait.plan_to_sleep(now, now + RETRY_DELAY)
        else:
            # A writer waits for input even if another thread does: that one may leave at any time.
            wait.plan_to_watch(
                now, until, [(link.stream, may_read, bool(link.output)) for link in links]
            )
            wait.reads = reads

    def _leave(self, wait: Wait, now: float) -> None:
        """Note that a thread waits no longer; another may have to do its work."""
        self._waiting.remove(wait)
        self._flow.waiting_senders = self._waiting.senders(now)
        self._flow.update(now)
        self._release()
        self._waiting.wake_sleepers()

    # The ticker

    def _reschedule(self, when: float | None = None) -> None:
        """Have the ticker come at `when`, or in time for the core's next timer."""
        if when is None:
            when = self._next_tick(_clock())
        if self._tick_at is None or when < self._tick_at:
            self._tick_at = when
            ticker.schedule(self, when)

    def _next_tick(self, now: float) -> float:
        return min(now + TICK_INTERVAL, self._next_timeout())

    def tick(self) -> float | None:
        """Look after the session while no thread does; called by the ticker, without the lock."""
        # One session must not hold up the others.
        if not self._lock.acquire(blocking=False):
            return _clock() + RETRY_DELAY
        try:
            return self._step(self._tend)
        except Exception:
            # Those who use the session get it as the cause of their error.
            return _clock() + RETRY_DELAY
        finally:
            self._lock.release()

    def _tend(self) -> float | None:
        now = _clock()
        if self._tick_at is None or now < self._tick_at:
            return None
        self._flow.waiting_senders = self._waiting.senders(now)
        # Harmless where nothing is due.
        self._handle(self._machine.handle_timeout(now))
        may_read = self._flow.update(now)
        self._read(now, may_read=may_read, wanted=not self._others_read(now))
        self._release()
        closed = self._machine.closed
        if closed and not self._links:
            self._tick_at = None
        elif closed or any(link.more_to_read or link.write_error for link in self._links):
            self._tick_at = now + RETRY_DELAY
        else:
            self._tick_at = self._next_tick(now)
        return self._tick_at
