"""What a client sent, as data: without the masks and the nonce, which are different each time."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any, Final

from soniox_proto.websocket.framing import apply_mask_in_python

__all__ = ["NONCE", "accept_token", "nonce_of", "sent_frames"]

NONCE: Final = base64.b64encode(bytes(16)).decode()
"""The nonce that stands in traces."""

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NONCE_HEADER: Final = "sec-websocket-key"
_OWN_HEADERS: Final = frozenset(
    {
        *("host", "upgrade", "connection", "authorization", _NONCE_HEADER),
        *("sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions"),
    }
)
"""Headers whose values are kept; those of the user may hold secrets."""


def accept_token(nonce: str) -> str:
    """Return what a server answers to a nonce (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((nonce + _GUID).encode()).digest()).decode()


def nonce_of(data: bytes) -> str | None:
    """Return the nonce of an upgrade request; None if these bytes are none."""
    if not data.startswith(b"GET "):
        return None
    headers = dict(_headers(data.partition(b"\r\n\r\n")[0].decode()))
    return headers.get(_NONCE_HEADER)


def sent_frames(data: bytes) -> list[dict[str, Any]]:
    """Return what these bytes of a client say. They hold whole frames, as the core makes them."""
    found: list[dict[str, Any]] = []
    if data.startswith(b"GET "):
        head, _, data = data.partition(b"\r\n\r\n")
        request = head.decode()
        lines = [request.partition("\r\n")[0]]
        for name, value in _headers(request):
            kept = value if name in _OWN_HEADERS else "-"
            # wsproto spells the value of Upgrade, which has no case, differently in each version.
            kept = NONCE if name == _NONCE_HEADER else kept.lower() if name == "upgrade" else kept
            lines.append(f"{name}: {kept}")
        found.append({"http": lines})
    while data:
        opcode, size, start = data[0] & 0x0F, data[1] & 0x7F, 2
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[2:start], "big")
        mask, start = data[start : start + 4], start + 4
        payload = apply_mask_in_python(data[start : start + size], mask)
        found.append(_frame(opcode, payload))
        data = data[start + size :]
    return found


def _frame(opcode: int, payload: bytes) -> dict[str, Any]:
    if opcode == 1:
        return {"text": payload.decode()}
    if opcode == 2:
        return {"binary": len(payload), "crc32": zlib.crc32(payload)}
    if opcode == 8:
        return {"close": int.from_bytes(payload[:2], "big"), "reason": payload[2:].decode()}
    return {"ping" if opcode == 9 else "pong": payload.hex()}


def _headers(request: str) -> list[tuple[str, str]]:
    lines = request.split("\r\n")[1:]
    return [(name.lower(), value.strip()) for name, _, value in (x.partition(":") for x in lines)]
