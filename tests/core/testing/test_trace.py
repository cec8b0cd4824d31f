"""Traces: recorded, written, read, run again."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    Closed,
    EndpointDetected,
    Finalized,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTStream,
    Reconnected,
    Reconnecting,
    ReconnectPolicy,
    RecoveringSTTStream,
    RolledOver,
    SessionState,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.testing import (
    RecordedStream,
    ScriptedServer,
    Simulation,
    Trace,
    TraceMismatchError,
    endpoint,
    replay,
    token,
)
from soniox_proto.testing.trace import described
from tests.support.core.messages import API_KEY

URL = "wss://localhost/transcribe-websocket"
CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5",
    audio_format="pcm_s16le",
    sample_rate=16_000,
    num_channels=1,
    context="names that are secret",
    extra_fields={"novel": 1},
)


def recorded(*, api_key: str | None = API_KEY, **options: Any) -> RecordedStream:
    leave_out = {name: options.pop(name) for name in ("audio", "text") if name in options}
    headers = options.pop("additional_headers", {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        stream = RealtimeSTTStream(
            URL, CONFIG, api_key=api_key, additional_headers=headers, **options
        )
    return RecordedStream(stream, url=URL, options=options, headers=list(headers), **leave_out)


def talk(server: ScriptedServer) -> None:
    server.after_audio(ms=300).cut(at=5).say(token("caf", final=False))
    server.after_audio(ms=600).say('"café" \\o/', token("koffie", translation=True), endpoint())


def a_whole_session(stream: RecordedStream) -> Simulation:
    server = ScriptedServer()
    talk(server)
    simulation = Simulation(stream, server).connect()
    simulation.stream_audio(1.0)
    stream.finalize(simulation.now, 100)
    simulation.run(30.0)
    stream.keep_alive(simulation.now)
    stream.pause(simulation.now)
    stream.send_audio(memoryview(b"dropped"), simulation.now)
    simulation.run(1.0)
    stream.resume(simulation.now)
    stream.pause_reading(simulation.now)
    stream.resume_reading(simulation.now)
    stream.finish(simulation.now)
    simulation.run()
    assert stream.outcome is Outcome.FINISHED
    return simulation


def aborted(stream: RecordedStream) -> Simulation:
    simulation = Simulation(stream, ScriptedServer()).connect()
    stream.abort(simulation.now)
    simulation.run()
    return simulation


def closed(stream: RecordedStream) -> Simulation:
    simulation = Simulation(stream, ScriptedServer()).connect()
    stream.close(simulation.now)
    simulation.run()
    return simulation


def failed(stream: RecordedStream) -> Simulation:
    simulation = Simulation(stream, ScriptedServer()).connect()
    error = SonioxConnectionError("it broke", close_code=1001)
    error.retryable = False
    events = stream.fail(error, simulation.now, close_code=1001)
    simulation.events += [(simulation.now, event) for event in events]
    simulation.run()
    return simulation


def refused(stream: RecordedStream) -> Simulation:
    server = ScriptedServer()
    server.on_upgrade().refuse(429, body="slow down", headers={"Retry-After": "3"})
    return Simulation(stream, server).connect()


def lost(stream: RecordedStream) -> Simulation:
    server = ScriptedServer()
    server.at(1.0).say("one").drop()
    simulation = Simulation(stream, server).connect()
    simulation.run()
    return simulation


def echoed(stream: RecordedStream) -> Simulation:
    server = ScriptedServer()
    server.at(1.0).cut(at=70).error(401, None, f"the key {API_KEY} is wrong")
    simulation = Simulation(stream, server).connect()
    simulation.run()
    return simulation


SESSIONS: dict[str, Callable[[RecordedStream], Simulation]] = {
    session.__name__: session
    for session in (a_whole_session, aborted, closed, failed, refused, lost, echoed)
}


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("audio", [True, False])
def test_a_trace_runs_again(session: str, audio: bool, text: bool) -> None:
    stream = recorded(audio=audio, text=text, ping_interval=7.0)
    simulation = SESSIONS[session](stream)
    written = stream.trace().dumps()
    trace = Trace.loads(written)
    assert API_KEY not in written
    events = replay(trace)
    assert [time for time, _ in events] == [time for time, _ in simulation.events]
    assert [type(event) for _, event in events] == [type(event) for _, event in simulation.events]
    if text:
        masked = [mask(repr(event)) for _, event in simulation.events]
        assert [without_objects(repr(event)) for _, event in events] == masked


def mask(text: str) -> str:
    return without_objects(text.replace(API_KEY, trace_key()))


def trace_key() -> str:
    return re.sub("[0-9]", "9", re.sub("[A-Za-z]", "x", API_KEY))


def without_objects(text: str) -> str:
    return re.sub(r"Error\(.*\)", "Error", text)


def test_two_recordings_of_the_same_are_the_same() -> None:
    first, second = recorded(), recorded()
    a_whole_session(first)
    a_whole_session(second)
    assert first.trace().dumps() == second.trace().dumps()


def test_what_a_trace_shows() -> None:
    stream = recorded(additional_headers={"X-Secret": "do-not-tell"})
    a_whole_session(stream)
    trace = stream.trace()
    text = trace.dumps()
    assert "do-not-tell" not in text
    assert trace.header["headers"] == ["X-Secret"]
    assert trace.header["key"] == trace_key()
    assert [message.tokens[0].text for _, message in trace.messages if message.tokens][:2] == [
        "caf",
        '"café" \\o/',
    ]
    assert "names that are secret" in text
    assert repr(trace).startswith("Trace(header={")
    assert "entries" not in repr(trace)
    kinds = {next(iter(entry.keys() - {"t", "link"}), "") for entry in trace.entries}
    assert kinds
    replay(trace)


def test_words_and_audio_can_be_left_out() -> None:
    stream = recorded(audio=False, text=False)
    a_whole_session(stream)
    text = stream.trace().dumps()
    for word in ("caf", "koffie", "secret", '"audio": "', "crc32"):
        assert word not in text, word
    assert "<end>" in text
    assert "<fin>" in text
    positions = [
        event.position_ms
        for _, event in replay(Trace.loads(text))
        if isinstance(event, EndpointDetected)
    ]
    assert positions == [600], "times are kept"


@pytest.mark.parametrize(
    ("authentication", "key"),
    [("header", API_KEY), ("subprotocol", API_KEY), ("message", API_KEY), ("header", None)],
)
def test_every_form_of_authentication(authentication: str, key: str | None) -> None:
    stream = recorded(api_key=key, authentication=authentication)
    lost(stream)
    text = stream.trace().dumps()
    assert API_KEY not in text
    assert stream.trace().header["key"] == (key and trace_key())
    replay(Trace.loads(text))


def test_a_session_that_never_began() -> None:
    stream = recorded()
    assert stream.state is SessionState.IDLE
    assert stream.config is CONFIG
    assert not stream.paused
    assert not stream.closed
    assert (stream.error, stream.last_message) == (None, None)
    assert stream.stats.received_messages == 0
    assert not stream.holds_too_much
    with pytest.raises(SonioxStateError):
        stream.finish(0.0)
    assert stream.handle_timeout(1.0) == []
    trace = stream.trace()
    assert trace.entries == []
    assert replay(trace) == []


def test_a_link_that_could_not_be_opened() -> None:
    class OwnTimeoutError(SonioxTimeoutError):
        """An error of the user's is replayed as what it is derived from."""

    stream = recorded()
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    assert stream.links_to_open() == []
    assert link.endpoint.host == "localhost"
    assert link.open_by == 10.0
    error = OwnTimeoutError("no answer", operation="connect")
    events = link.failed(error, 3.0)
    assert link.buffers_to_send() == []
    assert link.closed
    ((_, event),) = replay(stream.trace())
    assert isinstance(event, Closed)
    assert type(event.error) is SonioxTimeoutError
    assert (event.error.operation, str(event.error)) == ("connect", "no answer")
    assert isinstance(events[0], Closed)
    assert isinstance(event.error, SonioxRealtimeError)


@pytest.mark.parametrize("api_key", [API_KEY, None])
@pytest.mark.parametrize("authentication", ["header", "subprotocol", "message"])
def test_a_connection_that_somebody_else_has_upgraded(
    authentication: str, api_key: str | None
) -> None:
    stream = recorded(authentication=authentication, api_key=api_key)
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    assert link.upgrade_request.headers() is not None
    events = link.upgraded(1.0, {"server": "mine"})
    link.data_to_send()
    events += link.receive_data(b"\x81\x0d" + b'{"tokens":[]}', 2.0)
    events += link.receive_eof(3.0)
    text = stream.trace().dumps()
    assert API_KEY not in text
    assert len(replay(Trace.loads(text))) == len(events) == 3


def test_the_handshake_may_come_in_pieces() -> None:
    stream = recorded()
    server = ScriptedServer()
    server.on_upgrade().cut(at=110)
    server.at(1.0).error(503)
    Simulation(stream, server).connect().run()
    assert "ICX+Yqv66kxgM0FcWaLWlFLwTAI=" in "".join(
        entry.get("received", "") for entry in stream.trace().entries
    )
    assert len(replay(stream.trace())) == 4


def test_several_buffers_at_once_and_long_messages() -> None:
    stream = recorded()
    simulation = Simulation(stream, ScriptedServer()).connect()
    for size in (1, 125, 126, 65_535, 65_536, 200_000):
        stream.send_audio(bytes(size), simulation.now)
    simulation.run(1.0)
    stream.finish(simulation.now)
    simulation.run()
    sizes = [
        frame["binary"]
        for entry in stream.trace().entries
        for frame in entry.get("sent", ())
        if "binary" in frame
    ]
    assert sizes == [1, 125, 126, 65_535, 65_536, 200_000]
    replay(stream.trace())


class TestDifferences:
    def changed(self, change: Callable[[dict[str, Any]], object]) -> Trace:
        stream = recorded()
        a_whole_session(stream)
        trace = Trace.loads(stream.trace().dumps())
        for entry in trace.entries:
            if change(entry):
                break
        return trace

    def difference(self, trace: Trace) -> str:
        with pytest.raises(TraceMismatchError) as caught:
            replay(trace)
        return str(caught.value)

    def test_in_an_event(self) -> None:
        def later(entry: dict[str, Any]) -> bool:
            return entry.get("event") == "EndpointDetected" and bool(
                entry.update(position_ms=1) is None
            )

        text = self.difference(self.changed(later))
        assert re.match(r"line \d+ of the trace, at 0.500 s:\n  recorded: ", text)
        assert '"position_ms": 1}' in text
        assert text.splitlines()[2].startswith("  replayed: ")
        assert '"position_ms": 600}' in text.splitlines()[2]

    def test_in_the_output(self) -> None:
        def other(entry: dict[str, Any]) -> bool:
            frame = entry.get("sent", [{}])[0]
            return "binary" in frame and frame.update(crc32=1) is None

        assert '"crc32": 1}' in self.difference(self.changed(other))

    def test_an_event_that_did_not_come_again(self) -> None:
        trace = self.changed(lambda entry: False)
        event = {"t": 0.0, "event": "Finished"}
        text = self.difference(Trace(trace.header, [event, *trace.entries]))
        assert text.endswith('recorded: {"event": "Finished"}\n  replayed: no event')

    def test_an_event_that_came_only_now(self) -> None:
        trace = self.changed(lambda entry: False)
        entries = [entry for entry in trace.entries if entry.get("event") != "Opened"]
        assert '"event": "Opened"' in self.difference(Trace(trace.header, entries)).splitlines()[2]

    def test_at_the_end(self) -> None:
        trace = self.changed(lambda entry: False)
        entries = [*trace.entries]
        while entries.pop().get("event") != "Closed":
            pass
        text = self.difference(Trace(trace.header, entries))
        assert "recorded: the end" in text
        assert '"event": "Closed"' in text

    def test_a_call_that_is_refused_now(self) -> None:
        trace = self.changed(lambda entry: False)
        again = {"t": 0.0, "call": "connect"}
        text = self.difference(Trace(trace.header, [again, *trace.entries]))
        assert 'recorded: {"call": "connect"}' in text
        assert "replayed: SonioxStateError(" in text


class TestReading:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "line 1 of the trace is not JSON"),
            ("[]", "line 1 of the trace is not a JSON object"),
            ("[" * 100_000, "line 1 of the trace is not JSON"),
            ('{"trace": 1}\n{', "line 2 of the trace is not JSON"),
            ('{"trace": 2}', 'not a trace of version 1: its first line has "trace": 2'),
            ("{}", "its first line has .trace.: null"),
        ],
    )
    def test_what_is_not_a_trace(self, text: str, problem: str) -> None:
        with pytest.raises(SonioxValidationError, match=problem):
            Trace.loads(text)

    @pytest.mark.parametrize(
        "header",
        [
            {"trace": 1},
            {"trace": 1, "config": "00000"},
            {
                "trace": 1,
                "config": {"model": "m", "audio_format": "auto"},
                "url": URL,
                "key": None,
                "headers": [],
                "options": {"novel": 1},
            },
        ],
    )
    def test_a_trace_of_no_session(self, header: dict[str, Any]) -> None:
        with pytest.raises(SonioxValidationError, match="the trace cannot be replayed"):
            replay(Trace(header, []))

    def test_line_separators_inside_of_strings(self) -> None:
        trace = Trace({"trace": 1, "url": "a\u2028b"}, [{"t": 0.0, "call": "x\u0085y"}])
        assert Trace.loads(trace.dumps()) == trace


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=5))
def test_whatever_the_server_sends(data: bytes, sizes: list[int]) -> None:
    server = ScriptedServer()
    cue = server.at(1.0)
    for size in sizes:
        cue.cut(at=size).send_bytes(data)
    cue.send_bytes(data).drop()
    stream = recorded()
    simulation = Simulation(stream, server).connect()
    simulation.run()
    events = replay(Trace.loads(stream.trace().dumps()))
    assert len(events) == len(simulation.events)
    assert isinstance(events[-1][1], Closed)


def test_answers_to_finalizes_keep_their_round_trip() -> None:
    stream = recorded()
    simulation = a_whole_session(stream)
    before = [event.round_trip for _, event in simulation.events if isinstance(event, Finalized)]
    after = [
        event.round_trip for _, event in replay(stream.trace()) if isinstance(event, Finalized)
    ]
    assert before == after
    assert json.loads(json.dumps(before)) == before


def test_a_refusal_is_replayed_with_its_status() -> None:
    stream = recorded()
    refused(stream)
    ((_, event),) = replay(stream.trace())
    assert isinstance(event, Closed)
    assert isinstance(event.error, SonioxHandshakeError)
    assert event.error.status_code == 429


def test_events_of_recovery_are_described_too() -> None:
    cause = SonioxConnectionError("gone")
    assert described(Reconnecting(2, 0.5, cause)) == {
        "event": "Reconnecting",
        "attempt": 2,
        "delay": 0.5,
        "cause": "gone",
    }
    assert described(RolledOver(100)) == {"event": "RolledOver", "replayed_ms": 100}
    assert described(Reconnected(2, 100, 7, 1.5)) == {
        "event": "Reconnected",
        "attempt": 2,
        "replayed_ms": 100,
        "lost_ms": 7,
        "gap": 1.5,
    }


@pytest.mark.parametrize("text", [True, False])
def test_another_configuration_is_recorded(text: bool) -> None:
    machine = RecoveringSTTStream(URL, CONFIG, reconnect=ReconnectPolicy())
    stream = RecordedStream(machine, url=URL, text=text)
    stream.connect(0.0)
    stream.reconfigure(CONFIG.model_copy(update={"context": "second"}), 0.0)
    trace = stream.trace()
    (entry,) = (entry for entry in trace.entries if entry.get("call") == "reconfigure")
    contexts = [config.get("context") for config in (trace.header["config"], entry["config"])]
    assert contexts == ([CONFIG.context, "second"] if text else [None, None])


def test_an_end_of_the_stream_that_changes_nothing_is_not_recorded() -> None:
    stream = recorded()
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    link.opened(0.0)
    assert [type(event) for event in link.receive_eof(1.0)] == [Closed]
    entries = stream.trace().entries
    assert link.receive_eof(2.0) == []
    assert stream.trace().entries == entries
