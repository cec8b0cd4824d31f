"""Waiting for what other threads are about to do."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.support.adapters.server import PATIENCE

__all__ = ["come_true"]


def come_true(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
