"""Hostile bytes before the WebSocket is open, at both ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from soniox_proto import (
    ClientClosed,
    Closed,
    Event,
    Opened,
    Outcome,
    RealtimeSTTServerConnection,
    ServerEvent,
    SonioxHandshakeError,
    StartReceived,
    UpgradeReceived,
)
from tests.fuzz.hostile import READ_SIZE, feed, feeding, segments, violation
from tests.fuzz.measure import KIBIBYTE, MEBIBYTE, check_linear, peak_memory
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import CLIENT_MASK
from tests.support.core.messages import START_MESSAGE

LARGEST_HEAD = 16 * KIBIBYTE
"""Bytes of a head that are taken, of whatever kind of end."""

ENDLESS_HEADS = {
    "status-line": (b"HTTP/1.1 101 ", b"a"),
    "one-header": (b"HTTP/1.1 101 Switching Protocols\r\nX: ", b"a"),
    "many-headers": (b"HTTP/1.1 101 Switching Protocols\r\n", b"X: a\r\n"),
    "folded-header": (b"HTTP/1.1 101 Switching Protocols\r\nX: a\r\n", b" a\r\n"),
    "nothing-at-all": (b"", b"a"),
    "refusal": (b"HTTP/1.1 503 Busy\r\n", b"X: a\r\n"),
}

ENDLESS_REQUESTS = {
    "request-line": (b"GET /", b"a"),
    "one-header": (b"GET / HTTP/1.1\r\nX: ", b"a"),
    "many-headers": (b"GET / HTTP/1.1\r\n", b"X: a\r\n"),
    "nothing-at-all": (b"", b"G"),
}


def connecting() -> Client:
    client = Client()
    client.connect()
    return client


def reads(beginning: bytes, more: bytes, size: int) -> Iterator[bytes]:
    """Yield `size` bytes and a few more, in segments, without having them all in memory."""
    yield beginning
    segment = more * (READ_SIZE // len(more))
    yield from islice(iter(lambda: segment, b""), size // len(segment) + 1)


def all_of(head: bytes, size: int) -> list[bytes]:
    return segments(head, len(head) if size == 0 else size)


class TestHeads:
    @pytest.mark.parametrize("name", ENDLESS_HEADS)
    def test_of_sixty_mebibytes(self, name: str) -> None:
        client = connecting()
        data = reads(*ENDLESS_HEADS[name], 60 * MEBIBYTE)
        assert peak_memory(feeding(client, data)) < 30 * READ_SIZE
        assert client.connection.outcome is Outcome.LOST

    @pytest.mark.parametrize("name", ENDLESS_HEADS)
    def test_of_sixty_mebibytes_in_one_segment(self, name: str) -> None:
        client = connecting()
        segment = b"".join(reads(*ENDLESS_HEADS[name], 60 * MEBIBYTE))
        assert peak_memory(feeding(client, [segment])) < 30 * READ_SIZE
        assert client.connection.outcome is Outcome.LOST

    @pytest.mark.parametrize("name", ENDLESS_HEADS)
    def test_dripped_byte_by_byte(self, name: str) -> None:
        beginning, more = ENDLESS_HEADS[name]
        drip = beginning + more * (LARGEST_HEAD + 1)
        client = connecting()
        assert feed(client, segments(drip[:LARGEST_HEAD], 1)) == []
        (end,) = feed(client, [drip[LARGEST_HEAD : LARGEST_HEAD + 1]])
        assert violation(end).close_code == 1002
        assert feed(client, segments(drip[LARGEST_HEAD:], 1)) == []

    @pytest.mark.parametrize("name", ENDLESS_HEADS)
    def test_dripped_take_time_in_proportion(self, name: str) -> None:
        beginning, more = ENDLESS_HEADS[name]

        def prepare(size: int) -> Callable[[], object]:
            return feeding(connecting(), segments((beginning + more * size)[:size], 1))

        check_linear(prepare, LARGEST_HEAD // 8)

    @pytest.mark.parametrize("read_size", [0, 1000, 1])
    @pytest.mark.parametrize(
        ("excess", "taken"), [(0, True), (1, False), (1000, False), (100_000, False)]
    )
    def test_size_limit_does_not_depend_on_the_cuts(
        self, excess: int, taken: bool, read_size: int
    ) -> None:
        client = connecting()
        bare = len(frames.switching_protocols(client.request, [("X", "")]))
        padding = "a" * (LARGEST_HEAD - bare + excess)
        head = frames.switching_protocols(client.request, [("X", padding)])
        events = feed(client, all_of(head, read_size))
        assert [type(event) for event in events] == [Opened if taken else Closed]

    @pytest.mark.parametrize("read_size", [0, 1000, 1])
    @pytest.mark.parametrize(("excess", "taken"), [(0, True), (1, False), (5000, False)])
    def test_size_limit_of_a_request_does_not_depend_on_the_cuts(
        self, excess: int, taken: bool, read_size: int
    ) -> None:
        server = RealtimeSTTServerConnection()
        bare = len(frames.upgrade_request(headers=[("X", "")]))
        head = frames.upgrade_request(headers=[("X", "a" * (LARGEST_HEAD - bare + excess))])
        events: list[ServerEvent] = []
        for piece in all_of(head, read_size):
            events += server.receive_data(piece, 0.0)
        assert [type(event) for event in events] == [UpgradeReceived if taken else ClientClosed]

    @pytest.mark.parametrize("name", ENDLESS_REQUESTS)
    def test_of_a_client_are_bounded_too(self, name: str) -> None:
        server = RealtimeSTTServerConnection()
        data = reads(*ENDLESS_REQUESTS[name], 10 * MEBIBYTE)
        assert peak_memory(feeding(server, data)) < 30 * READ_SIZE
        assert server.closed


class TestRefusals:
    SIZE = 60 * MEBIBYTE

    @pytest.mark.parametrize(
        ("header", "more"),
        [
            (f"Content-Length: {SIZE}", b"a" * 1000),
            ("Connection: close", b"a" * 1000),
            ("Transfer-Encoding: chunked", b"3e8\r\n" + b"a" * 1000 + b"\r\n"),
            ("Content-Length: 4611686018427387904", b"a" * 1000),
        ],
        ids=["length", "until-the-end", "chunked", "length-that-lies"],
    )
    def test_of_sixty_mebibytes(self, header: str, more: bytes) -> None:
        client = connecting()
        head = f"HTTP/1.1 503 Busy\r\n{header}\r\n\r\n".encode()
        work = feeding(client, reads(head, more, self.SIZE))
        assert peak_memory(work) < 30 * READ_SIZE
        error = client.connection.error
        assert isinstance(error, SonioxHandshakeError)
        assert error.status_code == 503
        assert error.body == b"a" * 64 * KIBIBYTE
        assert len(str(error)) < 400

    @pytest.mark.parametrize("read_size", [1, READ_SIZE])
    def test_a_body_of_tiny_chunks(self, read_size: int) -> None:
        client = connecting()
        head = frames.http_head("HTTP/1.1 503 Busy", [("Transfer-Encoding", "chunked")])
        data = segments(head + b"1\r\na\r\n" * 4_000, read_size)
        assert peak_memory(feeding(client, data)) < 8 * READ_SIZE
        client.eof()
        error = client.connection.error
        assert isinstance(error, SonioxHandshakeError)
        assert error.body == b"a" * 4_000

    def test_a_body_of_tiny_chunks_takes_time_in_proportion(self) -> None:
        head = frames.http_head("HTTP/1.1 503 Busy", [("Transfer-Encoding", "chunked")])

        def prepare(count: int) -> Callable[[], object]:
            return feeding(connecting(), [head + b"1\r\na\r\n" * count])

        check_linear(prepare, 1_000)

    @pytest.mark.parametrize(
        "chunk",
        [b"f" * 30, b"-1", b"0x10", b"1;" + b"a" * 100_000, b"\r\n", b"\0", b"1.5"],
        ids=["huge", "negative", "prefixed", "long-extension", "empty", "nul", "broken"],
    )
    @pytest.mark.parametrize("read_size", [1, 1000, READ_SIZE])
    def test_a_body_that_is_no_http_does_not_hide_the_status(
        self, chunk: bytes, read_size: int
    ) -> None:
        client = connecting()
        head = frames.http_head("HTTP/1.1 503 Busy", [("Transfer-Encoding", "chunked")])
        body = b"3\r\nwhy\r\n" + chunk + b"\r\n" + b"a" * 100_000
        work = feeding(client, segments(head + body, read_size))
        assert peak_memory(work) < 8 * READ_SIZE
        error = client.connection.error
        assert isinstance(error, SonioxHandshakeError)
        assert (error.status_code, error.body) == (503, b"why")

    @pytest.mark.parametrize("size", [16_000, 16_380, 16_384, 16_500, 17_000, 18_000])
    def test_trailers_of_a_body_may_be_cut_anywhere(self, size: int) -> None:
        head = frames.http_head("HTTP/1.1 503 Busy", [("Transfer-Encoding", "chunked")])
        data = head + b"3\r\nwhy\r\n0\r\nX: " + b"a" * size + b"\r\n\r\n"
        for read_size in (1, 100, 1000, READ_SIZE):
            client = connecting()
            feed(client, segments(data, read_size))
            assert client.connection.outcome is Outcome.REJECTED, read_size


class TestClientsThatDoNotWait:
    """A client may not send anything before its request is answered; a server must survive it."""

    FIRST = frames.text(START_MESSAGE, mask=CLIENT_MASK)

    @pytest.mark.parametrize("read_size", [0, 1, 100, 200, 250])
    def test_what_follows_the_request_does_not_depend_on_the_cuts(self, read_size: int) -> None:
        server = RealtimeSTTServerConnection()
        events: list[ServerEvent] = []
        for piece in all_of(frames.upgrade_request() + self.FIRST, read_size):
            told = server.receive_data(piece, 0.0)
            events += told
            if any(isinstance(event, UpgradeReceived) for event in told):
                server.accept(0.0)
        events += server.handle_timeout(0.0)
        assert [type(event) for event in events] == [UpgradeReceived, StartReceived]

    def test_are_bounded(self) -> None:
        server = RealtimeSTTServerConnection()
        server.receive_data(frames.upgrade_request(), 0.0)
        assert peak_memory(feeding(server, reads(self.FIRST, b"a", 20 * MEBIBYTE))) < 8 * READ_SIZE

    def test_dripped_take_time_in_proportion(self) -> None:
        def prepare(size: int) -> Callable[[], object]:
            server = RealtimeSTTServerConnection()
            server.receive_data(frames.upgrade_request(), 0.0)
            return feeding(server, [b"a"] * size)

        check_linear(prepare, 2_000)


NO_HTTP = {
    "tls-alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "tls-handshake": b"\x16\x03\x01\x02\x00\x01" + bytes(500),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "http-2": b"\0\0\x12\x04" + bytes(14),
    "frames": frames.text('{"tokens":[]}'),
    "nul": bytes(1000),
    "high-bytes": bytes(range(128, 256)) * 10,
    "nul-in-header": b"HTTP/1.1 101 S\r\nX: a\0b\r\n",
    "bare-cr": b"HTTP/1.1 101 S\rX: a\r",
    "negative-status": b"HTTP/1.1 -101 S\r\n",
    "long-status": b"HTTP/1.1 1010000000000000000000 S\r\n",
    "status-in-other-digits": "HTTP/1.1 \uff11\uff10\uff11 S\r\n".encode(),
    "old-http": b"HTTP/0.9 101 S\r\n",
    "two-lengths": b"HTTP/1.1 503 S\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
    "huge-length": b"HTTP/1.1 503 S\r\nContent-Length: " + b"9" * 5000 + b"\r\n",
    "high-bytes-in-subprotocol": b"HTTP/1.1 101 S\r\nSec-WebSocket-Protocol: \xff\r\n",
}


class TestGarbage:
    @pytest.mark.parametrize("name", NO_HTTP)
    @pytest.mark.parametrize("read_size", [0, 1])
    def test_instead_of_an_answer_is_an_end(self, name: str, read_size: int) -> None:
        client = connecting()
        events: list[Event] = feed(client, all_of(NO_HTTP[name] + b"\r\n\r\n", read_size))
        events += client.connection.receive_eof(1.0)
        assert [type(event) for event in events] == [Closed]
        assert client.connection.data_to_send() == b""

    @pytest.mark.parametrize("seed", range(60))
    def test_anywhere_in_an_answer_is_survived(self, seed: int) -> None:
        source = random.Random(seed)
        client = connecting()
        head = bytearray(frames.switching_protocols(client.request))
        for _ in range(source.randrange(1, 4)):
            head[source.randrange(len(head))] = source.randrange(256)
        events = feed(client, [bytes(head), frames.text('{"tokens":[]}')])
        events += client.eof()
        assert sum(isinstance(event, Closed) for event in events) == 1
        assert isinstance(events[-1], Closed)
