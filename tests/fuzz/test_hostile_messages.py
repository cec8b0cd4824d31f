"""Hostile JSON in well-formed frames, at both ends: taken, or refused, and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from soniox_proto import (
    Closed,
    EndpointDetected,
    Event,
    FinalizeReceived,
    RealtimeEvent,
    RealtimeSTTConfig,
    RealtimeSTTProtocol,
    RequestRefused,
    Result,
    ServerError,
    SonioxProtocolError,
    SonioxValidationError,
    StartReceived,
)
from tests.fuzz.hostile import (
    READ_SIZE,
    accepted_server,
    feed,
    feeding,
    open_client,
    open_server,
    segments,
    violation,
)
from tests.fuzz.measure import MEBIBYTE, check_linear, peak_memory
from tests.support.core import frames
from tests.support.core.frames import CLIENT_MASK
from tests.support.core.messages import CONFIG, token

LONGEST_ERROR = 1_000
"""Characters of an error's text, however large the message."""

TEN_TO_5000 = "1" + "0" * 5_000

DEEP = {
    "arrays": "[" * 100_000 + "]" * 100_000,
    "objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "unknown-field": '{"tokens":[],"new":' + "[" * 100_000 + "]" * 100_000 + "}",
    "token": '{"tokens":[{"text":"a","new":' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}]}",
    "never-closed": '{"tokens":' + "[" * 100_000,
    "only-closed": "]" * 100_000,
}

NOT_MESSAGES = {
    "integer-out-of-range": f'{{"final_audio_proc_ms":{TEN_TO_5000}}}',
    "unknown-integer-out-of-range": f'{{"new":{TEN_TO_5000}}}',
    "infinite-integer": '{"final_audio_proc_ms":1e400}',
    "integer-of-a-huge-float": '{"final_audio_proc_ms":1e300}',
    "nan-as-integer": '{"final_audio_proc_ms":NaN}',
    "infinity-as-text": '{"tokens":[{"text":Infinity}]}',
    "nan-alone": "NaN",
    "lone-surrogate": r'{"tokens":[{"text":"\ud800"}]}',
    "lone-low-surrogate": r'{"tokens":[{"text":"\udc00 "}]}',
    "surrogates-in-wrong-order": r'{"tokens":[{"text":"\udc00\ud800"}]}',
    "lone-surrogate-in-a-name": r'{"\ud800":1}',
    "nul-in-text": '{"tokens":[{"text":"a\0b"}]}',
    "nul-behind": '{"tokens":[]}\0',
    "nuls": "\0" * 1000,
    "byte-order-mark": '\ufeff{"tokens":[]}',
    "two-messages": '{"tokens":[]}{"tokens":[]}',
    "comment": '{"tokens":[]} // nothing',
    "single-quotes": "{'tokens':[]}",
    "number": "1",
    "long-minus": "-" * 100_000,
    "long-number": "1" * 1_000_000,
    "long-word": "nul" + "l" * 1_000_000,
    "open-text": '"' + "a" * 1_000_000,
    "many-wrong-tokens": '{"tokens":[' + ",".join(["{}"] * 100_000) + "]}",
    "many-wrong-values": '{"tokens":[' + ",".join(['{"text":1}'] * 100_000) + "]}",
    "wrong-field-of-a-long-name": '{"finished":"' + "x" * 1_000_000 + '"}',
}

STRANGE_ERRORS = {
    "integer-of-a-huge-float": '{"error_code":1e300}',
    "nan-as-integer": '{"error_code":NaN}',
    "long-text-as-integer": '{"error_code":"' + "x" * 1_000_000 + '"}',
    "long-list-as-text": '{"error_type":[' + ",".join(["{}"] * 100_000) + "]}",
    "long-text": '{"error_message":"' + "x" * 1_000_000 + '"}',
    "wrong-tokens": '{"error_code":503,"tokens":[{},{"text":1}]}',
}


def client_told(message: str) -> list[Event]:
    return feed(open_client(), segments(frames.text(message)))


class TestDepth:
    @pytest.mark.parametrize("name", DEEP)
    def test_ends_a_client(self, name: str) -> None:
        client = open_client()
        data = segments(frames.text(DEEP[name]))
        assert peak_memory(feeding(client, data)) < 5 * len(DEEP[name]) + 3 * READ_SIZE
        assert client.close_codes == [1007]

    @pytest.mark.parametrize("name", DEEP)
    @pytest.mark.parametrize("started", [False, True])
    def test_is_refused_by_a_server(self, name: str, started: bool) -> None:
        server = open_server() if started else accepted_server()
        (event,) = server.receive_data(frames.text(DEEP[name], mask=CLIENT_MASK), 0.0)
        assert isinstance(event, RequestRefused)
        server.send_error(event.error_code, event.error_type, event.error_message, 0.0)

    def test_that_is_taken_can_be_used(self) -> None:
        message = '{"tokens":[],"new":' + "[" * 150 + "]" * 150 + "}"
        (event,) = client_told(message)
        assert isinstance(event, Result)
        assert json.loads(event.message.model_dump_json())["new"] == json.loads(message)["new"]
        assert "new=[[[" in repr(event)


class TestWhatIsNoMessage:
    @pytest.mark.parametrize("name", NOT_MESSAGES)
    def test_ends_a_client_with_an_error_of_bounded_length(self, name: str) -> None:
        (end,) = client_told(NOT_MESSAGES[name])
        assert violation(end).close_code == 1007
        assert len(str(violation(end))) < LONGEST_ERROR

    @pytest.mark.parametrize("name", STRANGE_ERRORS)
    def test_but_an_error_message_in_strange_form_is_one(self, name: str) -> None:
        told = client_told(STRANGE_ERRORS[name])
        assert [type(event) for event in told] == [Result, ServerError]
        assert isinstance(told[1], ServerError)
        assert len(str(told[1].error)) < 2 * LONGEST_ERROR

    @pytest.mark.parametrize("name", NOT_MESSAGES)
    def test_is_one_documented_error_of_the_model(self, name: str) -> None:
        with pytest.raises(SonioxProtocolError) as raised:
            RealtimeEvent.validate_event(NOT_MESSAGES[name].encode())
        assert len(str(raised.value)) < LONGEST_ERROR

    @pytest.mark.parametrize("name", NOT_MESSAGES)
    @pytest.mark.parametrize("started", [False, True])
    def test_is_refused_by_a_server(self, name: str, started: bool) -> None:
        server = open_server() if started else accepted_server()
        frame = frames.text(NOT_MESSAGES[name], mask=CLIENT_MASK)
        (event,) = [told for piece in segments(frame) for told in server.receive_data(piece, 0.0)]
        assert isinstance(event, RequestRefused)
        assert len(event.error_message) < LONGEST_ERROR

    @pytest.mark.parametrize("message", ["\ud800", '{"new":"\udfff"}', '{"\udc80":1}'])
    def test_text_that_is_no_unicode_ends_the_message_layer(self, message: str) -> None:
        protocol = RealtimeSTTProtocol(CONFIG)
        protocol.start(0.0)
        (end,) = protocol.receive_message(message, 0.0)
        assert isinstance(end, Closed)
        assert isinstance(end.error, SonioxProtocolError)

    @pytest.mark.parametrize("raw", [b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xff"])
    def test_bytes_that_are_no_unicode_end_a_client(self, raw: bytes) -> None:
        inside = b'{"tokens":[{"text":"' + raw + b'"}]}'
        for opcode in (frames.Opcode.TEXT, frames.Opcode.BINARY):
            (end,) = feed(open_client(), [frames.encode(opcode, inside)])
            assert violation(end).close_code == 1007

    def test_the_error_for_many_wrong_tokens_takes_no_memory_to_speak_of(self) -> None:
        message = NOT_MESSAGES["many-wrong-tokens"]
        client = open_client()
        peak = peak_memory(feeding(client, segments(frames.text(message))))
        assert peak < 5 * len(message) + 3 * READ_SIZE

    @pytest.mark.parametrize(
        "values",
        [
            {f"wrong {index}": index for index in range(20_000)},
            {"model": "m", "language_hints": [1] * 20_000},
            {"model": "m", "context": {"terms": [1] * 20_000}},
            {"model": "m", "context": {"general": [{}] * 20_000}},
            {"model": "m", "context": {"general": {str(index): 1 for index in range(20_000)}}},
            {"model": "m", "x" * 100_000: 1},
            {"x" * 100_000: {"x" * 100_000: 1}},
        ],
        ids=["fields", "hints", "terms", "general", "general-dict", "long-name", "long-names"],
    )
    def test_the_error_for_a_wrong_configuration_is_short(self, values: dict[str, object]) -> None:
        with pytest.raises(SonioxValidationError) as raised:
            RealtimeSTTConfig.validate_config(values)
        assert len(str(raised.value)) < LONGEST_ERROR
        server = accepted_server()
        frame = frames.text(json.dumps(values), mask=CLIENT_MASK)
        (event,) = server.receive_data(frame, 0.0)
        assert isinstance(event, RequestRefused)
        assert len(event.error_message) < LONGEST_ERROR

    def test_the_error_for_many_wrong_fields_takes_memory_in_proportion(self) -> None:
        values = json.dumps({f"wrong {index}": index for index in range(20_000)})
        server = accepted_server()
        frame = frames.text(values, mask=CLIENT_MASK)
        assert peak_memory(feeding(server, [frame])) < 40 * len(values)


class TestOddNumbersAndNames:
    def test_numbers_without_end_are_kept(self) -> None:
        message = '{"tokens":[{"text":"a","confidence":1e400}],"new":[NaN,Infinity,-Infinity]}'
        (event,) = client_told(message)
        assert isinstance(event, Result)
        assert event.message.tokens[0].confidence == math.inf
        assert event.message.model_extra is not None
        assert repr(event.message.model_extra["new"]) == "[nan, inf, -inf]"
        assert json.loads(event.message.model_dump_json())["new"] == [None, None, None]

    def test_a_long_integer_is_kept(self) -> None:
        (event,) = client_told('{"tokens":[],"new":1' + "0" * 4_000 + "}")
        assert isinstance(event, Result)
        assert event.message.model_extra == {"new": 10**4_000}

    def test_of_a_name_that_comes_twice_the_last_counts(self) -> None:
        message = (
            '{"tokens":[{"text":"lost"}],"tokens":[{"text":"a","text":"b"}],'
            '"finished":true,"finished":false,"new":1,"new":2}'
        )
        (event,) = client_told(message)
        assert isinstance(event, Result)
        assert [item.text for item in event.message.tokens] == ["b"]
        assert event.message.model_extra == {"new": 2}

    def test_nul_and_other_controls_may_be_escaped(self) -> None:
        (event,) = client_told(r'{"tokens":[{"text":"\u0000\u001f\ud83d\ude00\uffff"}]}')
        assert isinstance(event, Result)
        assert event.message.tokens[0].text == "\0\x1f😀\uffff"

    def test_names_of_python_mean_nothing(self) -> None:
        names = ["__class__", "__dict__", "model_config", "model_fields", "copy", "self", ""]
        message = json.dumps({"tokens": [{"text": "a", **dict.fromkeys(names, 1)}], "__init__": 1})
        (event,) = client_told(message)
        assert isinstance(event, Result)
        assert event.message.tokens[0].model_extra == dict.fromkeys(names, 1)
        assert type(event.message) is RealtimeEvent
        assert json.loads(event.message.model_dump_json())["tokens"][0]["__class__"] == 1

    @pytest.mark.parametrize(
        "silence",
        ["NaN", "1e400", "-1", "1.5", "true", "[]", TEN_TO_5000],
        ids=["nan", "infinite", "negative", "broken", "true", "list", "ten-to-5000"],
    )
    def test_a_finalize_with_no_time_is_refused(self, silence: str) -> None:
        message = f'{{"type":"finalize","trailing_silence_ms":{silence}}}'
        (event,) = open_server().receive_data(frames.text(message, mask=CLIENT_MASK), 0.0)
        assert isinstance(event, RequestRefused)

    def test_a_finalize_said_twice_counts_once(self) -> None:
        message = '{"type":"x","type":"finalize","trailing_silence_ms":1}'
        events = open_server().receive_data(frames.text(message, mask=CLIENT_MASK), 0.0)
        assert events == [FinalizeReceived(1)]

    @pytest.mark.parametrize("field", ["model", "client_reference_id", "context", "audio_format"])
    def test_a_lone_surrogate_in_a_configuration_is_refused(self, field: str) -> None:
        message = json.dumps({"model": "m", field: "\ud800"})
        server = accepted_server()
        (event,) = server.receive_data(frames.text(message, mask=CLIENT_MASK), 0.0)
        assert isinstance(event, RequestRefused)
        server.send_error(event.error_code, event.error_type, event.error_message, 0.0)
        assert frames.decode(server.data_to_send(), from_client=False)

    def test_a_lone_surrogate_as_the_key_is_survived(self) -> None:
        server = accepted_server()
        message = r'{"model":"m","api_key":"\ud800"}'
        (event,) = server.receive_data(frames.text(message, mask=CLIENT_MASK), 0.0)
        assert isinstance(event, StartReceived | RequestRefused)


class TestMany:
    TOKEN = token("word", start_ms=1200, end_ms=1320, confidence=0.98, speaker="1", language="en")

    def test_a_hundred_thousand_tokens(self) -> None:
        message = json.dumps({"tokens": [self.TOKEN] * 100_000})
        client = open_client()
        data = segments(frames.text(message))
        assert peak_memory(feeding(client, data)) < 12 * len(message)
        last = client.connection.last_message
        assert last is not None
        assert len(last.tokens) == 100_000

    def test_tokens_take_time_in_proportion(self) -> None:
        def prepare(count: int) -> Callable[[], object]:
            message = json.dumps({"tokens": [self.TOKEN] * count})
            return feeding(open_client(), segments(frames.text(message)))

        check_linear(prepare, 4_000)

    def test_markers_take_time_in_proportion(self) -> None:
        def prepare(count: int) -> Callable[[], object]:
            message = json.dumps({"tokens": [token("<end>"), token("<fin>")] * count})
            return feeding(open_client(), segments(frames.text(message)))

        check_linear(prepare, 2_000)

    def test_a_hundred_thousand_markers_are_as_many_events(self) -> None:
        events = client_told(json.dumps({"tokens": [token("<end>")] * 100_000}))
        assert isinstance(events[0], Result)
        assert len(events) == 100_001
        assert all(isinstance(event, EndpointDetected) for event in events[1:])

    @pytest.mark.parametrize("same", [True, False])
    def test_a_hundred_thousand_unknown_names(self, same: bool) -> None:
        names = ("x" if same else f"x{index}" for index in range(100_000))
        message = "{" + ",".join(f'"{name}":0' for name in names) + "}"
        client = open_client()
        assert peak_memory(feeding(client, segments(frames.text(message)))) < 20 * len(message)
        last = client.connection.last_message
        assert last is not None
        assert len(last.model_extra or {}) == (1 if same else 100_000)

    def test_a_text_of_eight_mebibytes(self) -> None:
        message = json.dumps({"tokens": [token("a" * 8 * MEBIBYTE)]})
        client = open_client()
        assert peak_memory(feeding(client, segments(frames.text(message)))) < 5 * len(message)
        assert client.connection.stats.received_messages == 1

    def test_of_ten_thousand_errors_the_first_is_told(self) -> None:
        client = open_client()
        events = feed(client, [frames.text("{") * 10_000])
        assert [type(event) for event in events] == [Closed]
