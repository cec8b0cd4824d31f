"""The iterator that `receive_events` of the async session returns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType

from typing_extensions import Self, override

from soniox_proto import RealtimeEvent, Result

__all__ = ["EventIterator"]


class EventIterator(AsyncGenerator[RealtimeEvent, None]):
    """The messages of a session, with the methods of an async generator.

    A real async generator that is left early has to be closed by its user, or its cleanup runs at
    some later time in some other task. This one has nothing to clean up: closing it is possible
    (`contextlib.aclosing`), but not necessary.
    """

    __slots__ = ("_closed", "_receive", "_take_ready")

    def __init__(
        self,
        take_ready: Callable[[], Result | None],
        receive: Callable[[], Awaitable[Result | None]],
    ) -> None:
        self._take_ready = take_ready
        self._receive = receive
        self._closed = False

    @override
    def __aiter__(self) -> Self:
        return self

    @override
    async def __anext__(self) -> RealtimeEvent:
        if self._closed:
            raise StopAsyncIteration
        result = self._take_ready() or await self._receive()
        if result is None:
            raise StopAsyncIteration
        return result.message

    @override
    async def asend(self, value: None) -> RealtimeEvent:
        """Return the next message, as `anext` does; `value` is ignored."""
        return await self.__anext__()

    @override
    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: object = None,
        tb: TracebackType | None = None,
    ) -> RealtimeEvent:
        """End the iteration with an exception. The session goes on."""
        self._closed = True
        raise typ

    @override
    async def aclose(self) -> None:
        """End the iteration. The session goes on."""
        self._closed = True
