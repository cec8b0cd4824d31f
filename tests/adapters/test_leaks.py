"""A thousand sessions of every ending leave nothing behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import os
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import anyio
import pytest
import trio

import soniox_adapters
import soniox_proto
from soniox_adapters import AsyncRealtimeSTTSession, RealtimeSTTSession, SonioxError
from soniox_adapters.blocking.ticker import ticker
from tests.adapters.test_scenarios import DeliberateError, server_of
from tests.support.adapters.scenarios import SCENARIOS, TIMES, Scenario, User
from tests.support.adapters.server import PATIENCE, FakeServer, Peer
from tests.support.core.messages import API_KEY, CONFIG

SESSIONS: Final = 1000
WARM_UP: Final = len(SCENARIOS)
"""Sessions before the first count: caches fill, modules load."""

SESSIONS_OF_A_SCENARIO: Final = SESSIONS // len(SCENARIOS)
BYTES_OF_A_REFERENCE: Final = 4
"""Less than a list or a dictionary grows by with each item."""

PACKAGES: Final = tuple(
    os.path.dirname(str(package.__file__)) for package in (soniox_proto, soniox_adapters)
)


def options_of(scenario: Scenario) -> Mapping[str, Any]:
    """Options of a scenario, with deadlines a tenth as long: a thousand have to wait for them."""
    options = {**TIMES, "proxy": None, **scenario.options}
    return {
        name: value / 10 if isinstance(value, float) and value <= 0.2 else value
        for name, value in options.items()
    }


class Count:
    """What exists now: our objects, threads, open descriptors, and memory by line of our code."""

    def __init__(self, folders: Iterable[str] = PACKAGES) -> None:
        clear_bounded_caches()
        gc.collect()
        gc.collect()
        self.objects = sum(
            is_ours(type(thing)) and not isinstance(thing, type) for thing in gc.get_objects()
        )
        self.threads = threading.active_count()
        self.descriptors = len(os.listdir("/proc/self/fd"))
        filters = [tracemalloc.Filter(True, f"{folder}/*") for folder in folders]
        self.memory = tracemalloc.take_snapshot().filter_traces(filters)


def is_ours(thing: Any) -> bool:
    return str(thing.__module__).partition(".")[0] in {"soniox_proto", "soniox_adapters"}


def clear_bounded_caches() -> None:
    """Empty caches such as the one of parsed URLs: what they keep does not grow."""
    for thing in gc.get_objects():
        cache = isinstance(thing, functools._lru_cache_wrapper) and is_ours(thing)
        if cache and thing.cache_parameters()["maxsize"] is not None:
            thing.cache_clear()


def check_counts(before: Count, after: Count) -> None:
    assert after.objects <= before.objects
    assert after.threads <= before.threads
    assert after.descriptors <= before.descriptors
    assert not lines_that_leak(before, after)


def lines_that_leak(before: Count, after: Count) -> list[str]:
    """Return the lines of our code that left something behind in each session of a scenario.

    The sum over all lines does not show that: interpreters keep caches beside functions that are
    called often, a block or two for each, which comes to more than a small leak.
    """
    return [
        str(line)
        for line in after.memory.compare_to(before.memory, "lineno")
        if line.count_diff >= SESSIONS_OF_A_SCENARIO
        or line.size_diff >= SESSIONS * BYTES_OF_A_REFERENCE
    ]


def run_blocking(url: str, scenario: Scenario) -> None:
    session = RealtimeSTTSession(url, CONFIG, API_KEY, **options_of(scenario))
    try:
        with session:
            while session.receive_event() is not None:
                match scenario.user:
                    case User.CLOSES:
                        session.close()
                    case User.ABORTS:
                        session.abort()
                    case User.ABORTS_WITH_CAUSE:
                        session.abort(DeliberateError())
                    case User.RAISES | User.IS_CANCELLED:
                        raise DeliberateError
                    case User.RECEIVES:
                        pass
    except (SonioxError, DeliberateError):
        pass


async def run_async(url: str, scenario: Scenario) -> None:
    session = AsyncRealtimeSTTSession(url, CONFIG, API_KEY, **options_of(scenario))
    with anyio.CancelScope() as scope:
        try:
            async with session:
                while await session.receive_event() is not None:
                    match scenario.user:
                        case User.CLOSES:
                            await session.close()
                        case User.ABORTS:
                            await session.abort()
                        case User.ABORTS_WITH_CAUSE:
                            await session.abort(DeliberateError())
                        case User.RAISES:
                            raise DeliberateError
                        case User.IS_CANCELLED:
                            scope.cancel()
                            await anyio.sleep_forever()
                        case User.RECEIVES:
                            pass
        except (SonioxError, DeliberateError):
            pass


class Batch:
    """Scenarios one after the other, and the server's side of the one that is under way.

    Connections are not counted to find it: a session whose time to connect is short may give up
    before it has made any.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._current = SCENARIOS[0]

    def __iter__(self) -> Iterator[Scenario]:
        for scenario in itertools.islice(itertools.cycle(SCENARIOS), self._size):
            self._current = scenario
            yield scenario

    def server(self, peer: Peer) -> None:
        server_of(self._current)(peer)


@pytest.fixture(autouse=True)
def traced_memory() -> Any:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def wait_for_the_ticker(before: int) -> None:
    """Wait until the ticker has forgotten the sessions that are closed, within its interval."""
    deadline = time.monotonic() + PATIENCE
    while ticker.scheduled > before:
        assert time.monotonic() < deadline, "the ticker remembers sessions that are closed"
        time.sleep(0.05)


def test_blocking_sessions() -> None:
    others = ticker.scheduled

    def run(size: int) -> None:
        scenarios = Batch(size)
        with FakeServer(scenarios.server) as server:
            for scenario in scenarios:
                run_blocking(server.url, scenario)
        wait_for_the_ticker(others)

    run(WARM_UP)
    before = Count()
    run(SESSIONS)
    check_counts(before, Count())


async def run_all(size: int) -> None:
    scenarios = Batch(size)
    with FakeServer(scenarios.server) as server:
        for scenario in scenarios:
            await run_async(server.url, scenario)


def test_sessions_on_asyncio() -> None:
    async def main() -> None:
        await run_all(WARM_UP)
        before, tasks = Count(), len(asyncio.all_tasks())
        timers = len(vars(asyncio.get_running_loop())["_scheduled"])
        await run_all(SESSIONS)
        assert len(asyncio.all_tasks()) == tasks
        # Cancelled timers stay in the loop's heap until half of it is.
        assert len(vars(asyncio.get_running_loop())["_scheduled"]) <= timers + 100
        check_counts(before, Count())

    asyncio.run(main())


def test_sessions_on_trio() -> None:
    async def main() -> None:
        await run_all(WARM_UP)
        before, tasks = Count(), trio.lowlevel.current_statistics().tasks_living
        await run_all(SESSIONS)
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        check_counts(before, Count())

    trio.run(main)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "abandoned"])
def test_the_count_sees_a_session_that_is_left_open(ended: bool) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.user is User.CLOSES)
    others = ticker.scheduled
    with FakeServer(server_of(scenario)) as server:
        run_blocking(server.url, scenario)  # The first session of a process starts the ticker.
        wait_for_the_ticker(others)
        before = Count()
        session = RealtimeSTTSession(server.url, CONFIG, API_KEY, **options_of(scenario))
        session.enter()
        if ended:
            session.close()
            del session
            wait_for_the_ticker(others)
            after = Count()
            assert after.objects <= before.objects
        else:
            after = Count()
            assert after.objects > before.objects
            assert after.descriptors > before.descriptors
            session.abort()


@pytest.mark.parametrize(
    ("statement", "times", "found"),
    [
        ("kept.append(object())", SESSIONS_OF_A_SCENARIO, True),
        ("kept.append(None)", SESSIONS, True),
        ("kept.append(bytearray(1000))", 1, False),
    ],
    ids=["an object in each session of a scenario", "a reference in each session", "a cache"],
)
def test_the_count_sees_a_line_that_leaks(statement: str, times: int, found: bool) -> None:
    # Outside our packages: there, coverage would look for the source of this module.
    folder = "a package"
    code = compile(statement, f"{folder}/leak.py", "exec")
    kept: list[object] = []
    before = Count([folder])
    for _ in range(times):
        exec(code, {"kept": kept})
    assert bool(lines_that_leak(before, Count([folder]))) is found
