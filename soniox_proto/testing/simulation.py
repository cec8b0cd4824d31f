"""A client's machine and a scripted server, joined in memory under a clock that jumps."""

from __future__ import annotations

import math
from typing import TypeAlias

from typing_extensions import Self
from wsproto import ConnectionType

from soniox_proto.connection import RealtimeSTTConnection
from soniox_proto.errors import SonioxConnectionError, SonioxHandshakeError
from soniox_proto.events import Closed, Event, Outcome, Result
from soniox_proto.messages import RealtimeEvent
from soniox_proto.protocol import RealtimeSTTProtocol
from soniox_proto.state import SessionState
from soniox_proto.stream import Link, RealtimeSTTStream, Stream
from soniox_proto.testing.clock import VirtualClock
from soniox_proto.testing.scripted_connection import ScriptedConnection
from soniox_proto.testing.scripted_server import ScriptedServer
from soniox_proto.websocket.connection import Accepted, CloseReceived, Rejected, WebSocket

__all__ = ["Client", "Simulation"]

Client: TypeAlias = "RealtimeSTTProtocol | RealtimeSTTConnection | Stream"
"""A machine of the core, on any of its layers."""


class Simulation:
    """Moves bytes between a client's machine and a server; when none move, time jumps.

    Calls of the user go to the machine itself, with `simulation.now` for the time; what they cause
    happens when time goes on, in `run` or `stream_audio`.

    Args:
        client: The machine, not connected yet.
        server: The server.
        clock: The clock to go by; by default a new one, which starts at 0.
    """

    def __init__(
        self, client: Client, server: ScriptedServer, *, clock: VirtualClock | None = None
    ) -> None:
        self.client = client
        self.server = server
        self.clock = clock or VirtualClock()
        self.events: list[tuple[float, Event]] = []
        """Every event of the client so far, with its time."""
        self._stream = _as_stream(client)
        self._links: list[tuple[Link | _MessageLink, ScriptedConnection]] = []

    @property
    def now(self) -> float:
        """The time, in seconds."""
        return self.clock.now

    @property
    def messages(self) -> list[RealtimeEvent]:
        """Every message of the service that the client received."""
        return [event.message for _, event in self.events if isinstance(event, Result)]

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None while it has not."""
        ends = [event.outcome for _, event in self.events if isinstance(event, Closed)]
        return ends[0] if ends else None

    def connect(self) -> Self:
        """Connect the client, and let happen what happens at once."""
        client = self.client
        client.connect(self.now)
        if isinstance(client, RealtimeSTTProtocol):
            self._open(_MessageLink(client))
        elif isinstance(client, RealtimeSTTConnection) and self._stream is None:
            self._open(client)
        self._deliver()
        return self

    def stream_audio(
        self, seconds: float, *, bytes_per_second: int = 32_000, chunk_ms: int = 100
    ) -> None:
        """Send audio (silence) in real time: a chunk, then its duration, and so on.

        Stops early if the session ends, because a client cannot know before it sends.

        Args:
            seconds: How much audio to send.
            bytes_per_second: Rate of the audio, unless the client's configuration tells it.
            chunk_ms: Duration of one chunk, in ms.
        """
        rate = self.client.config.bytes_per_second or bytes_per_second
        left = round(seconds * rate)
        while left > 0 and self.client.state is SessionState.OPEN:
            size = min(left, rate * chunk_ms // 1000)
            self.client.send_audio(bytes(size), self.now)
            self.run(size / rate)
            left -= size

    def run(self, seconds: float = math.inf) -> None:
        """Let time pass, with everything that happens in it.

        Without `seconds`, until the session is over or nothing more can happen.
        """
        end = self.now + seconds
        while True:
            self._deliver()
            deadline = self._next_timeout()
            if deadline is None or deadline > end:
                break
            self.clock.advance_to(deadline)
            self._serve_timeouts()
            # What a deadline waits for may have been sent just now.
            self._deliver()
            self._take(self.client.handle_timeout(self.now))
        if end != math.inf:
            self.clock.advance_to(end)

    def suspend(self, seconds: float) -> None:
        """Let time pass for the server alone, then wake the client: its machine slept meanwhile.

        What the server sent in that time comes at the end, and so do the client's deadlines.
        """
        self._deliver()
        end = self.now + seconds
        while (deadline := self._server_timeout()) is not None and deadline <= end:
            self.clock.advance_to(deadline)
            self._serve_timeouts()
        self.clock.advance_to(end)
        self._deliver()
        self._take(self.client.handle_timeout(end))
        self._deliver()

    # Inside

    def _next_timeout(self) -> float | None:
        times = (self._server_timeout(), self.client.next_timeout())
        return min((time for time in times if time is not None), default=None)

    def _server_timeout(self) -> float | None:
        times = (connection.next_timeout() for _, connection in self._links)
        return min((time for time in times if time is not None), default=None)

    def _serve_timeouts(self) -> None:
        for _, connection in self._links:
            connection.handle_timeout(self.now)

    def _deliver(self) -> None:
        """Move bytes until none are left."""
        moved = True
        while moved:
            moved = self._open_links()
            for link, connection in tuple(self._links):
                moved |= self._move(link, connection)

    def _open_links(self) -> bool:
        wanted = () if self._stream is None else self._stream.links_to_open()
        for link in wanted:
            self._open(link)
        return bool(wanted)

    def _open(self, link: Link | _MessageLink) -> None:
        self._links.append((link, self.server.connect(self.now)))
        self._take(link.opened(self.now))

    def _move(self, link: Link | _MessageLink, connection: ScriptedConnection) -> bool:
        now = self.now
        sent = link.data_to_send()
        if sent:
            connection.receive_data(sent, now)
        received = connection.data_to_send()
        if received:
            self._take(link.receive_data(received, now))
        elif link.closed or connection.closed:
            # Whichever end closed the byte stream, the other one notices.
            self._links.remove((link, connection))
            self._take(link.receive_eof(now))
            connection.receive_eof(now)
        return bool(sent or received)

    def _take(self, events: list[Event]) -> None:
        self.events += [(self.now, event) for event in events]


def _as_stream(client: Client) -> Stream | None:
    """Return the client if it asks for its byte streams, else None."""
    if isinstance(client, RealtimeSTTProtocol):
        return None
    if isinstance(client, RealtimeSTTConnection) and not isinstance(client, RealtimeSTTStream):
        return None
    return client


class _MessageLink:
    """A WebSocket under the message layer, with a byte stream of its own."""

    def __init__(self, protocol: RealtimeSTTProtocol) -> None:
        self._protocol = protocol
        self._websocket = WebSocket(ConnectionType.CLIENT, max_message_size=2**24)

    @property
    def closed(self) -> bool:
        return self._protocol.closed

    def opened(self, now: float) -> list[Event]:
        self._websocket.request_upgrade(
            host="scripted", target="/transcribe-websocket", headers=[], subprotocols=[]
        )
        return []

    def data_to_send(self) -> bytes:
        websocket, protocol = self._websocket, self._protocol
        for message in protocol.messages_to_send():
            websocket.send_message(message)
        if protocol.close_code is not None and websocket.open:
            websocket.send_close(protocol.close_code)
        return websocket.data_to_send()

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        events: list[Event] = []
        for event in self._websocket.receive_data(data):
            match event:
                case list():
                    events += self._protocol.receive_messages(event, now)
                case Accepted():
                    self._protocol.start(now)
                case CloseReceived():
                    events += self._protocol.receive_close(event.code, event.reason, now)
                    self._websocket.send_close(1000 if event.code == 1005 else event.code)
                case Rejected():
                    error = SonioxHandshakeError(
                        f"the server refused the WebSocket upgrade with {event.status_code}",
                        status_code=event.status_code,
                        headers=event.headers,
                        body=event.body,
                    )
                    events += self._protocol.fail(error, now)
                case _:
                    events += self.receive_eof(now)
        return events

    def receive_eof(self, now: float) -> list[Event]:
        error = SonioxConnectionError("the connection was lost", close_code=1006)
        return self._protocol.fail(error, now)
