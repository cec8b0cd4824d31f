"""Checks of the options that say how to connect, made before anything is opened."""

from __future__ import annotations

import sys
from inspect import iscoroutinefunction

from soniox_adapters.connecting.proxy import PARAMETER, parse_proxy
from soniox_proto import SonioxValidationError

__all__ = ["check_connect_options"]


def check_connect_options(
    ssl_context: object, proxy: object, transport: object, *, asynchronous: bool
) -> None:
    """Raise `SonioxValidationError` for an option of a kind that no session can use.

    Loads no module: what has not been loaded yet cannot have made the value either.
    """
    if ssl_context is not None and not _is_instance(ssl_context, "ssl", "SSLContext"):
        raise SonioxValidationError(
            "ssl_context must be an ssl.SSLContext, or None for the system's trust store, not "
            f"{_kind(ssl_context)}; a ws:// URL connects without TLS"
        )
    if ssl_context is not None and _is_for_servers(ssl_context):
        raise SonioxValidationError(
            "ssl_context is made for servers (PROTOCOL_TLS_SERVER); make one for clients, for "
            "example with ssl.create_default_context()"
        )
    if isinstance(proxy, str):
        if proxy:
            parse_proxy(proxy, PARAMETER)
    elif proxy is not None and not isinstance(proxy, bool):
        raise SonioxValidationError(
            "proxy must be the URL of a proxy, True for the one that the environment names, or "
            f"None or False for none, not {_kind(proxy)}"
        )
    if transport is None or _is_instance(transport, "socket", "socket"):
        return
    if asynchronous:
        if not (callable(transport) or _is_stream(transport)):
            raise SonioxValidationError(
                "transport must be a connected socket, a byte stream of anyio or trio, or an async "
                f"function that returns one, not {_kind(transport)}"
            )
    elif not callable(transport) or iscoroutinefunction(transport):
        raise SonioxValidationError(
            "transport must be a connected socket, or a function that returns one (not an async "
            f"function), not {_kind(transport)}"
        )


def _is_stream(value: object) -> bool:
    return _is_instance(value, "anyio.abc", "ByteStream") or _is_instance(
        value, "trio.abc", "Stream"
    )


def _is_instance(value: object, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _is_for_servers(context: object) -> bool:
    import ssl

    return isinstance(context, ssl.SSLContext) and (context.protocol is ssl.PROTOCOL_TLS_SERVER)


def _kind(value: object) -> str:
    # Its type alone: a value may hold a password.
    return "an async function" if iscoroutinefunction(value) else type(value).__name__
