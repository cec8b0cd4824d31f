"""Errors of connecting: in words for the user, and with a verdict on whether to try again.

The operating system, TLS, proxies and the user's own function fail in different ways. A program
should not have to know them all to decide whether a retry makes sense.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from soniox_proto import (
    SonioxConnectionError,
    SonioxError,
    SonioxRealtimeError,
    SonioxTimeoutError,
)

if TYPE_CHECKING:
    from soniox_adapters.connecting.proxy import Proxy
    from soniox_proto import Endpoint

__all__ = ["ConnectError", "connector_errors", "is_fault_of_code", "is_retryable", "session_error"]

_PASSING_TLS_FAULTS: Final = ("INTERNAL_ERROR", "BAD_RECORD_MAC", "USER_CANCEL")
"""Parts of OpenSSL's names for faults of the server or the network, which may not occur again."""


class ConnectError(OSError):
    """A failure to connect that the operating system did not report: of a proxy, TLS, the user."""

    def __init__(
        self, message: str, *, retryable: bool, error: SonioxRealtimeError | None = None
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        """Whether another try may succeed with the same configuration."""
        self.error = error
        """The error that the session raises, if it is known better where this was raised."""


@contextmanager
def connector_errors() -> Generator[None]:
    """Turn exceptions of a function given as transport into `ConnectError`.

    `OSError` and `SonioxError` pass unchanged.
    """
    try:
        yield
    except (OSError, SonioxError):
        raise
    except Exception as error:
        text = f"the function given as transport raised {type(error).__name__}: {error}"
        raise ConnectError(text, retryable=not is_fault_of_code(error)) from error


def is_fault_of_code(error: Exception) -> bool:
    """Return whether an error means a bug: a builtin one, such as `TypeError`, but not `OSError`.

    An exception class of a library may well stand for a failure of the network.
    """
    return type(error).__module__ == "builtins" and not isinstance(error, OSError)


def is_retryable(error: OSError) -> bool:
    """Return whether another try may succeed with the same configuration.

    A network failure may be over by then. A certificate that is missing, expired or not trusted
    will still be, and so will a lack of common TLS versions.
    """
    if isinstance(error, ConnectError):
        return error.retryable
    # Costs nothing here: connecting has already imported it.
    import ssl

    if not isinstance(error, ssl.SSLError):
        return True
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)):
        return True
    reason = getattr(error, "reason", None) or ""
    return any(name in reason for name in _PASSING_TLS_FAULTS)


def session_error(error: OSError, endpoint: Endpoint, proxy: Proxy | None) -> SonioxRealtimeError:
    """Return the error that a session raises if no stream to `endpoint` could be opened.

    Its `__cause__` is what the operating system, TLS or the user's function raised.
    """
    import socket

    if isinstance(error, ConnectError) and error.error is not None:
        return error.error
    where = f"{endpoint.host}:{endpoint.port}"
    if proxy is not None:
        where += f" through {proxy}"
    failure: SonioxRealtimeError
    if isinstance(error, TimeoutError):
        failure = SonioxTimeoutError(
            f"could not connect to {where} in time (connect_timeout_sec)", operation="connect"
        )
    elif isinstance(error, socket.gaierror):
        unknown = endpoint.host if proxy is None else proxy.host
        failure = SonioxConnectionError(
            f"cannot connect to {where}: the host name {unknown} cannot be resolved: "
            f"{error.strerror or error}"
        )
    else:
        failure = SonioxConnectionError(f"cannot connect to {where}: {error.strerror or error}")
        failure.retryable = is_retryable(error)
    failure.__cause__ = (error.__cause__ if isinstance(error, ConnectError) else None) or error
    return failure
