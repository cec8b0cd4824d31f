"""Sessions whose connections are cut anywhere give the words of sessions that are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    Closed,
    Event,
    Finalized,
    Link,
    Opened,
    Outcome,
    Reconnected,
    Reconnecting,
    ReconnectPolicy,
    RecoveringSTTStream,
    Result,
    SonioxConnectionError,
    Token,
)
from tests.support.core.model_service import AUDIO_CONFIG, WAV_HEADER, ModelService, Word, audio

URL = "ws://127.0.0.1:1/transcribe-websocket"

LONGEST_LETTER_MS = 100
"""A word is known to have begun once its first letter has been said. Until then only the lead-in
makes sure that a new connection hears it from its start."""


@dataclass
class Conversation:
    """A recovering session and the service, which is a new one for each connection."""

    words: list[Word]
    policy: ReconnectPolicy
    drops: list[int]
    """For each connection, the bytes to the client after which it is cut."""
    now: float = 0.0
    events: list[Event] = field(default_factory=list[Event])
    links: list[tuple[Link, ModelService]] = field(default_factory=list[tuple[Link, ModelService]])
    sent_ms: int = 0
    audio_format: str = "raw"
    """`raw`; `auto` or `wav` for audio in a WAV file; or another container, which the model of the
    service takes to have no header."""
    head_sent: int = 0
    """Bytes of the WAV header that were sent."""
    services: list[ModelService] = field(default_factory=list[ModelService])
    """One for each connection."""
    hints: int = 0
    """How often the configuration was changed."""
    config: dict[str, Any] = field(default_factory=lambda: AUDIO_CONFIG)
    """The first one, for raw audio."""

    def __post_init__(self) -> None:
        config = self.config
        if self.audio_format != "raw":
            config = {"model": "stt-rt-v5", "audio_format": self.audio_format}
        if self.audio_format not in {"auto", "wav"}:
            self.head_sent = len(WAV_HEADER)
        self.stream = RecoveringSTTStream(
            URL, config, reconnect=self.policy, keepalive_interval=None, ping_interval=None
        )
        self.stream.connect(self.now)
        self.exchange()

    def exchange(self) -> None:
        """Open what is wanted and move bytes until nothing moves."""
        moved = True
        while moved:
            moved = False
            for link in self.stream.links_to_open():
                drop_at = self.drops.pop(0) if self.drops else None
                self.services.append(ModelService(self.words, self.now, drop_at))
                self.links.append((link, self.services[-1]))
                self.events += link.opened(self.now)
                moved = True
            for link, service in list(self.links):
                service.now = self.now
                out = link.data_to_send()
                if out:
                    service.receive(out)
                    moved = True
                data, cut = service.take_output()
                if data:
                    self.events += link.receive_data(data, self.now)
                    moved = True
                if cut and not link.closed:
                    self.events += link.receive_eof(self.now)
                    moved = True
                if link.closed:
                    self.links.remove((link, service))

    def wait(self, ms: int) -> None:
        end = self.now + ms / 1000
        while (due := self.stream.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.events += self.stream.handle_timeout(self.now)
            self.exchange()
        self.now = end
        self.exchange()

    def send(self, ms: int) -> None:
        head = WAV_HEADER[self.head_sent :]
        if head:
            # In two pieces, so that a connection may be cut in between.
            cut = len(WAV_HEADER) // 2
            head = head[:cut]
            self.head_sent += len(head)
            self.stream.send_audio(head, self.now)
            self.wait(0)
            if self.head_sent < len(WAV_HEADER):
                return
        self.stream.send_audio(audio(self.sent_ms, self.sent_ms + ms), self.now)
        self.sent_ms += ms
        self.wait(ms)

    def recognize(self, final_lag_ms: int) -> None:
        for _, service in self.links:
            if not service.finished:
                heard = len(service.heard)
                service.recognize(heard - final_lag_ms, heard)
        self.exchange()

    def answer(self) -> None:
        for _, service in self.links:
            if service.finalizes and not service.finished:
                service.answer_finalize()
        self.exchange()

    def cut(self, which: int | None = None) -> None:
        """Cut all connections, or one if there is such."""
        links = list(self.links)
        for link, _ in links if which is None else links[which : which + 1]:
            error = SonioxConnectionError("cut")
            error.retryable = True
            self.events += link.failed(error, self.now)
        self.exchange()

    def reconfigure(self) -> None:
        """Change the configuration, where that is possible: not before the audio has begun."""
        self.hints += 1
        config = {
            **self.stream.config.model_dump(exclude_unset=True),
            "client_reference_id": str(self.hints),
        }
        if self.audio_format in {"raw", "wav", "auto"} and self.sent_ms:
            self.stream.reconfigure(config, self.now)
            self.wait(0)

    def endpoint(self) -> None:
        """Have the service report an endpoint on each connection that still gets audio."""
        for _, service in self.links:
            if not service.ended and not service.finished:
                service.endpoint()
        self.exchange()

    def drain(self) -> None:
        """Have the service finish each connection whose audio is over."""
        for _, service in self.links:
            if service.ended and not service.finished:
                service.finish()
        self.exchange()

    def end(self) -> None:
        """End the audio, and let the service answer until the session is over."""
        self.stream.finish(self.now)
        self.wait(0)
        for _ in range(400):
            if self.stream.closed:
                return
            # The server closes after the finished response.
            self.drain()
            self.wait(100)
        raise AssertionError("the session does not end")

    @property
    def tokens(self) -> list[Token]:
        return [
            token
            for event in self.events
            if isinstance(event, Result)
            for token in event.message.tokens
            if token.is_final and token.text not in {"<fin>", "<end>"}
        ]


def truth(words: list[Word], total_ms: int) -> str:
    service = ModelService(words)
    service.heard = list(range(total_ms))
    return "".join(t["text"] for t in service._tokens(0, total_ms, final=True))


words_said = st.lists(
    st.tuples(
        st.sampled_from([" a", " talk", " weather", " it", "s", " extraordinarily", " no"]),
        st.integers(20, 1600),
        st.sampled_from([0, 0, 30, 400]),
    ),
    max_size=14,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from([7, 20, 120, 250, 500, 1000])),
        st.tuples(st.just("recognize"), st.sampled_from([0, 35, 250, 900, 2000])),
        st.tuples(st.just("finalize"), st.just(0)),
        st.tuples(st.just("answer"), st.just(0)),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.just("error"), st.sampled_from([503, 413, 500])),
        st.tuples(st.just("wait"), st.sampled_from([10, 300, 3000, 31_000])),
        st.tuples(st.sampled_from(["roll over", "roll over", "endpoint"]), st.just(0)),
        st.tuples(st.sampled_from(["drain", "cut first", "cut second"]), st.just(0)),
    ),
    max_size=40,
)


def said(spoken: list[tuple[str, int, int]]) -> list[Word]:
    words: list[Word] = []
    at = 100
    for text, length, gap in spoken:
        length = min(max(length, 2 * len(text)), LONGEST_LETTER_MS * len(text))
        if not text.startswith(" "):
            # It goes on with the word before. After a pause, at the start of a connection, it would
            # be a word of its own: the service leaves out the first space.
            gap = 0
        words.append(Word(text, at + gap, at + gap + length))
        at += gap + length
    return words


def run(conversation: Conversation, script: list[tuple[str, int]]) -> None:
    stream = conversation.stream
    for step, value in script:
        match step:
            case "send":
                conversation.send(value)
            case "recognize":
                conversation.recognize(value)
            case "finalize":
                stream.finalize(conversation.now)
                conversation.exchange()
            case "answer":
                conversation.answer()
            case "cut":
                conversation.cut()
            case "cut first":
                conversation.cut(0)
            case "cut second":
                conversation.cut(1)
            case "roll over":
                conversation.reconfigure()
            case "endpoint":
                conversation.endpoint()
            case "drain":
                conversation.drain()
            case "error":
                for _, service in conversation.links:
                    if not service.finished:
                        kind = {503: "service_unavailable", 413: "max_duration_reached"}
                        service.error(value, kind.get(value, "internal_error"), "again")
                conversation.exchange()
            case _:
                conversation.wait(value)
        assert not stream.closed


@given(
    spoken=words_said,
    script=steps,
    drops=st.lists(st.integers(0, 4000), max_size=3),
    lead_in_ms=st.sampled_from([LONGEST_LETTER_MS, 1000]),
    audio_format=st.sampled_from(["raw", "raw", "wav", "auto", "mp3"]),
    rollover_after=st.sampled_from([None, 0.2, 2.0]),
)
def test_the_final_words_are_those_of_a_session_without_a_cut(
    spoken: list[tuple[str, int, int]],
    script: list[tuple[str, int]],
    drops: list[int],
    lead_in_ms: int,
    audio_format: str,
    rollover_after: float | None,
) -> None:
    words = said(spoken)
    policy = ReconnectPolicy(max_attempts=50, lead_in_ms=lead_in_ms, rollover_after=rollover_after)
    conversation = Conversation(words, policy, drops, audio_format=audio_format)
    run(conversation, [("send", 20), ("send", 20), ("send", 20), *script])
    conversation.end()
    stream, events = conversation.stream, conversation.events
    assert stream.outcome is Outcome.FINISHED
    assert "".join(token.text for token in conversation.tokens) == truth(
        words, conversation.sent_ms
    )
    if audio_format != "mp3":
        check_times(conversation)
    assert sum(isinstance(event, Opened) for event in events) <= 1
    assert [type(event) for event in events[-1:]] == [Closed]
    assert sum(isinstance(event, Closed) for event in events) == 1
    answers = [event.finalize_index for event in events if isinstance(event, Finalized)]
    assert answers == sorted(set(answers), key=answers.index)
    assert stream.stats.lost_audio_ms == 0
    reconnected = [event for event in events if isinstance(event, Reconnected)]
    assert stream.stats.reconnects == len(reconnected)
    assert all(event.lost_ms == 0 for event in reconnected)
    assert len(reconnected) <= sum(isinstance(event, Reconnecting) for event in events)


def check_times(conversation: Conversation) -> None:
    """Each letter that was given out ends where it was said, within a frame."""
    service = ModelService(conversation.words)
    service.heard = list(range(conversation.sent_ms))
    letters: list[tuple[int, int]] = []
    for word in conversation.words:
        length, count = word.end_ms - word.begin_ms, len(word.text)
        ends = [word.begin_ms + length * (k + 1) // count for k in range(count)]
        letters += zip([word.begin_ms, *ends], ends, strict=False)
    at = 0
    for token in conversation.tokens:
        assert token.start_ms is not None
        assert token.end_ms is not None
        assert abs(token.start_ms - letters[at][0]) <= 1
        at += len(token.text)
        assert abs(token.end_ms - letters[at - 1][1]) <= 1
