"""The configuration that opens a stream, and the audio formats it can declare.

Checks here are those that the service would make, and are made earlier: a mistake in a
configuration is then an exception where it was written, with the name of the field, instead of an
error 400 after a connection was made. The ranges and rules are the service's (Soniox docs,
"WebSocket API", "Context", "Real-time transcription").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticSerializationError
from typing_extensions import Self

from soniox_proto.errors import SonioxValidationError

__all__ = [
    "MAX_CONTEXT_CHARACTERS",
    "LanguageCode",
    "RealtimeSTTAudioFormat",
    "RealtimeSTTConfig",
    "RealtimeSTTHeaderFormat",
    "RealtimeSTTRawFormat",
    "StructuredContext",
    "StructuredContextGeneralItem",
    "StructuredContextTranslationTerm",
    "TranslationConfig",
    "TranslationType",
    "character_count",
    "checked_config",
    "describe_validation_error",
]

MAX_CONTEXT_CHARACTERS = 10_000
"""Length of the longest context that the service accepts, with all its texts added up."""

LanguageCode: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2}$", to_lower=True)]
"""ISO 639-1 two-letter language code, for example `en`. Upper case is accepted and lowered."""

TranslationType: TypeAlias = Literal["one_way", "two_way"]
"""Translation into one language, or between two."""

RealtimeSTTHeaderFormat: TypeAlias = Literal[
    "aac", "aiff", "amr", "asf", "flac", "mp3", "ogg", "wav", "webm"
]
"""Containers, whose header gives the sample rate and the number of channels."""

RealtimeSTTRawFormat: TypeAlias = Literal[
    "pcm_s8",
    "pcm_s16le",
    "pcm_s16be",
    "pcm_s24le",
    "pcm_s24be",
    "pcm_s32le",
    "pcm_s32be",
    "pcm_u8",
    "pcm_u16le",
    "pcm_u16be",
    "pcm_u24le",
    "pcm_u24be",
    "pcm_u32le",
    "pcm_u32be",
    "pcm_f32le",
    "pcm_f32be",
    "pcm_f64le",
    "pcm_f64be",
    "mulaw",
    "alaw",
]
"""Formats without a header; `sample_rate` and `num_channels` must be given."""

RealtimeSTTAudioFormat: TypeAlias = Literal["auto", RealtimeSTTHeaderFormat, RealtimeSTTRawFormat]
"""Every audio format of the realtime service."""

_CURRENT_SPELLINGS: dict[str, str] = {
    name.removeprefix("pcm_"): name
    for name in get_args(RealtimeSTTRawFormat)
    if name.startswith("pcm_")
}
"""The raw formats by their old names, which the service still accepts: `s16le` for `pcm_s16le`."""

_BYTES_PER_SAMPLE: dict[str, int] = {
    name: 1 if name in {"mulaw", "alaw"} else int("".join(filter(str.isdigit, name))) // 8
    for name in get_args(RealtimeSTTRawFormat)
}


_DESCRIBED_PROBLEMS = 5
"""How many problems one error describes. A reader needs no more to find the mistake, and a message
of a hostile peer may have a million of them."""
_COUNTED_PROBLEMS = 100
"""With more problems than this, an error gives only their number: describing each would take too
much memory."""
_NAME_LENGTH = 40
"""Characters of a field's name that an error quotes. A peer may send names of any length."""


class _Model(BaseModel):
    # extra: an unknown field is nearly always misspelt, and the service would silently ignore it.
    # hide_input_in_errors: people put the API key here, where the old start message had it.
    # defer_build: to build a validator, pydantic loads as much code as for all the rest.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)


class StructuredContextGeneralItem(_Model):
    """A key and a value that describe the conversation, such as its domain or topic."""

    key: str
    """What the value is about, for example `domain`."""
    value: str
    """The value, for example `Healthcare`."""


class StructuredContextTranslationTerm(_Model):
    """The translation to use for one term."""

    source: str
    """The term as it is spoken."""
    target: str
    """Its translation."""


if TYPE_CHECKING:
    # For type checkers the constructor accepts plain dicts too, which a validator turns into the
    # typed items. pydantic itself sees only the latter.
    _General: TypeAlias = list[StructuredContextGeneralItem] | dict[str, str]
    _TranslationTerms: TypeAlias = list[StructuredContextTranslationTerm] | dict[str, str]
else:
    _General = list[StructuredContextGeneralItem]
    _TranslationTerms = list[StructuredContextTranslationTerm]


class StructuredContext(_Model):
    """Background that helps recognition and translation, 10,000 characters at most in total.

    `general` and `translation_terms` also take plain dicts: `{"domain": "Healthcare"}`,
    `{"Mr. Smith": "Sr. Smith"}`.
    """

    general: _General | None = None
    """Keys and values that describe the conversation."""
    text: str | None = None
    """Longer free text: notes, documents, earlier conversation."""
    terms: list[str] | None = None
    """Uncommon words to recognize."""
    translation_terms: _TranslationTerms | None = None
    """Translations to use for given terms."""

    @field_validator("general", "translation_terms", mode="before")
    @classmethod
    def _items_of_dict(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        names = ("key", "value") if info.field_name == "general" else ("source", "target")
        pairs = cast("dict[object, object]", value).items()
        return [dict(zip(names, pair, strict=True)) for pair in pairs]


class TranslationConfig(_Model):
    """Translation into `target_language`, or between `language_a` and `language_b`."""

    type: TranslationType
    """`one_way` needs `target_language`; `two_way` needs `language_a` and `language_b`."""
    target_language: LanguageCode | None = None
    """Language to translate into."""
    language_a: LanguageCode | None = None
    """First language of a two-way translation."""
    language_b: LanguageCode | None = None
    """Second language of a two-way translation."""

    @model_validator(mode="after")
    def _languages_fit_the_type(self) -> Self:
        if self.type == "one_way":
            if self.target_language is None:
                raise ValueError("one_way translation needs target_language")
            if self.language_a is not None or self.language_b is not None:
                raise ValueError("one_way translation takes target_language only")
        else:
            if self.language_a is None or self.language_b is None:
                raise ValueError("two_way translation needs language_a and language_b")
            if self.target_language is not None:
                raise ValueError("two_way translation takes language_a and language_b only")
        return self


if TYPE_CHECKING:
    _Context: TypeAlias = StructuredContext | str | dict[str, Any]
    _Translation: TypeAlias = TranslationConfig | dict[str, Any]
else:
    _Context = StructuredContext | str
    _Translation = TranslationConfig


class RealtimeSTTConfig(_Model):
    """Configuration of one realtime transcription stream; it becomes the start message.

    Fields left at None are not sent, so the service's defaults apply.

    The constructor raises `pydantic.ValidationError` (a `ValueError`) for values that the service
    would refuse, because this is a pydantic model, as in the official client. `validate_config`,
    and every call that takes a configuration, raise `SonioxValidationError` instead. Those calls
    check again, so a configuration that was changed to something invalid is caught too.
    """

    model: str
    """Model to use, for example `stt-rt-v5`."""
    audio_format: RealtimeSTTAudioFormat = "auto"
    """Format of the audio; `auto` detects containers by their header. Raw audio has none, and with
    `auto` the service waits for one until error 408. The old names of raw formats (`s16le`) are
    accepted and become the current ones (`pcm_s16le`)."""
    num_channels: Annotated[int, Field(ge=1)] | None = None
    """Number of channels; required for raw formats."""
    sample_rate: Annotated[int, Field(ge=1)] | None = None
    """Samples per second of one channel; required for raw formats."""
    language_hints: Annotated[list[LanguageCode], Field(fail_fast=True)] | None = None
    """Languages to expect, without repetition."""
    language_hints_strict: bool | None = None
    """Restrict recognition to the hinted languages."""
    context: _Context | None = None
    """Background of the conversation: free text, a `StructuredContext`, or a dict of its fields."""
    enable_speaker_diarization: bool | None = None
    """Distinguish speakers (`Token.speaker`)."""
    enable_language_identification: bool | None = None
    """Identify the language of each token (`Token.language`)."""
    enable_endpoint_detection: bool | None = None
    """Mark the end of each utterance with an `<end>` token."""
    max_endpoint_delay_ms: Annotated[int, Field(ge=500, le=3000)] | None = None
    """Longest time from the end of speech to its endpoint, in ms; the service's default is 2000."""
    endpoint_sensitivity: Annotated[float, Field(ge=-1.0, le=1.0, allow_inf_nan=False)] | None = (
        None
    )
    """How readily an endpoint is detected, -1.0 to 1.0; the service's default is 0.0."""
    endpoint_latency_adjustment_level: Annotated[int, Field(ge=0, le=3)] | None = None
    """Trade-off between the latency and the accuracy of endpoints, 0 to 3."""
    translation: _Translation | None = None
    """Translation to add: a `TranslationConfig` or a dict of its fields."""
    client_reference_id: Annotated[str, Field(max_length=256)] | None = None
    """Identifier for your own records, at most 256 characters. The service ignores it with a
    temporary key, which has its own (Soniox docs, "WebSocket API")."""
    extra_fields: dict[str, Any] | None = None
    """Fields of the start message that this version of the library does not know, by their names.
    They are sent as they are, so JSON must be able to hold them. An unknown field anywhere
    else is refused, because it is nearly always misspelt."""

    @field_validator("audio_format", mode="before")
    @classmethod
    def _current_spelling(cls, value: object) -> object:
        return _CURRENT_SPELLINGS.get(value, value) if isinstance(value, str) else value

    @field_validator("extra_fields")
    @classmethod
    def _extra_fields_are_unknown(cls, fields: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in fields or ():
            if name in cls.model_fields:
                raise ValueError(f"{name!r} is a field of the configuration; set it directly")
            if name == "api_key":
                raise ValueError("the API key is not part of the configuration")
        try:
            json.dumps(fields, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise ValueError("it has a name or a value that JSON cannot hold") from None
        return fields

    @field_validator("language_hints")
    @classmethod
    def _hints_are_unique(cls, hints: list[str] | None) -> list[str] | None:
        if hints is not None and len(set(hints)) < len(hints):
            raise ValueError(f"language_hints names a language twice: {', '.join(hints)}")
        return hints

    @field_validator("context")
    @classmethod
    def _context_is_short(cls, context: Any) -> Any:
        # The limit counts all texts together, as the service does.
        dumped = context.model_dump() if isinstance(context, StructuredContext) else context
        if (count := character_count(dumped)) > MAX_CONTEXT_CHARACTERS:
            raise ValueError(
                f"context has {count:,} characters, at most {MAX_CONTEXT_CHARACTERS:,} are allowed"
            )
        return context

    @model_validator(mode="after")
    def _raw_formats_are_described(self) -> Self:
        if self.audio_format in _BYTES_PER_SAMPLE:
            required = {"sample_rate": self.sample_rate, "num_channels": self.num_channels}
            missing = [name for name, value in required.items() if value is None]
            if missing:
                raise ValueError(
                    f"audio_format {self.audio_format!r} has no header and needs "
                    + " and ".join(missing)
                )
        return self

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        # Python strings can hold lone surrogates, which cannot be encoded. Found here, the error
        # names the cause; found when sending, it would break a session.
        try:
            self.model_dump_json()
        except PydanticSerializationError:
            raise ValueError("text has a lone surrogate, which UTF-8 cannot encode") from None
        return self

    @property
    def bytes_per_frame(self) -> int | None:
        """Bytes of one frame, a sample of every channel; None for containers and `auto`.

        Raw audio may only be cut between frames.
        """
        sample = _BYTES_PER_SAMPLE.get(self.audio_format)
        if sample is None or self.num_channels is None:
            return None
        return sample * self.num_channels

    @property
    def bytes_per_second(self) -> int | None:
        """Bytes of one second of audio; None for containers and `auto`."""
        frame = self.bytes_per_frame
        if frame is None or self.sample_rate is None:
            return None
        return frame * self.sample_rate

    @classmethod
    def validate_config(cls, values: object) -> Self:
        """Return `values`, for example a dict from parsed JSON, as a checked configuration.

        Raises `SonioxValidationError`, which names each wrong field.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SonioxValidationError(describe_validation_error(error)) from error


def checked_config(config: object) -> RealtimeSTTConfig:
    """Return a configuration, or a mapping of its fields, as a configuration that is valid now.

    Raises `SonioxValidationError` for anything else.
    """
    kind = type(config).__name__
    if isinstance(config, RealtimeSTTConfig):
        # pydantic checks only construction. The fields may have been assigned since.
        try:
            text = config.model_dump_json(exclude_none=True, round_trip=True, warnings=False)
        except ValueError:
            raise SonioxValidationError(
                f"invalid {kind}: it has a value that JSON cannot hold, such as a lone surrogate"
            ) from None
        _check_text(type(config), text)
        if config.extra_fields is not None:
            config.validate_config(config.model_dump(round_trip=True, warnings=False))
        return config
    if isinstance(config, Mapping):
        try:
            fields = dict(cast("Mapping[str, Any]", config))
        except Exception as error:
            # A mapping of the user's may raise anything.
            raise SonioxValidationError(
                f"config is a mapping that cannot be read: {kind} raised {type(error).__name__}"
            ) from error
        return RealtimeSTTConfig.validate_config(fields)
    raise SonioxValidationError(
        f"config must be a RealtimeSTTConfig, or a mapping of its fields, not an object of type "
        f"{kind}"
    )


@lru_cache(maxsize=8)
def _check_text(kind: type[RealtimeSTTConfig], text: str) -> None:
    """Raise `SonioxValidationError` unless this JSON is a valid configuration.

    Valid ones are cached, because a program has many sessions and few configurations.
    """
    try:
        kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise SonioxValidationError(describe_validation_error(error)) from error


def describe_validation_error(error: ValidationError) -> str:
    """Return one line that names each wrong field of a pydantic error.

    Values are left out, since one of them may be a secret.
    """
    if error.error_count() > _COUNTED_PROBLEMS:
        return f"invalid {error.title}: {error.error_count()} problems"
    problems = [
        ": ".join(filter(None, (".".join(map(_shortened, item["loc"])), item["msg"])))
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    more = len(problems) - _DESCRIBED_PROBLEMS
    if more > 0:
        problems[_DESCRIBED_PROBLEMS:] = [f"and {more} more"]
    return f"invalid {error.title}: " + "; ".join(problems)


def _shortened(name: int | str) -> str:
    text = str(name)
    return text if len(text) <= _NAME_LENGTH else f"{text[:_NAME_LENGTH]}..."


def character_count(value: object) -> int:
    """Return the length of all texts in a value of JSON, which is what the service limits."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(character_count, cast("dict[str, object]", value).values()))
    if isinstance(value, list):
        return sum(map(character_count, cast("list[object]", value)))
    return 0
