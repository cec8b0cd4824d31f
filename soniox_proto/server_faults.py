"""What may go wrong with a connection, for servers that clients are tested against.

A fault happens to one connection, or to several in a row, once so much of its audio has come. A
`FaultPlan` hands them out: each new connection gets the next one, and when all have happened, the
server is as it should be. So a test says exactly which connections fail, and how. Only what is to
happen is decided here; a server's driver does it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.errors import SonioxValidationError
from soniox_proto.wav import WavReader

__all__ = [
    "ConnectionFault",
    "Drop",
    "Fault",
    "FaultPlan",
    "HalfOpen",
    "RefuseUpgrade",
    "SessionLimit",
    "Stall",
    "Unavailable",
    "parse_fault",
]

_ASSUMED_BYTES_PER_SECOND: Final = 16_000
"""What is taken for a second of a compressed container: 128 kbit/s."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Anything that may go wrong with a connection: one of the classes below."""

    times: int | None = 1
    """How many connections in a row it happens to; None for all that follow."""

    def __post_init__(self) -> None:
        if self.times is not None and (type(self.times) is not int or self.times < 1):
            raise SonioxValidationError(f"times must be 1 or more, or None, not {self.times!r}")
        for name in ("seconds", "after_ms"):
            value = getattr(self, name, 0)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise SonioxValidationError(f"{name} must be a number, not {value!r}")
            if value < 0 or not isfinite(value):
                raise SonioxValidationError(f"{name} must be 0 or more, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class _AfterAudio(Fault):
    after_ms: float = 0
    """Audio of the connection after which it happens, in ms; 0 for with the first."""


@dataclass(frozen=True, kw_only=True)
class Drop(_AfterAudio):
    """The connection ends without a close frame, as when a server or a network fails."""


@dataclass(frozen=True, kw_only=True)
class Unavailable(_AfterAudio):
    """Error 503, with which the service asks to start a new request at once."""


@dataclass(frozen=True, kw_only=True)
class Stall(_AfterAudio):
    """The server reads nothing and says nothing for some seconds, then goes on."""

    seconds: float = 1.0
    """How long, in seconds."""


@dataclass(frozen=True, kw_only=True)
class HalfOpen(_AfterAudio):
    """The server reads nothing and says nothing any more, and the connection does not end."""


@dataclass(frozen=True, kw_only=True)
class RefuseUpgrade(Fault):
    """The upgrade is answered with an HTTP status, as gateways do."""

    status_code: int = 503
    """The status, 400 to 599."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 400 <= self.status_code <= 599:
            raise SonioxValidationError(f"status_code must be 400 to 599, not {self.status_code!r}")


@dataclass(frozen=True, kw_only=True)
class SessionLimit(Fault):
    """Error 403 when a session has lasted so long: temporary keys may have such a limit."""

    seconds: float
    """The limit, in seconds from the upgrade."""


_KINDS: Final[dict[str, type[Fault]]] = {
    "drop": Drop,
    "unavailable": Unavailable,
    "stall": Stall,
    "half-open": HalfOpen,
    "refuse": RefuseUpgrade,
    "limit": SessionLimit,
}

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_FAULT: Final = re.compile(
    rf"(?P<kind>[a-z-]+)(?:@{_NUMBER})?(?::{_NUMBER})?(?:\*(?P<times>\d+|all))?"
)


def parse_fault(text: str) -> Fault:
    """Return the fault that `text` describes: ``KIND[@MS][:SECONDS][*TIMES]``.

    For example ``drop@5000`` (after 5 s of audio), ``stall@5000:3`` (for 3 s), ``half-open``,
    ``unavailable@2000*3`` (three connections), ``refuse*all``, ``limit:60``.

    Raises `SonioxValidationError` if it describes none.
    """
    found = _FAULT.fullmatch(text)
    kind = None if found is None else _KINDS.get(found["kind"])
    if found is None or kind is None:
        raise SonioxValidationError(
            f"{text!r} is no fault; expected one of {', '.join(_KINDS)}, with @MS of audio, "
            ":SECONDS and *TIMES where they apply, such as drop@5000 or refuse*2"
        )
    after_ms, seconds, times = found[2], found[3], found["times"]
    values: dict[str, object] = {}
    if after_ms is not None:
        values["after_ms"] = float(after_ms)
    if seconds is not None:
        values["seconds"] = float(seconds)
    if times is not None:
        values["times"] = None if times == "all" else int(times)
    try:
        return kind(**values)  # type: ignore[arg-type]
    except TypeError:
        needed = ":SECONDS" if kind is SessionLimit and seconds is None else "no such number"
        raise SonioxValidationError(f"{text!r}: {found['kind']} takes {needed}") from None


class FaultPlan:
    """Hands out faults, one for each connection, in order.

    Args:
        faults: The faults.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = list(faults)
        self._happened = 0

    def next_connection(self) -> ConnectionFault:
        """Return what happens to the connection that has just come."""
        if not self._faults:
            return ConnectionFault(None)
        fault = self._faults[0]
        self._happened += 1
        if fault.times is not None and self._happened >= fault.times:
            self._faults.pop(0)
            self._happened = 0
        return ConnectionFault(fault)


@dataclass(slots=True)
class ConnectionFault:
    """What happens to one connection, and when."""

    fault: Fault | None
    """None if nothing does."""
    _bytes: int = field(default=0, init=False)
    _bytes_per_ms: float = field(default=_ASSUMED_BYTES_PER_SECOND / 1000, init=False)
    _wav: WavReader | None = field(default=None, init=False)
    _begun_at: float | None = field(default=None, init=False)

    def accepted(self, now: float) -> None:
        """Note that the upgrade was accepted."""
        self._begun_at = now

    def started(self, config: RealtimeSTTConfig) -> None:
        """Note how the client declares its audio."""
        rate = config.bytes_per_second
        if rate is not None:
            self._bytes_per_ms = rate / 1000
        elif config.audio_format in {"auto", "wav"}:
            self._wav = WavReader()

    def audio_received(self, audio: bytes) -> Fault | None:
        """Return the fault if it is due with this audio, which comes after the fault then."""
        self._count(audio)
        fault = self.fault
        if not isinstance(fault, _AfterAudio) or self._bytes < fault.after_ms * self._bytes_per_ms:
            return None
        self.fault = None
        return fault

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, None for never."""
        if self._begun_at is None or not isinstance(self.fault, SessionLimit):
            return None
        return self._begun_at + self.fault.seconds

    def handle_timeout(self, now: float) -> Fault | None:
        """Return the fault if it is due by now."""
        deadline = self.next_timeout()
        if deadline is None or now < deadline:
            return None
        fault, self.fault = self.fault, None
        return fault

    def _count(self, audio: bytes) -> None:
        if self._wav is None:
            self._bytes += len(audio)
            return
        try:
            self._bytes += len(self._wav.feed(audio))
        except SonioxValidationError:
            self._wav = None
            self._bytes += len(audio)
            return
        layout = self._wav.format
        if layout is not None and layout.bytes_per_second is not None:
            self._bytes_per_ms = layout.bytes_per_second / 1000
