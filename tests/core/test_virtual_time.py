"""Both ends under one virtual clock: every timer of the core, in no real time."""

from __future__ import annotations

import pytest

from soniox_proto import (
    AudioReceived,
    ClientClosed,
    Closed,
    EndOfAudioReceived,
    Finalized,
    FinalizeReceived,
    Finished,
    KeepAliveReceived,
    Opened,
    Outcome,
    RequestRefused,
    ServerError,
    ServerEvent,
    SessionState,
    SonioxServerTimeoutError,
    SonioxTimeoutError,
    StartReceived,
)
from tests.support.core.pair import Pair, mute, obedient


def refuses_nothing(pair: Pair, event: ServerEvent) -> None:
    """A server whose own deadlines do not end the session."""
    if not isinstance(event, RequestRefused):
        obedient(pair, event)


class TestKeepalive:
    def test_flows_every_five_seconds_while_no_audio_does(self) -> None:
        pair = Pair().connect()
        pair.run(61)
        assert pair.times(KeepAliveReceived) == [5.0 * n for n in range(1, 13)]
        assert pair.client.stats.sent_keepalives == 12

    def test_flows_while_paused_whatever_the_user_still_sends(self) -> None:
        pair = Pair().connect()
        pair.client.send_audio(b"spoken", pair.now)
        pair.client.pause(pair.now)
        for _ in range(120):
            pair.run(0.5)
            pair.client.send_audio(b"dropped", pair.now)
        assert pair.times(KeepAliveReceived) == [5.0 * n for n in range(1, 13)]
        assert pair.times(AudioReceived) == [0.0]

    def test_is_not_needed_while_audio_flows(self) -> None:
        pair = Pair().connect()
        for _ in range(30):
            pair.run(2.0)
            pair.client.send_audio(b"spoken", pair.now)
        assert pair.times(KeepAliveReceived) == []

    def test_is_due_five_seconds_after_the_last_audio(self) -> None:
        pair = Pair().connect()
        pair.run(3.0)
        pair.client.send_audio(b"spoken", pair.now)
        pair.run(11.0)
        assert pair.times(KeepAliveReceived) == [8.0, 13.0]

    def test_is_not_put_off_by_a_finalize_which_the_service_does_not_count(self) -> None:
        pair = Pair().connect()
        pair.run(3.0)
        pair.client.finalize(pair.now)
        pair.run(3.0)
        assert pair.times(KeepAliveReceived) == [5.0]

    def test_a_manual_one_puts_the_next_off(self) -> None:
        pair = Pair().connect()
        pair.run(3.0)
        pair.client.keep_alive(pair.now)
        pair.run(6.0)
        assert pair.times(KeepAliveReceived) == [3.0, 8.0]

    def test_stops_with_the_end_of_audio(self) -> None:
        pair = Pair(answer=mute_after_upgrade).connect()
        pair.client.send_audio(b"spoken", pair.now)
        pair.client.finish(pair.now)
        pair.run(300.0)
        assert pair.times(KeepAliveReceived) == []
        assert pair.client.state is SessionState.FINISHING

    def test_does_not_begin_after_an_end_that_was_held(self) -> None:
        pair = Pair(answer=mute).connect()
        pair.client.send_audio(b"spoken", pair.now)
        pair.client.finish(pair.now)
        pair.server.accept(pair.now)
        pair.run(100.0)
        assert pair.times(KeepAliveReceived) == []
        assert pair.client.state is SessionState.FINISHING

    def test_one_is_sent_by_a_host_that_was_suspended_for_a_minute(self) -> None:
        pair = Pair(server_options={"idle_timeout": None}, ping_interval=None).connect()
        pair.asleep.add("client")
        pair.run(60.0)
        pair.wake("client")
        pair.run(9.0)
        assert pair.times(KeepAliveReceived) == [60.0, 65.0]

    @pytest.mark.parametrize("interval", [1.0, 7.5])
    def test_interval_is_an_option(self, interval: float) -> None:
        pair = Pair(keepalive_interval=interval).connect()
        pair.run(15.5)
        assert pair.times(KeepAliveReceived)[:2] == [interval, 2 * interval]


def mute_after_upgrade(pair: Pair, event: ServerEvent) -> None:
    if pair.server.state.name == "UPGRADING":
        obedient(pair, event)


class TestServerDeadlines:
    def test_twenty_seconds_without_audio_or_keepalive_are_a_408(self) -> None:
        pair = Pair(keepalive_interval=None).connect()
        pair.client.send_audio(b"spoken", pair.now)
        pair.run(30.0)
        time, closed = pair.closed
        assert time == 20.0
        assert closed.outcome is Outcome.SERVER_ERROR
        assert closed.code == 1000
        assert isinstance(closed.error, SonioxServerTimeoutError)
        assert closed.error.retryable

    def test_audio_and_keepalives_put_the_idle_deadline_off_but_a_finalize_does_not(self) -> None:
        pair = Pair(keepalive_interval=None).connect()
        pair.run(19.0)
        pair.client.send_audio(b"spoken", pair.now)
        pair.run(19.0)
        pair.client.keep_alive(pair.now)
        pair.run(19.0)
        pair.client.finalize(pair.now)
        pair.run(19.0)
        assert pair.times(FinalizeReceived) == [57.0]
        assert pair.times(RequestRefused) == [58.0]

    def test_no_idle_deadline_after_the_end_of_audio(self) -> None:
        pair = Pair(answer=mute_after_upgrade).connect()
        pair.client.send_audio(b"spoken", pair.now)
        pair.client.finish(pair.now)
        pair.run(100.0)
        assert pair.times(EndOfAudioReceived) == [0.0]
        assert pair.times(RequestRefused) == []

    def test_a_start_message_that_does_not_come_is_a_408(self) -> None:
        pair = Pair(answer=mute, server_options={"start_timeout": 7.0}).connect()
        pair.server.accept(pair.now)
        pair.run(8.0)
        assert pair.times(StartReceived) == [0.0]

        silent = Pair(answer=mute, server_options={"start_timeout": 7.0}).connect()
        silent.asleep.add("client")
        silent.server.accept(silent.now)
        silent.run(8.0)
        ((time, event),) = silent.server_log[1:]
        assert (time, event) == (
            7.0,
            RequestRefused(408, "request_timeout", "Start request timeout"),
        )

    def test_a_client_that_does_not_answer_the_close_frame_is_given_up(self) -> None:
        pair = Pair().connect()
        pair.asleep.add("client")
        pair.server.close(pair.now)
        pair.run(10.0)
        assert pair.server_log[-1] == (5.0, ClientClosed(1006, "the client took too long"))
        assert pair.server.closed

    def test_an_upgrade_request_that_does_not_end_is_given_up(self) -> None:
        pair = Pair(answer=mute)
        assert pair.server.receive_data(b"GET / HTTP/1.1\r\n", 1.0) == []
        assert pair.server.receive_data(b"Host: localhost\r\n", 9.0) == []
        assert pair.server.next_timeout() == 11.0
        assert pair.server.handle_timeout(11.0) == [ClientClosed(1006, "the client took too long")]

    def test_the_application_may_take_its_time_to_accept(self) -> None:
        pair = Pair(answer=mute, connect_timeout=None).connect()
        pair.run(60.0)
        pair.server.accept(pair.now)
        pair.deliver()
        assert pair.client.state is SessionState.OPEN


class TestConnectAndClose:
    def test_an_upgrade_that_is_not_answered_is_lost_after_ten_seconds(self) -> None:
        pair = Pair(answer=mute).connect()
        pair.run(11.0)
        time, closed = pair.closed
        assert time == 10.0
        assert (closed.outcome, closed.code) == (Outcome.LOST, None)
        assert isinstance(closed.error, SonioxTimeoutError)
        assert closed.error.operation == "connect"
        assert closed.error.retryable

    def test_an_accepted_upgrade_stops_the_connect_deadline(self) -> None:
        pair = Pair(keepalive_interval=None, ping_interval=None).connect()
        assert pair.times(Opened) == [0.0]
        assert pair.client.next_timeout() is None

    def test_a_server_that_does_not_answer_close_is_given_up_after_five_seconds(self) -> None:
        pair = Pair().connect()
        pair.asleep.add("server")
        pair.client.close(pair.now)
        pair.run(6.0)
        time, closed = pair.closed
        assert time == 5.0
        assert closed == Closed(Outcome.CLOSED_LOCALLY, 1006, "", None)

    def test_close_is_answered_at_once_by_a_living_server(self) -> None:
        pair = Pair(answer=mute_after_upgrade).connect()
        pair.client.close(pair.now)
        pair.deliver()
        assert pair.closed == (0.0, Closed(Outcome.CLOSED_LOCALLY, 1000, "", None))
        assert pair.server_log[-1] == (0.0, ClientClosed(1000, ""))

    def test_a_server_that_finished_but_does_not_close_is_given_up(self) -> None:
        pair = Pair(answer=mute_after_upgrade).connect()
        pair.server.send_result({"tokens": [], "finished": True}, pair.now)
        pair.run(6.0)
        assert pair.times(Finished) == [0.0]
        assert pair.closed == (5.0, Closed(Outcome.FINISHED, 1006, "", None))

    def test_no_deadline_bounds_the_answer_to_finish(self) -> None:
        pair = Pair(answer=mute_after_upgrade).connect()
        pair.client.send_audio(b"spoken", pair.now)
        pair.client.finish(pair.now)
        pair.run(3600.0)
        pair.server.finish({"tokens": []}, pair.now)
        pair.deliver()
        assert pair.closed == (3600.0, Closed(Outcome.FINISHED, 1000, "", None))


class TestPing:
    def test_flows_every_twenty_seconds_and_is_answered(self) -> None:
        pair = Pair(answer=refuses_nothing).connect()
        assert pair.client.stats.latency is None
        pair.run(20.0)
        assert pair.client.stats.latency == 0.0
        pair.run(500.0)
        assert pair.client.state is SessionState.OPEN

    def test_latency_is_the_round_trip(self) -> None:
        pair = Pair(server_options={"idle_timeout": None}).connect()
        pair.asleep.add("server")
        pair.run(21.5)
        pair.wake("server")
        assert pair.client.stats.latency == 1.5

    def test_a_dead_peer_is_lost_after_interval_and_timeout(self) -> None:
        pair = Pair(ping_interval=15.0, ping_timeout=8.0).connect()
        pair.asleep.add("server")
        pair.run(60.0)
        time, closed = pair.closed
        assert time == 23.0
        assert (closed.outcome, closed.code) == (Outcome.LOST, 1006)
        assert isinstance(closed.error, SonioxTimeoutError)
        assert closed.error.operation == "ping"
        assert pair.client.next_timeout() is None

    def test_several_intervals_within_the_timeout_do_not_put_it_off(self) -> None:
        pair = Pair(ping_interval=5.0, ping_timeout=20.0).connect()
        pair.asleep.add("server")
        pair.run(60.0)
        assert pair.closed[0] == 25.0

    def test_without_a_timeout_nothing_is_lost(self) -> None:
        pair = Pair(ping_timeout=None).connect()
        pair.asleep.add("server")
        pair.run(600.0)
        assert pair.client.state is SessionState.OPEN

    def test_a_driver_that_does_not_read_expects_no_pong(self) -> None:
        pair = Pair().connect()
        pair.asleep.add("server")
        pair.run(25.0)
        pair.client.pause_reading(pair.now)
        pair.run(100.0)
        assert pair.client.state is SessionState.OPEN
        pair.client.resume_reading(pair.now)
        # Five of the twenty seconds had passed before.
        pair.run(14.9)
        assert pair.client.state is SessionState.OPEN
        pair.run(0.1)
        assert pair.closed[0] == 140.0

    def test_reading_on_again_and_again_does_not_put_it_off(self) -> None:
        pair = Pair().connect()
        pair.asleep.add("server")
        pair.run(20.0)
        for _ in range(40):
            pair.client.resume_reading(pair.now)
            pair.run(1.0)
            pair.client.pause_reading(pair.now)
        assert pair.closed[0] == 40.0

    def test_resuming_without_pausing_does_not_put_it_off(self) -> None:
        pair = Pair().connect()
        pair.asleep.add("server")
        for _ in range(200):
            pair.run(0.2)
            pair.client.resume_reading(pair.now)
        assert pair.closed[0] == 40.0

    def test_a_pong_that_came_meanwhile_can_be_read(self) -> None:
        """Even where next to no time was left when reading stopped."""
        pair = Pair(server_options={"idle_timeout": None}).connect()
        pair.asleep.add("server")
        pair.run(39.999)
        pair.client.pause_reading(pair.now)
        pair.run(10.0)
        pair.client.resume_reading(pair.now)
        pair.wake("server")
        pair.run(600.0)
        assert pair.client.state is SessionState.OPEN

    def test_a_ping_sent_while_not_reading_gets_its_whole_time_afterwards(self) -> None:
        pair = Pair(server_options={"idle_timeout": None}).connect()
        pair.asleep.add("server")
        pair.client.pause_reading(pair.now)
        pair.run(70.0)
        pair.client.resume_reading(pair.now)
        pair.wake("server")
        pair.run(600.0)
        assert pair.client.state is SessionState.OPEN

    def test_resuming_without_an_outstanding_ping_arms_nothing(self) -> None:
        pair = Pair(keepalive_interval=None).connect()
        pair.client.pause_reading(pair.now)
        pair.client.resume_reading(pair.now)
        assert pair.client.next_timeout() == 20.0


class TestClosing:
    @pytest.mark.parametrize("again", [False, True])
    def test_what_the_user_closes_ends_in_time_although_nobody_reads(self, again: bool) -> None:
        pair = Pair(answer=mute_after_upgrade, close_timeout=5.0).connect()
        pair.asleep.add("server")
        pair.client.pause_reading(pair.now)
        pair.run(100.0)
        pair.client.close(pair.now)
        if again:
            pair.client.pause_reading(pair.now)
        pair.run(10.0)
        assert pair.closed[0] == 105.0


class TestFinalize:
    def test_round_trip_is_measured_and_answers_are_in_order(self) -> None:
        pair = Pair(answer=mute_after_upgrade).connect()
        pair.client.finalize(1.0)
        pair.client.finalize(2.0)
        for time in (3.5, 4.0, 5.0):
            pair.now = time
            pair.server.send_result({"tokens": [{"text": "<fin>", "is_final": True}]}, time)
            pair.deliver()
        answers = [event for _, event in pair.client_log if isinstance(event, Finalized)]
        assert [(answer.finalize_index, answer.round_trip) for answer in answers] == [
            (0, 2.5),
            (1, 2.0),
            (None, None),
        ]

    def test_an_answer_that_does_not_come_loses_the_session(self) -> None:
        pair = Pair(answer=mute_after_upgrade, finalize_timeout=3.0).connect()
        pair.run(1.0)
        pair.client.finalize(pair.now)
        pair.run(10.0)
        time, closed = pair.closed
        assert time == 4.0
        assert closed.outcome is Outcome.LOST
        assert isinstance(closed.error, SonioxTimeoutError)
        assert closed.error.operation == "finalize"

    def test_an_answer_in_time_leaves_no_deadline(self) -> None:
        pair = Pair(answer=mute_after_upgrade, finalize_timeout=3.0).connect()
        pair.client.finalize(pair.now)
        pair.run(2.9)
        pair.server.send_result({"tokens": [{"text": "<fin>", "is_final": True}]}, pair.now)
        pair.run(60.0)
        assert pair.client.state is SessionState.OPEN

    def test_each_finalize_has_its_own_deadline(self) -> None:
        pair = Pair(answer=mute_after_upgrade, finalize_timeout=3.0).connect()
        pair.client.finalize(0.0)
        pair.client.finalize(2.0)
        pair.now = 2.5
        pair.server.send_result({"tokens": [{"text": "<fin>", "is_final": True}]}, pair.now)
        pair.run(10.0)
        assert pair.closed[0] == 5.0

    def test_one_held_until_the_session_opens_is_under_way_from_there(self) -> None:
        pair = Pair(answer=mute, finalize_timeout=3.0).connect()
        pair.client.finalize(pair.now)
        pair.run(9.0)
        pair.server.accept(pair.now)
        pair.run(10.0)
        assert pair.closed[0] == 12.0

    @pytest.mark.parametrize("stopped_at", [0.5, 1.5, 2.4])
    def test_no_deadline_passes_while_nobody_reads(self, stopped_at: float) -> None:
        """Neither of the finalize that is outstanding nor of the next one."""
        pair = Pair(answer=mute_after_upgrade, finalize_timeout=3.0, ping_interval=None).connect()
        pair.client.finalize(0.0)
        pair.run(1.0)
        pair.client.finalize(1.0)
        pair.run(stopped_at - 0.5)
        pair.client.pause_reading(pair.now)
        pair.client.pause_reading(pair.now)
        pair.run(100.0)
        pair.client.resume_reading(pair.now)
        pair.server.send_result({"tokens": [{"text": "<fin>", "is_final": True}]}, pair.now)
        pair.run(10.0)
        assert pair.closed[0] == 104.0

    def test_one_asked_while_nobody_reads_has_its_whole_time_from_there(self) -> None:
        pair = Pair(answer=mute_after_upgrade, finalize_timeout=3.0, ping_interval=None).connect()
        pair.client.pause_reading(0.0)
        pair.run(5.0)
        pair.client.finalize(5.0)
        pair.run(5.0)
        pair.client.resume_reading(10.0)
        pair.run(10.0)
        assert pair.closed[0] == 13.0

    def test_no_answer_is_awaited_any_more_once_the_session_closes(self) -> None:
        pair = Pair(answer=mute_after_upgrade, finalize_timeout=3.0).connect()
        pair.client.finalize(0.0)
        pair.client.finalize(0.0)
        pair.asleep.add("server")
        pair.now = 2.9
        pair.client.close(pair.now)
        fin = pair.server
        fin.send_result({"tokens": [{"text": "<fin>", "is_final": True}]}, pair.now)
        pair.run(10.0)
        assert len(pair.times(Finalized)) == 1
        assert pair.closed[0] == 7.9


class TestClock:
    def test_running_backwards_does_no_harm(self) -> None:
        pair = Pair(now=100.0).connect()
        pair.now = 40.0
        pair.client.send_audio(b"spoken", pair.now)
        pair.deliver()
        assert pair.client.next_timeout() == 105.0
        assert pair.client.handle_timeout(0.0) == []
        assert pair.server.next_timeout() == 120.0
        assert pair.server.handle_timeout(0.0) == []
        pair.run(70.0)
        assert pair.times(KeepAliveReceived) == [105.0, 110.0]

    @pytest.mark.parametrize("origin", [-1e6, -10.0, 0.0, 1e9])
    def test_may_start_anywhere(self, origin: float) -> None:
        pair = Pair(now=origin).connect()
        pair.run(11.0)
        assert pair.times(KeepAliveReceived) == [origin + 5.0, origin + 10.0]

    def test_deadlines_served_late_or_early_or_twice_are_harmless(self) -> None:
        pair = Pair().connect()
        for now in (4.999, 5.0, 5.0, 5.0, 5.1):
            assert pair.client.handle_timeout(now) == []
        pair.deliver()
        assert len(pair.times(KeepAliveReceived)) == 1

    def test_an_error_of_the_service_is_delivered_before_the_end(self) -> None:
        pair = Pair(keepalive_interval=None).connect()
        pair.run(30.0)
        kinds = [type(event) for _, event in pair.client_log]
        assert kinds.index(ServerError) < kinds.index(Closed)
