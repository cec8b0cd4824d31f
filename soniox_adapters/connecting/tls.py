"""TLS settings of the sessions."""

from __future__ import annotations

import ssl
from functools import cache

__all__ = ["client_context"]


@cache
def _default_context() -> ssl.SSLContext:
    # Reading the trust store takes longer than a handshake; contexts may be shared.
    return ssl.create_default_context()


def client_context(context: ssl.SSLContext | None) -> ssl.SSLContext:
    """Return `context`, or the one that verifies with the system's trust store."""
    return _default_context() if context is None else context
