"""Which ends of a session are worth a new connection, and after how long, as tables of data.

Errors take `retryable` and `retry_after` from here, and the tests compare the README with these
tables, so the three cannot disagree.

The principle: retry where a new connection, made in the same way, may have a different fate. So not
where the request, the key or the account must be changed first; at once where the service asks for
it; after a delay where trying sooner would only count against the limit again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = [
    "CLOSE_CODES",
    "OTHER_CLOSE_CODES",
    "OTHER_ERRORS",
    "OTHER_STATUSES",
    "SERVER_ERRORS",
    "STATUSES",
    "TIMEOUTS",
    "Advice",
    "advice_on_close_code",
    "advice_on_error_message",
    "advice_on_status",
    "advice_on_timeout",
]


class Advice(NamedTuple):
    """What to do after an end."""

    retryable: bool
    """Whether a new connection is worth trying."""
    retry_after: float | None = None
    """Seconds to wait before it; 0.0 for at once; None if nothing is known."""


_RATE_LIMIT_DELAY: Final = 10.0
"""Seconds to wait after a 429. The service names no delay; its limits are counted per minute
(Soniox docs, "Limits & quotas"), so an immediate attempt would most likely fail too."""

_NO: Final = Advice(retryable=False)
_YES: Final = Advice(retryable=True)
_AT_ONCE: Final = Advice(retryable=True, retry_after=0.0)
_LATER: Final = Advice(retryable=True, retry_after=_RATE_LIMIT_DELAY)

SERVER_ERRORS: Final[Mapping[tuple[int, str | None], Advice]] = {
    (400, "invalid_request"): _NO,
    (400, "model_not_available"): _NO,
    (400, None): _NO,
    (401, "unauthenticated"): _NO,
    (401, None): _NO,
    (402, "organization_balance_exhausted"): _NO,
    (402, "organization_monthly_budget_exhausted"): _NO,
    (402, "project_monthly_budget_exhausted"): _NO,
    (402, None): _NO,
    (403, "permission_denied"): _NO,
    # With a fresh temporary key; the time of this one is used up.
    (403, "temp_api_key_session_expired"): _AT_ONCE,
    (403, None): _NO,
    (408, "request_timeout"): _YES,
    (408, None): _YES,
    # A stream has at most 300 minutes; continuing takes a new session (Soniox docs, "Limits &
    # quotas").
    (413, "max_duration_reached"): _AT_ONCE,
    (413, None): _AT_ONCE,
    (429, "limit_exceeded"): _LATER,
    (429, "max_concurrent_connections_reached"): _LATER,
    (429, None): _LATER,
    (500, "internal_error"): _YES,
    (500, None): _YES,
    # The service asks to start a new request immediately (Soniox docs, "Error handling").
    (503, "service_unavailable"): _AT_ONCE,
    (503, None): _AT_ONCE,
}
"""Error messages of the service, by `error_code` and `error_type`.

A known type decides alone, whatever the code. None stands for no type, and for one that is not in
the table; the code decides then."""

OTHER_ERRORS: Final[Mapping[int, Advice]] = {5: _YES}
"""Error messages with other codes, by the hundreds of the code. Codes in no table are not
retryable."""

STATUSES: Final[Mapping[int, Advice]] = {408: _YES, 425: _YES, 429: _LATER}
"""HTTP statuses that answer the upgrade request instead of 101. The seconds of a Retry-After header
take precedence over the delay."""

OTHER_STATUSES: Final[Mapping[int, Advice]] = {5: _YES}
"""Other HTTP statuses, by the hundreds of the status. Those in no table are not retryable."""

CLOSE_CODES: Final[Mapping[int, Advice]] = {
    1002: _NO,  # protocol error
    1003: _NO,  # unsupported data
    1007: _NO,  # invalid data
    1008: _NO,  # policy violation
    1009: _NO,  # message too big
    1010: _NO,  # extension missing
    3000: _NO,  # unauthorized
    3003: _NO,  # forbidden
}
"""WebSocket close codes that blame the client, which would do the same again (RFC 6455 section
7.4.1 and the IANA registry of close codes)."""

OTHER_CLOSE_CODES: Final = _YES
"""Every other close code of a failed session, and a connection that was lost without one: usually
the network or a restart of the server."""

TIMEOUTS: Final[Mapping[str, Advice]] = {
    "connect": _YES,
    "finalize": _YES,
    "ping": _YES,
    # After a timeout of these calls the session is still usable, or it was being closed anyway.
    "receive": _NO,
    "send": _NO,
    "close": _NO,
}
"""Deadlines of our own, by `SonioxTimeoutError.operation`. An unknown one is not retryable."""

_BY_TYPE: Final = {kind: advice for (_, kind), advice in SERVER_ERRORS.items() if kind is not None}
_BY_CODE: Final = {code: advice for (code, kind), advice in SERVER_ERRORS.items() if kind is None}


def advice_on_error_message(error_code: int | None, error_type: str | None) -> Advice:
    """Return what to do after an error message of the service."""
    if error_type in _BY_TYPE:
        return _BY_TYPE[error_type]
    code = error_code or 0
    return _BY_CODE.get(code) or OTHER_ERRORS.get(code // 100, _NO)


def advice_on_status(status_code: int) -> Advice:
    """Return what to do after an HTTP status other than 101."""
    return STATUSES.get(status_code) or OTHER_STATUSES.get(status_code // 100, _NO)


def advice_on_close_code(close_code: int | None) -> Advice:
    """Return what to do after a close frame with this code, or after none."""
    return CLOSE_CODES.get(close_code or 0, OTHER_CLOSE_CODES)


def advice_on_timeout(operation: str) -> Advice:
    """Return what to do after this operation missed its deadline."""
    return TIMEOUTS.get(operation, _NO)
