"""How many idle connections there should be, when to replace them, and which one to hand out.

`ConnectionPool` is pure. Its driver opens byte streams and moves the bytes of the links, as for a
`Stream`::

    for link in pool.links_to_open(now):
        link.connect(request)  # with the API key, asked for each link
        ...  # open a byte stream to link.endpoint, then call link.opened or link.failed
    for link in links:
        ...  # write link.data_to_send(); close the byte stream once link.closed
    # wait until one is readable, or until pool.next_timeout()
    link.receive_data(data, now)  # or link.receive_eof, or pool.handle_timeout

`take` hands a link out, once. The pool forgets it and wants another, a moment later: the session's
first audio should not have to share the processor with another TLS handshake.

How long the service lets a connection wait is not documented, so none is used for longer than
`max_lifetime`, and `refresh_before` seconds earlier the pool asks for its successor. Once that is
open the old one is closed.

A link that fails to open, or ends before it was of any use, is not replaced at once: the service
may be down, the key may be wrong, or too many connections may be open. The pool waits for a second
after the first failure, then twice as long each time, up to a minute; a minute at once if the error
is one that trying again does not help.
"""

from __future__ import annotations

from typing import Final

from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import SonioxRealtimeError
from soniox_proto.options import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_IDLE_MAX_LIFETIME,
    DEFAULT_IDLE_REFRESH_BEFORE,
    check_pool_options,
)
from soniox_proto.preconnect.idle_link import IdleLink

__all__ = ["ConnectionPool"]

_REFILL_DELAY: Final = 0.05
"""Seconds after a link was handed out before another is opened."""

_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 60.0


class ConnectionPool:
    """Decides about idle connections to one endpoint.

    Times are seconds (float) on any monotonic clock.

    Args:
        endpoint: Where to connect to.
        size: How many idle connections to keep.
        max_lifetime: Seconds after which an idle connection is not used any more.
        refresh_before: Seconds before that at which it is replaced.
        connect_timeout: Seconds that opening one may take, or None for no limit.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        size: int,
        max_lifetime: float = DEFAULT_IDLE_MAX_LIFETIME,
        refresh_before: float = DEFAULT_IDLE_REFRESH_BEFORE,
        connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT,
    ) -> None:
        check_pool_options(size, max_lifetime, refresh_before)
        self._endpoint = endpoint
        self._size = size
        self._max_lifetime = max_lifetime
        self._refresh_after = max_lifetime - refresh_before
        self.connect_timeout = connect_timeout
        """Seconds that opening one may take, or None for no limit."""
        # Connecting or open, oldest first.
        self._links: list[IdleLink] = []
        # Open, and so old that their successors were wanted; oldest first.
        self._aging: list[IdleLink] = []
        self._failures = 0
        # Before this no link is opened.
        self._open_at = float("-inf")
        self._last_error: SonioxRealtimeError | None = None
        self._closed = False

    # Views

    @property
    def closed(self) -> bool:
        """Whether the pool was closed; it wants no more links and hands none out."""
        return self._closed

    @property
    def ready(self) -> int:
        """How many links are open."""
        return sum(link.is_open for link in (*self._aging, *self._links))

    @property
    def opening(self) -> bool:
        """Whether links are being opened now."""
        return any(not link.is_open and not link.closed for link in self._links)

    @property
    def last_error(self) -> SonioxRealtimeError | None:
        """Why the latest link failed; None if none has since the last `hurry`."""
        return self._last_error

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        times: list[float] = []
        for links, age in ((self._aging, self._max_lifetime), (self._links, self._refresh_after)):
            for link in links:
                due = link.next_timeout()
                if due is not None:
                    times.append(due)
                if link.opened_at is not None:
                    times.append(link.opened_at + age)
        # One that has ended since the last call is missing already.
        if not self._closed and sum(not link.closed for link in self._links) < self._size:
            times.append(self._open_at)
        return min(times, default=None)

    # Calls by the driver

    def links_to_open(self, now: float) -> list[IdleLink]:
        """Return the links that are wanted now; each is returned once.

        Ask again after every other call, on the pool and on its links.
        """
        self._settle(now)
        if self._closed or now < self._open_at:
            return []
        timeout = self.connect_timeout
        wanted = [
            IdleLink(self._endpoint, open_by=None if timeout is None else now + timeout)
            for _ in range(self._size - len(self._links))
        ]
        self._links += wanted
        return wanted

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        for link in (*self._aging, *self._links):
            link.handle_timeout(now)
        self._settle(now)

    def take(self, now: float) -> IdleLink | None:
        """Hand out a link for a session to start on; None if there is none.

        The oldest goes first, so that few have to be replaced because of their age.
        """
        self._settle(now)
        for links in (self._aging, self._links):
            for link in links:
                if link.can_be_taken(now):
                    links.remove(link)
                    link.take()
                    self._open_at = max(self._open_at, now + _REFILL_DELAY)
                    return link
        return None

    def hurry(self, now: float) -> None:
        """Let links be opened now, instead of after a failure's delay or a session's start.

        What failed before is forgotten, because it says nothing about the links of now.
        """
        self._settle(now)
        self._open_at = float("-inf")
        self._last_error = None

    def close(self) -> None:
        """End all links, and want no more. Safe to repeat."""
        self._closed = True
        for link in (*self._aging, *self._links):
            link.retire()
        self._aging.clear()
        self._links.clear()

    # Inside

    def _settle(self, now: float) -> None:
        """Forget links that have ended, and replace those that are too old."""
        for link in (*self._aging, *self._links):
            if link.closed:
                self._note_end(link, now)
            elif link.proven:
                self._failures = 0
        self._aging = [link for link in self._aging if not link.closed]
        self._links = [link for link in self._links if not link.closed]
        for link in tuple(self._links):
            if link.opened_at is not None and now >= link.opened_at + self._refresh_after:
                self._links.remove(link)
                self._aging.append(link)
        young = sum(link.is_open for link in self._links)
        for link in tuple(self._aging):
            assert link.opened_at is not None, "only open links age"
            expired = now >= link.opened_at + self._max_lifetime
            if expired or young + len(self._aging) > self._size:
                self._aging.remove(link)
                link.retire()

    def _note_end(self, link: IdleLink, now: float) -> None:
        error = link.error
        assert error is not None, "a closed link has an error"
        self._last_error = error
        # One of use is replaced at once. Of several that fail together, one counts.
        if link.proven or now < self._open_at:
            return
        delay = _LONGEST_DELAY
        if error.retryable:
            delay = min(_FIRST_DELAY * 2.0**self._failures, _LONGEST_DELAY)
            delay = max(delay, error.retry_after or 0.0)
        self._failures = min(self._failures + 1, 10)
        self._open_at = now + delay
