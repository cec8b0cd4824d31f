"""The server's end of one connection, for a script that says what it does.

A script reads and writes when it says so and not before: whoever wants a server that does not read
simply does not call a reading method. The bytes are made by hand (`frames`), so anything can
be sent.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Final

from tests.support.core import frames
from tests.support.core.frames import Frame, Head, Opcode

__all__ = ["PATIENCE", "ClientLeftError", "Peer"]

PATIENCE: Final = 20.0
"""Seconds after which whatever a test waits for counts as never coming."""

STALLED: Final = 0.3
"""Seconds without room for a byte after which a client counts as not reading."""

READ_SIZE: Final = 256 * 1024


class ClientLeftError(Exception):
    """The client ended the connection while the script wanted to read or write."""


class Peer:
    """The server's end of one connection, for a script.

    What was read is kept: `request`, and `frames` in their order. Sending is allowed from any
    thread; `wait_for` lets the test's thread wait for what the script reads.
    """

    def __init__(self, connected: socket.socket, over: threading.Event) -> None:
        self.over = over
        """Set when the test is over; a script that waits for nothing else waits for this."""
        self.request: Head | None = None
        self.frames: list[Frame] = []
        self.deaf = False
        """Whether `watch` is not to read."""
        self.left = False
        """Whether the client ended the connection, as far as the script has read."""
        self.failure: BaseException | None = None
        self.said = threading.Event()
        """Set once the script has said something."""
        self.stalled = threading.Event()
        self.received_one = threading.Event()
        self.count_sent = 0
        """For scripts and tests to agree on, together with the two events before it."""
        self.done = threading.Event()
        self._socket = connected
        self._buffer = bytearray()
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._raw_request = b""
        self._unsent = b""

    # TLS and the upgrade

    def accept_tls(self, context: ssl.SSLContext) -> bool:
        """Begin TLS; return whether the client went along."""
        self._socket = context.wrap_socket(
            self._socket, server_side=True, do_handshake_on_connect=False
        )
        try:
            self._socket.do_handshake()
        except OSError:
            return False
        return True

    def read_request(self) -> Head:
        """Read the upgrade request."""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        end = self._buffer.index(b"\r\n\r\n") + 4
        self._raw_request = bytes(self._buffer[:end])
        del self._buffer[:end]
        request, _ = frames.split_head(self._raw_request)
        with self._changed:
            self.request = request
            self._changed.notify_all()
        return request

    def accept(self, headers: frames.Headers = ()) -> None:
        """Read the upgrade request and accept it."""
        self.read_request()
        self.send(frames.switching_protocols(self._raw_request, headers))

    def start(self) -> None:
        """Accept the upgrade and read the start message."""
        self.accept()
        assert self.read().opcode is Opcode.TEXT

    def accepting_bytes(self) -> bytes:
        """Return the bytes that would accept the upgrade request that was read."""
        return frames.switching_protocols(self._raw_request)

    # Writing

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            with self._sending:
                unsent, self._unsent = self._unsent, b""
                self._socket.sendall(unsent + data)
        except (OSError, ValueError) as error:
            raise ClientLeftError from error

    def send_until_stalled(self, data: bytes, *, limit: int = 64 * 1024 * 1024) -> int:
        """Send `data` over and over until the client takes no more; return how often.

        The last copy may be cut: `send(b"")` sends the rest of it, once the client reads again.
        """
        count = 0
        while True:
            if not self._unsent:
                self._unsent = data
                count += 1
                assert count * len(data) < limit, "the client takes everything"
            _, writable, _ = select.select([], [self._socket], [], STALLED)
            if not writable:
                return count
            try:
                sent = self._socket.send(self._unsent)
            except OSError as error:
                raise ClientLeftError from error
            self._unsent = self._unsent[sent:]

    def say(self, *messages: str) -> None:
        """Send text messages, each in one frame, all at once."""
        self.send(b"".join(map(frames.text, messages)))
        self.said.set()

    def say_binary(self, *messages: bytes) -> None:
        """Send binary messages, each in one frame, all at once."""
        self.send(b"".join(map(frames.binary, messages)))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame."""
        self.send(frames.close(code, reason))

    def cut(self) -> None:
        """End the stream in this direction: a FIN, without a close frame."""
        # Not SSLSocket.shutdown, which would drop the TLS layer and not only end the stream.
        socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def end_tls(self) -> None:
        """Send the alert that ends TLS, without waiting for the client's."""
        assert isinstance(self._socket, ssl.SSLSocket)
        self._socket.settimeout(0)
        # The alert is sent, then the answer is wanted; the client may be gone by then.
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLEOFError):
            self._socket.unwrap()

    def reset(self) -> None:
        """Reset the connection: a RST, nothing else."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    # Reading

    def read(self) -> Frame:
        """Read the next frame of a message or a close frame; pings are answered on the way.

        Raises `ClientLeftError` at the end of the stream.
        """
        while True:
            frame = self.read_frame()
            if frame.opcode is Opcode.PING:
                self.send(frames.pong(frame.payload))
            if frame.opcode not in {Opcode.PING, Opcode.PONG}:
                return frame

    def read_frame(self) -> Frame:
        """Read the next frame of whatever kind, and answer nothing.

        Raises `ClientLeftError` at the end of the stream.
        """
        while (frame := self._next_frame()) is None:
            self._fill()
        with self._changed:
            self.frames.append(frame)
            self._changed.notify_all()
        return frame

    def read_raw(self) -> None:
        """Read what has arrived, whatever it is, and forget it."""
        self._fill()
        self._buffer.clear()

    def read_until_close(self) -> int:
        """Read until the client's close frame and return its code."""
        while (frame := self.read()).opcode is not Opcode.CLOSE:
            pass
        return frame.close_code

    def read_to_the_end(self) -> None:
        """Read, answering pings and a close frame, until the client ends the stream."""
        try:
            while True:
                if self.read().opcode is Opcode.CLOSE:
                    self.close()
        except ClientLeftError:
            return

    def watch(self) -> None:
        """Read until the client ends the stream, and answer nothing; `deaf`, do not even read."""
        if self.deaf:
            self.hold()
        while True:
            self.read_frame()

    def drain(self) -> None:
        """Read until the client ends the stream, whatever it sends."""
        while True:
            self.read_raw()

    def wait_until_readable(self) -> None:
        """Wait until the client has sent something, and leave it where it is."""
        if self._buffer:
            # It arrived together with what was read before.
            return
        readable, _, _ = select.select([self._socket], [], [], PATIENCE)
        assert readable, "the client sent nothing"

    def hold(self) -> None:
        """Do nothing until the test is over."""
        self.over.wait()

    # What was read, for the test

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`, which looks at what was read, is true."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), f"never came; got {self.frames}"

    def wait_until_left(self) -> None:
        """Wait until the script has read that the client ended the connection."""
        self.wait_for(lambda: self.left)

    def wait_until_said(self) -> None:
        """Wait until the script has said something."""
        assert self.said.wait(PATIENCE), "the script says nothing"

    def wait_until_done(self) -> None:
        """Wait until the script has ended."""
        assert self.done.wait(PATIENCE), "the script does not end"

    @property
    def messages(self) -> list[str | bytes]:
        """Every message the client sent, the start message first."""
        data = [frame for frame in self.frames if frame.opcode < Opcode.CLOSE]
        return [frame.message for frame in data]

    @property
    def audio(self) -> bytes:
        """All audio the client sent."""
        return b"".join(message for message in self.messages if isinstance(message, bytes))

    @property
    def close_codes(self) -> list[int]:
        """Code of every close frame of the client."""
        return [frame.close_code for frame in self.frames if frame.opcode is Opcode.CLOSE]

    def count(self, message: str | bytes) -> int:
        """Return how often the client sent `message`."""
        return self.messages.count(message)

    def count_pings(self) -> int:
        """Return how many pings the client sent."""
        return sum(frame.opcode is Opcode.PING for frame in self.frames)

    # Inside

    def _fill(self) -> None:
        try:
            data = self._receive()
        except ssl.SSLEOFError:
            data = b""
        except TimeoutError as error:
            raise AssertionError("the client sends nothing, and does not leave") from error
        except (OSError, ValueError) as error:
            raise self._leaving() from error
        if not data:
            raise self._leaving()
        self._buffer += data

    def _receive(self) -> bytes:
        if not isinstance(self._socket, ssl.SSLSocket):
            return self._socket.recv(READ_SIZE)
        # OpenSSL takes one thread at a time, and the test's thread may want to send.
        if not self._socket.pending():
            self.wait_until_readable()
        with self._sending:
            return self._socket.recv(READ_SIZE)

    def _shut_down(self) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _leaving(self) -> ClientLeftError:
        with self._changed:
            self.left = True
            self._changed.notify_all()
        return ClientLeftError()

    def _next_frame(self) -> Frame | None:
        """Take the next whole frame out of the buffer; a client must mask it and set no bits."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, length = buffer[0], buffer[1] & 0x7F
        assert buffer[1] & 0x80, "the client did not mask a frame"
        assert not first & 0x70, "the client set a reserved bit"
        start = 2
        if length >= 126:
            size = 2 if length == 126 else 8
            start += size
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        end = start + 4 + length
        if len(buffer) < end:
            return None
        payload = _unmask(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4]))
        del buffer[:end]
        return Frame(Opcode(first & 0x0F), payload, bool(first & 0x80))


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return masked.to_bytes(size, "big")
