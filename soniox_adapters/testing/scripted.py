"""Sessions and clients that run against a scripted server, in memory and in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import cached_property
from types import TracebackType
from typing import Any, Final

from typing_extensions import Unpack, override

from soniox_adapters.async_.session import AsyncRealtimeSTTSession
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.client import (
    AsyncRealtimeAPI,
    AsyncRealtimeSTTClient,
    AsyncSonioxClient,
    RealtimeAPI,
    RealtimeSTTClient,
    SonioxClient,
)
from soniox_adapters.session.api_keys import APIKeySource
from soniox_adapters.session.options import SessionKeywords
from soniox_adapters.testing.virtual_threads import VirtualThreads
from soniox_proto import Endpoint, RealtimeSTTConfig, SonioxValidationError
from soniox_proto.testing import ScriptedServer

__all__ = ["ScriptedClient", "ScriptedSession", "scripted_client", "scripted_session"]

API_KEY: Final = "scripted"
"""The key of clients and sessions that are not given one."""

RAW_AUDIO: Final = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)
"""The configuration of sessions that are not given one."""


class ScriptedClient:
    """A client whose sessions run against a scripted server; made by `scripted_client`.

    `with` gives a `SonioxClient`, `async with` an `AsyncSonioxClient`, on asyncio or on trio. Until
    the block is left time is virtual, also for the code around the sessions.
    """

    def __init__(self, server: ScriptedServer, api_key: APIKeySource = API_KEY) -> None:
        if not isinstance(server, ScriptedServer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SonioxValidationError(f"server must be a ScriptedServer, not {server!r}")
        self._server = server
        self._api_key = api_key
        self._stack = ExitStack()

    def __enter__(self) -> SonioxClient:
        time = self._stack.enter_context(VirtualThreads().running())
        return _Client(self._server, time, self._api_key)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    async def __aenter__(self) -> AsyncSonioxClient:
        from soniox_adapters.testing.virtual_loop import virtual_time

        self._stack.enter_context(virtual_time())
        return _AsyncClient(self._server, self._api_key)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def scripted_client(server: ScriptedServer, *, api_key: APIKeySource = API_KEY) -> ScriptedClient:
    """Return a client whose sessions run against `server`, in memory and in virtual time.

    `with scripted_client(server) as client` gives a `SonioxClient`, `async with` an
    `AsyncSonioxClient`.

    Args:
        server: The script. Its first connection is that of the first session that is entered.
        api_key: The client's key, or a function that returns one.
    """
    return ScriptedClient(server, api_key)


class ScriptedSession:
    """A session that runs against a scripted server; made by `scripted_session`.

    `with` gives a `RealtimeSTTSession`, `async with` an `AsyncRealtimeSTTSession`, entered.
    """

    def __init__(
        self, client: ScriptedClient, config: RealtimeSTTConfig | Mapping[str, Any], options: Any
    ) -> None:
        self._client = client
        self._config = config
        self._options: SessionKeywords = options
        self._stack = ExitStack()
        self._async_stack = AsyncExitStack()

    def __enter__(self) -> RealtimeSTTSession:
        with ExitStack() as stack:
            client = stack.enter_context(self._client)
            session = client.realtime.stt.connect(config=self._config, **self._options)
            stack.enter_context(session)
            self._stack = stack.pop_all()
        return session

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(exc_type, exc_value, traceback)

    async def __aenter__(self) -> AsyncRealtimeSTTSession:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._client)
            session = client.realtime.stt.connect(config=self._config, **self._options)
            await stack.enter_async_context(session)
            self._async_stack = stack.pop_all()
        return session

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._async_stack.__aexit__(exc_type, exc_value, traceback)


def scripted_session(
    server: ScriptedServer,
    config: RealtimeSTTConfig | Mapping[str, Any] = RAW_AUDIO,
    **options: Unpack[SessionKeywords],
) -> ScriptedSession:
    """Return a session that runs against `server`, in memory and in virtual time.

    `with scripted_session(server) as session` gives a `RealtimeSTTSession`, `async with` an
    `AsyncRealtimeSTTSession`.

    Args:
        server: The script.
        config: Configuration of the stream; by default 16 kHz, 16-bit mono audio.
        options: The options of the session, as for `connect`.
    """
    return ScriptedSession(ScriptedClient(server), config, options)


# The clients: those of the package, but for where their sessions connect to


class _Client(SonioxClient):
    def __init__(self, server: ScriptedServer, time: VirtualThreads, api_key: APIKeySource) -> None:
        super().__init__(api_key)
        self._server = server
        self._time = time

    @cached_property
    @override
    def realtime(self) -> RealtimeAPI:
        api = RealtimeAPI(self)
        vars(api)["stt"] = _STTClient(self, self._server, self._time)
        return api


class _STTClient(RealtimeSTTClient):
    def __init__(self, client: SonioxClient, server: ScriptedServer, time: VirtualThreads) -> None:
        super().__init__(client)
        self._server = server
        self._time = time

    def _make_session(self, *arguments: Any, **options: Any) -> RealtimeSTTSession:
        from soniox_adapters.testing.blocking import InMemorySession

        return InMemorySession(self._server, self._time, *arguments, **options)

    @property
    def _session_class(self) -> Callable[..., RealtimeSTTSession]:  # type: ignore[override]
        return self._make_session


class _AsyncClient(AsyncSonioxClient):
    def __init__(self, server: ScriptedServer, api_key: APIKeySource) -> None:
        super().__init__(api_key)
        self._server = server

    @cached_property
    @override
    def realtime(self) -> AsyncRealtimeAPI:
        api = AsyncRealtimeAPI(self)
        vars(api)["stt"] = _AsyncSTTClient(self, self._server)
        return api


class _AsyncSTTClient(AsyncRealtimeSTTClient):
    def __init__(self, client: AsyncSonioxClient, server: ScriptedServer) -> None:
        super().__init__(client)
        self._server = server

    def _make_session(self, *arguments: Any, **options: Any) -> AsyncRealtimeSTTSession:
        return AsyncRealtimeSTTSession(*arguments, **{**options, "transport": self._open})

    @property
    def _session_class(self) -> Callable[..., AsyncRealtimeSTTSession]:  # type: ignore[override]
        return self._make_session

    async def _open(self, endpoint: Endpoint) -> Any:
        import anyio

        from soniox_adapters.testing.byte_stream import ScriptedByteStream

        return ScriptedByteStream(self._server.connect(anyio.current_time()))
