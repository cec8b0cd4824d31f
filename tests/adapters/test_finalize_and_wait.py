"""`session.finalize_and_wait()`, on every kind of session."""

from __future__ import annotations

import threading

import pytest

from soniox_adapters import (
    FinalizeResult,
    ReconnectPolicy,
    SonioxConnectionError,
    SonioxServerError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_adapters.session.flow_control import MAX_WAITING_MESSAGES
from tests.support.adapters.cutting_server import CuttingServer
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script
from tests.support.adapters.sessions import ALL_KINDS, Kind, label, open_session
from tests.support.core.frames import Opcode
from tests.support.core.messages import FINALIZE, FINISHED, error, result, token
from tests.support.core.model_service import AUDIO_CONFIG, Word, audio

WORDS = token(" you there?", start_ms=300, end_ms=900)


def finalizing(*before: str, answers: int = 1_000) -> Script:
    """Return a script that answers so many finalizes, with `WORDS`, and says `before` first."""

    def script(peer: Peer) -> None:
        left = answers
        peer.start()
        peer.say(*before)
        while (frame := peer.read()).opcode is not Opcode.CLOSE:
            if b"finalize" in frame.payload and left:
                left -= 1
                peer.say(result(WORDS, "<fin>"))
            elif not frame.payload:
                peer.say(FINISHED)
        peer.close()
        peer.read_to_the_end()

    return script


@pytest.mark.parametrize("receives", [False, True])
def test_the_answer_and_every_event(kind: Kind, receives: bool) -> None:
    script = finalizing(result(token("Are", is_final=False)))
    with FakeServer(script) as server, open_session(kind, server.url) as driver:
        driver.enter()
        driver.send(b"audio")
        collecting = driver.start_collecting() if receives else None
        answer: FinalizeResult = driver.call("finalize_and_wait", trailing_silence_ms=200)
        assert (answer.text, answer.start_ms, answer.end_ms) == ("you there?", 300, 900)
        assert 0 < answer.round_trip < PATIENCE
        driver.call("finish")
        events = collecting.result(PATIENCE) if collecting else driver.collect()
    assert [label(event) for event in events] == ["Are", " you there?<fin>", "finished"]


def test_the_answer_is_found_behind_messages_that_nobody_receives(kind: Kind) -> None:
    count = 2 * MAX_WAITING_MESSAGES
    chatter = [result(token(f"{number}", is_final=False)) for number in range(count)]
    with (
        FakeServer(finalizing(*chatter)) as server,
        open_session(kind, server.url) as driver,
    ):
        driver.enter()
        driver.send(b"audio")
        assert driver.call("finalize_and_wait", timeout=None).text == "you there?"
        driver.call("finish")
        assert len(driver.collect()) == count + 2


def test_calls_at_the_same_time_share_one_finalize(kind: Kind) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.start()
        while (frame := peer.read()).opcode is not Opcode.CLOSE:
            if frame.payload == FINALIZE.encode():
                asked.set()
                assert go_on.wait(PATIENCE)
                peer.say(result(WORDS, "<fin>"))
        peer.close()
        peer.read_to_the_end()

    with FakeServer(script) as server, open_session(kind, server.url) as driver:
        driver.enter()
        driver.send(b"audio")
        first = driver.start("finalize_and_wait")
        assert asked.wait(PATIENCE)
        with pytest.raises(SonioxTimeoutError):
            driver.call("finalize_and_wait", timeout=0)
        go_on.set()
        assert first.result(PATIENCE).text == "you there?"
        driver.close()
    assert server.peer().count(FINALIZE) == 1


def test_with_nothing_buffered_nobody_is_asked(kind: Kind) -> None:
    with FakeServer(finalizing(answers=0)) as server, open_session(kind, server.url) as driver:
        driver.enter()
        assert driver.call("finalize_and_wait", timeout=None) == FinalizeResult((), 0.0)
        assert driver.stats.sent_finalizes == 0


def test_after_a_timeout_the_session_goes_on(kind: Kind) -> None:
    with FakeServer(finalizing(answers=0)) as server, open_session(kind, server.url) as driver:
        driver.enter()
        driver.send(b"audio")
        for timeout in (0, 0.01):
            with pytest.raises(SonioxTimeoutError, match="did not answer the finalize") as caught:
                driver.call("finalize_and_wait", timeout)
            assert caught.value.operation == "finalize"
        driver.send(b"more")
        driver.call("finish")
        assert [label(event) for event in driver.collect()] == ["finished"]


def test_an_answer_that_never_comes_costs_one_call_only(kind: Kind) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        heard_ms = asked = 0
        while (frame := peer.read()).opcode is not Opcode.CLOSE:
            if frame.payload == FINALIZE.encode():
                asked += 1
                heard_ms = (heard_ms // 120 + 1) * 120
                positions = {"final_audio_proc_ms": heard_ms, "total_audio_proc_ms": heard_ms}
                if asked > 1:
                    peer.say(result(f" {asked}", "<fin>", **positions))
            elif frame.opcode is Opcode.BINARY:
                heard_ms += len(frame.payload) // 4
        peer.close()
        peer.read_to_the_end()

    with (
        FakeServer(script) as server,
        open_session(kind, server.url, config=AUDIO_CONFIG) as driver,
    ):
        driver.enter()
        driver.send(audio(0, 2000))
        with pytest.raises(SonioxTimeoutError):
            driver.call("finalize_and_wait", 0.01)
        for number in (2, 3):
            driver.send(audio(0, 2000))
            assert driver.call("finalize_and_wait", None).text == f"{number}"
        driver.close()


@pytest.mark.parametrize(
    ("says", "raised"),
    [
        ([error(503, "service_unavailable", "again")], SonioxServerError),
        ([], SonioxConnectionError),
        ([FINISHED], SonioxStateError),
    ],
)
def test_the_end_of_the_session_ends_the_wait(
    kind: Kind, says: list[str], raised: type[Exception]
) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        while peer.read().payload != FINALIZE.encode():
            pass
        if says:
            peer.say(*says)
            peer.close()
            peer.read_to_the_end()

    with FakeServer(script) as server, open_session(kind, server.url) as driver:
        driver.enter()
        driver.send(b"audio")
        with pytest.raises(raised):
            driver.call("finalize_and_wait", timeout=None)


def test_closing_ends_the_wait(kind: Kind) -> None:
    with FakeServer(finalizing(answers=0)) as server, open_session(kind, server.url) as driver:
        driver.enter()
        driver.send(b"audio")
        waiting = driver.start("finalize_and_wait", timeout=None)
        peer = server.peer()
        peer.wait_for(lambda: peer.count(FINALIZE) == 1)
        driver.close()
        with pytest.raises(SonioxStateError):
            waiting.result(PATIENCE)


def test_what_cannot_be_done_is_refused(kind: Kind) -> None:
    with FakeServer(finalizing()) as server, open_session(kind, server.url) as driver:
        with pytest.raises(SonioxStateError, match="not connected"):
            driver.call("finalize_and_wait")
        driver.enter()
        with pytest.raises(SonioxValidationError, match="timeout"):
            driver.call("finalize_and_wait", "soon")
        with pytest.raises(SonioxValidationError, match="trailing_silence_ms"):
            driver.call("finalize_and_wait", trailing_silence_ms=-1)
        driver.call("finish")
        with pytest.raises(SonioxStateError):
            driver.call("finalize_and_wait")


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind is not Kind.ASYNCIO_STREAM])
def test_an_answer_that_is_lost_with_a_connection_comes_with_the_next(kind: Kind) -> None:
    words = [Word(" good", 200, 500), Word(" morning", 600, 900)]
    with (
        CuttingServer(words, [900]) as server,
        open_session(
            kind,
            server.url,
            config=AUDIO_CONFIG,
            reconnect=ReconnectPolicy(initial_delay=0.01),
        ) as driver,
        driver.connected(),
    ):
        for begin in range(0, 1200, 100):
            driver.send(audio(begin, begin + 100))
        answer = driver.call("finalize_and_wait", timeout=None)
        assert answer.text.endswith("morning")
        driver.call("finish")
        assert len(driver.collect()) > 1
