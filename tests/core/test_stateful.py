"""The client core beside a model of it, under whatever user, server, network and clock do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from soniox_proto import (
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    Opened,
    Result,
    ServerError,
    SonioxStateError,
    SonioxValidationError,
)
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import Opcode
from tests.support.core.messages import FINALIZE, FINISHED, KEEPALIVE, UNAUTHENTICATED, result
from tests.support.core.model import MAX_PENDING_AUDIO, Model

GARBAGE = frames.encode(3)


class Session(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.client = Client(max_pending_audio=MAX_PENDING_AUDIO)
        self.model = Model()
        self.connection = self.client.connection
        self.steps = 0
        self.end_after = 0

    @initialize(
        begin=st.sampled_from(["open"] * 5 + ["connecting", "idle"]), steps=st.integers(0, 15)
    )
    def begin(self, begin: str, steps: int) -> None:
        """Most sessions open, and live for some steps, before anything may end them."""
        if begin != "idle":
            self.connect()
        if begin == "open":
            self.accept()
        self.end_after = steps

    def may_begin_to_end(self) -> bool:
        return self.steps >= self.end_after

    def may_end_at_once(self) -> bool:
        return self.steps >= self.end_after + 8

    def is_begun(self) -> bool:
        return self.model.state != "IDLE"

    def is_connecting(self) -> bool:
        return self.model.state == "CONNECTING"

    def is_accepted(self) -> bool:
        return self.model.accepted

    def has_pinged(self) -> bool:
        return self.model.pings > 0

    @property
    def now(self) -> float:
        return self.client.now

    def attempt(self, allowed: bool, call: Callable[[], None]) -> bool:
        """Call; return whether it was carried out, which is to be if it is allowed."""
        before = self.connection.next_timeout()
        try:
            call()
        except SonioxStateError:
            assert not allowed, "refused what is possible"
            assert self.connection.data_to_send() == b""
            assert self.connection.next_timeout() == before
            return False
        assert allowed, "took what is not possible"
        return True

    def hear(self, events: list[Event], *expected: type) -> None:
        """Compare what a feeding call returned; `Closed` is expected if the model is closed."""
        kinds = [type(event) for event in events]
        if self.model.event_waits:
            self.model.event_waits = False
            expected = (Closed,)
        assert kinds == list(expected)

    def feed(self, data: bytes, *expected: type) -> None:
        if not self.model.live:
            expected = ()
        self.hear(self.client.feed(data), *expected)

    # The user

    @rule()
    def connect(self) -> None:
        allowed = self.model.state == "IDLE"
        if self.attempt(allowed, lambda: self.connection.connect(self.now)):
            self.client.request = self.connection.data_to_send()
            self.model.connect(self.now)

    @rule(chunk=st.binary(max_size=20))
    def audio(self, chunk: bytes) -> None:
        model = self.model
        full = (
            model.state == "CONNECTING"
            and not model.paused
            and len(model.audio + chunk) > MAX_PENDING_AUDIO
        )
        allowed = model.may_speak and (not full or not chunk)
        if self.attempt(allowed, lambda: self.connection.send_audio(chunk, self.now)) and chunk:
            if model.paused:
                model.dropped += len(chunk)
            else:
                model.say(chunk, self.now)

    @rule(finalize=st.booleans())
    def pause(self, finalize: bool) -> None:
        call = self.attempt(self.model.may_speak, lambda: self.connection.pause(self.now, finalize))
        if call and not self.model.paused:
            self.model.paused = True
            if finalize:
                self.model.say(FINALIZE, self.now)
                self.model.unanswered_finalizes += 1

    @rule()
    def resume(self) -> None:
        if self.attempt(self.model.may_resume, lambda: self.connection.resume(self.now)):
            self.model.paused = False

    @rule()
    def finalize(self) -> None:
        if self.attempt(self.model.may_speak, lambda: self.connection.finalize(self.now)):
            self.model.say(FINALIZE, self.now)
            self.model.unanswered_finalizes += 1

    @rule()
    def keep_alive(self) -> None:
        if self.attempt(self.model.may_speak, lambda: self.connection.keep_alive(self.now)):
            self.model.say(KEEPALIVE, self.now)

    @rule()
    def finish(self) -> None:
        if self.attempt(self.model.may_finish, lambda: self.connection.finish(self.now)):
            self.model.finish()

    @precondition(may_begin_to_end)
    @rule()
    def close(self) -> None:
        self.connection.close(self.now)
        self.model.close(self.now)

    @precondition(may_end_at_once)
    @rule()
    def abort(self) -> None:
        self.connection.abort(self.now)
        self.model.abort()

    @rule(chunk=st.sampled_from(["text", None, memoryview(b"abc")[::2]]))
    def send_what_is_no_audio(self, chunk: Any) -> None:
        try:
            self.connection.send_audio(chunk, self.now)
        except (SonioxStateError, SonioxValidationError, TypeError):
            return
        raise AssertionError("took what is no audio")

    @rule(silence=st.sampled_from([-1, 0.5, True]))
    def finalize_with_what_is_no_time(self, silence: Any) -> None:
        try:
            self.connection.finalize(self.now, silence)
        except (SonioxStateError, SonioxValidationError):
            return
        raise AssertionError("took what is no time")

    # The server

    @precondition(is_connecting)
    @rule()
    def accept(self) -> None:
        self.model.accept(self.now)
        self.feed(frames.switching_protocols(self.client.request), Opened)

    @precondition(is_connecting)
    @precondition(may_end_at_once)
    @rule(status=st.sampled_from(["401 Unauthorized", "402 Pay", "429 Slow", "503 Busy"]))
    def reject(self, status: str) -> None:
        self.hear(self.client.feed(frames.refusal(status, b"why")), Closed)
        self.model.end("REJECTED")

    @precondition(is_accepted)
    @rule(markers=st.lists(st.sampled_from(["word", "<end>", "<fin>"]), max_size=3))
    def server_result(self, markers: list[str]) -> None:
        kinds = {"<end>": EndpointDetected, "<fin>": Finalized}
        expected = [kinds[marker] for marker in markers if marker in kinds]
        start = len(self.client.events)
        self.feed(frames.text(result(*markers)), Result, *expected)
        for event in self.client.events[start:]:
            if isinstance(event, Finalized):
                answered = self.model.unanswered_finalizes > 0
                assert (event.finalize_index is not None) is answered
                self.model.unanswered_finalizes -= answered

    @precondition(is_accepted)
    @precondition(may_begin_to_end)
    @rule(message=st.sampled_from([FINISHED, UNAUTHENTICATED]))
    def server_end(self, message: str) -> None:
        kind = Finished if message == FINISHED else ServerError
        outcome = "FINISHED" if message == FINISHED else "SERVER_ERROR"
        self.feed(frames.text(message), Result, *[kind] * self.model.may_come_to_an_end)
        if self.model.live:
            self.model.begin_closing(outcome, self.now)

    @precondition(is_accepted)
    @precondition(may_end_at_once)
    @rule(code=st.sampled_from([1000, 1001, 1011, 4000]))
    def server_close(self, code: int) -> None:
        self.feed(frames.close(code), Closed)
        if self.model.live:
            self.model.send_close(code)
            self.model.end("CLOSED_BY_SERVER" if code < 1002 else "LOST")

    @precondition(is_accepted)
    @rule(payload=st.binary(max_size=4))
    def server_ping(self, payload: bytes) -> None:
        self.feed(frames.ping(payload))
        if self.model.live and not self.model.close_codes:
            self.model.pongs.append(payload)

    @precondition(has_pinged)
    @rule()
    def server_pong(self) -> None:
        self.feed(frames.pong(self.model.pings.to_bytes(4, "big")))
        if self.model.live:
            self.model.ping_outstanding = False
            self.model.due.pop("pong", None)

    @precondition(is_begun)
    @precondition(may_end_at_once)
    @rule()
    def garbage(self) -> None:
        connecting = self.model.state == "CONNECTING"
        data = b"\0garbage\r\n\r\n" if connecting else GARBAGE
        self.hear(self.client.feed(data), *[Closed] * (self.model.live or connecting))
        if self.model.live:
            self.model.send_close(1002)
        self.model.end("LOST")

    # The network and the clock

    @precondition(may_end_at_once)
    @rule()
    def eof(self) -> None:
        started = self.model.live or self.model.state == "CONNECTING"
        self.hear(self.client.eof(), *[Closed] * started)
        if started:
            self.model.end("LOST")

    @rule(seconds=st.floats(0.0, 30.0))
    def advance(self, seconds: float) -> None:
        """Time passes, and every deadline is served when it is due."""
        end = self.now + seconds
        while (deadline := self.connection.next_timeout()) is not None and deadline <= end:
            self.client.now = max(self.now, deadline)
            self.serve()
        self.client.now = end

    @rule(seconds=st.floats(0.0, 100.0))
    def oversleep(self, seconds: float) -> None:
        """Time passes, and nothing is served until the end."""
        self.client.now += seconds
        self.serve()

    @rule(seconds=st.floats(0.0, 30.0))
    def sleep(self, seconds: float) -> None:
        """Time passes, and something else happens first."""
        self.client.now += seconds

    @rule(seconds=st.floats(0.0, 1e6))
    def clock_runs_backwards(self, seconds: float) -> None:
        present = self.now
        self.serve()
        self.client.now -= seconds
        self.serve(present)
        self.client.now = present

    def serve(self, now: float | None = None) -> None:
        now = self.now if now is None else now
        was_closed = self.model.state == "CLOSED"
        self.model.tick(now)
        newly_closed = self.model.state == "CLOSED" and not was_closed
        self.hear(self.client.timeout(), *[Closed] * newly_closed)
        deadline = self.connection.next_timeout()
        assert deadline is None or deadline > now

    # What always holds

    @invariant()
    def steps_are_counted(self) -> None:
        self.steps += 1

    @invariant()
    def the_wire_is_as_the_model_says(self) -> None:
        model = self.model
        sent = self.client.messages
        assert sent == (model.messages if model.accepted else [])
        assert self.client.close_codes == model.close_codes
        kinds = [frame.opcode for frame in self.client.frames]
        assert kinds.count(Opcode.PING) == model.pings
        pongs = [frame.payload for frame in self.client.frames if frame.opcode is Opcode.PONG]
        assert pongs == model.pongs
        assert Opcode.CLOSE not in kinds[:-1], "nothing follows a close frame"
        if "" in sent:
            assert sent.index("") == len(sent) - 1, "nothing follows the end of the audio"

    @invariant()
    def the_views_are_as_the_model_says(self) -> None:
        connection, model = self.connection, self.model
        assert connection.state.name == model.state
        assert connection.closed is (model.state == "CLOSED")
        assert connection.paused is model.paused
        assert connection.stats.sent_audio_bytes == len(model.audio)
        assert connection.stats.dropped_while_paused_bytes == model.dropped
        if connection.closed:
            assert (connection.outcome and connection.outcome.name) == model.outcome

    @invariant()
    def the_next_deadline_is_as_the_model_says(self) -> None:
        expected = min(self.model.due.values(), default=None)
        if self.model.event_waits:
            assert (self.connection.next_timeout() or 0.0) <= self.now
        else:
            assert self.connection.next_timeout() == expected

    @invariant()
    def closed_comes_once_and_last(self) -> None:
        ends = [event for event in self.client.events if isinstance(event, Closed)]
        begun = self.client.request != b""
        closed = self.model.state == "CLOSED" and not self.model.event_waits
        assert len(ends) == (begun and closed)
        if ends:
            assert self.client.events[-1] is ends[0]
            assert ends[0].outcome.name == self.model.outcome


TestSession = Session.TestCase
TestSession.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
