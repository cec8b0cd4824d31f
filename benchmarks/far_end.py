"""The far end of the benchmarks: a WebSocket server on raw sockets that does next to nothing.

A full server would be the bottleneck, and its cost would hide that of the clients. This one runs in
its own process on its own core, with one thread and one selector. It checks nothing, reads only
headers, and sends frames made in advance. The path of the upgrade request says what a connection
does:

- `/discard`: read, and send nothing.
- `/first`: send one result for the first audio, with the time at which it came.
- `/flood?tokens=5&count=1000`: from the first audio on, send `count` results as fast as possible.
- `/answer?tokens=5`: send one result for every chunk of audio.
- `/steady?tokens=5&rate=10`: from the first audio on, send `rate` results per second, each with the
  time at which it was sent.

It prints its port. Then, for every line on its standard input, it prints the CPU seconds that it
has used so far; it exits when its standard input ends.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.delaying_relay import DelayingRelay
from benchmarks.messages import STAMP_LENGTH, STAMP_PLACEHOLDER, event_json, stamp

_READ_BYTES: Final = 256 * 1024
_BATCH_BYTES: Final = 128 * 1024
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one unmasked frame (RFC 6455 section 5.2)."""
    size = len(payload)
    first = 0x80 | opcode
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def unmask(payload: bytes, key: bytes) -> bytes:
    """Return a short payload unmasked."""
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class FarEnd:
    """All connections, one selector, one thread."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.selector = selectors.DefaultSelector()
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._steady: list[Connection] = []
        self._steady_members: set[Connection] = set()
        self._steady_rate = 0.0
        self._steady_next = 0.0
        self._steady_index = 0

    def run(self) -> None:
        """Serve until standard input ends."""
        self.selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self.selector.register(sys.stdin, selectors.EVENT_READ, self._tell_cpu_time)
        while True:
            timeout = self._send_steadily() if self._steady else None
            for key, mask in self.selector.select(timeout):
                handler: Callable[[int], None] = key.data
                handler(mask)

    def add_steady(self, connection: Connection, rate: float) -> None:
        """Send `rate` results per second to `connection`; the last rate given counts for all."""
        if connection in self._steady_members:
            return
        self._steady.append(connection)
        self._steady_members.add(connection)
        self._steady_rate = rate
        if len(self._steady) == 1:
            self._steady_next = time.monotonic()

    def remove_steady(self, connection: Connection) -> None:
        """Drop a connection that has ended."""
        if connection in self._steady_members:
            self._steady.remove(connection)
            self._steady_members.remove(connection)

    def _send_steadily(self) -> float:
        """Send the results that are due; return the seconds until the next one is."""
        now = time.monotonic()
        while self._steady_next <= now:
            self._steady_next += 1 / (self._steady_rate * len(self._steady))
            self._steady_index = (self._steady_index + 1) % len(self._steady)
            self._steady[self._steady_index].send_stamped()
            if not self._steady:
                return 0.0
        return self._steady_next - now

    def _accept(self, _mask: int) -> None:
        try:
            connected, _ = self._listener.accept()
        except BlockingIOError:
            return
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            connected.setblocking(False)
            # Done by `Connection.handle`: the other connections must not wait for it.
            connected = self._context.wrap_socket(
                connected, server_side=True, do_handshake_on_connect=False
            )
        connected.setblocking(False)
        connection = Connection(self, connected)
        self.selector.register(connected, selectors.EVENT_READ, connection.handle)

    def _tell_cpu_time(self, _mask: int) -> None:
        # Read from the descriptor, because a buffered reader would hide further lines from select.
        if not os.read(sys.stdin.fileno(), 4096):
            os._exit(0)
        print(time.process_time(), flush=True)


class Connection:
    """One client."""

    def __init__(self, far_end: FarEnd, connected: socket.socket) -> None:
        self._far_end = far_end
        self._socket = connected
        self._secure = isinstance(connected, ssl.SSLSocket)
        self._handshaken = not self._secure
        self._upgraded = False
        self._started = False
        self._over = False
        # The incomplete frame at the end of the last read, and the rest of a payload to skip.
        self._held = b""
        self._skip = 0
        self._output = bytearray()
        self._on_audio: Callable[[int], None] = lambda _chunks: None
        self._stamped_parts = (b"", b"")
        self._flood = memoryview(b"")
        self._flood_position = 0
        self._flood_left = 0

    def handle(self, mask: int) -> None:
        """Read or write, whatever the socket is ready for."""
        try:
            if not self._handshaken and isinstance(self._socket, ssl.SSLSocket):
                self._socket.do_handshake()
                self._handshaken = True
            if mask & selectors.EVENT_WRITE:
                self._write()
            if mask & selectors.EVENT_READ and not self._over:
                self._read()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return
        except OSError:
            self._close()

    def send_stamped(self) -> None:
        """Send a result that carries the current time."""
        before, behind = self._stamped_parts
        try:
            self._send(before + stamp(time.monotonic_ns()) + behind)
        except OSError:
            self._close()

    # Reading

    def _read(self) -> None:
        buffer = self._far_end.buffer
        while True:
            size = self._socket.recv_into(buffer)
            if not size:
                self._close()
                return
            data = buffer[:size]
            if not self._upgraded:
                self._upgrade(bytes(data))
            elif chunks := self._count_chunks(data):
                self._on_audio(chunks)
            if self._over or not (self._secure and self._ssl_pending()):
                return

    def _ssl_pending(self) -> int:
        return self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0

    def _count_chunks(self, data: memoryview | bytes) -> int:
        """Go through the frames; return in how many of them audio began."""
        if self._held:
            data, self._held = self._held + bytes(data), b""
        size, position, chunks = len(data), self._skip, 0
        while position < size:
            left = size - position
            length = data[position + 1] & 0x7F if left > 1 else 127
            header = 6 if length < 126 else 8 if length == 126 else 14
            if left < header:
                self._held = bytes(data[position:])
                position = size
                break
            opcode = data[position] & 0x0F
            if length == 126:
                length = data[position + 2] << 8 | data[position + 3]
            elif length == 127:
                length = int.from_bytes(data[position + 2 : position + 10], "big")
            if opcode == _BINARY:
                chunks += 1
            elif left < header + length:
                self._held = bytes(data[position:])
                position = size
                break
            else:
                start = position + header
                key = bytes(data[start - 4 : start])
                self._take(opcode, unmask(bytes(data[start : start + length]), key))
                if self._over:
                    return 0
            position += header + length
        self._skip = position - size
        return chunks

    def _take(self, opcode: int, payload: bytes) -> None:
        """Handle a frame that is not audio."""
        if opcode == _TEXT and not self._started:
            self._started = True
        elif opcode == _TEXT and not payload:
            self._send(frame(_TEXT, b'{"tokens":[],"finished":true}'))
            self._goodbye(frame(_CLOSE, b"\x03\xe8"))
        elif opcode == _PING:
            self._send(frame(_PONG, payload))
        elif opcode == _CLOSE:
            self._goodbye(frame(_CLOSE, payload))

    def _upgrade(self, request: bytes) -> None:
        request = self._held + request
        head, end, rest = request.partition(b"\r\n\r\n")
        if not end:
            self._held = request
            return
        self._held = b""
        self._upgraded = True
        first, *lines = head.split(b"\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines)
        }
        accept = base64.b64encode(hashlib.sha1(headers[b"sec-websocket-key"] + _GUID).digest())
        self._choose(first.split()[1].decode())
        self._send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        if rest and (chunks := self._count_chunks(rest)):
            self._on_audio(chunks)

    def _choose(self, target: str) -> None:
        """Set up what the path asks for."""
        parts = urlsplit(target)
        options = {name: float(values[0]) for name, values in parse_qs(parts.query).items()}
        payload = event_json(int(options.get("tokens", 0)))
        event = frame(_TEXT, payload)
        match parts.path:
            case "/answer":
                self._on_audio = lambda chunks: self._send(event * chunks)
            case "/flood":
                copies = max(1, _BATCH_BYTES // len(event))
                self._flood = memoryview(event * copies)
                self._flood_left = len(event) * int(options["count"])
                self._on_audio = self._begin_flood
            case "/first":
                self._set_stamped(event)
                self._on_audio = self._stamp_once
            case "/steady":
                self._set_stamped(event)
                self._on_audio = lambda _chunks: self._far_end.add_steady(self, options["rate"])
            case _:
                pass

    def _set_stamped(self, event: bytes) -> None:
        before, behind = event.split(b"%d" % STAMP_PLACEHOLDER)
        assert len(event) - len(before) - len(behind) == STAMP_LENGTH
        self._stamped_parts = before, behind

    def _stamp_once(self, _chunks: int) -> None:
        self._on_audio = lambda _chunks: None
        self.send_stamped()

    # Writing

    def _send(self, data: bytes) -> None:
        if self._output:
            self._output += data
            return
        try:
            sent = self._socket.send(data)
        except (ssl.SSLWantWriteError, BlockingIOError):
            sent = 0
        if sent < len(data):
            self._output += data[sent:]
            self._watch(writing=True)

    def _write(self) -> None:
        if self._output:
            del self._output[: self._socket.send(self._output)]
        elif self._flood_left:
            start = self._flood_position
            piece = self._flood[start : start + self._flood_left]
            sent = self._socket.send(piece)
            self._flood_left -= sent
            self._flood_position = (start + sent) % len(self._flood)
        if not self._output and not self._flood_left:
            self._watch(writing=False)

    def _begin_flood(self, _chunks: int) -> None:
        if self._flood_left:
            self._watch(writing=True)

    def _watch(self, *, writing: bool) -> None:
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        self._far_end.selector.modify(self._socket, mask, self.handle)

    def _goodbye(self, data: bytes) -> None:
        """Send the last bytes and hang up."""
        self._send(data)
        self._close()

    def _close(self) -> None:
        if not self._over:
            self._over = True
            self._far_end.remove_steady(self)
            self._far_end.selector.unregister(self._socket)
            self._socket.close()


def main() -> None:
    """Serve, as the module's docstring describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", help="PEM file with key and certificates: serve TLS")
    parser.add_argument(
        "--delay-ms", type=float, default=0.0, help="delay everything by so much, in each direction"
    )
    arguments = parser.parse_args()
    context = None
    if arguments.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate)
    far_end = FarEnd(context)
    port = far_end.port
    if arguments.delay_ms:
        relay = DelayingRelay(port, arguments.delay_ms / 1000)
        relay.start()
        port = relay.port
    print(port, flush=True)
    far_end.run()


if __name__ == "__main__":
    main()
