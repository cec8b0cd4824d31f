"""Where audio comes from: what is taken, what is refused, and waits that can be left."""

from __future__ import annotations

import asyncio
import codecs
import gc
import io
import os
import subprocess
import sys
import tempfile
import threading
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import anyio
import pytest
import trio

from soniox_adapters import (
    SonioxValidationError,
    stream_audio,
    stream_audio_async,
    throttle_audio,
    throttle_audio_async,
)
from tests.support.adapters.server import PATIENCE

Backend: TypeAlias = str

posix = pytest.mark.skipif(os.name != "posix", reason="needs descriptors that can be polled")
both_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
FUNCTIONS: list[Callable[..., Any]] = [
    stream_audio,
    stream_audio_async,
    throttle_audio,
    throttle_audio_async,
]


def run(backend: Backend, function: Callable[[], Any]) -> Any:
    return trio.run(function) if backend == "trio" else asyncio.run(function())


def collect(chunks: AsyncIterator[bytes], backend: Backend) -> list[bytes]:
    async def collect_all() -> list[bytes]:
        return [chunk async for chunk in chunks]

    return cast("list[bytes]", run(backend, collect_all))


def everything(source: Any, form: str, size: int = 4096) -> bytes:
    """Return all of the audio of a source, read in one of three forms."""
    if form == "blocking":
        return b"".join(stream_audio(source, chunk_size_bytes=size))
    return b"".join(collect(stream_audio_async(source, chunk_size_bytes=size), form))


all_forms = pytest.mark.parametrize("form", ["blocking", "asyncio", "trio"])


# What is taken


class AnyPath:
    """A path that is not one of pathlib's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@all_forms
def test_every_kind_of_source(form: str, tmp_path: Path) -> None:
    audio = bytes(range(256)) * 2
    path = tmp_path / "audio.raw"
    path.write_bytes(audio)
    shorts = array("h")
    shorts.frombytes(audio)
    sources: list[Any] = [
        audio,
        bytearray(audio),
        memoryview(audio),
        memoryview(shorts),
        str(path),
        path,
        AnyPath(path),
        io.BytesIO(audio),
    ]
    for source in sources:
        assert everything(source, form, 100) == audio
    with path.open("rb") as buffered:
        assert everything(buffered, form, 100) == audio
    with path.open("rb", buffering=0) as unbuffered:
        assert everything(unbuffered, form, 100) == audio


def test_a_file_may_return_any_bytes() -> None:
    class Arrays:
        def __init__(self) -> None:
            self.left = [bytearray(b"ab"), memoryview(b"cd"), b""]

        def read(self, size: int) -> Any:
            return self.left.pop(0)

    chunks = list(stream_audio(cast("BinaryIO", Arrays())))
    assert chunks == [b"ab", b"cd"]
    assert {type(chunk) for chunk in chunks} == {bytes}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_text_is_refused_at_once(function: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "audio.txt"
    path.write_text("text")
    with (
        path.open(encoding="utf-8") as text,
        codecs.open(str(path), encoding="utf-8") as decoded,
        tempfile.NamedTemporaryFile("w+", encoding="utf-8") as temporary,
    ):
        for source in (text, decoded, temporary, io.StringIO("text")):
            with pytest.raises(TypeError, match=r"is open as text; .* mode 'rb'"):
                function(source)
        with pytest.raises(TypeError, match=r"audio\.txt is open as text"):
            function(text)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("source", [None, 5, [b"chunk"], object()])
def test_what_is_no_source_is_refused_at_once(function: Callable[..., Any], source: Any) -> None:
    with pytest.raises(TypeError, match=f"or bytes, not {type(source).__name__}"):
        function(source)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_that_no_system_has_is_refused_at_once(
    function: Callable[..., Any], kind: Callable[[str], Any]
) -> None:
    with pytest.raises(SonioxValidationError, match="has a null character in it"):
        function(kind("talk\0.wav"))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_memory_with_gaps_is_refused_at_once(function: Callable[..., Any]) -> None:
    with pytest.raises(SonioxValidationError, match="must be contiguous"):
        function(memoryview(bytes(10))[::2])


@all_forms
def test_a_file_whose_read_returns_text(form: str) -> None:
    class Text:
        name = "talk.txt"

        def read(self, size: int) -> str:
            return "text"

    with pytest.raises(TypeError, match=r"talk\.txt must be a binary file, .* returned str"):
        everything(Text(), form)


@all_forms
def test_an_error_of_the_file_is_raised(form: str) -> None:
    class Broken:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def read(self, size: int) -> bytes:
            raise self.error

    with pytest.raises(OSError, match="unplugged"):
        everything(Broken(OSError("unplugged")), form)
    with pytest.raises(RuntimeError, match="StopIteration"):
        everything(Broken(StopIteration("over")), form)


# Nothing yet is not the end


class Hesitant(io.RawIOBase):
    """A file that has nothing at every other read, as one in non-blocking mode may."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.reads = 0

    def read(self, size: int = -1) -> bytes | None:
        self.reads += 1
        if self.reads % 2:
            return None
        return self.pieces.pop(0) if self.pieces else b""


@all_forms
def test_none_is_not_the_end(form: str) -> None:
    source = Hesitant([b"first ", b"second"])
    assert everything(source, form) == b"first second"
    # No busy loop: one more try for each time there was nothing.
    assert source.reads == 6


@all_forms
def test_none_is_not_the_end_of_a_throttled_source(form: str) -> None:
    source = cast("BinaryIO", Hesitant([b"first ", b"second"]))
    if form == "blocking":
        assert list(throttle_audio(source)) == [b"first ", b"second"]
    else:
        assert collect(throttle_audio_async(source), form) == [b"first ", b"second"]


class Pipe:
    """A pipe whose writer waits for each piece to be taken."""

    def __init__(self, *, blocking: bool, buffering: int) -> None:
        self.read_end, write_end = os.pipe()
        os.set_blocking(self.read_end, blocking)
        self.reader = open(self.read_end, "rb", buffering=buffering)  # noqa: SIM115
        self.writer = open(write_end, "wb", buffering=0)  # noqa: SIM115

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *exception: object) -> None:
        self.reader.close()
        self.writer.close()


@pytest.fixture(params=[(True, 0), (True, -1), (False, 0), (False, -1)])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    """A pipe, blocking or not, buffered or not."""
    blocking, buffering = request.param
    with Pipe(blocking=blocking, buffering=buffering) as made:
        yield made


@posix
@all_forms
def test_a_pipe_is_read_to_its_end(form: str, pipe: Pipe) -> None:
    blocking = os.get_blocking(pipe.read_end)
    started = threading.Event()

    def write() -> None:
        started.wait(PATIENCE)
        # More than a pipe holds: it runs full, and empty.
        for _ in range(20):
            pipe.writer.write(bytes(10_000))
        pipe.writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    threading.Timer(0.05, started.set).start()
    assert everything(pipe.reader, form) == bytes(200_000)
    thread.join()
    assert os.get_blocking(pipe.read_end) is blocking


@posix
@all_forms
@pytest.mark.parametrize("blocking", [True, False])
def test_what_a_buffered_file_has_read_ahead_is_not_lost(form: str, blocking: bool) -> None:
    with Pipe(blocking=blocking, buffering=-1) as pipe:
        pipe.writer.write(b"head" + bytes(100))
        assert pipe.reader.read(4) == b"head"
        pipe.writer.write(b"tail")
        pipe.writer.close()
        assert everything(pipe.reader, form, 60) == bytes(100) + b"tail"
        assert os.get_blocking(pipe.read_end) is blocking


@posix
@all_forms
def test_chunks_of_a_buffered_pipe_are_whole(form: str) -> None:
    with Pipe(blocking=True, buffering=-1) as pipe:
        for _ in range(5):
            pipe.writer.write(bytes(30))
        pipe.writer.close()
        if form == "blocking":
            chunks = list(stream_audio(pipe.reader, chunk_size_bytes=40))
        else:
            source = pipe.reader
            chunks = collect(stream_audio_async(source, chunk_size_bytes=40), form)
    assert [len(chunk) for chunk in chunks] == [40, 40, 40, 30]


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
@both_backends
def test_a_device_that_cannot_be_waited_for(backend: Backend) -> None:
    async def first() -> bytes:
        async with aclosing(cast("Any", stream_audio_async("/dev/zero"))) as chunks:
            return cast("bytes", await anext(chunks))

    assert run(backend, first) == bytes(4096)
    assert collect(stream_audio_async(os.devnull), backend) == []


# Waits can be left


class Silent:
    """A file whose read waits until it is released."""

    def __init__(self) -> None:
        self.reading = threading.Event()
        self.released = threading.Event()

    def read(self, size: int) -> bytes:
        self.reading.set()
        assert self.released.wait(PATIENCE)
        return b"too late"


async def give_up(source: Any, function: Callable[..., Any]) -> None:
    with anyio.move_on_after(0.05) as scope:
        async with aclosing(function(source)) as chunks:
            await anext(chunks)
    assert scope.cancelled_caught


@posix
@both_backends
@pytest.mark.parametrize("function", [stream_audio_async, throttle_audio_async])
def test_a_silent_pipe_can_be_left(
    pipe: Pipe, backend: Backend, function: Callable[..., Any]
) -> None:
    run(backend, lambda: give_up(pipe.reader, function))
    # And it can be taken up again.
    pipe.writer.write(b"late")
    pipe.writer.close()
    assert everything(pipe.reader, "blocking") == b"late"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@both_backends
def test_a_named_pipe_without_a_writer_can_be_left(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "audio"
    os.mkfifo(path)
    run(backend, lambda: give_up(path, stream_audio_async))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@all_forms
def test_a_named_pipe_is_waited_for(form: str, tmp_path: Path) -> None:
    path = tmp_path / "audio"
    os.mkfifo(path)
    timer = threading.Timer(0.05, path.write_bytes, [b"audio"])
    timer.start()
    assert everything(path, form) == b"audio"
    timer.join()


@both_backends
def test_a_file_that_waits_in_its_own_way_can_be_left(backend: Backend) -> None:
    source = Silent()
    run(backend, lambda: give_up(source, stream_audio_async))
    assert source.reading.is_set()
    source.released.set()
    # The thread that was left behind ends, or becomes an idle one of trio's.
    for thread in threading.enumerate():
        while thread.name == "soniox-audio-source" or "<lambda>" in thread.name:
            if not thread.is_alive():
                break
            thread.join(0.01)


# What is opened is closed


def open_descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))


@posix
@pytest.mark.parametrize("function", [stream_audio, throttle_audio])
def test_an_iterator_that_is_closed_closes_its_file(
    function: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "audio.raw"
    path.write_bytes(bytes(10_000))
    before = open_descriptors()
    chunks = function(path, chunk_size_bytes=10)
    next(chunks)
    assert open_descriptors() > before
    chunks.close()
    assert open_descriptors() == before


@posix
@both_backends
@pytest.mark.parametrize("function", [stream_audio_async, throttle_audio_async])
def test_an_async_iterator_that_is_closed_closes_its_file(
    function: Callable[..., Any], backend: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "audio.raw"
    path.write_bytes(bytes(10_000))

    async def begin() -> None:
        before = open_descriptors()
        chunks = function(path, chunk_size_bytes=10, **delay)
        await anext(chunks)
        assert open_descriptors() > before
        with anyio.move_on_after(0.05):
            await anext(chunks)
        await chunks.aclose()
        assert open_descriptors() == before

    delay = {"delay_seconds": 1000.0} if function is throttle_audio_async else {}
    run(backend, begin)
    # A generator that was left to the garbage collector would warn here.
    gc.collect()


# Programs

EXIT_WITH_A_SILENT_PIPE = """
import sys
from soniox_adapters import *
from tests.support.adapters.server import FakeServer
from tests.support.core.messages import API_KEY, CONFIG

def refuse(peer):
    peer.start()
    peer.say('{"error_code": 503, "error_type": "service_unavailable", "error_message": "x"}')
    peer.read_to_the_end()

with FakeServer(refuse) as server:
    try:
        with RealtimeSTTSession(server.url, CONFIG, API_KEY, close_timeout_sec=0.2) as session:
            start_audio_thread(session, stream_audio(sys.stdin.buffer))
            list(session.receive_events())
    except SonioxServiceUnavailableError:
        print("handled")
"""


@posix
def test_a_program_ends_while_its_audio_thread_waits_for_standard_input() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", EXIT_WITH_A_SILENT_PIPE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stdout, process.stderr:
        # The pipe stays open and silent.
        assert process.wait(PATIENCE) == 0, process.stderr.read().decode()
        assert (process.stdout.read(), process.stderr.read()) == (b"handled\n", b"")


EXIT_AFTER_A_TIMEOUT = """
import asyncio, sys
from soniox_adapters import stream_audio_async

class Silent:
    def read(self, size):
        return sys.stdin.buffer.raw.read(size)

async def main():
    try:
        await asyncio.wait_for(anext(stream_audio_async(Silent())), 0.1)
    except asyncio.TimeoutError:
        print("left")

asyncio.run(main())
"""


@posix
def test_a_program_ends_while_a_read_of_its_own_waits() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", EXIT_AFTER_A_TIMEOUT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stdout, process.stderr:
        assert process.wait(PATIENCE) == 0
        assert (process.stdout.read(), process.stderr.read()) == (b"left\n", b"")
