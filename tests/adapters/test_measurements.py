"""What a session measures, in its `stats` and by the function that it calls."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Measurement,
    RealtimeSTTSession,
    SonioxValidationError,
)
from tests.support.adapters.server import FakeServer, Peer
from tests.support.adapters.sessions import Kind, open_session
from tests.support.core.frames import Opcode
from tests.support.core.messages import CONFIG, FINALIZE, FINISHED, result


def answering(peer: Peer) -> None:
    """Answer finalizes, and the end of the audio."""
    peer.start()
    while (frame := peer.read()).opcode is not Opcode.CLOSE:
        if frame.payload == FINALIZE.encode():
            peer.say(result("words", "<fin>"))
        elif not frame.payload:
            peer.say(FINISHED)
    peer.close()
    peer.read_to_the_end()


def test_measurements_are_reported_and_counted(kind: Kind) -> None:
    reported: list[Measurement] = []
    with (
        FakeServer(answering) as server,
        open_session(kind, server.url, on_measurement=reported.append) as driver,
    ):
        driver.enter()
        driver.send(b"audio")
        answer = driver.call("finalize_and_wait")
        assert driver.stats.finalize_latency.last == answer.round_trip
        driver.call("finish")
        driver.collect()
        driver.close()
        stats = driver.stats
        open_time = stats.open_time
        assert open_time > 0
        assert driver.stats.open_time == open_time, "it stops with the session"
    assert [measurement.name for measurement in reported] == [
        "time_to_first_token",
        "finalize_latency",
    ]
    assert reported[0].seconds == stats.time_to_first_token
    assert reported[1].seconds == answer.round_trip


def test_open_time_goes_on_while_the_session_does(kind: Kind) -> None:
    with FakeServer(answering) as server, open_session(kind, server.url) as driver:
        assert driver.stats.open_time == 0
        driver.enter()
        first = driver.stats.open_time
        driver.send(b"audio")
        driver.call("finalize_and_wait")
        # Read in the session's event loop: elsewhere its clock may not run.
        assert driver.call("finalize_and_wait").round_trip == 0
        assert driver.stats.open_time >= first


def test_a_function_that_raises_does_not_harm_the_session(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(measurement: Measurement) -> None:
        raise ValueError(measurement.name)

    with (
        caplog.at_level(logging.ERROR, "soniox_adapters"),
        FakeServer(answering) as server,
        open_session(kind, server.url, on_measurement=fail) as driver,
    ):
        driver.enter()
        driver.send(b"audio")
        assert driver.call("finalize_and_wait").text == "words"
    assert "the function on_measurement raised" in caplog.text


@pytest.mark.parametrize("session_type", [RealtimeSTTSession, AsyncRealtimeSTTSession])
def test_what_is_no_function_is_refused(session_type: Callable[..., object]) -> None:
    with pytest.raises(SonioxValidationError, match="on_measurement must be a function or None"):
        session_type("ws://localhost/", CONFIG, on_measurement=7)
