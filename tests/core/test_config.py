from __future__ import annotations

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError, field_serializer

from soniox_proto import (
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    RealtimeSTTHeaderFormat,
    RealtimeSTTProtocol,
    RealtimeSTTRawFormat,
    SonioxValidationError,
    StructuredContext,
    StructuredContextGeneralItem,
    StructuredContextTranslationTerm,
    TranslationConfig,
)
from soniox_proto.config import MAX_CONTEXT_CHARACTERS
from soniox_proto.messages import start_message
from tests.support.unreadable import UnreadableMapping


def configure(**fields: Any) -> RealtimeSTTConfig:
    return RealtimeSTTConfig(**{"model": "stt-rt-v5", **fields})


def sent(config: RealtimeSTTConfig) -> dict[str, Any]:
    """Return the start message that a configuration becomes."""
    message = json.loads(start_message(config))
    assert isinstance(message, dict)
    return message


class TestStartMessage:
    def test_unset_fields_are_left_out(self) -> None:
        assert sent(configure()) == {"model": "stt-rt-v5", "audio_format": "auto"}

    def test_every_field_goes_out_as_the_service_names_it(self) -> None:
        fields: dict[str, Any] = {
            "model": "stt-rt-v5",
            "audio_format": "pcm_s16le",
            "num_channels": 1,
            "sample_rate": 16000,
            "language_hints": ["en", "de"],
            "language_hints_strict": True,
            "context": {
                "general": [{"key": "domain", "value": "Healthcare"}],
                "text": "notes",
                "terms": ["Celebrex"],
                "translation_terms": [{"source": "Mr. Smith", "target": "Sr. Smith"}],
            },
            "enable_speaker_diarization": True,
            "enable_language_identification": False,
            "enable_endpoint_detection": True,
            "max_endpoint_delay_ms": 500,
            "endpoint_sensitivity": -1.0,
            "endpoint_latency_adjustment_level": 3,
            "translation": {"type": "one_way", "target_language": "fr"},
            "client_reference_id": "call 7",
        }
        assert set(fields) == set(RealtimeSTTConfig.model_fields) - {"extra_fields"}
        assert sent(RealtimeSTTConfig(**fields)) == fields

    @given(context=st.text(), reference=st.text(max_size=256))
    def test_any_text_survives(self, context: str, reference: str) -> None:
        message = sent(configure(context=context, client_reference_id=reference))
        assert message["context"] == context
        assert message["client_reference_id"] == reference


class TestExtraFields:
    def test_are_sent_as_they_are(self) -> None:
        extra = {"new_option": None, "other": [1, {"a": "é"}]}
        config = RealtimeSTTConfig(model="m", extra_fields=extra)
        assert sent(config) == {"model": "m", "audio_format": "auto", **extra}
        assert json.loads(start_message(config, api_key="k"))["api_key"] == "k"

    @pytest.mark.parametrize(
        ("extra", "problem"),
        [
            ({"model": "m"}, "'model' is a field of the configuration"),
            ({"extra_fields": {}}, "'extra_fields' is a field of the configuration"),
            ({"api_key": "k"}, "the API key is not part of the configuration"),
            ({"x": float("nan")}, "JSON cannot hold"),
            ({"x": {1, 2}}, "JSON cannot hold"),
            ({"x": "\ud800"}, "JSON cannot hold"),
            ({"\ud800": 1}, "JSON cannot hold"),
            ({5: 1}, "valid string"),
            (["x"], "valid dictionary"),
        ],
    )
    def test_must_be_unknown_ones_that_can_be_sent(self, extra: Any, problem: str) -> None:
        with pytest.raises(SonioxValidationError, match=problem):
            RealtimeSTTConfig.validate_config({"model": "m", "extra_fields": extra})

    def test_others_are_refused_still(self) -> None:
        with pytest.raises(SonioxValidationError, match="new_option: Extra inputs"):
            RealtimeSTTConfig.validate_config({"model": "m", "new_option": 1})


class TestSpellings:
    @pytest.mark.parametrize(
        ("given", "sent_as"),
        [
            *(("s16le", "pcm_s16le"), ("f32le", "pcm_f32le"), ("u8", "pcm_u8")),
            *(("pcm_s16le", "pcm_s16le"), ("mulaw", "mulaw"), ("alaw", "alaw")),
        ],
    )
    def test_old_names_of_raw_formats_become_the_current_ones(
        self, given: Any, sent_as: str
    ) -> None:
        config = RealtimeSTTConfig(model="m", audio_format=given, sample_rate=8000, num_channels=1)
        assert sent(config)["audio_format"] == sent_as
        assert config.bytes_per_second is not None

    def test_an_old_name_needs_what_its_format_needs(self) -> None:
        with pytest.raises(ValidationError, match="sample_rate and num_channels"):
            RealtimeSTTConfig(model="m", audio_format="s16le")  # type: ignore[arg-type]

    def test_languages_may_be_in_capitals(self) -> None:
        translation = {"type": "two_way", "language_a": "EN", "language_b": "Es"}
        message = sent(configure(language_hints=["EN", "dE"], translation=translation))
        assert message["language_hints"] == ["en", "de"]
        assert message["translation"] == {"type": "two_way", "language_a": "en", "language_b": "es"}
        with pytest.raises(ValidationError, match="names a language twice"):
            configure(language_hints=["EN", "en"])


def changed(**fields: object) -> RealtimeSTTConfig:
    """Return a configuration that was valid once."""
    config = RealtimeSTTConfig(model="m", context={"terms": ["a"]})
    for name, value in fields.items():
        setattr(config, name, value)
    return config


def changed_within() -> RealtimeSTTConfig:
    config = changed()
    config.context.terms.append("\ud800")  # type: ignore[union-attr]
    return config


MAKERS: list[Callable[[Any], Any]] = [
    RealtimeSTTProtocol,
    lambda config: RealtimeSTTConnection("ws://localhost/", config),
]


@pytest.mark.parametrize("make", MAKERS, ids=["message layer", "byte layer"])
class TestCheckedByTheConstructor:
    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            *(
                (value, f"config must be a RealtimeSTTConfig.*, not an object of type {kind}")
                for value, kind in ((None, "NoneType"), (5, "int"), ("m", "str"), (["m"], "list"))
            ),
            ({}, "model: Field required"),
            ({"model": "m", "modle": 1}, "modle: Extra inputs"),
            (changed(model="\ud800"), "lone surrogate"),
            (changed(sample_rate="16000"), "sample_rate: Input should be a valid integer"),
            (changed(enable_endpoint_detection="yes"), "enable_endpoint_detection: Input should"),
            (changed(model=5), "model: Input should be a valid string"),
            (changed(audio_format="bogus"), "audio_format: Input should be 'auto'"),
            (changed(audio_format="pcm_s16le"), "needs sample_rate and num_channels"),
            (changed(context=object()), "a value that JSON cannot hold"),
            (changed(context=5), "context"),
            (changed(extra_fields={"x": float("nan")}), "JSON cannot hold"),
            (changed(extra_fields={"model": "n"}), "'model' is a field of the configuration"),
            (changed(context="x" * 10_001), "10,001 characters"),
            (changed(extra_fields={"x": object()}), "a value that JSON cannot hold"),
            (changed_within(), "lone surrogate"),
            (RealtimeSTTConfig.model_construct(), "model: Field required"),
        ],
    )
    def test_what_is_no_configuration(
        self, make: Callable[[Any], Any], config: Any, problem: str
    ) -> None:
        with pytest.raises(SonioxValidationError, match=problem):
            make(config)

    def test_what_refers_to_itself(self, make: Callable[[Any], Any]) -> None:
        circle: list[Any] = []
        circle.append(circle)
        with pytest.raises(SonioxValidationError, match="JSON cannot hold"):
            make(changed(extra_fields={"x": circle}))

    def test_what_cannot_be_written_out(self, make: Callable[[Any], Any]) -> None:
        class Unwritable(RealtimeSTTConfig):
            @field_serializer("model")
            def _model(self, value: str) -> str:
                raise ValueError("it cannot be written")

        config = Unwritable.model_construct(model="m")
        with pytest.raises(SonioxValidationError, match="Unwritable: it has a value that JSON can"):
            make(config)

    def test_a_mapping_is_a_configuration(self, make: Callable[[Any], Any]) -> None:
        fields = MappingProxyType({"model": "m", "language_hints": ["EN"]})
        assert make(fields).config == RealtimeSTTConfig(model="m", language_hints=["en"])

    def test_a_mapping_that_cannot_be_read_is_refused(self, make: Callable[[Any], Any]) -> None:
        with pytest.raises(SonioxValidationError, match="UnreadableMapping raised LookupError"):
            make(UnreadableMapping())

    def test_later_changes_have_no_effect(self, make: Callable[[Any], Any]) -> None:
        config = changed()
        machine = make(config)
        config.model = "\ud800"
        machine.connect(0.0)
        assert machine.config is config


def test_what_is_sent_is_what_was_checked() -> None:
    config = RealtimeSTTConfig(model="m")
    protocol = RealtimeSTTProtocol(config)
    config.model = "\ud800"
    protocol.start(0.0)
    assert protocol.messages_to_send() == ['{"model":"m","audio_format":"auto"}']


class TestRanges:
    @pytest.mark.parametrize(
        ("field", "accepted", "refused"),
        [
            ("max_endpoint_delay_ms", [500, 3000], [499, 3001, 1000.5]),
            ("endpoint_sensitivity", [-1.0, 0, 1.0], [-1.01, 1.01, float("nan"), float("inf")]),
            ("endpoint_latency_adjustment_level", [0, 3], [-1, 4]),
            ("sample_rate", [1, 48000], [0, -1]),
            ("num_channels", [1, 8], [0, -1]),
            ("client_reference_id", ["", "x" * 256], ["x" * 257]),
            ("language_hints", [[], ["en"], ["en", "de"]], [["en", "en"], ["eng"], ["e\n"], [""]]),
            ("audio_format", ["auto", "wav", "mulaw"], ["", "pcm", "WAV", "pcm_s16", "s16", 5]),
            ("model", ["stt-rt-v4"], [None, 5]),
        ],
    )
    def test_field(self, field: str, accepted: list[object], refused: list[object]) -> None:
        raw = {"sample_rate": 8000, "num_channels": 1}
        for value in accepted:
            assert getattr(configure(**{**raw, field: value}), field) == value
        for value in refused:
            with pytest.raises(ValidationError, match=field):
                configure(**{**raw, field: value})

    def test_unknown_fields_are_refused_because_the_service_would_ignore_them(self) -> None:
        with pytest.raises(ValidationError, match="enable_diarization"):
            configure(enable_diarization=True)

    def test_lone_surrogates_are_refused_because_they_cannot_be_sent(self) -> None:
        for fields in ({"context": "\ud800"}, {"context": {"terms": ["\udfff"]}}):
            with pytest.raises(ValidationError, match="surrogate"):
                configure(**fields)

    def test_errors_do_not_quote_the_input_which_may_be_the_api_key(self) -> None:
        with pytest.raises(ValidationError) as caught:
            configure(api_key="sk-secret")
        assert "api_key" in str(caught.value)
        assert "sk-secret" not in str(caught.value)


class TestAudioFormats:
    @pytest.mark.parametrize("audio_format", ["auto", *get_args(RealtimeSTTHeaderFormat)])
    def test_formats_with_a_header_need_no_description(self, audio_format: str) -> None:
        config = configure(audio_format=audio_format)
        assert config.bytes_per_frame is None
        assert config.bytes_per_second is None

    @pytest.mark.parametrize(
        ("audio_format", "sample_bytes"),
        [
            *[(name, 1) for name in ("pcm_s8", "pcm_u8", "mulaw", "alaw")],
            *[(f"pcm_{kind}16{order}", 2) for kind in "su" for order in ("le", "be")],
            *[(f"pcm_{kind}24{order}", 3) for kind in "su" for order in ("le", "be")],
            *[(f"pcm_{kind}32{order}", 4) for kind in "suf" for order in ("le", "be")],
            *[(f"pcm_f64{order}", 8) for order in ("le", "be")],
        ],
    )
    def test_raw_formats_tell_their_sizes(self, audio_format: str, sample_bytes: int) -> None:
        config = configure(audio_format=audio_format, sample_rate=16000, num_channels=2)
        assert config.bytes_per_frame == 2 * sample_bytes
        assert config.bytes_per_second == 32000 * sample_bytes

    def test_the_table_above_is_complete(self) -> None:
        assert len(get_args(RealtimeSTTRawFormat)) == 20

    @pytest.mark.parametrize("audio_format", get_args(RealtimeSTTRawFormat))
    @pytest.mark.parametrize(
        ("given_fields", "missing"),
        [
            ({}, "sample_rate and num_channels"),
            ({"sample_rate": 8000}, "num_channels"),
            ({"num_channels": 1}, "sample_rate"),
        ],
    )
    def test_raw_formats_must_be_described(
        self, audio_format: str, given_fields: dict[str, int], missing: str
    ) -> None:
        with pytest.raises(ValidationError, match=f"{audio_format}.*needs {missing}"):
            configure(audio_format=audio_format, **given_fields)

    def test_sizes_are_unknown_while_a_field_is_unset(self) -> None:
        config = configure(audio_format="pcm_s8", sample_rate=8000, num_channels=1)
        config.sample_rate = None
        assert (config.bytes_per_frame, config.bytes_per_second) == (1, None)
        config.num_channels = None
        assert config.bytes_per_frame is None


class TestContext:
    def test_dict_forms_become_items_in_order(self) -> None:
        context = StructuredContext(
            general={"domain": "Healthcare", "topic": "Diabetes"},
            translation_terms={"Mr. Smith": "Sr. Smith"},
        )
        assert context.general == [
            StructuredContextGeneralItem(key="domain", value="Healthcare"),
            StructuredContextGeneralItem(key="topic", value="Diabetes"),
        ]
        assert context.translation_terms == [
            StructuredContextTranslationTerm(source="Mr. Smith", target="Sr. Smith")
        ]

    def test_may_be_text_an_object_or_a_dict_of_its_fields(self) -> None:
        as_object = StructuredContext(terms=["Celebrex"])
        assert configure(context="free text").context == "free text"
        assert configure(context=as_object).context == as_object
        assert configure(context={"terms": ["Celebrex"]}).context == as_object

    @pytest.mark.parametrize(
        "context",
        [
            {"general": {"domain": 7}},
            {"general": {7: "domain"}},
            {"general": [{"key": "domain"}]},
            {"terms": "Celebrex"},
            {"trems": ["Celebrex"]},
            7,
        ],
    )
    def test_what_is_not_one_is_refused(self, context: object) -> None:
        with pytest.raises(ValidationError):
            configure(context=context)

    @pytest.mark.parametrize(
        "of_length",
        [
            lambda length: "x" * length,
            lambda length: {"text": "x" * length},
            lambda length: {"terms": ["xx"] * (length // 2) + ["x"] * (length % 2)},
            lambda length: {"general": {"key": "v" * (length - 3)}},
            lambda length: {"text": "x", "translation_terms": {"a": "b" * (length - 2)}},
        ],
    )
    def test_holds_ten_thousand_characters_in_all(self, of_length: Any) -> None:
        configure(context=of_length(MAX_CONTEXT_CHARACTERS))
        with pytest.raises(ValidationError, match="10,001 characters, at most 10,000"):
            configure(context=of_length(MAX_CONTEXT_CHARACTERS + 1))


class TestTranslation:
    @pytest.mark.parametrize(
        "fields",
        [
            {"type": "one_way", "target_language": "fr"},
            {"type": "two_way", "language_a": "en", "language_b": "de"},
        ],
    )
    def test_forms(self, fields: dict[str, Any]) -> None:
        assert sent(configure(translation=fields))["translation"] == fields
        assert configure(translation=TranslationConfig(**fields)).translation is not None

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"type": "one_way"}, "needs target_language"),
            ({"type": "one_way", "target_language": "fr", "language_a": "en"}, "only"),
            ({"type": "one_way", "target_language": "fr", "language_b": "en"}, "only"),
            ({"type": "two_way", "language_a": "en"}, "needs language_a and language_b"),
            ({"type": "two_way", "language_b": "en"}, "needs language_a and language_b"),
            (
                {"type": "two_way", "language_a": "a", "language_b": "de"},
                "pattern",
            ),
            (
                {
                    "type": "two_way",
                    "language_a": "en",
                    "language_b": "de",
                    "target_language": "fr",
                },
                "only",
            ),
            ({"type": "both_ways"}, "'one_way' or 'two_way'"),
            ({"target_language": "fr"}, "type"),
        ],
    )
    def test_mixtures_are_refused(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(ValidationError, match=problem):
            configure(translation=fields)


class TestValidateConfig:
    def test_returns_the_configuration(self) -> None:
        assert RealtimeSTTConfig.validate_config({"model": "stt-rt-v5"}) == configure()

    def test_one_line_names_every_wrong_field_and_no_value(self) -> None:
        values = {"audio_format": "secret", "sample_rate": 0, "translation": {"type": "one_way"}}
        with pytest.raises(SonioxValidationError) as caught:
            RealtimeSTTConfig.validate_config(values)
        message = str(caught.value)
        assert message.startswith("invalid RealtimeSTTConfig: model: Field required; ")
        for field in ("audio_format", "sample_rate", "translation"):
            assert field in message
        assert "secret" not in message
        assert "\n" not in message
        assert isinstance(caught.value.__cause__, ValidationError)

    @pytest.mark.parametrize(
        ("count", "told"),
        [
            (5, r"field_4: Extra inputs are not permitted$"),
            (6, r"field_4: Extra inputs are not permitted; and 1 more$"),
            (100, r"; and 95 more$"),
            (101, r"^invalid RealtimeSTTConfig: 101 problems$"),
        ],
    )
    def test_a_flood_of_problems_is_told_in_part(self, count: int, told: str) -> None:
        flood = {f"field_{index}": 1 for index in range(count)}
        with pytest.raises(SonioxValidationError, match=told):
            RealtimeSTTConfig.validate_config({"model": "stt-rt-v5", **flood})

    def test_a_long_name_is_quoted_in_part(self) -> None:
        fields = {"model": "stt-rt-v5", "x" * 40: 1, "y" * 41: 1}
        with pytest.raises(SonioxValidationError) as caught:
            RealtimeSTTConfig.validate_config(fields)
        assert f"{'x' * 40}: Extra" in str(caught.value)
        assert f"{'y' * 40}...: Extra" in str(caught.value)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from([*RealtimeSTTConfig.model_fields, "other"]), inner, max_size=4
                )
            ),
            max_leaves=8,
        )
    )
    def test_anything_else_is_refused_by_our_own_error(self, values: object) -> None:
        try:
            config = RealtimeSTTConfig.validate_config(values)
        except SonioxValidationError:
            return
        assert sent(config)["model"] == config.model
