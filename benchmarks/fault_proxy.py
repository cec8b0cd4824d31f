"""A TCP proxy that treats connections as networks do: delays, drips, stalls, cuts, resets."""

from __future__ import annotations

import asyncio
import enum
import random
import re
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal

from typing_extensions import Self

__all__ = ["Fault", "FaultKind", "FaultProxy", "Passage", "random_fault"]

_READ_BYTES: Final = 64 * 1024
_SESSION: Final = re.compile(rb"[?&]session=(\d+)")
_START_SECONDS: Final = 10.0

Direction = Literal["up", "down"]


class FaultKind(enum.Enum):
    """What happens to a connection."""

    NONE = "none"
    DELAY = "delay"
    """All data is late."""
    DRIP = "drip"
    """Some bytes arrive one by one."""
    STALL = "stall"
    """Nothing moves in one direction for a while."""
    CUT = "cut"
    """Both ends see the other hang up."""
    RESET = "reset"
    """Both ends get a TCP reset."""
    SWALLOW = "swallow"
    """Both ends can go on sending, but nothing arrives any more."""
    FREEZE = "freeze"
    """Nothing is read from either end any more, so that its buffers fill up."""

    @property
    def fatal(self) -> bool:
        """Whether a session cannot survive it."""
        return self in {FaultKind.CUT, FaultKind.RESET, FaultKind.SWALLOW, FaultKind.FREEZE}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one connection, and when."""

    kind: FaultKind
    direction: Direction = "up"
    """Whether it happens to what the client sends (up) or to what the server sends (down)."""
    after: int = 0
    """Bytes that pass in that direction before it happens."""
    length: int = 0
    """Bytes that drip."""
    seconds: float = 0.0
    """The delay of all data, the length of a stall, or the maximum length of dripping."""


def random_fault(generator: random.Random) -> Fault:
    """Return a random fault at a random moment of a session that takes some seconds."""
    kind = generator.choice(list(FaultKind))
    direction: Direction = generator.choice(("up", "down"))
    # Half of them during the handshake or shortly after it, when states change fastest.
    longest = 400 if generator.random() < 0.5 else 100_000 if direction == "up" else 4_000
    return Fault(
        kind,
        direction,
        after=generator.randrange(longest),
        length=generator.randrange(1, 1500),
        seconds=generator.uniform(0.001, 0.03 if kind is FaultKind.DELAY else 1.0),
    )


@dataclass(slots=True)
class Passage:
    """One connection through the proxy."""

    fault: Fault
    fired: bool = False
    """Whether the fault has happened."""
    up: int = 0
    """Bytes that passed from the client to the server."""
    down: int = 0
    """Bytes that passed from the server to the client."""


class _EndedError(Exception):
    """The fault has ended what this connection forwards."""


class FaultProxy:
    """The proxy. It runs during a `with` block, in a thread with its own event loop.

    Call `expect` to say what will happen to a session, then have it connect with `?session=NUMBER`
    in its URL. After the session, `release` ends what is left of its connection.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._passages: dict[int, Passage] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    def expect(self, number: int, fault: Fault) -> Passage:
        """Set what will happen to session `number`; return the record of its connection."""
        passage = Passage(fault)
        self._passages[number] = passage
        return passage

    def release(self, number: int) -> None:
        """Drop session `number`, which has ended."""
        self._passages.pop(number, None)
        self._loop.call_soon_threadsafe(self._cancel, number)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _cancel(self, number: int) -> None:
        if task := self._tasks.get(number):
            task.cancel()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._listener.close()

    async def _serve(self) -> None:
        accepting = asyncio.create_task(self._accept())
        await self._stop.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(accepting, *left, return_exceptions=True)

    async def _accept(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.create_task(self._connection(client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _connection(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setblocking(False)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = -1
        try:
            request = await asyncio.wait_for(self._meet(client, server), _START_SECONDS)
            found = _SESSION.search(request)
            passage = self._passages.get(int(found[1])) if found else None
            if found is None or passage is None:
                return
            number = int(found[1])
            task = asyncio.current_task()
            assert task is not None
            self._tasks[number] = task
            await self._forward(client, server, passage, request)
        except (OSError, asyncio.TimeoutError):
            # If one end vanishes, close the other one too.
            pass
        finally:
            self._tasks.pop(number, None)
            client.close()
            server.close()

    async def _meet(self, client: socket.socket, server: socket.socket) -> bytes:
        """Connect to the server; return what the client has sent, at least its first line."""
        request = b""
        while b"\r\n" not in request:
            more = await self._loop.sock_recv(client, _READ_BYTES)
            if not more:
                raise ConnectionError("the client hung up before it said anything")
            request += more
        await self._loop.sock_connect(server, ("127.0.0.1", self._target_port))
        return request

    async def _forward(
        self, client: socket.socket, server: socket.socket, passage: Passage, request: bytes
    ) -> None:
        pumps = {
            asyncio.create_task(self._pump(client, server, passage, "up", request)),
            asyncio.create_task(self._pump(server, client, passage, "down", b"")),
        }
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        if any(isinstance(pump.exception(), _EndedError) for pump in done if not pump.cancelled()):
            await self._end(client, server, passage.fault.kind)

    async def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        passage: Passage,
        direction: Direction,
        data: bytes,
    ) -> None:
        fault = passage.fault
        mine = direction == fault.direction and fault.kind is not FaultKind.NONE
        drip_until = 0.0
        while True:
            if not data:
                data = await self._loop.sock_recv(source, _READ_BYTES)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
            passed = passage.up if direction == "up" else passage.down
            piece, data = data, b""
            if mine and not passage.fired:
                room = fault.after - passed
                piece, data = (piece[:room], piece[room:]) if room > 0 else (b"", piece)
                if data:
                    await self._write(target, piece, passage, direction)
                    passage.fired = True
                    drip_until = self._loop.time() + fault.seconds
                    if fault.kind.fatal:
                        raise _EndedError
                    if fault.kind is FaultKind.STALL:
                        await asyncio.sleep(fault.seconds)
                    continue
            if mine and fault.kind is FaultKind.DELAY and passage.fired:
                await asyncio.sleep(fault.seconds)
            if mine and fault.kind is FaultKind.DRIP and passage.fired:
                left = fault.after + fault.length - passed
                while piece and left > 0 and self._loop.time() < drip_until:
                    await self._write(target, piece[:1], passage, direction)
                    await asyncio.sleep(0)
                    piece = piece[1:]
                    left -= 1
            await self._write(target, piece, passage, direction)

    async def _write(
        self, target: socket.socket, piece: bytes, passage: Passage, direction: Direction
    ) -> None:
        await self._loop.sock_sendall(target, piece)
        if direction == "up":
            passage.up += len(piece)
        else:
            passage.down += len(piece)

    async def _end(self, client: socket.socket, server: socket.socket, kind: FaultKind) -> None:
        """Apply a fatal fault until both ends are gone or the session is released."""
        match kind:
            case FaultKind.RESET:
                for end in (client, server):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case FaultKind.CUT:
                for end in (client, server):
                    end.shutdown(socket.SHUT_WR)
                # Closing a socket with unread bytes would reset the connection instead.
                await asyncio.gather(self._drain(client), self._drain(server))
            case FaultKind.SWALLOW:
                await asyncio.gather(self._drain(client), self._drain(server))
            case _:
                await asyncio.Event().wait()

    async def _drain(self, source: socket.socket) -> None:
        while await self._loop.sock_recv(source, _READ_BYTES):
            pass
