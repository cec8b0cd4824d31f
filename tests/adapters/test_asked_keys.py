"""API keys that a function returns, asked for each connection, in sessions of every kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    AsyncSonioxClient,
    Outcome,
    RealtimeSTTSession,
    ReconnectPolicy,
    SonioxAuthenticationError,
    SonioxClient,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_adapters.testing import scripted_client
from soniox_proto.testing import ScriptedServer
from tests.support.adapters.server import FakeServer, Peer, Script, obliging
from tests.support.adapters.sessions import ALL_KINDS, Kind, open_session
from tests.support.attributes import attributes
from tests.support.core.messages import CONFIG, FINISHED, UNAUTHENTICATED, error
from tests.support.core.model_service import AUDIO_CONFIG

KEYS = ["sk-first-0123456789abcdef", "sk-second-0123456789abcdef", "sk-third-0123456789abcdef"]
SESSION_EXPIRED = error(403, "temp_api_key_session_expired", f"over for {KEYS[0]}")

every_kind = pytest.mark.parametrize("kind", ALL_KINDS)


def numbered(kind: Kind, *, asynchronous: bool = True) -> tuple[Callable[[], Any], list[str]]:
    """Return a function that gives one key after the other, and those that it gave."""
    keys: Iterator[str] = iter(KEYS)
    given: list[str] = []

    def next_key() -> str:
        given.append(next(keys))
        return given[-1]

    async def next_key_later() -> str:
        return next_key()

    return (next_key_later if kind.asynchronous and asynchronous else next_key), given


def saying(message: str) -> Script:
    """Return a script that ends the session with a message."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(message)
        peer.close()
        peer.read_to_the_end()

    return script


def sent_key(peer: Peer) -> str:
    assert peer.request is not None
    return peer.request.values("authorization")[0].removeprefix("Bearer ")


@every_kind
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_session_asks_for_its_key_once(kind: Kind, asynchronous: bool) -> None:
    function, given = numbered(kind, asynchronous=asynchronous)
    with FakeServer(obliging) as server:
        with open_session(kind, server.url, api_key=function) as driver:
            assert given == []
            with driver.connected():
                driver.call("finish")
                driver.collect()
                assert driver.outcome is Outcome.FINISHED
        assert sent_key(server.peer()) == KEYS[0]
    assert given == KEYS[:1]


@every_kind
def test_it_shows_nowhere(kind: Kind) -> None:
    function, _ = numbered(kind)
    with (
        FakeServer(saying(SESSION_EXPIRED)) as server,
        open_session(kind, server.url, api_key=function) as driver,
    ):
        driver.enter()
        with pytest.raises(SonioxAuthenticationError) as caught:
            driver.collect()
        session = driver.session
        for value in (session, session._machine, caught.value, session.last_message):
            assert KEYS[0] not in f"{value!r} {value} {attributes(value)}"


@every_kind
def test_a_session_without_a_policy_is_not_tried_again(kind: Kind) -> None:
    function, given = numbered(kind)
    with (
        FakeServer(saying(SESSION_EXPIRED)) as server,
        open_session(kind, server.url, api_key=function) as driver,
    ):
        driver.enter()
        with pytest.raises(SonioxAuthenticationError):
            driver.collect()
        assert server.connections == 1
    assert given == KEYS[:1]


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind is not Kind.ASYNCIO_STREAM])
@pytest.mark.parametrize("refusal", [SESSION_EXPIRED, UNAUTHENTICATED])
def test_a_refused_key_is_replaced_once(kind: Kind, refusal: str) -> None:
    function, given = numbered(kind)
    scripts = [saying(refusal), saying(FINISHED)]
    with (
        FakeServer(*scripts) as server,
        open_session(
            kind, server.url, config=AUDIO_CONFIG, api_key=function, reconnect=ReconnectPolicy()
        ) as driver,
    ):
        driver.enter()
        driver.collect()
        assert driver.outcome is Outcome.FINISHED
        assert [sent_key(server.peer(index)) for index in range(2)] == KEYS[:2]
    assert given == KEYS[:2]


class TestFunctionsThatFail:
    @every_kind
    @pytest.mark.parametrize(
        ("raised", "retryable"),
        [
            (ConnectionRefusedError(111, f"no {KEYS[0]}"), True),
            (TimeoutError(KEYS[0]), True),
            (TypeError(KEYS[0]), False),
            (type("HTTPError", (Exception,), {"__module__": "httpx"})(KEYS[0]), True),
        ],
    )
    def test_end_the_session_without_a_connection(
        self, kind: Kind, raised: Exception, retryable: bool
    ) -> None:
        def function() -> str:
            raise raised

        with (
            FakeServer(obliging) as server,
            open_session(kind, server.url, api_key=function) as driver,
        ):
            with pytest.raises(SonioxConnectionError) as caught:
                driver.enter()
            assert server.connections == 0
        assert f"api_key raised {type(raised).__name__}" in str(caught.value)
        assert KEYS[0] not in str(caught.value)
        assert caught.value.__cause__ is raised
        assert caught.value.retryable is retryable

    @every_kind
    def test_may_raise_an_error_of_the_session(self, kind: Kind) -> None:
        raised = SonioxRealtimeError("no more keys today")

        def function() -> str:
            raise raised

        with (
            open_session(kind, "ws://127.0.0.1:1", api_key=function) as driver,
            pytest.raises(SonioxRealtimeError, match="no more keys today"),
        ):
            driver.enter()

    @every_kind
    @pytest.mark.parametrize("key", ["", "two\nlines", None, 7])
    def test_may_return_what_is_no_key(self, kind: Kind, key: Any) -> None:
        with (
            open_session(kind, "ws://127.0.0.1:1", api_key=lambda: key) as driver,
            pytest.raises(SonioxConnectionError, match="no key that can be used") as caught,
        ):
            driver.enter()
        assert not caught.value.retryable
        assert isinstance(caught.value.__cause__, SonioxValidationError)

    @pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind.asynchronous])
    def test_that_never_return_are_given_up(self, kind: Kind) -> None:
        async def function() -> str:
            import anyio

            await anyio.sleep_forever()
            raise AssertionError

        options = {"api_key": function, "connect_timeout_sec": 0.05}
        with (
            open_session(kind, "ws://127.0.0.1:1", **options) as driver,
            pytest.raises(SonioxTimeoutError),
        ):
            driver.enter()

    def test_that_return_too_late_make_no_connection(self) -> None:
        def function() -> str:
            time.sleep(0.1)
            return KEYS[0]

        with (
            FakeServer(obliging) as server,
            open_session(
                Kind.BLOCKING, server.url, api_key=function, connect_timeout_sec=0.05
            ) as driver,
        ):
            with pytest.raises(SonioxTimeoutError):
                driver.enter()
            assert server.connections == 0

    @pytest.mark.parametrize("kind", [Kind.BLOCKING, Kind.ASYNCIO])
    def test_are_tried_again_by_a_policy(self, kind: Kind) -> None:
        function, given = numbered(kind, asynchronous=False)
        failures = [ConnectionResetError("once"), TimeoutError("twice")]

        def failing() -> str:
            if failures:
                raise failures.pop(0)
            return str(function())

        policy = ReconnectPolicy(initial_delay=0.01)
        with (
            FakeServer(obliging) as server,
            open_session(
                kind, server.url, config=AUDIO_CONFIG, api_key=failing, reconnect=policy
            ) as driver,
            driver.connected(),
        ):
            driver.call("finish")
            driver.collect()
        assert given == KEYS[:1]


class TestWhatIsTaken:
    async def _key(self) -> str:
        return KEYS[0]

    def test_blocking_sessions_take_no_async_function(self) -> None:
        with pytest.raises(SonioxValidationError, match="not an async function"):
            RealtimeSTTSession("ws://127.0.0.1:1", CONFIG, self._key)
        AsyncRealtimeSTTSession("ws://127.0.0.1:1", CONFIG, self._key)

    def test_nor_one_that_turns_out_to_be(self) -> None:
        session = RealtimeSTTSession("ws://127.0.0.1:1", CONFIG, lambda: self._key())
        with pytest.raises(SonioxConnectionError, match="only async sessions await"):
            session.enter()

    def test_a_client_and_its_sessions_take_functions(self) -> None:
        server = ScriptedServer()
        server.expect_upgrade(api_key=KEYS[1])
        server.next_connection().expect_upgrade(api_key=KEYS[2])
        with scripted_client(server, api_key=lambda: KEYS[1]) as client:
            assert client.api_key is None
            for function in (None, lambda: KEYS[2]):
                with client.realtime.stt.connect(config=CONFIG, api_key=function) as session:
                    session.finish()
        server.check()

    def test_a_function_of_the_environment_is_not_needed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SONIOX_API_KEY", raising=False)
        for client in (SonioxClient(lambda: KEYS[0]), AsyncSonioxClient(self._key)):
            assert client.api_key is None
            assert client.realtime.stt.connect(config=CONFIG).config is CONFIG
