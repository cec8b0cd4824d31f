"""What only the async session has: libraries to run on, tasks, and iterators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Outcome,
    RealtimeEvent,
    SessionState,
    SonioxConnectionError,
    SonioxError,
    SonioxStateError,
    SonioxTimeoutError,
)
from soniox_adapters.async_.event_loop import current_event_loop, make_signal, running_library
from soniox_adapters.session.flow_control import MAX_WAITING_MESSAGES
from tests.support.adapters import endings
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script, obliging, silent
from tests.support.adapters.sessions import label
from tests.support.core import frames
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, result

pytestmark = pytest.mark.anyio


def make_session(url: str, **options: Any) -> AsyncRealtimeSTTSession:
    options = {"close_timeout_sec": 0.3, "proxy": None, "ping_interval_sec": None, **options}
    return AsyncRealtimeSTTSession(url, CONFIG, API_KEY, **options)


@asynccontextmanager
async def entered(
    script: Script, **options: Any
) -> AsyncIterator[tuple[AsyncRealtimeSTTSession, Peer]]:
    with FakeServer(script) as server:
        async with make_session(server.url, **options) as session:
            yield session, server.peer()


# Libraries


async def test_running_library(anyio_backend: str) -> None:
    # Both libraries are imported here; one of them runs.
    assert running_library() == anyio_backend


async def test_clock_is_that_of_the_library(anyio_backend: str) -> None:
    expected = trio.current_time() if anyio_backend == "trio" else asyncio.get_running_loop().time()
    assert abs(current_event_loop().clock() - expected) < PATIENCE


def test_outside_of_an_event_loop() -> None:
    with pytest.raises(RuntimeError):
        running_library()
    session = make_session("ws://localhost")
    with pytest.raises(RuntimeError):
        session.enter().send(None)
    # It was not used up by that.
    assert session.state is SessionState.IDLE


def test_same_class_on_both_libraries() -> None:
    async def use(url: str) -> list[bool]:
        async with make_session(url) as session:
            await session.send_bytes([b"audio"])
            return [event.finished async for event in session.receive_events()]

    with FakeServer(obliging) as server:
        assert asyncio.run(use(server.url)) == [True]
        assert trio.run(use, server.url) == [True]
        assert asyncio.run(use(server.url)) == [True]


async def test_signal_wakes_all_who_wait_and_forgets() -> None:
    signal = make_signal()
    signal.notify()
    woken: list[int] = []

    async def wait(number: int) -> None:
        await signal.wait()
        woken.append(number)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(wait, number)
            await anyio.wait_all_tasks_blocked()
            assert woken == []
            signal.notify()
    assert sorted(woken) == [0, 1, 2]


async def test_signal_survives_who_gave_up_waiting() -> None:
    signal = make_signal()
    with anyio.move_on_after(0.01):
        await signal.wait()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(signal.wait)
            await anyio.wait_all_tasks_blocked()
            signal.notify()


# Iterating


async def test_iterator_can_be_kept_and_taken_up_again() -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.say(result("one"), result("two"), FINISHED)
        peer.read_to_the_end()

    async with entered(script) as (session, _):
        events = session.receive_events()
        assert aiter(events) is events
        assert label(await anext(events)) == "one"
        async for event in events:
            assert label(event) == "two"
            break
        assert [label(event) async for event in session.receive_events()] == ["finished"]
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_handler_is_awaited_one_message_after_the_other() -> None:
    inside = 0
    seen: list[str] = []

    async def handle(event: RealtimeEvent) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await anyio.sleep(0.001)
        seen.append(label(event))
        inside -= 1

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(*[result(str(number)) for number in range(20)], FINISHED)
        peer.read_to_the_end()

    async with entered(script) as (session, _):
        await session.handle_events(handle)
    assert seen == [*map(str, range(20)), "finished"]


# Fairness


async def test_other_tasks_get_a_turn_while_one_only_sends() -> None:
    """A sender that never has to wait lets others run, and notices its cancellation."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with entered(silent) as (session, _), anyio.create_task_group() as group:
        group.start_soon(count_turns)
        for _ in range(500):
            await session.send_byte_chunk(b"x")
        group.cancel_scope.cancel()
    assert turns >= 10


async def test_sender_that_never_waits_can_be_cancelled() -> None:
    async with entered(silent) as (session, _):
        with anyio.fail_after(PATIENCE), anyio.move_on_after(0.1) as scope:
            while True:
                await session.send_byte_chunk(b"x")
        assert scope.cancelled_caught
        assert session.state is SessionState.OPEN


# Ends


async def test_exception_and_a_dead_server() -> None:
    """Leaving by an exception waits for nobody."""

    def dead(peer: Peer) -> None:
        peer.start()
        peer.hold()

    async def use() -> None:
        async with entered(dead, close_timeout_sec=None):
            raise LookupError

    with anyio.fail_after(PATIENCE), pytest.raises(LookupError):
        await use()


async def test_end_of_the_task_group_around_an_open_session() -> None:
    """A task that is cancelled inside the context, in the middle of a receive."""

    inside = anyio.Event()

    async def use(session: AsyncRealtimeSTTSession) -> None:
        async with session:
            inside.set()
            async for _ in session.receive_events():
                pass

    with FakeServer(silent) as server:
        session = make_session(server.url)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(use, session)
                await inside.wait()
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
        assert session.outcome is Outcome.ABORTED
        assert server.peer().count("") == 0


@pytest.mark.parametrize(
    "script",
    [endings.refuses, endings.answers_with_garbage, endings.accepts_wrongly, endings.never_answers],
)
async def test_entering_that_fails_leaves_no_socket(script: Script) -> None:
    with FakeServer(script) as server:
        session = make_session(server.url, connect_timeout_sec=0.2)
        with pytest.raises(SonioxError):
            await session.enter()
        # The event loop stands still here: what is not closed now stays open.
        server.peer().wait_until_done()


async def test_leaving_leaves_no_socket() -> None:
    with FakeServer(silent) as server:
        async with make_session(server.url) as session:
            await session.send_byte_chunk(b"audio")
        server.peer().wait_until_done()


async def come_true(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_server_that_finished_and_stays_is_left_in_time() -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.say(FINISHED)
        peer.read_to_the_end()

    # No other timer may do instead.
    none = ("connect_timeout_sec", "keepalive_interval_sec", "ping_interval_sec")
    options: dict[str, Any] = {"close_timeout_sec": 0.1, **dict.fromkeys(none)}
    async with entered(script, **options) as (session, _):
        while await session.receive_event() is not None:
            pass
        await come_true(lambda: session.state is SessionState.CLOSED)
        assert session.outcome is Outcome.FINISHED


async def test_reading_on_makes_a_pong_due_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else may come that would have the timer set."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.send(frames.text(result("x")) * MAX_WAITING_MESSAGES)
        peer.hold()

    class Deadlines:
        """Takes the place of the session's timer."""

        def __init__(self) -> None:
            self.seen: list[float | None] = []

        def set(self, when: float | None) -> None:
            self.seen.append(when)

        def cancel(self) -> None:
            raise AssertionError("the session is still open")

    options = {"keepalive_interval_sec": None, "ping_interval_sec": 0.05, "ping_timeout_sec": 60.0}
    async with entered(script, **options) as (session, _):
        machine = session._machine
        # While nobody reads, only the next ping is due: the deadline of the last one rests.
        await come_true(
            lambda: (
                session._flow.full
                and machine.next_timeout() is not None
                and machine.stats.received_messages == MAX_WAITING_MESSAGES
            )
        )
        await anyio.sleep(0.1)
        with monkeypatch.context() as patch:
            deadlines = Deadlines()
            patch.setattr(session, "_timer", deadlines)
            while session._flow.full:
                await session.receive_event()
            assert deadlines.seen
            assert deadlines.seen[-1] == machine.next_timeout()


async def test_dead_server_is_noticed_by_a_sender_whose_calls_time_out() -> None:
    """A deadline that began anew with every repeated call would never come."""

    def dead(peer: Peer) -> None:
        peer.start()
        peer.hold()

    async def send_on(session: AsyncRealtimeSTTSession) -> None:
        while True:
            with anyio.move_on_after(0.2):
                await session.send_byte_chunk(bytes(60_000))

    options = {"ping_interval_sec": 0.3, "ping_timeout_sec": 0.7}
    async with entered(dead, **options) as (session, _):
        with anyio.fail_after(PATIENCE):
            # The session may end during a call, or between two.
            with pytest.raises((SonioxTimeoutError, SonioxStateError)):
                await send_on(session)
            with pytest.raises(SonioxTimeoutError):
                await session.receive_event()
        assert session.outcome is Outcome.LOST


async def test_waiting_senders_are_told_of_a_lost_connection() -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.wait_until_readable()
        peer.send(frames.close(1011, "restart"))
        peer.hold()

    errors: list[BaseException] = []

    async def send(session: AsyncRealtimeSTTSession) -> None:
        try:
            await session.send_byte_chunk(bytes(8 * 1024 * 1024))
        except SonioxConnectionError as error:
            errors.append(error)

    async with entered(script) as (session, _):
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(send, session)
    assert len(errors) == 3
    with pytest.raises(SonioxStateError) as late:
        await session.finish()
    assert isinstance(late.value.__cause__, SonioxConnectionError)


def test_debug_mode_of_asyncio_finds_nothing() -> None:
    """No coroutine that is never awaited, no call from a wrong thread."""

    async def use(url: str) -> None:
        async with make_session(url) as session:
            await session.send_bytes([b"audio"])
            async for _ in session.receive_events():
                pass

    with FakeServer(obliging) as server:
        asyncio.run(use(server.url), debug=True)
