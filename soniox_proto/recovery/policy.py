"""When to make a new connection after one was lost, and how much audio to keep for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import iscoroutinefunction
from typing import Final, Literal

from soniox_proto.errors import (
    SonioxHandshakeError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxValidationError,
)
from soniox_proto.events import Reconnected, Reconnecting, RolledOver
from soniox_proto.options import check_flag, check_seconds

__all__ = ["ReconnectPolicy", "blames_key"]

_FRACTIONS: Final = 2**16
"""How finely the time of a failure is cut to spread the delays that follow it."""


_KEY_REFUSED: Final = frozenset({"unauthenticated", "temp_api_key_session_expired"})


def blames_key(error: SonioxRealtimeError) -> bool:
    """Return whether the service refused the API key, or its time is up, so that another may do.

    Not where a key is valid but lacks a permission (403 `permission_denied`).
    """
    if isinstance(error, SonioxServerError):
        return error.error_type in _KEY_REFUSED or error.error_code == 401
    return isinstance(error, SonioxHandshakeError) and error.status_code == 401


@dataclass(frozen=True, kw_only=True)
class ReconnectPolicy:
    """How a session makes a new connection when one is lost, refused or ended by the service.

    Delays grow from `initial_delay` by `multiplier` up to `max_delay`. Where the service names a
    delay, or asks to come back at once (503, 413), the first attempt follows that.

    Raises:
        SonioxValidationError: A value cannot be used; the message names the field.
    """

    max_attempts: int = 10
    """Attempts in a row. The count starts again with the first result of a new connection."""
    initial_delay: float = 0.5
    """Seconds before the first attempt."""
    max_delay: float = 20.0
    """Longest delay before an attempt, in seconds."""
    multiplier: float = 2.0
    """How much longer each delay is than the one before."""
    jitter: bool = True
    """Whether to shorten each delay by up to a half, so that the clients of a server that restarts
    do not all come back at the same moment."""
    max_replay_seconds: float = 60.0
    """Seconds of audio to keep for sending it again. Older audio is lost if a connection is missing
    for longer. Of a container that cannot be cut, all is kept until it is longer than this."""
    lead_in_ms: int = 1000
    """Audio to send again ahead of the first word that is missing, in ms: the service recognizes
    speech better with what came before."""
    replay_burst_seconds: float = 10.0
    """Seconds of held audio to send at once on a new connection."""
    replay_speed: float = 2.0
    """How fast to send the rest, as a multiple of real time. The service tolerates more for some
    seconds only (Soniox docs, "Error handling")."""
    rollover_after: float | None = 17_400.0
    """Seconds after which a connection is replaced by another at the next endpoint, or 30 s later;
    counted by the clock or in its audio, whichever comes first. The service ends a connection after
    18,000 s of audio (Soniox docs, "Limits and quotas"). None for never; never for containers."""
    speaker_labels: Literal["distinct", "raw"] = "distinct"
    """The service counts speakers anew on each connection. `distinct` makes the labels of later
    connections go on counting, so that no two people share one; `raw` leaves them alone."""
    carry_context: bool = False
    """Whether to tell each later connection what was said before: the last 1000 to 2000 characters
    are added to the `context` of its configuration, as far as there is room."""
    should_retry: Callable[[SonioxRealtimeError, int], bool] | None = None
    """Decides, given the error and the number of the attempt (from 1), in place of the error's
    `retryable`. It must not use the session."""
    on_event: Callable[[Reconnecting | Reconnected | RolledOver], object] | None = None
    """Called with each `Reconnecting`, `Reconnected` and `RolledOver`. It must not use the
    session."""

    def __post_init__(self) -> None:
        for name in ("max_attempts", "lead_in_ms"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise SonioxValidationError(
                    f"{name} must be a whole number of 0 or more, not {value!r}"
                )
        check_flag("jitter", self.jitter)
        check_flag("carry_context", self.carry_context)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float):
                if value is None and field.name != "rollover_after":
                    raise SonioxValidationError(f"{field.name} must be a number, not None")
                check_seconds(field.name, value)
        if self.multiplier < 1 or self.replay_speed <= 1:
            raise SonioxValidationError(
                "multiplier must be at least 1 and replay_speed above 1, or held audio would never "
                f"be sent; they are {self.multiplier} and {self.replay_speed}"
            )
        for name in ("should_retry", "on_event"):
            function = getattr(self, name)
            if function is not None and (not callable(function) or iscoroutinefunction(function)):
                raise SonioxValidationError(f"{name} must be a function, and not an async one")
        if self.speaker_labels not in {"distinct", "raw"}:
            raise SonioxValidationError(
                f"speaker_labels must be 'distinct' or 'raw', not {self.speaker_labels!r}"
            )

    def retries(
        self, error: SonioxRealtimeError, attempt: int, new_key_helps: bool | None = None
    ) -> bool:
        """Return whether to make an attempt after `error`.

        Args:
            error: Why the last connection ended.
            attempt: The number of the attempt, from 1.
            new_key_helps: Whether a new API key may be accepted, where the last one was refused
                and each connection has its own; else None.
        """
        if attempt > self.max_attempts:
            return False
        if self.should_retry is not None:
            return self.should_retry(error, attempt)
        return error.retryable if new_key_helps is None else new_key_helps

    def delay(self, error: SonioxRealtimeError, attempt: int, now: float) -> float:
        """Return the seconds to wait before this attempt.

        The jitter comes from the time of the failure, which differs between clients by more than
        anything else that a pure function could ask.
        """
        advised = error.retry_after
        if attempt == 1 and advised is not None:
            return advised
        try:
            grown = min(self.initial_delay * self.multiplier ** (attempt - 1), self.max_delay)
        except OverflowError:
            grown = self.max_delay
        if self.jitter:
            grown *= 1 - 0.5 * (hash((now, attempt)) % _FRACTIONS) / _FRACTIONS
        return max(grown, advised or 0.0)
