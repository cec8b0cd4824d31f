"""A port that leaves who connects in the dark."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["listener_that_accepts_nobody", "port_that_refuses"]


@contextmanager
def port_that_refuses() -> Iterator[int]:
    """A port where every connection is refused: it is taken, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def listener_that_accepts_nobody() -> Iterator[int]:
    """A port where connections neither succeed nor fail: the queue of the listener is full."""
    waiting: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        try:
            for _ in range(16):
                client = socket.socket()
                waiting.append(client)
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
                if not select.select([], [client], [], 0.05)[1]:
                    break
            else:
                pytest.skip("this system's queue is never full")
            yield listener.getsockname()[1]
        finally:
            for client in waiting:
                client.close()
