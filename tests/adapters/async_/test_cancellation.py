"""Cancelling any await of an async session, at any of its checkpoints, on asyncio and on trio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest
import trio

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Outcome,
    SessionState,
    SonioxStateError,
)
from tests.support.adapters.interruption import ways_to_interrupt
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script, silent
from tests.support.adapters.sessions import label
from tests.support.core.messages import API_KEY, CONFIG, result

pytestmark = pytest.mark.anyio

MOST_CHECKPOINTS: Final = 60

ECHO: Final = b"echo"


def make_session(url: str, **options: Any) -> AsyncRealtimeSTTSession:
    options = {"close_timeout_sec": 0.3, "proxy": None, "ping_interval_sec": None, **options}
    return AsyncRealtimeSTTSession(url, CONFIG, API_KEY, **options)


def echoes(peer: Peer) -> None:
    """Answer `echo` with a message; obey otherwise."""
    peer.start()
    while True:
        if peer.read().payload == ECHO:
            peer.say(result("heard"))


def answers_the_close(peer: Peer) -> None:
    peer.start()
    while peer.read().payload != ECHO:
        pass
    peer.say(result("heard"))
    peer.read_to_the_end()


@asynccontextmanager
async def entered(script: Script) -> AsyncIterator[tuple[AsyncRealtimeSTTSession, Peer]]:
    """An entered session, which is aborted at the end if it is still open."""
    with FakeServer(script) as server:
        session = make_session(server.url)
        await session.enter()
        try:
            yield session, server.peer()
        finally:
            await session.abort()


async def check_usable(session: AsyncRealtimeSTTSession) -> None:
    """A session that is not closed sends, receives and closes."""
    await session.send_byte_chunk(ECHO)
    with anyio.fail_after(PATIENCE):
        event = await session.receive_event()
        while event is not None and label(event) != "heard":
            event = await session.receive_event()
        assert event is not None
        await session.close()
    assert session.outcome is Outcome.CLOSED_LOCALLY


# Each call, at each checkpoint


async def check_every_checkpoint(
    backend: str,
    script: Script,
    use: Callable[[AsyncRealtimeSTTSession, Peer], Callable[[], Awaitable[object]]],
    *,
    must_wait: bool = True,
) -> None:
    """Cancel what `use` returns at its first checkpoint, at its second, and so on."""
    for interrupt in ways_to_interrupt(backend):
        for at in range(1, MOST_CHECKPOINTS):
            async with entered(script) as (session, peer):
                run = await interrupt(use(session, peer), at)
                if session.state is not SessionState.CLOSED:
                    await check_usable(session)
                with anyio.fail_after(PATIENCE):
                    await session.abort()
                assert session.state is SessionState.CLOSED
            assert run.error is None
            assert run.cancelled is run.reached, "the cancellation was swallowed"
            if not run.reached:
                break
        else:
            raise AssertionError("it has too many checkpoints")
        assert at > 1 or not must_wait, "it was never interrupted"


async def test_receive_event(anyio_backend: str) -> None:
    def use(session: AsyncRealtimeSTTSession, peer: Peer) -> Callable[[], Awaitable[object]]:
        async def receive() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(session.send_byte_chunk, ECHO)
                event = await session.receive_event()
                assert event is not None

        return receive

    await check_every_checkpoint(anyio_backend, answers_echoes, use)


def answers_echoes(peer: Peer) -> None:
    peer.start()
    while True:
        frame = peer.read()
        if frame.payload == ECHO:
            peer.say(result("heard"))
        elif frame.opcode == 8:
            peer.close()


async def test_close(anyio_backend: str) -> None:
    await check_every_checkpoint(anyio_backend, silent, lambda session, _: session.close)


async def test_abort(anyio_backend: str) -> None:
    # Its wait is shielded on trio: it waits for no peer.
    await check_every_checkpoint(
        anyio_backend, silent, lambda session, _: session.abort, must_wait=False
    )


async def test_many_small_sends(anyio_backend: str) -> None:
    def use(session: AsyncRealtimeSTTSession, peer: Peer) -> Callable[[], Awaitable[object]]:
        return lambda: session.send_bytes(iter([b"x"] * 100), finish=False)

    await check_every_checkpoint(anyio_backend, answers_echoes, use)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_enter(anyio_backend: str, secure: bool, server_tls: Any, client_tls: Any) -> None:
    for interrupt in ways_to_interrupt(anyio_backend):
        for at in range(1, MOST_CHECKPOINTS):
            tls = server_tls if secure else None
            with FakeServer(answers_echoes, tls=tls, host="localhost") as server:
                session = make_session(server.url, ssl_context=client_tls)
                run = await interrupt(session.enter, at)
                assert run.error is None
                assert run.cancelled is run.reached, "the cancellation was swallowed"
                if run.returned:
                    await check_usable(session)
                else:
                    assert session.outcome is Outcome.ABORTED
                    with pytest.raises(SonioxStateError):
                        await session.send_byte_chunk(b"late")
                await wait_until_left(server)
            if not run.reached:
                break
        assert at > 2


async def wait_until_left(server: FakeServer) -> None:
    """Wait until the server has seen the end of its connections; the event loop goes on."""
    for number in range(server.connections):
        await anyio.to_thread.run_sync(server.peer(number).wait_until_done)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_enter_where_nobody_answers(anyio_backend: str, scheme: str, client_tls: Any) -> None:
    """Neither the upgrade nor TLS is answered: whenever it is cancelled, the socket is closed."""

    def never_answers(peer: Peer) -> None:
        while True:
            peer.read_raw()

    for interrupt in ways_to_interrupt(anyio_backend):
        for at in range(1, MOST_CHECKPOINTS):
            with FakeServer(never_answers, host="localhost") as server:
                url = server.url.replace("ws://", f"{scheme}://")
                session = make_session(url, ssl_context=client_tls, connect_timeout_sec=0.2)
                run = await interrupt(session.enter, at)
                assert not run.returned
                assert session.state is SessionState.CLOSED
                await wait_until_left(server)
            if not run.reached:
                break
        assert at > 2


async def test_leaving_the_context_under_cancellation(anyio_backend: str) -> None:
    """However far `close()` had come: nothing is left, and the cancellation goes on."""

    def use(session: AsyncRealtimeSTTSession, peer: Peer) -> Callable[[], Awaitable[object]]:
        async def leave() -> None:
            await session.send_byte_chunk(b"audio")
            await session.__aexit__(None, None, None)

        return leave

    def never_answers_the_close(peer: Peer) -> None:
        peer.start()
        peer.hold()

    await check_every_checkpoint(anyio_backend, never_answers_the_close, use)


async def test_blocked_send(anyio_backend: str) -> None:
    """A send that waits for room may be cancelled; its chunk goes out whole all the same."""
    large = bytes(range(256)) * 32 * 1024

    def script(peer: Peer) -> None:
        peer.start()
        peer.stalled.wait(PATIENCE)
        while (frame := peer.read()).payload != ECHO:
            assert frame.payload == large, "a cut chunk"
        peer.say(result("heard"))
        peer.read_to_the_end()

    for interrupt in ways_to_interrupt(anyio_backend)[:2]:
        async with entered(script) as (session, peer):
            run = await interrupt(lambda session=session: session.send_byte_chunk(large), 1)
            assert run.cancelled
            peer.stalled.set()
            await check_usable(session)
            assert peer.audio == large + ECHO


# Nothing is lost


async def test_receiver_that_is_cancelled_loses_no_message(anyio_backend: str) -> None:
    """The message that comes at the moment of the cancellation is there for the next receiver."""
    for interrupt in ways_to_interrupt(anyio_backend):
        async with entered(answers_echoes) as (session, _):
            await session.send_byte_chunk(ECHO)
            await interrupt(session.receive_event, 1)
            if session.last_message is None:
                with anyio.fail_after(PATIENCE):
                    event = await session.receive_event()
                assert event is not None
                assert label(event) == "heard"


async def test_one_of_two_receivers_is_cancelled() -> None:
    received: list[str] = []

    async def receive(session: AsyncRealtimeSTTSession) -> None:
        event = await session.receive_event()
        assert event is not None
        received.append(label(event))

    async with entered(answers_echoes) as (session, _):
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                scope = anyio.CancelScope()

                async def cancelled() -> None:
                    with scope:
                        await receive(session)

                group.start_soon(cancelled)
                group.start_soon(receive, session)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await session.send_byte_chunk(ECHO)
    assert received == ["heard"]


async def test_deadline_on_a_receive() -> None:
    async with entered(answers_echoes) as (session, _):
        for _ in range(3):
            with anyio.move_on_after(0.01) as scope:
                await session.receive_event()
            assert scope.cancelled_caught
        await check_usable(session)


# Tasks


async def test_entered_in_one_task_and_closed_in_another() -> None:
    with FakeServer(silent) as server:
        session = make_session(server.url)
        for method in (session.enter, session.close):
            async with anyio.create_task_group() as group:
                group.start_soon(method)
        assert session.outcome is Outcome.CLOSED_LOCALLY


async def test_close_of_another_task_wins_over_a_blocked_send() -> None:
    def never_reads(peer: Peer) -> None:
        peer.start()
        peer.hold()

    async with entered(never_reads) as (session, _):
        failed = False

        async def send() -> None:
            nonlocal failed
            with pytest.raises(SonioxStateError):
                await session.send_byte_chunk(bytes(16 * 1024 * 1024))
            failed = True

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                await anyio.wait_all_tasks_blocked()
                await session.close()
        assert failed


async def test_no_task_is_left(anyio_backend: str) -> None:
    def tasks() -> int:
        if anyio_backend == "trio":
            return trio.lowlevel.current_statistics().tasks_living
        return len(asyncio.all_tasks())

    before = tasks()
    async with entered(answers_the_close) as (session, _):
        await check_usable(session)
    await anyio.wait_all_tasks_blocked()
    assert tasks() == before
