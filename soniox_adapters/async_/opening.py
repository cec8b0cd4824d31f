"""Opening the transport of an async session, or of a connection that waits for one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from soniox_adapters.async_.event_loop import running_library
from soniox_adapters.async_.transport import AsyncTransport, ConnectOptions, TransportCallbacks
from soniox_adapters.session.options import SessionOptions
from soniox_proto import Endpoint, SonioxValidationError

__all__ = ["given_stream", "open_transport"]


async def given_stream(transport: object, endpoint: Endpoint) -> object:
    """Return the stream that the option `transport` stands for; None to connect by TCP."""
    if not callable(transport):
        return transport
    from soniox_adapters.connecting.failures import connector_errors

    with connector_errors():
        awaitable = cast("Callable[[Endpoint], object]", transport)(endpoint)
        if isinstance(awaitable, Awaitable):
            stream = cast("object", await awaitable)
            if stream is None:
                raise SonioxValidationError("the function given as transport returned None")
            return stream
    _close_socket(awaitable)
    raise SonioxValidationError(
        "a function given as transport must be an async one; it returned "
        f"{type(awaitable).__name__}"
    )


async def open_transport(
    callbacks: TransportCallbacks,
    endpoint: Endpoint,
    options: SessionOptions,
    given: object,
    timeout: float | None,
) -> AsyncTransport:
    """Return an open transport, over the stream that is given if one is.

    Args:
        callbacks: What the transport calls.
        endpoint: Where to connect to.
        options: The options of the session.
        given: What `given_stream` returned. It is closed if this fails.
        timeout: Seconds; None for no limit.
    """
    transport = _make_transport(callbacks, given)
    try:
        await transport.open(
            ConnectOptions(endpoint, timeout, options.ssl_context, options.proxy, given)
        )
    except BaseException:
        _close_socket(given)
        raise
    return transport


def _make_transport(callbacks: TransportCallbacks, given: object) -> AsyncTransport:
    # Imported here because a program normally needs only one of the two.
    if running_library() == "asyncio" and (given is None or _is_socket(given)):
        from soniox_adapters.async_.on_asyncio import AsyncioTransport

        return AsyncioTransport(callbacks)
    from soniox_adapters.async_.on_streams import StreamTransport

    return StreamTransport(callbacks)


def _close_socket(given: object) -> None:
    """Close a socket that was given but is not used; transports close given streams themselves."""
    import socket

    if isinstance(given, socket.socket):
        given.close()


def _is_socket(given: object) -> bool:
    """Return whether `given` is a socket."""
    import socket

    return isinstance(given, socket.socket)
