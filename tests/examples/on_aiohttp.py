"""Whole messages on the WebSocket of aiohttp."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress

import aiohttp

from soniox_proto import (
    Event,
    Finished,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTProtocol,
    Result,
    SonioxConnectionError,
)

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)


async def transcribe(url: str, api_key: str, chunks: list[bytes]) -> str:
    """Stream chunks of audio, and return the final text; raises what ends the session too early."""
    protocol = RealtimeSTTProtocol(CONFIG, hidden_key=api_key)
    outgoing: asyncio.Queue[str | bytes] = asyncio.Queue()
    text = ""
    headers = {"Authorization": f"Bearer {api_key}"}
    async with (
        aiohttp.ClientSession() as client,
        # The protocol says when to close; aiohttp is not to answer by itself and stop reading.
        client.ws_connect(url, headers=headers, autoclose=False, heartbeat=20.0) as websocket,
    ):
        protocol.start(time.monotonic())
        for chunk in chunks:
            protocol.send_audio(chunk, time.monotonic())
        protocol.finish(time.monotonic())
        # Beside reading: a server may stop reading until what it says is read.
        writer = asyncio.create_task(write(websocket, outgoing))
        try:
            while not protocol.closed:
                for message in protocol.messages_to_send():
                    outgoing.put_nowait(message)
                deadline = protocol.next_timeout()
                # A timeout of 0 would mean that there is none.
                wait = None if deadline is None else max(0.001, deadline - time.monotonic())
                try:
                    events = fed(protocol, await websocket.receive(wait))
                except asyncio.TimeoutError:
                    events = protocol.handle_timeout(time.monotonic())
                for event in events:
                    if isinstance(event, Result):
                        tokens = event.message.tokens
                        text += "".join(token.text for token in tokens if token.is_final)
                    elif isinstance(event, Finished):
                        protocol.close(time.monotonic())
                if protocol.close_code is not None:
                    await websocket.close(code=protocol.close_code)
                    code = websocket.close_code or 1006
                    protocol.receive_close(code, "", time.monotonic())
        finally:
            writer.cancel()
            await asyncio.wait([writer])
    if protocol.outcome is not Outcome.FINISHED:
        raise protocol.error or SonioxConnectionError("closed before the transcript was complete")
    return text


async def write(
    websocket: aiohttp.ClientWebSocketResponse, outgoing: asyncio.Queue[str | bytes]
) -> None:
    while True:
        message = await outgoing.get()
        with suppress(ConnectionError, aiohttp.ClientError):  # Receiving says why.
            if isinstance(message, str):
                await websocket.send_str(message)
            else:
                await websocket.send_bytes(message)


def fed(protocol: RealtimeSTTProtocol, message: aiohttp.WSMessage) -> list[Event]:
    """Give the protocol a message of aiohttp, which may be the end of the connection."""
    now = time.monotonic()
    if message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
        return protocol.receive_message(message.data, now)
    if message.type is aiohttp.WSMsgType.CLOSE:
        return protocol.receive_close(message.data, message.extra or "", now)
    return protocol.receive_close(1006, "", now)


if __name__ == "__main__":
    print(asyncio.run(transcribe(sys.argv[1], sys.argv[2], [bytes(3_200)] * 20)))
