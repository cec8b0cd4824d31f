"""HTTP and WebSocket bytes by hand (RFC 6455), so that wsproto is not checked by wsproto."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

Headers = Iterable[tuple[str, str]]

CLIENT_MASK = b"\x01\x02\x03\x04"
"""Mask for frames that a test sends as a client."""


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Frame(NamedTuple):
    opcode: Opcode
    payload: bytes
    final: bool = True

    @property
    def message(self) -> str | bytes:
        """The whole message that a single data frame holds."""
        assert self.final
        assert self.opcode in {Opcode.TEXT, Opcode.BINARY}
        return self.payload.decode() if self.opcode is Opcode.TEXT else self.payload

    @property
    def close_code(self) -> int:
        assert self.opcode is Opcode.CLOSE
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005


def encode(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    mask: bytes | None = None,
) -> bytes:
    """Return one frame, legal or not."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    length = len(payload)
    if length < 126:
        size = bytes([length])
    elif length < 1 << 16:
        size = b"\x7e" + length.to_bytes(2, "big")
    else:
        size = b"\x7f" + length.to_bytes(8, "big")
    if mask is None:
        return bytes([first]) + size + payload
    return bytes([first, size[0] | 0x80]) + size[1:] + mask + _masked(payload, mask)


def text(content: str, *, mask: bytes | None = None) -> bytes:
    return encode(Opcode.TEXT, content.encode(), mask=mask)


def binary(content: bytes, *, mask: bytes | None = None) -> bytes:
    return encode(Opcode.BINARY, content, mask=mask)


def ping(payload: bytes = b"", *, mask: bytes | None = None) -> bytes:
    return encode(Opcode.PING, payload, mask=mask)


def pong(payload: bytes = b"", *, mask: bytes | None = None) -> bytes:
    return encode(Opcode.PONG, payload, mask=mask)


def close(code: int | None = 1000, reason: str = "", *, mask: bytes | None = None) -> bytes:
    payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return encode(Opcode.CLOSE, payload, mask=mask)


def decode(data: bytes, *, from_client: bool = True) -> list[Frame]:
    """Take whole frames apart; frames of a client are masked, those of a server are not."""
    frames: list[Frame] = []
    while data:
        first, second, data = data[0], data[1], data[2:]
        assert first & 0x70 == 0, "a reserved bit is set"
        assert bool(second & 0x80) is from_client, "only a client masks"
        length = second & 0x7F
        if length >= 126:
            size = 2 if length == 126 else 8
            length, data = int.from_bytes(data[:size], "big"), data[size:]
        mask = b"\0\0\0\0"
        if from_client:
            mask, data = data[:4], data[4:]
        assert len(data) >= length, "a frame is cut off"
        payload, data = _masked(data[:length], mask), data[length:]
        frames.append(Frame(Opcode(first & 0x0F), payload, bool(first & 0x80)))
    return frames


class Head(NamedTuple):
    """The head of an HTTP message."""

    start_line: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


def split_head(data: bytes) -> tuple[Head, bytes]:
    """Return the HTTP head that `data` begins with, and the rest."""
    raw, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, "the head does not end"
    start_line, *lines = raw.decode("ascii").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    return Head(start_line, [(name, value.strip()) for name, _, value in pairs]), rest


def http_head(start_line: str, headers: Headers = ()) -> bytes:
    lines = [start_line, *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def accept_token(key: str) -> str:
    """Return the answer to a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def switching_protocols(request: bytes, headers: Headers = ()) -> bytes:
    """Return a server's 101 answer to an upgrade request."""
    key = split_head(request)[0].values("sec-websocket-key")[0]
    return http_head(
        "HTTP/1.1 101 Switching Protocols",
        [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_token(key)),
            *headers,
        ],
    )


def upgrade_request(target: str = "/transcribe-websocket", headers: Headers = ()) -> bytes:
    """Return a client's upgrade request."""
    return http_head(
        f"GET {target} HTTP/1.1",
        [
            ("Host", "localhost"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "AAECAwQFBgcICQoLDA0ODw=="),
            ("Sec-WebSocket-Version", "13"),
            *headers,
        ],
    )


def refusal(status: str, body: bytes = b"", headers: Headers = ()) -> bytes:
    """Return a server's HTTP answer other than 101, such as `401 Unauthorized`."""
    length = ("Content-Length", str(len(body)))
    return http_head(f"HTTP/1.1 {status}", [length, *headers]) + body


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
