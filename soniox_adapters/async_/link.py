"""One link of an async session: the core's link joined to its transport.

A session can have two links at a time, so what a transport reports has to reach the right one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soniox_adapters.session.flow_control import FlowControl, UnsentReplies
from soniox_proto import Event, SonioxRealtimeError

if TYPE_CHECKING:
    from soniox_adapters.async_.transport import AsyncTransport
    from soniox_proto import Link

__all__ = ["SessionCallbacks", "TransportLink"]


@dataclass(frozen=True, slots=True)
class SessionCallbacks:
    """What a link calls on its session."""

    clock: Callable[[], float]
    """Returns the event loop's time, in seconds."""
    process: Callable[[list[Event], TransportLink | None], None]
    """Delivers events and writes the core's output, as a reply if a link is given."""
    lost_error: Callable[[OSError], SonioxRealtimeError]
    """Returns the session's error for a stream that failed."""
    sending_resumed: Callable[[], None]
    """Lets senders go on."""
    link_left: Callable[[TransportLink], None]
    """Forgets a link whose transport is closed."""


class TransportLink:
    """A link and its transport. It is the transport's `TransportCallbacks`."""

    __slots__ = ("_session", "_unsent_replies", "link", "transport")

    transport: AsyncTransport

    def __init__(self, link: Link, session: SessionCallbacks, flow: FlowControl) -> None:
        self.link = link
        self._session = session
        self._unsent_replies = UnsentReplies(flow)

    def flush(self, *, replying: bool = False) -> bool:
        """Write the link's output; return whether senders have to wait.

        Args:
            replying: Whether the link has just received something, so that its output consists of
                replies. Those that stay unwritten count in `FlowControl`.
        """
        transport = self.transport
        buffers = self.link.buffers_to_send()
        if buffers:
            if len(buffers) == 1:
                transport.write(buffers[0])
            else:
                transport.write_buffers(buffers)
            if replying and transport.writing_paused:
                self._unsent_replies.add(sum(map(len, buffers)))
        return transport.writing_paused

    # Callbacks of the transport

    def data_received(self, data: bytes) -> None:
        """Feed the link bytes from the server."""
        self._session.process(self.link.receive_data(data, self._session.clock()), self)

    def eof_received(self) -> None:
        """Feed the link the end of its stream."""
        self._session.process(self.link.receive_eof(self._session.clock()), None)

    def connection_failed(self, error: OSError) -> None:
        """Make the link fail."""
        session = self._session
        session.process(self.link.failed(session.lost_error(error), session.clock()), None)

    def writing_resumed(self) -> None:
        """Let blocked senders go on."""
        self._unsent_replies.clear()
        self._session.sending_resumed()

    def transport_closed(self) -> None:
        """Make the session forget this link."""
        self._session.link_left(self)
