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

__all__ = ["AsyncUtterances", "PendingUtterances", "utterances_of"]


def utterances_of(
    receive: Callable[[], RealtimeEvent | None],
    clock: Callable[[], float],
    pending: PendingUtterances,
) -> Iterator[Utterance]:
    """Yield utterances as they become complete, and what was said last before an error."""
    while not pending.ended:
        while pending.complete:
            yield pending.hand_over(clock())
        try:
            pending.take(receive(), clock())
        except SonioxRealtimeError as error:
            pending.end(error)
    while pending.complete:
        yield pending.hand_over(clock())
    pending.raise_error()


class AsyncUtterances(AsyncIterator["Utterance"]):
    """Does the same with an async function.

    Not an async generator, which its event loop would have to close when it is left half used.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[RealtimeEvent | None]],
        clock: Callable[[], float],
        pending: PendingUtterances,
    ) -> None:
        self._receive = receive
        self._clock = clock
        self._pending = pending

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Utterance:
        pending = self._pending
        while not pending.complete:
            if pending.ended:
                pending.raise_error()
                raise StopAsyncIteration
            try:
                event = await self._receive()
                pending.take(event, self._clock())
            except SonioxRealtimeError as error:
                pending.end(error)
        return pending.hand_over(self._clock())


class PendingUtterances:
    """Utterances that are complete and not yet handed out.

    A message may complete several. An iteration that is left after the first leaves the others
    here, for one that goes on with the same transcript.
    """

    def __init__(self, transcript: Transcript | None, stats: SessionStats) -> None:
        self._stats = stats
        self.transcript = soniox_proto.Transcript() if transcript is None else transcript
        self._error: SonioxRealtimeError | None = None
        self.complete: deque[Utterance] = deque()
        self.ended = False

    def take(self, event: RealtimeEvent | None, now: float) -> None:
        """Take the next message, or None at the end."""
        if event is None:
            self.end(None)
        else:
            self.complete += self.transcript.feed(event, now).completed

    def hand_over(self, now: float) -> Utterance:
        """Return the next utterance, with the time at which its speech ended."""
        utterance = self.complete.popleft()
        end_ms = utterance.end_ms
        ended_at = None if end_ms is None else self._stats.sent_at(end_ms)
        if ended_at is None:
            return utterance
        return replace(utterance, ended_at=ended_at, ended_ago=now - ended_at)

    def end(self, error: SonioxRealtimeError | None) -> None:
        """Take the end of the stream."""
        self.ended, self._error = True, error
        self.complete += self.transcript.finish().completed

    def raise_error(self) -> None:
        """Raise the error that ended the stream, if one did, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error
