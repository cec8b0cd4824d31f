"""How a blocking session moves its bytes, and how its threads share that work.

An idle session has no thread of its own. The threads that call it do the work, one step at a time,
and a single thread shared by all sessions, the ticker, stands in while none of them does.

**The lock.** One lock guards the core, the links with their sockets, and the inbox. A thread holds
it for one *step* (`steps.py`): a call by the user, one round of a waiting thread, the news that a
link is open or has failed, a visit by the ticker. A step never waits, neither for a socket nor for
another thread. Because the step that makes the core queue bytes also writes them, bytes leave in
the order in which the core made them. Because all socket calls but polling are steps, no two
threads are ever inside the same `SSLSocket`, which does not allow that. And because a step reads
each link at most once, a server that never stops sending cannot shut out the other threads.

**Waiting.** A call that has to wait (for a message, for the kernel to take its bytes, for the end)
alternates between a step and a wait *without* the lock (`_wait_until`). Of all waiting threads one
is the reader: it polls the sockets for input. The others sleep until the reader has delivered
something or leaves with what it came for; then the first of them to take a step becomes the
reader. Only a thread with unwritten output polls as well, and for input too: a server may take no
more bytes until its own have been read, and the reader may leave at any time.

**One round of a waiting thread** (`_progress`):

1. Stop counting as a waiting thread, so as not to mistake itself for the reader.
2. Read each link once, unless another thread is the reader and no timer is due. What came is fed
   to the core and delivered to the inbox, and the core's answers are written, link by link.
3. Run the core's timers that are due. They come second, because what a deadline waits for may have
   arrived: a pong, an answer, a close frame.
4. Write output that the kernel did not take earlier.
5. Return if the call has what it wants, the session is over, or its time is up. This comes after
   the work, so that a message that has already arrived is returned even with a timeout of 0.
6. Otherwise plan the wait, and count as a waiting thread again.

**The ticker** visits each session when the core's next timer is due, and at least once a second,
because pings and close frames have to be answered even while the program is busy elsewhere. It does
steps 2 to 4, closes the sockets of links that are done with, and leaves reading to the reader if
there is one. It never waits for the lock: if that is taken, somebody is already doing its work, and
a session whose thread is stuck must not hold up the others.

**Links.** A link is one connection with a socket of its own. The core asks for links through
`links_to_open`, and every `_flush` looks there. The thread that enters the session opens the first.
Any later one gets a thread for as long as opening takes, because the step that came across the
request must not wait for DNS, TCP and TLS, and the ticker may be the only thread there is. Opening
happens without the lock, so audio can be sent meanwhile; the core holds it back. A thread that
opened a later link reads it until something has arrived or a reader watches it: a reader that began
to poll earlier does not know the new socket.

A link goes when the core says that it is `closed`, or with the session. A socket must not be closed
while another thread polls it: its descriptor could be reused by an unrelated file. So it is shut
down first, which wakes those threads, and the last of them to leave closes it (`_release`).
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from soniox_adapters.blocking.steps import SteppedSession
from soniox_adapters.blocking.ticker import Schedule, ticker
from soniox_adapters.blocking.waiting import Wait, WaitingThreads
from soniox_adapters.connecting.websocket_client import WebSocketClient
from soniox_adapters.session.api_keys import asked_key, key_errors
from soniox_adapters.session.base import lost_error
from soniox_proto import Closed, Event, Outcome, SessionState, SonioxRealtimeError

if TYPE_CHECKING:
    from soniox_adapters.blocking.idle_connections import IdleConnections, IdleSocket
    from soniox_adapters.blocking.link import SocketLink
    from soniox_adapters.blocking.polling import Interest
    from soniox_adapters.blocking.socket_stream import SocketStream
    from soniox_adapters.connecting.blocking import BlockingTransport, Connecting
    from soniox_proto import Link
    from soniox_proto.preconnect.warm_stream import WarmStream

__all__ = ["Marks", "SocketSession"]

TICK_INTERVAL: Final = 1.0
"""Seconds between the ticker's visits, so at most how long a ping waits while no thread reads."""

RETRY_DELAY: Final = 0.01
"""Seconds before trying again what another thread is expected to do first."""

OPENING_LOOK: Final = 0.05
"""Seconds that a thread polls at once while another link is being opened, whose socket it has to
poll too."""

Marks: TypeAlias = "list[tuple[SocketLink, int]]"
"""For each link, the value of `SocketLink.taken` at which everything queued now is written."""


class SocketSession(SteppedSession):
    """A session on sockets. Its methods run during a step unless their docstring says otherwise."""

    # Replaced where time is virtual: the clock, what visits the session, how a thread waits.
    _clock: Callable[[], float] = staticmethod(time.monotonic)
    _ticker: Schedule = ticker

    def _wait(self, wait: Wait) -> None:
        """Wait as planned; called without the lock."""
        wait.wait()

    def _set_up(self) -> None:
        super()._set_up()
        self._waiting = WaitingThreads()
        self._links: list[SocketLink] = []
        self._context = contextvars.Context()
        # Links whose socket a thread is opening. `_release` cancels those that are given up.
        self._opening: list[tuple[Link, Connecting]] = []
        # Whether a socket is only shut down yet, because a thread polls it.
        self._waits_to_close = False
        self._tick_at: float | None = None

    # Links

    def _connect(self) -> list[tuple[Link, Connecting]]:
        """Have the core begin, and return the links that it wants opened first."""
        self._machine.connect(self._clock())
        self._context = contextvars.copy_context()
        return self._begin_opening(self._machine.links_to_open())

    def _begin_opening(self, links: Sequence[Link]) -> list[tuple[Link, Connecting]]:
        # Imported on first use, because it imports ssl.
        from soniox_adapters.connecting.blocking import Connecting

        opening = [(link, Connecting(link.open_by)) for link in links]
        self._opening += opening
        return opening

    def _open_in_threads(self, links: Sequence[Link]) -> None:
        """Open each link in a new thread, because a step must not wait."""
        for link, connecting in self._begin_opening(links):
            # A function of the user's that opens streams finds the context of the first link.
            threading.Thread(
                target=self._context.copy().run,
                args=(self._open_later, link, connecting),
                name="soniox-link",
                daemon=True,
            ).start()

    def _open_later(self, link: Link, connecting: Connecting) -> None:
        """Open a link, then read it until another thread does; called without the lock."""
        try:
            link = self._open(link, connecting)
        except BaseException as error:
            # The thread belongs to nobody who could be told, so the session is.
            failure = self._unusable_error(error)
            self._step(lambda: self._handle(link.failed(failure, self._clock())))
        # A reader that began to poll before this link was open does not watch its socket yet.
        self._wait_until(lambda: not self._is_unattended(link), readable=True)

    def _open(self, link: Link, connecting: Connecting) -> Link:
        """Open the socket of a link; called without the lock, so that audio can be sent meanwhile.

        An `OSError` makes the link fail; a link that was cancelled meanwhile is dropped. Returns
        the link, or the one in its place if a connection was waiting.
        """
        from soniox_adapters.connecting.blocking import ConnectCancelledError

        if (warm := self._take_warm(link)) is not None:
            self._opening.remove((link, connecting))
            return self._step(lambda: self._use_warm(link, warm)) or link
        try:
            self._authenticate(link)
            stream, answer = self._open_stream(link, connecting)
        except ConnectCancelledError:
            return link
        except OSError as error:
            failure = self._connect_error(error, link)
            self._step(lambda: self._handle(link.failed(failure, self._clock())))
            return link
        finally:
            self._opening.remove((link, connecting))
        self._step(lambda: self._use(link, stream, answer))
        return link

    def _take_warm(self, link: Link) -> IdleSocket | None:
        """Take a connection that was waiting, if there is one for this link."""
        if not self._may_be_warm(link):
            return None
        return cast("IdleConnections", self._idle_connections).take(self._options)

    def _use_warm(self, link: Link, idle: IdleSocket) -> Link:
        warm = cast("WarmStream", self._machine).warm(link, idle.link)
        self._use(warm, idle.stream, None)
        return warm

    def _open_stream(
        self, link: Link, connecting: Connecting
    ) -> tuple[SocketStream, Mapping[str, str] | None]:
        """Open a stream, and return it with the answer to the upgrade if that is made already."""
        from soniox_adapters.blocking.socket_stream import SocketStream

        transport = self._transport_for_link()
        if isinstance(transport, WebSocketClient):
            transport = transport.attempt(link.upgrade_request, self._options.ssl_context)
        connected = connecting.open(
            link.endpoint,
            ssl_context=self._options.ssl_context,
            proxy=self._options.proxy,
            transport=cast("BlockingTransport | None", transport),
        )
        return SocketStream(connected), connecting.answer

    def _authenticate(self, link: Link) -> None:
        """Ask the user for the key of a link that needs one; called without the lock."""
        function = self._key_function
        if function is None:
            return
        with key_errors():
            key = asked_key(function)
        if link.open_by is not None and link.open_by <= self._clock():
            # The key may be good for one connection only.
            raise TimeoutError
        with key_errors():
            self._step(lambda: link.authenticate(key))

    def _use(self, link: Link, stream: SocketStream, answer: Mapping[str, str] | None) -> None:
        from soniox_adapters.blocking.link import SocketLink

        self._links.append(SocketLink(link, stream, self._flow))
        now = self._clock()
        self._handle(link.opened(now) if answer is None else link.upgraded(now, answer))
        self._reschedule()

    def _is_unattended(self, link: Link) -> bool:
        """Return whether a link that has just been opened depends on this thread to read it."""
        used = next((used for used in self._links if used.link is link), None)
        if used is None or used.done or used.has_read:
            return False
        return not self._waiting.has_reader(used.stream, self._clock())

    def _release(self) -> None:
        """Close the sockets that are done with, once no thread polls them."""
        self._waits_to_close = False
        for link in tuple(self._links):
            if not link.link.closed:
                continue
            link.done = True
            if self._waiting.use(link.stream, self._clock()):
                # Wakes those that poll it. The last of them, or the ticker, gets here again.
                link.stream.shutdown()
                self._waits_to_close = True
            else:
                link.stream.close()
                link.leave()
                self._links.remove(link)
        for opening, connecting in tuple(self._opening):
            if opening.closed:
                connecting.cancel()
        self._waiting.wake_sleepers()

    def _end_interrupted(self, cause: BaseException) -> None:
        """End a session whose step a signal handler broke off; see `steps.py`."""
        now = self._clock()
        error = SonioxRealtimeError(
            f"the session was interrupted by {cause!r} in the middle of a change, and cannot go on"
        )
        error.__cause__ = cause
        # How much was written is unknown, so anything sent now, even a close frame, could land in
        # the middle of another frame.
        for link in self._links:
            link.output = bytearray()
        # The core may be half changed and raise anything; the session has to end all the same.
        with suppress(Exception):
            self._deliver(self._machine.fail(error, now))
        with suppress(Exception):
            self._machine.abort(now)
        # Ends the receivers even if the core's own Closed was lost; the inbox ignores a second one.
        self._deliver([Closed(Outcome.LOST, 1006, "", error)])
        self._release()

    # Bytes

    def _handle(self, events: list[Event], replying: SocketLink | None = None) -> None:
        """Deliver events, and write what they made."""
        if events:
            self._deliver(events)
        self._flush(replying)

    def _deliver(self, events: list[Event]) -> None:
        self._inbox.put(events)
        self._waiting.wake_sleepers()

    def _flush(self, replying: SocketLink | None = None) -> bool:
        """Open what the core wants, write what fits, and close what is done with.

        Returns whether the kernel left anything.

        Args:
            replying: The link that has just been read. Its output counts as replies, which
                `FlowControl` bounds.
        """
        wanted = self._machine.links_to_open()
        if wanted:
            self._open_in_threads(wanted)
        left = self._write(replying)
        for link in self._links:
            if link.link.closed and not link.done:
                self._release()
                return left
        if self._opening:
            self._release()
        return left

    def _write(self, replying: SocketLink | None = None) -> bool:
        """Write what fits of what the core made; return whether the kernel left anything."""
        left = False
        for link in self._links:
            if link.flush(link is replying):
                left = True
                if link.write_error is not None:
                    self._reschedule(self._clock())
        return left

    def _marks(self) -> Marks | None:
        """Return what the kernel still has to take.

        While the session is connecting nobody waits for that: the core bounds what it holds back.
        """
        if self._machine.state is SessionState.CONNECTING:
            return None
        return [(link, link.taken + len(link.output)) for link in self._links if not link.done]

    def _wait_until_taken(self, marks: Marks) -> None:
        """Wait until the kernel has taken the output up to `marks`; called without the lock.

        Raises `SonioxConnectionError` or `SonioxStateError` if the session ended before that.
        """

        def taken() -> bool:
            return all(link.taken >= end or link.done for link, end in marks)

        self._wait_until(taken, sending=True)
        if self._machine.closed and any(link.taken < end for link, end in marks):
            raise self._why_not_sent()

    def _read(self, now: float, *, may_read: bool, wanted: bool) -> bool:
        """Read each link once, and return whether anything came.

        A link whose write failed is read even if reading is not `wanted`, because the server's
        reason (an error message, a close frame) may already have arrived. Once it has nothing more
        to say, the link is lost.
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
        if self._flow.is_strained and self._flow.too_much:
            self._handle(self._machine.fail(self._overflow_error(), now, close_code=1001))
        return True

    def _lose(self, link: SocketLink, error: OSError, now: float) -> None:
        self._handle(link.link.failed(lost_error(error), now))

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

        Called without the lock; returns None whichever of the three it was.

        Args:
            done: Returns whether the call has what it wants; called during steps.
            timeout: Seconds; None for no limit.
            readable: Whether to read before waiting for the first time.
            sending: Whether the caller is blocked until the server takes its bytes.
        """
        deadline = None if timeout is None else self._clock() + timeout
        wait = Wait(deadline=deadline, sending=sending, readable=readable)
        step = partial(self._progress, wait, done)
        try:
            while not self._step(step):
                self._wait(wait)
        except BaseException:
            wait.until = 0.0
            self._step(lambda: self._leave(wait, self._clock()), deferrable=True)
            raise

    def _progress(self, wait: Wait, done: Callable[[], bool]) -> bool:
        """Do one round as the module describes; return False if the thread now has to `wait`."""
        now = self._clock()
        machine, waiting, flow = self._machine, self._waiting, self._flow
        alone = waiting.remove(wait)
        if self._waits_to_close:
            self._release()
        flow.waiting_senders = wait.sending if alone else waiting.senders(now) + wait.sending
        begins = wait.timer is None
        if wait.timer is None:
            wait.timer = self._next_timeout()
        due = wait.timer <= now
        # Reading is left to the reader, if there is one, unless a timer is due: what it waits for
        # may have arrived.
        watched = not alone and self._others_read(now)
        may_read = flow.update(now)
        wanted = due or (wait.readable and not watched)
        came = self._read(now, may_read=may_read, wanted=wanted)
        if due:
            self._handle(machine.handle_timeout(now))
        elif not came:
            self._write_rest()
        if done():
            if wait.sending or not alone:
                self._leave(wait, now)
            return True
        if machine.closed or (wait.deadline is not None and wait.deadline <= now):
            self._leave(wait, now)
            return True
        if came or due or not begins:
            # Other threads may have armed timers too.
            wait.timer = self._next_timeout()
            may_read = flow.update(now)
        wait.note_input(came, now)
        self._plan(wait, now, may_read=may_read, watched=watched)
        waiting.add(wait)
        return False

    def _next_timeout(self) -> float:
        timer = self._machine.next_timeout()
        return float("inf") if timer is None else timer

    def _write_rest(self) -> None:
        """Write output that the kernel did not take earlier."""
        for link in self._links:
            if link.output and not link.done:
                self._flush()
                return

    def _others_read(self, now: float) -> bool:
        """Return whether another thread is the reader of every link."""
        return all(link.done or self._waiting.has_reader(link.stream, now) for link in self._links)

    def _plan(self, wait: Wait, now: float, *, may_read: bool, watched: bool) -> None:
        """Decide how a thread waits: asleep, polling, or not at all.

        Args:
            wait: The thread's wait, which takes the decision.
            now: The time.
            may_read: Whether flow control allows reading.
            watched: Whether another thread is the reader.
        """
        until = wait.deadline
        if until is None or (wait.timer is not None and wait.timer < until):
            until = wait.timer
        if self._opening:
            # Nothing wakes a thread that polls when another socket is there to be polled.
            until = min(now + OPENING_LOOK, until if until is not None else math.inf)
        reads = may_read and not watched
        interests: list[Interest] = []
        goes_on = writes = False
        for link in self._links:
            if not link.done:
                interests.append((link.stream, may_read, bool(link.output)))
                writes |= bool(link.output)
                goes_on |= link.write_error is not None or (reads and link.more_to_read)
        if not interests or not (reads or writes):
            wait.plan_to_sleep(now, until)
        elif goes_on:
            wait.plan_to_go_on(now)
        elif watched and wait.readable:
            # It polled because it has output, and saw input that the reader has yet to read.
            # Polling again would return at once.
            wait.plan_to_sleep(now, now + RETRY_DELAY)
        else:
            # A writer polls for input even if there is a reader, which may leave at any time.
            wait.plan_to_watch(now, until, interests)
            wait.reads = reads

    def _leave(self, wait: Wait, now: float) -> None:
        """Stop counting a thread as waiting, and wake the others: one has to become the reader."""
        self._waiting.remove(wait)
        self._flow.waiting_senders = self._waiting.senders(now)
        self._flow.update(now)
        self._release()
        self._waiting.wake_sleepers()

    # The ticker

    def _reschedule(self, when: float | None = None) -> None:
        """Have the ticker visit at `when`; by default in time for the core's next timer."""
        if when is None:
            when = self._next_tick(self._clock())
        if self._tick_at is None or when < self._tick_at:
            self._tick_at = when
            self._ticker.schedule(self, when)

    def _next_tick(self, now: float) -> float:
        return min(now + TICK_INTERVAL, self._next_timeout())

    def tick(self) -> float | None:
        """Do what is due, and return when to come again; called by the ticker, without the lock."""
        # Not blocking: a session whose lock is taken must not hold up the others.
        if not self._lock.acquire(blocking=False):
            return self._clock() + RETRY_DELAY
        try:
            return self._step(self._tend)
        except Exception:
            # The interrupted step ends the session, and its users get this as the error's cause.
            return self._clock() + RETRY_DELAY
        finally:
            self._lock.release()

    def _tend(self) -> float | None:
        now = self._clock()
        if self._tick_at is None or now < self._tick_at:
            return None
        self._flow.waiting_senders = self._waiting.senders(now)
        due = self._next_timeout() <= now
        may_read = self._flow.update(now)
        self._read(now, may_read=may_read, wanted=due or not self._others_read(now))
        # Harmless if nothing is due.
        self._handle(self._machine.handle_timeout(now))
        self._release()
        closed = self._machine.closed
        if closed and not self._links:
            self._tick_at = None
        elif closed or any(
            link.write_error or (may_read and link.more_to_read) for link in self._links
        ):
            self._tick_at = now + RETRY_DELAY
        else:
            self._tick_at = self._next_tick(now)
        return self._tick_at
