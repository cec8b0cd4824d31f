"""What input costs: memory while it is taken, memory that is kept, and how time grows with size."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from pydantic import BaseModel

from tests.support.attributes import attributes

__all__ = ["KIBIBYTE", "MEBIBYTE", "check_linear", "kept_size", "peak_memory"]

KIBIBYTE: Final = 1024
MEBIBYTE: Final = 1024 * KIBIBYTE

_GROWTH: Final = 8
"""How many times larger the larger input is: linear work takes 8 times as long, quadratic 64."""

_LIMIT: Final = 24.0
"""Between the two, on a machine that does other things as well."""

_ATTEMPTS: Final = 4


def peak_memory(action: Callable[[], object]) -> int:
    """Return how many bytes `action` had allocated at most, beyond what was there before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        action()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


def kept_size(root: object) -> int:
    """Return the size of all bytes, texts and lists that `root` holds, however far inside.

    Parsed messages are left out: their size is that of what they say.
    """
    seen: set[int] = set()
    size = 0
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (bytes, bytearray, str, list)):
            size += item.__sizeof__()
        waiting += _held_by(item)
    return size


def _held_by(item: object) -> Iterable[object]:
    if isinstance(item, Mapping):
        return [*item.keys(), *item.values()]
    if isinstance(item, (list, tuple, set, frozenset, deque)):
        return item
    if isinstance(item, (type, BaseModel)) or callable(item):
        return ()
    return attributes(item).values()


def check_linear(prepare: Callable[[int], Callable[[], object]], size: int) -> None:
    """Fail unless work on an input of `size` and on one 8 times as large differ about 8 times.

    `prepare(size)` makes the input and returns the work. Processor time is compared, the least of
    several attempts, because a machine may be busy but is never too fast.
    """
    small = large = float("inf")
    for _ in range(_ATTEMPTS):
        small = min(small, _processor_time(prepare(size)))
        large = min(large, _processor_time(prepare(size * _GROWTH)))
        if large < small * _LIMIT:
            return
    raise AssertionError(f"{_GROWTH} times the input takes {large / small:.0f} times as long")


def _processor_time(work: Callable[[], object]) -> float:
    with _no_garbage_collection():
        start = time.process_time()
        work()
        return time.process_time() - start


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
