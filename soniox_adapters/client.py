"""The clients: where the key and the URL come from, and the way to a session."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from typing_extensions import Self

from soniox_adapters.async_.session import AsyncRealtimeSTTSession
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.session.base import ProxyOption, SessionBase
from soniox_proto import (
    API_KEY_ENVIRONMENT_VARIABLE,
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_KEEPALIVE_INTERVAL,
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PING_TIMEOUT,
    DEFAULT_WEBSOCKET_URL,
    APIKey,
    Authentication,
    Endpoint,
    HeadersInput,
    RealtimeSTTConfig,
    SonioxValidationError,
    websocket_url,
)

if TYPE_CHECKING:
    import ssl

__all__ = [
    "AsyncRealtimeAPI",
    "AsyncRealtimeSTTClient",
    "AsyncSonioxClient",
    "RealtimeAPI",
    "RealtimeSTTClient",
    "SonioxClient",
]

_Session = TypeVar("_Session", bound=SessionBase)


class _ClientBase:
    """What both clients have in common.

    Args:
        api_key: API key; by default that of the environment variable `SONIOX_API_KEY`. Without
            any, `connect` has to be given one.
        websocket_base_url: URL of the realtime service; by default that of the region.
        region: `us` (default), `eu`, `jp` or `in`; API keys are bound to a region's project.

    Raises:
        SonioxValidationError: The region is unknown, or both it and a URL are given.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        websocket_base_url: str | None = None,
        region: str | None = None,
    ) -> None:
        if region is not None and websocket_base_url is not None:
            raise SonioxValidationError("give either region or websocket_base_url, not both")
        key = api_key or os.environ.get(API_KEY_ENVIRONMENT_VARIABLE)
        # A session may choose a form of authentication that allows fewer characters than a header;
        # it checks the key again.
        self._api_key = APIKey.checked(key, Authentication.HEADER) if key else None
        if websocket_base_url is not None:
            Endpoint.parse(websocket_base_url)
            self._websocket_base_url = websocket_base_url
        else:
            self._websocket_base_url = (
                DEFAULT_WEBSOCKET_URL if region is None else websocket_url(region)
            )

    @property
    def api_key(self) -> str | None:
        """The API key of this client, if it has one."""
        return None if self._api_key is None else self._api_key.reveal()

    @property
    def websocket_base_url(self) -> str:
        """URL of the realtime service."""
        return self._websocket_base_url


class SonioxClient(_ClientBase):
    """Client for blocking realtime sessions: `client.realtime.stt.connect(config=...)`.

    See the keywords of the constructor in `help(SonioxClient.__init__)`. It holds no connection:
    entering it as a context manager and closing it are for the form.
    """

    @cached_property
    def realtime(self) -> RealtimeAPI:
        """Realtime API."""
        return RealtimeAPI(self)

    def close(self) -> None:
        """Do nothing: sessions are closed by themselves."""

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

    See the keywords of the constructor in `help(AsyncSonioxClient.__init__)`. It holds no
    connection: entering it as a context manager and closing it are for the form.
    """

    @cached_property
    def realtime(self) -> AsyncRealtimeAPI:
        """Realtime API."""
        return AsyncRealtimeAPI(self)

    async def aclose(self) -> None:
        """Do nothing: sessions are closed by themselves."""

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
    """Entrypoint for realtime sessions of a `SonioxClient`."""

    def __init__(self, client: SonioxClient) -> None:
        self._client = client

    @cached_property
    def stt(self) -> RealtimeSTTClient:
        """Speech-to-text."""
        return RealtimeSTTClient(self._client)


class AsyncRealtimeAPI:
    """Entrypoint for realtime sessions of an `AsyncSonioxClient`."""

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

    def connect(
        self,
        *,
        config: RealtimeSTTConfig | Mapping[str, Any],
        api_key: str | None = None,
        connect_timeout_sec: float | None = DEFAULT_CONNECT_TIMEOUT,
        close_timeout_sec: float | None = DEFAULT_CLOSE_TIMEOUT,
        keepalive_interval_sec: float | None = DEFAULT_KEEPALIVE_INTERVAL,
        ping_interval_sec: float | None = DEFAULT_PING_INTERVAL,
        ping_timeout_sec: float | None = DEFAULT_PING_TIMEOUT,
        finalize_timeout_sec: float | None = None,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        ssl_context: ssl.SSLContext | None = None,
        proxy: ProxyOption = True,
        additional_headers: HeadersInput | None = None,
        authentication: str = "header",
        compression: bool = False,
        raise_on_error: bool = True,
        transport: object = None,
    ) -> _Session:
        """Return a new session, which connects when it is entered.

        Args:
            config: Configuration of the stream, or a mapping of its fields.
            api_key: API key; by default the client's.
            connect_timeout_sec: Seconds for name resolution, TCP, TLS and upgrade together.
            close_timeout_sec: Seconds that closing waits for the server at most.
            keepalive_interval_sec: Seconds without audio after which a keepalive goes out.
            ping_interval_sec: Seconds between WebSocket pings.
            ping_timeout_sec: Seconds a pong may take.
            finalize_timeout_sec: Seconds that the answer to a finalize may take.
            max_message_size: Bytes of the largest message taken.
            ssl_context: TLS settings; by default the system's trust store.
            proxy: URL of a proxy; True for the environment's; None for none.
            additional_headers: Headers to add to the upgrade request.
            authentication: `header`, `subprotocol`, or the deprecated `message`.
            compression: Offer permessage-deflate.
            raise_on_error: Raise error messages after they were delivered.
            transport: An open byte stream, or a function that opens one, instead of TCP.

        A time of None is no limit, or switches the thing off.

        Raises:
            SonioxValidationError: No API key is available, or an argument cannot be used.
        """
        key = api_key or self._client.api_key
        if not key:
            raise SonioxValidationError(
                "an API key is required to start a realtime session: give api_key, or set the "
                f"environment variable {API_KEY_ENVIRONMENT_VARIABLE}"
            )
        session: _Session = self._session_class(
            self._client.websocket_base_url,
            config,
            key,
            connect_timeout_sec=connect_timeout_sec,
            close_timeout_sec=close_timeout_sec,
            keepalive_interval_sec=keepalive_interval_sec,
            ping_interval_sec=ping_interval_sec,
            ping_timeout_sec=ping_timeout_sec,
            finalize_timeout_sec=finalize_timeout_sec,
            max_message_size=max_message_size,
            ssl_context=ssl_context,
            proxy=proxy,
            additional_headers=additional_headers,
            authentication=authentication,
            compression=compression,
            raise_on_error=raise_on_error,
            transport=transport,
        )
        return session


class RealtimeSTTClient(_STTClientBase[RealtimeSTTSession]):
    """Factory for blocking speech-to-text sessions."""

    _session_class = RealtimeSTTSession

    def __init__(self, client: SonioxClient) -> None:
        super().__init__(client)


class AsyncRealtimeSTTClient(_STTClientBase[AsyncRealtimeSTTSession]):
    """Factory for async speech-to-text sessions."""

    _session_class = AsyncRealtimeSTTSession

    def __init__(self, client: AsyncSonioxClient) -> None:
        super().__init__(client)
