"""The RFC 6455 suite on the sessions: every case, over real sockets."""

from __future__ import annotations

from typing import Any, Final

import pytest

from soniox_adapters import SonioxRealtimeError
from tests.support.adapters.server import ClientLeftError, FakeServer, Peer, Script
from tests.support.adapters.sessions import ALL_KINDS, Kind, SessionDriver, open_session
from tests.support.conformance.case import Case
from tests.support.conformance.table import CASES

OPTIONS: Final[dict[str, Any]] = {"ping_interval_sec": None, "keepalive_interval_sec": None}


def server_of(case: Case) -> Script:
    def script(peer: Peer) -> None:
        peer.start()
        if case.closes_first:
            peer.read_until_close()
        try:
            for segment in case.sends:
                peer.send(segment)
        except ClientLeftError:
            pass  # It said why before it left.
        while True:
            peer.read()

    return script


def receive_all(driver: SessionDriver) -> tuple[list[bytes], SonioxRealtimeError | None]:
    received: list[bytes] = []
    try:
        while raw := driver.call("recv_bytes"):
            received.append(raw)
    except SonioxRealtimeError as error:
        return received, error
    return received, None


# From the upgrade on, a session on websocket-client is a blocking one: its frames are not the
# library's.
KINDS: Final = [kind for kind in ALL_KINDS if kind is not Kind.WEBSOCKET_CLIENT]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
@pytest.mark.parametrize("name", CASES)
def test_case(name: str, kind: Kind) -> None:
    case = CASES[name]
    with FakeServer(server_of(case)) as server:
        with open_session(kind, server.url, **OPTIONS, **case.options) as driver:
            driver.enter()
            if case.closes_first:
                driver.close()
            received, error = receive_all(driver)
            assert received == list(case.messages)
            assert driver.outcome is case.outcome
        peer = server.peer()
        peer.wait_until_done()
        assert tuple(peer.frames[1:]) == case.answers
    if case.raises is None:
        assert error is None
        return
    assert type(error) is case.raises
    for attribute, value in case.details.items():
        assert getattr(error, attribute) == value, attribute
    assert case.tells in str(error)
