"""Client core and server core joined in memory, under a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from soniox_proto import (
    Closed,
    EndOfAudioReceived,
    Event,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    RealtimeSTTServerConnection,
    RequestRefused,
    ServerEvent,
    UpgradeReceived,
)
from tests.support.core.messages import API_KEY, CONFIG

URL = "ws://localhost:8765/transcribe-websocket"

Answer = Callable[["Pair", ServerEvent], None]


def obedient(pair: Pair, event: ServerEvent) -> None:
    """Answer as the service does: accept, finish after the audio, tell of errors."""
    server = pair.server
    match event:
        case UpgradeReceived():
            server.accept(pair.now)
        case EndOfAudioReceived():
            server.finish({"tokens": []}, pair.now)
        case RequestRefused(code, error_type, message):
            server.send_error(code, error_type, message, pair.now)
        case _:
            pass


def mute(pair: Pair, event: ServerEvent) -> None:
    """Answer nothing at all."""


class Pair:
    """Moves bytes both ways; when none move, jumps to the earliest deadline of either end.

    `client_log` and `server_log` hold each event with its time. An end in `asleep` is neither
    fed nor told of deadlines: its host is suspended, or its peer has vanished from the network.
    """

    def __init__(
        self,
        *,
        answer: Answer = obedient,
        config: RealtimeSTTConfig = CONFIG,
        now: float = 0.0,
        server_options: dict[str, Any] | None = None,
        **client_options: Any,
    ) -> None:
        self.client = RealtimeSTTConnection(URL, config, api_key=API_KEY, **client_options)
        self.server = RealtimeSTTServerConnection(**server_options or {})
        self.answer = answer
        self.now = now
        self.asleep: set[str] = set()
        self.client_log: list[tuple[float, Event]] = []
        self.server_log: list[tuple[float, ServerEvent]] = []
        self._to_client = b""
        self._to_server = b""

    def connect(self) -> Pair:
        self.client.connect(self.now)
        self.deliver()
        return self

    def deliver(self) -> bool:
        """Move bytes until none are left; return whether any moved."""
        moved = False
        while self._deliver_once():
            moved = True
        return moved

    def step(self, until: float = float("inf")) -> bool:
        """Deliver, or else jump to the next deadline; False if nothing happens by `until`."""
        if self.deliver():
            return True
        deadline = self.next_timeout()
        if deadline is None or deadline > until:
            return False
        self.now = max(self.now, deadline)
        self._serve_deadlines()
        return True

    def run(self, seconds: float) -> None:
        """Let `seconds` pass, with everything that happens in them."""
        end = self.now + seconds
        while self.step(end):
            pass
        self.now = end

    def wake(self, *names: str) -> None:
        """End the sleep of `client` or `server`: overdue deadlines first, then what came in."""
        self.asleep.difference_update(names)
        self._serve_deadlines()
        self.deliver()

    def next_timeout(self) -> float | None:
        deadlines = [
            deadline
            for name, end in (("client", self.client), ("server", self.server))
            if name not in self.asleep and (deadline := end.next_timeout()) is not None
        ]
        return min(deadlines, default=None)

    def times(self, kind: type[Event] | type[ServerEvent]) -> list[float]:
        """Return when events of `kind` happened, at either end."""
        logs = [*self.client_log, *self.server_log]
        return [time for time, event in logs if isinstance(event, kind)]

    @property
    def closed(self) -> tuple[float, Closed]:
        """When the client closed, and how; it did so once, and last."""
        (entry,) = [entry for entry in self.client_log if isinstance(entry[1], Closed)]
        assert self.client_log[-1] is entry
        time, event = entry
        assert isinstance(event, Closed)
        return time, event

    def _deliver_once(self) -> bool:
        self._to_server += self.client.data_to_send()
        self._to_client += self.server.data_to_send()
        moved = False
        if self._to_server and "server" not in self.asleep:
            data, self._to_server = self._to_server, b""
            self._serve(self.server.receive_data(data, self.now))
            moved = True
        if self._to_client and "client" not in self.asleep:
            data, self._to_client = self._to_client, b""
            self._log(self.client.receive_data(data, self.now))
            moved = True
        return moved

    def _serve_deadlines(self) -> None:
        if "client" not in self.asleep:
            self._log(self.client.handle_timeout(self.now))
        if "server" not in self.asleep:
            self._serve(self.server.handle_timeout(self.now))

    def _log(self, events: list[Event]) -> None:
        self.client_log += [(self.now, event) for event in events]

    def _serve(self, events: list[ServerEvent]) -> None:
        for event in events:
            self.server_log.append((self.now, event))
            self.answer(self, event)
