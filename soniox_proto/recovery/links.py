"""The links of a session: how each is made, counted and given up.

A session has one link after the other, and two for a while. Whatever each is for, it is made of
the same options, gets the next number when it opens, and leaves what it has counted to the session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.connection import RealtimeSTTConnection
from soniox_proto.events import Event, SessionStats
from soniox_proto.flight_recorder import FlightRecorder
from soniox_proto.recovery.link import RecoverableLink
from soniox_proto.stream import Link

__all__ = ["Links"]


class Links:
    """Makes links, and keeps the session's counters for them.

    Args:
        connection: Returns a new connection for a configuration.
        took: What the events of each link go through.
        stats: Where to count.
        flight_recorder: What every connection writes into.
    """

    __slots__ = ("_connection", "_flight_recorder", "_stats", "_took", "_wanted", "opened")

    def __init__(
        self,
        connection: Callable[[RealtimeSTTConfig], RealtimeSTTConnection],
        took: Callable[[RecoverableLink, list[Event], float], list[Event]],
        stats: SessionStats,
        flight_recorder: FlightRecorder,
    ) -> None:
        self._connection = connection
        self._took = took
        self._stats = stats
        self._flight_recorder = flight_recorder
        self._wanted: list[RecoverableLink] = []
        self.opened = 0
        """How many have been open."""

    def make(self, config: RealtimeSTTConfig) -> RecoverableLink:
        """Return a new link, which is not wanted yet."""
        return RecoverableLink(
            self._connection(config),
            self._took,
            declares_container=config.bytes_per_second is None,
        )

    def want(self, link: RecoverableLink, now: float) -> None:
        """Have a link opened."""
        link.connection.flight_recorder = self._flight_recorder
        link.connection.connect(now)
        self._wanted.append(link)

    def take_wanted(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        if not self._wanted:
            return ()
        wanted, self._wanted = self._wanted, []
        return [link for link in wanted if not link.closed]

    def note_opened(self, link: RecoverableLink, now: float) -> None:
        """Note that the service has accepted a link."""
        self.opened += 1
        link.number, link.opened_at = self.opened, now
        self._stats.note_link_opened(now)
        # What it measures counts for the session.
        link.connection.stats.measurements = []

    def note_closed(self, link: RecoverableLink, now: float) -> None:
        """Note that a link has ended, if it was ever open."""
        if link.opened_at is not None:
            self._stats.note_link_closed(now)

    def abandon(self, link: RecoverableLink, now: float) -> None:
        """Give a link up; what it still says is ignored."""
        self.note_closed(link, now)
        link.abandon(now)

    def count(self, link: RecoverableLink) -> None:
        """Add what a connection has counted since the last time."""
        counted, stats = link.connection.stats, self._stats
        stats.received_messages += counted.received_messages - link.received_messages
        stats.sent_keepalives += counted.sent_keepalives - link.sent_keepalives
        link.received_messages = counted.received_messages
        link.sent_keepalives = counted.sent_keepalives
        stats.sent_pings += counted.sent_pings - link.sent_pings
        link.sent_pings = counted.sent_pings
        for measured in counted.measurements or ():
            if measured.name == "ping_latency":
                stats.note_pong(measured.seconds)
        if counted.measurements:
            counted.measurements.clear()
