"""Fuzz input as a program: bytes that are read as operations, and operations written as bytes.

atheris has a reader of this kind (`FuzzedDataProvider`). This one reads from front to back only and
needs no atheris, so a file of the corpus means the same to everyone, and seeds can be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, TypeVar

__all__ = ["Do", "Operation", "Program", "Reader"]

Option = TypeVar("Option")


class Reader:
    """Reads choices from bytes; where the bytes end, every choice is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position >= len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, or as many as are left."""
        taken = self._data[self._position : self._position + size]
        self._position += size
        return taken

    def number(self) -> int:
        """Return a number from 0 to 255."""
        return int.from_bytes(self.take(1), "big")

    def choose(self, options: Sequence[Option]) -> Option:
        return options[self.number() % len(options)]

    def payload(self) -> bytes:
        """Return bytes behind their length."""
        return self.take(int.from_bytes(self.take(2), "big"))


class Do(IntEnum):
    """What a step of a program does. The numbers are written in the corpus: only add to them."""

    # The peer; what it sends in steps that follow each other is one segment.
    RAW = 0
    """It sends bytes."""
    FRAME = 1
    """It sends a well-formed frame: the number is its first byte."""
    MESSAGE = 2
    """It sends a message of the protocol: the number says which."""
    HANDSHAKE = 3
    """It sends its half of the handshake: the number says which variety."""
    END_OF_STREAM = 4
    # The clock; the number is in quarters of a second.
    WAIT = 5
    """Time passes, and what is due is done at the end."""
    WAIT_IDLY = 6
    """Time passes, and nothing is done."""
    GO_BACK = 7
    """The clock jumps back, and what is due is done."""
    SKIP = 8
    """Time passes until the next deadline, and what is due is done."""
    # The user
    CONNECT = 9
    SEND = 10
    """Audio on the client, a result on the server."""
    FINALIZE = 11
    """On the server: a refusal of the upgrade; the number says with which status."""
    KEEP_ALIVE = 12
    """On the server: accept the upgrade."""
    FINISH = 13
    PAUSE = 14
    """On the server: an error message; the payload is its text."""
    RESUME = 15
    CLOSE = 16
    """On the server the number chooses the code."""
    ABORT = 17
    PAUSE_READING = 18
    RESUME_READING = 19
    FAIL = 20
    """The driver tells of a failure; the number says whether a close frame can be sent."""


_NUMBERED = frozenset(Do) - {Do.RAW, Do.END_OF_STREAM, Do.SKIP, Do.CONNECT, Do.SEND}
_WITH_PAYLOAD = frozenset({Do.RAW, Do.FRAME, Do.SEND, Do.PAUSE})


class Operation(NamedTuple):
    """One step of a program."""

    do: Do
    number: int = 0
    payload: bytes = b""


class Program(NamedTuple):
    """Settings and steps."""

    settings: int
    steps: list[Operation]

    @classmethod
    def read(cls, data: bytes) -> Program:
        """Read a program; every input is one."""
        reader = Reader(data)
        settings = reader.number()
        steps: list[Operation] = []
        while not reader.at_end:
            do = reader.choose(tuple(Do))
            number = reader.number() if do in _NUMBERED else 0
            payload = reader.payload() if do in _WITH_PAYLOAD else b""
            steps.append(Operation(do, number, payload))
        return cls(settings, steps)

    def write(self) -> bytes:
        """Return the bytes that `read` reads as this program."""
        output = bytearray([self.settings])
        for do, number, payload in self.steps:
            output.append(do)
            if do in _NUMBERED:
                output.append(number)
            if do in _WITH_PAYLOAD:
                output += len(payload).to_bytes(2, "big") + payload
        return bytes(output)
