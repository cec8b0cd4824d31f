"""What a scripted server does, as data. `scripted_connection.py` carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from soniox_proto.messages import RealtimeEvent, Token

__all__ = [
    "Accept",
    "Action",
    "AnswerFinalize",
    "Close",
    "Cut",
    "Drop",
    "Error",
    "Finish",
    "FinishStream",
    "GoDark",
    "Ignore",
    "Refuse",
    "Say",
    "Send",
    "SendBytes",
    "Stall",
    "Wait",
    "replaces_the_answer",
]


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for some seconds."""

    seconds: float

    def __str__(self) -> str:
        return f"wait {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Say:
    """Send tokens as a result."""

    tokens: tuple[Token, ...]

    def __str__(self) -> str:
        return f"say {''.join(token.text for token in self.tokens)!r}"


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message as it is."""

    message: RealtimeEvent | Mapping[str, Any]

    def __str__(self) -> str:
        return "send a message"


@dataclass(frozen=True, slots=True)
class SendBytes:
    """Put bytes on the wire."""

    data: bytes

    def __str__(self) -> str:
        return f"send {len(self.data)} bytes"


@dataclass(frozen=True, slots=True)
class Error:
    """Send an error message, then close."""

    message: RealtimeEvent

    def __str__(self) -> str:
        return f"error {self.message.error_code}"


@dataclass(frozen=True, slots=True)
class Finish:
    """Send the finished response, then close."""

    def __str__(self) -> str:
        return "finish"


@dataclass(frozen=True, slots=True)
class Close:
    """Send a close frame."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"close {self.code}"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse the upgrade."""

    status_code: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __str__(self) -> str:
        return f"refuse {self.status_code}"


@dataclass(frozen=True, slots=True)
class Ignore:
    """Leave out the answer of the service."""

    def __str__(self) -> str:
        return "ignore"


@dataclass(frozen=True, slots=True)
class Drop:
    """End the byte stream, after some more bytes."""

    after_bytes: int

    def __str__(self) -> str:
        return f"drop after {self.after_bytes} bytes" if self.after_bytes else "drop"


@dataclass(frozen=True, slots=True)
class Cut:
    """Deliver the next bytes in two pieces."""

    at: int

    def __str__(self) -> str:
        return f"cut at {self.at}"


@dataclass(frozen=True, slots=True)
class Stall:
    """Neither read nor write."""

    seconds: float | None

    def __str__(self) -> str:
        return "stall" if self.seconds is None else f"stall for {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class GoDark:
    """Lose everything that is sent in either direction."""

    def __str__(self) -> str:
        return "half open"


# What the service does by itself


@dataclass(frozen=True, slots=True)
class Accept:
    """Accept the upgrade."""

    def __str__(self) -> str:
        return "accept the upgrade"


@dataclass(frozen=True, slots=True)
class AnswerFinalize:
    """Send tokens as final ones, and `<fin>`."""

    tokens: tuple[Token, ...] | None = field(default=None)
    """None for the provisional tokens that were sent last."""

    def __str__(self) -> str:
        return "answer the finalize"


@dataclass(frozen=True, slots=True)
class FinishStream:
    """Send the provisional tokens as final ones, then finish."""

    def __str__(self) -> str:
        return "finish"


Action: TypeAlias = (
    Wait
    | Say
    | Send
    | SendBytes
    | Error
    | Finish
    | Close
    | Refuse
    | Ignore
    | Drop
    | Cut
    | Stall
    | GoDark
    | Accept
    | AnswerFinalize
    | FinishStream
)
"""Everything that a scripted server can do."""


def replaces_the_answer(action: Action) -> bool:
    """Return whether the service's own answer does not follow after this action."""
    return isinstance(action, (Error, Finish, Close, Refuse, Ignore)) or (
        isinstance(action, Drop) and not action.after_bytes
    )
