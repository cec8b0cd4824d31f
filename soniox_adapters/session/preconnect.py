"""What the pools of idle connections have in common, whatever moves their bytes."""

from __future__ import annotations

import contextvars
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from soniox_adapters.connecting.websocket_client import WebSocketClient
from soniox_adapters.session.api_keys import APIKeyFunction, check_api_key_function
from soniox_adapters.session.options import SessionOptions
from soniox_proto import (
    APIKey,
    Authentication,
    Endpoint,
    SonioxConnectionError,
    SonioxError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxValidationError,
)
from soniox_proto.credentials import check_authentication, check_headers
from soniox_proto.options import check_pool_options

if TYPE_CHECKING:
    from soniox_proto import UpgradeRequest
    from soniox_proto.preconnect.pool import ConnectionPool

__all__ = ["ConnectArguments", "IdleConnectionsBase", "PoolSettings", "upgrade_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The options of a client that concern idle connections; the client explains them.

    Raises `SonioxValidationError` for numbers that make no sense.
    """

    size: int
    max_lifetime: float
    refresh_before: float

    def __post_init__(self) -> None:
        check_pool_options(self.size, self.max_lifetime, self.refresh_before)


class ConnectArguments:
    """What the user gave a client for its idle connections; the client owns it.

    The functions in it often lead back to the client: they may be methods of the object that has
    it. What lives without the client (the ticker's visits, the tasks of an event loop, the
    finalizer) would then keep it alive for ever, so the idle connections refer to this weakly.

    Args:
        api_key: The client's key, or the function that is asked for one with each connection.
    """

    __slots__ = ("__weakref__", "api_key", "context", "options")

    def __init__(self, api_key: APIKey | APIKeyFunction) -> None:
        self.api_key = api_key
        self.options: SessionOptions | None = None
        """Those of the session that came first, or of the warm-up; None before."""
        self.context = contextvars.Context()
        """The context variables that it found."""


class IdleConnectionsBase(ABC):
    """Idle connections of one client: which sessions they are for, and what they are asked for.

    All are opened with the connection options of the session that came first, or of the warm-up.
    Sessions with others open connections of their own.

    Args:
        url: URL of the service.
        arguments: What the user gave. Without it no more connections are opened.
        settings: How many, and for how long.
    """

    _asynchronous: ClassVar[bool] = False
    """Whether a function for the key may be async."""

    def __init__(self, url: str, arguments: ConnectArguments, settings: PoolSettings) -> None:
        self._endpoint = Endpoint.parse(url)
        check_api_key_function(arguments.api_key, asynchronous=self._asynchronous)
        self._arguments = weakref.ref(arguments)
        self._settings = settings
        self._closed = False

    @abstractmethod
    def abandon(self) -> None:
        """Close all connections soon: the client is gone. Called by the garbage collector."""

    def __reduce__(self) -> Any:
        raise TypeError("idle connections can be neither pickled nor copied")

    def _make_pool(self) -> ConnectionPool:
        # Imported here because it imports wsproto, and few clients have a pool.
        from soniox_proto.preconnect.pool import ConnectionPool

        settings = self._settings
        return ConnectionPool(
            self._endpoint,
            size=settings.size,
            max_lifetime=settings.max_lifetime,
            refresh_before=settings.refresh_before,
        )

    def may_serve(self, options: SessionOptions) -> bool:
        """Return whether connections for a session with these options can be opened beforehand."""
        return _can_be_pooled(options)

    def _serves(self, options: SessionOptions) -> bool:
        """Return whether a session with these options can start on a connection of the pool."""
        arguments = self._arguments()
        if arguments is None or not _can_be_pooled(options):
            return False
        # Options that cannot be used are refused here, and must not become those of the pool.
        way = _way_to_connect(options)
        if arguments.options is None:
            # The rest is the session's own, and its functions must not be kept alive for others.
            arguments.options = replace(options, reconnect=None, on_measurement=None)
            arguments.context = contextvars.copy_context()
        return way == _way_to_connect(arguments.options)

    def _require(self, options: SessionOptions) -> None:
        """Raise unless a warm-up with these options is possible."""
        if self._closed:
            raise SonioxStateError("the client is closed; make a new one")
        if not _can_be_pooled(options):
            raise SonioxValidationError(
                "connections with compression, over a byte stream that is open already, or made by "
                "websocket-client cannot be opened before a session needs them"
            )
        if not self._serves(options):
            raise SonioxValidationError(
                "this client opens its idle connections with other options (ssl_context, proxy, "
                "additional_headers, authentication or transport); use another client for these"
            )

    def _to_connect_with(self) -> tuple[ConnectArguments, SessionOptions] | None:
        """Return what to open connections with; None without a client, or before any session."""
        arguments = self._arguments()
        if arguments is None or arguments.options is None:
            return None
        return arguments, arguments.options

    def _connect_error(self, error: BaseException, options: SessionOptions) -> SonioxRealtimeError:
        """Return the error for a connection that could not be opened."""
        if isinstance(error, SonioxRealtimeError):
            return error
        if isinstance(error, OSError):
            from soniox_adapters.connecting.failures import session_error
            from soniox_adapters.connecting.proxy import find_proxy

            own = options.transport is None
            proxy = find_proxy(options.proxy, self._endpoint) if own else None
            return session_error(error, self._endpoint, proxy)
        failure = SonioxConnectionError(f"cannot connect: {error}")
        failure.retryable = not isinstance(error, SonioxError)
        failure.__cause__ = error
        return failure


def upgrade_request(api_key: str | APIKey, options: SessionOptions) -> UpgradeRequest:
    """Return what to put into the upgrade request of one more connection.

    Raises `SonioxValidationError` if the key, which a function may have returned, cannot be sent.
    """
    from soniox_proto import UpgradeRequest

    form = Authentication(options.authentication)
    headers = check_headers(options.additional_headers, form)
    return UpgradeRequest(APIKey.checked(api_key, form), form, headers)


def _can_be_pooled(options: SessionOptions) -> bool:
    transport = options.transport
    opens_streams = transport is None or (
        callable(transport) and not isinstance(transport, WebSocketClient)
    )
    return opens_streams and not options.compression


def _way_to_connect(options: SessionOptions) -> tuple[object, ...]:
    """Return what has to be the same for a connection to serve one session or another."""
    form = check_authentication(options.authentication)
    headers = check_headers(options.additional_headers, form)
    return (options.ssl_context, options.proxy, headers, form, options.transport)
