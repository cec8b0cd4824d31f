"""How long does the first audio take from `connect()` to the server, 25 ms away?

Over TLS, with a round trip of 50 ms that a relay adds (`benchmarks.delaying_relay`). The clock
starts before `connect()`. It ends when the server has the first byte of audio, so at best after the
25 ms that bytes take one way. "ours, pool" is a client with `stt_connection_pool_size`, whose pool
is full at the start and refilled while the clock runs.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from benchmarks.async_contenders import run_on_asyncio
from benchmarks.harness import (
    OURS,
    SONIOX,
    Effort,
    Figure,
    Sample,
    Series,
    at_most,
    interleave,
    ratio_at_most,
)
from benchmarks.messages import API_KEY, CONFIG_FIELDS, latency_us
from benchmarks.processes import FarEnd

__all__ = ["measure"]

_ONE_WAY: Final = 0.025
_POOL: Final = "ours, pool"
_CONNECTS: Final = 5
_ROUNDS: Final = 7
_CHUNK: Final = bytes(640)

_NO_ROUND_TRIP_MS: Final = 1.5 * _ONE_WAY * 1000
"""Less than this is not enough for a round trip besides the way itself."""


def measure(effort: Effort) -> list[Figure]:
    """Connect, send a chunk, and ask the far end when it came."""
    connects, rounds = effort.operations(_CONNECTS), effort.rounds(_ROUNDS)
    figures: list[Figure] = []
    with FarEnd(secure=True, delay=_ONE_WAY) as far_end:
        url = far_end.url("/first")
        for kind, run in (("blocking", _blocking), ("asyncio", _on_asyncio)):
            samples = interleave(
                {name: partial(run, name, url, connects) for name in (SONIOX, OURS, _POOL)}, rounds
            )
            series = {
                name: Series([sample.wall / 1000 for sample in measured])
                for name, measured in samples.items()
            }
            name = f"first audio at a server 25 ms away, over TLS, {kind}"
            figures += [
                Figure(name, "ms", series),
                Figure(f"{name}, with a pool", "ms", series, ratio_at_most(0.5), contender=_POOL),
                Figure(
                    f"{name}, with a pool beside without",
                    "ms",
                    series,
                    at_most(_NO_ROUND_TRIP_MS),
                    baseline=OURS,
                    contender=_POOL,
                ),
            ]
    return figures


def _library(name: str) -> Any:
    if name == SONIOX:
        import soniox

        return soniox
    import soniox_adapters

    return soniox_adapters


def _config(name: str) -> Any:
    if name == SONIOX:
        from soniox.types import RealtimeSTTConfig as Theirs

        return Theirs(**CONFIG_FIELDS)
    return _library(name).RealtimeSTTConfig(**CONFIG_FIELDS)


def _options(name: str, url: str) -> dict[str, Any]:
    options: dict[str, Any] = {"api_key": API_KEY, "websocket_base_url": url}
    if name == _POOL:
        options["stt_connection_pool_size"] = 1
    return options


def _sample(times: list[float]) -> Sample:
    return Sample(cpu=0.0, wall=statistics.median(times))


def _blocking(name: str, url: str, connects: int) -> Sample:
    client = _library(name).SonioxClient(**_options(name, url))
    config = _config(name)
    times: list[float] = []
    for _ in range(connects):
        if name == _POOL:
            client.realtime.stt.warmup_connection_pool()
        began = time.monotonic_ns()
        with client.realtime.stt.connect(config=config) as session:
            session.send_byte_chunk(_CHUNK)
            times.append(-latency_us(session.receive_event(), began))
    client.close()
    return _sample(times)


def _on_asyncio(name: str, url: str, connects: int) -> Sample:
    async def run() -> Sample:
        client = _library(name).AsyncSonioxClient(**_options(name, url))
        config = _config(name)
        times: list[float] = []
        for _ in range(connects):
            if name == _POOL:
                await client.realtime.stt.warmup_connection_pool()
            began = time.monotonic_ns()
            async with client.realtime.stt.connect(config=config) as session:
                await session.send_byte_chunk(_CHUNK)
                times.append(-latency_us(await session.receive_event(), began))
        await client.aclose()
        return _sample(times)

    main: Callable[[], Awaitable[Sample]] = run
    return run_on_asyncio(main, asyncio.new_event_loop)
