"""The JSON messages of the protocol, in both directions."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soniox_proto.config import RealtimeSTTConfig, describe_validation_error
from soniox_proto.errors import SonioxProtocolError, SonioxValidationError

__all__ = [
    "END_OF_AUDIO",
    "FINALIZE_MESSAGE",
    "KEEPALIVE_MESSAGE",
    "TOKEN_TEXT_END",
    "TOKEN_TEXT_FIN",
    "RealtimeControlType",
    "RealtimeEvent",
    "Token",
    "audio_bytes",
    "finalize_message",
    "may_hold_marker",
    "parse_event",
    "start_message",
]

TOKEN_TEXT_END: Final = "<end>"
"""Text of the final token that closes an utterance (endpoint detection). A marker, not text."""

TOKEN_TEXT_FIN: Final = "<fin>"
"""Text of the final token that answers a finalize. A marker, not text."""

END_OF_AUDIO: Final = ""
"""The empty text message that ends the audio."""

KEEPALIVE_MESSAGE: Final = '{"type":"keepalive"}'
"""The control message that keeps a session without audio open."""

FINALIZE_MESSAGE: Final = '{"type":"finalize"}'
"""The control message that asks for all outstanding tokens to become final."""


class RealtimeControlType(str, Enum):
    """Control messages of a realtime session."""

    FINISH = "finish"
    """End of the audio."""
    KEEP_ALIVE = "keep_alive"
    """Keep the session open although no audio flows."""
    FINALIZE = "finalize"
    """Make all outstanding tokens final now."""


class Token(BaseModel):
    """A piece of the transcript, often part of a word. Unknown fields are kept."""

    model_config = ConfigDict(extra="allow")

    text: str
    """The text, with its own leading space where one belongs."""
    start_ms: int | None = None
    """Start in the stream's audio, in ms; absent on translations."""
    end_ms: int | None = None
    """End in the stream's audio, in ms; absent on translations."""
    confidence: float | None = None
    """Confidence, 0.0 to 1.0."""
    is_final: bool | None = None
    """Whether this token will never change again."""
    speaker: str | None = None
    """Speaker label, with diarization."""
    translation_status: str | None = None
    """`none`, `original` or `translation`."""
    language: str | None = None
    """Language of the text."""
    source_language: str | None = None
    """Language that a translation was made from."""


class RealtimeEvent(BaseModel):
    """One message of the service: a result, the finished response, or an error.

    Unknown fields are kept.
    """

    model_config = ConfigDict(extra="allow")

    tokens: Annotated[list[Token], Field(fail_fast=True)] = []
    """New final tokens, then the whole current non-final tail."""
    final_audio_proc_ms: int | None = None
    """Audio that has become final tokens, in ms."""
    total_audio_proc_ms: int | None = None
    """Audio that has become final or non-final tokens, in ms."""
    finished: bool = False
    """Whether this is the last result of the session."""
    error_code: int | None = None
    """Number of the error, if this is an error."""
    error_type: str | None = None
    """Stable name of the error."""
    error_message: str | None = None
    """Description of the error for a person."""
    request_id: str | None = None
    """Identifier of the request, for Soniox support."""
    more_info: str | None = None
    """URL of a page about the error."""

    @classmethod
    def validate_event(cls, raw: str | bytes) -> RealtimeEvent:
        """Parse one message; raises `SonioxProtocolError` for what is not one."""
        return parse_event(raw)


# Straight to the compiled validator: `model_validate_json` spends a third of a small message's
# time on its keyword arguments.
_validate_json = RealtimeEvent.__pydantic_validator__.validate_json


def parse_event(raw: str | bytes) -> RealtimeEvent:
    """Parse one message of the service; raises `SonioxProtocolError` for what is not one."""
    try:
        return _validate_json(raw)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise SonioxProtocolError(
            f"the server sent what is not a message of the protocol: "
            f"{describe_validation_error(error)}",
            close_code=1007,
        ) from error


def may_hold_marker(raw: str | bytes) -> bool:
    """Return whether a message may hold an `<end>` or `<fin>`, plain or escaped.

    Most messages do not, and a look at their text is cheaper than one at each token.
    """
    if isinstance(raw, str):
        return TOKEN_TEXT_END in raw or TOKEN_TEXT_FIN in raw or "\\u" in raw
    return b"<end>" in raw or b"<fin>" in raw or b"\\u" in raw


def start_message(config: RealtimeSTTConfig, *, api_key: str | None = None) -> str:
    """Return the first message of a stream; `api_key` only for the deprecated form that holds it.

    Sending the key in the message is refused by the service from 15 January 2027.
    """
    if api_key is None:
        return config.model_dump_json(exclude_none=True)
    return json.dumps({"api_key": api_key, **config.model_dump(exclude_none=True)})


def finalize_message(trailing_silence_ms: int | None = None) -> str:
    """Return a finalize message; `trailing_silence_ms` is the silence already sent after speech.

    Raises `SonioxValidationError` unless it is None or a whole number of ms, 0 or more.
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
    """Return a chunk of audio as bytes, a copy of what may still change.

    Raises `TypeError` for what is not bytes, `SonioxValidationError` for a memoryview that is not
    contiguous.
    """
    if isinstance(chunk, bytes):
        return bytes(chunk)
    if isinstance(chunk, memoryview) and not chunk.c_contiguous:
        raise SonioxValidationError("audio in a memoryview must be contiguous; make it bytes first")
    if not isinstance(chunk, (bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"audio must be bytes, bytearray or memoryview, not {type(chunk).__name__}")
    return bytes(chunk)
