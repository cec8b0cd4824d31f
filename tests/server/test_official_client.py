"""The official SDK as a stranger: it talks to the local server as if it were the service."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import soniox_adapters.server
from soniox_adapters.server import LocalServer, run_in_thread

soniox = pytest.importorskip("soniox")
pytest.importorskip("pocketsphinx")
pytest.importorskip("numpy")

from soniox import AsyncSonioxClient, SonioxClient  # noqa: E402
from soniox.types.realtime import RealtimeEvent, RealtimeSTTConfig  # noqa: E402

pytestmark = [
    pytest.mark.anyio,
    # The SDK calls connect() of websockets in a way that websockets 17 deprecates.
    pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager"),
]

KEY = "local-key-1234"
MEETING = Path(soniox_adapters.server.__file__).parent / "samples" / "meeting.wav"
UTTERANCES = [
    "good morning everyone welcome to the meeting",
    "today we will talk about the weather in the city and the price of water",
]
CHUNK_BYTES = 3840


def _pcm() -> bytes:
    with wave.open(str(MEETING), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return file.readframes(file.getnframes())


FORMATS: dict[str, tuple[dict[str, Any], bytes]] = {
    "auto": ({"audio_format": "auto"}, MEETING.read_bytes()),
    "wav": ({"audio_format": "wav"}, MEETING.read_bytes()),
    "pcm": (
        {"audio_format": "pcm_s16le", "sample_rate": 16_000, "num_channels": 1},
        _pcm(),
    ),
}


def _chunks(audio: bytes) -> Iterator[bytes]:
    return (audio[start : start + CHUNK_BYTES] for start in range(0, len(audio), CHUNK_BYTES))


async def _async_chunks(audio: bytes) -> AsyncIterator[bytes]:
    for chunk in _chunks(audio):
        yield chunk


def _utterances(events: list[RealtimeEvent]) -> list[str]:
    """Return the final text, cut at the endpoints."""
    text = "".join(token.text for event in events for token in event.tokens if token.is_final)
    return [utterance.strip() for utterance in text.split("<end>") if utterance.strip()]


def _check(events: list[RealtimeEvent]) -> None:
    assert _utterances(events) == UTTERANCES
    assert any(not token.is_final for event in events for token in event.tokens)
    assert events[-1].finished
    duration_ms = len(_pcm()) // 32
    assert events[-1].total_audio_proc_ms == events[-1].final_audio_proc_ms == duration_ms


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with run_in_thread(LocalServer(recognizer="pocketsphinx", api_key=KEY)) as server:
        yield server


def _config(audio_format: str) -> RealtimeSTTConfig:
    fields, _ = FORMATS[audio_format]
    return RealtimeSTTConfig(model="stt-rt-v5", enable_endpoint_detection=True, **fields)


@pytest.mark.parametrize("audio_format", FORMATS)
def test_the_blocking_session_gets_the_transcript(server: LocalServer, audio_format: str) -> None:
    served = server.sessions_served
    with (
        SonioxClient(api_key=KEY, websocket_base_url=server.url) as client,
        client.realtime.stt.connect(config=_config(audio_format)) as session,
    ):
        session.send_bytes(_chunks(FORMATS[audio_format][1]))
        _check(list(session.receive_events()))
    assert server.sessions_served == served + 1


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_the_async_session_gets_the_transcript(
    server: LocalServer, audio_format: str
) -> None:
    served = server.sessions_served
    async with (
        AsyncSonioxClient(api_key=KEY, websocket_base_url=server.url) as client,
        client.realtime.stt.connect(config=_config(audio_format)) as session,
    ):
        await session.send_bytes(_async_chunks(FORMATS[audio_format][1]))
        _check([event async for event in session.receive_events()])
    assert server.sessions_served == served + 1


def test_finalize_settles_what_was_said(server: LocalServer) -> None:
    with (
        SonioxClient(api_key=KEY, websocket_base_url=server.url) as client,
        client.realtime.stt.connect(config=_config("pcm")) as session,
    ):
        # Two seconds: in the middle of the first sentence.
        session.send_byte_chunk(_pcm()[:64_000])
        session.finalize()
        tokens: list[Any] = []
        while not tokens or tokens[-1].text != "<fin>":
            event = session.receive_event()
            assert event is not None
            tokens = event.tokens
        assert all(token.is_final for token in tokens)
        session.finish()
        assert [event.finished for event in session.receive_events()][-1]


def _check_refusal(events: list[RealtimeEvent]) -> None:
    [event] = events
    assert (event.error_code, event.error_message) == (401, "Invalid API key.")


def test_the_blocking_session_is_told_of_a_bad_key(server: LocalServer) -> None:
    with (
        SonioxClient(api_key="wrong", websocket_base_url=server.url) as client,
        client.realtime.stt.connect(config=_config("auto")) as session,
    ):
        _check_refusal(list(session.receive_events()))


async def test_the_async_session_is_told_of_a_bad_key(server: LocalServer) -> None:
    async with (
        AsyncSonioxClient(api_key="wrong", websocket_base_url=server.url) as client,
        client.realtime.stt.connect(config=_config("auto")) as session,
    ):
        _check_refusal([event async for event in session.receive_events()])
