"""Faults on real byte streams: sockets, and streams on asyncio and trio."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from soniox_adapters import (
    Endpoint,
    Outcome,
    SonioxConnectionError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_adapters.testing import Fault, FaultInjector, FaultKind, FaultPlan
from soniox_adapters.testing.virtual_loop import virtual_time
from tests.support.adapters.pipe import Pipe
from tests.support.adapters.server import PATIENCE, FakeServer, obliging
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session

AUDIO = [bytes(4_000)] * 5

WAYS = [
    (Kind.BLOCKING, "socket"),
    (Kind.ASYNCIO, "socket"),
    (Kind.TRIO, "socket"),
    (Kind.ASYNCIO, "stream"),
    (Kind.TRIO, "stream"),
]
"""Every kind of session, and what its connections are."""


@contextmanager
def session_with(
    way: tuple[Kind, str], server: FakeServer, faults: FaultInjector, **options: Any
) -> Iterator[SessionDriver]:
    async def connect(endpoint: Endpoint) -> socket.socket:
        return faults.connect(endpoint)

    kind, carrier = way
    transport: object = faults.connect if kind is Kind.BLOCKING else connect
    if carrier == "stream":
        transport = faults.connect_async
    options = {"close_timeout_sec": 0.2, **options}
    with open_session(kind, server.url, transport=transport, **options) as driver:
        yield driver


every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[0].value} {way[1]}")


# Sessions


@every_way
@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault("delay", after=300, seconds=0.01),
        Fault("drip", after=2_000, length=300, seconds=0.05),
        Fault("drip", "received", after=1, length=300),
        Fault("stall", after=10_000, seconds=0.05),
        Fault("stall", "received", after=150, seconds=0.05),
        Fault("cut", after=100_000),
    ],
    ids=repr,
)
def test_a_session_survives(way: tuple[Kind, str], fault: Fault | None) -> None:
    plan = FaultPlan() if fault is None else FaultPlan(fault)
    with (
        FakeServer(obliging) as server,
        FaultInjector(plan) as faults,
        session_with(way, server, faults) as driver,
        driver.connected(),
    ):
        driver.call("send_bytes", AUDIO)
        assert [label(event) for event in driver.collect()] == ["finished"]
        assert driver.outcome is Outcome.FINISHED
    assert b"".join(m for m in server.peer().messages if isinstance(m, bytes)) == b"".join(AUDIO)
    (connection,) = faults.connections
    assert connection.happened == [one for one in plan.faults if not one.fatal]
    assert connection.passed("sent") > 20_000
    assert connection.passed("received") > 150


@every_way
@pytest.mark.parametrize("direction", ["sent", "received"])
@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_session_is_lost_at_a_byte(
    way: tuple[Kind, str], kind: FaultKind, direction: Any
) -> None:
    # In the middle of the audio, or of the frame that says that all of it has come.
    fault = Fault(kind, direction, after={"sent": 7_777, "received": 140}[direction])
    with (
        FakeServer(obliging) as server,
        FaultInjector(FaultPlan(fault)) as faults,
        session_with(way, server, faults) as driver,
    ):
        driver.enter()
        sending = driver.start("send_bytes", AUDIO)
        with pytest.raises(SonioxConnectionError):
            driver.collect()
        assert driver.outcome is Outcome.LOST
        assert sending.exception(PATIENCE) is None or sending.exception() is not None
        server.peer().wait_until_done()
    (connection,) = faults.connections
    assert connection.happened == [fault]
    assert connection.passed(direction) == fault.after


@every_way
@pytest.mark.parametrize("kind", ["drop", "freeze"])
def test_a_session_notices_silence(way: tuple[Kind, str], kind: FaultKind) -> None:
    options = {"ping_interval_sec": 0.05, "ping_timeout_sec": 0.1}
    with (
        FakeServer(obliging) as server,
        FaultInjector(FaultPlan(Fault(kind, "received", after=129))) as faults,
        session_with(way, server, faults, **options) as driver,
    ):
        driver.enter()
        with pytest.raises(SonioxTimeoutError, match="ping"):
            driver.collect()
        assert driver.outcome is Outcome.LOST


@every_way
def test_each_connection_has_its_plan(way: tuple[Kind, str]) -> None:
    plans = [FaultPlan(Fault("cut", after=0)), FaultPlan()]
    with FakeServer(obliging) as server, FaultInjector(*plans) as faults:
        for lost in (True, False, False):
            with session_with(way, server, faults) as driver:
                if lost:
                    with pytest.raises(SonioxConnectionError):
                        driver.enter()
                    continue
                with driver.connected():
                    driver.call("send_bytes", AUDIO)
                    assert [label(event) for event in driver.collect()] == ["finished"]
        assert [connection.plan for connection in faults.connections] == [*plans, FaultPlan()]


def test_plans_are_drawn_from_a_seed() -> None:
    faults = FaultInjector(FaultPlan(), seed=5, kinds=["cut", "stall"])
    assert repr(faults) == "FaultInjector(FaultPlan(), seed=5, kinds=('cut', 'stall'))"
    assert repr(FaultInjector()) == "FaultInjector()"
    with faults, FaultInjector(FaultPlan(), seed=5, kinds=["cut", "stall"]) as same:
        for injector in (faults, same):
            for _ in range(20):
                one, other = socket.socketpair()
                with injector.wrap(one), other:
                    pass
    plans = [connection.plan for connection in faults.connections]
    assert plans == [connection.plan for connection in same.connections]
    assert plans[0] == FaultPlan()
    assert {fault.kind for plan in plans for fault in plan.faults} == {"cut", "stall"}


# Sockets


@contextmanager
def wrapped(*faults: Fault) -> Iterator[tuple[socket.socket, socket.socket, FaultInjector]]:
    """Both ends of a connection through a plan, and what puts it there."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        FaultInjector(FaultPlan(*faults)) as injector,
    ):
        near = injector.wrap(socket.create_connection(listener.getsockname()))
        far = listener.accept()[0]
        with near, far:
            for end in (near, far):
                end.settimeout(PATIENCE)
            yield near, far, injector


def read_to_the_end(end: socket.socket) -> None:
    while end.recv(10):
        pass


def test_a_cut_is_seen_by_both_ends() -> None:
    with wrapped(Fault("cut", after=3)) as (near, far, _):
        near.sendall(b"abcdef")
        assert far.recv(10) == b"abc"
        assert near.recv(10) == far.recv(10) == b""


def test_a_reset_is_seen_by_both_ends() -> None:
    with wrapped(Fault("reset", after=3)) as (near, far, _):
        near.sendall(b"abc")
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                read_to_the_end(end)


def test_a_fault_at_a_time_needs_no_bytes() -> None:
    with wrapped(Fault("cut", at=0.05)) as (near, far, _):
        began = time.monotonic()
        assert near.recv(10) == far.recv(10) == b""
        assert time.monotonic() - began > 0.03


def test_what_is_dropped_is_read() -> None:
    with wrapped(Fault("drop", after=3)) as (near, far, injector):
        near.sendall(b"abcdef")
        assert far.recv(10) == b"abc"
        for end in (near, far):
            end.sendall(bytes(20_000_000))
        near.shutdown(socket.SHUT_WR)
        assert near.recv(10) == b"", "the relay has ended"
        assert injector.connections[0].ended == "drop"


def test_what_is_frozen_is_not_read() -> None:
    with wrapped(Fault("freeze", after=3)) as (near, far, injector):
        near.sendall(b"abcdef")
        assert far.recv(10) == b"abc"
        for end in (near, far):
            end.settimeout(0.1)
            with pytest.raises(TimeoutError):
                end.sendall(bytes(20_000_000))
        injector.close()
        near.settimeout(PATIENCE)
        with pytest.raises(ConnectionError):
            near.sendall(bytes(20_000_000))


@pytest.mark.parametrize("turn", [1, -1], ids=["near", "far"])
def test_without_faults_the_ends_see_each_other(turn: int) -> None:
    with wrapped() as (near, far, _):
        one, other = (near, far)[::turn]
        one.sendall(b"question")
        one.shutdown(socket.SHUT_WR)
        assert other.recv(10) == b"question"
        assert other.recv(10) == b""
        other.sendall(b"answer")
        other.close()
        assert one.recv(10) == b"answer"
        assert one.recv(10) == b""


@pytest.mark.parametrize("turn", [1, -1], ids=["near", "far"])
def test_a_reset_of_the_peer_is_passed_on(turn: int) -> None:
    with wrapped() as (near, far, _):
        one, other = (near, far)[::turn]
        one.sendall(b"question")
        assert other.recv(1) == b"q"
        # Closing a socket with unread bytes resets the connection.
        other.close()
        with pytest.raises(ConnectionResetError):
            read_to_the_end(one)


def test_a_receiver_that_does_not_read_slows_the_sender_down() -> None:
    data = bytes(range(256)) * 40_000
    with wrapped(Fault("stall", after=100, seconds=0.01)) as (near, far, _):
        near.settimeout(0.2)
        sent = 0
        with suppress(TimeoutError):
            while sent < len(data):
                sent += near.send(data[sent:])
        assert sent < len(data), "the relay reads without limit"
        received = b""
        while len(received) < sent:
            received += far.recv(1_000_000)
        assert received == data[:sent]


def test_the_servers_end_can_be_wrapped_too() -> None:
    near, far = socket.socketpair()
    with (
        FakeServer(obliging) as server,
        FaultInjector(FaultPlan(Fault("cut", after=129))) as faults,
    ):
        server.adopt(faults.wrap(far))
        with open_session(Kind.BLOCKING, "ws://server", transport=near) as driver:
            driver.enter()
            with pytest.raises(SonioxConnectionError):
                driver.collect()


def test_a_fault_alone_is_no_plan() -> None:
    with pytest.raises(SonioxValidationError, match=r"takes a FaultPlan for .* not Fault\('cut'\)"):
        FaultInjector(Fault("cut"))  # type: ignore[arg-type]


def test_after_closing_nothing_is_wrapped() -> None:
    faults = FaultInjector()
    faults.close()
    faults.close()
    one, other = socket.socketpair()
    with other:
        with pytest.raises(ConnectionAbortedError, match="closed"):
            faults.wrap(one)
        assert one.fileno() == -1


# Streams


class Ends:
    """Both ends of a connection in memory, the near one through a plan."""

    def __init__(self, *faults: Fault) -> None:
        to_near, from_far = anyio.create_memory_object_stream[bytes](100)
        to_far, from_near = anyio.create_memory_object_stream[bytes](100)
        self.far = Pipe(from_near, to_near)
        self.injector = FaultInjector(FaultPlan(*faults))
        self.near = self.injector.wrap_stream(Pipe(from_far, to_far))

    async def __aenter__(self) -> Ends:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.near.aclose()
        await self.far.aclose()


@pytest.mark.anyio
async def test_streams_are_late_in_virtual_time() -> None:
    with virtual_time():
        async with Ends(
            Fault("delay", "received", seconds=30.0),
            Fault("stall", after=3, seconds=600.0),
            Fault("drip", after=4, length=2, seconds=20.0),
        ) as ends:
            began = anyio.current_time()
            await ends.far.send(b"late")
            assert await ends.near.receive(2) == b"la"
            assert await ends.near.receive() == b"te"
            assert anyio.current_time() - began == pytest.approx(30.0)
            await ends.near.send(b"abcdefgh")
            assert anyio.current_time() - began == pytest.approx(640.0)
            received = b""
            while len(received) < 8:
                received += await ends.far.receive()
            assert received == b"abcdefgh"
            await ends.near.send_eof()


@pytest.mark.anyio
async def test_a_cut_of_a_stream() -> None:
    async with Ends(Fault("cut", after=3)) as ends:
        async with anyio.create_task_group() as group:
            group.start_soon(ends.near.send, bytes(200_000))
            with pytest.raises(anyio.EndOfStream):
                await ends.near.receive()
        assert await ends.far.receive() == bytes(3)
        with pytest.raises(anyio.EndOfStream):
            await ends.far.receive()
        await ends.near.send(b"nobody reads it")
        await ends.near.send_eof()


@pytest.mark.anyio
async def test_a_reset_of_a_stream() -> None:
    async with Ends(Fault("reset", after=3)) as ends:

        async def send() -> None:
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BrokenResourceError):
                await ends.near.send(b"abcdef")

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            with pytest.raises(anyio.BrokenResourceError) as raised:
                await ends.near.receive()
            assert isinstance(raised.value.__cause__, ConnectionResetError)
        assert await ends.far.receive() == b"abc"


@pytest.mark.anyio
async def test_closing_a_stream_ends_what_waits() -> None:
    async with Ends(Fault("freeze")) as ends:

        async def fails(call: Any, *arguments: object) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await call(*arguments)

        async with anyio.create_task_group() as group:
            group.start_soon(fails, ends.near.send, bytes(200_000))
            group.start_soon(fails, ends.near.receive)
            await anyio.wait_all_tasks_blocked()
            await ends.near.aclose()


@pytest.mark.anyio
async def test_the_end_of_a_stream_is_passed_on() -> None:
    async with Ends(Fault("delay", "received", seconds=0.01)) as ends:
        await ends.far.send(b"last")
        await ends.far.send_eof()
        assert await ends.near.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await ends.near.receive()
