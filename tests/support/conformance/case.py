"""What a case of the RFC 6455 suite is, and short ways to write one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from soniox_proto import Outcome, SonioxConnectionError, SonioxProtocolError, SonioxRealtimeError
from tests.support.core import frames
from tests.support.core.frames import Frame, Opcode

__all__ = [
    "EMPTY",
    "Case",
    "bytewise",
    "chopped",
    "close_frame",
    "closed_with",
    "fragments",
    "legal",
    "message",
    "pong_frame",
    "violation",
]

EMPTY: Final = b'{"tokens":[]}'
"""The shortest message that a session takes."""


@dataclass(frozen=True)
class Case:
    """What a server sends once the session is open, and what the client makes of it."""

    name: str
    sends: tuple[bytes, ...]
    """Segments of the server, in order."""
    messages: tuple[bytes, ...] = ()
    """What the receiver gets, in order."""
    answers: tuple[Frame, ...] = ()
    """Every frame that the client sends behind its start message, in order."""
    outcome: Outcome = Outcome.CLOSED_BY_SERVER
    code: int = 1000
    """Close code that the core reports; 1006 where there was no close frame."""
    raises: type[SonioxRealtimeError] | None = None
    """What the receiver gets at the end; None: the stream ends."""
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    """Attributes of that error."""
    tells: str = ""
    """Words of that error."""
    closes_first: bool = False
    """Whether the client closes before the server sends anything."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of the session, beside those that all cases have."""


def message(size: int) -> bytes:
    """Return a message of `size` bytes."""
    return EMPTY[:-1] + b" " * (size - len(EMPTY)) + b"}"


def chopped(data: bytes, size: int) -> tuple[bytes, ...]:
    """Return what is to be sent in segments of `size` bytes."""
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def bytewise(data: bytes) -> tuple[bytes, ...]:
    return chopped(data, 1)


def fragments(*payloads: bytes, opcode: Opcode = Opcode.TEXT) -> tuple[bytes, ...]:
    """Return the frames of one fragmented message."""
    last = len(payloads) - 1
    return tuple(
        frames.encode(Opcode.CONTINUATION if index else opcode, payload, final=index == last)
        for index, payload in enumerate(payloads)
    )


def pong_frame(payload: bytes = b"") -> Frame:
    return Frame(Opcode.PONG, payload)


def close_frame(code: int) -> Frame:
    """Return a close frame as the client sends it: the code, no reason."""
    return Frame(Opcode.CLOSE, code.to_bytes(2, "big"))


def legal(
    name: str,
    *sends: bytes,
    messages: Sequence[bytes] = (),
    pongs: Sequence[bytes] = (),
    options: Mapping[str, Any] | None = None,
) -> Case:
    """Return a case in which nothing is wrong: the server closes at its end with code 1000."""
    return Case(
        name,
        (*sends, frames.close(1000)),
        messages=tuple(messages),
        answers=(*map(pong_frame, pongs), close_frame(1000)),
        options=options or {},
    )


def violation(
    name: str,
    *sends: bytes,
    code: int = 1002,
    messages: Sequence[bytes] = (),
    pongs: Sequence[bytes] = (),
    tells: str = "the server broke the WebSocket protocol",
    options: Mapping[str, Any] | None = None,
) -> Case:
    """Return a case of a server that breaks a rule; the client tells it so with `code`.

    A ping and a message follow: nothing behind the violation may count.
    """
    behind = frames.ping(b"behind") + frames.text('{"tokens":[],"behind":true}')
    return Case(
        name,
        (*sends, behind),
        messages=tuple(messages),
        answers=(*map(pong_frame, pongs), close_frame(code)),
        outcome=Outcome.LOST,
        code=1006,
        raises=SonioxProtocolError,
        details={"close_code": code},
        tells=tells,
        options=options or {},
    )


def closed_with(name: str, *sends: bytes, code: int, reason: str = "") -> Case:
    """Return a case of a server that closes; the client answers with the same code."""
    clean = code in {1000, 1001}
    return Case(
        name,
        sends,
        answers=(close_frame(1000 if code == 1005 else code),),
        outcome=Outcome.CLOSED_BY_SERVER if clean else Outcome.LOST,
        code=code,
        raises=None if clean else SonioxConnectionError,
        details={} if clean else {"close_code": code, "reason": reason},
    )
