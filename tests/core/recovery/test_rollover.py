"""Sessions that move to another connection before the present one ends, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from soniox_proto import (
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    Link,
    Opened,
    Outcome,
    RealtimeSTTStream,
    Reconnected,
    Reconnecting,
    ReconnectPolicy,
    RecoveringSTTStream,
    Result,
    RolledOver,
    ServerError,
    SonioxConnectionError,
    SonioxInvalidRequestError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxValidationError,
    StructuredContext,
)
from soniox_proto.config import checked_config
from soniox_proto.preconnect.warm_stream import WarmStream
from tests.core.recovery.test_no_word_is_lost import URL, Conversation, truth
from tests.support.core.frames import Opcode, encode
from tests.support.core.model_service import AUDIO_CONFIG, WAV_HEADER, Word, audio

WORDS = [
    Word(" one", 100, 400),
    Word(" two", 500, 800, speaker="2"),
    Word(" three", 1200, 1800),
    Word(" four", 2000, 2400, speaker="2"),
    Word(" five", 2500, 2900),
]
SAID = {word.text for word in WORDS}
SPANISH: dict[str, Any] = {**AUDIO_CONFIG, "language_hints": ["es"]}
AGAIN = b'{"tokens":[],"error_code":503,"error_type":"service_unavailable","error_message":"again"}'


def conversation(**fields: Any) -> Conversation:
    policy = ReconnectPolicy(**{"jitter": False, "initial_delay": 1.0, **fields})
    return Conversation(WORDS, policy, [])


def lost(retryable: bool = True) -> SonioxConnectionError:
    error = SonioxConnectionError("gone")
    error.retryable = retryable
    return error


def lose(talk: Conversation, link: Link, error: SonioxRealtimeError | None = None) -> None:
    talk.events += link.failed(error or lost(), talk.now)
    talk.exchange()


def kinds(talk: Conversation) -> list[type]:
    return [type(event) for event in talk.events if not isinstance(event, Result)]


def text(talk: Conversation) -> str:
    return "".join(token.text for token in talk.tokens)


def only(talk: Conversation, kind: type) -> Any:
    (event,) = (event for event in talk.events if isinstance(event, kind))
    return event


def waiting_for_an_endpoint(**fields: Any) -> Conversation:
    """Return a session with a standby, in the middle of an utterance."""
    talk = conversation(**fields)
    talk.send(1000)
    talk.recognize(400)
    talk.stream.reconfigure(SPANISH, talk.now)
    talk.wait(0)
    assert len(talk.links) == 2
    return talk


def draining(**fields: Any) -> Conversation:
    """Return a session that has changed over, and whose connection before is read to its end."""
    talk = waiting_for_an_endpoint(**fields)
    talk.send(500)
    talk.endpoint()
    assert talk.services[0].ended
    return talk


class TestWhen:
    def test_a_connection_is_replaced_by_its_age(self) -> None:
        talk = conversation(rollover_after=10.0)
        talk.send(1000)
        talk.recognize(400)
        talk.wait(8_999)
        assert len(talk.links) == 1
        talk.wait(1)
        assert len(talk.links) == 2
        talk.send(500)
        old, new = talk.services
        assert (len(old.heard), new.heard) == (1500, [])
        talk.endpoint()
        assert old.ended
        assert not new.ended
        talk.send(100)
        assert new.heard[-1] == 1599
        assert len(old.heard) == 1500

    def test_a_connection_is_replaced_by_its_audio(self) -> None:
        talk = conversation(rollover_after=10.0)
        talk.stream.send_audio(audio(0, 9_999), talk.now)
        talk.exchange()
        talk.recognize(0)
        talk.wait(0)
        assert len(talk.links) == 1
        talk.stream.send_audio(audio(9_999, 10_000), talk.now)
        talk.exchange()
        talk.recognize(0)
        talk.wait(0)
        assert len(talk.links) == 2

    def test_without_an_endpoint_it_happens_after_30_s(self) -> None:
        talk = waiting_for_an_endpoint()
        talk.wait(29_999)
        assert RolledOver not in kinds(talk)
        talk.wait(1)
        assert RolledOver in kinds(talk)

    def test_between_two_utterances_it_happens_at_once(self) -> None:
        talk = conversation()
        talk.send(1000)
        talk.endpoint()
        talk.stream.reconfigure(SPANISH, talk.now)
        talk.wait(0)
        assert kinds(talk) == [Opened, EndpointDetected, RolledOver]

    def test_the_translation_of_an_utterance_comes_after_its_end(self) -> None:
        translation = {"type": "one_way", "target_language": "es"}
        talk = Conversation(
            WORDS, ReconnectPolicy(), [], config={**AUDIO_CONFIG, "translation": translation}
        )
        talk.send(1000)
        ((_, service),) = talk.links
        service.server.send_result(
            {
                "tokens": [
                    {
                        "text": " one",
                        "start_ms": 100,
                        "end_ms": 400,
                        "is_final": True,
                        "translation_status": "original",
                    },
                    {"text": "<end>", "is_final": True},
                ],
                "final_audio_proc_ms": 1000,
                "total_audio_proc_ms": 1000,
            },
            talk.now,
        )
        uno = {"text": " uno", "is_final": True, "translation_status": "translation"}
        service.server.send_result({"tokens": [uno]}, talk.now)
        talk.exchange()
        talk.stream.reconfigure(SPANISH, talk.now)
        talk.wait(0)
        assert kinds(talk) == [Opened, EndpointDetected, RolledOver]

    def test_words_that_are_heard_again_are_not_new_ones(self) -> None:
        talk = conversation()
        talk.send(1000)
        talk.stream.finalize(talk.now)
        talk.exchange()
        talk.answer()
        for rolled in (1, 2):
            talk.stream.reconfigure({**SPANISH, "client_reference_id": str(rolled)}, talk.now)
            talk.wait(0)
            talk.drain()
            talk.recognize(0)
            assert kinds(talk).count(RolledOver) == rolled
        talk.send(2000)
        talk.end()
        assert text(talk) == " one two three four five"

    def test_an_answered_finalize_is_as_good_as_an_endpoint(self) -> None:
        talk = waiting_for_an_endpoint()
        talk.stream.finalize(talk.now)
        talk.exchange()
        assert RolledOver not in kinds(talk)
        talk.answer()
        assert kinds(talk) == [Opened, Finalized, RolledOver]

    @pytest.mark.parametrize("audio_format", ["raw", "mp3"])
    def test_never(self, audio_format: str) -> None:
        after = None if audio_format == "raw" else 10.0
        policy = ReconnectPolicy(rollover_after=after)
        talk = Conversation(WORDS, policy, [], audio_format=audio_format)
        talk.send(1000)
        talk.recognize(0)
        talk.wait(100_000_000)
        assert len(talk.links) == 1
        assert talk.stream.next_timeout() is None

    def test_a_connection_that_has_rolled_over_ages_anew(self) -> None:
        talk = conversation(rollover_after=10.0)
        for rolled in range(3):
            assert kinds(talk).count(RolledOver) == rolled
            talk.send(100)
            talk.wait(10_000)
            talk.drain()


class TestTheSeam:
    def test_no_word_is_lost_or_comes_twice(self) -> None:
        talk = draining()
        old, new = talk.services
        talk.send(1500)
        # What the new connection says waits for the end of the one before.
        new.recognize(1900, 2000)
        talk.exchange()
        assert text(talk) == " one two th"
        talk.drain()
        assert text(talk) == " one two three four"
        talk.end()
        assert text(talk) == " one two three four five"
        assert only(talk, RolledOver).replayed_ms == talk.stream.stats.replayed_audio_ms > 0
        assert talk.stream.stats.lost_audio_ms == 0
        assert talk.stream.stats.reconnects == 0
        assert [token.start_ms for token in talk.tokens if token.text == " five"] == [2500]
        assert kinds(talk) == [Opened, EndpointDetected, RolledOver, Finished, Closed]
        assert old.finished

    def test_the_finished_response_before_is_not_that_of_the_session(self) -> None:
        talk = draining()
        talk.send(100)
        talk.drain()
        messages = [event for event in talk.events if isinstance(event, Result)]
        assert not any(event.message.finished for event in messages)
        assert not any('"finished":true' in str(event.raw) for event in messages)
        assert not talk.stream.closed
        assert len(talk.links) == 1

    def test_speakers_go_on_counting(self) -> None:
        talk = draining()
        talk.send(1500)
        talk.drain()
        talk.end()
        speakers = [(token.text, token.speaker) for token in talk.tokens if token.text in SAID]
        assert speakers == [
            (" one", "1"),
            (" four", "3"),
            (" five", "4"),
        ]

    @pytest.mark.parametrize("how", ["late", "lost", "error", "closed"])
    def test_the_connection_before_does_not_finish(self, how: str) -> None:
        talk = draining()
        talk.stream.finalize(talk.now)
        talk.send(1500)
        old, new = talk.services
        new.recognize(len(new.heard), len(new.heard))
        old.recognize(1500, 1500)
        talk.exchange()
        given = len(talk.events)
        if how == "late":
            talk.wait(5000 - 1501)
            assert len(talk.events) == given
            talk.wait(1)
        elif how == "lost":
            lose(talk, talk.links[0][0])
        elif how == "error":
            old.error(503, "service_unavailable", "again")
            talk.exchange()
        else:
            old.server.close(talk.now)
            talk.exchange()
        assert len(talk.links) == 1
        talk.end()
        assert text(talk) == " one two three four five"
        assert Reconnecting not in kinds(talk)
        assert ServerError not in kinds(talk)
        assert talk.stream.outcome is Outcome.FINISHED

    def test_finalizes_are_answered_once_and_in_order(self) -> None:
        talk = waiting_for_an_endpoint()
        talk.stream.finalize(talk.now)
        talk.exchange()
        talk.wait(30_000)
        assert talk.services[0].ended
        talk.stream.finalize(talk.now)
        talk.send(400)
        old, new = talk.services
        assert (len(old.finalizes), len(new.finalizes)) == (1, 1)
        new.answer_finalize()
        talk.exchange()
        assert Finalized not in kinds(talk)
        talk.drain()
        answers = [event for event in talk.events if isinstance(event, Finalized)]
        assert [event.finalize_index for event in answers] == [0, 1]
        assert text(talk) == " one two"

    def test_what_was_not_answered_is_asked_on_the_new_connection(self) -> None:
        talk = waiting_for_an_endpoint()
        talk.stream.finalize(talk.now)
        talk.exchange()
        talk.wait(30_000)
        talk.send(400)
        lose(talk, talk.links[0][0])
        (new,) = (service for _, service in talk.links)
        assert len(new.finalizes) == 1
        talk.answer()
        assert only(talk, Finalized).finalize_index == 0

    def test_what_could_not_be_kept_is_lost_with_the_connection_before(self) -> None:
        talk = waiting_for_an_endpoint(max_replay_seconds=1.0, lead_in_ms=0)
        for begin in range(1000, 5000, 100):
            talk.stream.send_audio(audio(begin, begin + 100), talk.now)
        talk.wait(30_000)
        assert talk.stream.stats.lost_audio_ms == 0
        lose(talk, talk.links[0][0])
        assert talk.stream.stats.lost_audio_ms == 4000 - 600

    def test_translations_are_not_waited_for_without_translation(self) -> None:
        config = {**AUDIO_CONFIG, "translation": {"type": "one_way", "target_language": "es"}}
        talk = conversation()
        talk.stream.reconfigure(config, 0.0)
        talk.wait(0)
        ((_, service),) = talk.links
        talk.send(1000)
        token = {"text": " one", "start_ms": 100, "end_ms": 400, "is_final": True}
        service.server.send_result(
            {
                "tokens": [
                    {**token, "translation_status": "original"},
                    {"text": "<end>", "is_final": True},
                ],
                "final_audio_proc_ms": 1000,
                "total_audio_proc_ms": 1000,
            },
            talk.now,
        )
        talk.exchange()
        talk.stream.reconfigure(AUDIO_CONFIG, talk.now)
        talk.wait(0)
        talk.drain()
        talk.recognize(0)
        talk.stream.finish(talk.now)
        talk.exchange()
        lose(talk, talk.links[0][0])
        assert talk.stream.outcome is Outcome.FINISHED


class TestLosses:
    @pytest.mark.parametrize("which", [0, 1])
    def test_either_connection_is_lost_before_the_change(self, which: int) -> None:
        talk = waiting_for_an_endpoint()
        lose(talk, talk.links[which][0])
        if which == 0:
            # The other one takes its place at once.
            assert kinds(talk) == [Opened, Reconnecting, Reconnected]
            assert len(talk.links) == 1
        else:
            assert kinds(talk) == [Opened]
            assert talk.stream.next_timeout() == talk.now + 1.0
            talk.wait(1000)
            assert len(talk.links) == 2
        talk.send(2000)
        talk.endpoint()
        talk.drain()
        talk.end()
        assert text(talk) == " one two three four five"
        assert talk.services[-1].config == checked_config(SPANISH)

    def test_the_present_connection_is_lost_while_the_standby_opens(self) -> None:
        talk = conversation()
        talk.send(1000)
        talk.stream.reconfigure(SPANISH, talk.now)
        talk.stream.handle_timeout(talk.now)
        (standby,) = talk.stream.links_to_open()
        talk.events += talk.links[0][0].failed(lost(), talk.now)
        assert talk.stream.next_timeout() == talk.now + 10.0
        talk.events += standby.upgraded(talk.now)
        assert kinds(talk) == [Opened, Reconnecting, Reconnected]

    def test_the_new_connection_is_lost_while_the_one_before_drains(self) -> None:
        talk = draining()
        talk.send(500)
        lose(talk, talk.links[1][0])
        assert Reconnecting not in kinds(talk)
        talk.drain()
        assert kinds(talk)[-1] is Reconnecting
        talk.send(1000)
        talk.end()
        assert text(talk) == " one two three four five"
        assert talk.stream.stats.reconnects == 1

    @pytest.mark.parametrize("how", ["audio", "controls", "end"])
    def test_the_new_connection_reports_an_error_while_the_one_before_drains(
        self, how: str
    ) -> None:
        talk = waiting_for_an_endpoint()
        talk.stream.finalize(talk.now)
        talk.exchange()
        talk.wait(30_000)
        assert talk.services[0].ended
        # Not closed yet: the close frame comes later.
        link, stream = talk.links[1][0], talk.stream
        talk.events += link.receive_data(encode(Opcode.TEXT, AGAIN), talk.now)
        assert not link.closed
        if how == "audio":
            stream.send_audio(audio(1000, 3000), talk.now)
            talk.sent_ms = 3000
        elif how == "controls":
            stream.keep_alive(talk.now)
            stream.finalize(talk.now)
            stream.pause(talk.now)
            stream.resume(talk.now)
        else:
            stream.finish(talk.now)
        # What it had not answered is asked again, and not on that connection.
        talk.wait(10_000)
        assert kinds(talk)[-2:] == [Reconnecting, Reconnected]
        if how != "end":
            talk.send(3000 - talk.sent_ms)
        talk.end()
        assert text(talk) == truth(WORDS, talk.sent_ms)
        assert stream.stats.lost_audio_ms == 0
        answers = [event.finalize_index for event in talk.events if isinstance(event, Finalized)]
        assert answers[-1] == stream.stats.sent_finalizes - 1

    def test_a_standby_is_tried_again_and_again(self) -> None:
        talk = waiting_for_an_endpoint(max_attempts=1)
        for delay in (1000, 2000, 4000):
            lose(talk, talk.links[1][0])
            talk.wait(delay - 1)
            assert len(talk.links) == 1
            talk.wait(1)
            assert len(talk.links) == 2
        assert Reconnecting not in kinds(talk)

    def test_a_standby_that_the_service_ends_is_replaced(self) -> None:
        talk = waiting_for_an_endpoint()
        talk.services[1].error(503, "service_unavailable", "again")
        talk.exchange()
        talk.wait(0)
        assert len(talk.links) == 2
        assert len(talk.services) == 3
        assert kinds(talk) == [Opened]

    def test_one_that_cannot_be_had_is_given_up(self) -> None:
        talk = conversation(rollover_after=10.0)
        talk.send(1000)
        talk.recognize(400)
        talk.wait(10_000)
        lose(talk, talk.links[1][0], lost(retryable=False))
        assert talk.stream.next_timeout() is None
        talk.wait(100_000)
        assert len(talk.links) == 1
        assert kinds(talk) == [Opened]

    def test_a_configuration_that_is_refused_ends_the_session(self) -> None:
        talk = waiting_for_an_endpoint()
        talk.services[1].error(400, "invalid_request", "Invalid language hint.")
        talk.exchange()
        assert kinds(talk) == [Opened, ServerError, Closed]
        assert isinstance(talk.stream.error, SonioxInvalidRequestError)
        assert talk.stream.outcome is Outcome.SERVER_ERROR
        assert talk.stream.last_message is not None
        assert talk.stream.last_message.error_code == 400
        assert talk.links == []

    def test_a_new_configuration_needs_a_connection_that_cannot_be_had(self) -> None:
        talk = waiting_for_an_endpoint()
        error = lost(retryable=False)
        lose(talk, talk.links[1][0], error)
        assert kinds(talk) == [Opened, Closed]
        assert talk.stream.error is error
        assert talk.links == []

    @pytest.mark.parametrize("required", [False, True])
    def test_another_key_is_tried_once(self, required: bool) -> None:
        policy = ReconnectPolicy(jitter=False, rollover_after=10.0)
        stream = RecoveringSTTStream(URL, AUDIO_CONFIG, reconnect=policy, asks_for_key=True)
        stream.connect(0.0)
        (link,) = stream.links_to_open()
        link.authenticate("first")
        link.upgraded(0.0)
        stream.pause_reading(1.0)
        stream.resume_reading(1.0)
        now = 10.0
        answer = b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"
        if required:
            stream.reconfigure(SPANISH, now)
        events: list[Event] = []
        for _ in range(2):
            assert events == []
            events += stream.handle_timeout(now)
            (standby,) = stream.links_to_open()
            standby.authenticate("next")
            standby.opened(now)
            standby.data_to_send()
            events += standby.receive_data(answer, now)
        events += stream.handle_timeout(now)
        assert stream.links_to_open() == ()
        assert [type(event) for event in events] == ([Closed] if required else [])
        assert stream.closed is required


class TestReading:
    def test_no_standby_is_opened_while_nobody_reads(self) -> None:
        talk = conversation(rollover_after=10.0)
        talk.now = 10.0
        talk.stream.handle_timeout(10.0)
        (standby,) = talk.stream.links_to_open()
        talk.stream.pause_reading(11.0)
        assert standby.closed
        assert talk.stream.next_timeout() is None
        assert talk.stream.handle_timeout(20.0) == []
        assert talk.stream.links_to_open() == ()
        talk.stream.resume_reading(30.0)
        assert talk.stream.next_timeout() == 30.0
        talk.stream.handle_timeout(30.0)
        assert len(talk.stream.links_to_open()) == 1

    def test_the_connection_before_is_not_given_up_while_nobody_reads(self) -> None:
        talk = draining()
        talk.stream.pause_reading(talk.now)
        talk.stream.pause_reading(talk.now)
        talk.wait(60_000)
        assert len(talk.links) == 2
        talk.stream.resume_reading(talk.now)
        talk.wait(4999)
        assert len(talk.links) == 2
        talk.wait(1)
        assert len(talk.links) == 1


class TestTheEnd:
    @pytest.mark.parametrize("begin", [waiting_for_an_endpoint, draining])
    @pytest.mark.parametrize(
        ("end", "outcome"),
        [
            (lambda talk: talk.stream.close(talk.now), Outcome.CLOSED_LOCALLY),
            (lambda talk: talk.stream.abort(talk.now), Outcome.ABORTED),
            (lambda talk: talk.events.extend(talk.stream.fail(lost(), talk.now)), Outcome.LOST),
        ],
    )
    def test_it_ends_at_once(
        self,
        begin: Callable[[], Conversation],
        end: Callable[[Conversation], None],
        outcome: Outcome,
    ) -> None:
        talk = begin()
        links = [link for link, _ in talk.links]
        end(talk)
        talk.wait(6000)
        assert talk.stream.closed
        assert talk.stream.outcome is outcome
        assert all(link.closed for link in links)
        assert kinds(talk).count(Closed) == 1
        assert talk.stream.next_timeout() is None

    def test_what_waits_is_given_out_before_the_end(self) -> None:
        talk = draining()
        talk.send(1500)
        _, new = talk.services
        new.recognize(len(new.heard), len(new.heard))
        talk.exchange()
        lose(talk, talk.links[1][0], lost(retryable=False))
        talk.stream.close(talk.now)
        talk.wait(6000)
        assert text(talk) == " one two three four five"
        assert kinds(talk)[-1] is Closed

    def test_the_audio_ends_before_the_change(self) -> None:
        talk = waiting_for_an_endpoint()
        talk.stream.finish(talk.now)
        talk.exchange()
        assert len(talk.links) == 1
        talk.wait(60_000)
        talk.end()
        assert kinds(talk) == [Opened, Finished, Closed]

    def test_the_audio_ends_while_the_connection_before_drains(self) -> None:
        talk = draining()
        talk.send(1500)
        talk.end()
        assert text(talk) == " one two three four five"

    def test_the_service_finishes_unasked(self) -> None:
        talk = waiting_for_an_endpoint()
        talk.services[0].finish()
        talk.exchange()
        assert kinds(talk) == [Opened, Finished, Closed]
        assert talk.links == []


class TestReconfigure:
    def test_the_next_connection_declares_it(self) -> None:
        talk = draining()
        assert [service.config for service in talk.services] == [
            checked_config(AUDIO_CONFIG),
            checked_config(SPANISH),
        ]
        assert talk.stream.config == checked_config(SPANISH)

    def test_the_same_one_changes_nothing(self) -> None:
        talk = conversation()
        talk.stream.reconfigure(AUDIO_CONFIG, 0.0)
        talk.wait(0)
        assert len(talk.links) == 1

    def test_one_that_was_changed_in_place(self) -> None:
        config = checked_config(AUDIO_CONFIG)
        stream = RecoveringSTTStream(URL, config, reconnect=ReconnectPolicy())
        stream.connect(0.0)
        stream.links_to_open()[0].upgraded(0.0)
        config.language_hints = ["es"]
        stream.reconfigure(config, 0.0)
        stream.handle_timeout(0.0)
        assert len(stream.links_to_open()) == 1

    def test_the_last_one_counts(self) -> None:
        talk = waiting_for_an_endpoint()
        french = {**AUDIO_CONFIG, "language_hints": ["fr"]}
        talk.stream.reconfigure(french, talk.now)
        talk.wait(0)
        assert len(talk.links) == 2
        talk.endpoint()
        talk.stream.reconfigure(SPANISH, talk.now)
        talk.wait(0)
        assert len(talk.links) == 2, "the connection before is still draining"
        talk.drain()
        talk.wait(30_000)
        hints = [service.config.language_hints for service in talk.services if service.config]
        assert hints == [None, ["es"], ["fr"], ["es"]]

    @pytest.mark.parametrize("carry_context", [False, True])
    def test_what_was_said_is_context(self, carry_context: bool) -> None:
        talk = conversation(carry_context=carry_context)
        talk.send(1000)
        talk.endpoint()
        lose(talk, talk.links[0][0])
        talk.wait(1000)
        talk.stream.reconfigure({**SPANISH, "context": "numbers"}, talk.now)
        talk.wait(0)
        carried = [service.config.context for service in talk.services if service.config]
        said = StructuredContext(text="one two")
        expected = [None, said, "numbers\none two"] if carry_context else [None, None, "numbers"]
        assert carried == expected
        assert talk.stream.config.context == "numbers"

    def test_while_no_connection_is_there(self) -> None:
        talk = conversation()
        lose(talk, talk.links[0][0])
        talk.stream.reconfigure(SPANISH, talk.now)
        talk.wait(2000)
        assert talk.services[-1].config == checked_config(SPANISH)
        assert kinds(talk) == [Opened, Reconnecting, Reconnected]

    def test_before_the_session_is_open(self) -> None:
        stream = RecoveringSTTStream(URL, AUDIO_CONFIG, reconnect=ReconnectPolicy())
        stream.connect(0.0)
        (link,) = stream.links_to_open()
        stream.reconfigure(SPANISH, 0.0)
        assert stream.next_timeout() == 10.0
        assert [type(event) for event in link.upgraded(1.0)] == [Opened]
        (standby,) = stream.links_to_open()
        assert [type(event) for event in standby.upgraded(2.0)] == [RolledOver]

    @pytest.mark.parametrize(
        ("field", "value"),
        [("audio_format", "pcm_s16le"), ("sample_rate", 8000), ("num_channels", 2)],
    )
    def test_the_audio_cannot_change(self, field: str, value: object) -> None:
        talk = conversation()
        with pytest.raises(
            SonioxValidationError, match=f"{field} cannot change .* {value!r}; open"
        ):
            talk.stream.reconfigure({**SPANISH, field: value}, 0.0)
        with pytest.raises(SonioxValidationError):
            talk.stream.reconfigure({**SPANISH, "language_hints": ["nonsense"]}, 0.0)
        assert talk.stream.config == checked_config(AUDIO_CONFIG)
        talk.stream.finish(0.0)
        with pytest.raises(SonioxStateError, match="end-of-audio was already sent"):
            talk.stream.reconfigure(SPANISH, 0.0)

    @pytest.mark.parametrize("audio_format", ["mp3", "auto"])
    def test_a_container_cannot_go_on(self, audio_format: str) -> None:
        config = {"model": "m", "audio_format": audio_format}
        stream = RecoveringSTTStream(URL, config, reconnect=ReconnectPolicy())
        stream.connect(0.0)
        other = {**config, "language_hints": ["es"]}
        if audio_format == "auto":
            with pytest.raises(SonioxStateError, match="send its beginning first"):
                stream.reconfigure(other, 0.0)
            stream.send_audio(b"ID3 is no WAV file", 0.0)
        with pytest.raises(SonioxStateError, match="audio in a container"):
            stream.reconfigure(other, 0.0)

    def test_a_wav_file_goes_on_as_what_is_in_it(self) -> None:
        talk = Conversation(WORDS, ReconnectPolicy(), [], audio_format="auto")
        talk.stream.send_audio(WAV_HEADER, talk.now)
        talk.head_sent = len(WAV_HEADER)
        talk.send(1000)
        config = {"model": "stt-rt-v5", "audio_format": "auto", "language_hints": ["es"]}
        talk.stream.reconfigure(config, talk.now)
        talk.wait(0)
        assert talk.services[1].config == checked_config(SPANISH)
        assert talk.stream.config == checked_config(config)
        talk.send(2000)
        talk.end()
        assert text(talk) == " one two three four five"

    def test_it_needs_a_policy(self) -> None:
        stream = RealtimeSTTStream(URL, AUDIO_CONFIG)
        stream.connect(0.0)
        for machine in (stream, WarmStream(stream)):
            with pytest.raises(SonioxStateError, match="reconnect=ReconnectPolicy"):
                machine.reconfigure(SPANISH, 0.0)
