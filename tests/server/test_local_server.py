"""The local server over real sockets: what a client sees, and what stays behind."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed

import soniox_adapters.server.client_session as client_session_module
import soniox_adapters.server.local_server as local_server_module
from soniox_adapters.server import (
    AudioDecodeError,
    LocalServer,
    OwnProcess,
    PocketsphinxRecognizer,
    Recognizer,
    RecognizerFactory,
    run_in_thread,
    scripted,
)
from soniox_proto import (
    Finished,
    RealtimeEvent,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    SonioxConnectionError,
    SonioxStateError,
    SonioxValidationError,
    Token,
)

pytestmark = pytest.mark.anyio

KEY = "local-key-1234"
RAW: dict[str, Any] = {
    "model": "stt-rt-v5",
    "audio_format": "pcm_s16le",
    "sample_rate": 16_000,
    "num_channels": 1,
}
SECOND = bytes(32_000)
FINALIZE = '{"type":"finalize"}'
KEEPALIVE = '{"type":"keepalive"}'


# Doubles


class Recorder:
    """A recognizer that answers each call with one message, and remembers the calls."""

    def __init__(self, config: RealtimeSTTConfig) -> None:
        self.config = config
        self.fed: list[bytes] = []
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.closed = threading.Event()
        self.text = "x"
        self.raises: dict[str, BaseException] = {}
        self._in_call = threading.Lock()

    @property
    def final_audio_proc_ms(self) -> int:
        return self.total_audio_proc_ms

    @property
    def total_audio_proc_ms(self) -> int:
        return sum(map(len, self.fed)) // 32

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        with self._call("feed"):
            self.fed.append(audio)
        return [self._message(f"{self.text}{len(self.fed)} ")]

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        with self._call(f"finalize {trailing_silence_ms}"):
            return [self._message("<fin>")]

    def finish(self) -> list[RealtimeEvent]:
        with self._call("finish"):
            return [self._message("rest")]

    def close(self) -> None:
        with self._call("close"):
            self.closed.set()

    def _call(self, name: str) -> threading.Lock:
        assert self._in_call.acquire(blocking=False), f"{name} began before another call ended"
        self._in_call.release()
        self.calls.append(name)
        self.threads.add(threading.current_thread().name)
        self.gate.wait(30)
        if error := self.raises.get(name.split()[0]):
            raise error
        return self._in_call

    def _message(self, text: str) -> RealtimeEvent:
        return RealtimeEvent(
            tokens=[Token(text=text, is_final=True)],
            final_audio_proc_ms=self.total_audio_proc_ms,
            total_audio_proc_ms=self.total_audio_proc_ms,
        )


class Recorders:
    """A factory that keeps the recorders it made; `prepare` is applied to each."""

    def __init__(self, prepare: Callable[[Recorder], object] = lambda _: None) -> None:
        self.made: list[Recorder] = []
        self._prepare = prepare

    def __call__(self, config: RealtimeSTTConfig) -> Recognizer:
        recorder = Recorder(config)
        self._prepare(recorder)
        self.made.append(recorder)
        return recorder

    @property
    def only(self) -> Recorder:
        assert len(self.made) == 1
        return self.made[0]


def raising(call: str, error: BaseException) -> Recorders:
    return Recorders(lambda recorder: recorder.raises.update({call: error}))


# Clients


class Client:
    """A WebSocket client that knows nothing of this library."""

    def __init__(self, connection: websockets.asyncio.client.ClientConnection) -> None:
        self.connection = connection
        self.send = connection.send

    async def start(self, **fields: Any) -> None:
        await self.send(json.dumps({**RAW, **fields}))

    async def receive(self) -> dict[str, Any]:
        message = json.loads(await self.connection.recv())
        assert isinstance(message, dict)
        return message

    async def rest(self) -> list[dict[str, Any]]:
        """Return every message until the close frame, which must have code 1000."""
        messages = [json.loads(message) async for message in self.connection]
        assert self.connection.close_code == 1000
        return messages

    async def error(self) -> tuple[int, str, str]:
        """Return code, type and text of the error that ends the session."""
        error = (await self.rest())[-1]
        assert error["tokens"] == []
        assert len(error["request_id"]) == 36
        name = error["error_type"].replace("_", "-")
        assert error["more_info"] == f"https://soniox.com/docs/api-reference/errors#{name}"
        return error["error_code"], error["error_type"], error["error_message"]


@asynccontextmanager
async def connected(server: LocalServer, path: str = "", **options: Any) -> AsyncIterator[Client]:
    async with websockets.asyncio.client.connect(
        server.url + path, ping_interval=None, **options
    ) as connection:
        yield Client(connection)


def text_of(messages: list[dict[str, Any]]) -> str:
    return "".join(t["text"] for m in messages for t in m["tokens"] if t["is_final"])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class RawClient:
    """A client that reads and writes only when told, and answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, message: bytes | str) -> None:
        opcode, data = (1, message.encode()) if isinstance(message, str) else (2, message)
        self.frame(opcode, data)

    def frame(self, opcode: int, data: bytes) -> None:
        length = len(data)
        if length < 126:
            header = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
        elif length < 65_536:
            header = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            header = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
        # A masking key of zeros leaves the payload as it is.
        self.writer.write(header + bytes(4) + data)

    async def read_frame(self) -> tuple[int, bytes]:
        opcode, length = await self.reader.readexactly(2)
        if length >= 126:
            size = {126: 2, 127: 8}[length]
            length = int.from_bytes(await self.reader.readexactly(size), "big")
        return opcode & 15, await self.reader.readexactly(length)


@asynccontextmanager
async def raw_connected(server: LocalServer, *, start: bool = True) -> AsyncIterator[RawClient]:
    # A small limit: what the client does not read must stay in the kernel, not here.
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    client = RawClient(reader, writer)
    try:
        writer.write(
            b"GET /any HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        if start:
            client.send(json.dumps(RAW))
        yield client
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def read_until_dropped(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""


async def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)


def recognizer_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("soniox-recognizer")]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert recognizer_threads() == []


# A session


@pytest.mark.parametrize("path", ["", "/any/other?path=1"])
async def test_a_session_from_start_to_finish(path: str) -> None:
    messages: list[dict[str, Any]] = [
        {"tokens": [{"text": "he", "is_final": False}]},
        {"tokens": [{"text": "hello", "is_final": True, "speaker": "1"}]},
    ]
    async with LocalServer(recognizer=scripted(messages, ms_per_message=100)) as server:
        async with connected(server, path) as client:
            assert server.connections == 1
            await client.start()
            await client.send(SECOND)
            first = await client.receive()
            assert (first["tokens"], first["total_audio_proc_ms"]) == (messages[0]["tokens"], 100)
            assert "finished" not in first
            assert (await client.receive())["tokens"] == messages[1]["tokens"]
            assert server.sessions_served == 0
            await client.send("")
            assert await client.rest() == [
                {
                    "tokens": [],
                    "final_audio_proc_ms": 1000,
                    "total_audio_proc_ms": 1000,
                    "finished": True,
                }
            ]
        await eventually(lambda: server.connections == 0)
        assert server.sessions_served == 1


async def test_our_own_core_finishes_a_session() -> None:
    async with LocalServer(recognizer=scripted("Hello there."), api_key=KEY) as server:
        config = RealtimeSTTConfig.validate_config(RAW)
        core = RealtimeSTTConnection(server.url, config, api_key=KEY)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        core.connect(0.0)
        core.send_audio(SECOND, 0.0)
        core.finish(0.0)
        events: list[object] = []
        while not core.closed:
            writer.write(core.data_to_send())
            events += core.receive_data(await reader.read(65_536), 0.0)
        writer.write(core.data_to_send())
        writer.close()
        await writer.wait_closed()
        assert any(isinstance(event, Finished) for event in events)


async def test_finalize_is_answered_by_fin() -> None:
    recorders = Recorders()
    async with LocalServer(recognizer=recorders) as server, connected(server) as client:
        await client.start()
        await client.send(b"ab")
        await client.send(FINALIZE)
        await client.send('{"type":"finalize","trailing_silence_ms":300}')
        await client.send(KEEPALIVE)
        await client.send(b"")
        await client.send("")
        messages = await client.rest()
        assert text_of(messages) == "x1 <fin><fin>rest"
        assert messages[1]["tokens"][-1] == {"text": "<fin>", "is_final": True}
        assert messages[-1]["finished"] is True
        await eventually(recorders.only.closed.is_set)
        assert recorders.only.calls == ["feed", "finalize None", "finalize 300", "finish", "close"]


async def test_answers_take_as_long_as_those_of_the_service() -> None:
    loop = asyncio.get_running_loop()
    async with LocalServer(recognizer=Recorders()) as server, connected(server) as client:
        await client.start()
        await client.send(SECOND)
        asked_at = loop.time()
        await client.send(FINALIZE)
        while not any(token["text"] == "<fin>" for token in (await client.receive())["tokens"]):
            pass
        assert loop.time() - asked_at >= 0.13
        asked_at = loop.time()
        await client.send("")
        assert (await client.rest())[-1]["finished"]
        assert loop.time() - asked_at >= 0.13


async def test_finalizes_do_not_wait_for_each_other() -> None:
    loop = asyncio.get_running_loop()
    async with (
        LocalServer(recognizer=Recorders(), answer_delay=0.5) as server,
        connected(server) as client,
    ):
        await client.start()
        asked_at = loop.time()
        for _ in range(100):
            await client.send(FINALIZE)
        await client.send(SECOND)
        for _ in range(100):
            await client.receive()
        assert 0.5 <= loop.time() - asked_at < 50


async def test_a_client_that_leaves_gets_no_answer() -> None:
    recorders = Recorders()
    async with LocalServer(recognizer=recorders, answer_delay=1000.0) as server:
        async with connected(server) as client:
            await client.start()
            await client.send(FINALIZE)
            await eventually(lambda: recorders.made and recorders.only.calls)
        await eventually(lambda: server.connections == 0)


async def test_each_finalize_pads_the_clock() -> None:
    async with LocalServer(recognizer=Recorders()) as server, connected(server) as client:
        await client.start()
        positions: list[tuple[int, int]] = []
        for message in (SECOND, FINALIZE, SECOND, FINALIZE, FINALIZE, bytes(32 * 50)):
            await client.send(message)
            answer = await client.receive()
            positions.append((answer["final_audio_proc_ms"], answer["total_audio_proc_ms"]))
        await client.send("")
        assert positions == [(ms, ms) for ms in (1000, 1080, 2080, 2160, 2280, 2330)]
        assert (await client.rest())[-1]["total_audio_proc_ms"] == 2330


async def test_finalize_is_answered_in_one_message() -> None:
    script = [{"tokens": [{"text": "Good", "is_final": False, "start_ms": 0, "end_ms": 90}]}]
    async with (
        LocalServer(recognizer=scripted(script, ms_per_message=100)) as server,
        connected(server) as client,
    ):
        await client.start()
        await client.send(bytes(32 * 100))
        assert (await client.receive())["tokens"][0]["is_final"] is False
        await client.send(FINALIZE)
        assert await client.receive() == {
            "tokens": [
                {"text": "Good", "is_final": True, "start_ms": 0, "end_ms": 90},
                {"text": "<fin>", "is_final": True},
            ],
            "final_audio_proc_ms": 120,
            "total_audio_proc_ms": 120,
        }


@pytest.mark.parametrize("enabled", [True, False])
async def test_endpoints_come_if_they_are_enabled(enabled: bool) -> None:
    script = scripted("One two. Three.", ms_per_word=100)
    async with LocalServer(recognizer=script) as server, connected(server) as client:
        await client.start(enable_endpoint_detection=enabled)
        await client.send(SECOND)
        await client.send("")
        expected = "One two.<end> Three.<end>" if enabled else "One two. Three."
        assert text_of(await client.rest()) == expected


async def test_long_audio_is_cut_and_short_audio_is_joined() -> None:
    recorders = Recorders(lambda recorder: recorder.gate.clear())
    long = bytes(range(256)) * 320
    async with LocalServer(recognizer=recorders) as server, connected(server) as client:
        await client.start()
        await client.send(long)
        await eventually(lambda: recorders.made and recorders.only.calls)
        for _ in range(100):
            await client.send(b"short")
        await client.send(FINALIZE)
        await client.send(b"last")
        await client.send("")
        recorders.only.gate.set()
        assert (await client.rest())[-1]["finished"] is True
        fed = recorders.only.fed
        assert b"".join(fed) == long + b"short" * 100 + b"last"
        assert [len(audio) for audio in fed] == [32_768, 32_768, 16_884, 4]


# Who is let in


@pytest.mark.parametrize("form", ["header", "subprotocol", "message"])
@pytest.mark.parametrize("key", [KEY, "wrong", "snx_temp_wrong"])
async def test_the_key_is_checked_in_each_form(form: str, key: str) -> None:
    options: dict[str, Any] = {}
    if form == "header":
        options["additional_headers"] = bearer(key)
    if form == "subprotocol":
        options["subprotocols"] = ["soniox-api-key", key]
    async with (
        LocalServer(recognizer=scripted("Hello."), api_key=KEY) as server,
        connected(server, **options) as client,
    ):
        if form == "subprotocol":
            assert client.connection.subprotocol == "soniox-api-key"
        if form == "message" or key == KEY:
            await client.start(**({"api_key": key} if form == "message" else {}))
        if key == KEY:
            await client.send(SECOND)
            await client.send("")
            assert text_of(await client.rest()) == "Hello."
        else:
            code, error_type, message = await client.error()
            temporary = "Invalid/expired temporary API key."
            expected = temporary if key.startswith("snx_temp_") else "Invalid API key."
            assert (code, error_type, message) == (401, "unauthenticated", expected)


async def test_a_missing_key_is_refused() -> None:
    async with LocalServer(recognizer="scripted", api_key=KEY) as server:
        async with connected(server) as client:
            await client.start()
            assert await client.error() == (401, "unauthenticated", "Missing API key.")
        async with connected(server) as client:
            await client.start(api_key="\ud800")
            assert (await client.error())[0] in {400, 401}


@pytest.mark.parametrize("second", ["message", "subprotocol"])
@pytest.mark.parametrize("start", [True, False])
async def test_a_key_in_two_places_is_refused(second: str, start: bool) -> None:
    subprotocols: Any = ["soniox-api-key", KEY] if second == "subprotocol" else None
    options = {"additional_headers": bearer(KEY), "subprotocols": subprotocols}
    async with (
        LocalServer(recognizer="scripted", api_key=KEY) as server,
        connected(server, **options) as client,
    ):
        # What is wrong with the request alone is answered without a start message, too.
        if start or second == "message":
            await client.start(**({"api_key": KEY} if second == "message" else {}))
        assert await client.error() == (
            400,
            "invalid_request",
            "The API key was sent in two places",
        )


async def test_any_key_is_fine_where_none_is_asked_for() -> None:
    async with (
        LocalServer(recognizer=scripted("Hello.")) as server,
        connected(server, additional_headers=bearer("whatever")) as client,
    ):
        await client.start()
        await client.send(SECOND)
        await client.send("")
        assert text_of(await client.rest()) == "Hello."


async def test_too_many_at_once_are_refused() -> None:
    async with LocalServer(recognizer=scripted("Hello."), max_connections=1) as server:
        async with connected(server) as first:
            await first.start()
            async with connected(server) as second:
                code, error_type, message = await second.error()
                assert (code, error_type) == (429, "max_concurrent_connections_reached")
                assert "exceeded max number of concurrent requests" in message
            await first.send(SECOND)
            await first.send("")
            assert (await first.rest())[-1]["finished"] is True
        async with connected(server) as third:
            await third.start()
            await third.send(SECOND)
            await third.send("")
            assert (await third.rest())[-1]["finished"] is True


async def test_too_many_streams_are_refused() -> None:
    recorders = Recorders()
    async with (
        LocalServer(recognizer=recorders, max_streams=1) as server,
        connected(server) as first,
        connected(server) as second,
    ):
        await first.start()
        await first.send(b"ab")
        await first.receive()
        await second.start()
        assert await second.error() == (
            429,
            "limit_exceeded",
            "Your organization has exceeded max number of concurrent requests.",
        )
        await first.send("")
        assert (await first.rest())[-1]["finished"] is True
        async with connected(server) as third:
            await third.start()
            await third.send(b"ab")
            await third.send("")
            assert (await third.rest())[-1]["finished"] is True


async def test_streams_in_a_hurry_do_not_pile_up_recognizers() -> None:
    """A stream that is over counts no more, but its recognizer may still be there."""
    recorders = Recorders(lambda recorder: recorder.gate.clear())
    async with LocalServer(recognizer=recorders, max_streams=1, recognizer_threads=2) as server:
        async with connected(server) as first:
            await first.start()
            await first.send(b"ab")
            await eventually(lambda: recorders.made and recorders.only.calls)
        [over] = server._context.sessions
        async with connected(server) as second:
            await second.start()
            await second.send(b"ab")
            await second.send("")
            await eventually(
                lambda: all(session._recognition for session in server._context.sessions - {over})
            )
            # One thread is busy for the first stream; the other would have made a recognizer now.
            await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(server._executor, time.monotonic)
            assert len(recorders.made) == 1
            recorders.only.gate.set()
            await eventually(lambda: len(recorders.made) == 2)
            assert recorders.made[0].closed.is_set()
            recorders.made[1].gate.set()
            assert (await second.rest())[-1]["finished"] is True


async def test_a_stream_that_ends_while_it_waits_gets_no_recognizer() -> None:
    recorders = Recorders(lambda recorder: recorder.gate.clear())
    async with LocalServer(recognizer=recorders, max_streams=1) as server:
        for count in (1, 2):
            async with connected(server) as client:
                await client.start()
                await eventually(lambda: len(server._context.sessions) == count)  # noqa: B023
                await client.send(b"ab")
                await eventually(lambda: recorders.made and recorders.only.calls)
                await eventually(
                    lambda: all(session._recognition for session in server._context.sessions)
                )
        recorders.only.gate.set()
        await eventually(lambda: server.connections == 0)
        assert recorders.only.calls == ["feed", "close"]


async def test_a_newcomer_is_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_session_module, "_REFUSAL_DELAY", 0.1)
    async with LocalServer(recognizer="scripted", max_connections=1) as server:
        async with connected(server), raw_connected(server) as second:
            opcode, payload = await second.read_frame()
            assert (opcode, json.loads(payload)["error_code"]) == (1, 429)
            assert await second.read_frame() == (8, b"\x03\xe8")
            # Longer than the delay: the start message came first, so nothing more comes.
            await asyncio.sleep(0.2)
            second.frame(8, b"\x03\xe8")
            assert await second.reader.read() == b""
        await eventually(lambda: server.connections == 0)


# What is refused


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([b"audio"], "Start request must be a text message."),
        (["not JSON"], "Start request is malformed."),
        ([FINALIZE], "Missing audio format."),
        (['{"model":"m","audio_format":"pcm_s16le"}'], "channels must be specified"),
        ([json.dumps(RAW), ""], "No audio received."),
        ([json.dumps(RAW), b"", ""], "No audio received."),
        ([json.dumps(RAW), b"ab", json.dumps(RAW)], "Control request is malformed."),
        ([json.dumps(RAW), b"ab", '{"type":"dance"}'], "Control request invalid type."),
        ([json.dumps(RAW), b"ab", "dance", b"cd", FINALIZE, ""], "Control request is malformed."),
    ],
)
async def test_bad_requests(messages: list[str | bytes], text: str) -> None:
    async with LocalServer(recognizer=scripted("Hi.")) as server, connected(server) as client:
        for message in messages:
            await client.send(message)
        code, error_type, message = await client.error()
        assert (code, error_type) == (400, "invalid_request")
        assert text in message
        assert server.sessions_served == 0


async def test_a_configuration_that_the_recognizer_cannot_serve_is_refused() -> None:
    def factory(config: RealtimeSTTConfig) -> Recognizer:
        raise SonioxValidationError(f"no recognizer for {config.audio_format}")

    async with LocalServer(recognizer=factory) as server, connected(server) as client:
        await client.start()
        assert await client.error() == (400, "invalid_request", "no recognizer for pcm_s16le")


@pytest.mark.parametrize("audio_format", ["auto", "pcm_s16le"])
async def test_raw_audio_must_be_declared(audio_format: str) -> None:
    async with (
        LocalServer(recognizer=scripted("Hello.")) as server,
        connected(server) as client,
    ):
        await client.start(audio_format=audio_format)
        await client.send(SECOND)
        await client.send("")
        if audio_format == "auto":
            code, error_type, message = await client.error()
            assert (code, error_type) == (408, "request_timeout")
            assert message.startswith("Audio data decode timeout")
        else:
            assert text_of(await client.rest()) == "Hello."


async def test_absurd_audio_is_refused() -> None:
    async with (
        LocalServer(recognizer=scripted("Hello.")) as server,
        connected(server) as client,
    ):
        await client.start(num_channels=10**9)
        code, error_type, message = await client.error()
        assert (code, error_type) == (400, "invalid_request")
        assert "num_channels 1000000000 is not a usable number" in message


@pytest.mark.parametrize("call", ["feed", "finalize", "finish"])
async def test_audio_that_the_recognizer_cannot_decode_is_refused(call: str) -> None:
    recorders = raising(call, AudioDecodeError("this is no audio"))
    async with LocalServer(recognizer=recorders) as server, connected(server) as client:
        await client.start()
        for message in (b"ab", FINALIZE, ""):
            await client.send(message)
        assert await client.error() == (400, "invalid_request", "this is no audio")
        await eventually(recorders.only.closed.is_set)


@pytest.mark.parametrize("error", [RuntimeError("out of order"), StopIteration()])
async def test_a_recognizer_that_fails_is_logged_and_answered(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    recorders = raising("feed", error)
    audio = b"never to be logged"
    async with (
        LocalServer(recognizer=recorders, api_key=KEY) as server,
        connected(server, additional_headers=bearer(KEY)) as client,
    ):
        await client.start()
        await client.send(audio)
        messages = await client.rest()
        assert messages[-1]["error_code"] == 500
        assert messages[-1]["error_type"] == "internal_error"
        assert "out of order" not in messages[-1]["error_message"]
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert messages[-1]["request_id"] in record.getMessage()
        assert record.exc_info is not None
        assert KEY not in caplog.text
        assert "never" not in caplog.text
        await eventually(recorders.only.closed.is_set)


async def test_a_recognizer_that_fails_to_close_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorders = raising("close", RuntimeError("stuck"))
    async with LocalServer(recognizer=recorders) as server, connected(server) as client:
        await client.start()
        await client.send(b"ab")
        await client.send("")
        assert (await client.rest())[-1]["finished"] is True
        await eventually(lambda: caplog.records)
        assert "closing the recognizer Recorder failed" in caplog.text


async def test_a_failure_after_the_client_has_left_is_logged_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def prepare(recorder: Recorder) -> None:
        recorder.gate.clear()
        recorder.raises["feed"] = decode_error if len(recorders.made) else RuntimeError("late")

    decode_error = AudioDecodeError("late, and of no interest")
    recorders = Recorders(prepare)
    async with LocalServer(recognizer=recorders) as server:
        for count in (1, 2):
            async with connected(server) as client:
                await client.start()
                await client.send(b"ab")
                await eventually(lambda: len(recorders.made) == count and recorders.made[-1].calls)  # noqa: B023
            recorders.made[-1].gate.set()
            await eventually(recorders.made[-1].closed.is_set)
            await eventually(lambda: server.connections == 0)
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
            "the recognizer failed"
        ]


async def test_a_stream_has_a_longest_duration() -> None:
    async with (
        LocalServer(recognizer=Recorders(), max_duration_seconds=2) as server,
        connected(server) as client,
    ):
        await client.start()
        for _ in range(2):
            await client.send(SECOND)
            assert "error_code" not in await client.receive()
        # The silence that finalizing adds is not the client's audio.
        await client.send(FINALIZE)
        assert "error_code" not in await client.receive()
        await client.send(b"ab")
        await client.send(bytes(64))
        code, error_type, message = await client.error()
        assert (code, error_type) == (413, "max_duration_reached")
        assert "2 s" in message


# Time


async def test_the_start_message_has_its_time() -> None:
    async with (
        LocalServer(recognizer="scripted", start_timeout=0.05) as server,
        connected(server) as client,
    ):
        assert (await client.error())[:2] == (408, "request_timeout")


async def test_audio_or_keepalives_keep_a_session_open() -> None:
    async with (
        LocalServer(recognizer="scripted", idle_timeout=0.5) as server,
        connected(server) as client,
    ):
        await client.start()
        began = time.monotonic()
        while time.monotonic() < began + 0.7:
            await client.send(KEEPALIVE)
            await asyncio.sleep(0.02)
        while time.monotonic() < began + 1.4:
            await client.send(b"ab")
            await asyncio.sleep(0.02)
        silent = time.monotonic()
        assert (await client.error())[:2] == (408, "request_timeout")
        assert 0.4 < time.monotonic() - silent < 10


async def test_an_upgrade_request_has_its_time() -> None:
    async with LocalServer(recognizer="scripted", connect_timeout=0.05) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        assert await read_until_dropped(reader) == b""
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await eventually(lambda: server.connections == 0)


async def test_a_client_that_does_not_answer_the_close_frame_is_dropped() -> None:
    async with (
        LocalServer(recognizer="scripted", close_timeout=0.1) as server,
        raw_connected(server) as client,
    ):
        client.send("")
        error = json.loads((await client.read_frame())[1])
        assert error["error_message"] == "No audio received."
        assert await client.read_frame() == (8, b"\x03\xe8")
        await eventually(lambda: server.connections == 0)


# A recognizer that is behind, a client that does not read


async def test_a_client_waits_while_the_recognizer_is_behind() -> None:
    recorders = Recorders(lambda recorder: recorder.gate.clear())
    chunk = bytes(64 * 1024)
    async with (
        LocalServer(recognizer=recorders, max_queued_audio=128 * 1024, idle_timeout=0.3) as server,
        raw_connected(server) as client,
    ):
        sent = 0
        while sent < 256 * 1024 * 1024:
            client.send(chunk)
            sent += len(chunk)
            try:
                # Longer than the idle timeout: nobody listened, so nobody was silent.
                await asyncio.wait_for(client.writer.drain(), 1.0)
            except asyncio.TimeoutError:
                break
        assert sent < 256 * 1024 * 1024
        [session] = server._context.sessions
        assert session._recognition is not None
        assert session._recognition.backlog_bytes < 512 * 1024

        # The event loop is free all the while.
        async with connected(server) as other:
            await other.send("no start message")
            assert (await other.error())[0] == 400

        reading = asyncio.create_task(client.reader.read())
        recorders.only.gate.set()
        await asyncio.wait_for(client.writer.drain(), 30)
        client.send("")
        client.frame(8, b"\x03\xe8")
        await eventually(recorders.only.closed.is_set)
        assert "error_code" not in (await reading).decode("latin-1")
        assert set(map(len, recorders.only.fed)) <= {32 * 1024, 64 * 1024}


async def test_nothing_is_lost_when_a_burst_had_to_wait() -> None:
    recorders = Recorders(lambda recorder: recorder.gate.clear())
    async with (
        LocalServer(recognizer=recorders, max_queued_audio=4096) as server,
        connected(server) as client,
    ):
        await client.start()
        sending = asyncio.create_task(_send_numbers(client, 20_000))
        await eventually(lambda: recorders.made and recorders.only.calls)
        await eventually(lambda: not _only_session(server)._reading)
        recorders.only.gate.set()
        await sending
        assert (await client.rest())[-1]["finished"] is True
        assert b"".join(recorders.only.fed) == b"".join(_numbers(20_000))


def _numbers(count: int) -> Iterator[bytes]:
    return (number.to_bytes(4, "big") for number in range(count))


async def _send_numbers(client: Client, count: int) -> None:
    for number in _numbers(count):
        await client.send(number)
    await client.send("")


def _only_session(server: LocalServer) -> Any:
    [session] = server._context.sessions
    return session


def _long_text(recorder: Recorder) -> None:
    recorder.text = "x" * 100_000


async def test_recognition_waits_for_a_client_that_does_not_read() -> None:
    recorders = Recorders(_long_text)
    async with LocalServer(recognizer=recorders) as server, raw_connected(server) as client:
        client.send(b"ab")
        await eventually(lambda: recorders.made)
        session = _only_session(server)
        count = 1
        while session._writable.is_set():
            client.send(b"ab")
            client.send(FINALIZE)
            count += 1
            await asyncio.sleep(0)
        calls = len(recorders.only.calls)
        for _ in range(50):
            client.send(b"ab")
            client.send(FINALIZE)
            count += 1
        await asyncio.sleep(0.1)
        assert len(recorders.only.calls) <= calls + 1

        client.send("")
        received = b""
        while not received.endswith(b'"rest","is_final":true}]'):
            opcode, payload = await asyncio.wait_for(client.read_frame(), 30)
            if opcode == 8:
                break
            last, received = received, payload
        assert b'"finished":true' in received
        assert last
        assert recorders.only.calls.count("finalize None") == count - 1


async def test_a_client_that_never_reads_is_dropped() -> None:
    recorders = Recorders(_long_text)
    async with (
        LocalServer(recognizer=recorders, idle_timeout=0.2) as server,
        raw_connected(server) as client,
    ):
        while server.connections or not recorders.made:
            client.send(b"ab")
            client.send(FINALIZE)
            await asyncio.sleep(0)
        await eventually(recorders.only.closed.is_set)


async def test_stop_reaches_a_client_that_has_much_to_read() -> None:
    recorders = Recorders(_long_text)
    server = LocalServer(recognizer=recorders)
    await server.start()
    async with raw_connected(server) as client:
        await eventually(lambda: recorders.made)
        session = _only_session(server)
        while session._writable.is_set():
            client.send(b"ab")
            client.send(FINALIZE)
            await asyncio.sleep(0)
        assert not session._reading
        stopping = asyncio.create_task(server.stop())
        opcode = 1
        while opcode != 8:
            opcode, payload = await client.read_frame()
        assert int.from_bytes(payload[:2], "big") == 1001
        client.frame(8, payload)
        await stopping
        assert server.connections == 0
    assert recorders.only.closed.is_set()


# Clients that leave


async def test_a_client_that_closes_early_stops_its_recognizer() -> None:
    recorders = Recorders()
    async with LocalServer(recognizer=recorders) as server:
        async with connected(server) as client:
            await client.start()
            await client.send(b"ab")
            await client.receive()
        assert client.connection.close_code == 1000
        await eventually(lambda: server.connections == 0)
        assert recorders.only.calls == ["feed", "close"]
        assert server.sessions_served == 0


def test_processes_are_limited_by_default() -> None:
    for recognizer, limit in (
        (OwnProcess(PocketsphinxRecognizer), 4),
        (Recorders(), None),
        (scripted("Hi."), None),
    ):
        assert LocalServer(recognizer=recognizer)._context.max_streams == limit
    unlimited = LocalServer(recognizer=OwnProcess(PocketsphinxRecognizer), max_streams=None)
    assert unlimited._context.max_streams is None


class Stuck(Recorder):
    """A recognizer that never returns, in a process of its own."""

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        time.sleep(30)
        return []


async def test_stop_ends_a_process_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server_module, "PocketsphinxRecognizer", Stuck)
    monkeypatch.setattr(local_server_module, "pocketsphinx_installed", lambda: True)
    server = LocalServer(recognizer="pocketsphinx", close_timeout=0.1)
    await server.start()
    async with connected(server) as client:
        await client.start()
        await client.send(b"ab")
        await eventually(lambda: _only_session(server).running_call is not None)
        await eventually(lambda: _only_session(server)._recognition.backlog_bytes == 0)
        own_process = server._own_process
        assert own_process is not None
        [worker] = own_process._lent
        await server.stop()
    assert not worker.running
    assert recognizer_threads() == []


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_a_client_that_vanishes_stops_its_recognizer(how: str) -> None:
    recorders = Recorders(lambda recorder: recorder.gate.clear())
    async with LocalServer(recognizer=recorders) as server:
        async with raw_connected(server) as client:
            for _ in range(10):
                client.send(bytes(32 * 1024))
            await eventually(lambda: recorders.made and recorders.only.calls)
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                client.writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
                client.writer.transport.abort()
            else:
                client.writer.write_eof()
            await eventually(lambda: _only_session(server)._transport_lost)
            assert server.connections == 1
            recorders.only.gate.set()
            await eventually(lambda: server.connections == 0)
        assert recorders.only.calls == ["feed", "close"]


async def test_a_message_that_is_too_large_is_refused_in_words() -> None:
    async with (
        LocalServer(recognizer=Recorders(), max_message_size=1000) as server,
        raw_connected(server) as client,
    ):
        # Most of it is still unread when the server hangs up.
        client.send(bytes(4 * 1024 * 1024))
        opcode, payload = await client.read_frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1009)
        client.writer.close()
        await eventually(lambda: server.connections == 0)


async def test_what_is_no_websocket_gets_an_http_answer() -> None:
    async with LocalServer(recognizer="scripted") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: server.connections == 0)


# Start and stop


async def test_stop_closes_every_session() -> None:
    recorders = Recorders()
    server = LocalServer(recognizer=recorders)
    await server.start()
    async with connected(server) as streaming, connected(server) as fresh:
        await streaming.start()
        await streaming.send(b"ab")
        await streaming.receive()
        _, silent = await asyncio.open_connection("127.0.0.1", server.port)
        await eventually(lambda: server.connections == 3)
        await asyncio.gather(server.stop(), server.stop())
        assert server.connections == 0
        assert recognizer_threads() == []
        assert recorders.only.calls == ["feed", "close"]
        for client in (streaming, fresh):
            with pytest.raises(ConnectionClosed):
                await client.receive()
            assert client.connection.close_code == 1001
        silent.close()
        await silent.wait_closed()
    with pytest.raises(OSError):  # noqa: PT011
        await asyncio.open_connection("127.0.0.1", server.port)
    await server.stop()


async def test_stop_waits_no_longer_than_it_has_to() -> None:
    async with (
        LocalServer(recognizer="scripted", close_timeout=0.1) as server,
        raw_connected(server),
    ):
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 5
        assert server.connections == 0


async def test_stop_leaves_a_recognizer_behind_that_does_not_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorders = Recorders(lambda recorder: recorder.gate.clear())
    server = LocalServer(recognizer=recorders, close_timeout=0.1, recognizer_threads=1)
    await server.start()
    try:
        async with connected(server) as stuck, connected(server) as behind_it:
            await stuck.start()
            await stuck.send(b"ab")
            await eventually(lambda: recorders.made and recorders.only.calls)
            await behind_it.start()
            await behind_it.send(b"ab")
            await server.stop()
        assert server.connections == 0
        assert "1 recognizers did not return" in caplog.text
    finally:
        recorders.only.gate.set()
    await eventually(lambda: not recognizer_threads())
    assert recorders.only.calls == ["feed"]


async def test_a_stop_that_is_cancelled_drops_everything() -> None:
    server = LocalServer(recognizer="scripted")
    await server.start()
    async with raw_connected(server):
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert server.connections == 0


async def test_who_comes_while_the_server_stops_is_turned_away() -> None:
    async with LocalServer(recognizer="scripted", close_timeout=0.1) as server:
        server._context.stopping = True
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await read_until_dropped(reader) == b""
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await eventually(lambda: server.connections == 0)


async def test_a_server_runs_once() -> None:
    server = LocalServer(recognizer="scripted")
    await server.stop()
    with pytest.raises(SonioxStateError, match="before it is started"):
        _ = server.url
    async with server:
        with pytest.raises(SonioxStateError, match="runs once"):
            await server.start()
    with pytest.raises(SonioxStateError, match="runs once"):
        await server.start()


async def test_a_taken_port_is_reported() -> None:
    async with LocalServer(recognizer="scripted") as server:
        with pytest.raises(SonioxConnectionError, match=f"port {server.port}") as caught:
            await LocalServer(recognizer="scripted", port=server.port).start()
        assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("host", "url_host"),
    [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost"), ("::1", "[::1]")],
)
async def test_the_url_can_be_connected_to(host: str, url_host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 here")
    async with LocalServer(recognizer="scripted", host=host) as server:
        assert server.url == f"ws://{url_host}:{server.port}/transcribe-websocket"
        assert server._listener is not None
        assert {s.getsockname()[1] for s in server._listener.sockets} == {server.port}
        async with connected(server) as client:
            await client.send("no start message")
            assert (await client.error())[0] == 400


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def test_tls() -> None:
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    recorders = Recorders()
    async with LocalServer(
        recognizer=recorders, host="localhost", ssl_context=server_context
    ) as server:
        assert server.url.startswith("wss://localhost:")
        async with connected(server, ssl=client_context) as client:
            await client.start()
            await client.send(bytes(1_000_000))
            await client.send("")
            messages = await client.rest()
            assert messages[-1]["finished"] is True
            assert messages[-1]["total_audio_proc_ms"] == 31_250
        async with connected(server, ssl=client_context) as client:
            await client.send("no start message")
            assert (await client.error())[0] == 400


# In a thread


def _sync_transcript(url: str) -> str:
    with websockets.sync.client.connect(url, ping_interval=None) as connection:
        connection.send(json.dumps(RAW))
        connection.send(SECOND)
        connection.send("")
        return text_of([json.loads(message) for message in connection])


def test_a_server_in_a_thread() -> None:
    threads = set(threading.enumerate())
    server = LocalServer(recognizer=scripted("Hello there."))
    with run_in_thread(server) as running:
        assert running is server
        assert _sync_transcript(server.url) == "Hello there."
        assert server.sessions_served == 1
    assert server.connections == 0
    assert set(threading.enumerate()) == threads


def test_a_thread_reports_why_the_server_did_not_start() -> None:
    with run_in_thread(LocalServer(recognizer="scripted")) as server:
        second = LocalServer(recognizer="scripted", port=server.port)
        with pytest.raises(SonioxConnectionError), run_in_thread(second):
            pytest.fail("it did start")


def test_an_error_in_the_block_stops_the_thread() -> None:
    threads = set(threading.enumerate())
    with (
        pytest.raises(ZeroDivisionError),
        run_in_thread(LocalServer(recognizer="scripted")) as server,
        websockets.sync.client.connect(server.url, ping_interval=None),
    ):
        raise ZeroDivisionError
    assert set(threading.enumerate()) == threads


# Options


class FakeProcess(OwnProcess):
    """Stands for pocketsphinx in a process of its own."""

    def __init__(self, factory: RecognizerFactory) -> None:
        assert factory is PocketsphinxRecognizer
        self.calls: list[str] = []
        fake_processes.append(self)

    def __call__(self, config: RealtimeSTTConfig) -> Recognizer:
        return scripted("Pocketsphinx.")(config)

    def preload(self) -> None:
        self.calls.append("preload")

    def close(self) -> None:
        self.calls.append("close")

    def kill(self) -> None:
        self.calls.append("kill")


fake_processes: list[FakeProcess] = []


@pytest.fixture(params=[True, False], ids=["installed", "not installed"])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether pocketsphinx seems to be installed."""
    fake_processes.clear()
    monkeypatch.setattr(local_server_module, "pocketsphinx_installed", lambda: request.param)
    monkeypatch.setattr(local_server_module, "OwnProcess", FakeProcess)
    return bool(request.param)


def test_the_recognizer_by_default(installed: bool) -> None:
    with run_in_thread(LocalServer()) as server:
        if installed:
            assert fake_processes[0].calls == ["preload"]
            assert _sync_transcript(server.url) == "Pocketsphinx."
        else:
            assert _sync_transcript(server.url).startswith("This is the local server")
    assert [process.calls for process in fake_processes] == [["preload", "kill"]] * installed


def test_the_recognizer_by_name(installed: bool) -> None:
    LocalServer(recognizer="scripted")
    if installed:
        LocalServer(recognizer="pocketsphinx")
    else:
        with pytest.raises(SonioxValidationError, match=r"soniox-proto\[local\]"):
            LocalServer(recognizer="pocketsphinx")


def test_a_process_of_the_caller_stays_the_callers(installed: bool) -> None:
    process = FakeProcess(PocketsphinxRecognizer)
    with run_in_thread(LocalServer(recognizer=process)) as server:
        assert _sync_transcript(server.url) == "Pocketsphinx."
    assert process.calls == []


async def test_a_model_that_cannot_be_loaded_is_reported(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preload(self: FakeProcess) -> None:
        raise SonioxValidationError("no model")

    monkeypatch.setattr(FakeProcess, "preload", preload)
    with pytest.raises(SonioxValidationError, match="no model" if installed else "not installed"):
        await LocalServer(recognizer="pocketsphinx").start()
    assert [process.calls for process in fake_processes] == [["kill"]] * installed


@pytest.mark.parametrize(
    "options",
    [
        {"recognizer": "no such one"},
        {"port": -1},
        {"port": 65_536},
        {"api_key": ""},
        {"api_key": "two words"},
        {"connect_timeout": 0},
        {"start_timeout": -1.0},
        {"idle_timeout": 0},
        {"close_timeout": 0},
        {"max_connections": 0},
        {"max_streams": 0},
        {"max_duration_seconds": 0},
        {"max_message_size": 0},
        {"max_queued_audio": 0},
        {"recognizer_threads": 0},
        {"answer_delay": -0.1},
        {"answer_delay": float("nan")},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SonioxValidationError, match=next(iter(options)) + "|API key"):
        LocalServer(**{"recognizer": "scripted", **options})


async def test_limits_can_be_turned_off() -> None:
    factory: RecognizerFactory = Recorders(_long_text)
    async with (
        LocalServer(
            recognizer=factory,
            connect_timeout=None,
            start_timeout=None,
            idle_timeout=None,
            close_timeout=None,
        ) as server,
        raw_connected(server) as client,
    ):
        client.send(b"ab")
        await eventually(lambda: server.connections)
        session = _only_session(server)
        while session._writable.is_set():
            client.send(b"ab")
            client.send(FINALIZE)
            await asyncio.sleep(0)
        assert (session._timer, session._unread_results_timer) == (None, None)
        client.send("")
        opcode = 1
        while opcode != 8:
            opcode, payload = await client.read_frame()
        client.frame(8, payload)
        assert await client.reader.read() == b""

        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()
