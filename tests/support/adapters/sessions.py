"""Sessions of every kind behind the same blocking calls, so that one test runs on all of them.

A blocking session is called in threads, an async one in an event loop that runs in a thread. Every
call has an end: what takes longer than `PATIENCE` fails the test.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import Enum
from typing import Any, cast

import anyio
import anyio.abc
import anyio.from_thread

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Endpoint,
    Outcome,
    RealtimeEvent,
    RealtimeSTTSession,
    SessionStats,
    Transcript,
    Utterance,
    websocket_client,
)
from tests.support.adapters.server import PATIENCE
from tests.support.core.messages import API_KEY, CONFIG

__all__ = ["ALL_KINDS", "Kind", "SessionDriver", "label", "open_session"]


class Kind(Enum):
    """Every kind of session, by what runs it and what moves its bytes."""

    BLOCKING = "blocking"
    WEBSOCKET_CLIENT = "websocket-client"
    """Blocking, on a connection that websocket-client has opened and upgraded."""
    ASYNCIO = "asyncio"
    TRIO = "trio"
    ASYNCIO_STREAM = "asyncio-anyio-stream"
    """On asyncio, over a stream of anyio that the user brings."""
    UVLOOP = "uvloop"
    """On asyncio with another event loop, for what depends on the loop."""

    @property
    def asynchronous(self) -> bool:
        return self not in {Kind.BLOCKING, Kind.WEBSOCKET_CLIENT}

    @property
    def backend(self) -> str:
        """Name of the library that runs an async kind."""
        return "trio" if self is Kind.TRIO else "asyncio"


ALL_KINDS = tuple(kind for kind in Kind if kind is not Kind.UVLOOP)


def label(event: RealtimeEvent) -> str:
    """Return what a test calls a message: its text, or what it ends."""
    if event.error_code is not None:
        return f"error {event.error_code}"
    return "finished" if event.finished else "".join(token.text for token in event.tokens)


class SessionDriver(ABC):
    """A session of any kind. `start` runs a method of it in the background, `call` to its end."""

    session: RealtimeSTTSession | AsyncRealtimeSTTSession

    @abstractmethod
    def start(self, method: str, *arguments: Any, **options: Any) -> Future[Any]:
        """Run a method in a thread or task of its own."""

    @abstractmethod
    def connected(self) -> AbstractContextManager[object]:
        """Return a context in which the session is entered, as `with` and `async with` do."""

    @abstractmethod
    def start_collecting(self) -> Future[list[RealtimeEvent]]:
        """Collect everything that `receive_events` yields, in a thread or task of its own."""

    @abstractmethod
    def first_event(self) -> RealtimeEvent:
        """Return the first event of `receive_events`, and leave the iteration."""

    @abstractmethod
    def gather_utterances(self, into: list[Utterance], transcript: Transcript | None) -> None:
        """Append everything that `utterances` yields."""

    @abstractmethod
    def handle_events(self, handler: Callable[[RealtimeEvent], None]) -> None:
        """Run `handle_events` with a handler of the kind that the session takes."""

    @abstractmethod
    def cancel_inside(self, count: int) -> list[RealtimeEvent]:
        """Enter, receive so many messages, and leave by a cancellation; return the messages."""

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Run a method to its end."""
        return self.start(method, *arguments, **options).result(PATIENCE)

    def collect(self) -> list[RealtimeEvent]:
        """Return everything that `receive_events` yields."""
        return self.start_collecting().result(PATIENCE)

    def enter(self) -> None:
        self.call("enter")

    def close(self) -> None:
        assert self.call("close") is None

    def abort(self, cause: BaseException | None = None) -> None:
        self.call("abort", cause)

    def send(self, chunk: bytes) -> None:
        self.call("send_byte_chunk", chunk)

    def receive(self) -> RealtimeEvent | None:
        return cast("RealtimeEvent | None", self.call("receive_event"))

    @property
    def outcome(self) -> Outcome | None:
        return self.session.outcome

    @property
    def stats(self) -> SessionStats:
        return self.session.stats


class _BlockingDriver(SessionDriver):
    def __init__(self, url: str, **options: Any) -> None:
        self.session: RealtimeSTTSession = RealtimeSTTSession(url, **options)
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count(1)

    def start(self, method: str, *arguments: Any, **options: Any) -> Future[Any]:
        return self._in_thread(lambda: getattr(self.session, method)(*arguments, **options))

    def connected(self) -> AbstractContextManager[object]:
        return self.session

    def start_collecting(self) -> Future[list[RealtimeEvent]]:
        return self._in_thread(lambda: list(self.session.receive_events()))

    def first_event(self) -> RealtimeEvent:
        return next(iter(self.session.receive_events()))

    def gather_utterances(self, into: list[Utterance], transcript: Transcript | None) -> None:
        for utterance in self.session.utterances(transcript):
            into.append(utterance)  # noqa: PERF402 - what came before an error counts too

    def handle_events(self, handler: Callable[[RealtimeEvent], None]) -> None:
        self._in_thread(lambda: self.session.handle_events(handler)).result(PATIENCE)

    def cancel_inside(self, count: int) -> list[RealtimeEvent]:
        received: list[RealtimeEvent] = []
        # Threads are not cancelled; Ctrl-C is what comes closest.
        try:
            with self.session:
                received += itertools.islice(self.session.receive_events(), count)
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            return received

    def join(self) -> None:
        self.session.abort()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a call does not end although the session was aborted"

    def _in_thread(self, function: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        name = f"call-{next(self._numbers)}"
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return future


class _AsyncDriver(SessionDriver):
    def __init__(self, portal: anyio.from_thread.BlockingPortal, url: str, **options: Any) -> None:
        self.session: AsyncRealtimeSTTSession = AsyncRealtimeSTTSession(url, **options)
        self._portal = portal
        self._entered = False

    def start(self, method: str, *arguments: Any, **options: Any) -> Future[Any]:
        async def run() -> Any:
            return await getattr(self.session, method)(*arguments, **options)

        return self._portal.start_task_soon(run)

    def connected(self) -> AbstractContextManager[object]:
        return self._portal.wrap_async_context_manager(self.session)

    def start_collecting(self) -> Future[list[RealtimeEvent]]:
        async def run() -> list[RealtimeEvent]:
            return [event async for event in self.session.receive_events()]

        return self._portal.start_task_soon(run)

    def first_event(self) -> RealtimeEvent:
        async def run() -> RealtimeEvent:
            async for event in self.session.receive_events():
                return event
            raise AssertionError("there is no event")

        return self._portal.start_task_soon(run).result(PATIENCE)

    def gather_utterances(self, into: list[Utterance], transcript: Transcript | None) -> None:
        async def run() -> None:
            async for utterance in self.session.utterances(transcript):
                into.append(utterance)  # noqa: PERF401 - what came before an error counts too

        self._portal.start_task_soon(run).result(PATIENCE)

    def handle_events(self, handler: Callable[[RealtimeEvent], None]) -> None:
        async def handle(event: RealtimeEvent) -> None:
            handler(event)

        self.call("handle_events", handle)

    def cancel_inside(self, count: int) -> list[RealtimeEvent]:
        received: list[RealtimeEvent] = []

        async def run() -> bool:
            with anyio.CancelScope() as scope:
                async with self.session:
                    while len(received) < count:
                        event = await self.session.receive_event()
                        assert event is not None
                        received.append(event)
                    scope.cancel()
                    await anyio.sleep_forever()
            return scope.cancelled_caught

        assert self._portal.start_task_soon(run).result(PATIENCE), "the cancellation was lost"
        return received


@contextmanager
def open_session(kind: Kind, url: str, **options: Any) -> Iterator[SessionDriver]:
    """Make a session of `kind`, not entered, with `API_KEY` and `CONFIG` unless told otherwise."""
    options = {"config": CONFIG, "api_key": API_KEY, "proxy": None, **options}
    if not kind.asynchronous:
        if kind is Kind.WEBSOCKET_CLIENT:
            options = {"transport": websocket_client(), **options}
        driver = _BlockingDriver(url, **options)
        try:
            yield driver
        finally:
            driver.join()
        return
    if kind is Kind.ASYNCIO_STREAM:
        options = {"transport": _connect_with_anyio, **options}
    backend_options = {"use_uvloop": True} if kind is Kind.UVLOOP else {}
    with anyio.from_thread.start_blocking_portal(kind.backend, backend_options) as portal:
        async_driver = _AsyncDriver(portal, url, **options)
        try:
            yield async_driver
        finally:
            async_driver.abort()


async def _connect_with_anyio(endpoint: Endpoint) -> anyio.abc.ByteStream:
    """Connect as `anyio.connect_tcp` does; that of anyio 4.10 loses the socket when cancelled."""
    connecting = socket.socket()
    try:
        connecting.setblocking(False)
        with suppress(BlockingIOError):
            connecting.connect((endpoint.host, endpoint.port))
        await anyio.wait_writable(connecting)
        failure = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, os.strerror(failure))
    except BaseException:
        connecting.close()
        raise
    with anyio.CancelScope(shield=True):
        return await anyio.abc.SocketStream.from_socket(connecting)
    raise AssertionError("nothing cancels this scope")
