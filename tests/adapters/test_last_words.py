"""What the server said before it left is received by a client that was writing all the while."""

from __future__ import annotations

import contextlib
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from soniox_adapters import Outcome, SonioxDurationLimitError, SonioxError
from tests.support.adapters.scenarios import TIMES
from tests.support.adapters.server import PATIENCE, FakeServer, Peer
from tests.support.adapters.sessions import Kind, label, open_session
from tests.support.core.messages import error, result

REPETITIONS: Final = 20
"""A race between a write that fails and a read; one run proves nothing."""

PACE: Final = 0.001

CHUNK: Final = bytes(640)


def reaches_its_limit(peer: Peer) -> None:
    """Take some audio, say the last words and the error, and leave with audio unread: a reset."""
    peer.start()
    for _ in range(20):
        peer.read()
    peer.say(result("last"), result("words"), error(413, "max_duration_reached", "too long"))
    peer.close()


def paced() -> Iterator[bytes]:
    """Endless audio. It blocks an event loop, which then writes before it comes to read."""
    while True:
        time.sleep(PACE)
        yield CHUNK


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_last_words_and_the_error(
    kind: Kind, secure: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    if kind is Kind.UVLOOP and sys.platform == "win32":
        pytest.skip("uvloop does not run here")
    options: dict[str, Any] = {**TIMES, "ssl_context": client_tls}
    tls = server_tls if secure else None
    with FakeServer(reaches_its_limit, tls=tls, host="localhost") as server:
        for _ in range(REPETITIONS):
            with open_session(kind, server.url, **options) as driver:
                driver.enter()
                sender = driver.start("send_bytes", paced())
                received: list[str] = []
                with pytest.raises(SonioxDurationLimitError):
                    driver.handle_events(lambda event, seen=received: seen.append(label(event)))  # type: ignore[misc]
                assert received == ["last", "words", "error 413"]
                assert driver.outcome is Outcome.SERVER_ERROR
                with contextlib.suppress(SonioxError):
                    sender.result(PATIENCE)
