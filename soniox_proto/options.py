"""Defaults and checks of the options that the core takes, in seconds and bytes."""

from __future__ import annotations

from typing import Final

from soniox_proto.errors import SonioxValidationError

__all__ = [
    "DEFAULT_CLOSE_TIMEOUT",
    "DEFAULT_CONNECT_TIMEOUT",
    "DEFAULT_KEEPALIVE_INTERVAL",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "DEFAULT_MAX_PENDING_AUDIO",
    "DEFAULT_PING_INTERVAL",
    "DEFAULT_PING_TIMEOUT",
    "MAX_SECONDS",
    "check_flag",
    "check_seconds",
    "check_size",
    "check_timeout",
]

DEFAULT_CONNECT_TIMEOUT: Final = 10.0
"""Seconds from `connect` to an open session: in the sessions, from name resolution on."""
DEFAULT_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that closing waits for the server."""
DEFAULT_KEEPALIVE_INTERVAL: Final = 5.0
"""Seconds without audio before a keepalive is sent. The service gives up after 20 s of silence, so
three keepalives may be lost on the way."""
DEFAULT_PING_INTERVAL: Final = 20.0
"""Seconds between WebSocket pings."""
DEFAULT_PING_TIMEOUT: Final = 20.0
"""Seconds that a pong may take before the connection counts as lost."""
DEFAULT_MAX_PENDING_AUDIO: Final = 1024 * 1024
"""Bytes of audio held until the session opens: half a minute of 16 kHz speech, longer than any
handshake takes."""
DEFAULT_MAX_MESSAGE_SIZE: Final = 16 * 1024 * 1024
"""Bytes of the largest message taken: far above any real result, far below a machine's memory."""

MAX_SECONDS: Final = 1_000_000
"""Seconds, eleven days: longer than any session. The waiting calls of some systems overflow at
twice that."""

_SHOWN_LENGTH: Final = 60
"""Characters of a refused value that an error quotes."""


def check_seconds(name: str, value: float | None) -> float | None:
    """Return a time option, None for no limit.

    Raises `SonioxValidationError` unless it is None or a number above 0, at most `MAX_SECONDS`.
    """
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))  # pyright: ignore[reportUnnecessaryIsInstance]
        or not 0 < value <= MAX_SECONDS
    ):
        raise SonioxValidationError(
            f"{name} must be a number of seconds above 0 and at most {MAX_SECONDS:,}, "
            f"or None for no limit, not {_shown(value)}"
        )
    return value


def check_timeout(value: float | None) -> float | None:
    """Return the `timeout` of a call, None for no limit; 0 and less do not wait at all.

    Raises `SonioxValidationError` unless it is None or a number.
    """
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))  # pyright: ignore[reportUnnecessaryIsInstance]
        or value != value
    ):
        raise SonioxValidationError(
            f"timeout must be a number of seconds, or None for no limit, not {_shown(value)}"
        )
    return None if value > MAX_SECONDS else max(value, 0.0)


def check_flag(name: str, value: bool) -> bool:
    """Return an option that is on or off; raises `SonioxValidationError` unless it is a bool."""
    if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SonioxValidationError(f"{name} must be True or False, not {_shown(value)}")
    return value


def check_size(name: str, value: int) -> int:
    """Return a size option; raises `SonioxValidationError` unless it is a whole number from 1."""
    if type(value) is not int or value < 1:
        raise SonioxValidationError(
            f"{name} must be a whole number of bytes, at least 1, not {_shown(value)}"
        )
    return value


def _shown(value: object) -> str:
    """Return what an error quotes of a value, which may be anything at all."""
    try:
        text = repr(value)
    except Exception:
        text = f"one of type {type(value).__name__}"
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."
