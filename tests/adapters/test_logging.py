"""What sessions log, and what their errors say about what happened before."""

from __future__ import annotations

import logging

import pytest

from soniox_adapters import ReconnectPolicy, SonioxRealtimeError, SonioxServerError
from tests.support.adapters.cutting_server import CuttingServer
from tests.support.adapters.server import FakeServer, Peer
from tests.support.adapters.sessions import ALL_KINDS, Kind, open_session
from tests.support.core.messages import API_KEY, error, result, token
from tests.support.core.model_service import AUDIO_CONFIG, Word, audio

LOGGER = "soniox_adapters"


def refusing(peer: Peer) -> None:
    """Say something, and then what went wrong."""
    peer.start()
    peer.read()
    peer.say(
        result(token("secret words", end_ms=70), "<end>"),
        error(403, "permission_denied", f"not with {API_KEY}"),
    )
    peer.close()
    peer.read_to_the_end()


def test_states_and_controls_are_logged_but_no_words_and_no_key(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG, LOGGER),
        FakeServer(refusing) as server,
        open_session(kind, server.url) as driver,
    ):
        driver.enter()
        driver.call("keep_alive")
        assert "keepalive, after 0 bytes of audio" in caplog.text, "it is logged at once"
        with pytest.raises(SonioxServerError) as caught:
            driver.collect()
        driver.close()
    ours = [record for record in caplog.records if record.name == LOGGER]
    assert {record.levelno for record in ours} == {logging.DEBUG}
    name = f"session {id(driver.session):#x}: "
    assert all(record.getMessage().startswith(name) for record in ours), "as in its repr"
    text = "\n".join(record.getMessage() for record in ours)
    for words in ("state 'open'", "endpoint '70'", "error message 'permission_denied'", "end 's"):
        assert words in text
    record = str(caught.value.flight_record)
    assert "state 'open'" in record
    for secret in ("secret words", API_KEY):
        assert secret not in text
        assert secret not in record


def test_nothing_is_logged_unless_asked_for(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, LOGGER),
        FakeServer(refusing) as server,
        open_session(kind, server.url) as driver,
    ):
        driver.enter()
        driver.call("keep_alive")
        with pytest.raises(SonioxServerError):
            driver.collect()
    assert [record for record in caplog.records if record.name == LOGGER] == []


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind is not Kind.ASYNCIO_STREAM])
def test_reconnects_are_worth_an_info(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    words = [Word(" good", 200, 500), Word(" morning", 600, 900)]
    with (
        caplog.at_level(logging.INFO, LOGGER),
        CuttingServer(words, [500]) as server,
        open_session(
            kind, server.url, config=AUDIO_CONFIG, reconnect=ReconnectPolicy(initial_delay=0.01)
        ) as driver,
        driver.connected(),
    ):
        for begin in range(0, 1200, 100):
            driver.send(audio(begin, begin + 100))
        driver.call("finish")
        driver.collect()
    messages = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    name = f"session {id(driver.session):#x}"
    assert {message.split(": ", 1)[0] for message in messages} == {name}
    assert [message.split(": ", 1)[1].split()[0] for message in messages] == [
        "attempt",
        "reconnected",
    ]


@pytest.mark.parametrize("call", ["receive_event", "keep_alive", "finalize_and_wait"])
def test_an_error_of_a_call_knows_what_happened_before(kind: Kind, call: str) -> None:
    with FakeServer(refusing) as server, open_session(kind, server.url) as driver:
        with pytest.raises(SonioxRealtimeError) as caught:
            driver.call(call)
        assert caught.value.flight_record == ()
        driver.enter()
        driver.abort()
        driver.close()
        if call != "receive_event":
            with pytest.raises(SonioxRealtimeError) as caught:
                driver.call(call)
            assert "end 'aborted'" in str(caught.value.flight_record)
