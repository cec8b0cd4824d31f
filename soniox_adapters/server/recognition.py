"""Running the recognizer of one stream: in order, and off the event loop.

A recognizer takes milliseconds to seconds per call, which would stop all clients if the event loop
made the call. Work therefore waits in a queue, and its size tells the server when to stop reading
from a client that sends faster than it is recognized.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from soniox_adapters.server.recognizer import Recognizer, RecognizerFactory
from soniox_adapters.server.scripted_recognizer import ScriptedRecognizer
from soniox_proto import EndOfAudioReceived, FinalizeReceived, RealtimeEvent, RealtimeSTTConfig
from soniox_proto.server_clock import ServerClock

__all__ = ["Recognition", "Work"]

logger = logging.getLogger(__name__)

Work: TypeAlias = bytes | FinalizeReceived | EndOfAudioReceived
"""What a client sends to a recognizer: audio, a finalize, or the end of the audio."""

_PIECE_BYTES: Final = 32 * 1024
"""Maximum audio per call of a recognizer, about a second of speech. So the results of a long
message are sent as they are found, and ending a stream waits for one short call only."""

_OVERHEAD_BYTES: Final = 200
"""Counted for each waiting item besides its audio, because many tiny items fill memory too."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Recognition:
    """The queue of work of one stream, and the recognizer that does it.

    It belongs to the running event loop. The recognizer is called in threads of `executor`, one
    call at a time and in the order of the work. Times in its results are moved to the padded clock
    of the service.

    Args:
        factory: Makes the recognizer.
        config: The configuration of the stream.
        executor: Where the recognizer is called.
        answer_delay: Seconds from a finalize or the end of the audio to its results, at least.
    """

    def __init__(
        self,
        factory: RecognizerFactory,
        config: RealtimeSTTConfig,
        executor: Executor,
        *,
        answer_delay: float = 0.0,
    ) -> None:
        self._factory = factory
        self._config = config
        self._executor = executor
        self._clock = ServerClock()
        self._answer_delay = answer_delay
        self._waiting: deque[Work] = deque()
        # When each finalize, and the end of the audio, may be answered.
        self._answer_at: deque[float] = deque()
        self._backlog_bytes = 0
        self._arrived = asyncio.Event()
        self._recognizer: Recognizer | None = None
        self._needs_thread = True
        self._call_in_thread: Future[Any] | None = None
        self._finished = False
        self._stopped = False

    # Views

    @property
    def backlog_bytes(self) -> int:
        """Size of the waiting work in bytes."""
        return self._backlog_bytes

    @property
    def stopped(self) -> bool:
        """Whether `stop` has been called."""
        return self._stopped

    @property
    def running_call(self) -> Future[Any] | None:
        """The call of the recognizer that is running in a thread, if there is one."""
        call = self._call_in_thread
        return None if call is None or call.done() else call

    @property
    def audio_ms(self) -> int:
        """Audio that the recognizer has processed, in ms. Only between calls of `next_results`."""
        return self._opened.total_audio_proc_ms

    @property
    def final_audio_proc_ms(self) -> int:
        """In ms on the service's clock. Only between calls of `next_results`."""
        return self._clock.position(self._opened.final_audio_proc_ms)

    @property
    def total_audio_proc_ms(self) -> int:
        """In ms on the service's clock. Only between calls of `next_results`."""
        return self._clock.position(self._opened.total_audio_proc_ms)

    # Work in

    def put(self, work: Work) -> None:
        """Queue `work` for `next_results`."""
        if isinstance(work, bytes) and len(work) > _PIECE_BYTES:
            for start in range(0, len(work), _PIECE_BYTES):
                self.put(work[start : start + _PIECE_BYTES])
            return
        self._waiting.append(work)
        if not isinstance(work, bytes):
            self._answer_at.append(asyncio.get_running_loop().time() + self._answer_delay)
        self._backlog_bytes += _size_of(work)
        self._arrived.set()

    def stop(self) -> None:
        """Drop the waiting work; `next_results` returns None from now on."""
        self._stopped = True
        self._waiting.clear()
        self._backlog_bytes = 0
        self._arrived.set()

    # Results out

    async def open(self) -> None:
        """Make the recognizer; raises what its factory raises."""
        self._recognizer = await self._call(self._factory, self._config)
        # Playing a script takes less time than handing it to a thread.
        self._needs_thread = not isinstance(self._recognizer, ScriptedRecognizer)

    async def next_results(self) -> list[RealtimeEvent] | None:
        """Wait for work, do it, and return its results; None after the end or `stop`.

        Raises what the recognizer raises.
        """
        while not self._waiting:
            if self._finished or self._stopped:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        work = self._take()
        answers: list[RealtimeEvent] = []
        if isinstance(work, bytes):
            results = await self._call(self._opened.feed, self._with_audio_behind(work))
        elif isinstance(work, FinalizeReceived):
            results = await self._call(self._opened.finalize, work.trailing_silence_ms)
            results, answers = results[:-1], results[-1:]
        else:
            self._finished = True
            results = await self._call(self._opened.finish)
        if not isinstance(work, bytes):
            await self._wait_until(self._answer_at.popleft())
        if self._stopped:
            return None
        clock, audio_ms = self._clock, self.audio_ms
        return [
            *map(clock.message, results),
            *(clock.finalized_message(answer, audio_ms) for answer in answers),
        ]

    async def close(self) -> None:
        """Close the recognizer, if there is one. Call it once, and not during another call."""
        recognizer, self._recognizer = self._recognizer, None
        if recognizer is not None:
            try:
                await self._call(recognizer.close)
            except Exception:
                logger.exception("closing the recognizer %s failed", type(recognizer).__name__)

    # Inside

    @property
    def _opened(self) -> Recognizer:
        assert self._recognizer is not None, "open comes first, close last"
        return self._recognizer

    async def _wait_until(self, when: float) -> None:
        """Wait until a time of the event loop, or until `stop`."""
        loop = asyncio.get_running_loop()
        while not self._stopped and (left := when - loop.time()) > 0:
            self._arrived.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _take(self) -> Work:
        work = self._waiting.popleft()
        self._backlog_bytes -= _size_of(work)
        return work

    def _with_audio_behind(self, audio: bytes) -> bytes:
        """Join `audio` with the audio queued after it, because one call costs less than many."""
        pieces = [audio]
        size = len(audio)
        while self._waiting:
            following = self._waiting[0]
            if not isinstance(following, bytes) or size + len(following) > _PIECE_BYTES:
                break
            self._take()
            pieces.append(following)
            size += len(following)
        return audio if len(pieces) == 1 else b"".join(pieces)

    async def _call(
        self, function: Callable[_P, _T], *arguments: _P.args, **keywords: _P.kwargs
    ) -> _T:
        if not self._needs_thread:
            return function(*arguments, **keywords)
        call = functools.partial(function, *arguments, **keywords)
        future = self._executor.submit(_guarded, call)
        self._call_in_thread = future
        return await asyncio.wrap_future(future)


def _size_of(work: Work) -> int:
    return _OVERHEAD_BYTES + (len(work) if isinstance(work, bytes) else 0)


def _guarded(call: Callable[[], _T]) -> _T:
    try:
        return call()
    except StopIteration as error:
        # asyncio's futures refuse a StopIteration, so awaiting this one would never end.
        raise RuntimeError("a recognizer let a StopIteration out") from error
