"""The clients: they hold the API key and the URL, and make sessions."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from typing_extensions import Self, Unpack, override

from soniox_adapters.async_.session import AsyncRealtimeSTTSession
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.session.api_keys import APIKeyFunction, APIKeySource
from soniox_adapters.session.base import SessionBase
from soniox_adapters.session.options import (
    SessionKeywords,
    SessionOptions,
    check_keywords,
    takes_options,
)
from soniox_adapters.session.preconnect import (
    ConnectArguments,
    IdleConnectionsBase,
    PoolSettings,
)
from soniox_proto import (
    API_KEY_ENVIRONMENT_VARIABLE,
    DEFAULT_IDLE_MAX_LIFETIME,
    DEFAULT_IDLE_REFRESH_BEFORE,
    DEFAULT_WEBSOCKET_URL,
    APIKey,
    Authentication,
    Endpoint,
    RealtimeSTTConfig,
    SonioxValidationError,
    websocket_url,
)

if TYPE_CHECKING:
    from soniox_adapters.async_.idle_connections import AsyncIdleConnections
    from soniox_adapters.blocking.idle_connections import IdleConnections

__all__ = [
    "AsyncRealtimeAPI",
    "AsyncRealtimeSTTClient",
    "AsyncSonioxClient",
    "RealtimeAPI",
    "RealtimeSTTClient",
    "SonioxClient",
]

_Session = TypeVar("_Session", bound=SessionBase)


class _ClientBase(ABC):
    """The base of both clients.

    Args:
        api_key: API key; by default the environment variable `SONIOX_API_KEY`. Without either,
            each `connect` needs one. Or a function that returns one, asked for each connection; in
            an async client it may be async.
        websocket_base_url: URL of the realtime service; by default that of the region.
        region: `us` (default), `eu`, `jp` or `in`. An API key works only in the region of its
            project.
        stt_connection_pool_size: How many connections to keep open for sessions to come; 0 for
            none. See `warmup_connection_pool` of the speech-to-text client.
        stt_idle_max_lifetime_sec: Seconds after which such a connection is not used any more.
        stt_idle_refresh_before_sec: Seconds before that at which it is replaced.

    Raises:
        SonioxValidationError: The region is unknown, the URL, the key or a number is invalid, or
            both a region and a URL are given.
    """

    def __init__(
        self,
        api_key: APIKeySource | None = None,
        *,
        websocket_base_url: str | None = None,
        region: str | None = None,
        stt_connection_pool_size: int = 0,
        stt_idle_max_lifetime_sec: float = DEFAULT_IDLE_MAX_LIFETIME,
        stt_idle_refresh_before_sec: float = DEFAULT_IDLE_REFRESH_BEFORE,
    ) -> None:
        settings = PoolSettings(
            size=stt_connection_pool_size,
            max_lifetime=stt_idle_max_lifetime_sec,
            refresh_before=stt_idle_refresh_before_sec,
        )
        if region is not None and websocket_base_url is not None:
            raise SonioxValidationError("give either region or websocket_base_url, not both")
        key = api_key or os.environ.get(API_KEY_ENVIRONMENT_VARIABLE)
        # Checked here too, so that a bad key is reported where it was given. The session checks it
        # again, because its form of authentication may allow fewer characters than a header does.
        self._api_key: APIKey | APIKeyFunction | None = None
        if key:
            self._api_key = key if callable(key) else APIKey.checked(key, Authentication.HEADER)
        if websocket_base_url is not None:
            Endpoint.parse(websocket_base_url)
            self._websocket_base_url = websocket_base_url
        else:
            self._websocket_base_url = (
                DEFAULT_WEBSOCKET_URL if region is None else websocket_url(region)
            )
        self._idle_connections: IdleConnectionsBase | None = None
        if settings.size and self._api_key is not None:
            self._connect_arguments = ConnectArguments(self._api_key)
            idle = self._make_idle_connections(
                self._websocket_base_url, self._connect_arguments, settings
            )
            # Its method does not keep the client alive, and the client need not be closed.
            weakref.finalize(self, idle.abandon).atexit = False
            self._idle_connections = idle

    @abstractmethod
    def _make_idle_connections(
        self, url: str, arguments: ConnectArguments, settings: PoolSettings
    ) -> IdleConnectionsBase:
        """Return what keeps connections open for sessions to come."""

    @property
    def idle_connections(self) -> IdleConnectionsBase | None:
        """What keeps connections open for sessions to come, if there are to be any."""
        return self._idle_connections

    @property
    def api_key(self) -> str | None:
        """The API key of this client, if it has one; None also if a function is asked for it."""
        return self._api_key.reveal() if isinstance(self._api_key, APIKey) else None

    @property
    def api_key_source(self) -> APIKeySource | None:
        """The API key of this client, or the function that is asked for it."""
        return self._api_key.reveal() if isinstance(self._api_key, APIKey) else self._api_key

    @property
    def websocket_base_url(self) -> str:
        """URL of the realtime service."""
        return self._websocket_base_url


class SonioxClient(_ClientBase):
    """Client for blocking realtime sessions: `client.realtime.stt.connect(config=...)`.

    `help(SonioxClient.__init__)` lists the arguments of the constructor. Leaving the context
    manager, or `close()`, closes the connections that wait for sessions, if there are to be any
    (`stt_connection_pool_size`). Sessions are closed on their own.
    """

    @cached_property
    def realtime(self) -> RealtimeAPI:
        """Realtime API."""
        return RealtimeAPI(self)

    @override
    def _make_idle_connections(
        self, url: str, arguments: ConnectArguments, settings: PoolSettings
    ) -> IdleConnections:
        # Imported here because few clients have any.
        from soniox_adapters.blocking.idle_connections import IdleConnections

        return IdleConnections(url, arguments, settings)

    def close(self) -> None:
        """Close the connections that wait for sessions. Safe to repeat."""
        if self._idle_connections is not None:
            cast("IdleConnections", self._idle_connections).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncSonioxClient(_ClientBase):
    """Client for async realtime sessions, on asyncio and on trio.

    `help(AsyncSonioxClient.__init__)` lists the arguments of the constructor. Leaving the context
    manager, or `aclose()`, closes the connections that wait for sessions, if there are to be any
    (`stt_connection_pool_size`). They belong to the event loop in which the client first needed
    them, and are also closed when that ends. Sessions are closed on their own.
    """

    @cached_property
    def realtime(self) -> AsyncRealtimeAPI:
        """Realtime API."""
        return AsyncRealtimeAPI(self)

    @override
    def _make_idle_connections(
        self, url: str, arguments: ConnectArguments, settings: PoolSettings
    ) -> AsyncIdleConnections:
        # Imported here because few clients have any.
        from soniox_adapters.async_.idle_connections import AsyncIdleConnections

        return AsyncIdleConnections(url, arguments, settings)

    async def aclose(self) -> None:
        """Close the connections that wait for sessions. Safe to repeat."""
        if self._idle_connections is not None:
            await cast("AsyncIdleConnections", self._idle_connections).aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class RealtimeAPI:
    """The realtime API of a `SonioxClient`."""

    def __init__(self, client: SonioxClient) -> None:
        self._client = client

    @cached_property
    def stt(self) -> RealtimeSTTClient:
        """Speech-to-text."""
        return RealtimeSTTClient(self._client)


class AsyncRealtimeAPI:
    """The realtime API of an `AsyncSonioxClient`."""

    def __init__(self, client: AsyncSonioxClient) -> None:
        self._client = client

    @cached_property
    def stt(self) -> AsyncRealtimeSTTClient:
        """Speech-to-text."""
        return AsyncRealtimeSTTClient(self._client)


class _STTClientBase(Generic[_Session]):
    _session_class: ClassVar[type[Any]]

    def __init__(self, client: _ClientBase) -> None:
        self._client = client

    @takes_options
    def connect(
        self,
        *,
        config: RealtimeSTTConfig | Mapping[str, Any],
        api_key: APIKeySource | None = None,
        **options: Unpack[SessionKeywords],
    ) -> _Session:
        """Return a new session, which connects when it is entered.

        Args:
            config: Configuration of the stream, or a mapping of its fields.
            api_key: API key, or a function that returns one; by default the client's.
            options: See `SessionOptions`, which lists and explains them.

        Raises:
            SonioxValidationError: There is no API key, or an argument is invalid.
        """
        check_keywords("connect", options)
        source = self._client.api_key_source
        key = api_key or source
        if not key:
            raise SonioxValidationError(
                "an API key is required to start a realtime session: give api_key, or set the "
                f"environment variable {API_KEY_ENVIRONMENT_VARIABLE}"
            )
        session: _Session = self._session_class(
            self._client.websocket_base_url, config, key, **options
        )
        idle_connections = self._client.idle_connections
        # They are authenticated with the client's key.
        if idle_connections is not None and key == source:
            session.start_warm(idle_connections)
        return session

    def _warm_up_options(self, options: SessionKeywords, *, asynchronous: bool) -> SessionOptions:
        """Return the checked options of a warm-up."""
        check_keywords("warmup_connection_pool", options)
        checked = SessionOptions(**options)
        checked.check_transport(asynchronous=asynchronous)
        return checked


class RealtimeSTTClient(_STTClientBase[RealtimeSTTSession]):
    """Makes blocking speech-to-text sessions."""

    _session_class = RealtimeSTTSession

    def __init__(self, client: SonioxClient) -> None:
        super().__init__(client)

    def warmup_connection_pool(self, **options: Unpack[SessionKeywords]) -> None:
        """Open connections for sessions to come, and wait until that is done.

        A client with `stt_connection_pool_size` keeps as many connections open, upgraded and
        waiting. A session that is entered takes one of them, so that its audio leaves at once, and
        another is opened in its place. Without this call the pool begins to fill with the first
        session. Does nothing if the size is 0.

        Args:
            options: Those of `connect` that say how to connect: `ssl_context`, `proxy`,
                `additional_headers`, `authentication` and `transport`. Sessions with others open
                connections of their own. Also `connect_timeout_sec`.

        Raises:
            SonioxValidationError: An option is invalid, or cannot be used for this.
            SonioxStateError: The client is closed.
            SonioxRealtimeError: No connection could be opened; what entering a session raises. The
                pool tries again in the background.
        """
        checked = self._warm_up_options(options, asynchronous=False)
        idle_connections = self._client.idle_connections
        if idle_connections is not None:
            cast("IdleConnections", idle_connections).warm_up(checked)


class AsyncRealtimeSTTClient(_STTClientBase[AsyncRealtimeSTTSession]):
    """Makes async speech-to-text sessions."""

    _session_class = AsyncRealtimeSTTSession

    def __init__(self, client: AsyncSonioxClient) -> None:
        super().__init__(client)

    async def warmup_connection_pool(self, **options: Unpack[SessionKeywords]) -> None:
        """Open connections for sessions to come, and wait until that is done.

        A client with `stt_connection_pool_size` keeps as many connections open, upgraded and
        waiting. A session that is entered takes one of them, so that its audio leaves at once, and
        another is opened in its place. Without this call the pool begins to fill with the first
        session. Does nothing if the size is 0.

        Args:
            options: Those of `connect` that say how to connect: `ssl_context`, `proxy`,
                `additional_headers`, `authentication` and `transport`. Sessions with others open
                connections of their own. Also `connect_timeout_sec`.

        Raises:
            SonioxValidationError: An option is invalid, or cannot be used for this.
            SonioxStateError: The client is closed.
            SonioxRealtimeError: No connection could be opened; what entering a session raises. The
                pool tries again in the background.
        """
        checked = self._warm_up_options(options, asynchronous=True)
        idle_connections = self._client.idle_connections
        if idle_connections is not None:
            await cast("AsyncIdleConnections", idle_connections).warm_up(checked)
