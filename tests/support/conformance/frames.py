"""RFC 6455 cases of frames: lengths, reserved bits and opcodes, control frames, fragments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from tests.support.conformance.case import (
    EMPTY,
    Case,
    bytewise,
    chopped,
    fragments,
    legal,
    message,
    violation,
)
from tests.support.core import frames
from tests.support.core.frames import CLIENT_MASK, Opcode

__all__ = ["GROUPS"]

BOUNDARIES: Final = (13, 124, 125, 126, 127, 128, 65535, 65536)
"""Sizes of messages at which the encoding of the length changes, and the smallest message."""

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION
PING, PONG, CLOSE = Opcode.PING, Opcode.PONG, Opcode.CLOSE

NOT_A_MESSAGE: Final = "not a message of the protocol"


def _framing() -> Iterator[Case]:
    for opcode, size in itertools.product((TEXT, BINARY), BOUNDARIES):
        frame, kind = frames.encode(opcode, message(size)), opcode.name.lower()
        got = [message(size)]
        yield legal(f"{kind}-{size}", frame, messages=got)
        yield legal(f"{kind}-{size}-chopped", *chopped(frame, 997), messages=got)
        header = len(frame) - size
        for at in range(1, header + 1):
            pieces = (frame[:at], frame[at:])
            yield legal(f"{kind}-{size}-cut-at-{at}", *pieces, messages=got)
    for opcode in (TEXT, BINARY):
        kind = opcode.name.lower()
        frame = frames.encode(opcode, message(300))
        yield legal(f"{kind}-byte-by-byte", *bytewise(frame), messages=[message(300)])
        # Legal for a WebSocket; but nothing is not JSON.
        yield violation(f"{kind}-0", frames.encode(opcode), code=1007, tells=NOT_A_MESSAGE)
        yield legal(
            f"{kind}-ten-in-one-segment",
            b"".join(frames.encode(opcode, message(size)) for size in range(120, 130)),
            messages=[message(size) for size in range(120, 130)],
        )
    yield legal(
        "text-and-binary-in-turn",
        *(frames.encode(opcode, message(20)) for opcode in (TEXT, BINARY) * 3),
        messages=[message(20)] * 6,
    )
    for first, kind in ((0x81, "text"), (0x82, "binary"), (0x01, "fragment")):
        for size, length in (
            (0, b"\x7e\x00\x00"),
            (13, b"\x7e\x00\x0d"),
            (125, b"\x7e\x00\x7d"),
            (0, b"\x7f" + bytes(8)),
            (13, b"\x7f" + bytes(7) + b"\x0d"),
            (126, b"\x7f" + bytes(7) + b"\x7e"),
            (65535, b"\x7f" + bytes(6) + b"\xff\xff"),
        ):
            payload = message(size) if size else b""
            name = f"{kind}-{size}-in-{len(length) - 1}-bytes-of-length"
            yield violation(name, bytes([first]) + length + payload)
        highest = b"\x7f\x80" + bytes(6) + b"\x0d"
        yield violation(f"{kind}-length-with-its-highest-bit", bytes([first]) + highest + EMPTY)


def _masked() -> Iterator[Case]:
    for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
        payload = b"\x03\xe8" if opcode is CLOSE else EMPTY
        for name, mask in (("", CLIENT_MASK), ("-with-zeros", bytes(4))):
            frame = frames.encode(opcode, payload, mask=mask)
            yield violation(f"{opcode.name.lower()}{name}", frame)
    yield violation("empty", frames.encode(TEXT, mask=CLIENT_MASK))
    yield violation("large", frames.encode(BINARY, message(70_000), mask=CLIENT_MASK))
    yield violation(
        "continuation",
        frames.encode(TEXT, EMPTY[:5], final=False)
        + frames.encode(CONTINUATION, EMPTY[5:], mask=CLIENT_MASK),
    )
    yield violation(
        "after-a-message",
        frames.encode(TEXT, EMPTY) + frames.encode(TEXT, EMPTY, mask=CLIENT_MASK),
        messages=[EMPTY],
    )


def _pings_and_pongs() -> Iterator[Case]:
    payloads = {
        "empty": b"",
        "text": b"Hello",
        "no-utf-8": b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff",
        "124": b"\xfe" * 124,
        "125": b"\xfe" * 125,
    }
    for name, payload in payloads.items():
        yield legal(f"ping-{name}", frames.ping(payload), pongs=[payload])
        pieces = bytewise(frames.ping(payload))
        yield legal(f"ping-{name}-byte-by-byte", *pieces, pongs=[payload])
        yield legal(f"pong-{name}-unsolicited", frames.pong(payload))
    for opcode in (PING, PONG):
        kind = opcode.name.lower()
        for size in (126, 127, 65535, 65536):
            yield violation(f"{kind}-{size}", frames.encode(opcode, b"x" * size))
        long_form = bytes([0x80 | opcode]) + b"\x7e\x00\x05Hello"
        yield violation(f"{kind}-5-in-2-bytes-of-length", long_form)
        yield violation(f"{kind}-fragmented", frames.encode(opcode, b"Hel", final=False))
    ten = [str(number).encode() for number in range(10)]
    yield legal("ten-pings-in-one-segment", b"".join(map(frames.ping, ten)), pongs=ten)
    yield legal("ten-pings-in-segments", *map(frames.ping, ten), pongs=ten)
    yield legal("ten-pings-byte-by-byte", *bytewise(b"".join(map(frames.ping, ten))), pongs=ten)
    yield legal(
        "pong-then-ping",
        frames.pong(b"unasked") + frames.ping(b"asked"),
        pongs=[b"asked"],
    )
    yield legal("ten-pongs", frames.pong(b"unasked") * 10)
    yield legal(
        "ping-before-and-behind-a-message",
        frames.ping(b"1") + frames.encode(TEXT, EMPTY) + frames.ping(b"2"),
        messages=[EMPTY],
        pongs=[b"1", b"2"],
    )
    yield legal(
        "ping-in-one-segment-with-the-close-frame", frames.ping(b"?") + frames.close(), pongs=[b"?"]
    )


def _reserved_bits() -> Iterator[Case]:
    for bits in range(1, 8):
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
            payload = b"\x03\xe8" if opcode is CLOSE else EMPTY
            frame = frames.encode(opcode, payload, reserved=bits)
            yield violation(f"{bits}-{opcode.name.lower()}", frame)
        frame = frames.encode(CONTINUATION, EMPTY[5:], reserved=bits)
        begun = frames.encode(TEXT, EMPTY[:5], final=False)
        yield violation(f"{bits}-continuation", begun + frame)
        yield violation(f"{bits}-empty", frames.encode(TEXT, reserved=bits))
        yield violation(
            f"{bits}-byte-by-byte", *bytewise(frames.encode(TEXT, EMPTY, reserved=bits))
        )
        yield violation(
            f"{bits}-behind-a-message-and-a-ping",
            frames.encode(TEXT, EMPTY),
            frames.ping(b"?") + frames.encode(BINARY, EMPTY, reserved=bits),
            messages=[EMPTY],
            pongs=[b"?"],
        )


def _opcodes() -> Iterator[Case]:
    for opcode in (*range(3, 8), *range(11, 16)):
        yield violation(f"{opcode}-empty", frames.encode(opcode))
        yield violation(f"{opcode}-with-payload", frames.encode(opcode, EMPTY))
        yield violation(f"{opcode}-byte-by-byte", *bytewise(frames.encode(opcode, EMPTY)))
        yield violation(f"{opcode}-not-final", frames.encode(opcode, EMPTY, final=False))
        yield violation(
            f"{opcode}-behind-a-message",
            frames.encode(TEXT, EMPTY) + frames.encode(opcode, b"?"),
            messages=[EMPTY],
        )
        yield violation(
            f"{opcode}-between-fragments",
            frames.encode(TEXT, EMPTY[:5], final=False)
            + frames.encode(opcode)
            + frames.encode(CONTINUATION, EMPTY[5:]),
        )


def _fragmentation() -> Iterator[Case]:
    for opcode in (TEXT, BINARY):
        kind = opcode.name.lower()
        for at in range(len(EMPTY) + 1):
            parts = fragments(EMPTY[:at], EMPTY[at:], opcode=opcode)
            yield legal(f"{kind}-cut-at-{at}", b"".join(parts), messages=[EMPTY])
        single = fragments(*bytewise(EMPTY), opcode=opcode)
        yield legal(f"{kind}-in-fragments-of-one-byte", b"".join(single), messages=[EMPTY])
        yield legal(f"{kind}-in-segments-of-one-fragment", *single, messages=[EMPTY])
        yield legal(f"{kind}-byte-by-byte", *bytewise(b"".join(single)), messages=[EMPTY])
        large = fragments(*chopped(message(70_000), 9_999), opcode=opcode)
        yield legal(f"{kind}-large", b"".join(large), messages=[message(70_000)])
        empties = fragments(b"", b"", EMPTY, b"", b"", opcode=opcode)
        yield legal(f"{kind}-with-empty-fragments", b"".join(empties), messages=[EMPTY])
        yield violation(
            f"{kind}-of-nothing-but-empty-fragments",
            b"".join(fragments(b"", b"", b"", opcode=opcode)),
            code=1007,
            tells=NOT_A_MESSAGE,
        )
        first, second = fragments(EMPTY[:5], EMPTY[5:], opcode=opcode)
        yield legal(
            f"{kind}-with-a-ping-between",
            first,
            frames.ping(b"?"),
            second,
            messages=[EMPTY],
            pongs=[b"?"],
        )
        yield legal(
            f"{kind}-with-a-ping-between-byte-by-byte",
            *bytewise(first + frames.ping(b"?") + second),
            messages=[EMPTY],
            pongs=[b"?"],
        )
        yield legal(
            f"{kind}-with-a-pong-between", first + frames.pong(b"?") + second, messages=[EMPTY]
        )
        yield legal(
            f"{kind}-with-pings-between-all-fragments",
            b"".join(part + frames.ping(part[-1:]) for part in single),
            messages=[EMPTY],
            pongs=[part[-1:] for part in single],
        )
        yield legal(
            f"{kind}-twice",
            (first + second) * 2 + frames.encode(opcode, EMPTY),
            messages=[EMPTY] * 3,
        )
        for other in (TEXT, BINARY):
            yield violation(
                f"{kind}-with-new-{other.name.lower()}-inside", first, frames.encode(other, EMPTY)
            )
            yield violation(
                f"{kind}-with-new-{other.name.lower()}-fragment-inside",
                first + frames.encode(other, EMPTY, final=False),
            )
        yield legal(f"{kind}-cut-off-by-the-close-frame", first, messages=[])
    for final, payload in itertools.product((True, False), (b"", EMPTY)):
        name = f"continuation-{'final' if final else 'open'}-{len(payload)}-without-beginning"
        orphan = frames.encode(CONTINUATION, payload, final=final)
        yield violation(name, orphan)
        yield violation(
            f"{name}-behind-a-message", frames.encode(TEXT, EMPTY) + orphan, messages=[EMPTY]
        )
        yield violation(
            f"{name}-behind-a-fragmented-message",
            b"".join(fragments(EMPTY[:5], EMPTY[5:])) + orphan,
            messages=[EMPTY],
        )


GROUPS: Final = {
    "framing": tuple(_framing()),
    "masked": tuple(_masked()),
    "pings-and-pongs": tuple(_pings_and_pongs()),
    "reserved-bits": tuple(_reserved_bits()),
    "opcodes": tuple(_opcodes()),
    "fragmentation": tuple(_fragmentation()),
}
