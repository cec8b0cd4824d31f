"""Utterances, times and errors as text for people: one line each, without control characters."""

from __future__ import annotations

import errno
import unicodedata
from typing import Final

from soniox_proto import (
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxDurationLimitError,
    SonioxError,
    SonioxHandshakeError,
    SonioxInvalidRequestError,
    SonioxProtocolError,
    SonioxQuotaError,
    SonioxRateLimitError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxServerTimeoutError,
    SonioxServiceUnavailableError,
    SonioxTimeoutError,
    SonioxValidationError,
    TextWriter,
    Utterance,
)

__all__ = ["describe_error", "format_seconds", "format_span", "one_line", "utterance_text"]

_KEY_ADVICE: Final = "check the API key (SONIOX_API_KEY) and its region (--region)"

_TOO_MANY_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})

_ADVICE: Final[tuple[tuple[type[SonioxError], str], ...]] = (
    (SonioxAuthenticationError, _KEY_ADVICE),
    (SonioxInvalidRequestError, "check the options and the audio format"),
    (SonioxQuotaError, "add funds or raise the budget in the Soniox console"),
    (SonioxRateLimitError, "wait a little, then try again"),
    (SonioxServerTimeoutError, "send the audio at the speed at which it was spoken"),
    (SonioxDurationLimitError, "transcribe the recording in shorter parts"),
    (SonioxServiceUnavailableError, "try again"),
    (SonioxServerError, "try again"),
    (SonioxHandshakeError, "check the URL, and the proxy if there is one"),
    (SonioxConnectionError, "check the network and the URL"),
    (SonioxProtocolError, "check that the URL is that of a Soniox service"),
    (SonioxTimeoutError, "check the network and the URL, then try again"),
)


def describe_error(error: SonioxError, *, advise: bool = True) -> str:
    """Return one line: what happened and, with `advise`, what to do about it."""
    cause = error.__cause__
    if type(error) is SonioxRealtimeError and isinstance(cause, OSError):
        return one_line(f"cannot read the audio: {cause.strerror or cause}")
    if type(error) is SonioxRealtimeError and isinstance(cause, SonioxValidationError):
        # A fault in the audio that was noticed while sending it.
        return one_line(str(cause))
    advice = _advice(error) if advise else ""
    return one_line(f"{error}; {advice}" if advice else str(error))


def one_line(text: str) -> str:
    """Return `text` on one line, without characters that control a terminal."""
    return " ".join(
        "".join(
            character if character.isspace() or unicodedata.category(character) != "Cc" else ""
            for character in text
        ).split()
    )


def utterance_text(utterance: Utterance) -> str:
    """Return an utterance as one line, and its translation, if any, as a second."""
    return TextWriter().text_of(utterance)


def format_seconds(milliseconds: int) -> str:
    """Return a time in seconds, with minutes and hours if it has any."""
    tenths = (milliseconds + 50) // 100
    minutes, tenths = divmod(tenths, 600)
    if not minutes:
        return f"{tenths / 10:.1f}"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}:{tenths / 10:04.1f}"
    return f"{hours}:{minutes:02}:{tenths / 10:04.1f}"


def format_span(start_ms: int | None, end_ms: int | None) -> str:
    """Return the time span in which something was said, such as 0.2-3.1."""
    start = "" if start_ms is None else format_seconds(start_ms)
    end = "" if end_ms is None else format_seconds(end_ms)
    return f"{start}-{end}" if start or end else ""


def _advice(error: SonioxError) -> str:
    if isinstance(error, SonioxHandshakeError) and error.status_code in {401, 403}:
        return _KEY_ADVICE
    if isinstance(error, SonioxConnectionError) and error.close_code is not None:
        return "the transcript is not complete; try again"
    if isinstance(error.__cause__, OSError) and error.__cause__.errno in _TOO_MANY_FILES:
        return "raise the limit of open files (ulimit -n)"
    return next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
