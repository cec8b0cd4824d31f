"""Types of the public API, as users meet them. For a type checker; nothing here runs."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

import websocket
from typing_extensions import assert_type

from soniox_adapters import (
    AsyncRealtimeAPI,
    AsyncRealtimeSTTClient,
    AsyncRealtimeSTTSession,
    AsyncSonioxClient,
    Closed,
    Event,
    Outcome,
    RealtimeAPI,
    RealtimeControlType,
    RealtimeEvent,
    RealtimeSTTApp,
    RealtimeSTTClient,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    RealtimeSTTProtocol,
    RealtimeSTTSession,
    Result,
    SessionState,
    SessionStats,
    SonioxClient,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxServerError,
    SonioxTimeoutError,
    Token,
    render_tokens,
    start_audio_thread,
    stream_audio,
    stream_audio_async,
    throttle_audio,
    throttle_audio_async,
    websocket_client,
)


def clients(config: RealtimeSTTConfig) -> None:
    with SonioxClient(api_key="key", region="eu") as client:
        assert_type(client, SonioxClient)
        assert_type(client.realtime, RealtimeAPI)
        assert_type(client.realtime.stt, RealtimeSTTClient)
        assert_type(client.realtime.stt.connect(config=config), RealtimeSTTSession)
        assert_type(client.api_key, str | None)
        assert_type(client.websocket_base_url, str)
        client.realtime.stt.connect(config=config, api_key=lambda: "key")
    assert_type(SonioxClient(api_key=lambda: "key").api_key, str | None)
    with SonioxClient(
        stt_connection_pool_size=2,
        stt_idle_max_lifetime_sec=300.0,
        stt_idle_refresh_before_sec=30.0,
    ) as client:
        client.realtime.stt.warmup_connection_pool(proxy=None)


def with_websocket_client(client: SonioxClient, config: RealtimeSTTConfig) -> None:
    transport = websocket_client(sslopt={"ca_certs": "file"}, http_proxy_host="localhost")
    client.realtime.stt.connect(config=config, transport=transport)
    client.realtime.stt.connect(
        config=config, transport=websocket.create_connection("ws://localhost")
    )
    client.realtime.stt.connect(
        config=config, transport=lambda endpoint, left: websocket.create_connection("ws://x", left)
    )

    def on_event(app: RealtimeSTTApp, event: RealtimeEvent) -> None:
        assert_type(app.outcome, Outcome | None)
        app.send_byte_chunk(b"")

    app = RealtimeSTTApp("ws://localhost", config, "key", on_event=on_event, close_timeout_sec=1.0)
    assert_type(app.run_forever(ping_interval=20, sslopt={}), bool)


async def async_clients(config: RealtimeSTTConfig) -> None:
    async with AsyncSonioxClient(websocket_base_url="wss://localhost") as client:
        assert_type(client, AsyncSonioxClient)
        assert_type(client.realtime, AsyncRealtimeAPI)
        assert_type(client.realtime.stt, AsyncRealtimeSTTClient)
        assert_type(client.realtime.stt.connect(config=config), AsyncRealtimeSTTSession)


def blocking(url: str, config: RealtimeSTTConfig) -> None:
    with RealtimeSTTSession(url, config, "key", keepalive_interval_sec=None) as session:
        assert_type(session, RealtimeSTTSession)
        assert_type(session.config, RealtimeSTTConfig)
        assert_type(session.paused, bool)
        assert_type(session.last_message, RealtimeEvent | None)
        assert_type(session.state, SessionState)
        assert_type(session.outcome, Outcome | None)
        assert_type(session.stats, SessionStats)
        assert_type(session.stats.dropped_while_paused_bytes, int)
        session.send_byte_chunk(b"audio")
        session.send_byte_chunk(bytearray())
        session.send_byte_chunk(memoryview(b""))
        session.send_bytes(b"audio", finish=True)
        session.send_bytes([b"audio", bytearray()])
        session.send_bytes(iter([b"audio"]), finish=False)
        session.send_control_message(RealtimeControlType.FINALIZE)
        session.finalize(trailing_silence_ms=300)
        session.pause(finalize=False)
        session.resume()
        session.reconfigure(config)
        session.keep_alive()
        session.finish()
        assert_type(session.recv_bytes(), bytes)
        assert_type(session.parse_event("{}"), RealtimeEvent)
        assert_type(session.receive_event(timeout=1.0), RealtimeEvent | None)
        assert_type(session.receive_events(), Iterator[RealtimeEvent])
        session.handle_events(print)
        session.close()
        session.abort(ValueError())
    assert_type(RealtimeSTTSession(url, config).enter(), RealtimeSTTSession)


async def asynchronous(url: str, config: RealtimeSTTConfig) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"audio"

    async def handle(event: RealtimeEvent) -> None:
        assert_type(event.tokens, list[Token])

    async with AsyncRealtimeSTTSession(url, config, api_key="key") as session:
        assert_type(session, AsyncRealtimeSTTSession)
        assert_type(session.last_message, RealtimeEvent | None)
        await session.send_byte_chunk(b"audio")
        await session.send_bytes(chunks())
        await session.send_bytes([b"audio"], finish=False)
        await session.send_control_message(RealtimeControlType.KEEP_ALIVE)
        assert_type(await session.recv_bytes(), bytes)
        assert_type(session.parse_event(b"{}"), RealtimeEvent)
        assert_type(await session.receive_event(), RealtimeEvent | None)
        assert_type(session.receive_events(), AsyncGenerator[RealtimeEvent, None])
        async for event in session.receive_events():
            assert_type(event, RealtimeEvent)
        async with aclosing(session.receive_events()) as events:
            assert_type(await anext(events), RealtimeEvent)
        await session.handle_events(handle)
        await session.close()
        await session.abort()
    assert_type(await AsyncRealtimeSTTSession(url, config).enter(), AsyncRealtimeSTTSession)
    assert_type(await AsyncRealtimeSTTSession(url, config).aenter(), AsyncRealtimeSTTSession)


async def helpers(session: RealtimeSTTSession, config: RealtimeSTTConfig) -> None:
    assert_type(stream_audio("audio.wav"), Iterator[bytes])
    assert_type(throttle_audio(b"audio", config=config, speed=2), Iterator[bytes])
    assert_type(stream_audio_async("audio.wav"), AsyncIterator[bytes])
    assert_type(throttle_audio_async("audio.wav", delay_seconds=0.1), AsyncIterator[bytes])
    assert_type(render_tokens([Token(text="a")], []), str)
    assert_type(start_audio_thread(session, [b"audio"], name="audio"), threading.Thread)


def core(url: str, config: RealtimeSTTConfig) -> None:
    connection = RealtimeSTTConnection(url, config, api_key="key")
    connection.connect(0.0)
    assert_type(connection.data_to_send(), bytes)
    assert_type(connection.next_timeout(), float | None)
    assert_type(connection.receive_data(b"", 0.0), list[Event])
    assert_type(connection.receive_eof(0.0), list[Event])
    protocol = RealtimeSTTProtocol(config)
    assert_type(protocol.messages_to_send(), list[str | bytes])
    for event in protocol.receive_message("{}", 0.0):
        match event:
            case Result(message):
                assert_type(message, RealtimeEvent)
            case Closed(outcome):
                assert_type(outcome, Outcome)
            case _:
                pass


def errors(error: SonioxServerError | SonioxHandshakeError | SonioxTimeoutError) -> None:
    assert_type(error.retryable, bool)
    assert_type(error.retry_after, float | None)
    if isinstance(error, SonioxServerError):
        assert_type(error.error_code, int | None)
        assert_type(error.error_type, str | None)
        assert_type(error.request_id, str | None)
    elif isinstance(error, SonioxConnectionError):
        assert_type(error.close_code, int | None)
        assert_type(error.status_code, int)
        assert_type(error.headers, dict[str, str])
        assert_type(error.body, bytes)
    else:
        assert_type(error.operation, str)
        as_builtin: TimeoutError = error
        assert_type(as_builtin.errno, int | None)
