"""The clock and the messages of the test kit."""

from __future__ import annotations

import pytest

from soniox_proto import RealtimeEvent, SonioxServerError, SonioxValidationError, Token
from soniox_proto.retrying import SERVER_ERRORS as ADVICE
from soniox_proto.testing import VirtualClock, endpoint, error, finished, result, token
from soniox_proto.testing.factories import SERVER_ERRORS, timed


def test_a_clock_moves_only_when_it_is_told_to() -> None:
    clock = VirtualClock(10.0)
    assert clock() == clock.now == 10.0
    assert clock.advance(2.5) == 12.5
    assert clock.advance_to(20.0) == clock.now == 20.0
    assert clock.advance_to(5.0) == 20.0, "never backwards"
    with pytest.raises(SonioxValidationError, match="time cannot go back by 1"):
        clock.advance(-1.0)
    assert repr(clock) == "<VirtualClock at 20 s>"


def test_tokens() -> None:
    plain = token("hello")
    assert (plain.text, plain.is_final, plain.start_ms, plain.end_ms) == ("hello", True, None, None)
    full = token("hel", final=False, start_ms=1, end_ms=2, speaker="1", language="en", novel=3)
    assert (full.is_final, full.start_ms, full.end_ms) == (False, 1, 2)
    assert (full.speaker, full.language, full.model_extra) == ("1", "en", {"novel": 3})
    assert token("hola", translation=True).translation_status == "translation"
    assert (endpoint().text, endpoint().is_final, endpoint().end_ms) == ("<end>", True, 0)


def test_a_result_has_the_times_of_speech() -> None:
    message = result("Good", token(" day", final=False), token("tag", translation=True), endpoint())
    times = [(item.start_ms, item.end_ms) for item in message.tokens]
    assert times == [(0, 240), (240, 480), (None, None), (0, 0)]
    assert (message.final_audio_proc_ms, message.total_audio_proc_ms) == (240, 480)


def test_a_result_keeps_what_it_is_given() -> None:
    message = result(token("a", start_ms=500, end_ms=700), "b", total_audio_proc_ms=900, novel=1)
    assert [(item.start_ms, item.end_ms) for item in message.tokens] == [(500, 700), (700, 760)]
    assert (message.final_audio_proc_ms, message.total_audio_proc_ms) == (760, 900)
    assert message.model_extra == {"novel": 1}
    assert result("a", start_ms=1000).tokens[0].start_ms == 1000
    assert result().total_audio_proc_ms == 0
    bare = result(token("a"), endpoint(), start_ms=None, finished=False)
    assert bare == RealtimeEvent(tokens=[token("a"), endpoint()], finished=False)


def test_tokens_are_said_faster_where_there_is_less_time() -> None:
    placed = timed([Token(text="ab"), Token(text="cd")], 100, 140)
    assert [(item.start_ms, item.end_ms) for item in placed] == [(100, 120), (120, 140)]
    late = timed([Token(text="ab")], 200, 100)
    assert (late[0].start_ms, late[0].end_ms) == (200, 200)


def test_a_finished_response() -> None:
    message = finished(1_500)
    assert (message.finished, message.final_audio_proc_ms, message.total_audio_proc_ms) == (
        True,
        1_500,
        1_500,
    )


@pytest.mark.parametrize("code", SERVER_ERRORS)
def test_errors_have_the_usual_type(code: int) -> None:
    message = error(code)
    assert (message.error_code, message.error_type) in ADVICE
    assert message.error_message
    assert message.request_id
    assert RealtimeEvent.validate_event(message.model_dump_json()) == message


def test_errors_may_be_of_another_kind() -> None:
    message = error(403, "temp_api_key_session_expired", "Over.", request_id="r", more_info="url")
    raised = SonioxServerError.from_message(
        error_code=message.error_code,
        error_type=message.error_type,
        error_message=message.error_message,
        request_id=message.request_id,
        more_info=message.more_info,
    )
    assert raised.retryable
    assert (message.error_message, message.request_id, message.more_info) == ("Over.", "r", "url")
    assert error(599).error_type is None
