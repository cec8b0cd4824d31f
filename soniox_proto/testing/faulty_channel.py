"""Both directions of a connection, and what a plan does to the bytes in them. No I/O."""

from __future__ import annotations

from collections import deque
from typing import Final

from soniox_proto.testing.faults import Direction, Fault, FaultKind, FaultPlan

__all__ = ["FaultyChannel"]

MAX_BUFFERED: Final = 64 * 1024
"""Bytes that are on their way in one direction at most, as in a kernel's buffers."""


class FaultyChannel:
    """Carries out the plan of one connection.

    Bytes are fed in where they come from (`feed`, `feed_eof`), and taken out when they may arrive
    (`take`, `at_eof`). Like the machines of the core it reads no clock: `next_timeout` says when to
    look again.

    Args:
        plan: What happens.
        now: When the connection was opened.
    """

    def __init__(self, plan: FaultPlan, now: float) -> None:
        self.plan = plan
        """What was to happen."""
        self.happened: list[Fault] = []
        """The faults that have happened, in order."""
        self.ended: FaultKind | None = None
        """The fault that ended the connection, if one has."""
        self._began = now
        self._lanes: dict[Direction, _Lane] = {"sent": _Lane(), "received": _Lane()}
        for fault in plan.faults:
            self._lanes[fault.direction].faults.append(fault)

    def passed(self, direction: Direction) -> int:
        """Return how many bytes have passed in a direction."""
        return self._lanes[direction].passed

    def room(self, direction: Direction) -> int:
        """Return how many bytes may be fed; while there is no room, nothing should be read."""
        if self.ended is None:
            return MAX_BUFFERED - self._lanes[direction].buffered
        return 0 if self.ended == "freeze" else MAX_BUFFERED

    def waiting(self, direction: Direction) -> bool:
        """Return whether bytes that were fed are still on their way."""
        return bool(self._lanes[direction].queue)

    def feed(self, direction: Direction, data: bytes, now: float) -> None:
        """Take bytes where they come from."""
        if data and self.ended is None:
            lane = self._lanes[direction]
            lane.queue.append((now, memoryview(data)))
            lane.buffered += len(data)

    def feed_eof(self, direction: Direction, now: float) -> None:
        """Note that no more bytes will come in a direction."""
        self._lanes[direction].eof = now

    def take(self, direction: Direction, now: float) -> bytes:
        """Return the bytes that arrive now. What is returned at once should be written at once.

        Afterwards the connection may have `ended`.
        """
        lane = self._lanes[direction]
        taken = bytearray()
        self.handle_timeout(now)
        while self.ended is None and (piece := lane.take(now, self._limit(lane, now))):
            taken += piece
            self.handle_timeout(now)
            if lane.dripping:
                break
        return bytes(taken)

    def at_eof(self, direction: Direction, now: float) -> bool:
        """Return whether all bytes of a direction and its end have arrived."""
        lane = self._lanes[direction]
        return self.ended is None and not lane.queue and lane.eof is not None and lane.due <= now

    def handle_timeout(self, now: float) -> None:
        """Let the faults happen that are due."""
        for lane in self._lanes.values():
            for fault in tuple(lane.faults):
                if fault.after <= lane.passed and self._began + fault.at <= now:
                    lane.faults.remove(fault)
                    if self.ended is None:
                        self._happen(fault, lane, now)

    def next_timeout(self, *directions: Direction) -> float | None:
        """Return when the next fault is due, or more arrives in one of these directions.

        None while nothing can happen before more bytes are fed.
        """
        if self.ended is not None:
            return None
        times = [
            self._began + fault.at
            for lane in self._lanes.values()
            for fault in lane.faults
            if fault.after <= lane.passed
        ]
        lanes = [self._lanes[direction] for direction in directions]
        times += [lane.due for lane in lanes if lane.queue or lane.eof is not None]
        return min(times, default=None)

    # Inside

    def _happen(self, fault: Fault, lane: _Lane, now: float) -> None:
        self.happened.append(fault)
        match fault.kind:
            case "delay":
                lane.delay = fault.seconds
            case "stall":
                lane.held_until = now + fault.seconds
            case "drip":
                lane.dripping = fault.length
                lane.drip_interval = fault.seconds / fault.length
                lane.next_drop = now
            case _:
                self.ended = fault.kind
                for each in self._lanes.values():
                    each.queue.clear()

    def _limit(self, lane: _Lane, now: float) -> int:
        """Return how many bytes may pass before the next fault happens."""
        return min(
            (fault.after - lane.passed for fault in lane.faults if self._began + fault.at <= now),
            default=MAX_BUFFERED,
        )


class _Lane:
    """One direction: the bytes that are on their way, and what slows them down."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.queue: deque[tuple[float, memoryview]] = deque()
        self.buffered = 0
        self.passed = 0
        self.eof: float | None = None
        self.delay = 0.0
        self.held_until = 0.0
        self.dripping = 0
        self.drip_interval = 0.0
        self.next_drop = 0.0

    @property
    def due(self) -> float:
        """When the next bytes, or the end, may arrive."""
        came = self.queue[0][0] if self.queue else self.eof
        assert came is not None, "something must be on its way"
        due = max(came + self.delay, self.held_until)
        return max(due, self.next_drop) if self.dripping and self.queue else due

    def take(self, now: float, limit: int) -> memoryview:
        """Return the next bytes if they may arrive."""
        if not self.queue or self.due > now:
            return memoryview(b"")
        if self.dripping:
            limit = 1
            self.dripping -= 1
            self.next_drop += self.drip_interval
        came, data = self.queue.popleft()
        piece, rest = data[:limit], data[limit:]
        if rest:
            self.queue.appendleft((came, rest))
        self.buffered -= len(piece)
        self.passed += len(piece)
        return piece
