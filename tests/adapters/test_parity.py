"""The two sessions, their factories and the official package agree on names and signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import soniox.client
import soniox.realtime.async_stt
import soniox.realtime.stt
import soniox.utils

import soniox_adapters
from soniox_adapters import (
    AsyncRealtimeAPI,
    AsyncRealtimeSTTClient,
    AsyncRealtimeSTTSession,
    AsyncSonioxClient,
    RealtimeAPI,
    RealtimeSTTClient,
    RealtimeSTTSession,
    SonioxClient,
)

EMPTY: Final = inspect.Parameter.empty

BLOCKING_ONLY: Final = {"fileno", "tick"}
"""A descriptor for a selector, and what the ticker calls."""

ASYNC_ONLY: Final = {"aenter"}
"""Another alias for entering."""

TIMEOUT: Final = {"receive_event", "recv_bytes"}
"""Methods with a `timeout` in the blocking session; async code has cancel scopes."""


def public_names(owner: type) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    }


def without_async(annotation: object) -> object:
    """Return an annotation as the blocking session would have it."""
    if not isinstance(annotation, str):
        return annotation
    return (
        annotation.replace("AsyncIterable[AudioChunk] | ", "")
        # It can be closed, as the generators of other libraries can.
        .replace("AsyncGenerator[RealtimeEvent, None]", "Iterator[RealtimeEvent]")
        .replace("AsyncIterator[", "Iterator[")
        .replace("Awaitable[None]", "None")
    )


COMMON: Final = sorted(
    name
    for name in public_names(RealtimeSTTSession) & public_names(AsyncRealtimeSTTSession)
    if not isinstance(inspect.getattr_static(RealtimeSTTSession, name), property)
)


# Blocking and async


def test_sessions_have_the_same_names() -> None:
    blocking, asynchronous = (
        public_names(RealtimeSTTSession),
        public_names(AsyncRealtimeSTTSession),
    )
    assert blocking - asynchronous == BLOCKING_ONLY
    assert asynchronous - blocking == ASYNC_ONLY


@pytest.mark.parametrize("name", COMMON)
def test_methods_have_the_same_signature(name: str) -> None:
    blocking = getattr(RealtimeSTTSession, name)
    asynchronous = getattr(AsyncRealtimeSTTSession, name)
    expected = parameters(blocking)
    if name in TIMEOUT:
        assert expected.pop("timeout").default is None
    assert list(expected) == list(parameters(asynchronous))
    for ours, theirs in zip(expected.values(), parameters(asynchronous).values(), strict=True):
        assert (ours.kind, ours.default) == (theirs.kind, theirs.default)
        assert ours.annotation is not EMPTY
        assert ours.annotation == without_async(theirs.annotation)
    returned = inspect.signature(asynchronous).return_annotation
    assert inspect.signature(blocking).return_annotation == without_async(returned)


@pytest.mark.parametrize("name", COMMON)
def test_async_methods_are_coroutines(name: str) -> None:
    # Two give iterators, and the others only look at what is there.
    waits = name not in {
        "receive_events",
        "utterances",
        "parse_event",
        "sent_position_ms",
        "captured_at",
        "start_warm",
    }
    assert inspect.iscoroutinefunction(getattr(AsyncRealtimeSTTSession, name)) is waits
    assert not inspect.iscoroutinefunction(getattr(RealtimeSTTSession, name))


def test_properties_are_shared() -> None:
    for name in ("config", "paused", "last_message", "state", "outcome", "stats"):
        blocking = inspect.getattr_static(RealtimeSTTSession, name)
        assert isinstance(blocking, property)
        assert inspect.getattr_static(AsyncRealtimeSTTSession, name) is blocking


def test_constructors_are_shared() -> None:
    assert parameters(RealtimeSTTSession.__init__) == parameters(AsyncRealtimeSTTSession.__init__)
    assert parameters(SonioxClient.__init__) == parameters(AsyncSonioxClient.__init__)
    assert list(parameters(RealtimeAPI.__init__)) == ["client"]
    assert list(parameters(AsyncRealtimeAPI.__init__)) == ["client"]
    assert list(parameters(RealtimeSTTClient.__init__)) == ["client"]
    assert list(parameters(AsyncRealtimeSTTClient.__init__)) == ["client"]


def test_aliases_of_entering() -> None:
    blocking, asynchronous = vars(RealtimeSTTSession), vars(AsyncRealtimeSTTSession)
    assert blocking["enter"] is blocking["__enter__"]
    assert asynchronous["enter"] is asynchronous["__aenter__"]
    assert asynchronous["aenter"] is asynchronous["__aenter__"]


# Factories


@pytest.mark.parametrize("factory", [RealtimeSTTClient, AsyncRealtimeSTTClient])
def test_connect_takes_what_the_session_takes(factory: type[Any]) -> None:
    session = parameters(RealtimeSTTSession.__init__)
    connect = parameters(factory.connect)
    assert list(session)[:3] == ["url", "config", "api_key"]
    assert set(connect) == set(session) - {"url"}
    for name, parameter in connect.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == session[name].default, name
        assert parameter.annotation == session[name].annotation, name


def test_connect_has_the_documented_defaults() -> None:
    documented = {
        "api_key": None,
        "connect_timeout_sec": 10.0,
        "close_timeout_sec": 5.0,
        "keepalive_interval_sec": 5.0,
        "ping_interval_sec": 20.0,
        "ping_timeout_sec": 20.0,
        "max_message_size": 16 * 1024 * 1024,
        "ssl_context": None,
        "additional_headers": None,
        "raise_on_error": True,
    }
    connect = parameters(RealtimeSTTClient.connect)
    assert {name: connect[name].default for name in documented} == documented
    assert connect["config"].default is EMPTY


# The official package


OFFICIAL: Final = [
    (soniox.realtime.RealtimeAPI, RealtimeAPI),
    (soniox.realtime.AsyncRealtimeAPI, AsyncRealtimeAPI),
    (soniox.realtime.stt.RealtimeSTTClient, RealtimeSTTClient),
    (soniox.realtime.stt.RealtimeSTTSession, RealtimeSTTSession),
    (soniox.realtime.async_stt.AsyncRealtimeSTTClient, AsyncRealtimeSTTClient),
    (soniox.realtime.async_stt.AsyncRealtimeSTTSession, AsyncRealtimeSTTSession),
]

HELPERS: Final = [
    "render_tokens",
    "start_audio_thread",
    "stream_audio",
    "stream_audio_async",
    "throttle_audio",
    "throttle_audio_async",
]


def check_takes_what_the_official_takes(
    official: Callable[..., Any], ours: Callable[..., Any]
) -> None:
    mine = parameters(ours)
    for name, parameter in parameters(official).items():
        assert name in mine
        assert mine[name].kind is parameter.kind, name
        if parameter.default is not EMPTY:
            assert mine[name].default is not EMPTY, f"{name} must stay optional"
    for name in mine.keys() - parameters(official).keys():
        assert mine[name].default is not EMPTY, f"{name} must be optional"


def official_methods() -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    for official, ours in OFFICIAL:
        for name in public_names(official):
            method = inspect.getattr_static(official, name)
            if inspect.isfunction(method):
                yield f"{official.__name__}.{name}", method, getattr(ours, name)


@pytest.mark.parametrize(("official", "ours"), OFFICIAL, ids=lambda owner: owner.__name__)
def test_official_names_are_here(official: type, ours: type) -> None:
    # Text to speech is another API.
    assert public_names(official) - {"tts"} <= public_names(ours)
    check_takes_what_the_official_takes(official.__init__, ours.__init__)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("official", "ours"),
    [pytest.param(official, ours, id=name) for name, official, ours in official_methods()],
)
def test_official_calls_work_here(official: Callable[..., Any], ours: Callable[..., Any]) -> None:
    check_takes_what_the_official_takes(official, ours)
    assert inspect.iscoroutinefunction(ours) is inspect.iscoroutinefunction(official)


@pytest.mark.parametrize("name", HELPERS)
def test_official_helpers_are_here(name: str) -> None:
    check_takes_what_the_official_takes(getattr(soniox.utils, name), getattr(soniox_adapters, name))


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        (soniox.client.SonioxClient, SonioxClient),
        (soniox.client.AsyncSonioxClient, AsyncSonioxClient),
    ],
    ids=["SonioxClient", "AsyncSonioxClient"],
)
def test_clients_take_what_concerns_the_realtime_api(official: type, ours: type[Any]) -> None:
    mine, theirs = inspect.signature(ours), inspect.signature(official)
    for keywords in ({"api_key": "k"}, {"websocket_base_url": "ws://localhost"}):
        assert mine.bind(**keywords).arguments == theirs.bind(**keywords).arguments
    if theirs.parameters["api_key"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        assert mine.bind("k").arguments == {"api_key": "k"}


# Documentation


def documented_things() -> Iterator[tuple[str, object]]:
    for name in soniox_adapters.__all__:
        thing = getattr(soniox_adapters, name)
        if not getattr(thing, "__module__", "").startswith("soniox_"):
            continue  # A constant or an alias of types.
        yield name, thing
        if not inspect.isclass(thing):
            continue
        for member_name in public_names(thing):
            member = inspect.getattr_static(thing, member_name)
            function = member.fget if isinstance(member, property) else member
            if getattr(function, "__module__", None) == thing.__module__ and callable(function):
                yield f"{name}.{member_name}", member


@pytest.mark.parametrize(
    "thing", [pytest.param(thing, id=name) for name, thing in documented_things()]
)
def test_public_name_is_documented(thing: object) -> None:
    documentation = thing.__doc__ if inspect.isclass(thing) else inspect.getdoc(thing)
    assert documentation
    # What dataclass writes when nobody else does.
    assert not documentation.startswith(f"{getattr(thing, '__name__', '')}(")
