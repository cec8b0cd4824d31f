"""What happened on the connections of a scripted server, for assertions and for failures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Log", "LogEntry", "ScriptMismatchError"]

SHOWN = 10
"""Entries that a failure shows."""


class ScriptMismatchError(AssertionError):
    """The conversation did not go as the script says; the message lists what was different."""


@dataclass(slots=True)
class LogEntry:
    """Something that one end did."""

    time: float
    """When, in seconds since the client connected; for repetitions, the last time."""
    connection: int
    """On which connection, counted from 1."""
    side: Literal["client", "server"]
    """Who did it."""
    what: str
    """What was done."""
    times: int = 1
    """How many times in a row. Audio and keepalives are counted like this."""

    def __str__(self) -> str:
        repeated = f" ({self.times} times)" if self.times > 1 else ""
        return f"{self.time:10.3f} s  {self.connection}  {self.side}  {self.what}{repeated}"


class Log:
    """Everything that happened, in order, and what should not have."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.mismatches: list[str] = []

    def note(
        self, time: float, connection: int, side: Literal["client", "server"], what: str
    ) -> None:
        """Add an entry, or count the last one again if it is the same."""
        last = self.entries[-1] if self.entries else None
        if last is not None and (last.connection, last.side, last.what) == (connection, side, what):
            last.time, last.times = time, last.times + 1
        else:
            self.entries.append(LogEntry(time, connection, side, what))

    def mismatch(self, time: float, connection: int, what: str) -> None:
        """Add something that is not as the script says."""
        self.mismatches.append(f"connection {connection}, at {time:.3f} s: {what}")

    def failure(self, missing: Iterable[str]) -> ScriptMismatchError | None:
        """Return the error for a conversation that lacks something; None if all is well."""
        problems = [*self.mismatches, *missing]
        if not problems:
            return None
        lines = [
            "the conversation did not go as the script says:",
            *(f"- {problem}" for problem in problems),
        ]
        if self.entries:
            shown = self.entries[-SHOWN:]
            lines += ["", f"The last {len(shown)} protocol events (time, connection, side):"]
            lines += map(str, shown)
        else:
            lines += ["", "No client has connected."]
        return ScriptMismatchError("\n".join(lines))
