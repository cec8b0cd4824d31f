"""Whole messages on the package `websockets`, with threads: one sends, one receives."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from soniox_proto import Event, RealtimeSTTConfig, RealtimeSTTProtocol, Result, SonioxStateError

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)


def transcribe(url: str, api_key: str, chunks: Iterable[bytes]) -> str:
    """Stream chunks of audio, and return the final text."""
    protocol = RealtimeSTTProtocol(CONFIG, hidden_key=api_key)
    lock = threading.Lock()
    text = ""
    headers = {"Authorization": f"Bearer {api_key}"}
    with connect(url, additional_headers=headers) as websocket:

        def step(call: Callable[[float], list[Event] | None]) -> list[Event]:
            """Call the protocol, and send what it made, before another thread does."""
            with lock:
                events = call(time.monotonic())
                for message in protocol.messages_to_send():
                    with suppress(ConnectionClosed):  # Receiving says why.
                        websocket.send(message)
            return events or []

        def send() -> None:
            with suppress(SonioxStateError):  # The session is over.
                for chunk in chunks:
                    step(partial(protocol.send_audio, chunk))
                step(protocol.finish)

        step(protocol.start)
        sender = threading.Thread(target=send)
        sender.start()
        while not protocol.closed:
            deadline = protocol.next_timeout()
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                message = websocket.recv(timeout=wait)
            except TimeoutError:
                events = step(protocol.handle_timeout)
            except ConnectionClosed as closed:
                code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
                events = protocol.receive_close(code, reason, time.monotonic())
            else:
                events = step(partial(protocol.receive_message, message))
            for event in events:
                if isinstance(event, Result):
                    tokens = event.message.tokens
                    text += "".join(token.text for token in tokens if token.is_final)
        sender.join()
        websocket.close(protocol.close_code or 1000)
    if protocol.error is not None:
        raise protocol.error
    return text


if __name__ == "__main__":
    print(transcribe(sys.argv[1], sys.argv[2], [bytes(3_200)] * 20))
