"""A server core whose client is made by hand."""

from __future__ import annotations

import json
from typing import Any

from soniox_proto import RealtimeSTTServerConnection, ServerEvent, StartReceived, UpgradeReceived
from tests.support.core import frames
from tests.support.core.frames import CLIENT_MASK, Frame, Headers
from tests.support.core.messages import START_MESSAGE

NOW = 1.0


class Server:
    """Feeds one `RealtimeSTTServerConnection` at the time `NOW`, and takes its output apart."""

    def __init__(self, **options: Any) -> None:
        self.core = RealtimeSTTServerConnection(**options)

    def request(self, headers: Headers = (), target: str = "/path?query") -> UpgradeReceived:
        (event,) = self.feed(frames.upgrade_request(target, headers))
        assert isinstance(event, UpgradeReceived)
        return event

    def open(self, headers: Headers = ()) -> Server:
        self.request(headers)
        self.core.accept(NOW)
        self.core.data_to_send()
        return self

    def start(self, headers: Headers = ()) -> Server:
        (event,) = self.open(headers).say(START_MESSAGE)
        assert isinstance(event, StartReceived)
        return self

    def feed(self, data: bytes) -> list[ServerEvent]:
        return self.core.receive_data(data, NOW)

    def say(self, *messages: str | bytes) -> list[ServerEvent]:
        """Feed messages of the client in one segment."""
        return self.feed(
            b"".join(
                frames.text(message, mask=CLIENT_MASK)
                if isinstance(message, str)
                else frames.binary(message, mask=CLIENT_MASK)
                for message in messages
            )
        )

    def drain(self) -> list[Frame]:
        return frames.decode(self.core.data_to_send(), from_client=False)

    def answer(self) -> tuple[dict[str, Any], int | None]:
        """Return the one message that the server sent, and the code of a close frame after it."""
        first, *rest = self.drain()
        return json.loads(first.message), rest[0].close_code if rest else None
