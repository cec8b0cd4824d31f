"""Traces of sessions that reconnect, and what must not be in any trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    Closed,
    EndpointDetected,
    RealtimeSTTConfig,
    RealtimeSTTStream,
    Reconnected,
    Reconnecting,
    ReconnectPolicy,
    RecoveringSTTStream,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxValidationError,
)
from soniox_proto.testing import (
    Cue,
    RecordedStream,
    Script,
    ScriptedServer,
    Simulation,
    Trace,
    endpoint,
    replay,
    token,
)
from tests.support.core.messages import API_KEY

URL = "wss://localhost/transcribe-websocket"
CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)


def says_hello_and_drops(script: Script) -> None:
    script.after_audio(seconds=2).say(token("Hello wor", start_ms=0, end_ms=900), endpoint()).drop()


def goes_on(script: Script) -> None:
    """Begin again before the loss, with words that only their letters tell from the old ones."""
    script.after_audio(seconds=1).say(
        token("Hallo world", start_ms=0, end_ms=980), token(" again", start_ms=981, end_ms=1500)
    )


def refuses(script: Script) -> None:
    script.on_upgrade().refuse(429, headers={"Retry-After": "7"})


def restarts(script: Script) -> None:
    script.on_start().error(503)


def loses_everything(script: Script) -> None:
    script.after_audio(seconds=1).say("a").half_open()


def rejects(script: Script) -> None:
    script.on_start().error(400)


def record_recovery(
    *scripts: Callable[[Script], object],
    policy: ReconnectPolicy | None = None,
    config: RealtimeSTTConfig = CONFIG,
    **leave_out: Any,
) -> tuple[Trace, Simulation]:
    policy = policy or ReconnectPolicy()
    stream = RecoveringSTTStream(URL, config, reconnect=policy, api_key=API_KEY)
    recorded = RecordedStream(stream, url=URL, reconnect=policy, **leave_out)
    server = ScriptedServer()
    for number, write in enumerate(scripts):
        write(server.next_connection() if number else server)
    simulation = Simulation(recorded, server).connect()
    simulation.stream_audio(4.0)
    if not recorded.closed:
        recorded.finish(simulation.now)
    simulation.run()
    written = recorded.trace().dumps()
    assert API_KEY not in written
    return Trace.loads(written), simulation


@pytest.mark.parametrize(
    ("scripts", "policy", "attempts"),
    [
        ((says_hello_and_drops, goes_on), ReconnectPolicy(), [1]),
        ((refuses, restarts, says_hello_and_drops), ReconnectPolicy(), [1, 2]),
        ((restarts, restarts), ReconnectPolicy(max_attempts=1, jitter=False), [1]),
        ((loses_everything, goes_on), ReconnectPolicy(speaker_labels="raw"), [1]),
        ((rejects, goes_on), ReconnectPolicy(should_retry=lambda _error, _attempt: True), [1]),
        (
            (says_hello_and_drops, restarts, restarts),
            ReconnectPolicy(should_retry=lambda _error, attempt: attempt < 2),
            [1],
        ),
        ((restarts,), ReconnectPolicy(should_retry=lambda _error, _attempt: False), []),
    ],
)
def test_a_session_that_reconnects_runs_again(
    scripts: tuple[Callable[[Script], object], ...], policy: ReconnectPolicy, attempts: list[int]
) -> None:
    trace, simulation = record_recovery(*scripts, policy=policy)
    events = replay(trace)
    assert [repr(event) for _, event in events] == [repr(event) for _, event in simulation.events]
    assert [time for time, _ in events] == [time for time, _ in simulation.events]
    reconnecting = [event.attempt for _, event in events if isinstance(event, Reconnecting)]
    assert reconnecting == attempts
    assert isinstance(events[-1][1], Closed)


def test_a_trace_that_ends_before_the_policy_decided() -> None:
    """The rest of such a trace is missing, so its session is taken to have ended there."""
    policy = ReconnectPolicy(should_retry=lambda _error, _attempt: True)
    trace, _ = record_recovery(restarts, policy=policy)
    cut = next(
        number for number, entry in enumerate(trace.entries) if entry.get("event") == "Reconnecting"
    )
    with pytest.raises(AssertionError, match="recorded: the end"):
        replay(Trace(trace.header, trace.entries[:cut]))


def test_words_and_audio_can_be_left_out_where_nothing_depends_on_them() -> None:
    trace, _ = record_recovery(
        lambda script: script.after_audio(seconds=2).say("Hello"), audio=False, text=False
    )
    assert "Hello" not in trace.dumps()
    assert isinstance(replay(trace)[-1][1], Closed)
    trace, _ = record_recovery(says_hello_and_drops, goes_on, audio=False)
    assert any(isinstance(event, Reconnected) for _, event in replay(trace))


@pytest.mark.parametrize(
    ("config", "leave_out", "reason"),
    [
        (CONFIG, {"text": False}, "the words of several connections are compared"),
        (RealtimeSTTConfig(model="stt-rt-v5"), {"audio": False}, "'auto' is looked into"),
    ],
)
def test_a_trace_without_what_the_session_looked_at(
    config: RealtimeSTTConfig, leave_out: dict[str, Any], reason: str
) -> None:
    trace, _ = record_recovery(says_hello_and_drops, goes_on, config=config, **leave_out)
    with pytest.raises(SonioxValidationError, match=f"inspected, but not replayed: .*{reason}"):
        replay(trace)


def record_plain(
    api_key: str,
    config: RealtimeSTTConfig = CONFIG,
    server: ScriptedServer | None = None,
    **kw: Any,
) -> Trace:
    leave_out = {name: kw.pop(name) for name in ("audio", "text") if name in kw}
    stream = RealtimeSTTStream(URL, config, api_key=api_key, **kw)
    recorded = RecordedStream(stream, url=URL, options=kw, **leave_out)
    simulation = Simulation(recorded, server or ScriptedServer()).connect()
    # All sequences of three letters are in the base64 of this.
    recorded.send_audio(bytes(range(256)) * 4, simulation.now)
    recorded.keep_alive(simulation.now)
    recorded.finish(simulation.now)
    simulation.run()
    return Trace.loads(recorded.trace().dumps())


@pytest.mark.parametrize("api_key", ["any", "key", "AgM", "keep", "a", "1", "text", "upgrade"])
@pytest.mark.parametrize("authentication", ["header", "subprotocol", "message"])
@pytest.mark.filterwarnings("ignore:sending the API key in the start message")
def test_a_short_key_spoils_nothing(api_key: str, authentication: str) -> None:
    """Local servers take any key; the words of the protocol and the audio may have it in them."""
    trace = record_plain(api_key, authentication=authentication)
    assert isinstance(replay(trace)[-1][1], Closed)


def test_the_key_is_hidden_wherever_the_user_put_it() -> None:
    config = CONFIG.model_copy(update={"client_reference_id": f"user of {API_KEY}"})
    trace = record_plain(API_KEY, config)
    assert API_KEY not in trace.dumps()
    assert trace.header["config"]["client_reference_id"].startswith("user of ")
    replay(trace)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("temp:robert23456789abcd", "temp%3Arobert23456789abcd"),
        ("robert23456789/abcd+=", r"robert23456789\/abcd\u002b="),
        ('robert"23456789\\abcd', r"robert\"23456789\\abcd"),
        ("robert23456789abcdef", "ROBERT23456789ABCDEF"),
        ("robert23456789abcdef", "robert23456"),
        ("robert23456789abcdef", "robert23456 here and (robert23456)"),
        ("23456789robertabcdef", "23456789robertabcdef"),
        ("bob/robert23456789ab", r"bob\/robert2345 and more"),
    ],
)
def test_the_key_is_hidden_however_the_server_spells_it(key: str, said: str) -> None:
    """Escaped, or only its beginning: what a session finds in an error, a trace finds too."""
    server = ScriptedServer()
    more = '"request_id":"00000000-0000-0000-0000-000000000000"'
    data = f'{{"error_code":401,"error_message":"not {said}",{more}}}'.encode()
    server.on_end_of_audio().send_bytes(b"\x81\x7e" + len(data).to_bytes(2, "big") + data)
    trace = record_plain(key, server=server)
    assert "robert" not in trace.dumps().lower()
    assert "23456" not in trace.dumps()
    replay(trace)


@pytest.mark.parametrize("authentication", ["subprotocol", "message"])
@pytest.mark.parametrize("value", ["secret", "Basic secret"])
@pytest.mark.filterwarnings("ignore:sending the API key in the start message")
def test_a_header_of_the_users_is_not_taken_for_the_key(authentication: str, value: str) -> None:
    options: dict[str, Any] = {"authentication": authentication}
    headers = {"Authorization": value}
    stream = RealtimeSTTStream(URL, CONFIG, api_key=API_KEY, additional_headers=headers, **options)
    recorded = RecordedStream(stream, url=URL, options=options, headers=list(headers))
    Simulation(recorded, ScriptedServer()).connect()
    trace = Trace.loads(recorded.trace().dumps())
    assert "secret" not in trace.dumps()
    assert API_KEY not in trace.dumps()
    replay(trace)


def test_the_key_is_hidden_in_what_refused_an_upgrade_made_by_somebody_else() -> None:
    stream = RealtimeSTTStream(URL, CONFIG, api_key=API_KEY)
    recorded = RecordedStream(stream, url=URL)
    recorded.connect(0.0)
    (link,) = recorded.links_to_open()
    link.failed(SonioxConnectionError(f"403: {API_KEY} is not allowed here"), 1.0)
    trace = recorded.trace()
    assert API_KEY not in trace.dumps()
    replay(trace)


def test_escaped_markers_are_no_words() -> None:
    server = ScriptedServer()
    data = rb'{"tokens":[{"text":"\u003cend\u003e","is_final":true},{"text":"\u00e9","x":1}]}'
    server.on_start().send_bytes(b"\x81" + bytes([len(data)]) + data)
    trace = record_plain(API_KEY, server=server, text=False)
    assert r"\u00e9" not in json.dumps(trace.dumps())
    assert [event for _, event in replay(trace) if isinstance(event, EndpointDetected)]


@pytest.mark.parametrize("text", [rb"\x", b"\xff", rb"\u00"])
def test_words_that_are_no_json_are_hidden_too(text: bytes) -> None:
    """Such a trace cannot be replayed, but it must not tell what was said either."""
    server = ScriptedServer()
    data = b'{"text":"' + text + b'"}'
    server.on_end_of_audio().send_bytes(b"\x81" + bytes([len(data)]) + data)
    trace = record_plain(API_KEY, server=server, text=False)
    received = "".join(entry.get("received", "") for entry in trace.entries)
    assert '{"text":"' + "x" * len(text) + '"}' in received


class TestKeysThatAreAskedFor:
    def record(self, *keys: str, reconnect: ReconnectPolicy | None = None) -> Trace:
        options: dict[str, Any] = {"asks_for_key": True}
        stream = (
            RealtimeSTTStream(URL, CONFIG, **options)
            if reconnect is None
            else RecoveringSTTStream(URL, CONFIG, reconnect=reconnect, **options)
        )
        recorded = RecordedStream(stream, url=URL, options=options, reconnect=reconnect)
        recorded.connect(0.0)
        for number, key in enumerate(keys):
            (link,) = recorded.links_to_open()
            assert link.asks_for_key
            link.authenticate(key)
            link.opened(float(number))
            link.data_to_send()
            body = f"not {key}"
            head = f"HTTP/1.1 401 No\r\nContent-Length: {len(body)}\r\n\r\n"
            link.receive_data((head + body).encode(), float(number))
            recorded.handle_timeout(number + 0.9)
        return Trace.loads(recorded.trace().dumps())

    def test_each_is_hidden_and_used_again(self) -> None:
        trace = self.record("temp:alice1", "temp:robert2", reconnect=ReconnectPolicy(jitter=False))
        assert "alice" not in trace.dumps()
        assert "robert" not in trace.dumps()
        keys = [entry["key"] for entry in trace.entries if entry.get("call") == "authenticate"]
        assert keys == ["xxxx:xxxxx9", "xxxx:xxxxxx9"]
        errors = [event.error for _, event in replay(trace) if isinstance(event, Closed)]
        assert isinstance(errors[0], SonioxRealtimeError)

    def test_one_that_could_not_be_had(self) -> None:
        stream = RealtimeSTTStream(URL, CONFIG, asks_for_key=True)
        recorded = RecordedStream(stream, url=URL, options={"asks_for_key": True})
        recorded.connect(0.0)
        (link,) = recorded.links_to_open()
        link.failed(SonioxConnectionError("no key today"), 1.0)
        assert len(replay(recorded.trace())) == 1

    def test_without_a_policy(self) -> None:
        assert len(replay(self.record("temp:alice1"))) == 1


@pytest.mark.parametrize(
    "line",
    [
        {"call": "finish"},
        {"t": 0.0},
        {"t": 0.0, "call": "novel"},
        {"t": 0.0, "link": 9, "call": "opened"},
        {"t": 0.0, "link": 1, "received": "HTTP"},
        {"t": 0.0, "call": "send_audio"},
        {"t": "now", "call": "connect"},
    ],
)
def test_a_line_that_makes_no_sense(line: dict[str, Any]) -> None:
    header = record_plain(API_KEY).header
    with pytest.raises(SonioxValidationError, match="line 2 of the trace cannot be replayed"):
        replay(Trace(header, [line]))


CUES: list[Callable[[Script, Random], Cue]] = [
    lambda script, _: script.on_start(),
    lambda script, _: script.on_finalize(),
    lambda script, _: script.on_end_of_audio(),
    lambda script, random: script.after_audio(ms=random.randrange(3_000)),
    lambda script, random: script.at(random.random() * 8),
]
ACTIONS: list[Callable[[Cue, Random], object]] = [
    lambda cue, random: cue.say(token(random.choice(["a", " bc", " dé"]), speaker="1")),
    lambda cue, random: cue.say(token(" ef", final=random.random() < 0.5), endpoint()),
    lambda cue, random: cue.error(random.choice([503, 429, 408, 401])),
    lambda cue, random: cue.drop(after_bytes=random.choice([0, 5])),
    lambda cue, random: cue.close(random.choice([1000, 1011])),
    lambda cue, random: cue.cut(at=random.randrange(1, 9)).say(" g"),
    lambda cue, random: cue.stall(random.choice([None, 1.0])),
    lambda cue, random: cue.wait(random.random()).say(" h"),
]
CALLS: list[Callable[[RecordedStream, Simulation, Random], object]] = [
    lambda _, simulation, random: simulation.stream_audio(random.random() * 3),
    lambda _, simulation, random: simulation.run(random.random() * 10),
    lambda stream, simulation, _: stream.finalize(simulation.now),
    lambda stream, simulation, _: stream.pause(simulation.now),
    lambda stream, simulation, _: stream.resume(simulation.now),
    lambda stream, simulation, _: stream.pause_reading(simulation.now),
    lambda stream, simulation, _: stream.resume_reading(simulation.now),
]


@given(st.randoms(use_true_random=False))
def test_whatever_happens_runs_again(random: Random) -> None:
    server = ScriptedServer()
    for number in range(random.randrange(1, 5)):
        script = server.next_connection() if number else server
        if random.random() < 0.2:
            script.on_upgrade().refuse(503)
        for _ in range(random.randrange(4)):
            cue = random.choice(CUES)(script, random)
            random.choice(ACTIONS)(cue, random)
    policy = ReconnectPolicy(
        max_attempts=random.choice([1, 3]),
        max_replay_seconds=random.choice([2.0, 60.0]),
        should_retry=random.choice([None, lambda _error, attempt: attempt % 3 != 0]),
    )
    stream = RecoveringSTTStream(URL, CONFIG, reconnect=policy, api_key=API_KEY)
    recorded = RecordedStream(stream, url=URL, reconnect=policy)
    simulation = Simulation(recorded, server).connect()
    for _ in range(random.randrange(1, 7)):
        with suppress(SonioxStateError):
            random.choice(CALLS)(recorded, simulation, random)
    recorded.resume_reading(simulation.now)
    with suppress(SonioxStateError):
        recorded.finish(simulation.now)
    simulation.run(400.0)
    events = replay(Trace.loads(recorded.trace().dumps()))
    assert [repr(event) for _, event in events] == [repr(event) for _, event in simulation.events]
