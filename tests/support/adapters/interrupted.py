"""A program whose blocking session is interrupted at random, for a test to run.

`python -m tests.support.adapters.interrupted SEED` ends with status 0 if after each of many
interruptions the session worked or was closed, and if nothing was left in the end.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Final

from soniox_adapters import (
    RealtimeSTTSession,
    SessionState,
    SonioxRealtimeError,
    SonioxTimeoutError,
)
from soniox_adapters.blocking.ticker import ticker
from tests.support.adapters.peer import PATIENCE, ClientLeftError, Peer
from tests.support.adapters.server import FakeServer
from tests.support.core.messages import CONFIG, result

INTERRUPTIONS: Final = 300
AT_MOST: Final = 40.0
"""Seconds after which the program ends, on a machine that is too slow for all of them."""


def talks_and_listens(peer: Peer) -> None:
    """Send a message each millisecond, and read everything."""
    peer.start()

    def talk() -> None:
        with suppress(ClientLeftError):
            while not peer.over.wait(0.001):
                peer.say(result("heard"))

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        peer.read_to_the_end()
    finally:
        thread.join()


class Program:
    """Uses one session after the other, as long as it goes on."""

    def __init__(self, url: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.url = url
        self.interruptions = 0
        self.closed = 0
        self.errors: tuple[type[BaseException], ...] = (KeyboardInterrupt, TimeoutError, KeyError)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interruptions += 1
        raise self.random.choice(self.errors)("deliberate")

    def run(self) -> None:
        signal.signal(signal.SIGALRM, self.interrupt)
        end = time.monotonic() + AT_MOST
        while self.interruptions < INTERRUPTIONS and time.monotonic() < end:
            session = RealtimeSTTSession(self.url, CONFIG, proxy=None, close_timeout_sec=PATIENCE)
            session.enter()
            while session.state is SessionState.OPEN and self.interruptions < INTERRUPTIONS:
                self.use_until_interrupted(session)
                self.check(session)
            self.end(session)

    def use_until_interrupted(self, session: RealtimeSTTSession) -> None:
        use = self.random.choice([self.receive, self.send, self.send_and_receive])
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, self.random.uniform(0.0001, 0.003))
                while True:
                    use(session)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except self.errors:
            # Among them what the session raises when it was interrupted at a bad moment.
            pass
        except SonioxRealtimeError:
            assert session.state is SessionState.CLOSED, "only a session that is over refuses"

    def receive(self, session: RealtimeSTTSession) -> None:
        session.receive_event(timeout=PATIENCE)

    def send(self, session: RealtimeSTTSession) -> None:
        session.send_byte_chunk(bytes(640))

    def send_and_receive(self, session: RealtimeSTTSession) -> None:
        session.send_byte_chunk(bytes(640))
        with suppress(SonioxTimeoutError):
            session.receive_event(timeout=0.0005)

    def check(self, session: RealtimeSTTSession) -> None:
        if session.state is SessionState.OPEN:
            session.send_byte_chunk(b"audio")
            assert session.receive_event(timeout=PATIENCE) is not None

    def end(self, session: RealtimeSTTSession) -> None:
        self.closed += session.state is SessionState.CLOSED
        start = time.monotonic()
        other = threading.Thread(target=session.close)
        other.start()
        other.join(PATIENCE)
        assert not other.is_alive(), "the lock is stuck"
        assert session.state is SessionState.CLOSED
        while session.fileno() != -1:
            assert time.monotonic() < start + PATIENCE, "the descriptor leaks"
            time.sleep(0.001)
        assert time.monotonic() - start < PATIENCE / 2, "close takes all its time"


def main() -> None:
    """Run the program and check what it leaves."""
    with FakeServer(talks_and_listens) as server:
        program = Program(server.url, int(sys.argv[1]))
        program.run()
    start = time.monotonic()
    while ticker.thread is not None:
        assert time.monotonic() < start + PATIENCE, "the ticker does not end"
        time.sleep(0.01)
    left = [thread.name for thread in threading.enumerate() if thread.name != "MainThread"]
    assert left in ([], ["soniox-ticker"]), left
    sys.stdout.write(f"{program.interruptions} interruptions ended {program.closed} sessions\n")


if __name__ == "__main__":
    main()
