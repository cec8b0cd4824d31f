"""Options that say how to connect, of kinds that cannot be used: refused in the constructor."""

from __future__ import annotations

import inspect
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    AsyncSonioxClient,
    RealtimeSTTSession,
    SonioxClient,
    SonioxValidationError,
)
from soniox_adapters.session.base import SessionBase
from soniox_adapters.session.options import SessionKeywords, SessionOptions
from tests.support.core.messages import API_KEY, CONFIG

URL = "wss://stt.example.test"
FOR_SERVERS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


async def connect_async(endpoint: object) -> socket.socket:
    raise AssertionError


@pytest.mark.parametrize("session", [RealtimeSTTSession, AsyncRealtimeSTTSession])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ssl_context": False}, r"^ssl_context must be an ssl\.SSLContext, or None .* not bool"),
        ({"ssl_context": True}, "^ssl_context must be .* not bool"),
        ({"ssl_context": ssl.PROTOCOL_TLS_CLIENT}, "^ssl_context must be .* not _SSLMethod"),
        ({"ssl_context": "ca.pem"}, "^ssl_context must be .* not str"),
        ({"ssl_context": ssl.SSLContext}, "^ssl_context must be .* not type"),
        ({"ssl_context": FOR_SERVERS}, r"made for servers .*create_default_context\(\)"),
        ({"proxy": 5}, "^proxy must be the URL of a proxy, True .* not int"),
        ({"proxy": 0}, "^proxy must be .* not int"),
        ({"proxy": b"http://user:secret@host"}, "^proxy must be .* not bytes$"),
        ({"proxy": {"https": "http://user:secret@host"}}, "^proxy must be .* not dict$"),
        ({"proxy": "gopher://host"}, "^the parameter proxy is not .* scheme"),
        ({"transport": 42}, "^transport must be a connected socket, .* not int"),
        ({"transport": "localhost:80"}, "^transport must be .* not str"),
        ({"transport": b""}, "^transport must be .* not bytes"),
        ({"transport": False}, "^transport must be .* not bool"),
        ({"transport": ("localhost", 80)}, "^transport must be .* not tuple"),
    ],
    ids=str,
)
def test_wrong_kind(session: type[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SonioxValidationError, match=message) as refused:
        session(URL, CONFIG, API_KEY, **options)
    assert "secret" not in str(refused.value)


def test_async_function_for_a_blocking_session() -> None:
    transport: Any = connect_async
    with pytest.raises(SonioxValidationError, match="not an async function"):
        RealtimeSTTSession(URL, CONFIG, API_KEY, transport=transport)
    AsyncRealtimeSTTSession(URL, CONFIG, API_KEY, transport=transport)


@pytest.mark.parametrize("session", [RealtimeSTTSession, AsyncRealtimeSTTSession])
@pytest.mark.parametrize("proxy", [None, False, True, "", "host:3128", "socks5://host"])
def test_what_can_be_used(session: type[Any], proxy: object) -> None:
    with socket.socket() as unconnected:
        for transport in (None, unconnected, lambda *_: None):
            context = ssl.create_default_context()
            session(URL, CONFIG, API_KEY, proxy=proxy, ssl_context=context, transport=transport)


def test_check_loads_nothing() -> None:
    code = (
        "import sys, soniox_adapters as s; config = s.RealtimeSTTConfig(model='m');\n"
        "for name, value in {'ssl_context': False, 'transport': 1, 'proxy': 1}.items():\n"
        "    for session in (s.RealtimeSTTSession, s.AsyncRealtimeSTTSession):\n"
        "        try: session('wss://host', config, **{name: value})\n"
        "        except s.SonioxValidationError: continue\n"
        "        raise AssertionError(name)\n"
        "assert not {'ssl', 'anyio', 'trio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


CALLS = [
    RealtimeSTTSession,
    AsyncRealtimeSTTSession,
    SonioxClient(api_key="key").realtime.stt.connect,
    AsyncSonioxClient(api_key="key").realtime.stt.connect,
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_the_signature_spells_the_options_out(call: Any) -> None:
    parameters = inspect.signature(call).parameters
    for option in fields(SessionOptions):
        parameter = parameters[option.name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == option.default
    assert all(
        parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def test_type_checkers_see_the_same_options() -> None:
    expected = {option.name: option.type for option in fields(SessionOptions)}
    annotations = SessionKeywords.__annotations__
    assert {name: kind.__forward_arg__ for name, kind in annotations.items()} == expected


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_help_explains_the_options(call: Any) -> None:
    function: Any = SessionBase.__init__ if isinstance(call, type) else call
    for option in fields(SessionOptions):
        assert f"{option.name}: {option.metadata['explanation']}" in function.__doc__


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_an_option_that_does_not_exist_is_a_type_error(call: Any) -> None:
    arguments = {"config": CONFIG} | ({"url": URL} if isinstance(call, type) else {})
    wrong = "timeout" if isinstance(call, type) else "url"
    name = call.__name__
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword .* '{wrong}'"):
        call(**arguments, **{wrong: 1})


def test_options_show_no_secret() -> None:
    options = SessionOptions(
        proxy="http://user:secret@proxy", additional_headers={"Cookie": "secret"}
    )
    assert "secret" not in repr(options)


def test_headers_that_can_be_read_once_are_for_every_machine() -> None:
    options = SessionOptions(additional_headers=iter([("X-One", "1")]))
    for _ in range(2):
        stream = options.make_stream(URL, CONFIG, API_KEY)
        stream.connect(0.0)
        (link,) = stream.links_to_open()
        assert b"x-one: 1" in link.data_to_send().lower()

    def broken() -> Iterator[tuple[str, str]]:
        yield "X-One", "1"
        raise LookupError

    with pytest.raises(SonioxValidationError, match="additional_headers cannot be read"):
        SessionOptions(additional_headers=broken())


def test_options_are_frozen_and_make_machines_anew() -> None:
    options = SessionOptions(keepalive_interval_sec=2.5)
    with pytest.raises(FrozenInstanceError):
        options.keepalive_interval_sec = 1.0  # type: ignore[misc]
    one, two = (options.make_stream(URL, CONFIG, API_KEY) for _ in range(2))
    assert one is not two
    assert one.config == two.config
