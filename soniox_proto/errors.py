"""Every error of the library.

Branch on the class, or on `SonioxServerError.error_type`, which the service keeps stable across
releases; never on a message text, which may change (Soniox docs, "Error handling").

The classes follow the question of what to do: change the program (`SonioxValidationError`,
`SonioxStateError`), change the request, the key or the account (the subclasses of
`SonioxServerError`), or try again (`retryable`, `retry_after`; the table is in `retrying.py`).
Exceptions of pydantic, wsproto, ssl and the operating system never reach the user bare; they are
the `__cause__` of one of these.

An error that ended a session is kept, and raised again for every later call. Each time a `fresh`
copy is raised, because raising the same instance again would make its traceback longer each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from soniox_proto.retrying import (
    advice_on_close_code,
    advice_on_error_message,
    advice_on_status,
    advice_on_timeout,
)

if TYPE_CHECKING:
    from soniox_proto.flight_recorder import FlightRecord

__all__ = [
    "SonioxAuthenticationError",
    "SonioxConnectionError",
    "SonioxDurationLimitError",
    "SonioxError",
    "SonioxHandshakeError",
    "SonioxInvalidRequestError",
    "SonioxProtocolError",
    "SonioxQuotaError",
    "SonioxRateLimitError",
    "SonioxRealtimeError",
    "SonioxServerError",
    "SonioxServerTimeoutError",
    "SonioxServiceUnavailableError",
    "SonioxStateError",
    "SonioxTimeoutError",
    "SonioxValidationError",
    "fresh",
]

_DESCRIPTION_LENGTH: Final = 1000
"""Characters of the service's description that the text of an error quotes. A peer may send a
description of any length, and texts of errors end up in logs."""


class SonioxError(Exception):
    """Base of every error that this library raises."""


class SonioxValidationError(SonioxError, ValueError):
    """A configuration, an argument, an API key or a URL that cannot be used.

    Nothing was sent. The `pydantic.ValidationError` behind it, if any, is the `__cause__`.
    """


class SonioxRealtimeError(SonioxError):
    """Anything that goes wrong in a realtime session."""

    retryable: bool = False
    """Whether a new connection is worth trying."""

    retry_after: float | None = None
    """Seconds to wait before the new connection; 0.0 for at once; None if nothing is known."""

    flight_record: FlightRecord | None = None
    """What happened in the session before, without any words or keys: `print(error.flight_record)`.
    None if it does not come from a session."""


class SonioxStateError(SonioxRealtimeError):
    """The call is not possible now: the session is not connected, finished or closed.

    The call changed nothing. If the session was ended by an error, that error is the `__cause__`.
    """


class SonioxConnectionError(SonioxRealtimeError):
    """The connection could not be made, or was lost before the transcript was complete."""

    def __init__(
        self, message: str, *, close_code: int | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.retryable = advice_on_close_code(close_code).retryable
        self.close_code = close_code
        """WebSocket close code (RFC 6455 section 7.4); 1006 without a close frame; None if the
        connection was never open."""
        self.reason = reason
        """Reason of the close frame, if there was one."""


class SonioxHandshakeError(SonioxConnectionError):
    """The server answered the WebSocket upgrade with an HTTP status other than 101."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 0,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        """HTTP status code of the answer."""
        self.headers: dict[str, str] = dict(headers or {})
        """Headers of the answer, names in lower case."""
        self.body = body
        """Body of the answer, at most the first 64 KiB of it."""
        # A gateway knows better than a table when to come back.
        self.retryable, self.retry_after = advice_on_status(status_code)
        if self.retryable:
            delay = _delay_in_seconds(self.headers.get("retry-after"))
            self.retry_after = self.retry_after if delay is None else delay


class SonioxTimeoutError(SonioxRealtimeError, TimeoutError):
    """A deadline of our own passed. Also a built-in `TimeoutError`.

    What the service finds too late is a `SonioxServerTimeoutError` instead.
    """

    def __init__(self, message: str, *, operation: str = "") -> None:
        super().__init__(message)
        self.operation = operation
        """What took too long: `connect`, `receive`, `send`, `finalize`, `close` or `ping`."""
        self.retryable = advice_on_timeout(operation).retryable


class SonioxProtocolError(SonioxRealtimeError):
    """The peer broke RFC 6455, or sent something that is not a message of the protocol.

    Not retryable: the same peer would most likely do it again.
    """

    def __init__(self, message: str, *, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code
        """WebSocket close code that names the violation (RFC 6455 section 7.4.1), if any."""


class SonioxServerError(SonioxRealtimeError):
    """The service ended the session with an error message.

    The subclass says of what kind it is. An error of a type and code that this version does not
    know is of this class itself.
    """

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        error_type: str | None = None,
        error_message: str | None = None,
        request_id: str | None = None,
        more_info: str | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable, self.retry_after = advice_on_error_message(error_code, error_type)
        self.error_code = error_code
        """Number of the error, with the meaning of an HTTP status code."""
        self.error_type = error_type
        """Stable name of the error, or None if the service sent none."""
        self.error_message = error_message
        """Description for a person, in full; its text may change at any time."""
        self.request_id = request_id
        """Identifier of the request for Soniox support, or None."""
        self.more_info = more_info
        """URL of a page about the error, or None."""

    @staticmethod
    def from_message(
        *,
        error_code: int | None,
        error_type: str | None,
        error_message: str | None,
        request_id: str | None,
        more_info: str | None,
    ) -> SonioxServerError:
        """Return an error of the class that fits `error_type` or, if that is not known, the code.

        The type comes first because it is more specific: 403 covers both a key without permission
        and a temporary key whose session is over.
        """
        error_class = _class_of(error_code, error_type)
        name = "".join(
            f" {_shortened(str(part))}" for part in (error_code, error_type) if part is not None
        )
        description = _shortened(error_message or "no description")
        text = f"the server ended the session with error{name}: {description}"
        if request_id:
            text += f" (request {_shortened(request_id)})"
        return error_class(
            text,
            error_code=error_code,
            error_type=error_type,
            error_message=error_message,
            request_id=request_id,
            more_info=more_info,
        )


class SonioxAuthenticationError(SonioxServerError):
    """The API key is missing, wrong, expired, or not permitted to do this (401, 403).

    The service usually reports this after the WebSocket has opened, not as an HTTP status.
    """


class SonioxInvalidRequestError(SonioxServerError):
    """The configuration, a control message or the audio was refused (400)."""


class SonioxQuotaError(SonioxServerError):
    """The balance or the monthly budget is used up (402)."""


class SonioxRateLimitError(SonioxServerError):
    """Too many requests, or too many at once (429).

    By default 100 requests a minute and 10 at once, for each organization and project; open
    connections are limited to a multiple of that (Soniox docs, "Limits & quotas").
    """


class SonioxServerTimeoutError(SonioxServerError):
    """The start message or the audio came too late or too slowly (408).

    Raw audio under `audio_format: auto` ends this way too: the service waits for a header.
    """


class SonioxServiceUnavailableError(SonioxServerError):
    """The service failed, or asks to start the request again (500, 503, any other 5xx).

    A 503 "Cannot continue request" may end any session early, and asks for a new request at once
    (Soniox docs, "Error handling").
    """


class SonioxDurationLimitError(SonioxServerError):
    """The stream reached its maximum duration, 300 minutes (413); a new session can follow at once.

    The limit is the same for every account (Soniox docs, "Limits & quotas").
    """


_CLASS_OF_TYPE: dict[str, type[SonioxServerError]] = {
    "invalid_request": SonioxInvalidRequestError,
    "model_not_available": SonioxInvalidRequestError,
    "unauthenticated": SonioxAuthenticationError,
    "permission_denied": SonioxAuthenticationError,
    "temp_api_key_session_expired": SonioxAuthenticationError,
    "organization_balance_exhausted": SonioxQuotaError,
    "organization_monthly_budget_exhausted": SonioxQuotaError,
    "project_monthly_budget_exhausted": SonioxQuotaError,
    "request_timeout": SonioxServerTimeoutError,
    "max_duration_reached": SonioxDurationLimitError,
    "limit_exceeded": SonioxRateLimitError,
    "max_concurrent_connections_reached": SonioxRateLimitError,
    "internal_error": SonioxServiceUnavailableError,
    "service_unavailable": SonioxServiceUnavailableError,
}

_CLASS_OF_CODE: dict[int, type[SonioxServerError]] = {
    400: SonioxInvalidRequestError,
    401: SonioxAuthenticationError,
    402: SonioxQuotaError,
    403: SonioxAuthenticationError,
    408: SonioxServerTimeoutError,
    413: SonioxDurationLimitError,
    429: SonioxRateLimitError,
}


def _class_of(error_code: int | None, error_type: str | None) -> type[SonioxServerError]:
    code = error_code or 0
    if error_type in _CLASS_OF_TYPE:
        return _CLASS_OF_TYPE[error_type]
    if 500 <= code <= 599:
        return SonioxServiceUnavailableError
    return _CLASS_OF_CODE.get(code, SonioxServerError)


def _shortened(text: str) -> str:
    return text if len(text) <= _DESCRIPTION_LENGTH else f"{text[:_DESCRIPTION_LENGTH]}..."


_ErrorT = TypeVar("_ErrorT", bound=SonioxError)


def fresh(error: _ErrorT) -> _ErrorT:
    """Return a copy of an error that is kept, to raise in its place.

    The copy starts with the traceback of the kept error and leaves that unchanged.
    """
    # Without the constructor: in a user's subclass it may take any arguments.
    twin = type(error).__new__(type(error), *error.args).with_traceback(error.__traceback__)
    twin.args = error.args
    vars(twin).update(vars(error))
    if "__notes__" in vars(twin):
        vars(twin)["__notes__"] = list(vars(error)["__notes__"])
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin


def _delay_in_seconds(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3).

    None if there is no header, or if it has a date, which would take a clock to interpret.
    """
    if value is None or not value.isascii() or not value.isdigit():
        return None
    return float(value[:9])
