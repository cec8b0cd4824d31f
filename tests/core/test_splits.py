"""Where the bytes are cut changes nothing: neither events, nor output, nor deadlines."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from soniox_proto import (
    RealtimeSTTServerConnection,
    ServerEvent,
    ServerState,
    UpgradeReceived,
)
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import CLIENT_MASK, Opcode
from tests.support.core.messages import (
    FINALIZE,
    FINISHED,
    KEEPALIVE,
    START_MESSAGE,
    UNAUTHENTICATED,
    result,
    token,
)
from tests.support.core.random import counting_random
from tests.support.core.trace import Cut, Trace, describe_event, replay, whole

GARBAGE = b"\xff\x00garbage"


def bytewise(segment: bytes) -> list[bytes]:
    return [segment[index : index + 1] for index in range(len(segment))]


def at(*positions: int) -> Cut:
    """Cut a segment at the positions that lie within it."""

    def cut(segment: bytes) -> list[bytes]:
        inside = sorted({position for position in positions if 0 < position < len(segment)})
        return [segment[a:b] for a, b in itertools.pairwise([0, *inside, len(segment)])]

    return cut


CUTS = st.lists(st.integers(1, 1000), max_size=6).map(lambda positions: at(*positions))


class TestTraces:
    """What the server sends in the golden traces."""

    @pytest.mark.parametrize("name", Trace.names())
    def test_byte_by_byte(self, name: str) -> None:
        trace = Trace.read(name)
        assert replay(trace, bytewise) == replay(trace)

    @pytest.mark.parametrize("name", Trace.names())
    def test_at_every_two_way_cut(self, name: str) -> None:
        trace = Trace.read(name)
        expected = replay(trace)
        for position in range(1, max(len(segment) for segment in trace.segments())):
            assert replay(trace, at(position)) == expected, f"cut at {position}"

    @settings(max_examples=10)
    @pytest.mark.parametrize("name", Trace.names())
    @given(cut=CUTS)
    def test_at_any_cuts(self, name: str, cut: Cut) -> None:
        trace = Trace.read(name)
        assert replay(trace, cut) == replay(trace)


class Heard(NamedTuple):
    """What an end made of a conversation."""

    events: list[str]
    output: bytes
    state: object
    next_timeout: float | None


MAX_SIZE = 200

MESSAGES = st.sampled_from(
    [
        frames.text(result("hello", token(" wörld", is_final=False))),
        frames.text(result("<end>", "<fin>")),
        frames.binary(result("binary").encode()),
        frames.text(FINISHED),
        frames.text(UNAUTHENTICATED),
        frames.encode(Opcode.TEXT, '{"tokens":[{"text":"é'.encode()[:-1], final=False)
        + frames.ping(b"within")
        + frames.encode(Opcode.CONTINUATION, b"\xa9", final=False)
        + frames.encode(Opcode.CONTINUATION, b'"}]}'),
        frames.encode(Opcode.BINARY, b"", final=False) + frames.encode(0, b'{"tokens":[]}'),
    ]
)
CONTROLS = st.sampled_from(
    [frames.ping(), frames.ping(b"?"), frames.pong(b"\0\0\0\1"), frames.pong(b"?" * 125)]
)
ENDS = st.sampled_from(
    [
        frames.close(),
        frames.close(1011, "overload"),
        frames.close(None),
        frames.close(1000) + GARBAGE,
        frames.close(1000) + frames.text(FINISHED),
        frames.text("not JSON"),
        frames.text("not JSON") + frames.ping(b"?"),
        frames.text("x" * (MAX_SIZE + 1)),
        frames.encode(Opcode.TEXT, b"\xff"),
        frames.encode(Opcode.TEXT, b'{"a":"\xc3') + frames.text("{}"),
        frames.encode(3),
        frames.text("{}", mask=CLIENT_MASK),
        frames.encode(Opcode.PING, b"x" * 126),
        b"\x81\x7f" + (1 << 62).to_bytes(8, "big") + b"{}",
        GARBAGE,
        b"\x81",
        b"",
    ]
)
CONVERSATIONS = st.tuples(st.lists(MESSAGES | CONTROLS, max_size=5), ENDS).map(
    lambda parts: b"".join(parts[0]) + parts[1]
)
REFUSALS = st.builds(
    frames.refusal,
    st.sampled_from(["401 Unauthorized", "503 Busy", "302 Found"]),
    st.binary(max_size=60),
    st.sampled_from(
        [
            [],
            [("Connection", "close")],
            [("Retry-After", "7")],
            [("Transfer-Encoding", "chunked")],
        ]
    ),
)
NO_ANSWERS = st.sampled_from(
    [GARBAGE, b"HTTP/1.1 101\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n"]
)


def hear(cut: Cut, inbound: bytes, *, accepted: bool = True, closing: bool = False) -> Heard:
    """Feed `inbound`, behind the 101 in the same segment if `accepted`."""
    with counting_random():
        client = Client(max_message_size=MAX_SIZE)
        client.connect()
        client.connection.send_audio(b"first words", client.now)
        if accepted:
            inbound = frames.switching_protocols(client.request) + inbound
        if closing:
            head, inbound = inbound.split(b"\r\n\r\n", 1)
            client.feed(head + b"\r\n\r\n")
            client.connection.close(client.now)
        output = client.connection.data_to_send()
        for piece in cut(inbound):
            client.feed(piece)
            output += client.connection.data_to_send()
        events = list(map(describe_event, client.events))
        return Heard(events, output, client.connection.state, client.connection.next_timeout())


class TestConversations:
    """What a server says right behind its 101, in one segment with it or in many."""

    @given(inbound=CONVERSATIONS, cut=CUTS, closing=st.booleans())
    @example(inbound=frames.text(FINISHED) + frames.close() + GARBAGE, cut=whole, closing=False)
    @example(inbound=frames.ping(b"?") + frames.close(), cut=whole, closing=True)
    def test_at_any_cuts(self, inbound: bytes, cut: Cut, closing: bool) -> None:
        expected = hear(whole, inbound, closing=closing)
        assert hear(bytewise, inbound, closing=closing) == expected
        assert hear(cut, inbound, closing=closing) == expected

    @settings(max_examples=15)
    @given(inbound=CONVERSATIONS)
    @example(inbound=frames.text(FINISHED) + frames.close() + GARBAGE)
    def test_at_every_two_way_cut(self, inbound: bytes) -> None:
        expected = hear(whole, inbound)
        for position in range(1, len(inbound) + 150):
            assert hear(at(position), inbound) == expected, f"cut at {position}"

    @given(inbound=REFUSALS | NO_ANSWERS, garbage=st.sampled_from([b"", GARBAGE]), cut=CUTS)
    def test_answers_that_refuse(self, inbound: bytes, garbage: bytes, cut: Cut) -> None:
        inbound += garbage
        expected = hear(whole, inbound, accepted=False)
        assert hear(bytewise, inbound, accepted=False) == expected
        assert hear(cut, inbound, accepted=False) == expected

    @given(inbound=st.binary(max_size=60), cut=CUTS)
    def test_any_bytes_at_all(self, inbound: bytes, cut: Cut) -> None:
        assert hear(cut, inbound) == hear(whole, inbound)
        assert hear(bytewise, inbound) == hear(whole, inbound)


CLIENT_MESSAGES = st.sampled_from(
    [
        frames.text(START_MESSAGE, mask=CLIENT_MASK),
        frames.text(KEEPALIVE, mask=CLIENT_MASK),
        frames.text(FINALIZE, mask=b"\0\0\0\0"),
        frames.text("", mask=CLIENT_MASK),
        frames.text("nonsense", mask=CLIENT_MASK),
        frames.binary(b"spoken" * 30, mask=CLIENT_MASK),
        frames.binary(b"s", mask=CLIENT_MASK),
        frames.binary(b"x" * (MAX_SIZE + 1), mask=CLIENT_MASK),
        frames.ping(b"?", mask=CLIENT_MASK),
        frames.close(mask=CLIENT_MASK),
        frames.encode(Opcode.BINARY, b"one", final=False, mask=CLIENT_MASK)
        + frames.ping(mask=CLIENT_MASK)
        + frames.encode(Opcode.CONTINUATION, b"two", mask=CLIENT_MASK),
        frames.text("not masked"),
        GARBAGE,
    ]
)


def serve(cut: Cut, inbound: bytes) -> Heard:
    """Feed a client's upgrade request, then `inbound`, to a server that accepts."""
    server = RealtimeSTTServerConnection(max_message_size=MAX_SIZE)
    events: list[str] = []
    output = b""
    for segment in (frames.upgrade_request(headers=[("Authorization", "Bearer k")]), inbound):
        for piece in cut(segment):
            for event in server.receive_data(piece, 1.0):
                events.append(repr(event))
                if isinstance(event, UpgradeReceived):
                    server.accept(1.0)
            output += server.data_to_send()
    return Heard(events, output, server.state, server.next_timeout())


def serve_glued(cut: Cut, inbound: bytes) -> Heard:
    """As `serve`, with all that the client sends in one segment behind its request."""
    server = RealtimeSTTServerConnection(max_message_size=MAX_SIZE)
    events: list[ServerEvent] = []
    output = b""
    for piece in cut(frames.upgrade_request() + inbound):
        events += server.receive_data(piece, 1.0)
        if server.state is ServerState.UPGRADING:
            server.accept(1.0)
        if server.next_timeout() == 1.0:
            events += server.handle_timeout(1.0)
        output += server.data_to_send()
    return Heard(list(map(repr, events)), output, server.state, server.next_timeout())


class TestServer:
    @given(rest=st.lists(CLIENT_MESSAGES, max_size=5).map(b"".join), cut=CUTS)
    def test_of_a_client_that_does_not_wait_for_the_answer(self, rest: bytes, cut: Cut) -> None:
        inbound = frames.text(START_MESSAGE, mask=CLIENT_MASK) + rest
        expected = serve_glued(whole, inbound)
        assert serve_glued(bytewise, inbound) == expected
        assert serve_glued(cut, inbound) == expected

    @given(rest=st.lists(CLIENT_MESSAGES, max_size=8).map(b"".join), cut=CUTS)
    def test_at_any_cuts(self, rest: bytes, cut: Cut) -> None:
        inbound = frames.text(START_MESSAGE, mask=CLIENT_MASK) + rest
        expected = serve(whole, inbound)
        assert serve(bytewise, inbound) == expected
        assert serve(cut, inbound) == expected

    @settings(max_examples=10)
    @given(inbound=st.lists(CLIENT_MESSAGES, max_size=6).map(b"".join))
    def test_at_every_two_way_cut(self, inbound: bytes) -> None:
        expected = serve(whole, inbound)
        for position in range(1, max(len(inbound), 200)):
            assert serve(at(position), inbound) == expected, f"cut at {position}"

    @given(request=st.binary(min_size=1, max_size=60), cut=CUTS)
    def test_requests_that_are_none(self, request: bytes, cut: Cut) -> None:
        def refuse(cut: Cut) -> Heard:
            server = RealtimeSTTServerConnection()
            events = [
                repr(event) for piece in cut(request) for event in server.receive_data(piece, 1.0)
            ]
            return Heard(events, server.data_to_send(), server.state, server.next_timeout())

        assert refuse(cut) == refuse(whole)
        assert refuse(bytewise) == refuse(whole)
