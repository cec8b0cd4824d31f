"""The clients: they hold the API key and the URL, and make sessions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

from typing_extensions import Self, Unpack

from soniox_adapters.async_.session import AsyncRealtimeSTTSession
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.session.api_keys import APIKeyFunction, APIKeySource
from soniox_adapters.session.base import SessionBase
from soniox_adapters.session.options import SessionKeywords, check_keywords, takes_options
from soniox_proto import (
    API_KEY_ENVIRONMENT_VARIABLE,
    DEFAULT_WEBSOCKET_URL,
    APIKey,
    Authentication,
    Endpoint,
    RealtimeSTTConfig,
    SonioxValidationError,
    websocket_url,
)

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
    """The base of both clients.

    Args:
        api_key: API key; by default the environment variable `SONIOX_API_KEY`. Without either,
            each `connect` needs one. Or a function that returns one, asked for each connection; in
            an async client it may be async.
        websocket_base_url: URL of the realtime service; by default that of the region.
        region: `us` (default), `eu`, `jp` or `in`. An API key works only in the region of its
            project.

    Raises:
        SonioxValidationError: The region is unknown, the URL or the key is invalid, or both a
            region and a URL are given.
    """

    def __init__(
        self,
        api_key: APIKeySource | None = None,
        *,
        websocket_base_url: str | None = None,
        region: str | None = None,
    ) -> None:
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

    `help(SonioxClient.__init__)` lists the arguments of the constructor. A client holds no
    connection: the context manager and `close()` exist for compatibility and do nothing.
    """

    @cached_property
    def realtime(self) -> RealtimeAPI:
        """Realtime API."""
        return RealtimeAPI(self)

    def close(self) -> None:
        """Do nothing: each session is closed on its own."""

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

    `help(AsyncSonioxClient.__init__)` lists the arguments of the constructor. A client holds no
    connection: the context manager and `aclose()` exist for compatibility and do nothing.
    """

    @cached_property
    def realtime(self) -> AsyncRealtimeAPI:
        """Realtime API."""
        return AsyncRealtimeAPI(self)

    async def aclose(self) -> None:
        """Do nothing: each session is closed on its own."""

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
        key = api_key or self._client.api_key_source
        if not key:
            raise SonioxValidationError(
                "an API key is required to start a realtime session: give api_key, or set the "
                f"environment variable {API_KEY_ENVIRONMENT_VARIABLE}"
            )
        session: _Session = self._session_class(
            self._client.websocket_base_url, config, key, **options
        )
        return session


class RealtimeSTTClient(_STTClientBase[RealtimeSTTSession]):
    """Makes blocking speech-to-text sessions."""

    _session_class = RealtimeSTTSession

    def __init__(self, client: SonioxClient) -> None:
        super().__init__(client)


class AsyncRealtimeSTTClient(_STTClientBase[AsyncRealtimeSTTSession]):
    """Makes async speech-to-text sessions."""

    _session_class = AsyncRealtimeSTTSession

    def __init__(self, client: AsyncSonioxClient) -> None:
        super().__init__(client)
