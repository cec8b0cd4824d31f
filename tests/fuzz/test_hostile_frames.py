"""Hostile frames: memory stays bounded, time grows with the input and no faster."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import pytest

from soniox_proto import (
    AudioReceived,
    ClientClosed,
    Closed,
    Event,
    RealtimeSTTServerConnection,
    RequestRefused,
    Result,
    ServerEvent,
)
from tests.fuzz.hostile import (
    feed,
    feeding,
    fragments,
    open_client,
    open_server,
    padded,
    segments,
    violation,
)
from tests.fuzz.measure import KIBIBYTE, MEBIBYTE, check_linear, peak_memory
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import CLIENT_MASK, Opcode

LIMIT = 100 * KIBIBYTE
"""Largest message of the tests that do not need a large one."""

TEN_THOUSAND = 10_000


class TestLengths:
    @pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION])
    @pytest.mark.parametrize("length", [1 << 20, 1 << 40, 1 << 62, (1 << 63) - 1])
    def test_one_that_lies_reserves_nothing(self, opcode: Opcode, length: int) -> None:
        client = open_client(max_message_size=LIMIT)
        begun = frames.encode(Opcode.TEXT, b"{", final=False) if opcode == 0 else b""
        header = begun + bytes([0x80 | opcode, 127]) + length.to_bytes(8, "big")
        assert peak_memory(feeding(client, [header + b"  "])) < LIMIT
        assert not client.connection.closed
        assert peak_memory(feeding(client, [b" " * KIBIBYTE] * 300)) < 3 * LIMIT
        assert client.connection.closed
        assert client.close_codes == [1009]

    @pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
    def test_the_largest_message_and_one_byte_more(self, opcode: Opcode) -> None:
        size = 16 * MEBIBYTE
        client = open_client()
        data = segments(frames.encode(opcode, padded(size)))
        assert peak_memory(feeding(client, data)) < 4 * size
        assert client.connection.stats.received_messages == 1
        assert client.connection.last_message is not None
        data = segments(frames.encode(opcode, padded(size + 1)))
        assert peak_memory(feeding(client, data)) < 4 * size
        assert client.connection.closed
        assert client.close_codes == [1009]

    def test_the_largest_message_of_a_client_and_one_byte_more(self) -> None:
        server = open_server(max_message_size=LIMIT)
        (event,) = server.receive_data(frames.binary(bytes(LIMIT), mask=CLIENT_MASK), 0.0)
        assert event == AudioReceived(bytes(LIMIT))
        (event,) = server.receive_data(frames.binary(bytes(LIMIT + 1), mask=CLIENT_MASK), 0.0)
        assert isinstance(event, ClientClosed)


class TestPieces:
    """One frame, in reads that are very small: who sends it decides how small."""

    SIZE = 64 * KIBIBYTE

    @pytest.mark.parametrize("piece", [1, 2, 5, 16])
    @pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
    def test_one_frame_in_tiny_pieces(self, opcode: Opcode, piece: int) -> None:
        client = open_client()
        data = segments(frames.encode(opcode, padded(self.SIZE)), piece)
        assert peak_memory(feeding(client, data)) < 6 * self.SIZE
        assert client.connection.stats.received_messages == 1

    @pytest.mark.parametrize("piece", [1, 2, 5, 16])
    def test_one_frame_of_a_client_in_tiny_pieces(self, piece: int) -> None:
        server = open_server()
        data = segments(frames.binary(bytes(self.SIZE), mask=CLIENT_MASK), piece)
        assert peak_memory(feeding(server, data)) < 6 * self.SIZE
        assert server.received_audio_bytes == self.SIZE

    @pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
    def test_take_time_in_proportion(self, opcode: Opcode) -> None:
        def prepare(size: int) -> Callable[[], object]:
            return feeding(open_client(), segments(frames.encode(opcode, padded(size)), 2))

        check_linear(prepare, 10 * KIBIBYTE)


class TestFragments:
    def test_ten_thousand_are_one_message(self) -> None:
        client = open_client()
        message = padded(10 * TEN_THOUSAND)
        events = feed(client, segments(fragments(message, 10)))
        assert [type(event) for event in events] == [Result]
        assert isinstance(events[0], Result)
        assert events[0].raw == message.decode()

    @pytest.mark.parametrize("size", [1, 10])
    def test_take_time_in_proportion(self, size: int) -> None:
        def prepare(count: int) -> Callable[[], object]:
            return feeding(open_client(), segments(fragments(padded(count * size), size)))

        check_linear(prepare, 2_000)

    def test_of_one_byte_take_no_more_memory_than_their_bytes(self) -> None:
        # The ratio tells as much about 16 MiB of them, which take minutes.
        count = 32 * KIBIBYTE
        data = segments(fragments(padded(count), 1))
        client = open_client()
        assert peak_memory(feeding(client, data)) < 4 * len(data[0])
        assert client.connection.stats.received_messages == 1

    def test_that_never_end_are_cut_at_the_limit(self) -> None:
        client = open_client(max_message_size=TEN_THOUSAND)
        feed(client, [frames.encode(Opcode.TEXT, b" ", final=False)])
        more = frames.encode(Opcode.CONTINUATION, b" ", final=False)
        feed(client, [more] * (TEN_THOUSAND - 1))
        assert not client.connection.closed
        (end,) = feed(client, [more] * TEN_THOUSAND)
        assert violation(end).close_code == 1009

    def test_that_are_empty_take_no_memory_and_end_soon(self) -> None:
        client = open_client()
        begun = frames.encode(Opcode.TEXT, b"{", final=False)
        data = segments(begun + frames.encode(0, b"", final=False) * TEN_THOUSAND)
        assert peak_memory(feeding(client, data)) < LIMIT
        assert client.connection.closed

    def test_of_a_client_take_time_in_proportion(self) -> None:
        def prepare(count: int) -> Callable[[], object]:
            data = fragments(bytes(count), 1, mask=CLIENT_MASK)
            return feeding(open_server(), segments(data))

        check_linear(prepare, 2_000)


class TestControlFrames:
    def test_ten_thousand_pings_in_one_segment_are_answered_in_order(self) -> None:
        client = open_client()
        payloads = [index.to_bytes(4, "big") for index in range(TEN_THOUSAND)]
        assert feed(client, [b"".join(map(frames.ping, payloads))]) == []
        assert [frame.payload for frame in client.drain()] == payloads
        assert {frame.opcode for frame in client.frames[1:]} == {Opcode.PONG}

    def test_ten_thousand_pings_take_the_memory_of_the_answers(self) -> None:
        client = open_client()
        segment = frames.ping(b"?" * 125) * TEN_THOUSAND
        assert peak_memory(feeding(client, [segment])) < 4 * len(segment)

    @pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
    def test_take_time_in_proportion(self, opcode: Opcode) -> None:
        def prepare(count: int) -> Callable[[], object]:
            return feeding(open_client(), [frames.encode(opcode, b"?" * 30) * count])

        check_linear(prepare, 1_500)

    def test_ten_thousand_pongs_mean_nothing(self) -> None:
        client = open_client()
        segment = frames.pong(b"?" * 125) * TEN_THOUSAND
        assert peak_memory(feeding(client, [segment])) < len(segment)
        assert client.events[1:] == []
        assert client.drain() == []
        assert not client.connection.closed


class TestMessages:
    def test_of_a_million_empty_ones_the_first_is_too_much(self) -> None:
        client = open_client()
        data = segments(frames.text("") * 1_000_000)
        # A pointer for each of the two bytes of a read, before the first is looked at.
        assert peak_memory(feeding(client, data)) < 5 * len(data[0])
        assert client.connection.closed
        assert client.close_codes == [1007]

    @pytest.mark.parametrize(
        ("frame", "answers"),
        [
            (frames.text("", mask=CLIENT_MASK), [RequestRefused]),
            (frames.binary(b"", mask=CLIENT_MASK), []),
        ],
    )
    def test_a_hundred_thousand_empty_ones_of_a_client_are_refused_at_most_once(
        self, frame: bytes, answers: list[type[ServerEvent]]
    ) -> None:
        server = open_server()
        events: list[ServerEvent] = []
        for segment in segments(frame * 100_000):
            events += server.receive_data(segment, 0.0)
        assert [type(event) for event in events] == answers

    def test_many_in_one_segment_take_time_in_proportion(self) -> None:
        def prepare(count: int) -> Callable[[], object]:
            return feeding(open_client(), [frames.text('{"tokens":[]}') * count])

        check_linear(prepare, 3_000)

    @pytest.mark.parametrize("final", [True, False])
    def test_a_deflate_bomb_is_bounded(self, final: bool) -> None:
        limit = MEBIBYTE
        client = Client(compression=True, max_message_size=limit)
        client.connect()
        client.accept([("Sec-WebSocket-Extensions", "permessage-deflate")])
        client.connection.data_to_send()
        compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = compressor.compress(bytes(64 * MEBIBYTE)) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert len(bomb) < 70 * KIBIBYTE
        frame = frames.encode(Opcode.TEXT, bomb[:-4], final=final, reserved=4)
        assert peak_memory(feeding(client, [frame])) < 12 * limit
        assert client.connection.closed


class TestGarbage:
    @pytest.mark.parametrize("seed", range(30))
    @pytest.mark.parametrize("make", [open_client, open_server, RealtimeSTTServerConnection])
    def test_is_one_end(
        self, make: Callable[[], Client | RealtimeSTTServerConnection], seed: int
    ) -> None:
        """Also where the upgrade request should be."""
        source = random.Random(seed)
        end = make()
        connection = end.connection if isinstance(end, Client) else end
        events: list[Event | ServerEvent] = []
        for _ in range(200):
            events += connection.receive_data(source.randbytes(source.randrange(1, 200)), 0.0)
        events += connection.receive_eof(0.0)
        ends = [event for event in events if isinstance(event, Closed | ClientClosed)]
        assert len(ends) == 1
        assert events[-1] is ends[0]

    @pytest.mark.parametrize("byte", range(0, 256, 5))
    def test_of_one_byte_is_an_end_within_bounds(self, byte: int) -> None:
        client = open_client(max_message_size=LIMIT)
        peak = peak_memory(feeding(client, segments(bytes([byte]) * (4 * LIMIT))))
        assert peak < 12 * LIMIT
        assert client.connection.closed
