"""Audio with a header: what later connections declare and get, and when none can follow."""

from __future__ import annotations

from typing import Any

import pytest

from soniox_proto import (
    Closed,
    EndpointDetected,
    Finalized,
    Outcome,
    Reconnected,
    ReconnectPolicy,
    RecoveringSTTStream,
    SonioxConnectionError,
    SonioxStateError,
)
from tests.core.recovery.test_no_word_is_lost import URL, Conversation
from tests.support.core.model_service import WAV_HEADER, ModelService, Word, audio
from tests.support.wav_files import chunk_of, format_chunk, riff

WORDS = [
    Word(" one", 100, 400),
    Word(" two", 500, 800),
    Word(" three", 900, 1300),
    Word(" four", 1400, 1700),
]
ADPCM = riff(format_chunk(codec=2), chunk_of(b"data", b"", 0xFFFF_FFFF))
BROKEN = riff(format_chunk(sample_rate=0))


def conversation(audio_format: str, **fields: Any) -> Conversation:
    policy = ReconnectPolicy(**{"jitter": False, "initial_delay": 1.0, **fields})
    return Conversation(WORDS, policy, [], audio_format=audio_format)


def cut(talk: Conversation) -> None:
    """Lose the present connection."""
    ((link, _),) = talk.links
    talk.events += link.failed(SonioxConnectionError("gone"), talk.now)
    talk.exchange()


def text(talk: Conversation) -> str:
    return "".join(token.text for token in talk.tokens)


class TestWav:
    @pytest.mark.parametrize("declared", ["wav", "auto"])
    def test_is_raw_audio_on_later_connections(self, declared: str) -> None:
        talk = conversation(declared)
        for _ in range(16):
            talk.send(100)
        talk.recognize(300)
        cut(talk)
        talk.wait(1000)
        talk.send(400)
        talk.end()
        assert text(talk) == " one two three four"
        first, second = talk.services
        assert (first.formats, second.formats) == ([declared], ["pcm_s32le"])
        assert first.heard[0] == 0
        assert second.heard[0] > 0
        assert second.wav is None
        assert talk.stream.config.audio_format == declared
        assert [token.end_ms for token in talk.tokens][-1] == 1700
        (again,) = [event for event in talk.events if isinstance(event, Reconnected)]
        assert (again.replayed_ms, again.lost_ms) == (1500 - second.heard[0], 0)

    @pytest.mark.parametrize("size", [0, 1, 30, len(WAV_HEADER) - 1])
    def test_whose_header_did_not_arrive_is_still_a_file(self, size: int) -> None:
        talk = conversation("wav")
        stream = talk.stream
        stream.send_audio(WAV_HEADER[:size], 0.0)
        cut(talk)
        talk.wait(1000)
        stream.send_audio(WAV_HEADER[size:] + audio(0, 1800), talk.now)
        talk.sent_ms = 1800
        talk.exchange()
        talk.end()
        assert [service.formats for service in talk.services] == [["wav"], ["wav"]]
        assert text(talk) == " one two three four"

    def test_whose_header_arrives_while_a_connection_is_opened(self) -> None:
        talk = conversation("wav")
        cut(talk)
        stream = talk.stream
        stream.handle_timeout(1.0)
        (link,) = stream.links_to_open()
        stream.send_audio(WAV_HEADER + audio(0, 1800), 1.0)
        service = ModelService(WORDS)
        talk.links.append((link, service))
        talk.now = 1.0
        talk.events += link.opened(1.0)
        talk.exchange()
        talk.end()
        assert service.formats == ["wav"]
        assert text(talk) == " one two three four"

    def test_what_follows_the_samples_is_no_audio(self) -> None:
        talk = conversation("wav")
        file = riff(
            format_chunk(sample_rate=1000, bits=32), chunk_of(b"data", audio(0, 1000))
        ) + chunk_of(b"LIST", b"tags")
        for chunk in (file, b"more"):
            talk.stream.send_audio(chunk, 0.0)
        talk.exchange()
        talk.end()
        assert len(talk.services[0].heard) == 1000

    def test_a_finalize_ahead_of_the_header(self) -> None:
        talk = conversation("wav")
        talk.stream.finalize(0.0)
        talk.exchange()
        talk.answer()
        talk.stream.send_audio(WAV_HEADER + audio(0, 1800), 0.0)
        talk.sent_ms = 1800
        talk.exchange()
        talk.end()
        assert text(talk) == " one two three four"
        assert sum(isinstance(event, Finalized) for event in talk.events) == 1


class TestOtherContainers:
    @pytest.mark.parametrize("declared", ["mp3", "auto"])
    def test_are_sent_again_from_their_start(self, declared: str) -> None:
        talk = conversation(declared)
        talk.head_sent = len(WAV_HEADER)
        stream = talk.stream
        for _ in range(7):
            talk.send(100)
        stream.finalize(talk.now)
        talk.exchange()
        talk.answer()
        for _ in range(5):
            talk.send(100)
        talk.recognize(0)
        cut(talk)
        talk.wait(1000)
        talk.send(600)
        stream.finalize(talk.now)
        talk.exchange()
        talk.answer()
        talk.answer()
        talk.end()
        assert stream.outcome is Outcome.FINISHED
        assert text(talk) == " one two three four"
        first, second = talk.services
        assert first.formats == second.formats == [declared]
        assert second.heard == list(range(1800))
        answers = [event.finalize_index for event in talk.events if isinstance(event, Finalized)]
        assert answers == [0, 1]
        assert first.pads[0] == second.pads[0]
        (again,) = [event for event in talk.events if isinstance(event, Reconnected)]
        assert again.lost_ms == 0
        assert again.replayed_ms > 1200

    def test_one_that_was_not_heard_to_its_end_is_sent_again(self) -> None:
        talk = conversation("mp3")
        talk.send(1800)
        talk.recognize(0)
        talk.stream.finish(talk.now)
        cut(talk)
        assert not talk.stream.closed
        talk.wait(1000)
        talk.end()
        assert text(talk) == " one two three four"

    @pytest.mark.parametrize("head", [ADPCM, BROKEN, b"ID3 mp3", WAV_HEADER[:20]])
    def test_the_header_is_theirs_to_send(self, head: bytes) -> None:
        talk = conversation("auto")
        ((link, _),) = talk.links
        talk.stream.send_audio(head, 0.0)
        talk.stream.finish(0.0)
        sent = link.data_to_send()
        assert len(sent) >= len(head) + 2 * 6, "the head in one frame, and end-of-audio"

    def test_ends_with_its_connection_once_it_is_too_long(self) -> None:
        talk = conversation("mp3", max_replay_seconds=1.0)
        talk.send(900)
        talk.recognize(0)
        cut(talk)
        assert not talk.stream.closed
        talk.wait(1000)
        talk.send(400)
        talk.stream.finalize(talk.now)
        talk.exchange()
        talk.answer()
        talk.stream.finalize(talk.now)
        talk.exchange()
        talk.answer()
        talk.send(400)
        talk.recognize(0)
        cut(talk)
        assert [type(event) for event in talk.events[-1:]] == [Closed]
        assert talk.stream.outcome is Outcome.LOST
        assert str(talk.stream.error) == "gone"
        assert text(talk) == " one two three four"

    def test_ends_with_its_connection_once_it_is_too_large(self) -> None:
        talk = conversation("mp3", max_replay_seconds=0.01)
        for size in (1920, 4, 4):
            talk.stream.send_audio(bytes(size), talk.now)
        assert not talk.stream.holds_too_much
        cut(talk)
        assert talk.stream.outcome is Outcome.LOST

    def test_what_is_held_for_a_connection_is_not_dropped(self) -> None:
        talk = conversation("mp3", max_replay_seconds=0.01)
        stream = talk.stream
        cut(talk)
        stream.send_audio(audio(0, 480), talk.now)
        assert stream.holds_too_much
        with pytest.raises(SonioxStateError, match="wait while holds_too_much"):
            stream.send_audio(audio(480, 481), talk.now)
        talk.wait(1000)
        assert not stream.holds_too_much
        stream.send_audio(audio(480, 1800), talk.now)
        talk.sent_ms = 1800
        talk.exchange()
        talk.end()
        assert text(talk) == " one two three four"

    def test_too_long_while_it_is_being_sent_again(self) -> None:
        talk = conversation("mp3", max_replay_seconds=2.0, replay_burst_seconds=0.1)
        for _ in range(17):
            talk.send(100)
        talk.recognize(0)
        cut(talk)
        talk.wait(1000)
        assert len(talk.services[1].heard) < 1700
        service = talk.services[1]
        service.server.send_result({"tokens": [], "total_audio_proc_ms": 2500}, talk.now)
        talk.exchange()
        talk.wait(9000)
        assert service.heard == list(range(1700))
        talk.send(100)
        cut(talk)
        assert talk.stream.closed


def test_an_endpoint_is_reported_once_although_its_audio_comes_twice() -> None:
    talk = conversation("mp3")
    talk.send(900)
    for _ in range(2):
        service = talk.services[-1]
        end = {"text": "<end>", "is_final": True}
        service.server.send_result(
            {"tokens": [*service._tokens(0, 900, final=True), end]}, talk.now
        )
        talk.exchange()
        if len(talk.services) == 1:
            cut(talk)
            talk.wait(1000)
    endpoints = [event for event in talk.events if isinstance(event, EndpointDetected)]
    assert [endpoint.position_ms for endpoint in endpoints] == [800]


def test_a_stream_takes_every_format() -> None:
    for audio_format in ("auto", "wav", "webm"):
        config = {"model": "m", "audio_format": audio_format}
        stream = RecoveringSTTStream(URL, config, reconnect=ReconnectPolicy())
        assert not stream.holds_too_much
        stream.connect(0.0)
        (link,) = stream.links_to_open()
        assert not link.closed
