"""The RFC 6455 suite on the core: every case in three cuts, with and without direct framing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from soniox_proto import Outcome, Result, SonioxConnectionError
from soniox_proto.websocket.connection import WebSocket, close_code_may_be_sent
from tests.support.conformance.case import EMPTY, Case, chopped, close_frame
from tests.support.conformance.content import (
    CODES_THAT_MAY_BE_SENT,
    CODES_THAT_MAY_NOT,
    INCOMPLETE_BYTES,
    INVALID_BYTES,
)
from tests.support.conformance.table import CASES, GROUPS
from tests.support.core.client import Client

Cut = Callable[[Case], tuple[bytes, ...]]


def as_sent(case: Case) -> tuple[bytes, ...]:
    return case.sends


def in_one_segment(case: Case) -> tuple[bytes, ...]:
    return (b"".join(case.sends),)


def in_small_pieces(case: Case) -> tuple[bytes, ...]:
    whole = b"".join(case.sends)
    return chopped(whole, 1 if len(whole) < 5_000 else 251)


def run(case: Case, cut: Cut = as_sent) -> None:
    client = Client(**case.options).open()
    client.drain()
    client.frames.clear()
    if case.closes_first:
        client.connection.close(client.now)
    for segment in cut(case):
        client.feed(segment)
        client.drain()
    raw = [event.raw for event in client.events if isinstance(event, Result)]
    assert [item.encode() if isinstance(item, str) else item for item in raw] == list(case.messages)
    assert tuple(client.frames) == case.answers
    closed = client.closed
    assert (closed.outcome, closed.code) == (case.outcome, case.code)
    if case.raises is None:
        assert closed.error is None
        return
    assert type(closed.error) is case.raises
    for name, value in case.details.items():
        assert getattr(closed.error, name) == value, name
    assert case.tells in str(closed.error)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "wsproto"])
@pytest.mark.parametrize("name", CASES)
def test_case(monkeypatch: pytest.MonkeyPatch, name: str, direct: bool) -> None:
    monkeypatch.setattr(WebSocket, "direct_framing", direct)
    for cut in (as_sent, in_one_segment, in_small_pieces):
        run(CASES[name], cut)


# The suite itself


def test_names_are_unique() -> None:
    assert len(CASES) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("pings-and-pongs/ping-text", {"answers": ()}),
        ("pings-and-pongs/ping-text", {"answers": (close_frame(1001),)}),
        ("framing/text-125", {"messages": ()}),
        ("framing/text-125", {"messages": (EMPTY,)}),
        ("framing/text-125", {"outcome": Outcome.LOST}),
        ("closing/1011-with-reason", {"code": 1006}),
        ("closing/1011-with-reason", {"raises": None}),
        ("closing/1011-with-reason", {"details": {"reason": ""}}),
        ("opcodes/3-empty", {"raises": SonioxConnectionError}),
        ("opcodes/3-empty", {"tells": "nothing is wrong"}),
        ("closing-first/answered", {"closes_first": False}),
        ("sizes/text-larger", {"options": {}}),
    ],
)
def test_what_a_case_expects_is_looked_at(name: str, other: dict[str, Any]) -> None:
    run(CASES[name])
    with pytest.raises((AssertionError, ValueError)):
        run(dataclasses.replace(CASES[name], **other))


def test_close_codes_are_those_of_the_library() -> None:
    codes = {*CODES_THAT_MAY_BE_SENT, *CODES_THAT_MAY_NOT}
    assert {code for code in codes if close_code_may_be_sent(code)} == {
        *CODES_THAT_MAY_BE_SENT,
        # May be sent; taking it is beyond the engine.
        1014,
    }


@pytest.mark.parametrize("wrong", [*INVALID_BYTES.values(), *INCOMPLETE_BYTES.values()])
def test_what_is_to_be_no_utf_8_is_none(wrong: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        wrong.decode("utf-8")
