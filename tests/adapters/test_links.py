"""Sessions whose machine asks for several connections, one after the other and two at a time."""

from __future__ import annotations

import contextvars
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from soniox_adapters import (
    Endpoint,
    Outcome,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxTimeoutError,
)
from tests.support.adapters.conditions import come_true
from tests.support.adapters.line_stream import LineServer, LineStream
from tests.support.adapters.server import PATIENCE
from tests.support.adapters.sessions import ALL_KINDS, Kind, SessionDriver, label, open_session

IN_TURN = [["a"], ["b"], ["c"]]
TOGETHER = [["a", "b"]]
MIXED = [["a"], ["b", "c"], ["d"]]


@pytest.fixture(
    params=[kind for kind in ALL_KINDS if kind is not Kind.WEBSOCKET_CLIENT],
    ids=lambda kind: kind.value,
)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Kinds of session whose connections need not be WebSockets."""
    assert isinstance(request.param, Kind)
    return request.param


@contextmanager
def driven(
    kind: Kind, stages: Sequence[Sequence[str]], **options: Any
) -> Iterator[tuple[SessionDriver, LineStream, LineServer]]:
    """A session on a machine with such links, its machine, and the server."""
    server = LineServer()
    with server.listening(), open_session(kind, "ws://localhost", **options) as driver:
        machine = LineStream(server.port, stages)
        driver.session._drive(machine)
        yield driver, machine, server
    # Those that were opening a link have been told to end.
    come_true(lambda: not threads_named("soniox-link"))


def received(driver: SessionDriver, count: int) -> list[str]:
    """Return the next messages, sorted: links at a time answer in any order."""
    events = [driver.receive() for _ in range(count)]
    return sorted(label(event) for event in events if event is not None)


@pytest.mark.parametrize("stages", [IN_TURN, TOGETHER, MIXED], ids=["in turn", "together", "mixed"])
def test_each_link_gets_its_own_bytes(kind: Kind, stages: list[list[str]]) -> None:
    with driven(kind, stages) as (driver, machine, server):
        driver.enter()
        for number, names in enumerate(stages):
            chunk = f"chunk {number}"
            driver.send(chunk.encode())
            assert received(driver, len(names)) == [f"{name} {chunk}" for name in names]
            driver.call("finish")
            assert received(driver, len(names)) == [f"{name} over" for name in names]
            come_true(lambda names=names: server.ended.issuperset(names))  # type: ignore[misc]
        assert driver.receive() is None
        assert driver.outcome is Outcome.FINISHED
        driver.close()
        assert machine.closed
        come_true(lambda: len(server.ended) == server.connections)
    names = [name for stage in stages for name in stage]
    assert sorted(server.said) == names
    for number, stage in enumerate(stages):
        for name in stage:
            assert server.said[name] == [f"chunk {number}", "over"]


def test_links_that_are_asked_for_while_another_thread_receives(kind: Kind) -> None:
    """Nobody but the receiver is there to notice, and it waits for another socket."""
    with driven(kind, MIXED) as (driver, machine, _):
        driver.enter()
        everything = driver.start_collecting()
        for stage in MIXED:
            come_true(lambda stage=stage: [link.name for link in machine.links] == stage)  # type: ignore[misc]
            driver.call("finish")
        labels = [label(event) for event in everything.result(PATIENCE)]
        assert sorted(labels) == ["a over", "b over", "c over", "d over"]


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("finished", range(4))
@pytest.mark.parametrize("receives", [False, True])
def test_can_be_ended_at_any_point(kind: Kind, end: str, finished: int, receives: bool) -> None:
    """Also in the middle of opening the next links."""
    with driven(kind, [*MIXED, ["e"]]) as (driver, machine, server):
        driver.enter()
        everything = driver.start_collecting() if receives else None
        for _ in range(finished):
            links = machine.links
            driver.call("finish")
            if everything is None:
                received(driver, len(links))
            else:
                come_true(lambda links=links: machine.links is not links)  # type: ignore[misc]
        driver.call(end)
        assert machine.closed
        if everything is not None:
            everything.result(PATIENCE)
        expected = Outcome.CLOSED_LOCALLY if end == "close" else Outcome.ABORTED
        assert driver.outcome is expected
        come_true(lambda: len(server.ended) >= len(server.said))


def test_a_link_that_breaks_is_the_machines_to_judge(kind: Kind) -> None:
    """The machine of this test ends the session; what came before is delivered."""
    with driven(kind, [["a"], ["b"]]) as (driver, machine, server):
        driver.enter()
        driver.send(b"one")
        assert received(driver, 1) == ["a one"]
        machine.port = closed_port()
        driver.call("finish")
        assert received(driver, 1) == ["a over"]
        with pytest.raises(SonioxConnectionError, match="cannot connect to 127"):
            driver.receive()
        assert driver.outcome is Outcome.LOST
        assert list(server.said) == ["a"]


def test_the_first_link_cannot_be_opened(kind: Kind) -> None:
    with driven(kind, IN_TURN) as (driver, machine, _):
        machine.port = closed_port()
        with pytest.raises(SonioxConnectionError, match="cannot connect to 127"):
            driver.enter()
        assert machine.closed


def test_a_link_that_is_given_up_is_opened_no_more(kind: Kind) -> None:
    """The session goes on with the others."""
    with stalling(kind) as (connector, begun, ended):
        options = {"transport": connector}
        with driven(kind, [["a"], ["stalled", "b"]], **options) as (driver, machine, server):
            driver.enter()
            driver.call("finish")
            assert received(driver, 1) == ["a over"]
            assert begun.wait(PATIENCE)
            come_true(lambda: machine.links[1].is_open)
            driver.call("resume")
            driver.send(b"two")
            driver.call("finish")
            assert received(driver, 2) == ["b over", "b two"]
            assert driver.receive() is None
            assert driver.outcome is Outcome.FINISHED
            assert not machine.links[0].is_open
            # A function that blocks cannot be ended, only left behind.
            assert kind is Kind.BLOCKING or ended.wait(PATIENCE)
        assert sorted(server.said) == ["a", "b"]


def test_a_link_has_its_time_to_be_opened(kind: Kind) -> None:
    with stalling(kind) as (connector, begun, _):
        options = {"transport": connector}
        with driven(kind, [["a"], ["stalled"]], **options) as (driver, machine, _):
            driver.enter()
            machine.open_by = now_of(driver) + 0.05
            driver.call("finish")
            assert received(driver, 1) == ["a over"]
            assert begun.wait(PATIENCE)
            with pytest.raises(SonioxTimeoutError) as late:
                driver.receive()
            assert late.value.operation == "connect"


BUSY = SonioxConnectionError("the tunnel is busy")
FAULTS = {
    "a bug": (ValueError("no more"), "no more", False),
    "an error of its own": (BUSY, "^the tunnel is busy$", True),
    "what ends a program": (SystemExit("no more"), "no more", False),
    "what is no stream": (None, "transport must be|returned None", False),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_function_that_opens_only_the_first(kind: Kind, fault: str) -> None:
    """What the user's function does wrong is the session's error, never the program's."""
    raised, message, retryable = FAULTS[fault]
    calls = 0

    def open_one(endpoint: Any) -> socket.socket | None:
        nonlocal calls
        calls += 1
        if calls == 1:
            return socket.create_connection((endpoint.host, endpoint.port))
        if raised is not None:
            raise raised
        return None

    async def open_one_async(endpoint: Any) -> Any:
        return open_one(endpoint)

    connector = open_one_async if kind.asynchronous else lambda endpoint, _: open_one(endpoint)
    with driven(kind, [["a"], ["b"]], transport=connector) as (driver, _, _):
        driver.enter()
        driver.call("finish")
        assert received(driver, 1) == ["a over"]
        with pytest.raises(SonioxRealtimeError, match=message) as failed:
            driver.receive()
        assert failed.value.retryable is retryable


def test_one_of_two_links_is_given_up_while_a_thread_receives(kind: Kind) -> None:
    with driven(kind, TOGETHER) as (driver, machine, server):
        driver.enter()
        come_true(lambda: all(link.is_open for link in machine.links))
        everything = driver.start_collecting()
        driver.send(b"one")
        come_true(lambda: all("one" in server.said.get(name, ()) for name in "ab"))
        driver.call("pause")
        come_true(lambda: server.ended == {"a"})
        driver.call("finish")
        labels = [label(event) for event in everything.result(PATIENCE)]
        assert sorted(labels) in (["a one", "b one", "b over"], ["b one", "b over"])


def test_functions_find_the_context_that_the_session_was_entered_in(kind: Kind) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="lost")
    seen: list[str] = []

    def open_one(endpoint: Endpoint) -> socket.socket:
        seen.append(variable.get())
        return socket.create_connection((endpoint.host, endpoint.port))

    async def open_one_async(endpoint: Endpoint) -> Any:
        return open_one(endpoint)

    connector = open_one_async if kind.asynchronous else lambda endpoint, _: open_one(endpoint)
    with driven(kind, IN_TURN, transport=connector) as (driver, _, _):
        enter = driver.session.enter

        def enter_in_context() -> Any:
            variable.set("kept")
            return enter()

        driver.session.enter = enter_in_context  # type: ignore[method-assign]
        driver.enter()
        for name in "abc":
            driver.call("finish")
            assert received(driver, 1) == [f"{name} over"]
    assert seen == ["kept"] * 3


def test_a_stream_that_was_given_is_for_one_link(kind: Kind) -> None:
    server = LineServer()
    with server.listening():
        given = socket.create_connection(("127.0.0.1", server.port))
        with open_session(kind, "ws://localhost", transport=given) as driver:
            driver.session._drive(LineStream(server.port, [["a"], ["b"]]))
            driver.enter()
            driver.call("finish")
            assert received(driver, 1) == ["a over"]
            with pytest.raises(SonioxConnectionError, match="is used up; give a function") as over:
                driver.receive()
            assert not over.value.retryable


# In the tests' way


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def now_of(driver: SessionDriver) -> float:
    """Return the time on the clock of the session."""

    async def now() -> float:
        return anyio.current_time()

    portal = getattr(driver, "_portal", None)
    return time.monotonic() if portal is None else portal.start_task_soon(now).result(PATIENCE)


@contextmanager
def stalling(kind: Kind) -> Iterator[tuple[Any, threading.Event, threading.Event]]:
    """Yield a function that never opens the link `stalled`, and when that began and ended."""
    begun, ended, over = threading.Event(), threading.Event(), threading.Event()

    def stall(endpoint: Endpoint, timeout: float | None) -> socket.socket:
        if endpoint.target == "/stalled":
            begun.set()
            over.wait(PATIENCE)
            ended.set()
        return socket.create_connection((endpoint.host, endpoint.port))

    async def stall_async(endpoint: Endpoint) -> Any:
        if endpoint.target == "/stalled":
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()
        return await anyio.connect_tcp(endpoint.host, endpoint.port)

    try:
        yield (stall_async if kind.asynchronous else stall), begun, ended
    finally:
        over.set()
        come_true(lambda: not threads_named("soniox-connect"))
