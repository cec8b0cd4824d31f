"""A machine that asks for several links, and a server for it: lines of text instead of WebSockets.

A link says its name first. The server repeats each line after that with the link's name before it.
The link is over when `over` is repeated, and it is for the session to close the connection then.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from soniox_adapters import (
    APIKey,
    Closed,
    Endpoint,
    Event,
    Opened,
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    Result,
    SessionState,
    SessionStats,
    SonioxConnectionError,
    SonioxRealtimeError,
    Token,
    UpgradeRequest,
)
from soniox_proto import FlightRecorder
from tests.support.core.messages import CONFIG

__all__ = ["LineLink", "LineServer", "LineStream"]


class LineLink:
    """One link of a `LineStream`."""

    def __init__(self, stream: LineStream, name: str, port: int, open_by: float | None) -> None:
        self.name = name
        self.endpoint = Endpoint.parse(f"ws://127.0.0.1:{port}/{name}")
        self.open_by = open_by
        self.closed = False
        self.is_open = False
        self._stream = stream
        self._output: list[bytes] = []
        self._input = b""

    def say(self, line: bytes) -> None:
        self._output.append(line + b"\n")

    def opened(self, now: float) -> list[Event]:
        self.is_open = True
        self._output.insert(0, f"{self.name}\n".encode())
        return self._stream.link_opened()

    @property
    def upgrade_request(self) -> UpgradeRequest:
        raise AssertionError("lines are no WebSocket")

    @property
    def asks_for_key(self) -> bool:
        return False

    def authenticate(self, api_key: str | APIKey) -> None:
        raise AssertionError("lines need no key")

    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        raise AssertionError("lines are no WebSocket")

    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        return [] if self.closed else self._stream.link_failed(self, error)

    def data_to_send(self) -> bytes:
        return b"".join(self.buffers_to_send())

    def buffers_to_send(self) -> list[bytes]:
        output, self._output = self._output, []
        return output

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        assert self.is_open
        *lines, self._input = (self._input + data).split(b"\n")
        events: list[Event] = []
        for line in lines:
            events.append(_result(line.decode()))
            if line.endswith(b" over"):
                self.closed = True
                events += self._stream.link_over()
        return events

    def receive_eof(self, now: float) -> list[Event]:
        return self.failed(SonioxConnectionError(f"{self.name} was lost"), now)


class LineStream:
    """Asks for the links of each stage at once, and for the next stage's when all are over.

    Args:
        port: Of the server.
        stages: The names of the links of each stage.
    """

    def __init__(self, port: int, stages: Sequence[Sequence[str]]) -> None:
        self.config: RealtimeSTTConfig = CONFIG
        self.state = SessionState.IDLE
        self.paused = False
        self.outcome: Outcome | None = None
        self.error: SonioxRealtimeError | None = None
        self.last_message: RealtimeEvent | None = None
        self.stats = SessionStats()
        self.flight_recorder = FlightRecorder()
        self.links: list[LineLink] = []
        self.reading = True
        self.port = port
        self.open_by: float | None = None
        """When the links that are asked for next have to be open."""
        self._stages = [list(stage) for stage in stages]
        self._wanted: list[LineLink] = []
        self._events: list[Event] = []

    @property
    def closed(self) -> bool:
        return self.state is SessionState.CLOSED

    @property
    def holds_too_much(self) -> bool:
        return False

    def links_to_open(self) -> Sequence[LineLink]:
        wanted, self._wanted = self._wanted, []
        return wanted

    def next_timeout(self) -> float | None:
        return 0.0 if self._events else None

    def handle_timeout(self, now: float) -> list[Event]:
        events, self._events = self._events, []
        return events

    def connect(self, now: float) -> None:
        self.state = SessionState.CONNECTING
        self._want()

    def _want(self) -> None:
        self.links = [LineLink(self, name, self.port, self.open_by) for name in self._stages.pop(0)]
        self._wanted += self.links

    def link_opened(self) -> list[Event]:
        if self.state is not SessionState.CONNECTING:
            return []
        self.state = SessionState.OPEN
        return [Opened(None, {})]

    def link_failed(self, link: LineLink, error: SonioxRealtimeError) -> list[Event]:
        link.closed = True
        return self._end(Outcome.LOST, error)

    def link_over(self) -> list[Event]:
        if self.closed or not all(link.closed for link in self.links):
            return []
        if not self._stages:
            return self._end(Outcome.FINISHED)
        self._want()
        return []

    def _end(self, outcome: Outcome, error: SonioxRealtimeError | None = None) -> list[Event]:
        if self.closed:
            return []
        self.state, self.outcome, self.error = SessionState.CLOSED, outcome, error
        for link in self.links:
            link.closed = True
        return [Closed(outcome, None, "", error)]

    def sent_position_ms(self, server_ms: float) -> int:
        raise NotImplementedError

    def captured_at(self, position_ms: float) -> float | None:
        raise NotImplementedError

    def send_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> None:
        """Say the chunk on every link of this stage."""
        self.stats.sent_audio_bytes += len(chunk)
        for link in self._current():
            link.say(bytes(chunk))

    def finish(self, now: float) -> None:
        """End every link of this stage."""
        for link in self._current():
            link.say(b"over")

    def _current(self) -> list[LineLink]:
        return [link for link in self.links if not link.closed]

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        raise NotImplementedError

    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any], now: float) -> None:
        raise NotImplementedError

    def keep_alive(self, now: float) -> None:
        raise NotImplementedError

    def pause(self, now: float, finalize: bool = True) -> None:
        """Give up the first link."""
        self.links[0].closed = True

    def resume(self, now: float) -> None:
        """Give up the links that are not open yet."""
        for link in self.links:
            link.closed = link.closed or not link.is_open

    def close(self, now: float) -> None:
        self._events += self._end(Outcome.CLOSED_LOCALLY)

    def abort(self, now: float) -> None:
        self._events += self._end(Outcome.ABORTED)

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        return self._end(Outcome.LOST, error)

    def pause_reading(self, now: float) -> None:
        self.reading = False

    def resume_reading(self, now: float) -> None:
        self.reading = True


class LineServer:
    """Listens while it is entered, on `port`."""

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}
        """What each link said, by its name."""
        self.ended: set[str] = set()
        """Links whose connections are over."""
        self.connections = 0
        self.port = 0

    @contextmanager
    def listening(self) -> Iterator[LineServer]:
        """Serve until the block is left, and every connection is over."""
        threads: list[threading.Thread] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]

            def accept() -> None:
                while True:
                    try:
                        connected, _ = listener.accept()
                    except OSError:
                        return
                    self.connections += 1
                    thread = threading.Thread(target=self._serve, args=(connected,))
                    threads.append(thread)
                    thread.start()

            accepting = threading.Thread(target=accept)
            accepting.start()
            try:
                yield self
            finally:
                # Closing alone does not wake who accepts.
                listener.shutdown(socket.SHUT_RDWR)
                accepting.join()
                for thread in threads:
                    thread.join(20.0)
                    assert not thread.is_alive(), "a connection was left open"

    def _serve(self, connected: socket.socket) -> None:
        with connected, connected.makefile("rb") as lines:
            name = ""
            try:
                name = lines.readline().decode().strip()
                said = self.said.setdefault(name, [])
                for line in lines:
                    said.append(line.decode().strip())
                    connected.sendall(f"{name} {said[-1]}\n".encode())
            except OSError:
                pass
            self.ended.add(name)


def _result(text: str) -> Result:
    return Result(RealtimeEvent(tokens=[Token(text=text)]), f'{{"tokens":[{{"text":"{text}"}}]}}')
