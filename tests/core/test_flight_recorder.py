"""The last things that happened, kept cheaply and without secrets."""

from __future__ import annotations

import pytest

from soniox_proto import (
    Closed,
    FlightRecorder,
    Outcome,
    RealtimeSTTProtocol,
    RealtimeSTTStream,
    SessionState,
    SonioxConnectionError,
    SonioxServerError,
    SonioxStateError,
)
from soniox_proto.errors import fresh
from soniox_proto.testing import RecordedStream
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, error, result, token


def notes(protocol: RealtimeSTTProtocol) -> list[tuple[str, object]]:
    return [(note.what, note.detail) for note in protocol.flight_recorder.record()]


def opened() -> RealtimeSTTProtocol:
    protocol = RealtimeSTTProtocol(CONFIG, hidden_key=API_KEY, keepalive_interval=5.0)
    protocol.connect(1.0)
    protocol.start(2.0)
    return protocol


def test_the_life_of_a_session() -> None:
    protocol = opened()
    protocol.send_audio(b"12345", 2.5)
    protocol.handle_timeout(7.5)
    protocol.finalize(8.0, 300)
    protocol.receive_message(result(token("secret words", end_ms=700), "<end>", "<fin>"), 8.25)
    protocol.pause(9.0, finalize=False)
    protocol.pause(9.0)
    protocol.resume(10.0)
    protocol.resume(10.0)
    protocol.finish(11.0)
    protocol.receive_message(FINISHED, 12.0)
    protocol.receive_close(1000, "", 12.0)
    record = protocol.flight_recorder.record()
    assert str(record).splitlines() == [
        "  -11.000 s  state 'connecting', after 0 bytes of audio and 0 messages",
        "  -10.000 s  state 'open', after 0 bytes of audio and 0 messages",
        "   -4.500 s  keepalive, after 5 bytes of audio and 0 messages",
        "   -4.000 s  finalize '300', after 5 bytes of audio and 0 messages",
        "   -3.750 s  endpoint '700', after 5 bytes of audio and 1 messages",
        "   -3.750 s  finalized, after 5 bytes of audio and 1 messages",
        "   -3.000 s  pause, after 5 bytes of audio and 1 messages",
        "   -2.000 s  resume, after 5 bytes of audio and 1 messages",
        "   -1.000 s  end of audio, after 5 bytes of audio and 1 messages",
        "   -1.000 s  state 'finishing', after 5 bytes of audio and 1 messages",
        "   +0.000 s  finished response, after 5 bytes of audio and 2 messages",
        "   +0.000 s  state 'closing', after 5 bytes of audio and 2 messages",
        "   +0.000 s  close frame '1000', after 5 bytes of audio and 2 messages",
        "   +0.000 s  state 'closed', after 5 bytes of audio and 2 messages",
        "   +0.000 s  end 'finished', after 5 bytes of audio and 2 messages",
    ]
    assert repr(record) == "<FlightRecord of 15 notes>"


def test_an_error_of_the_service_knows_what_happened_before() -> None:
    protocol = opened()
    protocol.send_audio(b"audio", 3.0)
    events = protocol.receive_message(
        error(401, f"bad {API_KEY}" + "x" * 500, f"your key {API_KEY} is wrong"), 4.0
    )
    events += protocol.receive_close(1000, f"bye {API_KEY}", 4.0)
    (closed,) = (event for event in events if isinstance(event, Closed))
    assert isinstance(closed.error, SonioxServerError)
    record = closed.error.flight_record
    assert record is not None
    assert [note.what for note in record][-5:] == [
        *("error message", "state", "close frame", "state", "end")
    ]
    assert API_KEY not in str(record)
    assert max(map(len, str(record).splitlines())) < 400
    assert fresh(closed.error).flight_record is record


def test_a_lost_connection_and_what_is_refused_after_it() -> None:
    protocol = opened()
    lost = SonioxConnectionError("lost")
    protocol.fail(lost, 3.0)
    assert notes(protocol)[2][:2] == ("failure", "SonioxConnectionError")
    assert notes(protocol)[-1] == ("end", Outcome.LOST)
    assert lost.flight_record == protocol.flight_recorder.record()
    with pytest.raises(SonioxStateError) as caught:
        protocol.send_audio(b"audio", 4.0)
    assert caught.value.flight_record == lost.flight_record


def test_closing_and_aborting() -> None:
    protocol = opened()
    protocol.close(3.0)
    protocol.abort(4.0)
    protocol.close(5.0)
    protocol.abort(5.0)
    assert [what for what, _ in notes(protocol)[2:]] == [
        *("close", "state", "abort", "state", "end")
    ]


def test_an_error_from_elsewhere_has_no_record() -> None:
    assert SonioxConnectionError("x").flight_record is None


def test_memory_is_bounded() -> None:
    recorder = FlightRecorder()
    for number in range(1000):
        recorder.note(float(number), "note", number, 0, 0)
        assert len(recorder._notes) <= 128
    assert recorder.count == 1000
    assert [note.detail for note in recorder.record()] == list(range(936, 1000))
    assert [note.detail for note in recorder.record(2)] == [998, 999]
    assert recorder.record(0) == ()
    assert str(recorder.record(0)) == ""


def test_every_machine_has_one() -> None:
    stream = RealtimeSTTStream("ws://127.0.0.1/", CONFIG)
    recorded = RecordedStream(stream, url="ws://127.0.0.1/")
    recorded.connect(1.0)
    assert recorded.flight_recorder is stream.flight_recorder
    (note,) = stream.flight_recorder.record()
    assert (note.at, note.what, note.detail) == (1.0, "state", SessionState.CONNECTING)
