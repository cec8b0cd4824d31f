"""The TLS settings that sessions use."""

from __future__ import annotations

import ssl
from functools import cache

from soniox_adapters.connecting.failures import ConnectError

__all__ = ["client_context"]


@cache
def _default_context() -> ssl.SSLContext:
    # Cached because reading the trust store takes longer than a handshake. Contexts may be shared.
    return ssl.create_default_context()


def client_context(context: ssl.SSLContext | None) -> ssl.SSLContext:
    """Return `context`; for None, a context that verifies with the system's trust store.

    Raises `ConnectError` if that cannot be created on this system.
    """
    if context is not None:
        return context
    try:
        return _default_context()
    except OSError as error:
        # For example, a file named by SSLKEYLOGFILE or SSL_CERT_FILE cannot be opened.
        raise ConnectError(f"TLS cannot be set up: {error}", retryable=False) from error
