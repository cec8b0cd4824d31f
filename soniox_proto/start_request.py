"""The start message as the service reads it, with the service's own texts for what is wrong.

`RealtimeSTTConfig` is stricter than the service, to help the people who write configurations. The
server must not be: a client under test has to get the answer that it would get in production. So
unknown fields are ignored, old spellings are accepted, and problems are looked for in an order that
gives the service's text for the first one.
"""

from __future__ import annotations

from typing import Any, Final, cast, get_args

from pydantic import BaseModel, ValidationError

from soniox_proto.config import (
    MAX_CONTEXT_CHARACTERS,
    RealtimeSTTConfig,
    RealtimeSTTRawFormat,
    StructuredContext,
    TranslationConfig,
    describe_validation_error,
)
from soniox_proto.errors import SonioxValidationError

__all__ = ["MAX_START_REQUEST_CHARACTERS", "START_REQUEST_MALFORMED", "read_start_request"]

MAX_START_REQUEST_CHARACTERS: Final = 256 * 1024
"""Twice the size of the longest context with every character escaped. There has to be a limit,
because parsed JSON may take thirty times the memory of its text."""

START_REQUEST_MALFORMED: Final = "Start request is malformed."

_OLD_SPELLINGS: Final = {"s16le": "pcm_s16le", "f32le": "pcm_f32le"}
"""Audio formats as early clients spell them, which the service still accepts."""

_RAW_FORMATS: Final = frozenset(get_args(RealtimeSTTRawFormat))

_OBJECTS: Final[dict[str, type[BaseModel]]] = {
    "context": StructuredContext,
    "translation": TranslationConfig,
}

_MAX_QUOTED: Final = 40
"""Characters of a client's value that an error quotes."""

_MAX_EXAMINED_PROBLEMS: Final = 100
"""With more problems than this, the answer is just that the message is malformed: describing each
would take too much memory."""


def read_start_request(
    fields: dict[str, object],
) -> tuple[RealtimeSTTConfig, dict[str, object]]:
    """Return the configuration in a start message, and the fields of it that are not known here.

    Raises `SonioxValidationError` with the text that the service would answer.
    """
    # `extra_fields` is a name of this library, not of the protocol.
    names = RealtimeSTTConfig.model_fields.keys() - {"extra_fields"}
    known = {name: value for name, value in fields.items() if name in names}
    unknown = {name: value for name, value in fields.items() if name not in known}
    for name, model in _OBJECTS.items():
        value = known.get(name)
        if isinstance(value, dict):
            known[name] = {
                key: item
                for key, item in cast("dict[str, object]", value).items()
                if key in model.model_fields
            }
    audio_format = known.get("audio_format")
    if audio_format is None:
        raise SonioxValidationError("Missing audio format.")
    if isinstance(audio_format, str):
        known["audio_format"] = audio_format = _OLD_SPELLINGS.get(audio_format, audio_format)
    if audio_format in _RAW_FORMATS:
        for name, what in (("num_channels", "channels"), ("sample_rate", "sample rate")):
            if known.get(name) is None:
                raise SonioxValidationError(f"Audio data {what} must be specified for PCM formats")
    if not known.get("model"):
        raise SonioxValidationError("Invalid model specified.")
    hints = known.get("language_hints")
    if isinstance(hints, list) and _has_duplicates(cast("list[object]", hints)):
        raise SonioxValidationError("Language hints must be unique.")
    try:
        return RealtimeSTTConfig.model_validate(known), unknown
    except ValidationError as error:
        raise SonioxValidationError(_answer_of_service(error, audio_format)) from error


def _has_duplicates(hints: list[object]) -> bool:
    names = [hint for hint in hints if isinstance(hint, str)]
    return len(set(names)) < len(names)


def _answer_of_service(error: ValidationError, audio_format: object) -> str:
    if error.error_count() > _MAX_EXAMINED_PROBLEMS:
        return START_REQUEST_MALFORMED
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place: tuple[Any, ...] = problem["loc"]
    match place[:1]:
        case ("audio_format",):
            return f"Invalid audio data format: {str(audio_format)[:_MAX_QUOTED]}"
        case ("client_reference_id",) if problem["type"] == "string_too_long":
            return "Client reference ID is too long (max length 256)"
        case ("context",) if problem["type"] == "value_error" and len(place) == 1:
            return f"Context is too long (max length {MAX_CONTEXT_CHARACTERS})."
        case ("language_hints",):
            return "Invalid language hint."
        case ("model",):
            return "Invalid model specified."
        case ("translation",) if place[-1] in {"target_language", "language_a", "language_b"}:
            return "Invalid translation target language."
        case _:
            # The service says only that the message is malformed. Somebody who tests against this
            # server wants to find the mistake, so the details are added.
            return f"{START_REQUEST_MALFORMED} ({describe_validation_error(error)})"
