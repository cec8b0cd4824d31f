"""`RecoveringSTTStream` call by call: what the user may do when, and how sessions end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from soniox_proto import (
    Closed,
    EndpointDetected,
    Finalized,
    Finished,
    Opened,
    Outcome,
    RealtimeEvent,
    Reconnected,
    Reconnecting,
    ReconnectPolicy,
    RecoveringSTTStream,
    Result,
    ServerError,
    SessionState,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxValidationError,
)
from tests.core.recovery.test_no_word_is_lost import URL, Conversation
from tests.support.core import frames
from tests.support.core.model_service import AUDIO_CONFIG, ModelService, Word, audio

WORDS = [Word(" one", 100, 400), Word(" two", 500, 800), Word(" three", 900, 1300)]


def conversation(drops: list[int] | None = None, **fields: Any) -> Conversation:
    policy = ReconnectPolicy(**{"jitter": False, "initial_delay": 1.0, **fields})
    return Conversation(WORDS, policy, drops or [])


def lost(retryable: bool = True) -> SonioxConnectionError:
    error = SonioxConnectionError("gone")
    error.retryable = retryable
    return error


def cut(talk: Conversation, error: SonioxRealtimeError | None = None) -> None:
    """Lose the present connection."""
    ((link, _),) = talk.links
    talk.events += link.failed(error or lost(), talk.now)
    talk.exchange()


def kinds(talk: Conversation) -> list[type]:
    return [type(event) for event in talk.events if not isinstance(event, Result)]


class TestAttempts:
    def test_the_policy_says_when_and_how_often(self) -> None:
        talk = conversation(max_attempts=2)
        cut(talk)
        assert talk.stream.state is SessionState.OPEN
        assert talk.stream.next_timeout() == 1.0
        talk.wait(999)
        assert talk.links == []
        talk.wait(1)
        cut(talk)
        assert talk.stream.next_timeout() == 3.0
        talk.wait(2000)
        error = lost()
        cut(talk, error)
        assert kinds(talk) == [Opened, *[Reconnecting, Reconnected] * 2, Closed]
        assert talk.stream.closed
        assert (talk.stream.outcome, talk.stream.error) == (Outcome.LOST, error)

    def test_a_result_refills_them(self) -> None:
        talk = conversation(max_attempts=1)
        for _ in range(3):
            talk.send(100)
            talk.recognize(0)
            cut(talk)
            talk.wait(1000)
        attempts = [event.attempt for event in talk.events if isinstance(event, Reconnecting)]
        assert attempts == [1, 1, 1]

    def test_what_is_not_worth_it_ends_the_session(self) -> None:
        talk = conversation()
        cut(talk, lost(retryable=False))
        assert kinds(talk) == [Opened, Closed]
        assert talk.stream.state is SessionState.CLOSED

    def test_a_refused_upgrade(self) -> None:
        policy = ReconnectPolicy(max_attempts=1, jitter=False)
        stream = RecoveringSTTStream(URL, AUDIO_CONFIG, reconnect=policy)
        stream.connect(0.0)
        events = []
        for now in (0.0, 1.0):
            (link,) = stream.links_to_open()
            assert stream.endpoint == link.endpoint
            assert link.open_by == now + 10.0
            answer = b"HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n"
            assert link.data_to_send()
            events += link.receive_data(answer, now)
            stream.handle_timeout(1.0)
        assert [type(event) for event in events] == [Reconnecting, Closed]
        assert stream.outcome is Outcome.REJECTED
        assert isinstance(stream.error, SonioxHandshakeError)

    def test_should_retry_may_be_broken(self) -> None:
        def should_retry(error: SonioxRealtimeError, attempt: int) -> bool:
            raise LookupError("broken")

        talk = conversation(should_retry=should_retry)
        cut(talk)
        assert isinstance(talk.stream.error, SonioxConnectionError)
        assert isinstance(talk.stream.error.__context__, LookupError)


class TestNumbersOfConnections:
    def test_tokens_and_messages_say_which_connection_they_came_on(self) -> None:
        talk = conversation()
        for _ in range(3):
            talk.send(450)
            talk.recognize(400)
            talk.stream.finalize(talk.now)
            talk.exchange()
            talk.answer()
            cut(talk)
            talk.wait(1000)
        ((_, service),) = talk.links
        service.error(401, "unauthenticated", "no")
        talk.exchange()
        results = [event.message for event in talk.events if isinstance(event, Result)]
        assert {message.link for message in results} == {1, 2, 3, 4}
        assert results[-1].link == 4
        for message in results:
            assert all(token.link == message.link for token in message.tokens)
        said = {token.link for token in talk.tokens}
        assert said == {1, 2, 3}
        assert {token.is_final for message in results for token in message.tokens} == {True, False}

    def test_without_a_policy_there_is_one_connection(self) -> None:
        event = RealtimeEvent.validate_event('{"tokens": [{"text": "a"}], "new": 1}')
        assert (event.link, event.tokens[0].link) == (1, 1)
        assert "link" not in event.model_dump()


class TestErrorsOfTheService:
    def test_one_that_passes_is_not_given_out(self) -> None:
        talk = conversation()
        ((_, service),) = talk.links
        service.error(503, "service_unavailable", "again")
        talk.exchange()
        assert not any(isinstance(event, Result) for event in talk.events)
        (reconnecting,) = [event for event in talk.events if isinstance(event, Reconnecting)]
        assert reconnecting.delay == 0.0
        assert getattr(reconnecting.cause, "error_code", None) == 503

    def test_one_that_does_not_ends_the_session(self) -> None:
        talk = conversation()
        ((_, service),) = talk.links
        service.error(401, "unauthenticated", "no")
        talk.exchange()
        assert [type(event) for event in talk.events] == [Opened, Result, ServerError, Closed]
        assert talk.stream.outcome is Outcome.SERVER_ERROR
        assert talk.stream.last_message is not None
        assert talk.stream.last_message.error_code == 401

    def test_a_clean_close_without_a_finished_response(self) -> None:
        talk = conversation()
        ((_, service),) = talk.links
        service.server.close(0.0)
        talk.exchange()
        (reconnecting,) = [event for event in talk.events if isinstance(event, Reconnecting)]
        assert "before the transcript was complete" in str(reconnecting.cause)


class TestTheEnd:
    def test_closing_stops_what_is_still_to_be_sent_again(self) -> None:
        talk = conversation(replay_burst_seconds=0.1)
        talk.send(1300)
        cut(talk)
        talk.wait(1000)
        ((_, service),) = talk.links
        heard = len(service.heard)
        assert 0 < heard < 1300
        talk.stream.close(talk.now)
        talk.wait(1000)
        assert len(service.heard) == heard

    def test_nothing_is_left_to_send_again(self) -> None:
        talk = conversation()
        talk.send(1400)
        talk.recognize(0)
        talk.stream.finish(talk.now)
        talk.exchange()
        cut(talk)
        assert kinds(talk) == [Opened, Finished, Closed]
        assert talk.stream.outcome is Outcome.FINISHED
        assert talk.stream.error is None
        assert talk.stream.links_to_open() == ()
        assert talk.stream.next_timeout() is None

    def test_the_audio_ends_while_no_link_is_there(self) -> None:
        talk = conversation()
        talk.send(1400)
        talk.recognize(0)
        cut(talk)
        talk.stream.finish(talk.now)
        assert talk.stream.next_timeout() == talk.now
        talk.wait(0)
        assert kinds(talk) == [Opened, Reconnecting, Finished, Closed]

    @pytest.mark.parametrize(
        ("end", "outcome"),
        [
            (lambda talk: talk.stream.close(talk.now), Outcome.CLOSED_LOCALLY),
            (lambda talk: talk.stream.abort(talk.now), Outcome.ABORTED),
            (lambda talk: talk.events.extend(talk.stream.fail(lost(), talk.now)), Outcome.LOST),
        ],
    )
    @pytest.mark.parametrize("when", ["connecting", "open", "missing", "opening again"])
    def test_it_ends_at_once_whatever_the_link(
        self, end: Callable[[Conversation], None], outcome: Outcome, when: str
    ) -> None:
        talk = conversation([0] if when == "connecting" else [])
        if when == "connecting":
            talk = conversation()
            talk.stream = RecoveringSTTStream(URL, AUDIO_CONFIG, reconnect=talk.policy)
            talk.stream.connect(talk.now)
            talk.events.clear()
        elif when != "open":
            cut(talk)
        if when == "opening again":
            talk.stream.handle_timeout(1.0)
            talk.now = 1.0
        end(talk)
        end(talk)
        talk.wait(6000)
        assert talk.stream.closed
        assert talk.stream.state is SessionState.CLOSED
        assert talk.stream.outcome is outcome
        assert sum(isinstance(event, Closed) for event in talk.events) == 1
        assert talk.stream.next_timeout() is None
        assert talk.stream.links_to_open() in ((), [])

    def test_closing_with_a_link_takes_the_close_handshake(self) -> None:
        talk = conversation()
        talk.stream.close(talk.now)
        assert talk.stream.state is SessionState.CLOSING
        assert talk.stream.outcome in {None, Outcome.CLOSED_LOCALLY}
        talk.exchange()
        assert talk.stream.closed

    def test_an_error_that_comes_while_closing_is_given_out(self) -> None:
        talk = conversation()
        ((link, service),) = talk.links
        service.error(503, "service_unavailable", "again")
        data, _ = service.take_output()
        talk.stream.close(talk.now)
        talk.events += link.receive_data(data, talk.now)
        assert [type(event) for event in talk.events] == [Opened, Result, ServerError, Closed]
        assert talk.stream.outcome is Outcome.SERVER_ERROR

    def test_before_it_is_connected(self) -> None:
        stream = RecoveringSTTStream(URL, AUDIO_CONFIG, reconnect=ReconnectPolicy())
        assert stream.state is SessionState.IDLE
        assert stream.fail(lost(), 0.0) == []
        with pytest.raises(SonioxStateError, match="not connected"):
            stream.send_audio(b"1234", 0.0)
        stream.close(0.0)
        assert (stream.closed, stream.outcome, stream.error) == (True, None, None)


class TestCalls:
    def test_what_the_user_may_not_do(self) -> None:
        talk = conversation()
        with pytest.raises(SonioxStateError, match="already open"):
            talk.stream.connect(0.0)
        talk.stream.finish(0.0)
        talk.stream.finish(0.0)
        for call in (talk.stream.finalize, talk.stream.keep_alive, talk.stream.pause):
            with pytest.raises(SonioxStateError, match="end-of-audio was already sent"):
                call(0.0)
        cut(talk, lost(retryable=False))
        with pytest.raises(SonioxStateError, match="the session is closed: gone"):
            talk.stream.resume(0.0)

    def test_an_argument_that_cannot_be_used_changes_nothing(self) -> None:
        talk = conversation()
        with pytest.raises(SonioxValidationError):
            talk.stream.finalize(0.0, -1)
        with pytest.raises(TypeError):
            talk.stream.send_audio("audio", 0.0)  # type: ignore[arg-type]
        assert talk.stream.stats.sent_finalizes == 0
        assert talk.stream.stats.sent_audio_bytes == 0

    def test_audio_is_dropped_while_paused(self) -> None:
        talk = conversation()
        talk.stream.send_audio(b"", talk.now)
        talk.send(400)
        talk.stream.pause(talk.now)
        talk.stream.pause(talk.now)
        assert talk.stream.paused
        talk.stream.send_audio(audio(400, 410), talk.now)
        talk.stream.resume(talk.now)
        assert talk.stream.stats.dropped_while_paused_bytes == 40
        assert talk.stream.stats.sent_finalizes == 1
        talk.stream.pause(talk.now, finalize=False)
        assert talk.stream.stats.sent_finalizes == 1

    def test_keepalives_go_to_a_link_if_there_is_one(self) -> None:
        talk = conversation()
        talk.stream.keep_alive(talk.now)
        talk.wait(0)
        cut(talk)
        talk.stream.keep_alive(talk.now)
        assert talk.stream.stats.sent_keepalives == 1
        assert talk.stream.config.sample_rate == 1000

    def test_reading_that_rests_rests_on_a_new_link_too(self) -> None:
        talk = conversation()
        talk.stream.pause_reading(talk.now)
        cut(talk)
        talk.wait(1000)
        talk.stream.finalize(talk.now)
        talk.stream.resume_reading(talk.now)
        talk.send(100)
        talk.answer()
        assert any(isinstance(event, Finalized) for event in talk.events)

    def test_no_link_is_made_while_nobody_reads(self) -> None:
        talk = conversation()
        cut(talk)
        talk.stream.handle_timeout(1.0)
        (link,) = talk.stream.links_to_open()
        talk.stream.pause_reading(1.5)
        assert link.closed, "the answer to its upgrade would not be read"
        assert talk.stream.next_timeout() is None
        assert talk.stream.handle_timeout(100.0) == []
        assert talk.stream.links_to_open() == ()
        talk.stream.resume_reading(200.0)
        assert talk.stream.next_timeout() == 1.5
        talk.now = 200.0
        talk.wait(0)
        assert len(talk.links) == 1
        assert sum(isinstance(event, Reconnecting) for event in talk.events) == 1

    def test_nothing_waits_that_is_dropped_or_refused(self) -> None:
        talk = conversation(max_replay_seconds=1.0, lead_in_ms=0)
        cut(talk)
        talk.stream.send_audio(audio(0, 1000), talk.now)
        assert talk.stream.holds_too_much
        talk.stream.pause(talk.now)
        assert not talk.stream.holds_too_much


class TestSendingAgain:
    def test_held_audio_is_sent_no_faster_than_the_policy_allows(self) -> None:
        talk = conversation(replay_burst_seconds=2.0, replay_speed=4.0)
        cut(talk)
        talk.stream.send_audio(audio(0, 8000), talk.now)
        talk.stream.finish(talk.now)
        talk.wait(1000)
        ((_, service),) = talk.links
        assert len(service.heard) == 2000
        talk.wait(500)
        assert 3500 <= len(service.heard) <= 4000
        assert not service.ended
        talk.wait(1100)
        assert len(service.heard) == 8000
        assert service.ended

    def test_audio_that_comes_meanwhile_waits_its_turn(self) -> None:
        talk = conversation(replay_burst_seconds=1.0, replay_speed=2.0)
        cut(talk)
        talk.stream.send_audio(audio(0, 3000), talk.now)
        talk.wait(1000)
        talk.stream.send_audio(audio(3000, 3100), talk.now)
        talk.wait(5000)
        ((_, service),) = talk.links
        assert service.heard == list(range(3100))

    def test_what_could_not_be_kept_is_lost_and_said(self) -> None:
        talk = conversation(max_replay_seconds=1.0, lead_in_ms=0)
        cut(talk)
        assert not talk.stream.holds_too_much
        for begin in range(0, 3000, 100):
            talk.stream.send_audio(audio(begin, begin + 100), talk.now)
        assert talk.stream.holds_too_much
        talk.wait(1000)
        assert not talk.stream.holds_too_much
        (reconnected,) = [event for event in talk.events if isinstance(event, Reconnected)]
        assert (reconnected.lost_ms, reconnected.replayed_ms) == (2000, 0)
        assert talk.stream.stats.lost_audio_ms == 2000
        assert talk.links[0][1].heard == list(range(2000, 3000))

    def test_what_is_lost_is_counted_once(self) -> None:
        talk = conversation(max_replay_seconds=1.0, lead_in_ms=0)
        for _ in range(2):
            cut(talk)
            if not talk.sent_ms:
                for begin in range(0, 3000, 100):
                    talk.stream.send_audio(audio(begin, begin + 100), talk.now)
                talk.sent_ms = 3000
            talk.wait(2000)
        lost = [event.lost_ms for event in talk.events if isinstance(event, Reconnected)]
        assert lost == [2000, 0]
        assert talk.stream.stats.lost_audio_ms == 2000

    def test_what_is_lost_before_the_first_link_opens(self) -> None:
        policy = ReconnectPolicy(max_replay_seconds=1.0, lead_in_ms=0)
        stream = RecoveringSTTStream(URL, AUDIO_CONFIG, reconnect=policy)
        stream.connect(0.0)
        (link,) = stream.links_to_open()
        for begin in range(0, 3000, 100):
            stream.send_audio(audio(begin, begin + 100), 0.0)
        link.upgraded(0.0)
        assert stream.stats.lost_audio_ms == 2000

    def test_positions_beyond_the_audio_are_not_believed(self) -> None:
        talk = conversation()
        talk.send(500)
        ((_, service),) = talk.links
        for position in (10**9, 10**400):
            service.server.send_result(
                {
                    "tokens": [{"text": " x", "is_final": True, "start_ms": 0, "end_ms": position}],
                    "final_audio_proc_ms": position,
                    "total_audio_proc_ms": position,
                },
                talk.now,
            )
            talk.exchange()
            assert talk.stream.last_message is not None
            assert talk.stream.last_message.final_audio_proc_ms == 500

    def test_audio_that_is_lost_while_it_is_sent(self) -> None:
        talk = conversation(
            max_replay_seconds=2.0, lead_in_ms=0, replay_burst_seconds=0.5, replay_speed=1.1
        )
        cut(talk)
        talk.stream.send_audio(audio(0, 2000), talk.now)
        talk.wait(1000)
        talk.stream.send_audio(audio(2000, 5000), talk.now)
        talk.wait(6000)
        ((_, service),) = talk.links
        assert service.heard == [*range(500), *range(3000, 5000)]
        assert talk.stream.stats.lost_audio_ms == 2500
        service.words = [Word(" late", 3500, 3900)]
        talk.recognize(0)
        tokens = [token for token in talk.tokens if token.text == " late"]
        assert [(token.start_ms, token.end_ms) for token in tokens] == [(3500, 3900)]

    def test_a_finalize_is_asked_again_where_it_stood(self) -> None:
        talk = conversation()
        talk.send(450)
        talk.stream.finalize(talk.now, 30)
        talk.send(450)
        cut(talk)
        talk.wait(1000)
        ((_, service),) = talk.links
        assert service.finalizes == [450]
        talk.answer()
        (finalized,) = [event for event in talk.events if isinstance(event, Finalized)]
        assert finalized.finalize_index == 0
        assert finalized.round_trip == pytest.approx(1.45)

    def test_finalizes_without_audio_between_them_go_out_as_one(self) -> None:
        talk = conversation()
        talk.send(450)
        cut(talk)
        for _ in range(30):
            talk.stream.finalize(talk.now)
        talk.stream.send_audio(audio(450, 900), talk.now)
        talk.stream.finalize(talk.now, 10)
        talk.stream.finalize(talk.now, 20)
        talk.wait(1000)
        ((_, service),) = talk.links
        assert service.finalizes == [450, 900]
        for latest in (29, 31):
            talk.answer()
            finalized = [event for event in talk.events if isinstance(event, Finalized)]
            assert finalized[-1].finalize_index == latest
            assert talk.stream.stats.answered_finalizes == latest + 1
        assert len(finalized) == 2

    def test_finalizes_of_a_container_go_out_as_the_first_time(self) -> None:
        policy = ReconnectPolicy(jitter=False, initial_delay=1.0)
        talk = Conversation(WORDS, policy, [], audio_format="mp3")
        talk.send(450)
        talk.stream.finalize(talk.now)
        talk.stream.finalize(talk.now)
        talk.exchange()
        for _ in range(2):
            cut(talk)
            talk.wait(2000)
            assert talk.links[0][1].finalizes == [450, 450]

    def test_an_answer_that_never_comes_does_not_shift_the_next(self) -> None:
        talk = conversation()
        ((_, service),) = talk.links
        for _ in range(2):
            talk.send(2000)
            talk.stream.finalize(talk.now)
        talk.exchange()
        del service.finalizes[0]
        talk.answer()
        (finalized,) = [event for event in talk.events if isinstance(event, Finalized)]
        assert finalized.finalize_index == 1
        assert talk.stream.stats.answered_finalizes == 2

    def test_an_answer_that_nobody_asked_for(self) -> None:
        talk = conversation()
        ((link, service),) = talk.links
        service.finalizes.append(0)
        talk.answer()
        (finalized,) = [event for event in talk.events if isinstance(event, Finalized)]
        assert (finalized.finalize_index, finalized.round_trip) == (None, None)
        assert link.buffers_to_send() == []

    def test_an_endpoint_is_reported_on_the_clock_of_the_audio(self) -> None:
        talk = conversation()
        talk.send(450)
        talk.recognize(0)
        cut(talk)
        talk.wait(1000)
        talk.send(500)
        ((_, service),) = talk.links
        service.server.send_result(
            {"tokens": [*service._tokens(0, 900, final=True), {"text": "<end>", "is_final": True}]},
            talk.now,
        )
        talk.exchange()
        (endpoint,) = [event for event in talk.events if isinstance(event, EndpointDetected)]
        assert endpoint.position_ms == 800
        assert endpoint.message.tokens[endpoint.token_index].text == "<end>"


def test_a_link_that_somebody_else_has_upgraded() -> None:
    stream = RecoveringSTTStream(URL, AUDIO_CONFIG, reconnect=ReconnectPolicy(), api_key="key")
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    assert ("Authorization", "Bearer key") in link.upgrade_request.headers()
    assert [type(event) for event in link.upgraded(0.0)] == [Opened]
    assert stream.state is SessionState.OPEN


def test_counters_add_up_over_connections() -> None:
    talk = conversation()
    talk.send(450)
    talk.recognize(0)
    cut(talk)
    talk.wait(1000)
    talk.send(100)
    talk.recognize(0)
    stats = talk.stream.stats
    assert stats.received_messages == 2
    assert (stats.reconnects, stats.sent_audio_chunks) == (1, 2)
    assert stats.replayed_audio_ms == 450


def test_latencies_and_open_time_add_up_over_connections() -> None:
    talk = conversation()
    stats = talk.stream.stats
    stats.measurements = []
    talk.send(450)
    talk.recognize(0)
    talk.wait(5_000)
    cut(talk)
    open_before = stats.open_time
    assert open_before == pytest.approx(5.45)
    talk.wait(3000)
    talk.stream.finalize(talk.now)
    talk.exchange()
    talk.wait(500)
    talk.answer()
    assert (stats.finalize_latency.count, stats.answered_finalizes) == (1, 1)
    assert stats.finalize_latency.last == pytest.approx(0.5)
    assert stats.time_to_first_token == pytest.approx(0.45)
    assert (stats.processed_audio_ms, stats.lag_ms) == (450, 0)
    stats.update(talk.now)
    assert stats.open_time == pytest.approx(open_before + 2.5)
    talk.stream.abort(talk.now)
    talk.stream.handle_timeout(talk.now)
    stats.update(talk.now + 60)
    assert stats.open_time == pytest.approx(open_before + 2.5)
    assert [measured.name for measured in stats.measurements] == [
        "time_to_first_token",
        "finalize_latency",
    ]


def test_the_flight_record_spans_connections() -> None:
    talk = conversation(max_attempts=1)
    talk.send(100)
    cut(talk)
    talk.wait(1000)
    error = lost()
    cut(talk, error)
    record = talk.stream.flight_recorder.record()
    assert error.flight_record == record
    assert [note.detail for note in record if note.what == "reconnecting"] == [1]
    opened = [note for note in record if note.detail is SessionState.OPEN]
    assert len(opened) == 2
    assert record[-1].what == "end"
    with pytest.raises(SonioxStateError) as caught:
        talk.stream.finalize(talk.now)
    assert caught.value.flight_record == record


def test_a_failure_without_a_connection_knows_what_happened_before() -> None:
    talk = conversation()
    cut(talk)
    error = lost()
    talk.stream.fail(error, talk.now)
    talk.stream.handle_timeout(talk.now)
    assert error.flight_record is not None
    assert error.flight_record[-1].what == "reconnecting"


def test_pings_of_every_connection_count() -> None:
    policy = ReconnectPolicy(jitter=False, initial_delay=1.0)
    stream = RecoveringSTTStream(
        URL, AUDIO_CONFIG, reconnect=policy, ping_interval=1.0, keepalive_interval=None
    )
    stream.connect(0.0)
    now = 0.0
    for number in (1, 2):
        (link,) = stream.links_to_open()
        link.upgraded(now)
        link.data_to_send()
        stream.handle_timeout(now + 1.0)
        (ping,) = frames.decode(link.data_to_send())
        link.receive_data(frames.pong(ping.payload), now + 1.25)
        assert (stream.stats.sent_pings, stream.stats.ping_latency.count) == (number, number)
        assert stream.stats.latency == stream.stats.ping_latency.last == 0.25
        link.failed(lost(), now + 2.0)
        now += 3.0
        stream.handle_timeout(now)
    assert stream.stats.open_time == 4.0


def test_a_model_service_that_heard_nothing_says_nothing() -> None:
    assert ModelService(WORDS)._tokens(0, 100, final=True) == []
