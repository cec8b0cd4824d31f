"""Where the head of an HTTP message ends, so that frames behind it can be told apart."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_HEAD_SIZE", "HeadScanner"]

MAX_HEAD_SIZE: Final = 16 * 1024
"""Bytes of the largest head of a request or an answer: h11's own limit, kept however it is cut."""

_END = re.compile(rb"\n\r?\n")


class HeadScanner:
    """Finds the empty line that ends a head (RFC 9112 section 2.1), in pieces of any size."""

    __slots__ = ("_size", "_tail", "too_large")

    def __init__(self) -> None:
        self._size = 0
        # The end of what came before may be the beginning of the line that ends it all.
        self._tail = b""
        self.too_large = False
        """Whether the head is larger than `MAX_HEAD_SIZE`."""

    def scan(self, data: bytes) -> int:
        """Return how much of `data` still belongs to the head. The next head follows behind."""
        tail = self._tail
        found = _END.search(tail + data)
        if found is None:
            self._tail = (tail + data)[-2:]
            end = len(data)
            self._size += end
            self.too_large = self._size > MAX_HEAD_SIZE
        else:
            self._tail = b""
            end = found.end() - len(tail)
            self.too_large = self._size + end > MAX_HEAD_SIZE
            self._size = 0
        return end
