"""Utterances out of the messages that a session receives, one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import Self

import soniox_proto
from soniox_proto import RealtimeEvent, SessionStats, SonioxRealtimeError

if TYPE_CHECKING:
    from soniox_proto import Transcript, Utterance

__all__ = ["AsyncUtterances", "utterances_of"]


def utterances_of(
    receive: Callable[[], RealtimeEvent | None],
    transcript: Transcript | None,
    clock: Callable[[], float],
    stats: SessionStats,
) -> Iterator[Utterance]:
    """Yield utterances as they become complete, and what was said last before an error."""
    pending = _Pending(transcript, clock, stats)
    while not pending.ended:
        try:
            pending.take(receive())
        except SonioxRealtimeError as error:
            pending.end(error)
        while pending.complete:
            yield pending.hand_over()
    pending.raise_error()


class AsyncUtterances(AsyncIterator["Utterance"]):
    """Does the same with an async function.

    Not an async generator, which its event loop would have to close when it is left half used.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[RealtimeEvent | None]],
        transcript: Transcript | None,
        clock: Callable[[], float],
        stats: SessionStats,
    ) -> None:
        self._receive = receive
        self._pending = _Pending(transcript, clock, stats)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Utterance:
        pending = self._pending
        while not pending.complete:
            if pending.ended:
                pending.raise_error()
                raise StopAsyncIteration
            try:
                pending.take(await self._receive())
            except SonioxRealtimeError as error:
                pending.end(error)
        return pending.hand_over()


class _Pending:
    """Utterances that are complete and not yet handed out."""

    def __init__(
        self, transcript: Transcript | None, clock: Callable[[], float], stats: SessionStats
    ) -> None:
        self._clock = clock
        self._stats = stats
        self._transcript = soniox_proto.Transcript() if transcript is None else transcript
        self._error: SonioxRealtimeError | None = None
        self.complete: deque[Utterance] = deque()
        self.ended = False

    def take(self, event: RealtimeEvent | None) -> None:
        """Take the next message, or None at the end."""
        if event is None:
            self.end(None)
        else:
            self.complete += self._transcript.feed(event, self._clock()).completed

    def hand_over(self) -> Utterance:
        """Return the next utterance, with the time at which its speech ended."""
        utterance = self.complete.popleft()
        end_ms = utterance.end_ms
        ended_at = None if end_ms is None else self._stats.sent_at(end_ms)
        if ended_at is None:
            return utterance
        return replace(utterance, ended_at=ended_at, ended_ago=self._clock() - ended_at)

    def end(self, error: SonioxRealtimeError | None) -> None:
        """Take the end of the stream."""
        self.ended, self._error = True, error
        self.complete += self._transcript.finish().completed

    def raise_error(self) -> None:
        """Raise the error that ended the stream, if one did, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error
