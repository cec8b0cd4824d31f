"""Threads and sockets that exist now, to see what a test leaves behind."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Final

__all__ = ["join_threads", "open_sockets", "running_threads"]

# Threads that stay for a while on purpose: the ticker, and idle workers of trio and anyio.
_LASTING_THREADS: Final = ("soniox-ticker", "Trio thread", "AnyIO worker", "asyncio_")


def running_threads() -> set[threading.Thread]:
    """Return the threads that a test has to end."""
    return {
        thread for thread in threading.enumerate() if not thread.name.startswith(_LASTING_THREADS)
    }


def join_threads(before: set[threading.Thread], timeout: float) -> None:
    """Wait for the threads that were not there before, and for those that they start."""
    deadline = time.monotonic() + timeout
    while started := running_threads() - before:
        for thread in started:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} does not end"


def open_sockets() -> set[str]:
    """Return the sockets of this process, by name; none where the system does not list them."""
    if sys.platform != "linux":
        return set()
    found: set[str] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # The descriptor of the listing itself.
        if target.startswith("socket:"):
            found.add(target)
    return found
