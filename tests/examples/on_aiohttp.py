"""Whole messages on the WebSocket of aiohttp."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress

import aiohttp

from soniox_proto import Event, RealtimeSTTConfig, RealtimeSTTProtocol, Result

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)


async def transcribe(url: str, api_key: str, chunks: list[bytes]) -> str:
    """Stream chunks of audio, and return the final text."""
    protocol = RealtimeSTTProtocol(CONFIG, hidden_key=api_key)
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
        while True:
            for message in protocol.messages_to_send():
                send = websocket.send_str if isinstance(message, str) else websocket.send_bytes
                with suppress(ConnectionError, aiohttp.ClientError):  # Receiving says why.
                    await send(message)  # type: ignore[arg-type]
            if protocol.closed:
                await websocket.close(code=protocol.close_code or 1000)
                break
            deadline = protocol.next_timeout()
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                events = fed(protocol, await websocket.receive(wait))
            except asyncio.TimeoutError:
                events = protocol.handle_timeout(time.monotonic())
            for event in events:
                if isinstance(event, Result):
                    tokens = event.message.tokens
                    text += "".join(token.text for token in tokens if token.is_final)
    if protocol.error is not None:
        raise protocol.error
    return text


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
