"""Waiting for what other threads are about to do."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

from tests.support.adapters.server import PATIENCE

__all__ = ["be_collected", "come_true"]


def come_true(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def be_collected(reference: weakref.ref[Any]) -> None:
    """Wait until an object has gone."""

    def gone() -> bool:
        # More than once: the ticker may be visiting it at this moment.
        gc.collect()
        return reference() is None

    come_true(gone)
