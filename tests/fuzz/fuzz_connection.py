"""Fuzz target of the byte layer, client and server.

The input is a program (`tests/fuzz/program.py`) of what peer, user and clock do. It is run with
every segment whole and with every segment byte by byte, with direct framing and without. Each run
is to give the same events, output, states and deadlines after every step, and none may break a rule
of the run-loop.

To look for inputs that break one, with atheris (pip install atheris)::

    mkdir -p /tmp/connection
    python -m tests.fuzz.fuzz_connection -max_total_time=300 /tmp/connection \
        tests/fuzz/corpus/connection

New inputs of interest are written to the first directory. What breaks a rule is written to a file
`crash-...` in the current one; `python -m tests.fuzz.fuzz_connection crash-...` runs it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple
from unittest.mock import patch

from soniox_proto import SonioxStateError, SonioxValidationError
from soniox_proto.websocket.connection import WebSocket
from tests.fuzz.ends import ClientEnd, End, ServerEnd
from tests.fuzz.measure import kept_size
from tests.fuzz.program import Do, Operation, Program
from tests.support.core.trace import Cut, whole

__all__ = ["Seen", "check", "run"]

KEPT_PER_BYTE: Final = 8
"""Bytes that an end may keep for each byte that it was given, while it waits for more."""

KEPT_ANYWAY: Final = 16 * 1024
"""Bytes that an end may keep for what it is, and for the last thing that happened."""

SERVER = 0x01
"""Setting: the end under test is the server's."""


class Seen(NamedTuple):
    """What one step did."""

    events: list[str]
    refusal: str
    output: bytes
    state: str
    next_timeout: float | None


def check(data: bytes) -> None:
    """Raise unless the core takes this input as it is to take every input."""
    program = Program.read(data)
    expected = run(program)
    for direct, cut in ((True, bytewise), (False, whole)):
        seen = run(program, direct=direct, cut=cut)
        for index, (one, other) in enumerate(zip(expected, seen, strict=True)):
            assert one == other, f"step {index} differs, {direct=} {cut.__name__}"


def run(program: Program, *, direct: bool = True, cut: Cut = whole) -> list[Seen]:
    """Run a program once, and raise if it breaks a rule on the way."""
    with _fixed_random(), patch.object(WebSocket, "direct_framing", direct):
        runner = _Runner(program, cut)
        seen = [runner.step(operation) for operation in _in_segments(runner.end, program.steps)]
        runner.check_the_end()
        return seen


def _in_segments(end: End, steps: list[Operation]) -> Iterator[Operation]:
    """Yield the steps, with what the peer sends in a row joined to one segment."""
    segment = b""
    for operation in steps:
        if operation.do <= Do.HANDSHAKE:
            segment += end.encode(operation)
            continue
        if segment:
            yield Operation(Do.RAW, payload=segment)
            segment = b""
        yield operation
    if segment:
        yield Operation(Do.RAW, payload=segment)


class _Runner:
    """Takes an end through a program, and looks at it after every step."""

    def __init__(self, program: Program, cut: Cut) -> None:
        self.end: End = (ServerEnd if program.settings & SERVER else ClientEnd)(program.settings)
        self._cut = cut
        self._now = 1000.0
        self._given = 0
        self._closed = 0
        self._output = b""

    def step(self, operation: Operation) -> Seen:
        end = self.end
        deadline, over = end.next_timeout(), end.closed and self._closed
        events: list[str] = []
        refusal = ""
        output = b""
        try:
            for call in self._calls(operation):
                events += call()
                output += end.data_to_send()
        except (SonioxStateError, SonioxValidationError) as error:
            refusal = type(error).__name__
        if refusal:
            assert end.may_refuse(operation), f"{operation.do.name} raised {refusal}"
            assert end.data_to_send() == b"", "what was refused is sent all the same"
            assert end.next_timeout() == deadline, "what was refused moved a deadline"
        self._closed += sum(event.startswith(end.last_event) for event in events)
        self._output += output
        assert self._closed <= 1, "it ends twice"
        assert not self._closed or end.closed, "it tells of an end that is none"
        if over:
            assert (events, output) == ([], b""), "it goes on after its end"
            assert end.next_timeout() is None, "it waits for something after its end"
        elif self._closed:
            assert events[-1].startswith(end.last_event), "something comes after its end"
        return Seen(events, refusal, output, end.state, end.next_timeout())

    def check_the_end(self) -> None:
        end = self.end
        if end.closed and end.started:
            for _ in range(2):
                self.step(Operation(Do.WAIT, 255))
                self.step(Operation(Do.RAW, payload=b"\x81\x02{}"))
                self.step(Operation(Do.END_OF_STREAM))
            assert self._closed == 1, "it does not tell of its end"
        end.check_output(self._output)
        kept = kept_size(end.connection)
        allowed = KEPT_ANYWAY + KEPT_PER_BYTE * self._given
        assert kept <= allowed, f"it keeps {kept} bytes of {self._given}"

    def _calls(self, operation: Operation) -> Iterator[Callable[[], list[str]]]:
        """Yield the calls of a step; between them, output is taken."""
        end = self.end
        match operation.do:
            case Do.RAW:
                self._given += len(operation.payload)
                for piece in self._cut(operation.payload):
                    yield lambda piece=piece: end.receive_data(piece, self._now)  # type: ignore[misc]
            case Do.END_OF_STREAM:
                yield lambda: end.receive_eof(self._now)
            case Do.WAIT_IDLY:
                self._now += operation.number / 4
            case Do.WAIT | Do.GO_BACK | Do.SKIP:
                yield lambda: self._wait(operation)
            case _:
                self._given += len(operation.payload)
                yield lambda: end.use(operation, self._now)

    def _wait(self, operation: Operation) -> list[str]:
        deadline = self.end.next_timeout()
        if operation.do is Do.SKIP:
            self._now = self._now if deadline is None else max(self._now, deadline)
        else:
            self._now += operation.number / (4 if operation.do is Do.WAIT else -4)
        events = self.end.handle_timeout(self._now)
        deadline = self.end.next_timeout()
        assert deadline is None or deadline > self._now, "what was due is still to be done"
        return events


def bytewise(segment: bytes) -> list[bytes]:
    return [segment[at : at + 1] for at in range(len(segment))]


@contextmanager
def _fixed_random() -> Iterator[None]:
    # Direct framing draws keys in advance: only a constant makes both ways comparable.
    with patch.object(os, "urandom", lambda size: (b"key " * (size // 4 + 1))[:size]):
        yield


if __name__ == "__main__":
    from tests.fuzz.with_atheris import fuzz

    fuzz("tests.fuzz.fuzz_connection")
