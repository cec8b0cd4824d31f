"""Finds where the head of an HTTP message ends, because WebSocket frames may follow it directly.

The handshake itself is parsed by h11, inside wsproto. It is given the head alone, so that frames
after it can be read directly, and so that its size limit does not depend on where reads end.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_BODY_SIZE", "MAX_HEAD_SIZE", "HeadScanner", "is_interim_answer"]

MAX_HEAD_SIZE: Final = 16 * 1024
"""Bytes of the largest head of a request or an answer. This is h11's limit, but h11 checks it only
between reads, so that it would depend on where reads end."""

MAX_BODY_SIZE: Final = 64 * 1024
"""Bytes kept of the body of a refused upgrade: enough for any explanation."""

_END = re.compile(rb"\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")


def is_interim_answer(head: bytes) -> bool:
    """Return whether a head is that of an interim answer, which another one follows.

    That is any status 1xx except 101, for example 100 or 103. A client must be able to parse them,
    and may ignore those that it does not expect (RFC 9110 section 15.2).
    """
    return _INTERIM.match(head) is not None


class HeadScanner:
    """Finds the empty line that ends a head (RFC 9112 section 2.1), in pieces of any size."""

    __slots__ = ("_size", "_tail", "complete", "too_large")

    def __init__(self) -> None:
        self._size = 0
        # The last bytes of the piece before: the empty line may begin there.
        self._tail = b""
        self.complete = False
        """Whether what was scanned last ends a head."""
        self.too_large = False
        """Whether the head is larger than `MAX_HEAD_SIZE`."""

    def scan(self, data: bytes) -> int:
        """Return how many bytes of `data` belong to the head. Scan the next head from there on."""
        tail = self._tail
        found = _END.search(tail + data)
        self.complete = found is not None
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
