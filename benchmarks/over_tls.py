"""What do the same things cost when the connection is TLS?"""

from __future__ import annotations

from typing import Final

from benchmarks.async_contenders import ASYNCIO_CONTENDERS
from benchmarks.blocking_contenders import BLOCKING_CONTENDERS
from benchmarks.contenders import BARE_SOCKET
from benchmarks.harness import OURS, SONIOX, Effort, Figure
from benchmarks.opening import compare_opening
from benchmarks.processes import FarEnd
from benchmarks.streams import compare_blocking, compare_on_asyncio, receiving, sending

__all__ = ["measure"]

_ROUNDS: Final = 5

# aiohttp reads the trust store when it is imported, before the far end's certificate is added.
_LEFT_OUT: Final = {BARE_SOCKET, "aiohttp"}
_BLOCKING: Final = [one for one in BLOCKING_CONTENDERS if one.name not in _LEFT_OUT]
_ASYNCIO: Final = [one for one in ASYNCIO_CONTENDERS if one.name not in _LEFT_OUT]


def measure(effort: Effort) -> list[Figure]:
    """Send, receive and open over TLS, with certificates verified."""
    exercises = {
        "send a 640 B chunk over TLS": sending(640, effort.operations(3_000)),
        "send a 32 KiB chunk over TLS": sending(32 * 1024, effort.operations(1_000)),
        "receive a 20-token event over TLS": receiving(20, effort.operations(1_000)),
    }
    rounds = effort.rounds(_ROUNDS)
    figures: list[Figure] = []
    with FarEnd(secure=True) as far_end:
        for name, exercise in exercises.items():
            blocking = compare_blocking(_BLOCKING, exercise, far_end, rounds)
            figures.append(Figure(f"{name}, blocking", "µs", blocking))
            asynchronous = compare_on_asyncio(_ASYNCIO, exercise, far_end, rounds)
            figures.append(Figure(f"{name}, asyncio", "µs", asynchronous))
        figures += compare_opening(
            "open a session over TLS",
            [one for one in _BLOCKING if one.name in {OURS, SONIOX}],
            [one for one in _ASYNCIO if one.name in {OURS, SONIOX}],
            far_end,
            sessions=effort.operations(15),
            rounds=rounds,
        )
    return figures
