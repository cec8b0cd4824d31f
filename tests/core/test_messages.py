from __future__ import annotations

import array
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from soniox_proto import (
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    RealtimeControlType,
    RealtimeEvent,
    SonioxProtocolError,
    SonioxValidationError,
    Token,
)
from soniox_proto.messages import (
    END_OF_AUDIO,
    KEEPALIVE_MESSAGE,
    audio_bytes,
    finalize_message,
    is_error,
    parse_event,
    start_message,
)
from tests.support.core.messages import CONFIG

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def is_unknown(name: str) -> bool:
    return name not in {*RealtimeEvent.model_fields, *Token.model_fields}


class TestConstants:
    def test_markers(self) -> None:
        assert (TOKEN_TEXT_END, TOKEN_TEXT_FIN) == ("<end>", "<fin>")

    def test_controls(self) -> None:
        assert json.loads(KEEPALIVE_MESSAGE) == {"type": "keepalive"}
        assert END_OF_AUDIO == ""
        assert [control.value for control in RealtimeControlType] == [
            "finish",
            "keep_alive",
            "finalize",
        ]


class TestParseEvent:
    def test_every_declared_field(self) -> None:
        fields = {
            "text": " Hello",
            "start_ms": 120,
            "end_ms": 480,
            "confidence": 0.97,
            "is_final": True,
            "speaker": "1",
            "translation_status": "original",
            "language": "en",
            "source_language": None,
            "is_audio_event": False,
        }
        message = parse_event(
            json.dumps({"tokens": [fields], "final_audio_proc_ms": 480, "total_audio_proc_ms": 600})
        )
        (token,) = message.tokens
        assert token.model_dump() == fields
        assert (message.final_audio_proc_ms, message.total_audio_proc_ms) == (480, 600)
        assert message.finished is False

    def test_error_fields_may_be_absent(self) -> None:
        message = parse_event('{"error_code":400,"error_message":"No audio received"}')
        assert (message.error_code, message.error_message) == (400, "No audio received")
        assert (message.error_type, message.request_id, message.more_info) == (None, None, None)
        assert message.tokens == []

    def test_unknown_fields_are_kept_in_messages_and_tokens(self) -> None:
        message = parse_event('{"tokens":[{"text":"a","emotion":"joy"}],"queue":{"depth":2}}')
        assert message.model_extra == {"queue": {"depth": 2}}
        assert message.tokens[0].model_extra == {"emotion": "joy"}
        assert message.model_dump(exclude_none=True)["queue"] == {"depth": 2}

    def test_bytes_are_as_good_as_text(self) -> None:
        assert parse_event(b'{"finished":true}') == parse_event('{"finished":true}')
        assert RealtimeEvent.validate_event('{"finished":true}').finished

    @pytest.mark.parametrize(
        "raw",
        [
            "",
            "hello",
            "[]",
            "null",
            '"text"',
            "{",
            '{"tokens":5}',
            '{"tokens":[{}]}',
            '{"tokens":[{"text":5}]}',
            '{"finished":"perhaps"}',
            '{"tokens":[' * 5000,
            b"\xff\xfe",
            "\ud800",
        ],
    )
    def test_what_is_not_a_message_is_a_protocol_error(self, raw: str | bytes) -> None:
        for parse in (parse_event, RealtimeEvent.validate_event):
            with pytest.raises(SonioxProtocolError) as caught:
                parse(raw)
            assert caught.value.close_code == 1007
            assert isinstance(caught.value.__cause__, ValidationError)

    def test_tokens_may_be_null(self) -> None:
        message = parse_event('{"tokens":null,"total_audio_proc_ms":5,"queue":1}')
        assert (message.tokens, message.total_audio_proc_ms) == ([], 5)
        assert message.model_extra == {"queue": 1}

    @given(raw=st.text() | st.binary() | JSON.map(json.dumps))
    def test_nothing_but_a_protocol_error_comes_out(self, raw: str | bytes) -> None:
        try:
            message = parse_event(raw)
        except SonioxProtocolError:
            return
        assert isinstance(message, RealtimeEvent)

    @given(extra=st.dictionaries(st.text().filter(is_unknown), JSON))
    def test_no_unknown_field_ever_fails(self, extra: dict[str, object]) -> None:
        raw = json.dumps({"tokens": [{"text": "a", **extra}], **extra})
        message = parse_event(raw)
        assert set(extra) <= set(message.model_extra or {})


LONG = "x" * 1_000_000


class TestLenientErrors:
    """What has a field of an error is an error, whatever else is in it."""

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"request_id": 7}, {"error_code": 503, "request_id": "7"}),
            ({"more_info": 1.5}, {"error_code": 503, "more_info": "1.5"}),
            ({"tokens": None}, {"error_code": 503, "tokens": []}),
            ({"tokens": [{}]}, {"error_code": 503, "tokens": []}),
            ({"finished": "perhaps"}, {"error_code": 503, "finished": False}),
            ({"total_audio_proc_ms": "soon"}, {"error_code": 503, "total_audio_proc_ms": None}),
            ({"error_type": [1]}, {"error_type": None, "error_message": "No (error_type: [1])"}),
            ({"error_code": "E42"}, {"error_code": None, "error_message": "No (error_code: E42)"}),
            ({"error_code": "503"}, {"error_code": 503, "error_message": "No"}),
            ({"error_message": {"en": "No"}}, {"error_message": '{"en":"No"}'}),
            ({"error_message": 5}, {"error_message": "5"}),
            (
                {"request_id": {"a": 1}, "error_message": None},
                {"request_id": None, "error_message": 'no description (request_id: {"a":1})'},
            ),
        ],
    )
    def test_keep_the_words_of_the_service(
        self, fields: dict[str, object], expected: dict[str, object]
    ) -> None:
        raw = json.dumps({"error_code": 503, "error_message": "No", "trace": "t", **fields})
        message = parse_event(raw)
        assert {name: getattr(message, name) for name in expected} == expected
        assert message.model_extra == {"trace": "t"}
        assert is_error(vars(message))

    @pytest.mark.parametrize(
        "other", ['"a":' + "[" * 300 + "]" * 300, '"request_id":' + "7" * 5000]
    )
    def test_what_pydantic_cannot_read_beside_it_does_not_hide_it(self, other: str) -> None:
        message = parse_event('{"error_code":503,' + other + ',"error_message":"Restart."}')
        assert message.error_code == 503
        assert (message.error_message or "").startswith("Restart.")
        assert message.model_extra == {}

    def test_a_number_that_is_too_long_is_an_error_s_word(self) -> None:
        assert is_error(vars(parse_event('{"error_code":' + "9" * 5001 + "}")))

    @pytest.mark.parametrize(
        "raw",
        ['{"error_code":503,"a":' + "[" * 100_000, '["error_code",' + "9" * 5001 + "]"],
        ids=["too deep", "no object"],
    )
    def test_what_nothing_can_read_is_no_message(self, raw: str) -> None:
        with pytest.raises(SonioxProtocolError):
            parse_event(raw)

    @pytest.mark.parametrize("name", ["error_code", "error_type", "error_message"])
    def test_one_field_is_enough(self, name: str) -> None:
        for value in (LONG, [LONG], {"a": LONG}, 10**100, [], {}, False):
            message = parse_event(json.dumps({name: value, "tokens": 5}))
            assert is_error(vars(message))
            if not isinstance(value, str):
                assert len(message.error_message or "") < 2100

    def test_without_one_there_is_no_leniency(self) -> None:
        for raw in (
            *('{"error_code":null,"tokens":5}', '{"request_id":7}', '{"error_code":1'),
            *('["error_code"]', '{"tokens":null,"finished":5}', '{"error_code":"\ud800"}'),
            *(b'{"error_code":"\xff"}', r'{"error_code":"\ud800"}'),
        ):
            with pytest.raises(SonioxProtocolError):
                parse_event(raw)

    @given(st.dictionaries(st.sampled_from([*RealtimeEvent.model_fields, "x"]), JSON))
    def test_none_is_refused(self, fields: dict[str, object]) -> None:
        raw = json.dumps({**fields, "error_code": 400})
        assert parse_event(raw).error_code == 400


class TestStartMessage:
    def test_holds_no_key_unless_told(self) -> None:
        assert json.loads(start_message(CONFIG)) == {"model": "stt-rt-v5", "audio_format": "auto"}

    def test_holds_the_key_in_the_deprecated_form(self) -> None:
        assert json.loads(start_message(CONFIG, api_key='k"é')) == {
            "api_key": 'k"é',
            "model": "stt-rt-v5",
            "audio_format": "auto",
        }


class TestFinalizeMessage:
    def test_without_silence(self) -> None:
        assert json.loads(finalize_message()) == {"type": "finalize"}

    @given(st.integers(min_value=0))
    def test_with_silence(self, silence: int) -> None:
        assert json.loads(finalize_message(silence)) == {
            "type": "finalize",
            "trailing_silence_ms": silence,
        }

    @pytest.mark.parametrize("silence", [-1, 1.5, True, "300", float("nan")])
    def test_what_is_not_a_number_of_milliseconds_is_refused(self, silence: int) -> None:
        with pytest.raises(SonioxValidationError, match="trailing_silence_ms"):
            finalize_message(silence)


class TestAudioBytes:
    @pytest.mark.parametrize(
        ("chunk", "expected"),
        [
            (b"\x01\x02", b"\x01\x02"),
            (bytearray(b"\x01\x02"), b"\x01\x02"),
            (memoryview(b"\x01\x02"), b"\x01\x02"),
            (memoryview(array.array("H", [0x0101, 0x0202])), b"\x01\x01\x02\x02"),
            (memoryview(b"\x01\x02\x03\x04").cast("B", [2, 2]), b"\x01\x02\x03\x04"),
            (memoryview(b""), b""),
        ],
    )
    def test_bytes_of_any_kind(
        self, chunk: bytes | bytearray | memoryview, expected: bytes
    ) -> None:
        audio = audio_bytes(chunk)
        assert type(audio) is bytes
        assert audio == expected

    def test_what_may_still_change_is_copied(self) -> None:
        chunk = bytearray(b"\x01\x02")
        audio = audio_bytes(chunk)
        view = audio_bytes(memoryview(chunk))
        chunk[0] = 9
        assert audio == view == b"\x01\x02"

    def test_a_subclass_of_bytes_becomes_plain_bytes(self) -> None:
        class Chunk(bytes):
            pass

        assert type(audio_bytes(Chunk(b"\x01"))) is bytes

    def test_a_view_with_gaps_is_refused(self) -> None:
        with pytest.raises(SonioxValidationError, match="contiguous"):
            audio_bytes(memoryview(b"\x01\x02\x03")[::2])

    @pytest.mark.parametrize("chunk", ["text", None, 5, [1, 2], array.array("B", [1])])
    def test_what_is_not_bytes_is_a_type_error(self, chunk: bytes) -> None:
        with pytest.raises(TypeError, match=f"not {type(chunk).__name__}"):
            audio_bytes(chunk)
