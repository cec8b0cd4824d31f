"""Randomness that repeats: wsproto takes masks and the nonce from `os.urandom`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch


class CountingRandom:
    """Stands in for `os.urandom`; the bytes count up: 00 01 02 ... ff 00 ..."""

    def __init__(self) -> None:
        self._position = 0

    def __call__(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        return bytes(index % 256 for index in range(start, start + size))


@contextmanager
def counting_random() -> Iterator[CountingRandom]:
    """Replace `os.urandom` within the block."""
    random = CountingRandom()
    with patch.object(os, "urandom", random):
        yield random
