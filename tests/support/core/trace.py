"""Golden traces: whole sessions as text, replayed against the core bit for bit.

A trace is a list of actions, each followed by what the core made of it::

    @ 5.0                       the clock stands at 5 s, and deadlines are served
    $ send_audio(b"one")        a call by the user; the clock is added where it is asked for
    < text {"tokens":[]}        what the server sends; lines that follow each other are one segment
    < eof                       the end of the stream
    > text {"type":"keepalive"} what the core sent then
    ! Result {"tokens":[]}      what the core told then
    = OPEN 10.0                 its state, and its next deadline or -

What is sent is one of::

    http HTTP/1.1 403 Forbidden a line of HTTP with its end; `http` alone ends the head
    body no such project        the body of an answer
    text ..., binary 00ff       a whole message
    text+ ..., more+ ..., more  the fragments of one
    ping 00ff, pong 00ff        control frames, payload in hexadecimal
    close 1000 reason           a close frame
    bytes 8300                  anything else, in hexadecimal

The lines of the core are not written by hand: `python -m tests.support.core.trace` records those of
every trace anew, or of the ones named. Look at the difference before you keep it.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soniox_proto import (
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    Opened,
    RealtimeSTTConnection,
    Reconnected,
    Reconnecting,
    Result,
    RolledOver,
    ServerError,
)
from tests.support.core import frames
from tests.support.core.frames import Frame, Opcode
from tests.support.core.messages import API_KEY, CONFIG
from tests.support.core.random import counting_random

DIRECTORY = Path(__file__).parents[2] / "core" / "traces"
URL = "ws://localhost:8765/transcribe-websocket"

Cut = Callable[[bytes], list[bytes]]
"""How a segment is cut into what single reads return."""


def whole(segment: bytes) -> list[bytes]:
    return [segment]


@dataclass
class Step:
    """One action, and what the core made of it."""

    action: str
    """`@`, `$` or `<`."""
    lines: list[str]
    """The text of the action, without its mark."""
    outcome: list[str] = field(default_factory=list)
    """The lines of the core, with their marks."""

    @property
    def data(self) -> bytes:
        """What the server sends."""
        assert self.action == "<"
        return b"".join(encode_line(line) for line in self.lines)


class Trace:
    """A parsed trace."""

    def __init__(self, text: str) -> None:
        self.options: dict[str, Any] = {}
        self.steps: list[Step] = []
        for line in filter(None, map(str.rstrip, text.splitlines())):
            mark, _, rest = line.partition(" ")
            if mark == "%":
                name, _, value = rest.partition("=")
                self.options[name.strip()] = ast.literal_eval(value.strip())
            elif mark == "<" and self.steps and self._continues(rest):
                self.steps[-1].lines.append(rest)
            elif mark in {"@", "$", "<"}:
                self.steps.append(Step(mark, [rest]))
            elif mark in {">", "!", "="}:
                self.steps[-1].outcome.append(line)
            else:
                assert mark == "#", f"not a line of a trace: {line}"

    def _continues(self, rest: str) -> bool:
        last = self.steps[-1]
        return last.action == "<" and not last.outcome and "eof" not in {rest, *last.lines}

    @classmethod
    def read(cls, name: str) -> Trace:
        return cls((DIRECTORY / f"{name}.txt").read_text(encoding="utf-8"))

    def segments(self) -> list[bytes]:
        """Return what the server sends, segment by segment."""
        return [step.data for step in self.steps if step.action == "<" and step.lines != ["eof"]]

    @staticmethod
    def names() -> list[str]:
        return sorted(path.stem for path in DIRECTORY.glob("*.txt"))


@dataclass
class Replayed:
    """What the core made of one step."""

    events: list[str]
    output: bytes
    state: str
    next_timeout: float | None

    def lines(self) -> Iterator[str]:
        """Return it as lines of a trace."""
        for line in describe_output(self.output):
            yield f"> {line}"
        for event in self.events:
            yield f"! {event}"
        deadline = "-" if self.next_timeout is None else repr(self.next_timeout)
        yield f"= {self.state} {deadline}"


def replay(trace: Trace, cut: Cut = whole) -> list[Replayed]:
    """Run a trace; each segment of the server arrives as `cut` cuts it."""
    with counting_random():
        return list(_replay(trace, cut))


def _replay(trace: Trace, cut: Cut) -> Iterator[Replayed]:
    connection = RealtimeSTTConnection(URL, CONFIG, api_key=API_KEY, **trace.options)
    now = 0.0
    for step in trace.steps:
        events: list[Event] = []
        output = b""
        if step.action == "@":
            now = float(step.lines[0])
            events += connection.handle_timeout(now)
        elif step.action == "$":
            call(connection, step.lines[0], now)
        elif step.lines == ["eof"]:
            events += connection.receive_eof(now)
        else:
            for piece in cut(step.data):
                events += connection.receive_data(piece, now)
                output += connection.data_to_send()
        output += connection.data_to_send()
        told = list(map(describe_event, events))
        yield Replayed(told, output, connection.state.name, connection.next_timeout())


def call(connection: RealtimeSTTConnection, line: str, now: float) -> None:
    """Make a call such as `send_audio(b"one")`."""
    expression = ast.parse(line, mode="eval").body
    assert isinstance(expression, ast.Call)
    assert isinstance(expression.func, ast.Name)
    method = getattr(connection, expression.func.id)
    arguments = [ast.literal_eval(argument) for argument in expression.args]
    options = {item.arg: ast.literal_eval(item.value) for item in expression.keywords if item.arg}
    assert "now" in inspect.signature(method).parameters
    method(*arguments, now=now, **options)


def encode_line(line: str) -> bytes:
    """Return the bytes of one line of the server."""
    kind, _, rest = line.partition(" ")
    if kind == "http":
        return f"{rest}\r\n".encode()
    if kind == "body":
        return rest.encode()
    if kind == "bytes":
        return bytes.fromhex(rest)
    if kind == "close":
        code, _, reason = rest.partition(" ")
        return frames.close(int(code) if code else None, reason)
    opcode = {"more": Opcode.CONTINUATION}.get(kind.rstrip("+"))
    opcode = Opcode[kind.rstrip("+").upper()] if opcode is None else opcode
    is_text = opcode in {Opcode.TEXT, Opcode.CONTINUATION}
    payload = rest.encode() if is_text else bytes.fromhex(rest)
    return frames.encode(opcode, payload, final=not kind.endswith("+"))


def describe_output(output: bytes) -> Iterator[str]:
    """Return what the core sent as lines."""
    if output.startswith(b"GET "):
        head, separator, output = output.partition(b"\r\n\r\n")
        for line in [*head.decode().split("\r\n"), ""]:
            # Older wsproto spells the value of Upgrade, which has no case, in another way.
            yield f"http {line.replace(': WebSocket', ': websocket')}".rstrip()
        assert separator
    for frame in frames.decode(output):
        yield describe_frame(frame)


def describe_frame(frame: Frame) -> str:
    assert frame.final, "the core never fragments"
    name = frame.opcode.name.lower()
    if frame.opcode is Opcode.CLOSE:
        return f"close {frame.close_code} {frame.payload[2:].decode()}".rstrip()
    payload = frame.payload.decode() if frame.opcode is Opcode.TEXT else frame.payload.hex()
    return f"{name} {payload}".rstrip()


def describe_event(event: Event) -> str:
    """Return an event as one line that no version of Python or pydantic changes."""
    name = type(event).__name__
    match event:
        case Opened():
            return f"{name} {event.subprotocol} {event.headers}"
        case Result():
            return f"{name} {event.raw!r}"
        case EndpointDetected():
            return f"{name} token {event.token_index} at {event.position_ms} ms"
        case Finalized():
            answers = f"finalize {event.finalize_index} after {event.round_trip} s"
            return f"{name} token {event.token_index} answers {answers}"
        case Finished():
            return name
        case ServerError():
            return f"{name} {describe_error(event.error)}"
        case Reconnecting() | Reconnected() | RolledOver():
            raise AssertionError("traces are of single connections")
        case Closed():
            end = f"{event.outcome.name} {event.code} {event.reason!r}"
            return f"{name} {end} {describe_error(event.error)}"


def describe_error(error: Exception | None) -> str:
    return "no error" if error is None else f"{type(error).__name__} {str(error)!r}"


def record(name: str) -> None:
    """Write the lines of the core into a trace anew."""
    path = DIRECTORY / f"{name}.txt"
    text = path.read_text(encoding="utf-8")
    recorded = iter(replay(Trace(text)))
    by_hand = [line for line in text.splitlines() if line[:1] not in {">", "!", "="}]
    lines: list[str] = []
    pending = False
    for index, line in enumerate(by_hand):
        lines.append(line)
        if line[:1] in {"@", "$", "<"}:
            pending = True
        after = by_hand[index + 1][:1] if index + 1 < len(by_hand) else ""
        if pending and not (line[:1] == "<" and after == "<" and "eof" not in by_hand[index + 1]):
            lines += next(recorded).lines()
            pending = False
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for trace_name in sys.argv[1:] or Trace.names():
        record(trace_name)
