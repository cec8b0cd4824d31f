"""A scripted server: what it does by itself, what a script makes it do, and what it finds wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from soniox_proto import (
    Closed,
    EndpointDetected,
    Finalized,
    Opened,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    RealtimeSTTProtocol,
    RealtimeSTTStream,
    ReconnectPolicy,
    RecoveringSTTStream,
    Result,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxServerError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.testing import (
    ScriptedServer,
    ScriptMismatchError,
    Simulation,
    VirtualClock,
    endpoint,
    result,
    token,
)
from soniox_proto.testing.simulation import Client
from tests.support.core.messages import API_KEY

URL = "wss://localhost/transcribe-websocket"
CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)

CLIENTS: dict[str, Callable[[], Client]] = {
    "messages": lambda: RealtimeSTTProtocol(CONFIG),
    "bytes": lambda: RealtimeSTTConnection(URL, CONFIG, api_key=API_KEY),
    "stream": lambda: RealtimeSTTStream(URL, CONFIG, api_key=API_KEY),
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]()


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


def connected(server: ScriptedServer, client: Client | None = None) -> Simulation:
    return Simulation(client or CLIENTS["stream"](), server).connect()


def texts(simulation: Simulation) -> list[tuple[float, str]]:
    """Return when which text came."""
    return [
        (round(time, 3), "".join(item.text for item in event.message.tokens))
        for time, event in simulation.events
        if isinstance(event, Result) and event.message.tokens
    ]


def mismatch(server: ScriptedServer) -> str:
    with pytest.raises(ScriptMismatchError) as caught:
        server.check()
    return str(caught.value)


class TestWhereTheScriptIsSilent:
    def test_a_whole_session(self, client: Client, server: ScriptedServer) -> None:
        simulation = connected(server, client)
        assert simulation.outcome is None
        simulation.stream_audio(1.0)
        client.finish(simulation.now)
        simulation.run()
        assert simulation.outcome is Outcome.FINISHED
        assert simulation.now == pytest.approx(1.16), "it takes a moment to finish"
        (message,) = simulation.messages
        assert message.finished
        assert (message.final_audio_proc_ms, message.total_audio_proc_ms) == (1_000, 1_000)
        server.check()

    def test_a_finalize_moves_the_clock(self, client: Client, server: ScriptedServer) -> None:
        server.after_audio(ms=1_000).say(token("one", final=False))
        server.after_audio(ms=2_000).say(token(" two"))
        simulation = connected(server, client)
        simulation.stream_audio(1.0)
        client.finalize(simulation.now)
        simulation.stream_audio(1.0)
        (answer,) = [event for _, event in simulation.events if isinstance(event, Finalized)]
        assert answer.round_trip == pytest.approx(0.18)
        assert [item.text for item in answer.message.tokens] == ["one", "<fin>"]
        assert answer.message.tokens[0].is_final
        assert answer.message.tokens[0].end_ms == 1_000
        assert answer.message.final_audio_proc_ms == answer.message.total_audio_proc_ms == 1_080
        last = simulation.messages[-1]
        assert (last.tokens[0].end_ms, last.total_audio_proc_ms) == (2_080, 2_080)

    def test_provisional_tokens_become_final_at_the_end(
        self, client: Client, server: ScriptedServer
    ) -> None:
        server.after_audio(ms=500).say(token("one", final=False))
        simulation = connected(server, client)
        simulation.stream_audio(0.5)
        client.finish(simulation.now)
        simulation.run()
        provisional, final, finished = simulation.messages
        assert provisional.tokens[0].is_final is False
        assert final.tokens[0].is_final
        assert finished.finished

    def test_a_silent_client_is_ended(self, server: ScriptedServer) -> None:
        simulation = connected(server, RealtimeSTTStream(URL, CONFIG, keepalive_interval=None))
        simulation.run()
        assert simulation.outcome is Outcome.SERVER_ERROR
        assert simulation.now == pytest.approx(20.0)
        assert simulation.messages[-1].error_code == 408

    def test_audio_that_ends_before_it_began(self, client: Client, server: ScriptedServer) -> None:
        simulation = connected(server, client)
        client.finish(simulation.now)
        simulation.run()
        assert simulation.messages[-1].error_message == "No audio received."

    def test_a_stream_of_300_minutes(self, client: Client, server: ScriptedServer) -> None:
        server.expect_keepalive(times=3_500)
        simulation = connected(server, client)
        simulation.run()
        assert simulation.now == pytest.approx(300 * 60.0)
        assert simulation.messages[-1].error_code == 413
        server.check()

    def test_a_stream_without_a_limit(self) -> None:
        simulation = connected(ScriptedServer(max_duration=None))
        simulation.run(400 * 60.0)
        assert simulation.outcome is None

    def test_any_number_of_clients_is_served(self, server: ScriptedServer) -> None:
        for _ in range(3):
            simulation = connected(server)
            simulation.stream_audio(0.1)
            simulation.client.finish(simulation.now)
            simulation.run()
            assert simulation.outcome is Outcome.FINISHED
        assert len(server.connections) == 3
        server.check()


class TestWhatAScriptSays:
    def test_tokens_after_audio(self, client: Client, server: ScriptedServer) -> None:
        server.after_audio(seconds=1).say("two", endpoint())
        server.after_audio(ms=500).say(token("on", final=False))
        server.after_audio(size=48_000).say(result("three"))
        simulation = connected(server, client)
        simulation.stream_audio(2.0)
        assert texts(simulation) == [(0.4, "on"), (0.9, "two<end>"), (1.4, "three")]
        first, second, third = simulation.messages
        assert (first.tokens[0].start_ms, first.tokens[0].end_ms) == (380, 500)
        assert (first.final_audio_proc_ms, first.total_audio_proc_ms) == (0, 500)
        assert (second.tokens[0].start_ms, second.tokens[0].end_ms) == (820, 1_000)
        assert second.final_audio_proc_ms == 1_000
        assert third.total_audio_proc_ms == 1_500
        ends = [event for _, event in simulation.events if isinstance(event, EndpointDetected)]
        assert [event.position_ms for event in ends] == [1_000]

    def test_positions_do_not_depend_on_the_size_of_chunks(self, server: ScriptedServer) -> None:
        server.after_audio(ms=500).say("one")
        server.after_audio(ms=900).say("two").wait(1.0).say("three")
        simulation = connected(server)
        simulation.client.send_audio(bytes(64_000), simulation.now)
        simulation.run(2.0)
        positions = [message.total_audio_proc_ms for message in simulation.messages]
        assert positions == [500, 900, 2_000]

    def test_translations_follow_their_originals(self, server: ScriptedServer) -> None:
        server.after_audio(ms=500).say("one", token("uno", translation=True), endpoint())
        server.after_audio(ms=900).say(token("dos", translation=True))
        simulation = connected(server)
        simulation.stream_audio(2.0)
        assert texts(simulation) == [(0.4, "one<end>"), (0.44, "uno"), (0.8, "dos")]
        assert simulation.messages[1].tokens[0].end_ms is None

    def test_containers_have_an_assumed_rate(self) -> None:
        server = ScriptedServer(bytes_per_second=1_000)
        server.after_audio(seconds=2).say("one")
        client = RealtimeSTTConnection(URL, RealtimeSTTConfig(model="m"))
        simulation = connected(server, client)
        simulation.stream_audio(3.0, bytes_per_second=1_000, chunk_ms=500)
        assert texts(simulation) == [(1.5, "one")]

    def test_an_answer_to_each_finalize(self, client: Client, server: ScriptedServer) -> None:
        server.on_finalize().say(token("one", final=False))
        server.on_finalize().wait(1.0).say("two", token("<fin>"))
        server.on_finalize().ignore()
        simulation = connected(server, client)
        simulation.stream_audio(1.0)
        for _ in range(4):
            client.finalize(simulation.now)
        simulation.run(3.0)
        assert texts(simulation) == [(1.18, "one<fin>"), (1.18, "<fin>"), (2.0, "two<fin>")]
        server.check()

    def test_something_else_before_the_answer(self, server: ScriptedServer) -> None:
        server.on_finalize().cut(at=1)
        simulation = connected(server)
        simulation.client.finalize(simulation.now)
        simulation.run(1.0)
        assert texts(simulation) == [(0.18, "<fin>")]

    def test_the_rest_at_the_end_of_the_audio(self, client: Client, server: ScriptedServer) -> None:
        server.on_end_of_audio().wait(3.0).say("late")
        simulation = connected(server, client)
        simulation.stream_audio(1.0)
        client.finish(simulation.now)
        simulation.run()
        assert texts(simulation) == [(4.0, "late")]
        assert simulation.outcome is Outcome.FINISHED
        server.check()

    def test_the_start_and_keepalives_have_cues_too(self, server: ScriptedServer) -> None:
        server.on_start().send({"tokens": [], "greeting": "hello"})
        server.on_keepalive().say("alive")
        server.on_keepalive().finish()
        simulation = connected(server)
        simulation.run()
        assert simulation.messages[0].model_extra == {"greeting": "hello"}
        assert texts(simulation) == [(5.0, "alive")]
        assert simulation.now == 10.0
        assert simulation.outcome is Outcome.FINISHED
        server.check()

    def test_an_error(self, client: Client, server: ScriptedServer) -> None:
        server.at(12.0).error(503, request_id="r")
        simulation = connected(server, client)
        simulation.run()
        assert simulation.now == 12.0
        (end,) = [event for _, event in simulation.events if isinstance(event, Closed)]
        assert isinstance(end.error, SonioxServerError)
        assert (end.error.error_type, end.error.request_id) == ("service_unavailable", "r")
        server.check()

    def test_a_message_as_it_is(self, client: Client, server: ScriptedServer) -> None:
        server.on_start().send(result("one", novel=1)).send({"tokens": [], "novel": 2})
        simulation = connected(server, client)
        novel = [message.model_extra for message in simulation.messages]
        assert novel == [{"novel": 1}, {"novel": 2}]

    def test_an_error_before_a_mistake_in_the_same_bytes(self, server: ScriptedServer) -> None:
        """End-of-audio without audio is a mistake; here it comes with the start message."""
        server.on_start().error(503)
        client = RealtimeSTTConnection(URL, CONFIG)
        connection = server.connect(0.0)
        client.connect(0.0)
        client.opened(0.0)
        client.finish(0.0)
        connection.receive_data(client.data_to_send(), 0.0)
        client.receive_data(connection.data_to_send(), 0.0)
        connection.receive_data(client.data_to_send(), 0.0)
        client.receive_data(connection.data_to_send(), 0.0)
        assert client.last_message is not None
        assert client.last_message.error_code == 503
        server.check()

    def test_scripts_of_later_connections(self, server: ScriptedServer) -> None:
        server.on_start().error(503)
        second = server.next_connection()
        second.after_audio(ms=100).say("again")
        clock = VirtualClock(100.0)
        first_client = Simulation(CLIENTS["stream"](), server, clock=clock).connect()
        first_client.run()
        assert first_client.outcome is Outcome.SERVER_ERROR
        simulation = Simulation(CLIENTS["stream"](), server, clock=clock).connect()
        simulation.stream_audio(0.1)
        assert texts(simulation) == [(100.0, "again")]
        server.check()


class TestFaults:
    def test_a_refused_upgrade(self, client: Client, server: ScriptedServer) -> None:
        server.on_upgrade().refuse(429, body="slow down", headers={"Retry-After": "7"})
        simulation = connected(server, client)
        simulation.run()
        assert simulation.outcome is Outcome.REJECTED
        (end,) = [event for _, event in simulation.events if isinstance(event, Closed)]
        assert isinstance(end.error, SonioxHandshakeError)
        assert (end.error.status_code, end.error.body) == (429, b"slow down")
        assert end.error.retry_after == 7.0

    def test_a_refusal_with_a_body_of_bytes(self, server: ScriptedServer) -> None:
        server.on_upgrade().refuse(503, body=b"\xff")
        simulation = connected(server)
        assert simulation.outcome is Outcome.REJECTED

    def test_an_upgrade_that_is_never_answered(
        self, client: Client, server: ScriptedServer
    ) -> None:
        server.on_upgrade().ignore()
        simulation = connected(server, client)
        simulation.run()
        (end,) = [event for _, event in simulation.events if isinstance(event, Closed)]
        assert isinstance(end.error, SonioxTimeoutError)
        assert simulation.now == 10.0

    @pytest.mark.parametrize(
        ("code", "outcome"), [(1000, Outcome.CLOSED_BY_SERVER), (1011, Outcome.LOST)]
    )
    def test_a_close_frame(
        self, client: Client, server: ScriptedServer, code: int, outcome: Outcome
    ) -> None:
        server.after_audio(ms=500).close(code, "so it is")
        simulation = connected(server, client)
        simulation.stream_audio(2.0)
        (end,) = [event for _, event in simulation.events if isinstance(event, Closed)]
        assert (end.outcome, end.code, end.reason) == (outcome, code, "so it is")
        assert simulation.now == pytest.approx(0.5), "no audio is sent after the end"

    def test_a_dropped_connection(self, client: Client, server: ScriptedServer) -> None:
        server.at(1.0).say("one").drop()
        server.at(2.0).wait(0.0)
        simulation = connected(server, client)
        simulation.run()
        assert texts(simulation) == [(1.0, "one")], "what was sent before it arrives"
        assert simulation.outcome is Outcome.LOST
        assert simulation.now == 1.0

    def test_a_message_that_is_cut_off(self, client: Client, server: ScriptedServer) -> None:
        server.at(1.0).drop(after_bytes=10).say("a message of more than ten bytes")
        simulation = connected(server, client)
        simulation.run()
        assert texts(simulation) == []
        assert simulation.outcome is Outcome.LOST

    def test_a_cut_at_the_end_of_the_bytes(self, server: ScriptedServer) -> None:
        server.at(1.0).cut(at=10_000).say("one")
        simulation = connected(server)
        simulation.run(1.0)
        assert texts(simulation) == [(1.0, "one")]

    @pytest.mark.parametrize("position", range(1, 60, 7))
    def test_a_message_in_two_pieces(
        self, client: Client, server: ScriptedServer, position: int
    ) -> None:
        server.at(1.0).cut(at=position).say("one")
        simulation = connected(server, client)
        simulation.run(2.0)
        assert texts(simulation) == [(1.0, "one")]

    def test_a_stall_that_ends(self, client: Client, server: ScriptedServer) -> None:
        server.at(1.0).stall(3.0).say("held")
        server.after_audio(ms=1_500).say("heard")
        simulation = connected(server, client)
        simulation.stream_audio(1.4)
        assert server.connections[0].stalled
        assert server.connections[0].unread_bytes > 3_200
        simulation.stream_audio(3.6)
        assert texts(simulation) == [(4.0, "held"), (4.0, "heard")]
        assert not server.connections[0].stalled

    def test_what_can_be_read_now(self, server: ScriptedServer) -> None:
        server.at(1.0).say("one").stall(1.0)
        connected(server)
        connection = server.connections[0]
        assert not connection.readable
        connection.handle_timeout(1.0)
        assert not connection.readable, "it stalls"
        connection.handle_timeout(2.0)
        assert connection.readable
        connection.receive_eof(2.0)
        connection.data_to_send()
        assert connection.readable, "the end can be read"

    def test_a_stall_for_ever(self, server: ScriptedServer) -> None:
        server.at(1.0).stall()
        simulation = connected(server)
        simulation.run()
        assert simulation.outcome is Outcome.LOST
        assert simulation.now == pytest.approx(40.0), "a ping interval and its timeout"

    def test_a_client_that_leaves_a_stalled_server(self, server: ScriptedServer) -> None:
        server.expect_close(code=1006)
        server.at(1.0).stall(200.0)
        simulation = connected(server)
        simulation.run(2.0)
        connection = server.connections[0]
        connection.receive_eof(simulation.now)
        assert not connection.closed
        assert connection.unread_bytes == 0
        connection.handle_timeout(300.0)
        assert connection.closed
        server.check()

    def test_a_connection_that_is_half_open(self, server: ScriptedServer) -> None:
        server.at(1.0).half_open()
        server.at(2.0).send_bytes(b"lost")
        simulation = connected(server)
        simulation.run()
        assert simulation.outcome is Outcome.LOST
        assert simulation.now == pytest.approx(40.0)
        assert isinstance(simulation.client, RealtimeSTTStream)
        assert isinstance(simulation.client.error, SonioxTimeoutError)

    def test_bytes_that_are_no_frame(self, server: ScriptedServer) -> None:
        server.at(1.0).send_bytes(b"\xff\xff")
        simulation = connected(server)
        simulation.run(2.0)
        assert isinstance(simulation.client, RealtimeSTTStream)
        assert isinstance(simulation.client.error, SonioxProtocolError)

    def test_bytes_that_are_no_frame_on_the_message_layer(self, server: ScriptedServer) -> None:
        server.at(1.0).send_bytes(b"\xff\xff")
        simulation = connected(server, CLIENTS["messages"]())
        simulation.run(2.0)
        assert simulation.outcome is Outcome.LOST

    def test_a_close_frame_without_a_code_on_the_message_layer(
        self, server: ScriptedServer
    ) -> None:
        server.at(1.0).send_bytes(b"\x88\x00")
        simulation = connected(server, CLIENTS["messages"]())
        simulation.run(2.0)
        (end,) = [event for _, event in simulation.events if isinstance(event, Closed)]
        assert end.code == 1005


class TestExpectations:
    def test_that_are_met(self, server: ScriptedServer) -> None:
        server.expect_upgrade(api_key=API_KEY, target="/transcribe-websocket", x_test="yes")
        server.expect_start(model="stt-rt-v5", sample_rate=16_000)
        server.expect_audio(ms=900)
        server.expect_finalize(trailing_silence_ms=300)
        server.expect_keepalive()
        server.expect_end_of_audio()
        server.expect_close(code=1000)
        client = RealtimeSTTConnection(
            URL, CONFIG, api_key=API_KEY, additional_headers={"X-Test": "yes"}
        )
        simulation = connected(server, client)
        assert isinstance(simulation.events[0][1], Opened)
        simulation.stream_audio(1.0)
        client.finalize(simulation.now, trailing_silence_ms=300)
        client.keep_alive(simulation.now)
        client.finish(simulation.now)
        simulation.run()
        server.check()

    def test_that_are_not_met(self, server: ScriptedServer) -> None:
        server.expect_upgrade(api_key="sk-other", authorization="none")
        server.expect_start(model="stt-rt-v4", language_hints=["en"])
        server.expect_finalize()
        server.expect_audio(seconds=3)
        server.expect_end_of_audio()
        simulation = connected(server)
        simulation.stream_audio(1.0)
        text = mismatch(server)
        assert text.startswith(
            "the conversation did not go as the script says:\n- connection 1, at"
        )
        assert "expected the upgrade request with api_key='another one', got 'a key'" in text
        assert API_KEY not in text
        assert "sk-other" not in text
        assert "expected the start message with model='stt-rt-v4', got 'stt-rt-v5'" in text
        assert "with language_hints=['en'], got None" in text
        assert "connection 1: expected a finalize, which did not come" in text
        assert "connection 1: expected 3000 ms of audio; 1000 ms came" in text
        assert "1.000 s" not in text
        assert "     0.900 s  1  client  audio, 3200 bytes (10 times)" in text

    def test_no_key_at_all(self, server: ScriptedServer) -> None:
        server.expect_upgrade(api_key="sk-other")
        connected(server, RealtimeSTTStream(URL, CONFIG))
        assert "got 'none'" in mismatch(server)

    def test_what_was_not_reached(self, server: ScriptedServer) -> None:
        server.after_audio(ms=500).say("hello").wait(2.0).stall(1.0).drop(after_bytes=3)
        server.after_audio(size=100_000).finish()
        server.at(30.0).error(503)
        server.on_upgrade().cut(at=3)
        server.on_finalize().send({}).send_bytes(b"abc").ignore().refuse(400)
        server.on_keepalive().stall().half_open().close(1001).drop()
        server.next_connection()
        simulation = connected(server)
        simulation.stream_audio(0.6)
        text = mismatch(server)
        for line in (
            "connection 1: did not get to the end of \"after 500 ms of audio: say 'hello', ",
            'wait 2 s, stall for 1 s, drop after 3 bytes": stall for 1 s, drop after 3 bytes',
            'never got to "after 100000 bytes of audio: finish"; 600 ms came',
            'never got to "at 30 s: error 503"',
            'never got to "on a finalize: send a message, send 3 bytes, ignore, refuse 400"',
            'never got to "on a keepalive: stall, half open, close 1001, drop"',
            "connection 2 was expected, and no client made it",
        ):
            assert line in text, text
        assert "upgrade request" not in text

    def test_a_script_that_nobody_connects_to(self, server: ScriptedServer) -> None:
        server.on_start().say("hello")
        assert mismatch(server).endswith("No client has connected.")

    def test_what_is_impossible_at_that_time(self, server: ScriptedServer) -> None:
        server.at(1.0).finish().say("too late")
        simulation = connected(server)
        simulation.run(3.0)
        assert "at 1.000 s: cannot say 'too late': send_result is not possible" in mismatch(server)

    def test_an_answer_that_is_impossible_by_then(self, server: ScriptedServer) -> None:
        """The stream ended before its own answer; that is no fault of the script."""
        server.at(0.1).finish()
        simulation = connected(server)
        simulation.client.finalize(simulation.now)
        connection = server.connections[0]
        simulation.run(0.0)
        connection.handle_timeout(0.2)
        assert connection.next_timeout() == 5.2
        server.check()

    def test_a_session_that_was_aborted(self, client: Client, server: ScriptedServer) -> None:
        server.expect_close(code=1001)
        simulation = connected(server, client)
        simulation.stream_audio(1.0)
        client.abort(simulation.now)
        simulation.run()
        assert simulation.outcome is Outcome.ABORTED
        server.check()

    def test_the_latest_ten_events(self, server: ScriptedServer) -> None:
        server.expect_end_of_audio()
        simulation = connected(server)
        for number in range(20):
            simulation.client.send_audio(bytes(number + 1), simulation.now)
        simulation.run(0.0)
        text = mismatch(server)
        assert "The last 10 protocol events" in text
        assert "audio, 20 bytes" in text
        assert "audio, 11 bytes" in text
        assert "audio, 10 bytes" not in text
        assert len(server.log) == 23
        assert server.log[0].what == "upgrade /transcribe-websocket"

    @pytest.mark.parametrize(
        "amounts", [{}, {"ms": 1, "seconds": 1}, {"ms": -1}, {"size": -1}, {"seconds": -1}]
    )
    def test_amounts_that_make_no_sense(
        self, server: ScriptedServer, amounts: dict[str, int]
    ) -> None:
        with pytest.raises(SonioxValidationError):
            server.after_audio(**amounts)

    def test_times_that_make_no_sense(self, server: ScriptedServer) -> None:
        with pytest.raises(SonioxValidationError, match="seconds must be zero or more, not -1"):
            server.at(-1)

    @pytest.mark.parametrize(
        ("write", "problem"),
        [
            (lambda s: s.at(float("nan")), "seconds must be a number, not nan"),
            (lambda s: s.at("1"), "seconds must be a number, not '1'"),
            (lambda s: s.on_start().wait(float("inf")), "seconds must be a number, not inf"),
            (lambda s: s.on_start().wait(True), "seconds must be a number, not True"),
            (lambda s: s.on_start().stall(-1), "seconds must be zero or more, not -1"),
            (lambda s: s.after_audio(size=1.5), "size must be zero or more, not 1.5"),
            (lambda s: s.on_start().close(1000, 5), "reason must be a str, not 5"),
            (lambda s: s.on_upgrade().refuse(429, headers={"a": 5}), "found str and int"),
            (lambda s: s.on_upgrade().refuse(429, headers={"a": "\n"}), "cannot hold"),
            (lambda s: s.on_start().say(["a"]), r"one argument for each, not \['a'\]"),
            (lambda s: s.on_start().say(3), "says texts, tokens and results, .*, not 3"),
            (lambda s: s.on_start().send("text"), "a message is .* not 'text'; send_bytes"),
            (lambda s: s.on_start().send({"a": b""}), "a mapping that is a JSON object"),
            (lambda s: s.on_start().error("503"), "error_code must be zero or more, not '503'"),
            (lambda s: s.on_start().close(1006), "1006 is not a code .* drop\\(\\) ends"),
            (lambda s: s.on_upgrade().refuse(200), "status_code must be 400 to 599, not 200"),
            (lambda s: s.on_start().drop(after_bytes=-1), "after_bytes must be zero or more"),
            (lambda s: s.on_start().cut(at=0), "at must be 1 or more, not 0"),
            (lambda s: s.expect_keepalive(0), "times must be 1 or more, not 0"),
            (lambda _: ScriptedServer(bytes_per_second=0), "bytes_per_second must be 1 or more"),
            (lambda _: ScriptedServer(max_duration=-1), "max_duration must be a number of seconds"),
        ],
    )
    def test_scripts_that_make_no_sense(
        self, server: ScriptedServer, write: Callable[[Any], object], problem: str
    ) -> None:
        with pytest.raises(SonioxValidationError, match=problem):
            write(server)
        with pytest.raises(TypeError):
            server.on_start().send_bytes("text")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            server.on_upgrade().refuse(429, body=[])  # type: ignore[arg-type]


def test_a_session_whose_stream_asks_for_no_link(server: ScriptedServer) -> None:
    client = RealtimeSTTStream(URL, CONFIG)
    simulation = Simulation(client, server)
    simulation.run()
    assert server.connections == ()


class TestAClientWhoseMachineSlept:
    def test_the_service_has_ended_the_session_when_it_wakes(
        self, server: ScriptedServer, client: Client
    ) -> None:
        simulation = connected(server, client)
        simulation.suspend(60.0)
        assert simulation.now == 60.0
        assert [message.error_code for message in simulation.messages] == [408]
        assert simulation.outcome is Outcome.SERVER_ERROR
        assert {time for time, event in simulation.events if not isinstance(event, Opened)} == {
            60.0
        }

    def test_a_short_sleep_is_survived(self, server: ScriptedServer, client: Client) -> None:
        server.at(2.0).say("meanwhile")
        server.expect_keepalive(times=2)
        simulation = connected(server, client)
        simulation.suspend(15.0)
        simulation.run(6.0)
        assert texts(simulation) == [(15.0, "meanwhile")]
        assert simulation.outcome is None
        server.check()

    def test_a_session_that_reconnects_goes_on(self, server: ScriptedServer) -> None:
        client = RecoveringSTTStream(URL, CONFIG, reconnect=ReconnectPolicy(jitter=False))
        simulation = connected(server, client)
        server.next_connection()
        simulation.suspend(60.0)
        simulation.run(1.0)
        assert client.stats.reconnects == 1
        assert simulation.outcome is None
