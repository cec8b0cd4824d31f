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
    "check_seconds",
    "check_size",
]

DEFAULT_CONNECT_TIMEOUT: Final = 10.0
"""Seconds."""
DEFAULT_CLOSE_TIMEOUT: Final = 5.0
"""Seconds."""
DEFAULT_KEEPALIVE_INTERVAL: Final = 5.0
"""Seconds. The service gives up after 20 s, so three keepalives may get lost on the way."""
DEFAULT_PING_INTERVAL: Final = 20.0
"""Seconds."""
DEFAULT_PING_TIMEOUT: Final = 20.0
"""Seconds."""
DEFAULT_MAX_PENDING_AUDIO: Final = 1024 * 1024
"""Bytes: half a minute of 16 kHz speech, more than any handshake takes."""
DEFAULT_MAX_MESSAGE_SIZE: Final = 16 * 1024 * 1024
"""Bytes: far above any real result, far below a machine's memory."""

_FOREVER: Final = 1e9
"""Seconds, 31 years: no limit at all. Waiting calls overflow not far above."""


def check_seconds(name: str, value: float | None) -> float | None:
    """Return a time option, None for no limit.

    Raises `SonioxValidationError` unless it is None or a number greater than zero.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SonioxValidationError(
            f"{name} must be a number of seconds greater than zero, or None for none, not {value!r}"
        )
    return None if value >= _FOREVER else value


def check_size(name: str, value: int) -> int:
    """Return a size option; raises `SonioxValidationError` unless it is a whole number from 1."""
    if type(value) is not int or value < 1:
        raise SonioxValidationError(
            f"{name} must be a whole number of bytes, at least 1, not {value!r}"
        )
    return value
