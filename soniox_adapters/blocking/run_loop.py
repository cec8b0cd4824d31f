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

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from soniox_adapters.blocking.steps import SteppedSession, came_through
from soniox_adapters.blocking.ticker import ticker
from soniox_adapters.blocking.waiting import Wait, WaitingThreads
from soniox_adapters.session.read_size import ReadSize
from soniox_proto import Closed, Event, Outcome, SonioxRealtimeError

if TYPE_CHECKING:
    from soniox_adapters.blocking.socket_stream import SocketStream

__all__ = ["SocketSession"]

T = TypeVar("T")

TICK_INTERVAL: Final = 1.0
"""Seconds after which the ticker looks for pings and close frames that nobody is reading."""

RETRY_DELAY: Final = 0.01
"""Seconds until another try where another thread is expected to act first."""

DRAIN_TIME: Final = 5.0
"""Seconds in which to read what the server said before a write failed. There is an end to that,
unless a server goes on and on that takes nothing itself."""

_clock = time.monotonic


class SocketSession(SteppedSession):
    """A session on a socket. Its methods are called during a step, unless they say otherwise."""

    def _set_up(self) -> None:
        super()._set_up()
        self._waiting = WaitingThreads()
        self._stream: SocketStream | None = None
        # What the kernel would not take yet, and how much of that it has taken since.
        self._output = bytearray()
        self._output_taken = 0
        self._write_error: OSError | None = None
        self._drain_until = 0.0
        self._read_size = ReadSize()
        # Whether the last read left something that another one gives at once.
        self._more_to_read = False
        self._tick_at: float | None = None

    def _use(self, stream: SocketStream) -> None:
        self._stream = stream
        self._flush()
        self._release()
        self._waiting.wake_sleepers()
        self._reschedule()

    def _release(self) -> None:
        """Give the socket back, once the core is closed and no thread waits for it."""
        stream = self._stream
        if stream is None or not self._machine.closed:
            return
        if self._waiting.use_descriptor(_clock()):
            # Wakes them. The last one to leave comes here again, or else the ticker does.
            stream.shutdown()
        else:
            stream.close()
            self._stream = None
        self._waiting.wake_sleepers()

    def _end_interrupted(self, cause: BaseException) -> None:
        """End a session that was interrupted in the middle of a step."""
        now = _clock()
        error = SonioxRealtimeError(
            f"the session was interrupted by {cause!r} in the middle of a change, and cannot go on"
        )
        error.__cause__ = cause
        # How much of what was written is unknown, so nothing can follow it, not even a close frame.
        self._output = bytearray()
        # What is half changed may refuse; it closes all the same.
        with suppress(Exception):
            self._deliver(self._machine.fail(error, now))
        with suppress(Exception):
            self._machine.abort(now)
        # For the receivers, if the core's own was lost; a second one is ignored.
        self._deliver([Closed(Outcome.LOST, 1006, "", error)])
        self._release()

    # Bytes

    def _flush(self, *, replying: bool = False) -> None:
        """Write what fits of what the core made; `replying` if it answers what was received."""
        stream, output = self._stream, self._output
        if stream is None:
            return
        before = self._output_taken + len(output)
        buffers = self._machine.buffers_to_send()
        if buffers and not output and self._write_error is None:
            written = self._write(stream.write_buffers, buffers)
            for buffer in buffers:
                if written < len(buffer):
                    output += memoryview(buffer)[written:]
                written = max(0, written - len(buffer))
        else:
            for buffer in buffers:
                output += buffer
            if output and self._write_error is None:
                written = self._write(stream.write, output)
                self._output_taken += written
                del output[:written]
        if not output:
            self._flow.unsent_replies = 0
        elif replying:
            self._flow.unsent_replies += self._output_taken + len(output) - before
        if self._machine.closed:
            self._release()

    def _write(self, write: Callable[[T], int], data: T) -> int:
        try:
            return write(data)
        except OSError as error:
            self._write_failed(error)
            return 0

    def _write_failed(self, error: OSError) -> None:
        """Note that the peer takes no more; what it said before is still to be read."""
        _raise_if_foreign(error)
        now = _clock()
        self._write_error, self._drain_until = error, now + DRAIN_TIME
        self._flow.begin_closing()
        self._reschedule(now)

    def _read(self, now: float) -> bool:
        """Read once, and return whether anything came."""
        stream, machine, size = self._stream, self._machine, self._read_size.value
        self._more_to_read = False
        if stream is None or machine.closed or not self._flow.update(now):
            return False
        if self._flow.too_much:
            self._deliver(machine.fail(self._overflow_error(), now, close_code=1001))
            return False
        try:
            data = stream.read(size)
        except OSError as error:
            _raise_if_foreign(error)
            self._lose(error, now)
            return False
        if data is None:
            return False
        if not data:
            self._deliver(machine.receive_eof(now))
            return True
        self._deliver(machine.receive_data(data, now))
        self._more_to_read = stream.has_more(data, size)
        if len(data) == size:
            self._read_size.adapt(_clock() - now)
        return True

    def _drain(self, now: float) -> bool:
        """Read what the peer said before a write failed; when there is no more, give up."""
        came = self._read(now)
        if self._write_error is not None and (not came or now >= self._drain_until):
            self._lose(self._write_error, now)
        return came

    def _lose(self, error: OSError, now: float) -> None:
        self._deliver(self._machine.fail(self._lost_error(error), now))

    def _deliver(self, events: list[Event]) -> None:
        if events:
            self._inbox.put(events)
            self._waiting.wake_sleepers()

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
        machine, waiting = self._machine, self._waiting
        alone = waiting.remove(wait)
        self._flow.waiting_senders = wait.sending if alone else waiting.senders(now) + wait.sending
        timer = machine.next_timeout()
        due = timer is not None and timer <= now
        if due:
            self._deliver(machine.handle_timeout(now))
        watched = not alone and waiting.has_reader(now)
        came = False
        if self._write_error is not None:
            came = self._drain(now)
        elif wait.readable and not watched:
            came = self._read(now)
        closed = machine.closed
        if came or due or self._output or closed:
            self._flush(replying=came)
        if done() or closed or (wait.deadline is not None and wait.deadline <= now):
            if closed or wait.sending or not alone:
                self._leave(wait, now)
            return True
        wait.note_input(came, now)
        if came or due:
            timer = machine.next_timeout()
        self._plan(wait, now, timer, watched)
        waiting.add(wait)
        return False

    def _plan(self, wait: Wait, now: float, timer: float | None, watched: bool) -> None:
        """Decide what a thread waits for; `watched` if another one waits for input."""
        stream, writes = self._stream, bool(self._output)
        until = wait.deadline
        if until is None or (timer is not None and timer < until):
            until = timer
        may_read = self._flow.update(now)
        reads = may_read and not watched
        if stream is None or not (reads or writes):
            wait.plan_to_sleep(now, until)
        elif self._write_error is not None or (reads and self._more_to_read):
            wait.plan_to_go_on(now)
        elif watched and wait.readable:
            # There is input, which the other thread will read.
            wait.plan_to_sleep(now, now + RETRY_DELAY)
        else:
            # A writer waits for input even if another thread does: that one may leave at any time.
            wait.plan_to_watch(now, until, stream, read=may_read, write=writes)
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
        if self._stream is None:
            return
        if when is None:
            when = self._next_tick(_clock())
        if self._tick_at is None or when < self._tick_at:
            self._tick_at = when
            ticker.schedule(self, when)

    def _next_tick(self, now: float) -> float:
        timer = self._machine.next_timeout()
        return min(now + TICK_INTERVAL, float("inf") if timer is None else timer)

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
        self._deliver(self._machine.handle_timeout(now))
        came = False
        if self._write_error is not None:
            came = self._drain(now)
        elif not self._waiting.has_reader(now):
            came = self._read(now)
        self._flush(replying=came)
        self._release()
        if self._stream is None:
            self._tick_at = None
        elif self._machine.closed or self._more_to_read or self._write_error is not None:
            self._tick_at = now + RETRY_DELAY
        else:
            self._tick_at = self._next_tick(now)
        return self._tick_at


def _raise_if_foreign(error: OSError) -> None:
    """Raise an error that is not the socket's: handlers of signals like to raise `TimeoutError`."""
    if not came_through(error, "socket", "ssl"):
        raise error
