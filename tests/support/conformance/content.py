"""RFC 6455 cases of what frames say: UTF-8, close frames, sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from soniox_proto import Outcome
from tests.support.conformance.case import (
    EMPTY,
    Case,
    bytewise,
    close_frame,
    closed_with,
    fragments,
    legal,
    message,
    violation,
)
from tests.support.core import frames
from tests.support.core.frames import Opcode

__all__ = ["CODES_THAT_MAY_BE_SENT", "CODES_THAT_MAY_NOT", "GROUPS"]

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION

NO_UTF_8: Final = "payload is not valid UTF-8"

VALID_TEXTS: Final = {
    "ascii": "Hello, world",
    "latin": "Hellö àâôß",
    "greek": "κόσμε",
    "chinese": "水在哪里",
    "emoji": "🎧🎙\ufe0f👩\u200d🚀",
    "first-of-two-bytes": "\u0080",
    "last-of-two-bytes": "\u07ff",
    "first-of-three-bytes": "\u0800",
    "last-of-three-bytes": "\uffff",
    "first-of-four-bytes": "\U00010000",
    "last-of-all": "\U0010ffff",
    "around-the-surrogates": "\ud7ff\ue000",
    "replacement-character": "\ufffd",
    "non-characters": "\ufffe\ufdd0",
    "byte-order-mark": "\ufeffx",
    "combining": "a\u0308\u0323",
    "all-planes": "".join(chr(plane << 16 | 0x1234) for plane in range(17)),
    "ends-of-all-planes": "".join(chr(plane << 16 | 0xFFFE) for plane in range(17)),
}

INVALID_BYTES: Final = {
    "alone-80": b"\x80",
    "alone-bf": b"\xbf",
    "many-continuations": bytes(range(0x80, 0xC0)),
    "two-bytes-without-second": b"\xc3 ",
    "two-bytes-twice-without-second": b"\xc3\xc3\xa9",
    "three-bytes-without-second": b"\xe6 ",
    "three-bytes-without-third": b"\xe6\xb0 ",
    "four-bytes-without-second": b"\xf0 ",
    "four-bytes-without-third": b"\xf0\x9f ",
    "four-bytes-without-fourth": b"\xf0\x9f\x8e ",
    "five-bytes": b"\xf8\x88\x80\x80\x80",
    "six-bytes": b"\xfc\x84\x80\x80\x80\x80",
    "fe": b"\xfe",
    "ff": b"\xff",
    "fe-fe-ff-ff": b"\xfe\xfe\xff\xff",
    "overlong-slash-in-2": b"\xc0\xaf",
    "overlong-slash-in-3": b"\xe0\x80\xaf",
    "overlong-slash-in-4": b"\xf0\x80\x80\xaf",
    "overlong-nul-in-2": b"\xc0\x80",
    "overlong-nul-in-3": b"\xe0\x80\x80",
    "overlong-nul-in-4": b"\xf0\x80\x80\x80",
    "largest-overlong-in-2": b"\xc1\xbf",
    "largest-overlong-in-3": b"\xe0\x9f\xbf",
    "largest-overlong-in-4": b"\xf0\x8f\xbf\xbf",
    "high-surrogate": b"\xed\xa0\x80",
    "last-high-surrogate": b"\xed\xaf\xbf",
    "low-surrogate": b"\xed\xb0\x80",
    "last-low-surrogate": b"\xed\xbf\xbf",
    "surrogate-pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "beyond-the-last": b"\xf4\x90\x80\x80",
    "far-beyond-the-last": b"\xf7\xbf\xbf\xbf",
}

INCOMPLETE_BYTES: Final = {
    "one-of-two": b"\xc3",
    "one-of-three": b"\xe6",
    "two-of-three": b"\xe6\xb0",
    "one-of-four": b"\xf0",
    "two-of-four": b"\xf0\x9f",
    "three-of-four": b"\xf0\x9f\x8e",
}

CODES_THAT_MAY_BE_SENT: Final = (*range(1000, 1004), *range(1007, 1014), 3000, 3999, 4000, 4999)

CODES_THAT_MAY_NOT: Final = (
    *(0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999),
    *(5000, 32768, 65535),
)
"""The engine takes 1014 and the unassigned codes below 3000 for violations as well."""


def _said(text: bytes) -> bytes:
    return b'{"tokens":[{"text":"' + text + b'"}]}'


def _utf_8() -> Iterator[Case]:
    for name, text in VALID_TEXTS.items():
        said = _said(text.encode())
        yield legal(f"valid-{name}", frames.encode(TEXT, said), messages=[said])
        cuts = range(1, len(said))
        # One message for each place in which a segment, or a fragment, can be cut.
        frame = frames.encode(TEXT, said)
        yield legal(
            f"valid-{name}-cut-anywhere",
            *(piece for at in range(1, len(frame)) for piece in (frame[:at], frame[at:])),
            messages=[said] * (len(frame) - 1),
        )
        yield legal(
            f"valid-{name}-in-two-fragments",
            b"".join(b"".join(fragments(said[:at], said[at:])) for at in cuts),
            messages=[said] * len(cuts),
        )
        yield legal(
            f"valid-{name}-in-fragments-of-one-byte",
            b"".join(fragments(*bytewise(said))),
            messages=[said],
        )
    for name, wrong in INVALID_BYTES.items():
        said = _said(wrong)
        yield _no_utf_8(f"invalid-{name}", frames.encode(TEXT, said))
        yield _no_utf_8(f"invalid-{name}-byte-by-byte", *bytewise(frames.encode(TEXT, said)))
        yield _no_utf_8(f"invalid-{name}-in-fragments-of-one-byte", *fragments(*bytewise(said)))
        # What is wrong is told at once, however much of the message is still to come.
        rest = _said(b"x" * 500)
        yield _no_utf_8(
            f"invalid-{name}-in-an-unfinished-message",
            frames.encode(TEXT, said + rest, final=False),
        )
        yield _no_utf_8(
            f"invalid-{name}-in-an-unfinished-frame",
            frames.encode(TEXT, said + rest)[: 4 + len(said)],
            alone=True,
        )
        yield legal(f"no-matter-{name}-in-a-ping", frames.ping(wrong), pongs=[wrong])
    for name, wrong in INCOMPLETE_BYTES.items():
        whole = EMPTY + wrong
        yield _no_utf_8(f"cut-off-{name}", frames.encode(TEXT, whole))
        yield _no_utf_8(f"cut-off-{name}-byte-by-byte", *bytewise(frames.encode(TEXT, whole)))
        yield _no_utf_8(f"cut-off-{name}-in-a-fragment", *fragments(EMPTY, wrong))
        yield _no_utf_8(f"cut-off-{name}-before-an-empty-fragment", *fragments(whole, b""))
        yield _no_utf_8(f"cut-off-{name}-alone", frames.encode(TEXT, wrong))
    # A message is not text because another one was.
    halves = "é".encode()
    yield _no_utf_8(
        "halves-in-two-messages",
        frames.encode(TEXT, EMPTY + halves[:1]) + frames.encode(TEXT, halves[1:]),
    )
    yield violation(
        "invalid-in-a-binary-message",
        frames.encode(BINARY, _said(b"\xff")),
        code=1007,
        tells="not a message of the protocol",
    )
    escaped = json.dumps({"tokens": [{"text": "é🎧"}]}).encode()
    yield legal("escaped", frames.encode(TEXT, escaped), messages=[escaped])


def _no_utf_8(name: str, *sends: bytes, alone: bool = False) -> Case:
    case = violation(name, *sends, code=1007, tells=NO_UTF_8)
    # Behind a frame that is not whole nothing else can be sent.
    return Case(**{**vars(case), "sends": sends}) if alone else case


def _closing() -> Iterator[Case]:
    behind = frames.text('{"tokens":[],"behind":true}') + frames.ping(b"behind")
    for code in CODES_THAT_MAY_BE_SENT:
        yield closed_with(f"{code}", frames.close(code), code=code)
        yield closed_with(f"{code}-with-reason", frames.close(code, "ü"), code=code, reason="ü")
        pieces = bytewise(frames.close(code, "why"))
        yield closed_with(f"{code}-byte-by-byte", *pieces, code=code, reason="why")
        yield closed_with(f"{code}-twice", frames.close(code) * 2, code=code)
        yield closed_with(f"{code}-then-more", frames.close(code) + behind, code=code)
    for code in CODES_THAT_MAY_NOT:
        yield violation(f"{code}", frames.close(code))
        yield violation(f"{code}-with-reason", frames.close(code, "why"))
    yield closed_with("without-code", frames.close(None), code=1005)
    yield closed_with("without-code-then-more", frames.close(None) + behind, code=1005)
    yield violation("of-one-byte", frames.encode(Opcode.CLOSE, b"\x03"))
    for length in (1, 122, 123):
        reason = "x" * length
        frame = frames.close(1000, reason)
        yield closed_with(f"reason-of-{length}-bytes", frame, code=1000)
        frame = frames.close(1011, reason)
        yield closed_with(f"reason-of-{length}-bytes-lost", frame, code=1011, reason=reason)
    emoji = "🎧" * 30
    yield closed_with("reason-of-emoji", frames.close(4000, emoji), code=4000, reason=emoji)
    yield violation("reason-of-124-bytes", frames.close(1000, "x" * 124))
    yield violation("of-126-bytes-in-the-short-form", b"\x88\x7e\x00\x02\x03\xe8")
    for name, wrong in {**INVALID_BYTES, **INCOMPLETE_BYTES}.items():
        frame = frames.encode(Opcode.CLOSE, b"\x03\xe8" + wrong)
        yield violation(f"reason-{name}", frame, code=1007)
    yield violation("fragmented", frames.encode(Opcode.CLOSE, b"\x03\xe8", final=False))
    yield legal("behind-a-message", frames.encode(TEXT, EMPTY), messages=[EMPTY])
    yield legal(
        "in-one-segment-with-a-message",
        frames.encode(TEXT, EMPTY) + frames.close(),
        messages=[EMPTY],
    )


def _closing_first() -> Iterator[Case]:
    """The client closes; what the server says then, and how it answers."""
    said = frames.encode(TEXT, EMPTY)
    answers = (close_frame(1000),)
    local = Outcome.CLOSED_LOCALLY

    def closes(
        name: str, *sends: bytes, code: int = 1000, messages: tuple[bytes, ...] = ()
    ) -> Case:
        return Case(name, sends, messages, answers, local, code, closes_first=True)

    yield closes("answered", frames.close())
    yield closes("answered-byte-by-byte", *bytewise(frames.close(1000, "bye")))
    yield closes("answered-without-code", frames.close(None), code=1005)
    yield closes("answered-with-another-code", frames.close(4000, "why"), code=4000)
    yield closes("answered-twice", frames.close() * 2)
    yield closes("ping-before-the-answer", frames.ping(b"?"), frames.close())
    yield closes("ping-and-answer-in-one-segment", frames.ping(b"?") + frames.close())
    yield closes("ten-pings-before-the-answer", frames.ping(b"?") * 10, frames.close())
    yield closes("pong-before-the-answer", frames.pong(b"?") + frames.close())
    yield closes("message-before-the-answer", said, frames.close(), messages=(EMPTY,))
    yield closes(
        "fragments-before-the-answer",
        b"".join(fragments(EMPTY[:5], EMPTY[5:])) + frames.close(),
        messages=(EMPTY,),
    )
    yield closes("message-behind-the-answer", frames.close() + said)
    yield closes("illegal-answer", frames.close(1006), code=1006)
    yield closes("violation-instead-of-the-answer", frames.encode(3), code=1006)
    yield closes("no-utf-8-instead-of-the-answer", frames.encode(TEXT, b"\xff"), code=1006)


def _sizes() -> Iterator[Case]:
    limit = 1_000
    options = {"max_message_size": limit}
    for opcode in (TEXT, BINARY):
        kind = opcode.name.lower()
        most, more = message(limit), message(limit + 1)
        pieces = [most[at : at + 100] for at in range(0, limit, 100)]
        fragmented = b"".join(fragments(*pieces, opcode=opcode))
        yield legal(
            f"{kind}-largest", frames.encode(opcode, most), messages=[most], options=options
        )
        yield legal(
            f"{kind}-largest-byte-by-byte",
            *bytewise(frames.encode(opcode, most)),
            messages=[most],
            options=options,
        )
        yield legal(f"{kind}-largest-fragmented", fragmented, messages=[most], options=options)
        yield legal(f"{kind}-largest-twice", fragmented * 2, messages=[most] * 2, options=options)
        yield _too_large(f"{kind}-larger", frames.encode(opcode, more))
        yield _too_large(f"{kind}-larger-byte-by-byte", *bytewise(frames.encode(opcode, more)))
        yield _too_large(f"{kind}-larger-fragmented", *fragments(*pieces, b"}", opcode=opcode))
        yield _too_large(
            f"{kind}-larger-by-its-last-fragment", *fragments(most, b" ", opcode=opcode)
        )
        # Too large is told as soon as it is, without waiting for an end that may never come.
        yield _too_large(f"{kind}-larger-without-end", frames.encode(opcode, more, final=False))
        yield Case(
            **{
                **vars(_too_large(f"{kind}-larger-and-unfinished")),
                "sends": (bytes([0x80 | opcode, 127]) + (1 << 40).to_bytes(8, "big") + more,),
            }
        )
    wide = b'{"tokens":[],"x":"' + "é".encode() * 490 + b'"}'
    assert len(wide) == limit
    yield legal("counts-bytes", frames.encode(TEXT, wide), messages=[wide], options=options)
    wider = wide[:-2] + b'x"}'
    yield _too_large("counts-bytes-not-characters", frames.encode(TEXT, wider))
    yield legal(
        "control-frames-do-not-count",
        *fragments(*[message(limit)[at : at + 500] for at in (0, 500)])[:1],
        frames.ping(b"x" * 125) * 10,
        *fragments(*[message(limit)[at : at + 500] for at in (0, 500)])[1:],
        messages=[message(limit)],
        pongs=[b"x" * 125] * 10,
        options=options,
    )


def _too_large(name: str, *sends: bytes) -> Case:
    return violation(
        name,
        *sends,
        code=1009,
        tells="message larger than max_message_size",
        options={"max_message_size": 1_000},
    )


GROUPS: Final = {
    "utf-8": tuple(_utf_8()),
    "closing": tuple(_closing()),
    "closing-first": tuple(_closing_first()),
    "sizes": tuple(_sizes()),
}
