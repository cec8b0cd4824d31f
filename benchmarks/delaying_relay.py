"""A relay that makes the network slow: it passes bytes on after a delay, in each direction.

It runs in a thread of the far end's process. The kernel completes TCP's own handshake before the
relay sees the connection, so that round trip is not delayed: with this relay every client opens a
connection one round trip sooner than it would over a real network.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Final

__all__ = ["DelayingRelay"]

_READ_BYTES: Final = 256 * 1024


class DelayingRelay:
    """Relays connections to a port of this machine.

    Args:
        target_port: Where to.
        delay: Seconds that bytes take, one way.
    """

    def __init__(self, target_port: int, delay: float) -> None:
        self._target_port = target_port
        self._delay = delay
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._selector.register(self._listener, selectors.EVENT_READ)
        # What is on its way: when it arrives, a number for those that arrive together, where it
        # arrives, and the bytes, b"" for the end.
        self._under_way: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()
        self._peers: dict[socket.socket, socket.socket] = {}
        # Those that have got everything there is.
        self._ended: set[socket.socket] = set()

    def start(self) -> None:
        """Serve in a thread, until the process ends."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            timeout = None
            if self._under_way:
                timeout = max(0.0, self._under_way[0][0] - time.monotonic())
            for key, _ in self._selector.select(timeout):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is self._listener:
                    self._accept()
                else:
                    self._read(ready)
            while self._under_way and self._under_way[0][0] <= time.monotonic():
                _, _, destination, data = heapq.heappop(self._under_way)
                self._deliver(destination, data)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target_port))
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _read(self, source: socket.socket) -> None:
        try:
            data = source.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(source)
        arrival = time.monotonic() + self._delay
        heapq.heappush(self._under_way, (arrival, next(self._numbers), self._peers[source], data))

    def _deliver(self, destination: socket.socket, data: bytes) -> None:
        with suppress(OSError):
            if data:
                destination.sendall(data)
                return
            destination.shutdown(socket.SHUT_WR)
        if not data:
            self._ended.add(destination)
            other = self._peers[destination]
            if other in self._ended:
                for one in (destination, other):
                    self._ended.discard(one)
                    del self._peers[one]
                    one.close()
