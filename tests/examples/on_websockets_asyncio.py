"""Whole messages on the package `websockets`, on asyncio: one task sends, one receives."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from soniox_proto import RealtimeSTTConfig, RealtimeSTTProtocol, Result, SonioxStateError

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)


async def transcribe(url: str, api_key: str, chunks: AsyncIterable[bytes]) -> str:
    """Stream chunks of audio, and return the final text."""
    protocol = RealtimeSTTProtocol(CONFIG, hidden_key=api_key)
    sending = asyncio.Lock()
    text = ""

    async def flush(websocket: ClientConnection) -> None:
        """Send what the protocol has made. The lock keeps it in order while a `send` waits."""
        async with sending:
            for message in protocol.messages_to_send():
                with suppress(ConnectionClosed):  # Receiving says why.
                    await websocket.send(message)

    async def send(websocket: ClientConnection) -> None:
        with suppress(SonioxStateError):  # The session is over.
            async for chunk in chunks:
                protocol.send_audio(chunk, time.monotonic())
                await flush(websocket)
            protocol.finish(time.monotonic())
            await flush(websocket)

    headers = {"Authorization": f"Bearer {api_key}"}
    async with connect(url, additional_headers=headers) as websocket:
        protocol.start(time.monotonic())
        await flush(websocket)
        sender = asyncio.create_task(send(websocket))
        while not protocol.closed:
            deadline = protocol.next_timeout()
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(websocket.recv(), wait)
            except asyncio.TimeoutError:
                events = protocol.handle_timeout(time.monotonic())
            except ConnectionClosed as closed:
                code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
                events = protocol.receive_close(code, reason, time.monotonic())
            else:
                events = protocol.receive_message(message, time.monotonic())
            await flush(websocket)
            for event in events:
                if isinstance(event, Result):
                    tokens = event.message.tokens
                    text += "".join(token.text for token in tokens if token.is_final)
        sender.cancel()  # If it has not finished: the source of audio may never end.
        await asyncio.wait([sender])
        await websocket.close(protocol.close_code or 1000)
    if protocol.error is not None:
        raise protocol.error
    return text


async def silence() -> AsyncIterator[bytes]:
    for _ in range(20):
        yield bytes(3_200)


if __name__ == "__main__":
    print(asyncio.run(transcribe(sys.argv[1], sys.argv[2], silence())))
