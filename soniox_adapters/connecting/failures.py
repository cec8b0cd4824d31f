"""What went wrong while connecting, in words for the user."""

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
"""Parts of OpenSSL's names of faults that need not come again: of the server or of the network."""


class ConnectError(OSError):
    """Something other than the operating system's network refused the connection."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable
        """Whether another try may succeed while nobody changes the configuration."""


@contextmanager
def connector_errors() -> Generator[None]:
    """Raise `ConnectError` for what a function given as transport raises, if it is no `OSError`."""
    try:
        yield
    except (OSError, SonioxError):
        raise
    except Exception as error:
        text = f"the function given as transport raised {type(error).__name__}: {error}"
        raise ConnectError(text, retryable=not is_fault_of_code(error)) from error


def is_fault_of_code(error: Exception) -> bool:
    """Return whether an error is one of Python's own, such as TypeError, but no `OSError`.

    What a library defines may be its word for a fault of the network.
    """
    return type(error).__module__ == "builtins" and not isinstance(error, OSError)


def is_retryable(error: OSError) -> bool:
    """Return whether another try may succeed while nobody changes the configuration.

    Faults of the network may be gone by then. A certificate that is missing, expired or not
    trusted, and peers that have no version of TLS in common, will meet again.
    """
    if isinstance(error, ConnectError):
        return error.retryable
    # Every session that gets here has loaded it.
    import ssl

    if not isinstance(error, ssl.SSLError):
        return True
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)):
        return True
    reason = getattr(error, "reason", None) or ""
    return any(name in reason for name in _PASSING_TLS_FAULTS)


def session_error(error: OSError, endpoint: Endpoint, proxy: Proxy | None) -> SonioxRealtimeError:
    """Return what a session raises when no stream to `endpoint` could be opened.

    The `__cause__` is set: what the operating system, TLS or the user's function raised.
    """
    import socket

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
