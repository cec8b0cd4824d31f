"""Handling Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from soniox_adapters.cli.recording import Recording
from soniox_adapters.session.base import SessionBase

__all__ = ["Interruption", "signals_handled", "signals_handled_in_loop"]


@contextmanager
def signals_handled(handler: Callable[[], object], *numbers: int) -> Generator[None, None, None]:
    """Call `handler` in the main thread for the given signals."""

    def handle(number: int, frame: FrameType | None) -> None:
        handler()

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)


@contextmanager
def signals_handled_in_loop(
    handler: Callable[[], object], *numbers: int
) -> Generator[None, None, None]:
    """Call `handler` in the running event loop of asyncio for the given signals.

    A handler of Python's own would not do: a signal that arrives just before the event loop begins
    to wait, or in another thread, does not end that wait, and is handled when something else does.
    """
    loop = asyncio.get_running_loop()
    with signals_handled(lambda: loop.call_soon_threadsafe(handler), *numbers):
        try:
            for number in numbers:
                loop.add_signal_handler(number, handler)
        except NotImplementedError:
            # Windows, where every signal wakes asyncio's event loop.
            yield
            return
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


class Interruption:
    """What Ctrl-C does: first end the audio gracefully; pressed again, stop at once.

    If no audio has been sent yet, there is nothing to wait for, so the first one stops at once.
    """

    def __init__(
        self,
        session: SessionBase,
        recording: Recording,
        *,
        announce_stop: Callable[[], object],
        stop_at_once: Callable[[], object],
    ) -> None:
        self.happened = False
        """Whether Ctrl-C has been pressed."""
        self.at_once = False
        """Whether the stream was ended without waiting for the rest of the transcript."""
        self._session = session
        self._recording = recording
        self._announce_stop = announce_stop
        self._stop_at_once = stop_at_once

    def __call__(self) -> None:
        """Handle one press of Ctrl-C."""
        again, self.happened = self.happened, True
        if not again and self._session.stats.sent_audio_bytes:
            self._recording.stop()
            self._announce_stop()
        else:
            self.at_once = True
            self._stop_at_once()
