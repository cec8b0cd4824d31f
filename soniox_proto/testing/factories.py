"""Messages of the service, made from as little as a test wants to say.

Times, positions and fields that a test does not care about get values that the service might send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from soniox_proto.messages import MARKERS, TOKEN_TEXT_END, RealtimeEvent, Token

__all__ = [
    "SERVER_ERRORS",
    "Speech",
    "end_of",
    "endpoint",
    "error",
    "finished",
    "is_marker",
    "is_translation",
    "natural_length_ms",
    "result",
    "timed",
    "token",
    "tokens_of",
]

Speech: TypeAlias = "str | Token"
"""A token, or the text of a final one."""

MS_PER_CHARACTER: Final = 60
"""How long a character takes to say: about 150 words a minute."""

REQUEST_ID: Final = "00000000-0000-0000-0000-000000000000"
"""The request that error messages of the kit name."""

SERVER_ERRORS: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        400: ("invalid_request", "Audio decode error"),
        401: ("unauthenticated", "Invalid API key."),
        402: (
            "organization_balance_exhausted",
            "Organization balance exhausted. Please either add funds manually or enable autopay.",
        ),
        403: ("permission_denied", "You don't have permission to perform this action."),
        408: ("request_timeout", "Request timeout."),
        413: ("max_duration_reached", "Audio is too long."),
        429: ("limit_exceeded", "Rate limit for your organization has been exceeded."),
        500: ("internal_error", "The server had an error."),
        503: (
            "service_unavailable",
            "Cannot continue request (code 1). Please restart the request.",
        ),
    }
)
"""For each `error_code`, the `error_type` and text that `error` uses."""


def token(
    text: str,
    *,
    final: bool = True,
    start_ms: int | None = None,
    end_ms: int | None = None,
    confidence: float | None = 0.95,
    translation: bool = False,
    **fields: Any,
) -> Token:
    """Return a token.

    Args:
        text: The text, with a leading space if it starts a word that is not the first.
        final: Whether it is final.
        start_ms: Start in the audio, in ms. None leaves it to `result` or to the scripted server.
        end_ms: End in the audio, in ms; None as for `start_ms`.
        confidence: Confidence, 0.0 to 1.0.
        translation: Whether this is a translation, which has no times. `result` and the scripted
            server give other tokens no `translation_status`; name one if you need it.
        fields: Further fields, such as `speaker` and `language`, also unknown ones.
    """
    if translation:
        fields = {"translation_status": "translation", **fields}
    return Token(
        text=text,
        is_final=final,
        confidence=confidence,
        start_ms=start_ms,
        end_ms=end_ms,
        **fields,
    )


def endpoint() -> Token:
    """Return an `<end>`, which closes an utterance.

    Its times are 0, as those of the service may be: code must not use them.
    """
    return Token(text=TOKEN_TEXT_END, is_final=True, start_ms=0, end_ms=0)


def result(*tokens: Speech, start_ms: int | None = 0, **fields: Any) -> RealtimeEvent:
    """Return a result message.

    Tokens without times follow each other at the speed of speech, and the positions are those of
    the last of them.

    Args:
        tokens: Tokens, or texts of final ones.
        start_ms: Where the first token starts, if it does not say so. With None, no times and
            positions are added.
        fields: Fields of the message, such as `total_audio_proc_ms`, also unknown ones.
    """
    if start_ms is None:
        return RealtimeEvent.model_validate({"tokens": tokens_of(tokens), **fields})
    placed = timed(tokens_of(tokens), start_ms)
    positions = {
        "final_audio_proc_ms": end_of(token for token in placed if token.is_final),
        "total_audio_proc_ms": end_of(placed),
    }
    return RealtimeEvent.model_validate({"tokens": placed, **positions, **fields})


def finished(audio_ms: int = 0, **fields: Any) -> RealtimeEvent:
    """Return the finished response to a stream of `audio_ms` of audio."""
    positions = {"final_audio_proc_ms": audio_ms, "total_audio_proc_ms": audio_ms}
    return RealtimeEvent.model_validate({**positions, "finished": True, **fields})


def error(
    error_code: int, error_type: str | None = None, error_message: str | None = None, **fields: Any
) -> RealtimeEvent:
    """Return an error message; what is left out is what the service sends with that code."""
    usual_type, usual_message = SERVER_ERRORS.get(error_code, (None, "An error."))
    return RealtimeEvent.model_validate(
        {
            "error_code": error_code,
            "error_type": error_type or usual_type,
            "error_message": error_message or usual_message,
            "request_id": REQUEST_ID,
            **fields,
        }
    )


# For the scripted server


def tokens_of(speech: Iterable[Speech]) -> list[Token]:
    """Return tokens, made from texts where necessary."""
    return [token(item) if isinstance(item, str) else item for item in speech]


def is_marker(token: Token) -> bool:
    """Return whether a token is an `<end>` or a `<fin>`."""
    return token.text in MARKERS


def is_translation(token: Token) -> bool:
    """Return whether a token is a translation."""
    return token.translation_status == "translation"


def end_of(tokens: Iterable[Token]) -> int:
    """Return where the last of the tokens that have times ends, in ms; 0 if none has."""
    return max(
        (token.end_ms for token in tokens if token.end_ms is not None and not is_marker(token)),
        default=0,
    )


def natural_length_ms(tokens: Iterable[Token]) -> int:
    """Return how long it takes to say the tokens that have no times, in ms."""
    return sum(len(token.text) * MS_PER_CHARACTER for token in tokens if _needs_times(token))


def timed(tokens: Sequence[Token], start_ms: int, latest_ms: int | None = None) -> list[Token]:
    """Return the tokens with times: one after the other, at the speed of speech.

    Args:
        tokens: Tokens; those that have times keep them, markers and translations get none.
        start_ms: Where the first one starts.
        latest_ms: Where the last one ends at the latest. Tokens that take longer are said faster.
    """
    untimed = natural_length_ms(tokens)
    speed = 1.0
    if latest_ms is not None and untimed:
        speed = min(1.0, max(0, latest_ms - start_ms) / untimed)
    placed: list[Token] = []
    position = float(start_ms)
    for token in tokens:
        if _needs_times(token):
            end = position + len(token.text) * MS_PER_CHARACTER * speed
            token = token.model_copy(update={"start_ms": round(position), "end_ms": round(end)})
            position = end
        elif not is_marker(token) and token.end_ms is not None:
            position = max(position, token.end_ms)
        placed.append(token)
    return placed


def _needs_times(token: Token) -> bool:
    timeless = token.start_ms is None and token.end_ms is None
    return timeless and not is_marker(token) and not is_translation(token)
