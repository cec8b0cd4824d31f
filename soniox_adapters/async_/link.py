"""One link of an async session on its transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soniox_adapters.session.flow_control import FlowControl
from soniox_proto import Event, SonioxRealtimeError

if TYPE_CHECKING:
    from soniox_adapters.async_.transport import AsyncTransport
    from soniox_proto import Link

__all__ = ["SessionCallbacks", "TransportLink"]


@dataclass(frozen=True, slots=True)
class SessionCallbacks:
    """What a link tells its session."""

    clock: Callable[[], float]
    """The event loop's, in seconds."""
    process: Callable[[list[Event], TransportLink | None], None]
    """Hands on events and writes what they made; as an answer, if a link has received something."""
    lost_error: Callable[[OSError], SonioxRealtimeError]
    """Makes the session's error for a stream that failed."""
    sending_resumed: Callable[[], None]
    """Lets senders go on."""
    link_left: Callable[[TransportLink], None]
    """Forgets a link whose transport is closed."""


class TransportLink:
    """A link and its transport, whose callbacks it takes."""

    __slots__ = ("_flow", "_session", "_unsent_replies", "link", "transport")

    transport: AsyncTransport

    def __init__(self, link: Link, session: SessionCallbacks, flow: FlowControl) -> None:
        self.link = link
        self._session = session
        self._flow = flow
        self._unsent_replies = 0

    def flush(self, *, replying: bool = False) -> bool:
        """Write what the link has to say; return whether senders have to wait."""
        transport = self.transport
        buffers = self.link.buffers_to_send()
        if buffers:
            transport.write_buffers(buffers)
            if replying and transport.writing_paused:
                self._count_replies(sum(map(len, buffers)))
        return transport.writing_paused

    def _count_replies(self, size: int) -> None:
        self._unsent_replies += size
        self._flow.unsent_replies += size

    # Callbacks of the transport

    def data_received(self, data: bytes) -> None:
        """Feed the link."""
        self._session.process(self.link.receive_data(data, self._session.clock()), self)

    def eof_received(self) -> None:
        """Feed the link its end."""
        self._session.process(self.link.receive_eof(self._session.clock()), None)

    def connection_failed(self, error: OSError) -> None:
        """Have the link fail."""
        session = self._session
        session.process(self.link.failed(session.lost_error(error), session.clock()), None)

    def writing_resumed(self) -> None:
        """Let senders go on."""
        self._count_replies(-self._unsent_replies)
        self._session.sending_resumed()

    def transport_closed(self) -> None:
        """Leave the session."""
        self._session.link_left(self)
