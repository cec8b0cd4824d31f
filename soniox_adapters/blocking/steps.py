"""Steps: changes to a blocking session that happen one at a time, even when signals interrupt.

A lock keeps other threads out, but not a signal handler: Python runs handlers in the main thread,
between two bytecodes of whatever it is doing (at the start of a function, after a call, at a jump).
Without the rules below, Ctrl-C at the wrong moment would leave half of a frame on the wire for the
next call to continue, and a handler that calls `finish` would change a core that is in the middle
of another change. A handler can do two things:

- **Raise**, as the default one for SIGINT does. In a thread that is waiting this changes nothing,
  and the session stays usable. In the middle of a step the core may be half changed, or bytes may
  have been written that nobody has counted, so the session ends with an error that says so. An
  error raised by the core itself is no interruption, because the core checks before it changes
  anything; the traceback shows which of the two it was (`came_through`).
- **Call the session.** If the handler interrupted a step in the same thread, the controls
  (`finish`, `abort`, `close` and so on) are put off to the end of that step. A call that would have
  to wait for a result, for example for a message, raises `SonioxStateError`.

This has to hold at every bytecode. CPython does not check for signals between an assignment and the
statement after it, so `_busy` is set and cleared right next to a `try`, and an exception is stored
before anything is called. A function that sets `_busy` has no loop of its own: from Python 3.12 on,
the jump back to its beginning may lie outside of the handlers of the `try` around it, and signals
are looked for there. `with` is used only on locks implemented in C, because an exception can
come in the middle of an `__enter__` or `__exit__` written in Python.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from soniox_adapters.session.base import SessionBase
from soniox_proto import SonioxError, SonioxStateError

__all__ = ["SteppedSession", "came_through", "reentered"]

T = TypeVar("T")


class SteppedSession(SessionBase):
    """A session whose core, sockets and buffers change only in steps, under one lock."""

    def _set_up(self) -> None:
        self._lock = threading.RLock()
        # Whether a step is going on. The lock is reentrant, so a caller that holds it and finds
        # this set has interrupted that step: it is a signal handler.
        self._busy = False
        # Calls that signal handlers made during a step, and the exception that cut a step short.
        self._deferred: list[Callable[[], object]] = []
        self._interruption: BaseException | None = None

    def _step(self, function: Callable[[], T], *, deferrable: bool = False) -> T | None:
        """Take the lock, and run `function` as one step; called without the lock.

        Args:
            function: What to do. It must not wait, and must not call the user's code.
            deferrable: If called by a signal handler that interrupted a step, put the function off
                to the end of that step, and return None, instead of raising.

        Raises:
            SonioxStateError: A signal handler interrupted a step, and this is not `deferrable`.
        """
        with self._lock:
            if self._busy:
                if deferrable:
                    self._deferred.append(function)
                    return None
                raise self._recorded(reentered())
            if self._interruption is not None:
                self._settle()
            self._busy = True
            try:
                return function()
            except BaseException as error:
                self._interruption = error
                self._judge(error)
                raise
            finally:
                self._busy = False
                if self._deferred or self._interruption is not None:
                    self._settle_all()

    def _judge(self, error: BaseException) -> None:
        """Forget the interruption if the core raised it: it has not changed anything then."""
        if isinstance(error, SonioxError) and came_through(error):
            self._interruption = None

    def _settle(self) -> None:
        """Run one call that was put off to the end of the step, or end an interrupted session."""
        self._busy = True
        try:
            if self._interruption is not None:
                self._end_interrupted(self._interruption)
                if self._machine.closed:
                    self._deferred.clear()
                    self._interruption = None
            else:
                # The handler has returned, so it cannot be told that the session was over already.
                with suppress(SonioxError):
                    self._deferred.pop(0)()
        except BaseException as error:
            self._interruption = error
            raise
        finally:
            self._busy = False

    def _settle_all(self) -> None:
        while self._deferred or self._interruption is not None:
            self._settle()

    @abstractmethod
    def _end_interrupted(self, cause: BaseException) -> None:
        """End a session whose step was interrupted; called during a step of its own."""


def came_through(error: BaseException, *others: str) -> bool:
    """Return whether every frame in the traceback of `error` is in our modules or in `others`.

    If not, a signal handler raised it. Modules of the command line do not count as ours, because
    they contain signal handlers.
    """
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        ours = module.startswith(("soniox_proto.", "soniox_adapters."))
        if module.startswith("soniox_adapters.cli.") or not (ours or module in others):
            return False
        trace = trace.tb_next
    return True


def reentered() -> SonioxStateError:
    """Return the error for a signal handler whose call cannot be put off."""
    return SonioxStateError(
        "this was called by a signal handler that interrupted another call of the same session; "
        "only finish, finalize, keep_alive, pause, resume, close and abort are possible there"
    )
