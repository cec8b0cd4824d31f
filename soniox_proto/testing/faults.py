"""Faults of a network, and plans that say which of them happen to a connection, and where.

A plan can be written down, or drawn from a seed; either way the same plan does the same to the
same bytes. `FaultyChannel` carries it out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias, TypeVar, get_args

from typing_extensions import Self

from soniox_proto.errors import SonioxValidationError
from soniox_proto.testing.checks import checked_count, checked_number

__all__ = ["DIRECTIONS", "FAULT_KINDS", "Direction", "Fault", "FaultKind", "FaultPlan"]

FaultKind: TypeAlias = Literal["delay", "drip", "stall", "cut", "reset", "drop", "freeze"]
"""What can happen to a connection.

- `delay`: in one direction, everything from then on is `seconds` late.
- `drip`: in one direction, the next `length` bytes arrive one by one, over `seconds`.
- `stall`: in one direction, nothing moves for `seconds`.
- `cut`: both ends see the other one hang up.
- `reset`: both ends get a TCP reset.
- `drop`: both ends can go on sending, but nothing arrives any more.
- `freeze`: nothing is read from either end any more, so that its buffers fill up.
"""

FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
"""Every kind of fault."""

Direction: TypeAlias = Literal["sent", "received"]
"""A direction, as seen from the end whose stream is faulty."""

DIRECTIONS: Final[tuple[Direction, ...]] = get_args(Direction)
"""Both directions."""

HANDSHAKE_BYTES: Final = 400
"""About as many bytes as a handshake takes, during which states change fastest."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, repr=False)
class Fault:
    """Something that happens to a connection, and when.

    It happens as soon as both `after` and `at` are reached.
    """

    kind: FaultKind
    """What happens."""
    direction: Direction = "sent"
    """The direction that it happens to, or for `cut`, `reset`, `drop` and `freeze`, which end
    both, the one in which bytes are counted."""
    after: int = 0
    """How many bytes pass in that direction before it happens."""
    at: float = 0.0
    """How many seconds after the connection was opened it happens at the earliest."""
    seconds: float = 0.0
    """How long it takes, or for `delay`, how late the bytes are."""
    length: int = 0
    """How many bytes `drip`."""

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise SonioxValidationError(
                f"{self.kind!r} is no fault; the faults are {', '.join(FAULT_KINDS)}"
            )
        if self.direction not in DIRECTIONS:
            raise SonioxValidationError(
                f"direction must be 'sent' or 'received', not {self.direction!r}"
            )
        for name in ("after", "length"):
            checked_count(name, getattr(self, name))
        for name in ("at", "seconds"):
            checked_number(name, getattr(self, name))
        if self.kind == "drip" and not self.length:
            raise SonioxValidationError("a drip needs the length of what is to drip, in bytes")
        if self.kind in {"delay", "stall"} and not self.seconds:
            raise SonioxValidationError(f"a {self.kind} needs its seconds")

    @property
    def fatal(self) -> bool:
        """Whether the connection cannot be used any more after it."""
        return self.kind in {"cut", "reset", "drop", "freeze"}

    def __repr__(self) -> str:
        given = [
            f"{field.name}={value!r}"
            for field in fields(self)[1:]
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"Fault({', '.join([repr(self.kind), *given])})"


@dataclass(frozen=True, slots=True, init=False, repr=False)
class FaultPlan:
    """What happens to one connection. Its `repr` is the code that makes it again.

    Args:
        faults: The faults. Without any, nothing happens.
    """

    faults: tuple[Fault, ...]

    def __init__(self, *faults: Fault) -> None:
        for fault in faults:
            if not isinstance(fault, Fault):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise SonioxValidationError(f"a plan is made of Faults, not {fault!r}")
        object.__setattr__(self, "faults", faults)

    @classmethod
    def from_seed(
        cls,
        seed: int | str,
        *,
        kinds: Sequence[FaultKind] = FAULT_KINDS,
        max_sent: int = 100_000,
        max_received: int = 4_000,
        max_seconds: float = 1.0,
    ) -> Self:
        """Return a plan drawn from a seed, the same one for the same arguments.

        It has one fault, or as often as it has one of any kind, none. Half of the faults happen
        during the handshake or shortly after it.

        Args:
            seed: The seed.
            kinds: The kinds to choose from.
            max_sent: Maximum bytes sent before a fault.
            max_received: Maximum bytes received before a fault; sessions receive less than they
                send.
            max_seconds: Maximum length of a fault in seconds. Delays, which concern each byte, are
                at most a thirtieth of it.
        """
        draw = _Draws(seed)
        kind = draw.choice((None, *kinds))
        if kind is None:
            return cls()
        direction: Direction = draw.choice(DIRECTIONS)
        most = max_sent if direction == "sent" else max_received
        if draw.fraction() < 0.5:
            most = min(most, HANDSHAKE_BYTES)
        after = draw.below(most + 1)
        if kind in {"cut", "reset", "drop", "freeze"}:
            return cls(Fault(kind, direction, after))
        longest = max_seconds / 30 if kind == "delay" else max_seconds
        seconds = round(longest * (0.01 + 0.99 * draw.fraction()), 6)
        length = 1 + draw.below(1500) if kind == "drip" else 0
        return cls(Fault(kind, direction, after, seconds=seconds, length=length))

    @property
    def fatal(self) -> bool:
        """Whether the connection may be unusable in the end."""
        return any(fault.fatal for fault in self.faults)

    def __repr__(self) -> str:
        return f"FaultPlan({', '.join(map(repr, self.faults))})"


class _Draws:
    """Numbers that depend on a seed alone, not on the version of Python."""

    def __init__(self, seed: int | str) -> None:
        self._seed = seed
        self._count = 0

    def fraction(self) -> float:
        """Return a number from 0 to just below 1."""
        self._count += 1
        digest = hashlib.sha256(f"{self._seed} {self._count}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    def below(self, limit: int) -> int:
        return int(self.fraction() * limit)

    def choice(self, items: Sequence[_T]) -> _T:
        return items[self.below(len(items))]
