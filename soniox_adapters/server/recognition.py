"""The recognizer of one stream at work: in order, and off the event loop."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from soniox_adapters.server.recognizer import Recognizer, RecognizerFactory
from soniox_adapters.server.scripted_recognizer import ScriptedRecognizer
from soniox_proto import EndOfAudioReceived, FinalizeReceived, RealtimeEvent, RealtimeSTTConfig
from soniox_proto.server_clock import ServerClock

__all__ = ["Recognition", "Work"]

logger = logging.getLogger(__name__)

Work: TypeAlias = bytes | FinalizeReceived | EndOfAudioReceived
"""What a stream brings: audio, a finalize, or the end of the audio."""

_PIECE_BYTES: Final = 32 * 1024
"""Audio of one call of a recognizer, about a second of speech: results of a long message come as
they are found, and whoever ends a stream waits for one call only."""

_OVERHEAD_BYTES: Final = 200
"""Counted for each piece of waiting work beside its audio: endless tiny ones fill memory too."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Recognition:
    """One stream's queue of work, and the recognizer that does it.

    Belongs to the event loop that is running; the recognizer's own calls are made in threads of
    `executor`, one at a time and in the order of the work. Its results come with their times on the
    clock of the service.
    """

    def __init__(
        self, factory: RecognizerFactory, config: RealtimeSTTConfig, executor: Executor
    ) -> None:
        self._factory = factory
        self._config = config
        self._executor = executor
        self._clock = ServerClock()
        self._waiting: deque[Work] = deque()
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
        """Size of the work that waits, in bytes."""
        return self._backlog_bytes

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @property
    def running_call(self) -> Future[Any] | None:
        """The call of the recognizer that is running in a thread, if there is one."""
        call = self._call_in_thread
        return None if call is None or call.done() else call

    @property
    def audio_ms(self) -> int:
        """Audio that the recognizer has taken, in ms; only between calls of `next_results`."""
        return self._opened.total_audio_proc_ms

    @property
    def final_audio_proc_ms(self) -> int:
        """Position on the service's clock; only between calls of `next_results`."""
        return self._clock.position(self._opened.final_audio_proc_ms)

    @property
    def total_audio_proc_ms(self) -> int:
        """Position on the service's clock; only between calls of `next_results`."""
        return self._clock.position(self._opened.total_audio_proc_ms)

    # Work in

    def put(self, work: Work) -> None:
        """Queue `work`. It is done by `next_results`."""
        if isinstance(work, bytes) and len(work) > _PIECE_BYTES:
            for start in range(0, len(work), _PIECE_BYTES):
                self.put(work[start : start + _PIECE_BYTES])
            return
        self._waiting.append(work)
        self._backlog_bytes += _size_of(work)
        self._arrived.set()

    def stop(self) -> None:
        """Forget the work that waits; `next_results` returns None from now on."""
        self._stopped = True
        self._waiting.clear()
        self._backlog_bytes = 0
        self._arrived.set()

    # Results out

    async def open(self) -> None:
        """Make the recognizer; raises what its factory raises."""
        self._recognizer = await self._call(self._factory, self._config)
        # A script is played faster than a thread could be told to play it.
        self._needs_thread = not isinstance(self._recognizer, ScriptedRecognizer)

    async def next_results(self) -> list[RealtimeEvent] | None:
        """Wait for work, do it, and return its results; None after the end, or when stopped.

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
        if self._stopped:
            return None
        clock, audio_ms = self._clock, self.audio_ms
        return [
            *map(clock.message, results),
            *(clock.finalized_message(answer, audio_ms) for answer in answers),
        ]

    async def close(self) -> None:
        """Close the recognizer, if there is one; to be called once, and not during a call."""
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

    def _take(self) -> Work:
        work = self._waiting.popleft()
        self._backlog_bytes -= _size_of(work)
        return work

    def _with_audio_behind(self, audio: bytes) -> bytes:
        """Join `audio` with the audio that waits behind it: one call costs less than many."""
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
        # asyncio's futures do not take it, so whoever awaits this one would wait forever.
        raise RuntimeError("a recognizer let a StopIteration out") from error
