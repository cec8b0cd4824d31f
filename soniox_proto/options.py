"""Defaults and checks of the options of the core. Times are in seconds, sizes in bytes.

Options are checked when an object is constructed: a wrong number is an exception at the line that
has it, not a surprise when a timer first expires.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from soniox_proto.errors import SonioxValidationError

__all__ = [
    "DEFAULT_CLOSE_TIMEOUT",
    "DEFAULT_CONNECT_TIMEOUT",
    "DEFAULT_IDLE_MAX_LIFETIME",
    "DEFAULT_IDLE_REFRESH_BEFORE",
    "DEFAULT_KEEPALIVE_INTERVAL",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "DEFAULT_MAX_PENDING_AUDIO",
    "DEFAULT_PING_INTERVAL",
    "DEFAULT_PING_TIMEOUT",
    "MAX_SECONDS",
    "check_capture_time",
    "check_flag",
    "check_pool_options",
    "check_seconds",
    "check_size",
    "check_timeout",
]

DEFAULT_CONNECT_TIMEOUT: Final = 10.0
"""Seconds from `connect` to an open session. In the sessions of `soniox_adapters` that includes
name resolution, proxies and TLS."""
DEFAULT_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that closing waits for the server."""
DEFAULT_KEEPALIVE_INTERVAL: Final = 5.0
"""Seconds without audio before a keepalive is sent.

The service may close after more than 20 s without audio or keepalive, and a keepalive every 5 to
10 s is common (Soniox docs, "Connection keepalive"). The lower end leaves room for three that are
lost or late."""
DEFAULT_PING_INTERVAL: Final = 20.0
"""Seconds between WebSocket pings."""
DEFAULT_PING_TIMEOUT: Final = 20.0
"""Seconds that a pong may take before the connection counts as lost."""
DEFAULT_MAX_PENDING_AUDIO: Final = 1024 * 1024
"""Bytes of audio held until the session opens: half a minute of 16-bit speech at 16 kHz, which is
longer than any handshake takes."""
DEFAULT_MAX_MESSAGE_SIZE: Final = 16 * 1024 * 1024
"""Bytes of the largest message accepted: far above any real result, far below the memory of any
machine."""

DEFAULT_IDLE_MAX_LIFETIME: Final = 600.0
"""Seconds that an idle connection is used for: what other clients of the service do."""
DEFAULT_IDLE_REFRESH_BEFORE: Final = 60.0
"""Seconds before the end of its life at which an idle connection is replaced."""

MAX_SECONDS: Final = 1_000_000
"""Largest number of seconds that an option accepts: eleven days, longer than any session. Waiting
calls of some systems overflow at twice that."""

_MAX_POOL_SIZE: Final = 1000
"""Far more than the service lets an account open; a larger number is a mistake."""

_SHOWN_LENGTH: Final = 60
"""Characters of a refused value that an error quotes."""


def check_seconds(name: str, value: float | None, *, takes_none: bool = True) -> float | None:
    """Return an option in seconds, or None for no limit.

    Raises `SonioxValidationError` unless it is a number above 0 and at most `MAX_SECONDS`, or None
    where the option `takes_none`.
    """
    if value is None and takes_none:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))  # pyright: ignore[reportUnnecessaryIsInstance]
        or not 0 < value <= MAX_SECONDS
    ):
        raise SonioxValidationError(
            f"{name} must be a number of seconds above 0 and at most {MAX_SECONDS:,}, "
            f"{'or None for no limit, ' if takes_none else ''}not {_shown(value)}"
        )
    return value


def check_timeout(value: float | None) -> float | None:
    """Return the `timeout` of a call in seconds, or None for no limit. 0 and less do not wait.

    More lenient than `check_seconds`, because such a number is often computed: the time left until
    a deadline may have become negative, and "practically forever" may be any large number.

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


def check_capture_time(value: float) -> float:
    """Return the time at which audio was captured, in seconds on any clock.

    Raises `SonioxValidationError` unless it is a finite number.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))  # pyright: ignore[reportUnnecessaryIsInstance]
        or not isfinite(value)
    ):
        raise SonioxValidationError(f"captured_at must be a time in seconds, not {_shown(value)}")
    return value


def check_flag(name: str, value: bool) -> bool:
    """Return an option that is on or off.

    Raises `SonioxValidationError` unless it is a bool. Truthy values are refused, because `"no"` is
    one.
    """
    if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SonioxValidationError(f"{name} must be True or False, not {_shown(value)}")
    return value


def check_size(name: str, value: int) -> int:
    """Return an option in bytes.

    Raises `SonioxValidationError` unless it is a whole number of at least 1.
    """
    if type(value) is not int or value < 1:
        raise SonioxValidationError(
            f"{name} must be a whole number of bytes, at least 1, not {_shown(value)}"
        )
    return value


def check_pool_options(size: int, max_lifetime: float, refresh_before: float) -> None:
    """Raise `SonioxValidationError` unless these can be options of a pool, named as in a client."""
    if type(size) is not int or not 0 <= size <= _MAX_POOL_SIZE:
        raise SonioxValidationError(
            f"stt_connection_pool_size must be a whole number from 0 to {_MAX_POOL_SIZE}, not "
            f"{_shown(size)}"
        )
    for name, value in (
        ("stt_idle_max_lifetime_sec", max_lifetime),
        ("stt_idle_refresh_before_sec", refresh_before),
    ):
        check_seconds(name, value, takes_none=False)
    if refresh_before >= max_lifetime:
        raise SonioxValidationError(
            "stt_idle_refresh_before_sec must be less than stt_idle_max_lifetime_sec, not "
            f"{refresh_before} for {max_lifetime}"
        )


def _shown(value: object) -> str:
    """Return what an error quotes of a value of any kind, even one whose `repr` fails."""
    try:
        text = repr(value)
    except Exception:
        text = f"one of type {type(value).__name__}"
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."
