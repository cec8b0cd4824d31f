"""The message layer: what it says, and what it makes of the answers."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soniox_proto import (
    Closed,
    EndpointDetected,
    Finalized,
    Finished,
    RealtimeSTTProtocol,
    Result,
    SessionState,
    SonioxStateError,
    SonioxValidationError,
)
from tests.support.core.messages import (
    CONFIG,
    FINALIZE,
    FINISHED,
    KEEPALIVE,
    START_MESSAGE,
    error,
    result,
    token,
)
from tests.support.core.protocol import kinds, started


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
        with pytest.raises(SonioxStateError, match="6 bytes of audio are already waiting"):
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


END = (True, "<end>", None)
SPOKEN = st.one_of(
    st.just(END),
    st.tuples(
        st.booleans(),
        st.sampled_from(["none", "original", "translation"]),
        st.none() | st.integers(0, 9999),
    ),
)


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
            *(token("a", end_ms=500), token("<end>", end_ms=700), token("b", end_ms=800)),
            *("<fin>", "<end>", token("c", end_ms=1000)),
            final_audio_proc_ms=900,
        )
        events = protocol.receive_message(raw, 1.5)
        message = protocol.last_message
        assert message is not None
        assert events == [
            Result(message, raw),
            EndpointDetected(message, 1, 500),
            Finalized(message, 3, 0, 0.5),
            EndpointDetected(message, 4, 800),
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

    @pytest.mark.parametrize("marker", [{}, {"start_ms": 0, "end_ms": 0}, {"end_ms": 700}])
    @pytest.mark.parametrize(
        "before",
        [
            [],
            [result("timeless"), result(token("wor", is_final=False, end_ms=100))],
            [result(token("Hola", translation_status="translation", end_ms=100))],
            [result(token("<fin>", end_ms=100))],
        ],
    )
    def test_an_endpoint_may_have_no_position(
        self, before: list[str], marker: dict[str, Any]
    ) -> None:
        protocol = started()
        protocol.receive_messages(before, 1.0)
        events = protocol.receive_message(
            result(token("<end>", **marker), final_audio_proc_ms=720), 1.0
        )
        assert isinstance(events[1], EndpointDetected)
        assert events[1].position_ms is None

    @given(messages=st.lists(st.lists(SPOKEN, max_size=4), max_size=6), numbered=st.booleans())
    @example(
        messages=[[(True, "none", 1)], [(False, "none", 2), (True, "none", 3), END]], numbered=True
    )
    @example(
        messages=[[(False, "none", 1), (True, "none", 2), (False, "none", 3)], [END]], numbered=True
    )
    @example(messages=[[(False, "none", 1)], [(True, "none", 2)], [END]], numbered=True)
    def test_an_endpoint_is_where_speech_ended(
        self, messages: list[list[tuple[bool, str, int | None]]], numbered: bool
    ) -> None:
        """At the end of the last final original token before it, in whatever message."""
        protocol = started()
        speech_end: int | None = None
        final_ms = 0
        for spoken in messages:
            items: list[dict[str, object]] = []
            expected: list[int | None] = []
            for is_final, status, end_ms in spoken:
                if status == "<end>":
                    items.append(token("<end>", start_ms=0, end_ms=0))
                    expected.append(speech_end)
                    continue
                fields: dict[str, object] = {} if end_ms is None else {"end_ms": end_ms}
                fields |= {} if status == "none" else {"translation_status": status}
                items.append(token("a", is_final=is_final, **fields))
                if is_final and end_ms is not None and status != "translation":
                    speech_end = end_ms
            # What is final moves the position; what is not leaves it where it is.
            final_ms += any(is_final for is_final, _, _ in spoken)
            position = {"final_audio_proc_ms": final_ms} if numbered else {}
            events = protocol.receive_message(result(*items, **position), 1.0)
            positions = [e.position_ms for e in events if isinstance(e, EndpointDetected)]
            assert positions == expected

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


NOT_A_MESSAGE = "hello"
LIMIT = error(429, "rate_limited", "Slow down.")

ANSWERS = st.sampled_from(
    [
        result("a"),
        result(),
        result("<end>", "<fin>", "<fin>"),
        result("b").encode(),
        result(token("c", emotion="joy"), queue=1),
        FINISHED,
        LIMIT,
        NOT_A_MESSAGE,
        b"\xff",
    ]
)


def all_of(protocol: RealtimeSTTProtocol) -> object:
    """Return all there is to see of a session."""
    return (
        protocol.state,
        protocol.outcome,
        repr(protocol.error),
        protocol.close_code,
        protocol.last_message,
        protocol.stats,
        protocol.next_timeout(),
        protocol.messages_to_send(),
    )


def test_a_held_finalize_owes_nothing_to_a_rest_before_the_start() -> None:
    protocol = RealtimeSTTProtocol(CONFIG, finalize_timeout=5.0, keepalive_interval=None)
    protocol.connect(0.0)
    protocol.finalize(0.0)
    protocol.pause_reading(1.0)
    protocol.start(3.0)
    protocol.resume_reading(3.0)
    assert protocol.next_timeout() == 8.0
    protocol.finalize(3.0)
    assert protocol.next_timeout() == 8.0


class TestSeveralMessages:
    @pytest.mark.parametrize("before", ["", "finalize", "abort", "finish", "close"])
    @given(answers=st.lists(ANSWERS, max_size=6), cut=st.integers(0, 6))
    def test_are_taken_as_if_one_came_after_the_other(
        self, before: str, answers: list[str | bytes], cut: int
    ) -> None:
        together, single = started(finalize_timeout=30.0), started(finalize_timeout=30.0)
        for protocol in (together, single):
            if before:
                getattr(protocol, before)(1.0)
        events = together.receive_messages(answers[:cut], 2.0)
        events += together.receive_messages(iter(answers[cut:]), 2.0)
        expected = [event for raw in answers for event in single.receive_message(raw, 2.0)]
        if not answers:
            expected += single.receive_messages([], 2.0)
        assert list(map(repr, events)) == list(map(repr, expected))
        assert all_of(together) == all_of(single)

    def test_none_at_all(self) -> None:
        protocol = started()
        assert protocol.receive_messages([], 1.0) == []
        protocol.abort(1.0)
        assert kinds(protocol.receive_messages([], 1.0)) == [Closed]

    def test_behind_one_that_is_none_are_not_read(self) -> None:
        protocol = started()
        events = protocol.receive_messages([result("a"), NOT_A_MESSAGE, result("b")], 1.0)
        assert kinds(events) == [Result, Closed]
        assert protocol.stats.received_messages == 1
        assert protocol.close_code == 1007

    def test_behind_the_finished_response_are_read_on(self) -> None:
        events = started().receive_messages([FINISHED, result("a"), LIMIT], 1.0)
        assert kinds(events) == [Result, Finished, Result, Result], "the first end decides"

    def test_before_the_start_there_can_be_none(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        for reason in ("not connected", "not open yet"):
            with pytest.raises(SonioxStateError, match=reason):
                protocol.receive_messages([], 0.0)
            with pytest.raises(SonioxStateError, match=reason):
                protocol.receive_message(result("a"), 0.0)
            if protocol.state is SessionState.IDLE:
                protocol.connect(0.0)


class TestTakingAudio:
    def test_gives_what_can_be_sent_at_once(self) -> None:
        protocol = started()
        assert protocol.take_audio(b"one", 1.0) == b"one"
        assert protocol.take_audio(bytearray(b"two"), 2.0) == b"two"
        assert protocol.messages_to_send() == []
        assert (protocol.stats.sent_audio_bytes, protocol.stats.sent_audio_chunks) == (6, 2)
        assert protocol.next_timeout() == 7.0, "audio puts the keepalive off"

    def test_gives_nothing_where_nothing_is_sent(self) -> None:
        protocol = started()
        assert protocol.take_audio(b"", 1.0) is None
        protocol.pause(1.0, finalize=False)
        assert protocol.take_audio(b"dropped", 1.0) is None
        assert protocol.stats.dropped_while_paused_bytes == 7
        assert protocol.messages_to_send() == []

    def test_gives_nothing_before_the_start_but_holds_it(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        protocol.connect(0.0)
        assert protocol.take_audio(b"held", 1.0) is None
        protocol.start(2.0)
        assert protocol.messages_to_send() == [START_MESSAGE, b"held"]
        assert protocol.stats.sent_audio_chunks == 1


def test_audio_with_a_clock_that_runs_backwards_does_no_harm() -> None:
    protocol = started()
    protocol.send_audio(b"one", 3.0)
    protocol.send_audio(b"two", 1.0)
    assert protocol.next_timeout() == 8.0


def test_the_configuration_is_the_one_given() -> None:
    assert started().config is CONFIG
