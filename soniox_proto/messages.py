"""The JSON messages of the protocol, in both directions.

What the client says is short and known in advance, so it is built as text. What the service says
has to be parsed, and there is much of it, because every message repeats the whole provisional tail.
Two rules shape this module:

- Unknown fields are kept, in messages and in tokens. The service may add fields at any time, and a
  client must neither fail on them nor lose them.
- Ordinary messages take a fast path and everything else a thorough one, with the same result. The
  fast path never decides that a message is bad; it hands it over.

A message that is not of the protocol is a `SonioxProtocolError`. One that reports an error is read
leniently instead, since complaining about its form would hide what it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Final, Optional, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import NotRequired, TypedDict

from soniox_proto.config import RealtimeSTTConfig, describe_validation_error
from soniox_proto.credentials import APIKey
from soniox_proto.errors import SonioxProtocolError, SonioxValidationError
from soniox_proto.received_model import ReceivedModel, behaves_like_pydantic, set_fields

__all__ = [
    "END_OF_AUDIO",
    "FINALIZE_MESSAGE",
    "KEEPALIVE_MESSAGE",
    "MARKERS",
    "TOKEN_TEXT_END",
    "TOKEN_TEXT_FIN",
    "EventParser",
    "RealtimeControlType",
    "RealtimeEvent",
    "Token",
    "audio_bytes",
    "finalize_message",
    "is_error",
    "may_hold_marker",
    "parse_event",
    "start_message",
    "with_api_key",
    "without_key",
]

TOKEN_TEXT_END: Final = "<end>"
"""Text of the final token that closes an utterance (Soniox docs, "Endpoint detection").

A marker, not text: it does not belong in a transcript, and its times, speaker and language mean
nothing."""

TOKEN_TEXT_FIN: Final = "<fin>"
"""Text of the final token that answers a finalize (Soniox docs, "Manual finalization").

A marker like `TOKEN_TEXT_END`."""

MARKERS: Final = frozenset({TOKEN_TEXT_END, TOKEN_TEXT_FIN})
"""Texts of tokens that are markers."""

END_OF_AUDIO: Final = ""
"""The empty text message that ends the audio.

It must be a *text* message. An empty binary one is an empty chunk of audio and ends nothing, so the
session would end with error 408. (Measured live by several clients, against what Soniox's
documentation said in 2025.)"""

KEEPALIVE_MESSAGE: Final = '{"type":"keepalive"}'
"""The control message that keeps a session open while no audio flows (Soniox docs, "Connection
keepalive")."""

FINALIZE_MESSAGE: Final = '{"type":"finalize"}'
"""The control message that asks for all outstanding tokens to become final (Soniox docs, "Manual
finalization")."""


class RealtimeControlType(str, Enum):
    """Control messages of a realtime session, by the names that the official client uses.

    They are not the words on the wire, where `finish` is an empty message and `keep_alive` is
    spelled `keepalive`.
    """

    FINISH = "finish"
    """End of the audio."""
    KEEP_ALIVE = "keep_alive"
    """Keep the session open although no audio flows."""
    FINALIZE = "finalize"
    """Make all outstanding tokens final now."""


class Token(ReceivedModel):
    """A piece of the transcript, often part of a word. Unknown fields are kept.

    A final token is sent once and never changes. Provisional tokens are sent again, changed, in
    every result, so a reader replaces all it has of them each time (Soniox docs, "Real-time
    transcription").
    """

    text: str
    """The text, including a leading space if the token starts a word."""
    start_ms: int | None = None
    """Start on the service's clock, in ms; absent on translations. After a finalize this clock is
    ahead of the audio that was sent, by the silence that the service added."""
    end_ms: int | None = None
    """End on the service's clock, in ms; absent on translations."""
    confidence: float | None = None
    """Confidence, 0.0 to 1.0."""
    is_final: bool | None = None
    """Whether this token is final. If not, it may change or disappear."""
    speaker: str | None = None
    """Label of the speaker, with diarization."""
    translation_status: str | None = None
    """`none`, `original` or `translation`. Translations follow their originals (Soniox docs,
    "Real-time translation")."""
    language: str | None = None
    """Language of the text."""
    source_language: str | None = None
    """For a translation, the language of its original."""
    is_audio_event: bool | None = None
    """Whether this describes a sound other than speech; rare."""


class RealtimeEvent(ReceivedModel):
    """One message of the service: a result, the finished response, or an error.

    Unknown fields are kept.
    """

    tokens: Annotated[list[Token], Field(fail_fast=True)] = Field(default_factory=list[Token])
    """New final tokens, then the whole current tail of provisional ones."""
    final_audio_proc_ms: int | None = None
    """How far the audio has become final tokens, in ms on the service's clock. None if absent from
    the message, which means unchanged."""
    total_audio_proc_ms: int | None = None
    """How far the audio has become tokens at all, final or not, in ms on the service's clock. None
    if absent from the message, which means unchanged."""
    finished: bool = False
    """Whether this is the finished response, the last result of the session."""
    error_code: int | None = None
    """Number of the error, if this is an error message."""
    error_type: str | None = None
    """Stable name of the error. Branch on this, not on the message."""
    error_message: str | None = None
    """Description of the error for a person."""
    request_id: str | None = None
    """Identifier of the request for Soniox support."""
    more_info: str | None = None
    """URL of a page about the error."""

    @classmethod
    def validate_event(cls, raw: str | bytes) -> RealtimeEvent:
        """Parse one message; raises `SonioxProtocolError` if it is not one of the protocol."""
        return parse_event(raw)


class EventParser:
    """Parses the messages of one session, from bytes to models in one pass.

    Messages with known fields only, which is nearly all of them, are read by the fastest validator
    that is installed. It drops unknown fields, so its result is no good for a message that has any.
    Counting colons is a cheap test: every field has one, so a message with no more colons than
    known fields cannot have another field. A colon inside a text only costs a second, thorough
    parse.

    There is one parser for each session, because unknown fields are a matter of the server: once a
    message has had one, the fast path is not tried again.
    """

    __slots__ = ("_refusals", "_thorough", "_validate")

    def __init__(self) -> None:
        self._validate, self._refusals = _known_fields_validator()
        # Once one unknown field has been seen, expect more and skip the fast path.
        self._thorough = not _fields_alone_make_a_model()

    def parse(self, raw: str | bytes) -> RealtimeEvent:
        """Parse one message of the service.

        Raises `SonioxProtocolError` if it is not one of the protocol.
        """
        if self._thorough:
            return _parse_thoroughly(raw)
        try:
            fields = self._validate(raw)
            colons = raw.count(":") if isinstance(raw, str) else raw.count(b":")
        except self._refusals:
            # Let the full model raise, so that error messages do not depend on msgspec.
            return _parse_thoroughly(raw)
        tokens = fields.get("tokens")
        if tokens is None:
            # Rare, mostly errors, and the full model fills in its own default.
            return _parse_thoroughly(raw)
        known = len(fields) + sum(map(len, tokens))
        if colons != known:
            event = _parse_thoroughly(raw)
            self._thorough = bool(
                event.model_extra or any(token.model_extra for token in event.tokens)
            )
            return event
        # In place, and without a function call for each token: most of the time is spent here.
        for index, token_fields in enumerate(tokens):
            tokens[index] = token = _new(Token)
            set_fields(token, token_fields)
        event = _new(RealtimeEvent)
        set_fields(event, fields)
        return event


def parse_event(raw: str | bytes) -> RealtimeEvent:
    """Parse one message of the service; raises `SonioxProtocolError` if it is not one."""
    return EventParser().parse(raw)


_new = object.__new__

# The compiled validators are called directly, because pydantic's own methods spend a third of the
# time of a small message on their keyword arguments.
_Validate: TypeAlias = Callable[["str | bytes"], Any]


@cache
def _model_validator() -> _Validate:
    """Return the thorough validator, which gives an event with its unknown fields."""
    RealtimeEvent.model_rebuild()
    return RealtimeEvent.__pydantic_validator__.validate_json


@cache
def _known_fields_validator() -> tuple[_Validate, tuple[type[Exception], ...]]:
    """Return the fast validator, and the exceptions with which it refuses a message.

    It gives the known fields of an event and of its tokens as dicts. It is that of msgspec, if
    installed, which takes half the time of pydantic's. They may refuse different messages, but what
    both accept they read alike.
    """
    try:
        from msgspec import Meta, MsgspecError
        from msgspec.json import Decoder
    except ImportError:
        from pydantic import TypeAdapter

        event_type = _event_fields_type(_fields_type(Token))
        return TypeAdapter(event_type).validator.validate_json, (ValidationError,)
    # pydantic before 2.12 refuses whole numbers above 64 bits for a float. msgspec must not accept
    # what pydantic would refuse, so such numbers are left to pydantic.
    number = Optional[Annotated[float, Meta(ge=-(2.0**63), lt=2.0**63)]]  # noqa: UP045
    event_type = _event_fields_type(_fields_type(Token, confidence=number))
    # Besides msgspec's own error: text that is not UTF-8, deep nesting, and objects that are not
    # text at all.
    refusals = (MsgspecError, ValueError, RecursionError, TypeError, AttributeError)
    return Decoder(event_type).decode, refusals


def _event_fields_type(token_type: Any) -> Any:
    tokens = Annotated[list[token_type], Field(fail_fast=True)]
    return _fields_type(RealtimeEvent, tokens=tokens)


def _fields_type(model: type[BaseModel], **replaced: object) -> Any:
    """Return a `TypedDict` with the fields of a model, made from the model so that they agree."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        annotation = replaced.get(name, field.annotation)
        fields[name] = annotation if field.is_required() else NotRequired[annotation]
    # Type checkers understand only TypedDicts that are written out, hence the cast.
    make_type = cast("Any", TypedDict)
    fields_type = make_type(model.__name__, fields)
    fields_type.__pydantic_config__ = ConfigDict(extra="ignore")
    return fields_type


@cache
def _fields_alone_make_a_model() -> bool:
    """Return whether the shortcut of `ReceivedModel` works with the pydantic that is installed.

    If not, the shortcut is withdrawn, and messages are plain instances of pydantic's. They behave
    the same but take more time and memory.
    """
    fields: dict[str, Any] = {"is_final": True, "text": " a", "end_ms": 7}

    def token() -> Token:
        made = _new(Token)
        set_fields(made, dict(fields))
        return made

    def event() -> RealtimeEvent:
        made = _new(RealtimeEvent)
        set_fields(made, {"total_audio_proc_ms": 9, "tokens": [token(), token()]})
        return made

    token_json = to_json(fields)
    event_json = b'{"total_audio_proc_ms":9,"tokens":[%b,%b]}' % (token_json, token_json)
    validate = _model_validator()
    reliable = behaves_like_pydantic(event, lambda: validate(event_json)) and behaves_like_pydantic(
        token, lambda: validate(event_json).tokens[0]
    )
    if not reliable:
        ReceivedModel.withdraw()
    return reliable


def _parse_thoroughly(raw: str | bytes) -> RealtimeEvent:
    try:
        return cast("RealtimeEvent", _model_validator()(raw))
    except ValidationError as error:
        event = _read_leniently(raw) if _may_be_lenient(raw) else None
        if event is not None:
            return event
        raise SonioxProtocolError(
            f"the server sent something that is not a message of the protocol: "
            f"{describe_validation_error(error)}",
            close_code=1007,
        ) from error


def without_key(
    message: RealtimeEvent, raw: str | bytes, key: APIKey
) -> tuple[RealtimeEvent, str | bytes]:
    """Return a message and its text with the key redacted, which the service may have echoed."""
    fields = message.model_dump(exclude_unset=True)
    hidden = _redacted(fields, key)
    if hidden == fields:
        return message, raw
    message = RealtimeEvent.model_validate(hidden)
    text = message.model_dump_json(exclude_unset=True)
    return message, text if isinstance(raw, str) else text.encode()


def _redacted(value: Any, key: APIKey) -> Any:
    if isinstance(value, str):
        return key.redact(value)
    if isinstance(value, list):
        return [_redacted(item, key) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {key.redact(name): _redacted(field, key) for name, field in fields.items()}
    return value


_ERROR_FIELDS: Final = ("error_code", "error_type", "error_message", "request_id", "more_info")

_LONGEST_NUMBER: Final = 100
"""Digits of the longest whole number that is converted to one. Converting takes quadratic time."""

_LONGEST_WORDS: Final = 2000
"""Characters that are kept of a value of an unexpected type in an error message."""


def is_error(fields: Mapping[str, object]) -> bool:
    """Return whether a message with these fields is an error message.

    One of the three is enough: `error_type` may be absent, and no result has any of them.
    """
    return (
        fields.get("error_code") is not None
        or fields.get("error_type") is not None
        or fields.get("error_message") is not None
    )


def _may_be_lenient(raw: str | bytes) -> bool:
    """Return whether a bad message may be worth reading leniently. Most garbage is not."""
    if isinstance(raw, bytes):
        return b"error_" in raw or b"null" in raw or b"\\" in raw
    return isinstance(raw, str) and ("error_" in raw or "null" in raw or "\\" in raw)  # pyright: ignore[reportUnnecessaryIsInstance]


def _read_leniently(raw: str | bytes) -> RealtimeEvent | None:
    """Return what can be read of a message with fields of unexpected types, or None.

    Two cases are forgiven. Null instead of a list of tokens means that there are none. And an error
    message is taken as one even if some of its fields are not as they should be, because why the
    session ended matters more than a wrong type: the fields that can be read are used, and the
    others are appended to the text of the error.
    """
    received = _fields_in(raw)
    if received is None:
        return None
    validate = RealtimeEvent.__pydantic_validator__.validate_python
    if is_error(received):
        received = _readable(received, validate)
    elif received.get("tokens", ()) is None:
        del received["tokens"]
    else:
        return None
    try:
        return cast("RealtimeEvent", validate(received))
    except ValidationError:
        return None


def _fields_in(raw: str | bytes) -> dict[str, Any] | None:
    """Return the fields of a message, or None if it is not a JSON object."""
    try:
        fields: Any = from_json(raw)
    except TypeError:
        # A str with lone surrogates.
        return None
    except ValueError:
        # It may still be JSON, with deeper nesting or longer numbers than pydantic accepts.
        return _error_fields_in(raw)
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else None


def _error_fields_in(raw: str | bytes) -> dict[str, Any] | None:
    """Return the fields of an error in JSON that only Python's own parser can read, or None."""
    try:
        fields: Any = json.loads(raw, parse_int=_whole_number)
        if not isinstance(fields, dict):
            return None
        received = cast("dict[str, Any]", fields)
        errors: dict[str, Any] = {
            name: received[name] for name in _ERROR_FIELDS if name in received
        }
        # Lone surrogates would make the error impossible to log; this raises for them.
        to_json(errors)
    except (ValueError, RecursionError):
        return None
    return errors


def _whole_number(digits: str) -> int | str:
    # A longer one is no error code anyway. It is kept as text for the error's description.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else digits


def _readable(fields: dict[str, Any], validate: Callable[[object], Any]) -> dict[str, Any]:
    """Return the fields of an error message that can be read; the others go into its text."""
    readable: dict[str, Any] = {}
    lost: list[str] = []
    for name, value in fields.items():
        if _is_valid({name: value}, validate):
            readable[name] = value
        elif name in {"request_id", "more_info"} and isinstance(value, (int, float)):
            readable[name] = str(value)
        elif name == "error_message":
            readable[name] = _words(value)
        elif name in _ERROR_FIELDS:
            lost.append(f"{name}: {_words(value)}")
    if lost:
        message = readable.get("error_message")
        readable["error_message"] = f"{message or 'no description'} ({', '.join(lost)})"
    return readable


def _is_valid(fields: dict[str, Any], validate: Callable[[object], Any]) -> bool:
    try:
        validate(fields)
    except ValidationError:
        return False
    return True


def _words(value: object) -> str:
    """Return a value of any type as text of bounded length."""
    text = value if isinstance(value, str) else to_json(value).decode()
    return text if len(text) <= _LONGEST_WORDS else f"{text[:_LONGEST_WORDS]}..."


def may_hold_marker(raw: str | bytes) -> bool:
    """Return whether a message may contain an `<end>` or `<fin>`, plain or escaped.

    Most messages do not, and searching their text is cheaper than looking at each token.
    """
    if isinstance(raw, str):
        return "<" in raw or "\\" in raw
    return b"<" in raw or b"\\" in raw


def start_message(config: RealtimeSTTConfig, *, api_key: str | None = None) -> str:
    """Return the start message of a stream.

    `api_key` is for the deprecated form with the key in the message, which the service refuses from
    15 January 2027 (Soniox docs, "Migrate WebSocket authentication").
    """
    # Fields that are unset are left out, so that the service's defaults apply.
    message = config.model_dump_json(exclude_none=True, exclude={"extra_fields"})
    for name, value in (config.extra_fields or {}).items():
        message = _with_field(message, name, value)
    return message if api_key is None else with_api_key(message, api_key)


def with_api_key(message: str, api_key: str) -> str:
    """Return a start message with the key in it, the deprecated form."""
    return _with_field(message, "api_key", api_key)


def _with_field(message: str, name: str, value: object) -> str:
    """Return a JSON object with one more field. It must have one already, for the comma."""
    return f"{message[:-1]},{to_json(name).decode()}:{to_json(value).decode()}}}"


def finalize_message(trailing_silence_ms: int | None = None) -> str:
    """Return a finalize message; `trailing_silence_ms` is the silence already sent after speech.

    Raises `SonioxValidationError` unless that is None or a whole number of 0 or more.
    """
    if trailing_silence_ms is None:
        return FINALIZE_MESSAGE
    if type(trailing_silence_ms) is not int or trailing_silence_ms < 0:
        raise SonioxValidationError(
            f"trailing_silence_ms must be a whole number of milliseconds, 0 or more, "
            f"not {trailing_silence_ms!r}"
        )
    return f'{{"type":"finalize","trailing_silence_ms":{trailing_silence_ms}}}'


def audio_bytes(chunk: bytes | bytearray | memoryview) -> bytes:
    """Return a chunk of audio as bytes.

    A bytearray or a memoryview is copied, because the caller may reuse the buffer while the audio
    is still queued.

    Raises:
        TypeError: The chunk is not bytes, a bytearray or a memoryview.
        SonioxValidationError: The chunk is a memoryview that is not contiguous.
    """
    if isinstance(chunk, bytes):
        return bytes(chunk)
    if isinstance(chunk, memoryview) and not chunk.c_contiguous:
        raise SonioxValidationError("audio in a memoryview must be contiguous; make it bytes first")
    if not isinstance(chunk, (bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"audio must be bytes, bytearray or memoryview, not {type(chunk).__name__}")
    return bytes(chunk)
