"""Connections to which faults happen, for sessions of every kind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

from soniox_adapters.testing.fault_relay import FaultRelay, tcp_pair
from soniox_proto import Endpoint, SonioxValidationError
from soniox_proto.testing import FAULT_KINDS, FaultKind, FaultPlan, FaultyChannel

if TYPE_CHECKING:
    import anyio.abc

__all__ = ["FaultInjector"]


class FaultInjector:
    """Opens connections to which faults happen, one plan for each.

    Its `connect` is a `transport` for blocking sessions, its `connect_async` one for sessions on
    asyncio and trio. `wrap` and `wrap_stream` put faults around what is open already, be it the
    client's end or the server's.

    Use it as a context manager: leaving the block ends what is left of the connections. The `repr`
    is the code that makes it again.

    Args:
        plans: What happens to the first connections, in order.
        seed: What to draw the plans of further connections from. Without it nothing happens to
            them.
        kinds: The kinds of faults to draw from.
    """

    def __init__(
        self,
        *plans: FaultPlan,
        seed: int | str | None = None,
        kinds: Sequence[FaultKind] = FAULT_KINDS,
    ) -> None:
        for plan in plans:
            if not isinstance(plan, FaultPlan):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SonioxValidationError(
                    f"a fault injector takes a FaultPlan for each connection, not {plan!r}"
                )
        self._plans = plans
        self._seed = seed
        self._kinds = tuple(kinds)
        self._channels: list[FaultyChannel] = []
        self._relays: list[FaultRelay] = []
        # Guards the lists. Closing the second socket stops every relay.
        self._lock = threading.Lock()
        self._stop_signal: tuple[socket.socket, socket.socket] | None = None
        self._closed = False

    @property
    def connections(self) -> Sequence[FaultyChannel]:
        """The connections so far: what was planned, what has `happened`, how much has `passed`."""
        return tuple(self._channels)

    def connect(self, endpoint: Endpoint, seconds_left: float | None = None) -> socket.socket:
        """Connect to an endpoint over TCP, without TLS; return a faulty socket."""
        address = (endpoint.host, endpoint.port)
        return self.wrap(socket.create_connection(address, timeout=seconds_left))

    async def connect_async(self, endpoint: Endpoint) -> anyio.abc.ByteStream:
        """Connect to an endpoint over TCP, without TLS; return a faulty stream."""
        import anyio

        return self.wrap_stream(await anyio.connect_tcp(endpoint.host, endpoint.port))

    def wrap(self, connected: socket.socket) -> socket.socket:
        """Return a socket that leads to another one, through the next plan.

        A thread moves the bytes, and owns the given socket from now on.
        """
        near, far = tcp_pair()
        with self._lock:
            if self._closed:
                for end in (near, far, connected):
                    end.close()
                raise ConnectionAbortedError("the fault injector is closed")
            if self._stop_signal is None:
                self._stop_signal = socket.socketpair()
            relay = FaultRelay(
                far, connected, self._next_channel(time.monotonic()), self._stop_signal[0]
            )
            self._relays = [one for one in self._relays if one.is_alive()] + [relay]
            relay.start()
        return near

    def wrap_stream(self, stream: anyio.abc.ByteStream) -> anyio.abc.ByteStream:
        """Return a stream of anyio around another one, through the next plan."""
        import anyio

        from soniox_adapters.testing.faulty_stream import FaultyStream

        with self._lock:
            return FaultyStream(stream, self._next_channel(anyio.current_time()))

    def close(self) -> None:
        """End every connection that `connect` and `wrap` have made."""
        with self._lock:
            self._closed = True
            signal, self._stop_signal = self._stop_signal, None
        if signal is None:
            return
        signal[1].close()
        for relay in self._relays:
            relay.join()
        signal[0].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        arguments = [repr(plan) for plan in self._plans]
        if self._seed is not None:
            arguments.append(f"seed={self._seed!r}")
        if self._kinds != FAULT_KINDS:
            arguments.append(f"kinds={self._kinds!r}")
        return f"FaultInjector({', '.join(arguments)})"

    def _next_channel(self, now: float) -> FaultyChannel:
        """Return the channel of a new connection. Called with the lock."""
        number = len(self._channels)
        if number < len(self._plans):
            plan = self._plans[number]
        elif self._seed is None:
            plan = FaultPlan()
        else:
            plan = FaultPlan.from_seed(f"{self._seed} {number + 1}", kinds=self._kinds)
        channel = FaultyChannel(plan, now)
        self._channels.append(channel)
        return channel
