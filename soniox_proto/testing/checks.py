"""Checks of what a script says, at the line that says it.

A wrong number would else be found inside of the session under test, far from the script, or make
virtual time stand still.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, TypeAlias

from soniox_proto.errors import SonioxValidationError
from soniox_proto.messages import RealtimeEvent, Token
from soniox_proto.testing.factories import Speech
from soniox_proto.websocket.connection import close_code_may_be_sent

__all__ = [
    "checked_close_code",
    "checked_count",
    "checked_message",
    "checked_number",
    "checked_speech",
    "checked_status",
    "checked_text",
]

Message: TypeAlias = "RealtimeEvent | Mapping[str, Any]"
"""A message to send exactly as it is."""


def checked_number(name: str, value: float) -> float:
    """Return a number of seconds or milliseconds, zero or more."""
    if not _is_number(value) or not isfinite(value):
        raise SonioxValidationError(f"{name} must be a number, not {value!r}")
    if value < 0:
        raise SonioxValidationError(f"{name} must be zero or more, not {value!r}")
    return value


def checked_count(name: str, value: int, *, at_least: int = 0) -> int:
    """Return a whole number."""
    if type(value) is not int or value < at_least:
        least = "zero" if at_least == 0 else f"{at_least}"
        raise SonioxValidationError(f"{name} must be {least} or more, not {value!r}")
    return value


def checked_speech(item: Speech | RealtimeEvent) -> Speech | RealtimeEvent:
    """Return something that can be said."""
    if not isinstance(item, (str, Token, RealtimeEvent)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SonioxValidationError(
            f"a server says texts, tokens and results, one argument for each, not {item!r}"
        )
    return item


def checked_message(
    message: RealtimeEvent | Mapping[str, Any],
) -> RealtimeEvent | Mapping[str, Any]:
    """Return a message that can be sent as it is."""
    if isinstance(message, RealtimeEvent):
        return message
    try:
        json.dumps(dict(message))
    except (TypeError, ValueError) as error:
        raise SonioxValidationError(
            f"a message is a RealtimeEvent or a mapping that is a JSON object, not {message!r}; "
            "send_bytes sends anything else"
        ) from error
    return message


def checked_close_code(code: int) -> int:
    """Return a code that a close frame may have."""
    if not close_code_may_be_sent(code):
        raise SonioxValidationError(
            f"{code!r} is not a code for a close frame (RFC 6455); drop() ends a connection "
            "without one"
        )
    return code


def checked_text(name: str, text: str) -> str:
    """Return a text."""
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SonioxValidationError(f"{name} must be a str, not {text!r}")
    return text


def checked_status(status_code: int) -> int:
    """Return an HTTP status that refuses something."""
    if type(status_code) is not int or not 400 <= status_code <= 599:
        raise SonioxValidationError(f"status_code must be 400 to 599, not {status_code!r}")
    return status_code


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
