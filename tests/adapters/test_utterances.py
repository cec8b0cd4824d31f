"""`session.utterances()`, on every kind of session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from soniox_adapters import (
    RealtimeSTTConfig,
    SonioxConnectionError,
    SonioxServerError,
    Transcript,
    Utterance,
    UtteranceEnd,
)
from tests.support.adapters.server import FakeServer, Peer
from tests.support.adapters.sessions import Kind, SessionDriver, open_session
from tests.support.core.messages import FINISHED, error, result, token

GREETING = [
    result(token("Good", start_ms=0, end_ms=300), token(" mor", is_final=False)),
    result(token(" morning.", start_ms=300, end_ms=700), "<end>", token(" How", is_final=False)),
]
RAW = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)
REST = result(" How are", token(" you?", is_final=False))


@contextmanager
def listening(kind: Kind, *messages: str, closes: bool = True) -> Iterator[SessionDriver]:
    """An entered session to which the server sends `messages`."""

    def script(peer: Peer) -> None:
        peer.start()
        peer.say(*messages)
        if closes:
            peer.close()
            peer.read_to_the_end()

    with FakeServer(script) as server, open_session(kind, server.url) as driver:
        driver.enter()
        yield driver


def said(utterances: list[Utterance]) -> list[tuple[str, UtteranceEnd | None]]:
    return [(utterance.text, utterance.ended_by) for utterance in utterances]


def test_utterances(kind: Kind) -> None:
    found: list[Utterance] = []
    with listening(kind, *GREETING, REST, FINISHED) as driver:
        driver.gather_utterances(found, None)
    assert said(found) == [
        ("Good morning.", UtteranceEnd.ENDPOINT),
        ("How are", UtteranceEnd.STREAM),
    ]
    assert (found[0].start_ms, found[0].end_ms) == (0, 700)
    assert isinstance(found[0].settled_at, float)


@pytest.mark.parametrize(
    ("closes", "failures", "raised"),
    [
        (False, (), SonioxConnectionError),
        (True, (error(503, "service_unavailable", "again"),), SonioxServerError),
    ],
)
def test_what_was_said_last_comes_before_the_error(
    kind: Kind, closes: bool, failures: tuple[str, ...], raised: type[Exception]
) -> None:
    found: list[Utterance] = []
    with (
        listening(kind, *GREETING, REST, *failures, closes=closes) as driver,
        pytest.raises(raised),
    ):
        driver.gather_utterances(found, None)
    assert [utterance.text for utterance in found] == ["Good morning.", "How are you?"]


def test_a_transcript_can_be_given(kind: Kind) -> None:
    transcript = Transcript(max_utterance_characters=4)
    found: list[Utterance] = []
    with listening(kind, *GREETING, FINISHED) as driver:
        driver.gather_utterances(found, transcript)
    assert [utterance.text for utterance in found] == ["Good", "morning."]
    assert list(transcript.utterances) == found


def test_when_speech_ended(kind: Kind) -> None:
    """The position of the last word, on the session's clock."""
    audio = bytes(32_000)  # 1 s
    found: list[Utterance] = []

    def script(peer: Peer) -> None:
        peer.start()
        assert peer.read().payload == audio
        peer.say(*GREETING, FINISHED)
        peer.close()
        peer.read_to_the_end()

    with FakeServer(script) as server, open_session(kind, server.url, config=RAW) as driver:
        driver.enter()
        driver.send(audio)
        driver.gather_utterances(found, None)
    (utterance,) = found
    assert utterance.settled_at is not None
    assert utterance.ended_at is not None
    assert utterance.ended_ago is not None
    # It was sent as one chunk of 1 s, whose last 300 ms were spoken after the last word.
    assert utterance.ended_at < utterance.settled_at < utterance.ended_at + utterance.ended_ago
    assert utterance.ended_ago >= 0.3


def test_without_a_raw_format_nobody_knows_when_speech_ended(kind: Kind) -> None:
    found: list[Utterance] = []
    with listening(kind, *GREETING, FINISHED) as driver:
        driver.gather_utterances(found, None)
    assert [(each.ended_at, each.ended_ago) for each in found] == [(None, None)]


@pytest.mark.parametrize("ends", [(), (error(503, "service_unavailable", "again"),)])
def test_an_iteration_that_is_left_leaves_what_it_has_not_handed_out(
    kind: Kind, ends: tuple[str, ...]
) -> None:
    class EnoughError(Exception):
        pass

    class OneByOne(list[Utterance]):
        def append(self, utterance: Utterance) -> None:
            super().append(utterance)
            raise EnoughError

    transcript, found = Transcript(), OneByOne()
    messages = [result("One.", "<end>", "Two.", "<end>", "Three."), *(ends or (FINISHED,))]
    with listening(kind, *messages) as driver:
        for _ in range(3):
            with pytest.raises(EnoughError):
                driver.gather_utterances(found, transcript)
        if ends:
            with pytest.raises(SonioxServerError):
                driver.gather_utterances(found, transcript)
        else:
            driver.gather_utterances(found, transcript)
    assert [utterance.text for utterance in found] == ["One.", "Two.", "Three."]
