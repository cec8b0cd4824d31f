"""A session belongs to one event loop: what it does in another, and after the end of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import anyio.from_thread
import pytest
import trio

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    SessionState,
    SonioxStateError,
)
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, silent
from tests.support.core.messages import API_KEY, CONFIG, result

Use = Callable[[AsyncRealtimeSTTSession], Awaitable[object]]

CALLS: Final[dict[str, Use]] = {
    "send_byte_chunk": lambda session: session.send_byte_chunk(b"audio"),
    "send a large chunk": lambda session: session.send_byte_chunk(bytes(1 << 20)),
    "send_bytes": lambda session: session.send_bytes([b"audio"]),
    "send_bytes of an iterable": lambda session: session.send_bytes(iter([b"audio"])),
    "finish": lambda session: session.finish(),
    "finalize": lambda session: session.finalize(),
    "keep_alive": lambda session: session.keep_alive(),
    "pause": lambda session: session.pause(),
    "resume": lambda session: session.resume(),
    "receive_event": lambda session: session.receive_event(),
    "recv_bytes": lambda session: session.recv_bytes(),
    "receive_events": lambda session: anext(session.receive_events()),
    "close": lambda session: session.close(),
    "abort": lambda session: session.abort(),
}


def run(library: str, function: Callable[[], Coroutine[Any, Any, object]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(PATIENCE):
            await function()

    if library == "trio":
        trio.run(bounded)
    else:
        asyncio.run(bounded())


def make_session(url: str, **options: Any) -> AsyncRealtimeSTTSession:
    return AsyncRealtimeSTTSession(url, CONFIG, API_KEY, proxy=None, **options)


def says_something(peer: Peer) -> None:
    peer.start()
    peer.say(result("one"))
    peer.read_to_the_end()


@contextmanager
def ignoring_the_warning_of_asyncio() -> Iterator[None]:
    """A transport that outlives its loop warns when it is collected, and rightly so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


async def check_refused(use: Use, session: AsyncRealtimeSTTSession) -> None:
    with pytest.raises(SonioxStateError, match="event loop"):
        await use(session)


@pytest.mark.parametrize("elsewhere", ["asyncio", "trio"])
@pytest.mark.parametrize("home", ["asyncio", "trio"])
@pytest.mark.parametrize("name", list(CALLS))
def test_after_the_end_of_its_event_loop(name: str, home: str, elsewhere: str) -> None:
    def use_late(server: FakeServer) -> None:
        session = make_session(server.url)
        run(home, session.enter)
        run(elsewhere, lambda: check_refused(CALLS[name], session))
        # It can still be closed, which gives the socket back: the server sees that.
        if name not in {"close", "abort"}:
            run(elsewhere, lambda: check_refused(CALLS["close"], session))
        assert session.state is SessionState.CLOSED
        server.peer().wait_until_done()
        run(elsewhere, session.close)
        run(elsewhere, session.abort)

    with FakeServer(says_something) as server, ignoring_the_warning_of_asyncio():
        use_late(server)


@contextmanager
def running_elsewhere(library: str) -> Iterator[anyio.from_thread.BlockingPortal]:
    with anyio.from_thread.start_blocking_portal(library) as portal:
        yield portal


@pytest.mark.parametrize("home", ["asyncio", "trio"])
@pytest.mark.parametrize("name", list(CALLS))
def test_from_another_thread_while_its_event_loop_runs(name: str, home: str) -> None:
    with FakeServer(silent) as server, running_elsewhere(home) as portal:
        session = make_session(server.url)
        portal.call(session.enter)
        run("asyncio", lambda: check_refused(CALLS[name], session))
        if name in {"close", "abort"}:
            server.peer().wait_until_done()
            ended = threading.Event()

            async def wait_for_the_end() -> None:
                while session.state is not SessionState.CLOSED:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
                ended.set()

            portal.call(wait_for_the_end)
            assert ended.is_set()
        else:
            assert session.state is SessionState.OPEN, "the mistake of one thread hurts no other"
        portal.call(session.close)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_one_that_was_closed_may_be_closed_anywhere(library: str) -> None:
    with FakeServer(silent) as server:
        session = make_session(server.url)

        async def use() -> None:
            async with session:
                await session.send_byte_chunk(b"audio")

        run(library, use)
        for elsewhere in ("asyncio", "trio"):
            run(elsewhere, session.close)
            run(elsewhere, session.abort)


def test_a_loop_that_is_run_in_parts() -> None:
    """A stopped event loop is not over: the session goes on when it does."""
    loop = asyncio.new_event_loop()
    with FakeServer(silent) as server:
        session = make_session(server.url)
        try:
            loop.run_until_complete(session.enter())
            loop.run_until_complete(session.send_byte_chunk(b"audio"))
            loop.run_until_complete(session.close())
        finally:
            loop.close()
        assert server.peer().audio == b"audio"


def test_a_loop_that_is_run_in_another_thread() -> None:
    """It is still the session's own."""
    loop = asyncio.new_event_loop()
    with FakeServer(silent) as server:
        session = make_session(server.url)
        loop.run_until_complete(session.enter())
        failures: list[BaseException] = []

        def use_it() -> None:
            try:
                loop.run_until_complete(session.send_byte_chunk(b"audio"))
                loop.run_until_complete(session.close())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=use_it)
        thread.start()
        thread.join()
        loop.close()
        assert failures == []
        assert server.peer().audio == b"audio"


def test_a_loop_that_was_stopped_gives_the_socket_back() -> None:
    loop = asyncio.new_event_loop()
    with FakeServer(silent) as server:
        session = make_session(server.url)
        loop.run_until_complete(session.enter())
        run("asyncio", lambda: check_refused(CALLS["close"], session))
        server.peer().wait_until_done()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.mark.anyio
async def test_a_session_that_was_never_entered_has_no_event_loop(anyio_backend: str) -> None:
    session = make_session("ws://localhost")
    await session.close()
    with pytest.raises(SonioxStateError):
        await session.send_byte_chunk(b"audio")
