"""The clients: keys, URLs, regions, and sessions made from them."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest

from soniox_adapters import (
    DEFAULT_WEBSOCKET_URL,
    REGIONS,
    APIKey,
    AsyncRealtimeAPI,
    AsyncRealtimeSTTClient,
    AsyncRealtimeSTTSession,
    AsyncSonioxClient,
    RealtimeAPI,
    RealtimeSTTClient,
    RealtimeSTTSession,
    SonioxClient,
    SonioxError,
    SonioxHandshakeError,
    SonioxValidationError,
)
from tests.support.adapters.server import FakeServer, Peer, obliging
from tests.support.adapters.sessions import Kind, open_session
from tests.support.core import frames
from tests.support.core.messages import API_KEY, CONFIG

AnyClient: TypeAlias = "SonioxClient | AsyncSonioxClient"
ClientClass: TypeAlias = "type[SonioxClient] | type[AsyncSonioxClient]"

OTHER_KEY = "another-key-9876543210"

BOTH = pytest.mark.parametrize("client_class", [SonioxClient, AsyncSonioxClient])


def endpoint_of(session: RealtimeSTTSession | AsyncRealtimeSTTSession) -> tuple[str, int, bool]:
    session._machine.connect(0.0)
    (link,) = session._machine.links_to_open()
    endpoint = link.endpoint
    return endpoint.host, endpoint.port, endpoint.secure


def authorization_sent(client_key: str | None = None, key: str | None = None) -> list[str]:
    """Run a session and return its Authorization headers."""
    with FakeServer(obliging) as server:
        client = SonioxClient(api_key=client_key, websocket_base_url=server.url)
        with client.realtime.stt.connect(config=CONFIG, api_key=key) as session:
            session.send_bytes([b"audio"])
            assert [event.finished for event in session.receive_events()] == [True]
        request = server.peer().request
        assert request is not None
        return request.values("authorization")


# Namespaces


def test_namespaces() -> None:
    client = SonioxClient()
    assert isinstance(client.realtime, RealtimeAPI)
    assert isinstance(client.realtime.stt, RealtimeSTTClient)
    assert client.realtime is client.realtime
    assert client.realtime.stt is client.realtime.stt
    assert isinstance(RealtimeAPI(client).stt, RealtimeSTTClient)
    assert isinstance(
        RealtimeSTTClient(client).connect(config=CONFIG, api_key=API_KEY), RealtimeSTTSession
    )


def test_async_namespaces() -> None:
    client = AsyncSonioxClient()
    assert isinstance(client.realtime, AsyncRealtimeAPI)
    assert isinstance(client.realtime.stt, AsyncRealtimeSTTClient)
    assert client.realtime is client.realtime
    assert client.realtime.stt is client.realtime.stt
    assert isinstance(AsyncRealtimeAPI(client).stt, AsyncRealtimeSTTClient)
    assert isinstance(
        AsyncRealtimeSTTClient(client).connect(config=CONFIG, api_key=API_KEY),
        AsyncRealtimeSTTSession,
    )


@BOTH
def test_connect_does_not_connect(client_class: ClientClass) -> None:
    with FakeServer(obliging) as server:
        client = client_class(api_key=API_KEY, websocket_base_url=server.url)
        session = client.realtime.stt.connect(config=CONFIG)
        assert session.config is CONFIG
        assert endpoint_of(session) == ("127.0.0.1", server.port, False)
        assert server.connections == 0


# Keys


def test_key_is_sent_in_the_header() -> None:
    assert authorization_sent(API_KEY) == [f"Bearer {API_KEY}"]


def test_key_of_connect_wins() -> None:
    assert authorization_sent(API_KEY, OTHER_KEY) == [f"Bearer {OTHER_KEY}"]
    assert authorization_sent(None, OTHER_KEY) == [f"Bearer {OTHER_KEY}"]


def test_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONIOX_API_KEY", API_KEY)
    assert SonioxClient().api_key == API_KEY
    assert AsyncSonioxClient().api_key == API_KEY
    assert SonioxClient(api_key=OTHER_KEY).api_key == OTHER_KEY
    assert authorization_sent() == [f"Bearer {API_KEY}"]


@BOTH
def test_missing_key_is_told_when_it_is_needed(client_class: ClientClass) -> None:
    client = client_class()
    assert client.api_key is None
    with pytest.raises(SonioxValidationError, match="SONIOX_API_KEY"):
        client.realtime.stt.connect(config=CONFIG)
    assert client.realtime.stt.connect(config=CONFIG, api_key=API_KEY).config is CONFIG


@BOTH
@pytest.mark.parametrize(
    "key", ["new\nline", "nul\0", "space inside", "käse", "\ud800", "a\r\nb: c"]
)
def test_key_that_a_header_cannot_hold_is_refused(client_class: ClientClass, key: str) -> None:
    with pytest.raises(SonioxValidationError) as error:
        client_class(api_key=key)
    assert key not in str(error.value)
    with pytest.raises(SonioxValidationError):
        client_class().realtime.stt.connect(config=CONFIG, api_key=key)


# URLs


@BOTH
def test_default_url(client_class: ClientClass) -> None:
    client = client_class(api_key=API_KEY)
    assert client.websocket_base_url == DEFAULT_WEBSOCKET_URL == REGIONS["us"]
    session = client.realtime.stt.connect(config=CONFIG)
    assert endpoint_of(session) == ("stt-rt.soniox.com", 443, True)


@BOTH
@pytest.mark.parametrize("region", REGIONS)
def test_region(client_class: ClientClass, region: str) -> None:
    assert client_class(region=region).websocket_base_url == REGIONS[region]


@BOTH
def test_url_of_the_constructor(client_class: ClientClass) -> None:
    client = client_class(api_key=API_KEY, websocket_base_url="ws://[::1]:8765/any/path")
    session = client.realtime.stt.connect(config=CONFIG)
    assert endpoint_of(session) == ("::1", 8765, False)


@BOTH
def test_wrong_urls_and_regions_are_refused(client_class: ClientClass) -> None:
    regions: list[Any] = ["moon", [], 5]
    for region in regions:
        with pytest.raises(SonioxValidationError, match="unknown region"):
            client_class(region=region)
    with pytest.raises(SonioxValidationError, match="not both"):
        client_class(region="eu", websocket_base_url="ws://localhost")
    urls: list[Any] = ["https://localhost", "ws://", "ws://user:secret@localhost", "", 5]
    for url in urls:
        with pytest.raises(SonioxValidationError) as error:
            client_class(api_key=API_KEY, websocket_base_url=url)
        assert "secret" not in str(error.value)


# Options


@BOTH
@pytest.mark.parametrize(
    "options",
    [
        {"connect_timeout_sec": 0},
        {"close_timeout_sec": -1.0},
        {"keepalive_interval_sec": float("nan")},
        {"ping_interval_sec": "20"},
        {"ping_timeout_sec": True},
        {"finalize_timeout_sec": 0.0},
        {"max_message_size": 0},
        {"compression": "yes"},
        {"raise_on_error": None},
        {"authentication": "telepathy"},
        {"additional_headers": {"X-Line": "a\r\nb"}},
        {"additional_headers": [("Authorization", "Bearer other")]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_wrong_options_are_refused(client_class: ClientClass, options: dict[str, Any]) -> None:
    with pytest.raises(SonioxValidationError):
        client_class(api_key=API_KEY).realtime.stt.connect(config=CONFIG, **options)


def test_additional_headers(kind: Kind) -> None:
    headers = {"X-Request-Source": "test"}
    with (
        FakeServer(obliging) as server,
        open_session(kind, server.url, additional_headers=headers) as driver,
    ):
        driver.enter()
        request = server.peer().request
        assert request is not None
        assert request.values("x-request-source") == ["test"]


# Context managers


def test_client_is_a_context_manager() -> None:
    with SonioxClient(api_key=API_KEY) as client:
        assert client.api_key == API_KEY
    client.close()


@pytest.mark.anyio
async def test_async_client_is_a_context_manager() -> None:
    async with AsyncSonioxClient(api_key=API_KEY) as client:
        assert client.api_key == API_KEY
    await client.aclose()


# The key shows nowhere


def everything_behind(value: object, seen: set[int] | None = None) -> Iterator[object]:
    """Yield a value and all that its attributes and items lead to, keys excepted."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, (APIKey, type)):
        return
    seen.add(id(value))
    yield value
    children: list[object] = []
    if isinstance(value, dict):
        children += [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        children += value
    elif type(value).__module__.startswith("soniox"):
        slots = [slot for part in type(value).__mro__ for slot in getattr(part, "__slots__", ())]
        children += [getattr(value, slot, None) for slot in slots]
        children += getattr(value, "__dict__", {}).values()
    for child in children:
        yield from everything_behind(child, seen)


def check_hidden(value: object) -> None:
    for part in everything_behind(value):
        assert API_KEY not in repr(part)
        assert API_KEY.encode() not in (part if isinstance(part, (bytes, bytearray)) else b"")
    try:
        pickled = pickle.dumps(value)
    except (TypeError, AttributeError):
        return  # What cannot be pickled gives nothing away.
    assert API_KEY.encode() not in pickled


@BOTH
def test_key_is_hidden_in_clients(client_class: ClientClass) -> None:
    client = client_class(api_key=API_KEY)
    for value in (client, client.realtime, client.realtime.stt):
        check_hidden(value)
    check_hidden(client.realtime.stt.connect(config=CONFIG))


def echo_the_key(peer: Peer) -> None:
    request = peer.read_request()
    header = request.values("authorization")[0]
    peer.send(
        frames.refusal("401 Unauthorized", f"got {header}".encode(), [("X-Echo", header)]),
    )
    peer.read_to_the_end()


def test_key_is_hidden_in_a_session_and_its_logs(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with FakeServer(obliging) as server, open_session(kind, server.url) as driver:
        with driver.connected():
            check_hidden(driver.session)
            driver.call("send_bytes", [b"audio"])
            for event in driver.collect():
                check_hidden(event)
        check_hidden(driver.session)
    assert API_KEY not in caplog.text
    assert not any(API_KEY in repr(vars(record)) for record in caplog.records)


def test_key_is_hidden_in_errors(kind: Kind) -> None:
    with FakeServer(echo_the_key) as server, open_session(kind, server.url) as driver:
        with pytest.raises(SonioxHandshakeError) as refused:
            driver.enter()
        error: BaseException | None = refused.value
        while error is not None:
            assert API_KEY not in f"{error} {error!r} {vars(error)}"
            error = error.__cause__ or error.__context__
        assert API_KEY not in f"{driver.session!r} {vars(driver.session)}"
        with pytest.raises(SonioxError) as later:
            driver.send(b"late")
        assert API_KEY not in repr(later.value)


def test_key_is_hidden_from_asyncio_in_debug_mode(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def use(url: str) -> None:
        client = AsyncSonioxClient(api_key=API_KEY, websocket_base_url=url)
        async with client.realtime.stt.connect(config=CONFIG, proxy=None) as session:
            task = asyncio.create_task(session.receive_event())
            assert API_KEY not in repr(asyncio.all_tasks())
            await session.finish()
            await task

    with FakeServer(obliging) as server:
        asyncio.run(use(server.url), debug=True)
    assert caplog.records
    assert API_KEY not in caplog.text
