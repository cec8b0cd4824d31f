"""What is wrong with a start message is answered in the service's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from soniox_proto import RealtimeSTTConfig, RequestRefused, StartReceived
from tests.support.core.server import Server

GOOD: dict[str, Any] = {"model": "stt-rt-v5", "audio_format": "auto"}
RAW: dict[str, Any] = {**GOOD, "audio_format": "pcm_s16le", "sample_rate": 16_000}

ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"audio_format": None}, "Missing audio format."),
    ({"audio_format": "avi"}, "Invalid audio data format: avi"),
    ({"audio_format": "x" * 100}, "Invalid audio data format: " + "x" * 40),
    ({"audio_format": 7}, "Invalid audio data format: 7"),
    (RAW, "Audio data channels must be specified for PCM formats"),
    (
        {**RAW, "sample_rate": None, "num_channels": 1},
        "Audio data sample rate must be specified for PCM formats",
    ),
    ({"audio_format": "mulaw"}, "Audio data channels must be specified for PCM formats"),
    ({"model": None}, "Invalid model specified."),
    ({"model": ""}, "Invalid model specified."),
    ({"model": 5}, "Invalid model specified."),
    ({"language_hints": ["en", "de", "en"]}, "Language hints must be unique."),
    ({"language_hints": ["english"]}, "Invalid language hint."),
    ({"language_hints": "en"}, "Invalid language hint."),
    ({"language_hints": [1, 1]}, "Invalid language hint."),
    ({"context": "x" * 10_001}, "Context is too long (max length 10000)."),
    (
        {"context": {"text": "x" * 9_999, "terms": ["yy"]}},
        "Context is too long (max length 10000).",
    ),
    (
        {"client_reference_id": "x" * 257},
        "Client reference ID is too long (max length 256)",
    ),
    (
        {"translation": {"type": "one_way", "target_language": "spanish"}},
        "Invalid translation target language.",
    ),
    (
        {"translation": {"type": "two_way", "language_a": "en", "language_b": ""}},
        "Invalid translation target language.",
    ),
    ({"context": {"terms": [1] * 1_000}}, "Start request is malformed."),
]

MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"max_endpoint_delay_ms": 1}, "max_endpoint_delay_ms"),
    ({"sample_rate": "fast"}, "sample_rate"),
    ({"client_reference_id": 5}, "client_reference_id"),
    ({"translation": {"type": "three_way"}}, "translation.type"),
    ({"translation": {"type": "one_way"}}, "needs target_language"),
    ({"context": {"general": [{"key": "a", "value": "b", "\ud800": 1}]}}, "context"),
    ({"context": 5}, "context"),
    ({"context": "\ud800"}, "lone surrogate"),
]


def answer(fields: dict[str, Any]) -> object:
    """Return the one event that a start message of these fields brings; None leaves one out."""
    message = {name: value for name, value in {**GOOD, **fields}.items() if value is not None}
    (event,) = Server().open().say(json.dumps(message))
    return event


@pytest.mark.parametrize(("fields", "text"), ANSWERS)
def test_the_text_is_that_of_the_service(fields: dict[str, Any], text: str) -> None:
    assert answer(fields) == RequestRefused(400, "invalid_request", text)


@pytest.mark.parametrize(("fields", "detail"), MALFORMED)
def test_what_the_service_only_calls_malformed_is_named(
    fields: dict[str, Any], detail: str
) -> None:
    event = answer(fields)
    assert isinstance(event, RequestRefused)
    assert event.error_message.startswith("Start request is malformed. (")
    assert detail in event.error_message


@pytest.mark.parametrize(
    ("old", "new"), [("s16le", "pcm_s16le"), ("f32le", "pcm_f32le"), ("mp3", "mp3")]
)
def test_old_spellings_of_formats_are_taken(old: str, new: str) -> None:
    event = answer({**RAW, "num_channels": 1, "audio_format": old})
    assert isinstance(event, StartReceived)
    assert event.config.audio_format == new


def test_the_library_s_own_name_for_new_fields_is_unknown_too() -> None:
    event = answer({"extra_fields": {"model": "other"}})
    assert isinstance(event, StartReceived)
    assert event.config == RealtimeSTTConfig.validate_config(GOOD)
    assert event.unknown_fields == {"extra_fields": {"model": "other"}}


def test_unknown_fields_inside_objects_mean_nothing() -> None:
    event = answer(
        {
            "context": {"text": "notes", "mood": 1},
            "translation": {"type": "one_way", "target_language": "es", "style": "formal"},
        }
    )
    assert isinstance(event, StartReceived)
    assert event.config == RealtimeSTTConfig.validate_config(
        {
            **GOOD,
            "context": {"text": "notes"},
            "translation": {"type": "one_way", "target_language": "es"},
        }
    )
