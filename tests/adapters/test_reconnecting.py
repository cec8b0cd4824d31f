"""Sessions that reconnect, of every kind, over real sockets that are cut."""

from __future__ import annotations

import threading
from concurrent import futures

import pytest

from soniox_adapters import (
    Outcome,
    RealtimeEvent,
    RealtimeSTTApp,
    RealtimeSTTSession,
    ReconnectPolicy,
    RolledOver,
    SonioxConnectionError,
    SonioxStateError,
    SonioxValidationError,
)
from soniox_proto import Reconnected, Reconnecting
from tests.support.adapters.cutting_server import CuttingServer
from tests.support.adapters.listener import port_that_refuses
from tests.support.adapters.sessions import ALL_KINDS, Kind, open_session
from tests.support.core.model_service import AUDIO_CONFIG, Word, audio

SENTENCE = " good morning everyone welcome to the meeting today we talk about the weather"
WORDS = [
    Word(f" {word}", 200 + 400 * index, 200 + 400 * index + 350)
    for index, word in enumerate(SENTENCE.split())
]
TOTAL_MS = WORDS[-1].end_ms + 500
CHUNKS = [audio(begin, min(begin + 100, TOTAL_MS)) for begin in range(0, TOTAL_MS, 100)]

kinds = pytest.mark.parametrize("kind", [k for k in ALL_KINDS if k is not Kind.ASYNCIO_STREAM])


def policy(**fields: object) -> ReconnectPolicy:
    return ReconnectPolicy(**{"initial_delay": 0.01, **fields})  # type: ignore[arg-type]


@kinds
@pytest.mark.parametrize("cuts", [[], [900], [50, 1300], [2000, 1500, 1100], [4000, 300, 10]])
def test_every_word_comes_once(kind: Kind, cuts: list[int]) -> None:
    reported: list[Reconnecting | Reconnected] = []
    with (
        CuttingServer(WORDS, cuts) as server,
        open_session(
            kind, server.url, config=AUDIO_CONFIG, reconnect=policy(on_event=reported.append)
        ) as driver,
        driver.connected(),
    ):
        collecting = driver.start_collecting()
        for index, chunk in enumerate(CHUNKS):
            driver.send(chunk)
            if index % 20 == 15:
                driver.call("finalize")
        driver.call("finish")
        events = collecting.result(20)
        assert driver.outcome is Outcome.FINISHED
        assert driver.stats.reconnects == len(cuts)
        assert driver.stats.lost_audio_ms == 0
    tokens = [token for event in events for token in event.tokens if token.is_final]
    assert "".join(token.text for token in tokens if token.text != "<fin>") == SENTENCE
    assert sum(token.text == "<fin>" for token in tokens) == driver.stats.sent_finalizes
    assert [type(event) for event in reported] == [Reconnecting, Reconnected] * len(cuts)


@kinds
def test_the_first_connection_is_tried_again_too(kind: Kind) -> None:
    reported: list[Reconnecting | Reconnected] = []
    with (
        port_that_refuses() as port,
        open_session(
            kind,
            f"ws://127.0.0.1:{port}",
            config=AUDIO_CONFIG,
            reconnect=policy(max_attempts=2, on_event=reported.append),
        ) as driver,
    ):
        with pytest.raises(SonioxConnectionError):
            driver.enter()
        assert driver.outcome is Outcome.LOST
    assert [event.attempt for event in reported] == [1, 2]


@kinds
def test_closing_ends_a_wait_for_the_next_attempt(kind: Kind) -> None:
    with CuttingServer(WORDS, [100]) as server:
        options = {"config": AUDIO_CONFIG, "reconnect": policy(initial_delay=60.0, jitter=False)}
        with open_session(kind, server.url, **options) as driver:
            driver.enter()
            collecting = driver.start_collecting()
            driver.send(CHUNKS[0])
            driver.send(CHUNKS[1])
            driver.close()
            assert collecting.result(20) is not None
            assert driver.outcome is Outcome.CLOSED_LOCALLY
    assert server.connections == 1


@kinds
def test_a_sender_waits_while_no_more_can_be_kept(kind: Kind) -> None:
    lost = threading.Event()
    keeps = policy(
        initial_delay=60.0,
        jitter=False,
        max_replay_seconds=1.0,
        lead_in_ms=0,
        on_event=lambda _: lost.set(),
    )
    with (
        CuttingServer(WORDS, [100]) as server,
        open_session(kind, server.url, config=AUDIO_CONFIG, reconnect=keeps) as driver,
    ):
        driver.enter()
        collecting = driver.start_collecting()
        driver.send(CHUNKS[0])
        assert lost.wait(20)
        for chunk in CHUNKS[1:10]:
            driver.send(chunk)
        sending = [
            driver.start("send_byte_chunk", CHUNKS[10]),
            driver.start("send_bytes", CHUNKS[11:13]),
        ]
        with pytest.raises(futures.TimeoutError):
            sending[0].result(0.2)
        assert not sending[1].done()
        driver.abort()
        assert collecting.result(20) is not None
        for waiting in sending:
            with pytest.raises(SonioxStateError, match="closed"):
                waiting.result(20)


@kinds
def test_a_sender_goes_on_once_there_is_room(kind: Kind) -> None:
    lost = threading.Event()
    keeps = policy(
        initial_delay=0.3, jitter=False, max_replay_seconds=0.5, on_event=lambda _: lost.set()
    )
    with (
        CuttingServer(WORDS, [100]) as server,
        open_session(kind, server.url, config=AUDIO_CONFIG, reconnect=keeps) as driver,
        driver.connected(),
    ):
        collecting = driver.start_collecting()
        driver.send(CHUNKS[0])
        assert lost.wait(20)
        driver.call("send_bytes", CHUNKS[1:])
        events = collecting.result(20)
        assert driver.stats.lost_audio_ms == 0
    tokens = [token for event in events for token in event.tokens if token.is_final]
    assert "".join(token.text for token in tokens) == SENTENCE


@kinds
def test_what_on_event_raises_is_logged(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: object) -> None:
        raise LookupError(type(event).__name__)

    with (
        CuttingServer(WORDS, [100]) as server,
        open_session(
            kind, server.url, config=AUDIO_CONFIG, reconnect=policy(on_event=broken)
        ) as driver,
        driver.connected(),
    ):
        driver.call("send_bytes", CHUNKS)
        driver.collect()
        assert driver.outcome is Outcome.FINISHED
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


@kinds
@pytest.mark.parametrize("cuts", [[], [10**9, 900], [10**9, 900, 500]])
def test_another_configuration(kind: Kind, cuts: list[int]) -> None:
    rolled = threading.Event()
    reported: list[object] = []

    def note(event: object) -> None:
        reported.append(event)
        if isinstance(event, RolledOver):
            rolled.set()

    other = {**AUDIO_CONFIG, "language_hints": ["es"]}
    with (
        CuttingServer(WORDS, cuts) as server,
        open_session(
            kind, server.url, config=AUDIO_CONFIG, reconnect=policy(on_event=note)
        ) as driver,
        driver.connected(),
    ):
        collecting = driver.start_collecting()
        for chunk in CHUNKS[:15]:
            driver.send(chunk)
        driver.call("finalize")
        driver.call("reconfigure", other)
        assert rolled.wait(20)
        with pytest.raises(SonioxValidationError, match="sample_rate cannot change"):
            driver.call("reconfigure", {**AUDIO_CONFIG, "sample_rate": 8000})
        for chunk in CHUNKS[15:]:
            driver.send(chunk)
        driver.call("finish")
        events = collecting.result(20)
        assert driver.outcome is Outcome.FINISHED
        assert driver.stats.reconnects == len(cuts[1:])
    tokens = [token for event in events for token in event.tokens if token.is_final]
    assert "".join(token.text for token in tokens if token.text != "<fin>") == SENTENCE
    assert [event.finished for event in events].count(True) == 1
    kinds = [type(event) for event in reported]
    assert kinds == [RolledOver, *[Reconnecting, Reconnected] * len(cuts[1:])]
    hints = [service.config.language_hints for service in server.services if service.config]
    assert hints == [None, ["es"], *[["es"]] * len(cuts[1:])]


@kinds
def test_another_configuration_needs_a_policy(kind: Kind) -> None:
    with (
        CuttingServer(WORDS, []) as server,
        open_session(kind, server.url, config=AUDIO_CONFIG) as driver,
        driver.connected(),
        pytest.raises(SonioxStateError, match=r"reconnect=ReconnectPolicy\(\)"),
    ):
        driver.call("reconfigure", {**AUDIO_CONFIG, "language_hints": ["es"]})


def test_an_app_with_another_configuration() -> None:
    pytest.importorskip("websocket")
    words: list[str] = []

    def on_rolled(event: object) -> None:
        if isinstance(event, RolledOver):
            rolled.set()

    def on_event(app: RealtimeSTTApp, event: RealtimeEvent) -> None:
        words.extend(token.text for token in event.tokens if token.is_final)

    def speak(app: RealtimeSTTApp) -> None:
        for chunk in CHUNKS[:15]:
            app.send_byte_chunk(chunk)
        app.finalize()
        app.reconfigure({**AUDIO_CONFIG, "language_hints": ["es"]})
        assert rolled.wait(20)
        for chunk in CHUNKS[15:]:
            app.send_byte_chunk(chunk)
        app.finish()

    rolled = threading.Event()
    with CuttingServer(WORDS, []) as server, futures.ThreadPoolExecutor(1) as pool:
        app = RealtimeSTTApp(
            server.url,
            AUDIO_CONFIG,
            reconnect=policy(on_event=on_rolled),
            on_open=lambda app: speaking.append(pool.submit(speak, app)),
            on_event=on_event,
        )
        speaking: list[futures.Future[None]] = []
        assert app.run_forever() is False
        speaking[0].result(20)
        assert app.config.language_hints == ["es"]
    assert server.connections == 2
    assert "".join(word for word in words if word != "<fin>") == SENTENCE


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(SonioxValidationError, match="ReconnectPolicy or None, not bool"):
        RealtimeSTTSession("ws://127.0.0.1:1", {"model": "m"}, None, reconnect=True)  # type: ignore[arg-type]
