"""Whole messages on the package `websockets`, on asyncio: tasks for the audio, writing, reading.

Only one task writes, so that the messages stay in order, and reading does not wait for it: a server
may stop reading until what it says is read.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from soniox_proto import (
    Finished,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTProtocol,
    Result,
    SonioxConnectionError,
    SonioxStateError,
)

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)


class Transcription:
    """One session. `text` is what is final so far."""

    def __init__(self, websocket: ClientConnection, api_key: str) -> None:
        self.websocket = websocket
        self.protocol = RealtimeSTTProtocol(CONFIG, hidden_key=api_key)
        self.outgoing: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.text = ""

    def queue(self) -> None:
        for message in self.protocol.messages_to_send():
            self.outgoing.put_nowait(message)

    async def write(self) -> None:
        while True:
            message = await self.outgoing.get()
            with suppress(ConnectionClosed):  # Receiving says why.
                await self.websocket.send(message)
            self.outgoing.task_done()

    async def send(self, chunks: AsyncIterable[bytes]) -> None:
        with suppress(SonioxStateError):  # The session is over.
            async for chunk in chunks:
                self.protocol.send_audio(chunk, time.monotonic())
                self.queue()
                await self.outgoing.join()  # Waits while the server takes nothing.
            self.protocol.finish(time.monotonic())
            self.queue()

    async def receive(self) -> None:
        protocol, websocket = self.protocol, self.websocket
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
            for event in events:
                if isinstance(event, Result):
                    tokens = event.message.tokens
                    self.text += "".join(token.text for token in tokens if token.is_final)
                elif isinstance(event, Finished):
                    protocol.close(time.monotonic())
            self.queue()
            if protocol.close_code is not None:
                await websocket.close(protocol.close_code)


async def transcribe(url: str, api_key: str, chunks: AsyncIterable[bytes]) -> str:
    """Stream chunks of audio, and return the final text; raises what ends the session too early."""
    headers = {"Authorization": f"Bearer {api_key}"}
    async with connect(url, additional_headers=headers, close_timeout=1) as websocket:
        session = Transcription(websocket, api_key)
        session.protocol.start(time.monotonic())
        session.queue()
        writer = asyncio.create_task(session.write())
        sender = asyncio.create_task(session.send(chunks))
        receiver = asyncio.create_task(session.receive())
        try:
            await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                sender.result()  # Raises what the source of audio has raised.
            await receiver
        finally:
            for task in (writer, sender, receiver):
                task.cancel()
            await asyncio.gather(writer, sender, receiver, return_exceptions=True)
    if session.protocol.outcome is not Outcome.FINISHED:
        error = session.protocol.error
        raise error or SonioxConnectionError("closed before the transcript was complete")
    return session.text


async def silence() -> AsyncIterator[bytes]:
    for _ in range(20):
        yield bytes(3_200)


if __name__ == "__main__":
    print(asyncio.run(transcribe(sys.argv[1], sys.argv[2], silence())))
