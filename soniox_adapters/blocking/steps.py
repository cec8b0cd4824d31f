"""One step of a blocking session at a time, whatever signal handlers do.

Python runs the handlers of signals in the main thread, between any two bytecodes at which it looks
for them: at the beginnings of functions, after calls, at jumps. What a handler may do:

- It may raise. While a thread waits for the socket, that changes nothing, and the session can be
  used on. In the middle of a step the core may be half changed, or bytes may be written that nobody
  has counted, so the session ends with an error that says so. Where the exception came from tells
  the two apart from a refusal: the core refuses before it changes anything.
- It may call the session. If it interrupted a step of the same thread, the controls (`finish`,
  `abort`, `close` and so on) are kept and run at the end of that step; what has a result to wait
  for raises `SonioxStateError`.

For that to hold at every bytecode, `_busy` is set and cleared right beside a `try`, an exception is
noted before anything is called, and `with` is used on locks written in C only: between an
assignment and the next, CPython does not look for signals.
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
    """A session whose core, socket and buffers change in steps, under one lock."""

    def _set_up(self) -> None:
        self._lock = threading.RLock()
        # Whether a step is going on; seen by the thread that holds the lock only.
        self._busy = False
        # What signal handlers asked for during a step, and what cut a step short.
        self._deferred: list[Callable[[], object]] = []
        self._interruption: BaseException | None = None

    def _step(self, function: Callable[[], T], *, deferrable: bool = False) -> T | None:
        """Take the lock, and run `function` as one step; called without the lock.

        Args:
            function: What to do: without waiting, and without calling anything of the user's.
            deferrable: Whether a signal handler that interrupted a step may leave this for later;
                None is returned then.
        """
        with self._lock:
            if self._busy:
                if deferrable:
                    self._deferred.append(function)
                    return None
                raise reentered()
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
                while self._deferred or self._interruption is not None:
                    self._settle()

    def _judge(self, error: BaseException) -> None:
        """Forget the interruption if it is none: the core refuses before it changes anything."""
        if isinstance(error, SonioxError) and came_through(error):
            self._interruption = None

    def _settle(self) -> None:
        """At the end of a step: do what a signal handler asked for meanwhile, or broke off."""
        self._busy = True
        try:
            if self._interruption is not None:
                self._end_interrupted(self._interruption)
                if self._machine.closed:
                    self._deferred.clear()
                    self._interruption = None
            else:
                # Nobody is there to be told that the session was over already.
                with suppress(SonioxError):
                    self._deferred.pop(0)()
        except BaseException as error:
            self._interruption = error
            raise
        finally:
            self._busy = False

    @abstractmethod
    def _end_interrupted(self, cause: BaseException) -> None:
        """End a session that was interrupted in the middle of a step; called during one."""


def came_through(error: BaseException, *others: str) -> bool:
    """Return whether `error` came up through our own modules, and `others`, alone.

    If not, a signal handler raised it: its frame is among those of the traceback. The command line
    is not counted as ours, because it has such handlers.
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
    """Return the refusal of a call whose result would have to be waited for."""
    return SonioxStateError(
        "this was called by a signal handler that interrupted another call of the same session; "
        "only finish, finalize, keep_alive, pause, resume, close and abort are possible there"
    )
