"""Connections that ask for their API key: when it is given, where it goes, what else is refused."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from soniox_proto import (
    Closed,
    Event,
    Link,
    Opened,
    RealtimeSTTConnection,
    RealtimeSTTStream,
    Reconnecting,
    ReconnectPolicy,
    RecoveringSTTStream,
    SonioxError,
    SonioxStateError,
    SonioxValidationError,
    UpgradeRequest,
)
from soniox_proto.testing import RecordedStream
from tests.support.core import frames
from tests.support.core.client import URL, Client
from tests.support.core.frames import Opcode
from tests.support.core.messages import API_KEY, CONFIG, UNAUTHENTICATED, error, result
from tests.support.core.model_service import AUDIO_CONFIG

SESSION_EXPIRED = error(403, "temp_api_key_session_expired", "over")
NOT_PERMITTED = error(403, "permission_denied", "no")
UNAVAILABLE = error(503, "service_unavailable", "again")


def connecting(**options: Any) -> RealtimeSTTConnection:
    connection = RealtimeSTTConnection(URL, CONFIG, asks_for_key=True, **options)
    connection.connect(0.0)
    return connection


class TestAConnection:
    def test_sends_nothing_before_it_has_its_key(self) -> None:
        connection = connecting()
        assert connection.asks_for_key
        assert connection.data_to_send() == b""
        assert connection.open_by == 10.0
        with pytest.raises(SonioxStateError, match="call authenticate first"):
            connection.opened(1.0)
        connection.authenticate(API_KEY)
        assert not connection.asks_for_key
        assert connection.opened(1.0) == []
        head, _ = frames.split_head(connection.data_to_send())
        assert head.values("authorization") == [f"Bearer {API_KEY}"]

    @pytest.mark.parametrize("form", ["header", "subprotocol", "message"])
    def test_puts_it_where_a_key_that_was_given_at_once_goes(self, form: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asked = Client(api_key=None, authentication=form, asks_for_key=True)
            asked.connection.connect(0.0)
            asked.connection.authenticate(API_KEY)
            given = Client(authentication=form)
        asked.request = asked.connection.data_to_send()
        request, _ = frames.split_head(asked.request)
        expected = given.connect()
        nonce = {"Sec-WebSocket-Key": ""}
        assert {**dict(request.headers), **nonce} == {**dict(expected.headers), **nonce}
        asked.accept()
        given.accept()
        assert asked.drain() == given.drain()

    def test_warns_of_the_deprecated_form(self) -> None:
        connection = connecting(authentication="message")
        with pytest.warns(DeprecationWarning, match="start message") as caught:
            connection.authenticate(API_KEY)
        assert caught[0].filename == __file__

    def test_redacts_it(self) -> None:
        client = Client(api_key=None, asks_for_key=True)
        client.connection.connect(0.0)
        client.connection.authenticate(API_KEY)
        client.request = client.connection.data_to_send()
        client.accept()
        client.receive(error(401, "unauthenticated", f"wrong: {API_KEY}"))
        client.feed(frames.close())
        assert "[API key]" in str(client.connection.error)
        assert API_KEY not in repr(client.events)

    def test_takes_it_once_and_only_if_asked(self) -> None:
        connection = connecting()
        connection.authenticate(API_KEY)
        for other in (connection, RealtimeSTTConnection(URL, CONFIG, asks_for_key=True)):
            with pytest.raises(SonioxStateError, match="once, right after connect"):
                other.authenticate(API_KEY)

    @pytest.mark.parametrize("key", ["", "line\nend", None])
    def test_refuses_what_is_no_key_and_asks_on(self, key: Any) -> None:
        connection = connecting()
        with pytest.raises(SonioxValidationError):
            connection.authenticate(key)
        assert connection.asks_for_key
        assert connection.data_to_send() == b""

    def test_that_has_ended_meanwhile_ignores_it(self) -> None:
        connection = connecting()
        events = connection.handle_timeout(10.0)
        assert [type(event) for event in events] == [Closed]
        connection.authenticate(API_KEY)
        assert connection.data_to_send() == b""
        assert connection.opened(11.0) == []

    def test_takes_a_key_or_asks_for_one(self) -> None:
        with pytest.raises(SonioxValidationError, match="not both"):
            RealtimeSTTConnection(URL, CONFIG, api_key=API_KEY, asks_for_key=True)


def test_a_recorded_stream_passes_it_on_and_hides_it() -> None:
    stream = RecordedStream(RealtimeSTTStream(URL, CONFIG, asks_for_key=True), url=URL)
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    assert link.asks_for_key
    link.authenticate(API_KEY)
    link.opened(0.0)
    assert API_KEY.encode() in link.data_to_send()
    assert API_KEY not in stream.trace().dumps()


class Talk:
    """A recovering session whose connections get numbered keys, and what the service answers."""

    def __init__(self, *, asks_for_key: bool = True, **fields: Any) -> None:
        policy = ReconnectPolicy(**{"jitter": False, "initial_delay": 1.0, **fields})
        key = {"asks_for_key": True} if asks_for_key else {"api_key": "key-of-all"}
        self.stream = RecoveringSTTStream(URL, AUDIO_CONFIG, reconnect=policy, **key)
        self.now = 0.0
        self.keys: list[str] = []
        self.link: Link
        self.events: list[Event] = []
        self.stream.connect(0.0)

    def answer(self, message: str) -> None:
        """Open the connection that is wanted, and let the service say one thing."""
        while not (links := self.stream.links_to_open()):
            due = self.stream.next_timeout()
            assert due is not None, "no connection is wanted, now or later"
            self.now = max(self.now, due)
            self.events += self.stream.handle_timeout(self.now)
        (link,) = links
        self.link = link
        if link.asks_for_key:
            link.authenticate(f"key-{len(self.keys) + 1}")
        self.events += link.opened(self.now)
        request = link.data_to_send()
        head, _ = frames.split_head(request)
        self.keys.append(head.values("authorization")[0].removeprefix("Bearer "))
        data = frames.switching_protocols(request) + frames.text(message)
        if "error_code" in message:
            data += frames.close()
        self.events += link.receive_data(data, self.now)

    @property
    def attempts(self) -> list[tuple[int, float]]:
        return [
            (event.attempt, event.delay) for event in self.events if type(event) is Reconnecting
        ]


class TestASessionThatReconnects:
    @pytest.mark.parametrize("refusal", [UNAUTHENTICATED, SESSION_EXPIRED])
    def test_replaces_a_refused_key_once_and_at_once(self, refusal: str) -> None:
        talk = Talk()
        talk.answer(refusal)
        assert not talk.stream.closed
        talk.answer(refusal)
        assert talk.keys == ["key-1", "key-2"]
        assert talk.attempts == [(1, 0.0)]
        assert talk.stream.closed
        assert isinstance(talk.stream.error, SonioxError)

    def test_replaces_it_again_after_a_result(self) -> None:
        talk = Talk()
        for _ in range(3):
            talk.answer(SESSION_EXPIRED)
            assert not talk.stream.closed
            talk.answer(result(total_audio_proc_ms=0))
            assert not talk.stream.closed
            talk.events += talk.link.receive_data(frames.text(UNAVAILABLE), talk.now)

    def test_other_losses_in_between_do_not_count_as_a_new_key(self) -> None:
        talk = Talk()
        for message in (SESSION_EXPIRED, UNAVAILABLE, SESSION_EXPIRED):
            assert not talk.stream.closed
            talk.answer(message)
        assert talk.stream.closed

    def test_a_status_of_401_is_a_refused_key_too(self) -> None:
        talk = Talk()
        (link,) = talk.stream.links_to_open()
        link.authenticate("key-1")
        link.opened(0.0)
        link.data_to_send()
        answer = b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"
        talk.events += link.receive_data(answer, 0.0)
        talk.answer(result(total_audio_proc_ms=0))
        assert [type(event) for event in talk.events[:2]] == [Reconnecting, Opened]

    def test_what_a_new_key_does_not_change_ends_it(self) -> None:
        talk = Talk()
        talk.answer(NOT_PERMITTED)
        assert talk.stream.closed

    def test_a_key_that_stays_the_same_is_not_tried_again(self) -> None:
        talk = Talk(asks_for_key=False)
        talk.answer(UNAUTHENTICATED)
        assert talk.stream.closed

    @pytest.mark.parametrize(
        ("fields", "attempts"),
        [
            ({"max_attempts": 0}, []),
            ({"should_retry": lambda error, attempt: False}, []),
            ({"should_retry": lambda error, attempt: attempt < 3}, [(1, 0.0), (2, 2.0)]),
        ],
    )
    def test_the_policy_has_the_last_word(
        self, fields: dict[str, Any], attempts: list[tuple[int, float]]
    ) -> None:
        talk = Talk(**fields)
        for _ in range(len(attempts) + 1):
            assert not talk.stream.closed
            talk.answer(UNAUTHENTICATED)
        assert talk.attempts == attempts
        assert talk.stream.closed


def test_upgrades_made_by_others_have_it() -> None:
    connection = connecting()
    connection.authenticate(API_KEY)
    request: UpgradeRequest = connection.upgrade_request
    assert ("Authorization", f"Bearer {API_KEY}") in request.headers()
    (opened,) = connection.upgraded(0.0)
    assert isinstance(opened, Opened)
    assert frames.decode(connection.data_to_send())[0].opcode is Opcode.TEXT
