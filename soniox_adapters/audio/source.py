"""Where audio comes from: memory, a file, or a pipe that may stay silent forever.

It must be possible to give up waiting for audio. A `read` of a pipe, terminal or socket cannot be
interrupted, and holds the lock of a buffered file meanwhile; an interpreter that exits at that
moment aborts, because it needs the lock. So these are polled, and read only once they have data.
Any other object is read as it is; async code does that in a thread which can be left behind.
"""

from __future__ import annotations

import io
import os
import select
import stat
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypeAlias, TypeVar, cast

from typing_extensions import TypeIs

from soniox_adapters.async_.event_loop import running_library
from soniox_adapters.session.base import AudioChunk
from soniox_proto import SonioxValidationError

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "AudioSource",
    "ChunkReader",
    "check_source",
    "is_audio",
    "open_source",
    "source_name",
]

AudioSource: TypeAlias = "os.PathLike[str] | str | BinaryIO | AudioChunk"
"""The path of a file, an open binary file, or the audio itself."""

RETRY_INTERVAL: Final = 0.02
"""Seconds before reading again from a file without a descriptor that had no data."""

_T = TypeVar("_T")


class ChunkReader(Protocol):
    """An open source that is read in chunks."""

    def read(self, size: int) -> bytes:
        """Wait for the next chunk and return it; ``b""`` at the end."""
        ...

    async def read_async(self, size: int) -> bytes:
        """Do the same without blocking the event loop; a cancellation takes effect at once."""
        ...


def is_audio(source: object) -> TypeIs[AudioChunk]:
    """Return whether `source` is the audio itself."""
    return isinstance(source, (bytes, bytearray, memoryview))


def check_source(source: AudioSource) -> None:
    """Check that a source can be read, so that the caller's mistake is raised before any waiting.

    Raises:
        TypeError: It is not a source of bytes.
        SonioxValidationError: It is a memoryview that is not contiguous, or an impossible path.
    """
    if is_audio(source):
        if isinstance(source, memoryview) and not source.c_contiguous:
            raise SonioxValidationError("audio in a memoryview must be contiguous")
    elif isinstance(source, io.TextIOBase) or isinstance(getattr(source, "encoding", None), str):
        raise TypeError(
            f"{source_name(source)} is open as text; audio is binary: open it with mode 'rb', or "
            "use its .buffer, as in sys.stdin.buffer"
        )
    elif isinstance(source, (str, os.PathLike)):
        if "\0" in source_name(source):
            raise SonioxValidationError("the path of the audio file has a null character in it")
    elif not callable(getattr(cast("object", source), "read", None)):
        raise TypeError(
            "expected the path of an audio file, a binary file or bytes, not "
            f"{type(source).__name__}"
        )


def source_name(source: object) -> str:
    """Return a name for a source in error texts."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(cast("os.PathLike[str]", source))
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name else "the audio"


@contextmanager
def open_source(source: os.PathLike[str] | str | BinaryIO) -> Generator[ChunkReader, None, None]:
    """Open a path and close it afterwards, or use a file, which stays open.

    Raises `OSError` if the path cannot be opened.
    """
    if isinstance(source, (str, os.PathLike)):
        with (
            open(source, "rb", buffering=0, opener=_open_without_waiting) as file,
            _reader(cast("BinaryIO", file)) as reader,
        ):
            yield reader
    else:
        with _reader(source) as reader:
            yield reader


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a named pipe would block until it has a writer. Reading waits for that instead,
    # because that wait can be given up.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def _reader(file: BinaryIO) -> Generator[ChunkReader, None, None]:
    descriptor = _pollable_descriptor(file)
    if descriptor is None:
        yield _FileReader(file)
        return
    # A duplicate, because the file may be closed and its descriptor reused during a wait.
    copy = os.dup(descriptor)
    try:
        if isinstance(file, io.BufferedReader):
            buffered = _take_buffered(cast("BinaryIO", file))
            yield _DescriptorReader(copy, buffered, whole=True)
        else:
            yield _DescriptorReader(copy)
    finally:
        os.close(copy)


def _pollable_descriptor(file: BinaryIO) -> int | None:
    """Return the descriptor of a pipe, socket or device, if `file` just reads that.

    None for any other object, for example a compressed file, whose `read` does more.
    """
    raw = getattr(file, "raw", None) if type(file) is io.BufferedReader else file
    if type(raw) is not io.FileIO or not hasattr(select, "poll"):
        return None
    descriptor = raw.fileno()
    return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor


def _take_buffered(file: BinaryIO) -> bytes:
    """Take the data that a buffered file has read ahead, without waiting for more."""
    descriptor = file.fileno()
    blocking = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    try:
        return cast("io.BufferedReader", file).read1() or b""
    finally:
        os.set_blocking(descriptor, blocking)


class _DescriptorReader:
    """Reads a pipe, a socket or a device once it has data.

    With `whole`, every chunk but the last has the size asked for, as with a buffered file.
    """

    def __init__(self, descriptor: int, held: bytes = b"", *, whole: bool = False) -> None:
        self._descriptor = descriptor
        self._held = bytearray(held)
        self._whole = whole
        self._ended = False
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def read(self, size: int) -> bytes:
        while (chunk := self._take(size)) is None:
            self._poll.poll()
        return chunk

    async def read_async(self, size: int) -> bytes:
        while (chunk := self._take(size)) is None:
            await _wait_readable(self._descriptor)
        return chunk

    def _take(self, size: int) -> bytes | None:
        """Return the next chunk, ``b""`` at the end, None if it has not arrived yet."""
        wanted = size if self._whole else 1
        while len(self._held) < wanted and not self._ended:
            if not self._poll.poll(0):
                return None
            try:
                data = os.read(self._descriptor, size - len(self._held))
            except BlockingIOError:
                # Another reader of this pipe was faster.
                return None
            self._held += data
            self._ended = not data
        chunk = bytes(self._held[:size])
        del self._held[:size]
        return chunk


class _FileReader:
    """Reads any object with a `read` method."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        while (chunk := self._take(size)) is None:
            time.sleep(RETRY_INTERVAL)
        return chunk

    async def read_async(self, size: int) -> bytes:
        import anyio

        chunk: bytes | None = None
        while chunk is None:
            chunk = await _call_in_thread(lambda: self._take(size))
            if chunk is None:
                await anyio.sleep(RETRY_INTERVAL)
        return chunk

    def _take(self, size: int) -> bytes | None:
        """Return what `read` returns: ``b""`` at the end, None if there is no data yet."""
        data = cast("object", self._file.read(size))
        if data is None:
            return None
        if is_audio(data):
            return bytes(data)
        raise TypeError(
            f"{source_name(self._file)} must be a binary file, but its read() returned "
            f"{type(data).__name__}"
        )


async def _wait_readable(descriptor: int) -> None:
    try:
        if running_library() == "trio":
            import trio

            await trio.lowlevel.wait_readable(descriptor)
            return
        import asyncio

        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(descriptor, _resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
    except PermissionError:
        # epoll refuses devices that are always readable, such as /dev/zero.
        return


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _call_in_thread(call: Callable[[], _T]) -> _T:
    """Await `call` in a thread, which a cancellation or the program's exit leaves behind."""
    if running_library() == "trio":
        import trio

        return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
    # Not an executor, because the interpreter waits for its threads when it exits.
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(error: Exception | None, result: _T | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(cast("_T", result))
        else:
            future.set_exception(error)

    def work() -> None:
        outcome: tuple[Exception | None, _T | None]
        try:
            outcome = None, call()
        except StopIteration as error:
            # A future refuses a StopIteration, so waiting for it would never end.
            outcome = RuntimeError(f"reading the audio raised {error!r}"), None
        except Exception as error:
            outcome = error, None
        try:
            loop.call_soon_threadsafe(settle, *outcome)
        except RuntimeError:
            return  # The event loop has ended meanwhile.

    thread = threading.Thread(target=work, name="soniox-audio-source", daemon=True)
    thread.start()
    try:
        return await future
    finally:
        if not future.cancelled():
            # Does not wait, because the call has returned. The thread should be gone for anyone who
            # counts threads.
            thread.join()
