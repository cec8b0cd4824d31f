"""Idle connections of a blocking client: opened in the background, kept alive by the ticker.

A connection that waits has no thread. The ticker visits all of a client's at once, reads what has
come, lets the pool do what is due and writes that. Opening one takes a thread, as it does for a
later link of a session, because the ticker must not wait for DNS, TCP and TLS.

One lock guards the pool and the sockets. Nothing waits while holding it, and no lock of a session
is taken meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from soniox_adapters.blocking.ticker import Schedule, ticker
from soniox_adapters.session.api_keys import APIKeyFunction, asked_key, key_errors
from soniox_adapters.session.options import SessionOptions
from soniox_adapters.session.preconnect import (
    ConnectArguments,
    IdleConnectionsBase,
    PoolSettings,
    upgrade_request,
)
from soniox_proto import APIKey, SonioxConnectionError
from soniox_proto.errors import fresh

if TYPE_CHECKING:
    from soniox_adapters.blocking.socket_stream import SocketStream
    from soniox_adapters.connecting.blocking import BlockingTransport, Connecting
    from soniox_proto.preconnect.idle_link import IdleLink

__all__ = ["IdleConnections", "IdleSocket"]

TICK_INTERVAL: Final = 1.0
"""Seconds between the ticker's visits, so at most how long the end of a connection goes unseen."""

RETRY_DELAY: Final = 0.01
"""Seconds before the ticker tries again what another thread is about to do."""

CLOSE_GRACE: Final = 0.5
"""Seconds that closing waits for threads that open connections to end."""

LONGEST_LOOK: Final = 1.0
"""Seconds of one wait for the answer to an upgrade, after which to see whether it is wanted."""


class IdleSocket(NamedTuple):
    """An idle link and its socket."""

    link: IdleLink
    stream: SocketStream


class IdleConnections(IdleConnectionsBase):
    """The idle connections of a `SonioxClient`. Any thread may use them."""

    _clock: Callable[[], float] = staticmethod(time.monotonic)
    _ticker: Schedule = ticker

    def __init__(self, url: str, arguments: ConnectArguments, settings: PoolSettings) -> None:
        super().__init__(url, arguments, settings)
        self._abandoned = False
        self._start_over()
        _every_one.add(self)

    def _start_over(self) -> None:
        self._lock = threading.RLock()
        # Notified when a link is open or has failed, and when all are closed.
        self._settled = threading.Condition(self._lock)
        self._pool = self._make_pool()
        self._sockets: list[IdleSocket] = []
        self._opening: dict[threading.Thread, Connecting | None] = {}
        # Links whose thread polls their socket for the answer to the upgrade.
        self._unanswered: set[IdleLink] = set()
        self._tick_at: float | None = None

    def take(self, options: SessionOptions) -> IdleSocket | None:
        """Hand out a connection for a session with these options, and have the pool refilled."""
        with self._lock:
            if self._closed or not self._serves(options):
                return None
            now = self._clock()
            # One that ended a moment ago may not have been visited since.
            self._read(now)
            link = self._pool.take(now)
            taken = next((one for one in self._sockets if one.link is link), None)
            if taken is not None:
                self._write()
                self._sockets.remove(taken)
            # By the ticker, because starting threads takes longer than this.
            self._reschedule(max(now, self._pool.next_timeout() or now))
        return taken

    def warm_up(self, options: SessionOptions) -> None:
        """Open connections, and wait until there are as many as wanted, or some have failed.

        Raises the error of one that failed if there is none at all.
        """
        with self._lock:
            self._require(options)
            self._pool.connect_timeout = options.connect_timeout_sec
            self._pool.hurry(self._clock())
            self._open_wanted()
            # The links and not their threads, which may be in the user's code without end.
            while self._pool.opening and not self._closed:
                due = self._pool.next_timeout()
                self._settled.wait(None if due is None else max(0.0, due - self._clock()))
                self._pool.handle_timeout(self._clock())
            self._pool.handle_timeout(self._clock())
            error = self._pool.last_error
            if error is not None and not self._pool.ready and not self._closed:
                raise fresh(error)

    def close(self) -> None:
        """Close all connections. Safe to repeat."""
        self._close()
        # They have been told to end. One that is in the user's code may take its time.
        until = time.monotonic() + CLOSE_GRACE
        for thread in tuple(self._opening):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            self._pool.close()
            self._write()
            self._drop_closed()
            for connecting in self._opening.values():
                if connecting is not None:
                    connecting.cancel()
            self._settled.notify_all()

    def abandon(self) -> None:
        """Close all connections soon: the client is gone.

        Called by the garbage collector, perhaps in the middle of any of these methods.
        """
        self._closed = self._abandoned = True
        # The ticker does not keep what it visits alive.
        _abandoned.add(self)
        self._ticker.schedule(self, self._clock())

    def drop(self) -> None:
        """Forget all connections in a process that was forked: they belong to its parent."""
        sockets = self._sockets
        self._start_over()
        for _, stream in sockets:
            # Only the descriptor of this process. Nothing is sent, not even by TLS.
            stream.close()

    # Opening

    def _open_wanted(self) -> None:
        given = self._to_connect_with()
        if given is None or self._closed:
            return
        arguments, options = given
        for link in self._pool.links_to_open(self._clock()):
            thread = threading.Thread(
                # Functions of the user's find the context of the first session, or warm-up.
                target=arguments.context.copy().run,
                args=(self._open, link, arguments.api_key, options),
                name="soniox-idle-link",
                daemon=True,
            )
            self._opening[thread] = None
            try:
                thread.start()
            except Exception as error:
                # The system has no more threads. Otherwise the link would count as being opened.
                del self._opening[thread]
                link.failed(self._connect_error(error, options), self._clock())
                self._reschedule(self._clock())

    def _open(
        self, link: IdleLink, api_key: APIKey | APIKeyFunction, options: SessionOptions
    ) -> None:
        """Open a link, up to the accepted upgrade; called in a thread, without the lock."""
        from soniox_adapters.blocking.polling import wait_for_streams

        stream: SocketStream | None = None
        try:
            stream = self._open_stream(link, api_key, options)
            while stream is not None and not (link.is_open or link.closed):
                wait_for_streams([(stream, True, False)], LONGEST_LOOK)
                with self._lock:
                    self._read(self._clock())
                    self._drop_closed()
        except BaseException as error:
            # This thread belongs to nobody who could be told. The pool tries again later.
            with self._lock:
                link.failed(self._connect_error(error, options), self._clock())
        finally:
            with self._lock:
                self._unanswered.discard(link)
                self._drop_closed()
                self._opening.pop(threading.current_thread(), None)
                self._reschedule(self._clock())
                self._settled.notify_all()

    def _open_stream(
        self, link: IdleLink, api_key: APIKey | APIKeyFunction, options: SessionOptions
    ) -> SocketStream | None:
        from soniox_adapters.blocking.socket_stream import SocketStream
        from soniox_adapters.connecting.blocking import ConnectCancelledError, Connecting

        with key_errors():
            key = asked_key(api_key) if callable(api_key) else api_key
            request = upgrade_request(key, options)
        with self._lock:
            if self._closed:
                return None
            link.connect(request)
            connecting = Connecting(link.open_by)
            self._opening[threading.current_thread()] = connecting
        try:
            connected = connecting.open(
                link.endpoint,
                ssl_context=options.ssl_context,
                proxy=options.proxy,
                transport=cast("BlockingTransport | None", options.transport),
            )
        except ConnectCancelledError:
            return None
        stream = SocketStream(connected)
        with self._lock:
            self._sockets.append(IdleSocket(link, stream))
            self._unanswered.add(link)
            now = self._clock()
            if connecting.answer is None:
                link.opened(now)
            else:
                link.upgraded(now, connecting.answer)
            self._write()
        return stream

    # Bytes; called with the lock

    def _read(self, now: float) -> None:
        for link, stream in self._sockets:
            while not (link.closed or link.taken):
                try:
                    data = stream.read()
                except OSError as error:
                    link.failed(_lost(error), now)
                    break
                if data is None:
                    break
                if data:
                    link.receive_data(data, now)
                else:
                    link.receive_eof(now)

    def _write(self) -> None:
        for link, stream in self._sockets:
            # What one that was taken has to say, an answer to a ping perhaps, goes with it.
            data = b"" if link.taken else link.data_to_send()
            if not data:
                continue
            try:
                # So little is sent that a kernel which does not take it has a dead connection.
                if stream.write(data) < len(data):
                    link.failed(_lost(BlockingIOError("it takes no data")), self._clock())
            except OSError as error:
                link.failed(_lost(error), self._clock())

    def _drop_closed(self) -> None:
        """Close the sockets of links that have ended."""
        for one in tuple(self._sockets):
            # One that was taken is here only if an exception interrupted `take`.
            if one.link.closed or one.link.taken or self._closed:
                if one.link in self._unanswered:
                    # Closing a descriptor does not wake a thread that polls it. The thread closes
                    # it as soon as it is awake.
                    one.stream.shutdown()
                    continue
                self._sockets.remove(one)
                with suppress(OSError):
                    one.stream.close()

    # The ticker

    def _reschedule(self, when: float) -> None:
        if self._tick_at is None or when < self._tick_at:
            self._tick_at = when
            self._ticker.schedule(self, when)

    def tick(self) -> float | None:
        """Do what is due, and return when to come again; called by the ticker, without the lock."""
        if not self._lock.acquire(blocking=False):
            return self._clock() + RETRY_DELAY
        try:
            return self._tend()
        finally:
            self._lock.release()

    def _tend(self) -> float | None:
        now = self._clock()
        if self._abandoned:
            self._close()
            _abandoned.discard(self)
            return None
        if self._tick_at is None or now < self._tick_at:
            return None
        self._read(now)
        self._pool.handle_timeout(now)
        self._open_wanted()
        self._write()
        self._drop_closed()
        self._tick_at = self._pool.next_timeout()
        if self._sockets:
            self._tick_at = min(now + TICK_INTERVAL, self._tick_at or now + TICK_INTERVAL)
        return self._tick_at


def _lost(error: OSError) -> SonioxConnectionError:
    failure = SonioxConnectionError(f"the idle connection was lost: {error.strerror or error}")
    failure.__cause__ = error
    return failure


_abandoned: set[IdleConnections] = set()
_every_one: weakref.WeakSet[IdleConnections] = weakref.WeakSet()


def _drop_after_fork() -> None:
    for connections in tuple(_every_one):
        connections.drop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_after_fork)
