"""When a token was spoken, on every kind of session."""

from __future__ import annotations

import pytest

from soniox_adapters import ReconnectPolicy, SonioxValidationError
from tests.support.adapters.server import FakeServer, Peer
from tests.support.adapters.sessions import Kind, open_session
from tests.support.core.messages import FINISHED, result, token
from tests.support.core.model_service import AUDIO_CONFIG, audio


def finalizes(peer: Peer) -> None:
    peer.start()
    while peer.read().payload != b'{"type":"finalize"}':
        pass
    peer.say(result(token("<fin>"), final_audio_proc_ms=120, total_audio_proc_ms=120))
    while peer.read().payload:
        pass
    peer.say(result(token(" there", start_ms=130, end_ms=200)), FINISHED)
    peer.close()
    peer.read_to_the_end()


@pytest.mark.parametrize("reconnect", [None, ReconnectPolicy()], ids=["once", "reconnecting"])
def test_it_is_known(kind: Kind, reconnect: ReconnectPolicy | None) -> None:
    with (
        FakeServer(finalizes) as server,
        open_session(kind, server.url, config=AUDIO_CONFIG, reconnect=reconnect) as driver,
    ):
        driver.enter()
        driver.call("send_byte_chunk", audio(0, 100), captured_at=7.0)
        driver.call("finalize")
        driver.call("send_byte_chunk", audio(100, 200), captured_at=9.0)
        driver.call("finish")
        there = driver.collect()[1].tokens[0]
        assert there.start_ms == (130 if reconnect is None else 110)
        assert driver.session.sent_position_ms(there.start_ms) == 110
        assert driver.session.captured_at(there.start_ms) == pytest.approx(9.01)


def test_a_container_has_no_times(kind: Kind) -> None:
    def reads(peer: Peer) -> None:
        peer.start()
        peer.read_to_the_end()

    with FakeServer(reads) as server, open_session(kind, server.url) as driver:
        driver.enter()
        with pytest.raises(SonioxValidationError, match="raw audio format"):
            driver.call("send_byte_chunk", b"x", captured_at=1.0)
        assert driver.stats.sent_audio_bytes == 0
