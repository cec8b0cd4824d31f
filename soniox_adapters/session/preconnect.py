"""What the pools of idle connections have in common, whatever moves their bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from soniox_adapters.connecting.websocket_client import WebSocketClient
from soniox_adapters.session.api_keys import APIKeySource, check_api_key_function
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

__all__ = ["IdleConnectionsBase", "PoolSettings"]


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


class IdleConnectionsBase(ABC):
    """Idle connections of one client: which sessions they are for, and what they are asked for.

    All are opened with the connection options of the session that came first, or of the warm-up.
    Sessions with others open connections of their own.

    Args:
        url: URL of the service.
        api_key: The client's key, or the function that is asked for one with each connection.
        settings: How many, and for how long.
    """

    _asynchronous: ClassVar[bool] = False
    """Whether a function for the key may be async."""

    def __init__(self, url: str, api_key: APIKeySource, settings: PoolSettings) -> None:
        self._endpoint = Endpoint.parse(url)
        self._key_function = check_api_key_function(api_key, asynchronous=self._asynchronous)
        self._api_key = None if callable(api_key) else APIKey(api_key)
        self._settings = settings
        self._options: SessionOptions | None = None
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
        if not _can_be_pooled(options):
            return False
        # Options that cannot be used are refused here, and must not become those of the pool.
        way = _way_to_connect(options)
        if self._options is None:
            # The rest is the session's own, and its functions must not be kept alive for others.
            self._options = replace(options, reconnect=None, on_measurement=None)
        return way == _way_to_connect(self._options)

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

    def _request(self, asked_key: str | None) -> UpgradeRequest:
        """Return what to put into the upgrade request of one more connection.

        Args:
            asked_key: What the function for the key has returned, if there is one.
        """
        from soniox_proto import UpgradeRequest

        assert self._options is not None, "options are known before connections are wanted"
        form = Authentication(self._options.authentication)
        key = self._api_key if self._key_function is None else asked_key
        headers = check_headers(self._options.additional_headers, form)
        return UpgradeRequest(APIKey.checked(cast("APIKey | str", key), form), form, headers)

    def _connect_error(self, error: BaseException) -> SonioxRealtimeError:
        """Return the error for a connection that could not be opened."""
        if isinstance(error, SonioxRealtimeError):
            return error
        if isinstance(error, OSError):
            from soniox_adapters.connecting.failures import session_error
            from soniox_adapters.connecting.proxy import find_proxy

            options = self._options
            own = options is not None and options.transport is None
            proxy = find_proxy(options.proxy, self._endpoint) if options and own else None
            return session_error(error, self._endpoint, proxy)
        failure = SonioxConnectionError(f"cannot connect: {error}")
        failure.retryable = not isinstance(error, SonioxError)
        failure.__cause__ = error
        return failure


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
