"""Recognizers in separate processes, so that none blocks the event loop or another recognizer."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, Final, TypeAlias, cast

from soniox_adapters.server.recognizer import Recognizer, RecognizerFactory
from soniox_proto import RealtimeEvent, RealtimeSTTConfig, SonioxError, SonioxValidationError

__all__ = ["OwnProcess"]


class OwnProcess:
    """A `RecognizerFactory` that runs each recognizer in a Python process of its own.

    For recognizers that hold the interpreter's lock while they work: in threads they would block
    the event loop and each other. Processes also let streams use several cores. When a stream ends,
    its process is kept for the next one; with pocketsphinx it takes 0.7 s to start and 130 MB.

    The recognizers raise `SonioxError` if their process ends unexpectedly.
    """

    def __init__(self, factory: RecognizerFactory, *, max_idle_processes: int = 2) -> None:
        """Prepare to run `factory` in other processes, of which `max_idle_processes` are kept idle.

        Raises `SonioxValidationError` unless `factory` is a class or function at the top level of
        an importable module, because the other process has to find it by its name.
        """
        module, name = getattr(factory, "__module__", ""), getattr(factory, "__qualname__", "")
        if module == "__main__" or getattr(sys.modules.get(module), name, None) is not factory:
            raise SonioxValidationError(
                f"a recognizer's process must import its factory by name, which it cannot do for "
                f"{factory!r}; expected a class or function at the top level of a module"
            )
        self._factory_name = f"{module}:{name}"
        self._max_idle_processes = max_idle_processes
        self._idle: list[_Worker] = []
        self._lent: set[_Worker] = set()
        self._killed = False
        self._lock = threading.Lock()
        atexit.register(self.close)

    def __call__(self, config: RealtimeSTTConfig) -> Recognizer:
        """Return the recognizer of a new stream.

        Raises what the factory raises, and `SonioxError` if a process cannot be started.
        """
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or _Worker(self._factory_name)
        with self._lock:
            self._lent.add(worker)
            killed = self._killed
        if killed:
            self._give_back(worker)
            raise SonioxError("the processes of the recognizers were ended")
        try:
            return _RemoteRecognizer(worker, config, self._give_back)
        except SonioxError:
            self._give_back(worker)
            raise

    def preload(self) -> None:
        """Start a process and load its model, so that the first stream does not have to wait.

        Raises what the factory raises, and `SonioxError` if a process cannot be started.
        """
        self(RealtimeSTTConfig(model="preload")).close()

    def close(self) -> None:
        """End the idle processes; those of open streams end when their streams do."""
        atexit.unregister(self.close)
        with self._lock:
            idle, self._idle, self._max_idle_processes = self._idle, [], 0
        for worker in idle:
            worker.stop()

    def kill(self) -> None:
        """End all processes at once. The recognizers of open streams raise `SonioxError` then."""
        self.close()
        with self._lock:
            self._killed = True
            lent = list(self._lent)
        for worker in lent:
            worker.stop()

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            self._lent.discard(worker)
            if worker.running and len(self._idle) < self._max_idle_processes:
                self._idle.append(worker)
                return
        worker.stop()


class _RemoteRecognizer:
    """Stands for a recognizer in another process."""

    def __init__(
        self,
        worker: _Worker,
        config: RealtimeSTTConfig,
        give_back: Callable[[_Worker], None],
    ) -> None:
        worker.ask("open", config)
        self._worker: _Worker | None = worker
        self._give_back = give_back
        self.final_audio_proc_ms = 0
        self.total_audio_proc_ms = 0

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        return self._ask("feed", audio)

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        return self._ask("finalize", trailing_silence_ms)

    def finish(self) -> list[RealtimeEvent]:
        return self._ask("finish")

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        # If the process has ended, there is nothing left to close.
        with contextlib.suppress(SonioxError):
            worker.ask("close")
        self._give_back(worker)

    def _ask(self, method: str, *arguments: object) -> list[RealtimeEvent]:
        assert self._worker is not None, "a closed recognizer is only closed again"
        answer = self._worker.ask(method, *arguments)
        messages, self.final_audio_proc_ms, self.total_audio_proc_ms = answer
        return messages


_Answer: TypeAlias = "tuple[list[RealtimeEvent], int, int]"
"""Messages, `final_audio_proc_ms`, `total_audio_proc_ms`."""

# Passes on the module search path, so that the other process can import the same modules.
_WORKER_PROGRAM: Final = (
    "import sys; factory_name, *sys.path[:] = sys.argv[1:]; "
    "from soniox_adapters.server.recognizer_process import serve_parent_process as serve; "
    "serve(factory_name)"
)


class _Worker:
    """A process that runs one recognizer at a time, driven by requests and answers over pipes."""

    def __init__(self, factory_name: str) -> None:
        program = [sys.executable, "-c", _WORKER_PROGRAM, factory_name, *sys.path]
        try:
            # In its own process group, so that Ctrl-C in a terminal reaches only this process. The
            # other one ends when its pipe is closed.
            self._process = subprocess.Popen(
                program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise SonioxError(f"cannot start a process for the recognizer: {error}") from error
        self._requests = cast("BinaryIO", self._process.stdin)
        self._answers = cast("BinaryIO", self._process.stdout)

    def ask(self, method: str, *arguments: object) -> _Answer:
        try:
            pickle.dump((method, arguments), self._requests)
            self._requests.flush()
            answer = pickle.load(self._answers)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            self.stop(grace_seconds=1.0)
            raise SonioxError(
                "the recognizer's process ended unexpectedly, with exit status "
                f"{self._process.returncode}"
            ) from error
        except BaseException:
            # Interrupted between request and answer: the next request would get this answer.
            self.stop()
            raise
        if isinstance(answer, Exception):
            raise answer
        return cast("_Answer", answer)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, *, grace_seconds: float = 0.0) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_seconds)
        self._process.kill()
        self._process.wait()
        self._answers.close()
        # close flushes, which fails if a request is left that the process will never read.
        with contextlib.suppress(OSError):
            self._requests.close()


def serve_parent_process(factory_name: str) -> None:
    """Run the other process of an `OwnProcess`; called by `_WORKER_PROGRAM` only."""
    requests = sys.stdin.buffer
    # Standard output becomes standard error, so that nothing a library prints gets between answers.
    # A broken pipe means that the parent has gone and wants no answer.
    with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        _serve(factory_name, requests, answers)


def _serve(factory_name: str, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests, with one recognizer after another, until the pipe is closed."""
    module, name = factory_name.split(":")
    recognizer: Recognizer | None = None
    while True:
        try:
            method, arguments = pickle.load(requests)
        except (EOFError, pickle.UnpicklingError):
            # The parent has gone, perhaps in the middle of a request.
            return
        answer: _Answer | SonioxError
        try:
            if method == "open":
                factory = cast("RecognizerFactory", getattr(importlib.import_module(module), name))
                recognizer = factory(*arguments)
                messages: list[RealtimeEvent] = []
            else:
                messages = getattr(recognizer, method)(*arguments) or []
            assert recognizer is not None, "the first request opens a recognizer"
            answer = messages, recognizer.final_audio_proc_ms, recognizer.total_audio_proc_ms
        except SonioxError as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()
