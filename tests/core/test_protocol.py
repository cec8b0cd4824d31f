"""The message layer: what it says, and what it makes of the answers."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    EndpointDetected,
    Finalized,
    RealtimeSTTProtocol,
    Result,
    SessionState,
    SonioxStateError,
    SonioxValidationError,
)
from tests.support.core_messages import (
    CONFIG,
    FINALIZE,
    KEEPALIVE,
    START_MESSAGE,
    result,
    token,
)
from tests.support.core_protocol import kinds, started


class TestOutput:
    def test_goes_out_in_the_order_of_the_calls(self) -> None:
        protocol = started()
        protocol.send_audio(b"one", 1.0)
        protocol.keep_alive(1.0)
        protocol.finalize(1.0, trailing_silence_ms=300)
        protocol.send_audio(bytearray(b"two"), 1.0)
        protocol.pause(1.0)
        protocol.finish(1.0)
        assert protocol.messages_to_send() == [
            b"one",
            KEEPALIVE,
            '{"type":"finalize","trailing_silence_ms":300}',
            b"two",
            FINALIZE,
            "",
        ]
        assert protocol.messages_to_send() == []

    def test_is_held_until_the_start_and_follows_the_start_message(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        protocol.connect(0.0)
        protocol.send_audio(b"first words", 1.0)
        protocol.finalize(1.0)
        protocol.keep_alive(1.0)
        assert protocol.messages_to_send() == []
        protocol.start(2.0)
        assert protocol.messages_to_send() == [START_MESSAGE, b"first words", FINALIZE, KEEPALIVE]

    def test_a_websocket_that_is_open_already_needs_no_connect(self) -> None:
        protocol = started()
        assert protocol.state is SessionState.OPEN
        assert protocol.next_timeout() == 5.0

    def test_end_of_audio_goes_out_once(self) -> None:
        protocol = started()
        protocol.finish(1.0)
        protocol.finish(2.0)
        protocol.close(3.0)
        assert protocol.messages_to_send() == [""]


class TestAudio:
    @pytest.mark.parametrize("chunk", [b"", bytearray(), memoryview(b"")])
    def test_an_empty_chunk_would_end_the_stream_and_is_never_sent(self, chunk: bytes) -> None:
        protocol = started()
        protocol.send_audio(chunk, 3.0)
        assert protocol.messages_to_send() == []
        assert protocol.stats.sent_audio_chunks == 0
        assert protocol.next_timeout() == 5.0, "and it does not count as audio"

    def test_may_be_any_contiguous_bytes(self) -> None:
        protocol = started()
        samples = array.array("H", [0x0101, 0x0202])
        for chunk in (b"b", bytearray(b"a"), memoryview(b"m"), memoryview(samples)):
            protocol.send_audio(chunk, 1.0)
        assert protocol.messages_to_send() == [b"b", b"a", b"m", b"\x01\x01\x02\x02"]
        assert protocol.stats.sent_audio_bytes == 7
        assert protocol.stats.sent_audio_chunks == 4

    @pytest.mark.parametrize("chunk", ["text", None, 7])
    def test_must_be_bytes(self, chunk: Any) -> None:
        protocol = started()
        with pytest.raises(TypeError, match="audio must be bytes"):
            protocol.send_audio(chunk, 1.0)
        with pytest.raises(SonioxValidationError, match="contiguous"):
            protocol.send_audio(memoryview(b"abc")[::2], 1.0)
        assert protocol.messages_to_send() == []

    def test_waiting_for_the_start_is_bounded(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG, max_pending_audio=10)
        protocol.connect(0.0)
        protocol.send_audio(b"123456", 0.0)
        with pytest.raises(SonioxStateError, match="6 bytes of audio wait"):
            protocol.send_audio(b"12345", 0.0)
        protocol.send_audio(b"1234", 0.0)
        with pytest.raises(SonioxStateError, match=r"max_pending_audio \(10\)"):
            protocol.send_audio(b"1", 0.0)
        protocol.start(1.0)
        assert protocol.messages_to_send() == [START_MESSAGE, b"123456", b"1234"]
        protocol.send_audio(b"more than ten bytes", 1.0)

    def test_is_dropped_and_counted_while_paused(self) -> None:
        protocol = started()
        protocol.pause(1.0)
        assert protocol.paused
        protocol.send_audio(b"dropped", 1.0)
        protocol.pause(2.0)
        protocol.resume(3.0)
        assert not protocol.paused
        protocol.send_audio(b"heard", 3.0)
        protocol.resume(4.0)
        assert protocol.messages_to_send() == [FINALIZE, b"heard"]
        assert protocol.stats.dropped_while_paused_bytes == 7
        assert protocol.stats.sent_audio_bytes == 5
        assert protocol.stats.sent_finalizes == 1

    def test_pausing_without_a_finalize_sends_nothing(self) -> None:
        protocol = started()
        protocol.pause(1.0, finalize=False)
        assert protocol.messages_to_send() == []

    @pytest.mark.parametrize("silence", [-1, 2.5])
    def test_a_bad_finalize_changes_nothing(self, silence: Any) -> None:
        protocol = started()
        with pytest.raises(SonioxValidationError):
            protocol.finalize(1.0, silence)
        assert protocol.messages_to_send() == []
        assert protocol.stats.sent_finalizes == 0
        assert kinds(protocol.receive_message(result("<fin>"), 2.0)) == [Result, Finalized]


class TestResults:
    def test_every_message_is_a_result_with_what_was_received(self) -> None:
        protocol = started()
        assert protocol.last_message is None
        raw = result("Hello", token(" wor", is_final=False), total_audio_proc_ms=900)
        (event,) = protocol.receive_message(raw, 1.0)
        assert isinstance(event, Result)
        assert event.raw is raw
        assert [item.text for item in event.message.tokens] == ["Hello", " wor"]
        assert protocol.last_message is event.message
        assert protocol.stats.received_messages == 1

    def test_markers_follow_their_message_in_order(self) -> None:
        protocol = started()
        protocol.finalize(1.0)
        raw = result(
            "a", token("<end>", end_ms=700), "b", "<fin>", "<end>", final_audio_proc_ms=900
        )
        events = protocol.receive_message(raw, 1.5)
        message = protocol.last_message
        assert message is not None
        assert events == [
            Result(message, raw),
            EndpointDetected(message, 1, 700),
            Finalized(message, 3, 0, 0.5),
            EndpointDetected(message, 4, 900),
        ]

    @pytest.mark.parametrize("marker", ["<end>", "<fin>"])
    @pytest.mark.parametrize("fields", [{"is_final": False}, {"is_final": None}])
    def test_only_a_final_marker_is_one(self, marker: str, fields: dict[str, Any]) -> None:
        events = started().receive_message(result(token(marker, **fields)), 1.0)
        assert kinds(events) == [Result]

    @pytest.mark.parametrize(
        ("marker", "kind"), [("<end>", EndpointDetected), ("<fin>", Finalized)]
    )
    @given(escaped=st.sets(st.integers(0, 4)), binary=st.booleans())
    def test_a_marker_is_found_however_its_characters_are_written(
        self, marker: str, kind: type, escaped: set[int], binary: bool
    ) -> None:
        written = "".join(
            f"\\u{ord(character):04x}" if index in escaped else character
            for index, character in enumerate(marker)
        )
        raw = f'{{"tokens":[{{"text":"{written}","is_final":true}}]}}'
        events = started().receive_message(raw.encode() if binary else raw, 1.0)
        assert kinds(events) == [Result, kind]

    def test_an_endpoint_may_have_no_position(self) -> None:
        events = started().receive_message(result("<end>"), 1.0)
        assert isinstance(events[1], EndpointDetected)
        assert events[1].position_ms is None

    @given(st.lists(st.sampled_from(["finalize", "answer"]), max_size=20))
    def test_finalizes_are_answered_in_order(self, steps: list[str]) -> None:
        protocol = started()
        outstanding: list[tuple[int, float]] = []
        for now, step in enumerate(steps):
            if step == "finalize":
                protocol.finalize(float(now))
                outstanding.append((protocol.stats.sent_finalizes - 1, float(now)))
                continue
            answer = protocol.receive_message(result("<fin>"), float(now))[1]
            assert isinstance(answer, Finalized)
            number, asked_at = outstanding.pop(0) if outstanding else (None, None)
            assert answer.finalize_index == number
            assert answer.round_trip == (None if asked_at is None else now - asked_at)


def test_the_configuration_is_the_one_given() -> None:
    assert started().config is CONFIG
