"""Whole messages on the WebSocket of a browser, for Python that runs in one (Pyodide).

There::

    from js import WebSocket, setTimeout
    from pyodide.ffi import create_once_callable

    connect = lambda url, protocols: WebSocket.new(url, protocols)
    later = lambda call, ms: setTimeout(create_once_callable(call), ms)
    session = BrowserSession(connect, later, url, temporary_key, print, on_end)

A browser cannot set headers, so a temporary key travels as a subprotocol. Its own thread is the
only one, and it must never wait: everything happens in callbacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from soniox_proto import (
    Closed,
    Event,
    Finished,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTProtocol,
    Result,
    SonioxConnectionError,
    SonioxRealtimeError,
)

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)


class BrowserWebSocket(Protocol):
    """What is used of the browser's `WebSocket`."""

    onopen: Callable[[Any], None]
    onmessage: Callable[[Any], None]
    onclose: Callable[[Any], None]

    def send(self, message: str | bytes, /) -> object: ...

    def close(self, code: int, /) -> object: ...


class BrowserSession:
    """One session.

    `on_text` is called with each piece of final text, then `on_end` once: with None if the text is
    complete, with what ended it too early if not.
    """

    def __init__(
        self,
        connect: Callable[[str, list[str]], BrowserWebSocket],
        later: Callable[[Callable[[], None], float], object],
        url: str,
        temporary_key: str,
        on_text: Callable[[str], object],
        on_end: Callable[[SonioxRealtimeError | None], object],
    ) -> None:
        self.protocol = RealtimeSTTProtocol(CONFIG, hidden_key=temporary_key)
        self.later, self.on_text, self.on_end = later, on_text, on_end
        self.protocol.connect(time.monotonic())  # Audio is held from now on.
        self.websocket = connect(url, ["soniox-api-key", temporary_key])
        self.websocket.onopen = lambda _: self.call(self.protocol.start)
        self.websocket.onmessage = lambda message: self.call(
            lambda now: self.protocol.receive_message(message.data, now)
        )
        self.websocket.onclose = lambda closed: self.call(
            lambda now: self.protocol.receive_close(closed.code, closed.reason, now)
        )
        self.tick()

    def send_audio(self, chunk: bytes) -> None:
        self.call(lambda now: self.protocol.send_audio(chunk, now))

    def finish(self) -> None:
        self.call(self.protocol.finish)

    def call(self, function: Callable[[float], list[Event] | None]) -> None:
        """Call the protocol, then do what it wants: the same after every call."""
        for event in function(time.monotonic()) or ():
            if isinstance(event, Result):
                self.on_text("".join(t.text for t in event.message.tokens if t.is_final))
            elif isinstance(event, Finished):
                self.protocol.close(time.monotonic())
            elif isinstance(event, Closed):
                complete = event.outcome is Outcome.FINISHED
                self.on_end(None if complete else event.error or SonioxConnectionError("cut off"))
        for message in self.protocol.messages_to_send():
            self.websocket.send(message)  # In Pyodide, bytes go through `pyodide.ffi.to_js`.
        if self.protocol.close_code is not None:
            # A browser refuses the codes that are not for applications; closing again is harmless.
            self.websocket.close(1000)

    def tick(self) -> None:
        """Run the timers. A browser has its own, so this looks four times a second."""
        self.call(self.protocol.handle_timeout)
        if not self.protocol.closed:
            self.later(self.tick, 250)
