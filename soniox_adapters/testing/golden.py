"""Golden traces: sessions that have to go as they went before.

A golden trace is a trace with its times in milliseconds from the first line on, and without the
headers of the accepted upgrade, which depend on the version of wsproto. So it is the same whatever
the clock showed, and can be compared with another as text; it cannot be run again. A session that
reconnects needs a policy without jitter for that: jitter comes from the time of the failure. And
two threads that use one session must not do so at the same moment of virtual time, in which the
operating system decides who comes first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from soniox_adapters.session.base import SessionBase
from soniox_adapters.testing.recording import record
from soniox_proto.testing import RecordedStream, Trace, TraceMismatchError

__all__ = ["GoldenTraces"]

_ACCEPTED: Final = re.compile(r"^HTTP/1\.1 101.*?\r\n\r\n", re.DOTALL)


class GoldenTraces:
    """The golden traces of one test. Call it with each session, before that is entered.

    Args:
        folder: Where the files are.
        name: The name of the test.
        update: Whether to write the files instead of comparing with them.
        hint: How to write them, for failures.
    """

    def __init__(self, folder: Path, name: str, *, update: bool = False, hint: str = "") -> None:
        self._folder = folder
        self._name = re.sub(r"[^\w.-]+", "-", name).strip("-")
        self._update = update
        self._hint = hint
        self._recorded: list[RecordedStream] = []

    def __call__(self, session: SessionBase) -> None:
        """Record a session, to compare it with its golden trace at the end of the test.

        Of the audio only the sizes are recorded.
        """
        self._recorded.append(record(session, audio=False))

    def check(self) -> None:
        """Compare every session with its golden trace, or write those.

        Raises `TraceMismatchError`, an `AssertionError`, for a trace that is different or missing.
        """
        for number, recorded in enumerate(self._recorded, start=1):
            suffix = f"-{number}" if len(self._recorded) > 1 else ""
            path = self._folder / f"{self._name}{suffix}.jsonl"
            lines = list(_golden_lines(recorded.trace()))
            if self._update:
                self._folder.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            else:
                self._compare(path, lines)

    def _compare(self, path: Path, lines: list[str]) -> None:
        if not path.exists():
            raise TraceMismatchError(f"there is no golden trace {path}; {self._hint}")
        golden = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        for number, (before, now) in enumerate(zip_longest(golden, lines), start=1):
            if before != now:
                raise TraceMismatchError(
                    f"the session went differently from {path}, line {number}:\n"
                    f"  before: {before or 'the end'}\n"
                    f"  now:    {now or 'the end'}\n"
                    f"If that is right, {self._hint}."
                )


def _golden_lines(trace: Trace) -> Iterator[str]:
    header = dict(trace.header)
    yield json.dumps({"golden": header.pop("trace"), **header}, ensure_ascii=False)
    began: float = trace.entries[0]["t"] if trace.entries else 0.0
    for entry in trace.entries:
        line: dict[str, Any] = {**entry, "t": _ms(entry["t"] - began)}
        for name in ("round_trip", "delay", "gap"):
            if line.get(name) is not None:
                line[name] = _ms(line[name])
        if "received" in line:
            line["received"] = _ACCEPTED.sub("HTTP/1.1 101\r\n\r\n", line["received"])
        yield json.dumps(line, ensure_ascii=False)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
