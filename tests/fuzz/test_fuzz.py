"""The fuzz targets in the normal suite: on their corpus, on what hypothesis makes, and on bugs.

See `fuzz_connection.py` and `fuzz_messages.py` for the targets and how to run them under atheris.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soniox_proto import (
    Closed,
    Event,
    Outcome,
    RealtimeSTTConnection,
    RealtimeSTTProtocol,
    Result,
    SonioxProtocolError,
    SonioxStateError,
)
from soniox_proto import messages as messages_module
from soniox_proto.websocket.framing import FrameReader
from tests.fuzz import corpus, fuzz_connection, fuzz_messages
from tests.fuzz.program import Do, Operation, Program, Reader
from tests.support.core.trace import Trace

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def file_name(path: Path) -> str:
    return path.name


# The corpus


@pytest.mark.parametrize("path", corpus.files("connection"), ids=file_name)
def test_corpus_of_the_byte_layer(path: Path) -> None:
    fuzz_connection.check(path.read_bytes())


@pytest.mark.parametrize("path", corpus.files("messages"), ids=file_name)
def test_corpus_of_the_message_layer(path: Path) -> None:
    fuzz_messages.check(path.read_bytes())


@pytest.mark.parametrize(
    ("target", "seeds"),
    [("connection", corpus.connection_seeds()), ("messages", corpus.message_seeds())],
)
def test_the_seeds_are_those_that_are_made(target: str, seeds: dict[str, bytes]) -> None:
    stored = {
        path.name: path.read_bytes()
        for path in corpus.files(target)
        if not path.name.startswith("found-")
    }
    assert stored == seeds, "run python -m tests.fuzz.corpus"


@pytest.mark.parametrize("path", corpus.files("connection"), ids=file_name)
def test_programs_are_written_as_they_are_read(path: Path) -> None:
    program = Program.read(path.read_bytes())
    assert Program.read(program.write()) == program


@pytest.mark.parametrize("name", [name for name in Trace.names() if not Trace.read(name).options])
def test_a_seed_does_what_its_trace_does(name: str) -> None:
    program = Program.read(corpus.connection_seeds()[f"trace-{name}"])
    told = [event for step in fuzz_connection.run(program) for event in step.events]
    lines = [line for step in Trace.read(name).steps for line in step.outcome]
    expected = [line.split()[1] for line in lines if line.startswith("! ")]
    assert [event.partition("(")[0] for event in told] == expected


def test_where_the_bytes_end_there_are_choices_still() -> None:
    reader = Reader(b"\x05\x00\x09abc")
    assert reader.choose("abc") == "c"
    assert reader.payload() == b"abc"
    assert reader.at_end
    assert (reader.number(), reader.choose("abc"), reader.payload()) == (0, "a", b"")


# What hypothesis makes

PAYLOADS = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(['{"tokens":[]}', '{"finished":true}', "é"]).map(str.encode),
    st.sampled_from([125, 126, 400, 401]).map(lambda size: b" " * size),
)
FIRST_BYTES = st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A])
OPERATIONS = st.one_of(
    st.builds(Operation, st.just(Do.FRAME), FIRST_BYTES, PAYLOADS),
    st.builds(Operation, st.just(Do.FRAME), st.integers(0, 255), PAYLOADS),
    st.builds(Operation, st.just(Do.MESSAGE), st.integers(0, 255)),
    st.builds(Operation, st.sampled_from(Do), st.integers(0, 255), PAYLOADS),
)
BEGINNINGS = st.sampled_from(
    [
        [],
        [Operation(Do.CONNECT)],
        [Operation(Do.CONNECT), Operation(Do.HANDSHAKE)],
        [Operation(Do.CONNECT), Operation(Do.SEND, payload=b"first"), Operation(Do.HANDSHAKE)],
    ]
)
SERVER_BEGINNINGS = st.sampled_from(
    [
        [],
        [Operation(Do.HANDSHAKE), Operation(Do.KEEP_ALIVE)],
        [Operation(Do.HANDSHAKE), Operation(Do.KEEP_ALIVE), Operation(Do.MESSAGE)],
    ]
)


def programs(
    settings_bytes: st.SearchStrategy[int], beginnings: st.SearchStrategy[list[Operation]]
) -> st.SearchStrategy[Program]:
    return st.builds(
        lambda number, beginning, rest: Program(number, beginning + rest),
        settings_bytes,
        beginnings,
        st.lists(OPERATIONS, max_size=12),
    )


@EXAMPLES
@given(programs(st.integers(0, 127).map(lambda number: 2 * number), BEGINNINGS))
def test_clients(program: Program) -> None:
    fuzz_connection.check(program.write())


@EXAMPLES
@given(programs(st.sampled_from([0x01, 0x03]), SERVER_BEGINNINGS))
def test_servers(program: Program) -> None:
    fuzz_connection.check(program.write())


@EXAMPLES
@given(st.binary(max_size=300))
def test_any_bytes_at_the_byte_layer(data: bytes) -> None:
    fuzz_connection.check(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
MAYBE_TOKENS = st.fixed_dictionaries(
    {"text": st.sampled_from(["word", "<end>", "<fin>", ""]) | JSON},
    optional={"is_final": st.booleans(), "end_ms": st.integers() | JSON, "new": JSON},
)
MAYBE_MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.lists(MAYBE_TOKENS, max_size=4),
        "finished": st.booleans(),
        "error_code": st.sampled_from([None, 400, 503, 10**30]),
        "error_type": st.sampled_from([None, "request_timeout"]) | JSON,
        "total_audio_proc_ms": JSON,
        "new": JSON,
    },
)
MAYBE_CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.just("stt-rt-v5") | JSON,
        "api_key": JSON,
        "language_hints": st.lists(st.sampled_from(["en", "de", "x"]) | JSON, max_size=3),
        "context": JSON,
        "translation": st.dictionaries(st.sampled_from(["type", "language_a"]), JSON),
        "endpoint_sensitivity": st.floats() | JSON,
    },
)
CONTROLS = st.fixed_dictionaries(
    {"type": st.sampled_from(["keepalive", "finalize"])}, optional={"trailing_silence_ms": JSON}
)


def line(value: object, *, binary: bool) -> bytes:
    # Escaped where JSON can escape, and raw otherwise.
    return b"+" * binary + json.dumps(value, ensure_ascii=not binary).encode("utf-8", "replace")


LINES = st.builds(line, MAYBE_MESSAGES | MAYBE_MESSAGES | JSON, binary=st.booleans())
CLIENT_LINES = st.builds(line, CONTROLS | CONTROLS | JSON, binary=st.just(False)) | st.just(b"+ab")
STARTS = st.builds(line, MAYBE_CONFIGS, binary=st.booleans().map(lambda _: False))


@EXAMPLES
@given(st.lists(LINES, max_size=5))
def test_messages_of_the_service(lines: list[bytes]) -> None:
    fuzz_messages.check(b"0" + b"\n".join(lines))


@EXAMPLES
@given(STARTS, st.lists(CLIENT_LINES, max_size=4))
def test_messages_of_a_client(start: bytes, lines: list[bytes]) -> None:
    fuzz_messages.check(b"1" + b"\n".join([start, *lines]))


@EXAMPLES
@given(st.binary(max_size=300))
def test_any_bytes_at_the_message_layer(data: bytes) -> None:
    fuzz_messages.check(data)


# The targets see what they are to see

SESSION = corpus.connection_seeds()["trace-happy_path"]
WORDS = corpus.message_seeds()["service-words"]

_receive_data = RealtimeSTTConnection.receive_data


def forgets_events_of_single_bytes(
    self: RealtimeSTTConnection, data: bytes, now: float
) -> list[Event]:
    events = _receive_data(self, data, now)
    return [event for event in events if len(data) > 1 or not isinstance(event, Result)]


def raises_for_the_peer(self: RealtimeSTTConnection, data: bytes, now: float) -> list[Event]:
    raise SonioxProtocolError("the server broke the protocol")


def ends_twice(self: RealtimeSTTConnection, data: bytes, now: float) -> list[Event]:
    events = _receive_data(self, data, now)
    return [event for event in events for _ in range(1 + isinstance(event, Closed))]


def ends_too_early(self: RealtimeSTTConnection, data: bytes, now: float) -> list[Event]:
    _receive_data(self, data, now)
    return [Closed(Outcome.FINISHED, 1000, "", None)]


def hoards(self: RealtimeSTTConnection, data: bytes, now: float) -> list[Event]:
    self._additional_headers = [*self._additional_headers, ("hoard", "x" * 10_000)]
    return _receive_data(self, data, now)


def refuses_a_keepalive_late(self: RealtimeSTTProtocol, now: float) -> None:
    self._queue_keepalive(now)
    raise SonioxStateError("too late")


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (forgets_events_of_single_bytes, "differs"),
        (raises_for_the_peer, "broke the protocol"),
        (ends_twice, "ends twice"),
        (ends_too_early, "an end that is none"),
        (hoards, "it keeps"),
    ],
)
def test_a_broken_connection_is_noticed(
    monkeypatch: pytest.MonkeyPatch, method: Callable[..., object], complaint: str
) -> None:
    monkeypatch.setattr(RealtimeSTTConnection, "receive_data", method)
    with pytest.raises((AssertionError, SonioxProtocolError), match=complaint):
        fuzz_connection.check(SESSION)


def test_direct_framing_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def loses(self: FrameReader, data: bytes) -> list[bytes]:
        return []

    monkeypatch.setattr(FrameReader, "read", loses)
    with pytest.raises(AssertionError, match="direct=False"):
        fuzz_connection.check(SESSION)


def test_a_refused_call_that_sends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RealtimeSTTProtocol, "keep_alive", refuses_a_keepalive_late)
    steps = [Operation(Do.CONNECT), Operation(Do.HANDSHAKE), Operation(Do.KEEP_ALIVE)]
    with pytest.raises(AssertionError, match="moved a deadline"):
        fuzz_connection.check(Program(0, [*steps, Operation(Do.WAIT, 1), steps[-1]]).write())


def test_work_that_stays_undone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleeps(self: RealtimeSTTConnection, now: float) -> list[Event]:
        return []

    monkeypatch.setattr(RealtimeSTTConnection, "handle_timeout", sleeps)
    with pytest.raises(AssertionError, match="still to be done"):
        fuzz_connection.check(Program(0, [Operation(Do.CONNECT), Operation(Do.SKIP)]).write())


def test_a_message_that_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = messages_module.parse_event

    def loses_the_news(raw: str | bytes) -> messages_module.RealtimeEvent:
        message = parse(raw)
        message.__pydantic_extra__ = {}
        return message

    monkeypatch.setattr(messages_module, "parse_event", loses_the_news)
    with pytest.raises(AssertionError):
        fuzz_messages.check(corpus.message_seeds()["service-unknown-fields"])


def test_events_that_are_lost_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = RealtimeSTTProtocol.receive_message

    def first_only(self: RealtimeSTTProtocol, data: str | bytes, now: float) -> list[Event]:
        return receive(self, data, now)[:1]

    monkeypatch.setattr(RealtimeSTTProtocol, "receive_message", first_only)
    with pytest.raises(AssertionError):
        fuzz_messages.check(WORDS)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is not None, reason="atheris is installed")
@pytest.mark.parametrize("target", ["fuzz_connection", "fuzz_messages"])
def test_without_atheris_there_is_one_line(target: str) -> None:
    command = [sys.executable, "-m", f"tests.fuzz.{target}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (text,) = done.stderr.splitlines()
    assert "pip install atheris" in text
