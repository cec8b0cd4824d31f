"""Faults that the local server is told to have: what clients see, and how sessions survive them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from soniox_adapters import (
    Outcome,
    RealtimeSTTSession,
    ReconnectPolicy,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxError,
    SonioxHandshakeError,
    SonioxServiceUnavailableError,
    SonioxTimeoutError,
)
from soniox_adapters.server import (
    Drop,
    Fault,
    HalfOpen,
    LocalServer,
    RefuseUpgrade,
    SessionLimit,
    Stall,
    Unavailable,
    run_in_thread,
)
from tests.support.core.model_service import AUDIO_CONFIG, Word, audio
from tests.support.server.truthful import truthful

SENTENCE = " good morning everyone welcome to the meeting today we talk about the weather"
WORDS = [
    Word(f" {word}", 200 + 400 * index, 200 + 400 * index + 350)
    for index, word in enumerate(SENTENCE.split())
]
TOTAL_MS = WORDS[-1].end_ms + 500
CHUNKS = [audio(begin, min(begin + 100, TOTAL_MS)) for begin in range(0, TOTAL_MS, 100)]


@contextmanager
def session(
    *faults: Fault, policy: ReconnectPolicy | None = None, **options: Any
) -> Iterator[RealtimeSTTSession]:
    with (
        run_in_thread(LocalServer(recognizer=truthful(WORDS), faults=faults)) as server,
        RealtimeSTTSession(
            server.url, AUDIO_CONFIG, lambda: "key", proxy=None, reconnect=policy, **options
        ) as session,
    ):
        yield session


def transcribe(session: RealtimeSTTSession) -> str:
    for index, chunk in enumerate(CHUNKS):
        session.send_byte_chunk(chunk)
        if index % 20 == 15:
            session.finalize()
    session.finish()
    tokens = [token for event in session.receive_events() for token in event.tokens]
    return "".join(token.text for token in tokens if token.is_final and token.text != "<fin>")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Drop(after_ms=900), SonioxConnectionError),
        (Unavailable(after_ms=900), SonioxServiceUnavailableError),
        (HalfOpen(after_ms=900), SonioxTimeoutError),
        (RefuseUpgrade(status_code=502), SonioxHandshakeError),
        (SessionLimit(seconds=0.0), SonioxAuthenticationError),
    ],
)
def test_what_a_session_without_a_policy_sees(fault: Fault, error: type[SonioxError]) -> None:
    with pytest.raises(error):
        interrupted(fault)


def interrupted(fault: Fault) -> None:
    with session(fault, ping_interval_sec=0.1, ping_timeout_sec=0.2) as talk:
        for chunk in CHUNKS[:12]:
            with suppress(SonioxError):
                talk.send_byte_chunk(chunk)
        list(talk.receive_events())


def test_a_stall_ends() -> None:
    with session(Stall(after_ms=900, seconds=0.2)) as talk:
        assert transcribe(talk) == SENTENCE


@pytest.mark.parametrize(
    "faults",
    [
        [Drop(after_ms=900)],
        [Drop(after_ms=ms) for ms in (2000, 1500, 1100)],
        [Drop(after_ms=50, times=3)],
        [Unavailable(after_ms=900), Drop(after_ms=2000)],
        [HalfOpen(after_ms=1200)],
        [RefuseUpgrade(times=3)],
        [Drop(after_ms=1500), RefuseUpgrade(times=2), Unavailable(after_ms=1000)],
        [Stall(after_ms=900, seconds=0.1), Drop(after_ms=900)],
        [SessionLimit(seconds=0.02)],
    ],
)
def test_a_session_with_a_policy_survives(faults: list[Fault]) -> None:
    policy = ReconnectPolicy(initial_delay=0.01)
    options = {"ping_interval_sec": 0.3, "ping_timeout_sec": 0.3}
    with session(*faults, policy=policy, **options) as talk:
        assert transcribe(talk) == SENTENCE
        assert talk.outcome is Outcome.FINISHED
        assert talk.stats.lost_audio_ms == 0


@pytest.mark.parametrize("place", range(20))
def test_no_place_for_a_cut_shows(place: int) -> None:
    cut_ms = TOTAL_MS * (place + 1) // 21
    with session(Drop(after_ms=cut_ms), policy=ReconnectPolicy(initial_delay=0.01)) as talk:
        assert transcribe(talk) == SENTENCE
        assert (talk.stats.reconnects, talk.stats.lost_audio_ms) == (1, 0)
