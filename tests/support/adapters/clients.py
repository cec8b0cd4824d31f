"""Clients of every world behind the same blocking calls, so that one test runs on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio.from_thread

from soniox_adapters import AsyncSonioxClient, RealtimeEvent, SonioxClient
from tests.support.core.messages import API_KEY, CONFIG

__all__ = ["WORLDS", "AnyClient", "AnySession", "open_client"]

WORLDS = ("blocking", "asyncio", "trio")


class AnySession:
    """A session of any world."""

    def __init__(self, client: AnyClient, session: Any) -> None:
        self._client = client
        self.session = session

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the session, and wait for it."""
        return self._client.run(getattr(self.session, method), *arguments, **options)

    def __enter__(self) -> AnySession:
        self.call("enter")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.call("abort")

    def send(self, chunk: bytes) -> None:
        self.call("send_byte_chunk", chunk)

    def receive(self) -> RealtimeEvent | None:
        event: RealtimeEvent | None = self.call("receive_event")
        return event


class AnyClient:
    """A client of any world; without a portal it is a blocking one."""

    def __init__(
        self, url: str, portal: anyio.from_thread.BlockingPortal | None, **options: Any
    ) -> None:
        self._portal = portal
        options = {"api_key": API_KEY, **options}
        self.client: Any = (
            SonioxClient(websocket_base_url=url, **options)
            if portal is None
            else AsyncSonioxClient(websocket_base_url=url, **options)
        )

    def run(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Call a method, and wait for it if it is async."""
        if self._portal is None:
            return function(*arguments, **options)

        async def call() -> Any:
            return await function(*arguments, **options)

        return self._portal.call(call)

    def warm_up(self, **options: Any) -> None:
        options = {"proxy": None, **options}
        assert self.run(self.client.realtime.stt.warmup_connection_pool, **options) is None

    def connect(self, **options: Any) -> AnySession:
        options = {"config": CONFIG, "proxy": None, **options}
        return AnySession(self, self.client.realtime.stt.connect(**options))

    def close(self) -> None:
        self.run(self.client.close if self._portal is None else self.client.aclose)


@contextmanager
def open_client(world: str, url: str, **options: Any) -> Iterator[AnyClient]:
    """Make a client, which is closed at the end of the block."""
    if world == "blocking":
        client = AnyClient(url, None, **options)
        try:
            yield client
        finally:
            client.close()
        return
    with anyio.from_thread.start_blocking_portal(world) as portal:
        client = AnyClient(url, portal, **options)
        try:
            yield client
        finally:
            client.close()
