"""What calls that wait for a finalize get, decided without any I/O."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_adapters import (
    FinalizeResult,
    RealtimeSTTConfig,
    RealtimeSTTProtocol,
    ReconnectPolicy,
    SonioxConnectionError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
    Stream,
    Token,
)
from soniox_adapters.session.finalizing import Finalizes, FinalizeWait
from tests.core.recovery.test_no_word_is_lost import Conversation
from tests.support.core.messages import CONFIG, FINALIZE, result, token
from tests.support.core.model_service import AUDIO_CONFIG, Word, audio


class Talk:
    """A session whose every audio is heard as a word of its own."""

    def __init__(self, config: RealtimeSTTConfig = CONFIG) -> None:
        self.now = 0.0
        self.machine = RealtimeSTTProtocol(config)
        self.machine.connect(0.0)
        self.machine.start(0.0)
        self.finalizes = Finalizes(cast("Stream", self.machine))
        self.asked = 0
        self.words = 0
        self._sent()

    def _sent(self) -> list[str | bytes]:
        messages = self.machine.messages_to_send()
        self.asked += messages.count(FINALIZE)
        return messages

    def say(self) -> str:
        self.machine.send_audio(b"audio", self.now)
        self.words += 1
        return f" word{self.words}"

    def ask(self) -> FinalizeWait:
        wait = self.finalizes.ask(self.now)
        self._sent()
        return wait

    def receive(self, *messages: str) -> None:
        for message in messages:
            self.finalizes.take(self.machine.receive_message(message, self.now))


def text_of(wait: FinalizeWait) -> str | None:
    return None if wait.result is None else wait.result.text


def test_an_answer_says_what_became_final_when_and_how_soon() -> None:
    talk = Talk()
    talk.say()
    talk.receive(result("Before."))
    wait = talk.ask()
    talk.now = 0.2
    talk.receive(
        result(
            token(" How", start_ms=1200, end_ms=1500, translation_status="original"),
            "<end>",
            token(" are", start_ms=1100, end_ms=1600),
            token(" Wie", translation_status="translation"),
            token(" <unsure>", is_final=False),
        )
    )
    assert text_of(wait) is None
    talk.receive(result(token(" you?"), token("<fin>", start_ms=0, end_ms=0), " Next."))
    answer = wait.result
    assert answer is not None
    assert (answer.text, answer.translation) == ("How are you?", "Wie")
    assert (answer.start_ms, answer.end_ms, answer.round_trip) == (1100, 1600, 0.2)
    assert [token.text for token in answer.tokens] == [" How", " are", " Wie", " you?"]


def test_an_answer_without_words() -> None:
    answer = FinalizeResult((Token(text=" "),), 0.1)
    assert (answer.text, answer.translation) == ("", None)
    assert (answer.start_ms, answer.end_ms) == (None, None)


def test_calls_share_the_finalize_that_is_under_way() -> None:
    talk = Talk()
    talk.say()
    first = talk.ask()
    talk.say()
    assert talk.ask() is first
    assert talk.asked == 1
    talk.receive(result(" one", "<fin>"))
    assert text_of(first) == "one"
    assert talk.ask() is not first
    assert talk.asked == 2


def test_calls_share_a_finalize_that_nobody_waited_for() -> None:
    talk = Talk()
    talk.say()
    talk.machine.pause(talk.now)
    wait = talk.ask()
    assert talk.asked == 1
    talk.receive(result(" one", "<fin>"))
    assert text_of(wait) == "one"


@pytest.mark.parametrize("answered", [False, True])
def test_with_nothing_buffered_the_answer_is_there_at_once(answered: bool) -> None:
    talk = Talk()
    if answered:
        talk.say()
        talk.ask()
        talk.receive(result(" one", "<fin>"))
    asked = talk.asked
    wait = talk.ask()
    assert wait.result == FinalizeResult((), 0.0)
    assert talk.asked == asked
    talk.finalizes.leave(wait)
    talk.say()
    assert talk.ask().result is None
    assert talk.asked == asked + 1


def test_before_the_session_is_open_the_service_is_asked() -> None:
    machine = RealtimeSTTProtocol(CONFIG)
    machine.connect(0.0)
    wait = Finalizes(cast("Stream", machine)).ask(1.0)
    machine.start(2.0)
    assert wait.result is None
    assert FINALIZE in machine.messages_to_send()


def test_after_a_timeout_answers_still_come_in_order() -> None:
    talk = Talk()
    talk.say()
    late = talk.ask()
    talk.finalizes.leave(late)
    with pytest.raises(SonioxTimeoutError, match=r"within 0\.5 s; the session goes on") as caught:
        talk.finalizes.result_of(late, 0.5)
    assert (caught.value.operation, caught.value.retryable) == ("finalize", False)
    talk.say()
    wait = talk.ask()
    assert talk.asked == 2
    talk.receive(result(" one", "<fin>"))
    assert wait.result is None
    talk.receive(result(" two", "<fin>"))
    assert text_of(wait) == "two"


@pytest.mark.parametrize("waits", [False, True])
def test_an_answer_that_never_comes_does_not_spoil_the_calls_after_it(waits: bool) -> None:
    talk = Talk(RealtimeSTTConfig.model_validate(AUDIO_CONFIG))
    talk.machine.send_audio(audio(0, 2000), talk.now)
    lost = talk.ask()
    if waits:
        # Somebody finalizes while a call is waiting, and only that is answered.
        talk.machine.send_audio(audio(2000, 4000), talk.now)
        talk.machine.finalize(talk.now)
    else:
        talk.finalizes.leave(lost)
        talk.machine.send_audio(audio(2000, 4000), talk.now)
    wait = talk.ask()
    assert wait is not lost
    talk.receive(result(" one", "<fin>", final_audio_proc_ms=4080, total_audio_proc_ms=4080))
    assert text_of(wait) == "one"
    assert text_of(lost) == ("one" if waits else None)
    assert talk.ask().result == FinalizeResult((), 0.0), "nothing is left to ask for"


def test_one_call_that_gives_up_does_not_end_the_others() -> None:
    talk = Talk()
    talk.say()
    wait = talk.ask()
    assert talk.ask() is wait
    talk.finalizes.leave(wait)
    talk.receive(result(" one", "<fin>"))
    talk.finalizes.leave(wait)
    assert talk.finalizes.result_of(wait, 1.0).text == "one"


def test_a_marker_that_answers_nothing_is_no_answer() -> None:
    talk = Talk()
    talk.say()
    wait = talk.ask()
    talk.receive(result(" one", "<fin>", " two", "<fin>"))
    assert text_of(wait) == "one"
    shared = Talk()
    shared.say()
    shared.machine.finalize(0.0)
    shared.finalizes.leave(shared.ask())
    wait = shared.ask()
    shared.receive(result(" one", "<fin>"))
    assert wait.result is None


def test_the_end_of_the_session_is_the_reason() -> None:
    talk = Talk()
    talk.say()
    wait = talk.ask()
    talk.machine.abort(1.0)
    with pytest.raises(SonioxStateError, match="ended before the service answered"):
        talk.finalizes.result_of(wait, None)
    lost = Talk()
    lost.say()
    wait = lost.ask()
    lost.finalizes.take(lost.machine.fail(SonioxConnectionError("lost"), 1.0))
    with pytest.raises(SonioxConnectionError, match="lost"):
        lost.finalizes.result_of(wait, None)


def test_a_session_that_cannot_finalize_says_why() -> None:
    talk = Talk()
    with pytest.raises(SonioxValidationError, match="trailing_silence_ms"):
        talk.finalizes.ask(0.0, -1)
    talk.machine.finish(0.0)
    with pytest.raises(SonioxStateError, match="end-of-audio was already sent"):
        talk.ask()


@given(st.lists(st.sampled_from(["say", "ask", "plain", "give up", "answer"]), max_size=40))
def test_every_answer_is_that_of_its_own_finalize(steps: list[str]) -> None:
    talk = Talk()
    waiting: list[FinalizeWait] = []
    unheard: list[str] = []
    # For each finalize on its way, the words that its answer makes final, and who waits for it.
    under_way: list[tuple[list[str], list[FinalizeWait]]] = []

    def note_finalize() -> None:
        under_way.append((unheard.copy(), []))
        unheard.clear()

    for step in steps:
        talk.now += 0.1
        if step == "say":
            unheard.append(talk.say())
        elif step == "plain":
            talk.machine.finalize(talk.now)
            talk._sent()
            note_finalize()
        elif step == "ask":
            asked = talk.machine.stats.sent_finalizes
            wait = talk.ask()
            if talk.machine.stats.sent_finalizes > asked:
                note_finalize()
            if wait.result is not None:
                assert not under_way
                assert not unheard
                assert wait.result.text == ""
            else:
                under_way[-1][1].append(wait)
                waiting.append(wait)
        elif step == "give up" and waiting:
            wait = waiting.pop()
            talk.finalizes.leave(wait)
        elif step == "answer" and under_way:
            words, waits = under_way.pop(0)
            talk.receive(result(*words, "<fin>"))
            for wait in waits:
                if wait in waiting:
                    assert text_of(wait) == "".join(words).strip()
                    waiting.remove(wait)
                    talk.finalizes.leave(wait)
    assert all(wait.result is None for wait in waiting)


def test_an_answer_to_finalizes_that_were_held_is_that_of_each() -> None:
    talk = Conversation([Word(" hello", 100, 500)], ReconnectPolicy(), [])
    finalizes = Finalizes(talk.stream)
    talk.send(900)
    talk.cut()
    talk.stream.finalize(talk.now)
    first = finalizes.ask(talk.now)
    talk.stream.finalize(talk.now)
    second = finalizes.ask(talk.now)
    talk.wait(1000)
    talk.answer()
    finalizes.take(talk.events)
    assert text_of(first) == text_of(second) == "hello"
    assert (first.index, second.index) == (0, 1)
