"""Reads become small while what comes in takes long to handle, and large again afterwards."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import pytest

import soniox_adapters.async_.on_asyncio
import soniox_adapters.async_.on_streams
from soniox_adapters.async_.on_asyncio import AsyncioTransport
from soniox_adapters.async_.on_streams import StreamTransport
from soniox_adapters.session.read_size import LARGEST_READ, SMALLEST_READ, STEP_TIME, ReadSize
from tests.support.adapters.server import PATIENCE
from tests.support.adapters.transports import Notes, connect_options


def test_a_read_that_takes_its_time_keeps_its_size() -> None:
    size = ReadSize()
    before = size.value
    size.adapt(STEP_TIME)
    assert size.value == before


def test_slow_reads_shrink_to_a_bound_and_fast_ones_grow_to_another() -> None:
    size = ReadSize()
    size.adapt(2 * STEP_TIME)
    assert size.value == LARGEST_READ // 8
    size.adapt(1000.0)
    assert size.value == SMALLEST_READ
    size.adapt(STEP_TIME / 2)
    assert size.value == 2 * SMALLEST_READ
    size.adapt(0.0)
    assert size.value == LARGEST_READ


@pytest.mark.anyio
@pytest.mark.parametrize("on_a_stream", [False, True], ids=["own", "stream"])
async def test_a_transport_reads_less_when_the_core_is_slow(
    anyio_backend: str, on_a_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is what the test says: each byte takes a tenth of what a step may take."""
    now = 0.0
    sizes: list[int] = []
    done = anyio.Event()

    class Slow(Notes):
        def data_received(self, data: bytes) -> None:
            nonlocal now
            now += len(data) * STEP_TIME / 10
            sizes.append(len(data))
            if sum(sizes) == LARGEST_READ:
                done.set()

    def clock() -> float:
        return now

    monkeypatch.setattr(soniox_adapters.async_.on_asyncio, "perf_counter", clock)
    monkeypatch.setattr(soniox_adapters.async_.on_streams, "clock_of_work", lambda: clock)
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    with far:
        await anyio.to_thread.run_sync(far.sendall, bytes(LARGEST_READ))
        on_asyncio = anyio_backend == "asyncio" and not on_a_stream
        transport = AsyncioTransport(Slow()) if on_asyncio else StreamTransport(Slow())
        given: Any = near
        if on_a_stream and anyio_backend == "asyncio":
            given = await anyio.abc.UNIXSocketStream.from_socket(near)
        with anyio.fail_after(PATIENCE):
            await transport.open(connect_options(given))
            await done.wait()
            transport.close()
            await transport.wait_closed()
    assert sizes[0] == LARGEST_READ // 4
    assert set(sizes[1:]) == {SMALLEST_READ}
