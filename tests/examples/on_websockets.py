"""Whole messages on the package `websockets`: threads for the audio, for writing, for reading.

Only one thread writes, so the messages stay in order, and nobody waits for it with the lock.
`websockets` itself does not read while a `send` waits. A server that reads nothing until its own
messages are read, which the service is not, needs the program on asyncio.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from queue import Queue

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from soniox_proto import (
    Event,
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


def transcribe(url: str, api_key: str, chunks: Iterable[bytes]) -> str:
    """Stream chunks of audio, and return the final text; raises what ends the session too early."""
    protocol = RealtimeSTTProtocol(CONFIG, hidden_key=api_key)
    lock = threading.Lock()
    outgoing: Queue[str | bytes | None] = Queue()
    failures: list[Exception] = []
    text = ""
    headers = {"Authorization": f"Bearer {api_key}"}
    with connect(url, additional_headers=headers, close_timeout=1) as websocket:

        def step(call: Callable[[float], list[Event] | None]) -> list[Event]:
            """Call the protocol, and queue what it made."""
            with lock:
                events = call(time.monotonic())
                for message in protocol.messages_to_send():
                    outgoing.put(message)
            return events or []

        def write() -> None:
            while (message := outgoing.get()) is not None:
                with suppress(ConnectionClosed):  # Receiving says why.
                    websocket.send(message)
                outgoing.task_done()
            outgoing.task_done()  # Nobody waits any longer.

        def send() -> None:
            try:
                for chunk in chunks:
                    step(partial(protocol.send_audio, chunk))
                    outgoing.join()  # Waits while the server takes nothing.
                step(protocol.finish)
            except SonioxStateError:
                pass  # The session is over.
            except Exception as error:
                failures.append(error)
                websocket.close(1001)

        step(protocol.start)
        # They do not outlive the program, even if the source of audio never ends.
        for target in (write, send):
            threading.Thread(target=target, daemon=True).start()
        try:
            while not protocol.closed:
                with lock:
                    deadline = protocol.next_timeout()
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    message = websocket.recv(timeout=wait)
                except TimeoutError:
                    events = step(protocol.handle_timeout)
                except ConnectionClosed as closed:
                    frame = closed.rcvd
                    code, reason = (frame.code, frame.reason) if frame else (1006, "")
                    events = step(partial(protocol.receive_close, code, reason))
                else:
                    events = step(partial(protocol.receive_message, message))
                for event in events:
                    if isinstance(event, Result):
                        tokens = event.message.tokens
                        text += "".join(token.text for token in tokens if token.is_final)
                    elif isinstance(event, Finished):
                        step(protocol.close)
                if protocol.close_code is not None:
                    websocket.close(protocol.close_code)
        finally:
            step(protocol.abort)  # Without effect after the end. The sender must notice any other.
            outgoing.put(None)
    if failures:
        raise failures[0]
    if protocol.outcome is not Outcome.FINISHED:
        raise protocol.error or SonioxConnectionError("closed before the transcript was complete")
    return text


if __name__ == "__main__":
    print(transcribe(sys.argv[1], sys.argv[2], [bytes(3_200)] * 20))
