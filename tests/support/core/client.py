"""A client core with a clock, its output taken apart and its events kept."""

from __future__ import annotations

from typing import Any

from soniox_proto import Closed, Event, RealtimeSTTConfig, RealtimeSTTConnection, Result
from tests.support.core import frames
from tests.support.core.frames import Frame, Head, Headers, Opcode
from tests.support.core.messages import API_KEY, CONFIG

URL = "ws://localhost:8765/transcribe-websocket"


class Client:
    """Drives one `RealtimeSTTConnection`; `now` is the clock, everything it did is kept."""

    def __init__(
        self,
        *,
        url: str = URL,
        config: RealtimeSTTConfig = CONFIG,
        api_key: str | None = API_KEY,
        now: float = 0.0,
        **options: Any,
    ) -> None:
        self.connection = RealtimeSTTConnection(url, config, api_key=api_key, **options)
        self.now = now
        self.events: list[Event] = []
        self.request = b""
        self.frames: list[Frame] = []

    def connect(self) -> Head:
        """Queue and drain the upgrade request; return its head."""
        self.connection.connect(self.now)
        self.request = self.connection.data_to_send()
        head, rest = frames.split_head(self.request)
        assert rest == b"", "nothing may follow the request before it is accepted"
        return head

    def accept(self, headers: Headers = ()) -> list[Event]:
        return self.feed(frames.switching_protocols(self.request, headers))

    def open(self, headers: Headers = ()) -> Client:
        """Connect and be accepted; the start message is kept in `frames`."""
        self.connect()
        self.accept(headers)
        return self

    def feed(self, data: bytes) -> list[Event]:
        before = self.connection.next_timeout()
        events = self._keep(self.connection.receive_data(data, self.now))
        if events and all(isinstance(event, Result) for event in events):
            after = self.connection.next_timeout()
            # Drivers need not look at the timers then.
            assert after is None or (before is not None and after >= before)
        return events

    def receive(self, *messages: str) -> list[Event]:
        """Feed text messages of the server, each in one frame."""
        return self.feed(b"".join(map(frames.text, messages)))

    def eof(self) -> list[Event]:
        return self._keep(self.connection.receive_eof(self.now))

    def timeout(self) -> list[Event]:
        return self._keep(self.connection.handle_timeout(self.now))

    def wait(self, seconds: float) -> list[Event]:
        """Let time pass, serving every deadline on the way when it is due."""
        end = self.now + seconds
        events: list[Event] = []
        while (deadline := self.connection.next_timeout()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            events += self.timeout()
        self.now = end
        return events

    def drain(self) -> list[Frame]:
        """Return what the client framed since the last time, in order."""
        drained = frames.decode(self.connection.data_to_send())
        self.frames += drained
        return drained

    @property
    def messages(self) -> list[str | bytes]:
        """Every message that the client sent so far."""
        self.drain()
        return [frame.message for frame in self.frames if frame.opcode < Opcode.CLOSE]

    @property
    def close_codes(self) -> list[int]:
        """Code of every close frame that the client sent so far."""
        self.drain()
        return [frame.close_code for frame in self.frames if frame.opcode is Opcode.CLOSE]

    @property
    def closed(self) -> Closed:
        """The one `Closed` event."""
        (event,) = [event for event in self.events if isinstance(event, Closed)]
        assert self.events[-1] is event, "Closed comes last"
        return event

    def _keep(self, events: list[Event]) -> list[Event]:
        self.events += events
        return events
