"""Hands callbacks to the thread of a dispatcher: a queue, and a socket that says when to look.

A dispatcher is somebody else's event loop, which can wait for sockets and nothing else. It may be
slow, or be stopped and never run again, so nothing here waits for it but `put`: that keeps the
queue small, and ends once the session is over.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

__all__ = ["MAX_WAITING_ACTIONS", "Action", "Handover"]

Action: TypeAlias = Callable[[], object]

MAX_WAITING_ACTIONS: Final = 256
"""Actions that wait for the dispatcher. With more than that the session is not read any further, so
that the server has to wait, and memory stays bounded."""


class Handover:
    """Actions of one thread, to be called by another one in the same order."""

    def __init__(self) -> None:
        self._actions: deque[Action] = deque()
        # Reentrant, because a signal handler may end the session at any moment.
        self._changed = threading.Condition(threading.RLock())
        self._limited = True
        self._complete = self._acting = self._closed = False
        self.reader, self._waker = socket.socketpair()
        """Readable when `act` has something to do."""
        # Neither end may block: many wake-ups fill the buffer, and one is enough.
        self.reader.setblocking(False)
        self._waker.setblocking(False)

    # For the thread that wants actions to be called

    def put(self, action: Action) -> None:
        """Add an action, after a wait if too many are there. Does nothing once this is closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._limited or len(self._actions) < MAX_WAITING_ACTIONS
            )
            if not self._closed:
                self._actions.append(action)
                self._wake()

    def complete(self, action: Action) -> None:
        """Add the last action. So whoever calls it knows that it is the last one."""
        with self._changed:
            if not self._closed:
                self._actions.append(action)
            self._complete = True
            self._changed.notify_all()
            self._wake()

    # For the thread of the dispatcher

    def act(self) -> bool:
        """Call the actions that wait; return whether there may be more later."""
        with suppress(OSError):
            self.reader.recv(4096)
        try:
            while action := self._next():
                action()
        finally:
            self._acting = False
        return not (self._closed or (self._complete and not self._actions))

    def _next(self) -> Action | None:
        with self._changed:
            self._acting = bool(self._actions)
            self._changed.notify_all()
            return self._actions.popleft() if self._actions else None

    # For any thread

    def lift_limit(self) -> None:
        """Make `put` wait no more: the session is over, and what it still holds is bounded."""
        with self._changed:
            self._limited = False
            self._changed.notify_all()

    def retire(self) -> bool:
        """Close this if the session is over and the dispatcher has stopped; return whether it is.

        A dispatcher has stopped if it is not calling an action. It may still run again later.
        """
        with self._changed:
            if self._limited:
                return False
            # Does not take long: the session is over, and `put` waits no more.
            self._changed.wait_for(lambda: self._complete)
            if not self._acting:
                self.close()
            return self._closed

    def close(self) -> None:
        """Drop the actions, and call no more of them. Makes `reader` readable.

        `reader` stays open, because a dispatcher may be watching it.
        """
        with self._changed:
            self._closed = True
            self._actions.clear()
            self.lift_limit()
            self._waker.close()

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b"\0")
