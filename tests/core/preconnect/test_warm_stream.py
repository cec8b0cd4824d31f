"""Sessions that begin on a connection opened before, alive or dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    APIKey,
    Authentication,
    Closed,
    Endpoint,
    Event,
    Finished,
    Link,
    Opened,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTStream,
    ReconnectPolicy,
    RecoveringSTTStream,
    Result,
    ServerError,
    SessionState,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxInvalidRequestError,
    SonioxTimeoutError,
    SonioxValidationError,
    Stream,
    UpgradeRequest,
)
from soniox_proto.messages import start_message
from soniox_proto.preconnect.idle_link import IdleLink
from soniox_proto.preconnect.warm_links import TRIAL_SECONDS
from soniox_proto.preconnect.warm_stream import WarmStream
from tests.support.core import frames
from tests.support.core.client import URL
from tests.support.core.frames import Frame, Opcode
from tests.support.core.messages import API_KEY, FINISHED, UNAUTHENTICATED, error, result
from tests.support.core.protocol import kinds

ENDPOINT = Endpoint.parse(URL)
RAW = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)
START = start_message(RAW)
REQUEST_TIMEOUT = error(408, "request_timeout", "Start request timeout")
INVALID = error(400, "invalid_request", "Invalid model specified.")


def plain(**options: Any) -> Stream:
    return RealtimeSTTStream(URL, RAW, api_key=API_KEY, **options)


def recovering(**options: Any) -> Stream:
    policy = ReconnectPolicy(jitter=False)
    return RecoveringSTTStream(URL, RAW, reconnect=policy, api_key=API_KEY, **options)


BOTH = pytest.mark.parametrize("make", [plain, recovering])


def idle_link(key: str = API_KEY) -> IdleLink:
    """Return a link that was opened before, and waits."""
    link = IdleLink(ENDPOINT)
    link.connect(UpgradeRequest(APIKey(key), Authentication.HEADER, []))
    link.receive_data(frames.switching_protocols(link.data_to_send()), 0.0)
    link.take()
    return link


class Session:
    """A session that has begun on a connection opened before; `now` is its clock."""

    def __init__(self, make: Callable[..., Stream] = plain, **options: Any) -> None:
        warm_options = {
            name: options.pop(name)
            for name in ("connect_timeout", "max_pending")
            if name in options
        }
        self.stream = WarmStream(make(**options), **warm_options)
        self.now = 100.0
        self.events: list[Event] = []
        self.stream.connect(self.now)
        (link,) = self.stream.links_to_open()
        assert self.stream.can_be_warm(link)
        self.link = self.stream.warm(link, idle_link())
        self.events += self.link.opened(self.now)
        self.substitute: Link | None = None
        self.request = b""

    def sent(self, link: Link | None = None) -> list[Frame]:
        return frames.decode((link or self.link).data_to_send())

    def messages(self, link: Link | None = None) -> list[str | bytes]:
        return [frame.message for frame in self.sent(link) if frame.opcode < Opcode.CLOSE]

    def feed(self, data: bytes) -> None:
        self.events += self.link.receive_data(data, self.now)

    def pong(self) -> None:
        """Answer the ping that is on its way."""
        (ping,) = [frame for frame in self.sent() if frame.opcode is Opcode.PING]
        self.feed(frames.pong(ping.payload))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.stream.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.events += self.stream.handle_timeout(self.now)
        self.now = end

    def open_substitute(self) -> Link:
        (link,) = self.stream.links_to_open()
        assert not self.stream.can_be_warm(link)
        self.substitute = link
        self.events += link.opened(self.now)
        self.request = link.data_to_send()
        return link

    def accept(self, rest: bytes = b"") -> Link:
        """Open the substitute, and accept its upgrade; `rest` follows in the same segment."""
        link = self.open_substitute()
        data = frames.switching_protocols(self.request) + rest
        self.events += link.receive_data(data, self.now)
        return link

    @property
    def closed(self) -> Closed:
        (event,) = [event for event in self.events if isinstance(event, Closed)]
        return event


def end_of_stream(session: Session) -> None:
    session.events += session.link.receive_eof(session.now)


def broken(session: Session) -> None:
    session.events += session.link.failed(SonioxConnectionError("reset"), session.now)


def silent(session: Session) -> None:
    session.wait(TRIAL_SECONDS)


def says(data: bytes) -> Callable[[Session], None]:
    def say(session: Session) -> None:
        session.feed(data)

    return say


DEATHS: dict[str, Callable[[Session], None]] = {
    "end of stream": end_of_stream,
    "reset": broken,
    "silence": silent,
    "close frame": says(frames.close(1000)),
    "no WebSocket any more": says(b"\xff\xff\xff\xff"),
    "waited too long": says(frames.text(REQUEST_TIMEOUT) + frames.close(1000)),
    "key expired meanwhile": says(frames.text(UNAUTHENTICATED)),
    "restarting": says(frames.text(error(503, "service_unavailable", "Cannot continue"))),
}


@BOTH
def test_the_start_message_leaves_at_once_with_a_ping_behind_it(
    make: Callable[..., Stream],
) -> None:
    session = Session(make)
    assert kinds(session.events) == [Opened]
    assert session.stream.state is SessionState.OPEN
    start, ping = session.sent()
    assert start.message == START
    assert ping.opcode is Opcode.PING
    session.stream.send_audio(b"ab", session.now)
    assert session.messages() == [b"ab"]


@BOTH
def test_alive(make: Callable[..., Stream]) -> None:
    session = Session(make)
    session.pong()
    session.wait(TRIAL_SECONDS)
    assert session.stream.links_to_open() in ([], ())
    session.stream.send_audio(b"ab", session.now)
    session.stream.finish(session.now)
    assert session.messages() == [b"ab", ""]
    session.feed(frames.text(result("hi")) + frames.text(FINISHED) + frames.close(1000))
    assert kinds(session.events) == [Opened, Result, Result, Finished, Closed]
    assert session.closed.outcome is Outcome.FINISHED
    assert session.stream.closed
    assert session.link.closed


@BOTH
def test_the_time_that_a_connection_waited_is_not_that_of_the_session(
    make: Callable[..., Stream],
) -> None:
    session = Session(make)
    session.pong()
    session.wait(7.0)
    session.stream.stats.update(session.now)
    assert session.stream.stats.open_time == 7.0


@given(st.data())
def test_a_result_ends_the_trial_wherever_it_is_cut(data: st.DataObject) -> None:
    session = Session()
    received = frames.ping(b"x") + frames.text(result("hello")) + frames.text(FINISHED)
    cut = data.draw(st.integers(0, len(received)))
    for piece in (received[:cut], received[cut:]):
        session.feed(piece)
    assert kinds(session.events) == [Opened, Result, Result, Finished]
    pongs = [frame.payload for frame in session.sent() if frame.opcode is Opcode.PONG]
    assert pongs == [b"x"]


@BOTH
@pytest.mark.parametrize("death", DEATHS)
def test_dead(make: Callable[..., Stream], death: str) -> None:
    session = Session(make)
    session.stream.send_audio(b"first", session.now)
    assert session.messages() == [START, b"first"]
    session.stream.send_audio(b"second", session.now)
    DEATHS[death](session)
    assert kinds(session.events) == [Opened], "the session knows nothing"
    assert session.link.closed
    assert not session.stream.closed
    assert session.link.data_to_send() == b""
    session.stream.send_audio(b"third.", session.now)
    session.stream.finish(session.now)
    link = session.accept()
    head, _ = frames.split_head(session.request)
    assert head.values("authorization") == [f"Bearer {API_KEY}"]
    assert session.messages(link) == [START, b"first", b"second", b"third.", ""]
    # What the first connection still says is nobody's.
    session.feed(frames.text(result("ghost")))
    end_of_stream(session)
    session.events += link.receive_data(frames.text(FINISHED) + frames.close(1000), session.now)
    assert kinds(session.events) == [Opened, Result, Finished, Closed]
    assert session.closed.outcome is Outcome.FINISHED
    assert link.closed


def test_frames_that_follow_the_answer_in_one_segment() -> None:
    session = Session()
    end_of_stream(session)
    session.accept(frames.text(INVALID) + frames.close(1000))
    assert kinds(session.events) == [Opened, Result, ServerError, Closed]
    assert session.closed.outcome is Outcome.SERVER_ERROR


@given(st.data())
def test_the_answer_to_the_substitute_may_be_cut_anywhere(data: st.DataObject) -> None:
    session = Session()
    end_of_stream(session)
    link = session.open_substitute()
    received = b"HTTP/1.1 103 Early Hints\r\n\r\n" + frames.switching_protocols(session.request)
    received += frames.text(result("hello"))
    cut = data.draw(st.integers(0, len(received)))
    for piece in (received[:cut], received[cut:]):
        session.events += link.receive_data(piece, session.now)
    assert kinds(session.events) == [Opened, Result]
    assert session.messages(link) == [START]


@BOTH
@pytest.mark.parametrize(
    "message", [INVALID, error(402, None, "no money"), error(429, "limit_exceeded", "slower")]
)
def test_errors_that_concern_the_session_reach_it(
    make: Callable[..., Stream], message: str
) -> None:
    session = Session(make)
    session.feed(frames.text(message) + frames.close(1000))
    if make is recovering and '"error_code": 429' in message:
        assert kinds(session.events)[1:2] != [Closed], "its policy decides"
    else:
        assert kinds(session.events) == [Opened, Result, ServerError, Closed]
    assert session.stream.links_to_open() in ([], ())


def test_what_is_no_message_of_the_protocol_reaches_the_session() -> None:
    session = Session()
    session.feed(frames.text("nonsense"))
    assert session.closed.outcome is Outcome.LOST


@BOTH
def test_after_the_trial_a_loss_is_a_loss(make: Callable[..., Stream]) -> None:
    for loss in (end_of_stream, broken):
        session = Session(make)
        session.pong()
        loss(session)
        assert kinds(session.events)[1] is not Opened
        assert session.link.closed
        if make is plain:
            assert session.closed.outcome is Outcome.LOST


def test_a_substitute_that_is_refused() -> None:
    session = Session()
    end_of_stream(session)
    link = session.open_substitute()
    session.events += link.receive_data(frames.refusal("503 Busy", b"later"), session.now)
    assert isinstance(session.closed.error, SonioxHandshakeError)
    assert link.closed


def test_a_substitute_whose_answer_ends_early() -> None:
    session = Session()
    end_of_stream(session)
    link = session.open_substitute()
    session.events += link.receive_eof(session.now)
    assert session.closed.outcome is Outcome.LOST


@pytest.mark.parametrize("opened", [False, True])
def test_a_substitute_that_breaks(opened: bool) -> None:
    session = Session()
    end_of_stream(session)
    link = session.accept() if opened else session.open_substitute()
    failure = SonioxConnectionError("no route")
    session.events += link.failed(failure, session.now)
    assert session.closed.error is failure


def test_a_substitute_that_ends_after_it_was_open() -> None:
    session = Session()
    end_of_stream(session)
    link = session.accept()
    session.events += link.receive_eof(session.now)
    assert session.closed.outcome is Outcome.LOST


def test_a_substitute_has_a_deadline() -> None:
    session = Session(connect_timeout=4.0)
    end_of_stream(session)
    link = session.open_substitute()
    assert link.open_by == session.now + 4.0
    session.wait(3.9)
    assert not link.closed
    session.wait(0.2)
    assert isinstance(session.closed.error, SonioxTimeoutError)
    assert link.closed


def test_a_substitute_without_a_deadline() -> None:
    session = Session(connect_timeout=None)
    end_of_stream(session)
    link = session.open_substitute()
    assert link.open_by is None
    session.wait(10.0)
    assert not link.closed


def test_a_recovering_session_replaces_a_lost_substitute() -> None:
    session = Session(recovering)
    session.stream.send_audio(b"ab" * 100, session.now)
    end_of_stream(session)
    substitute = session.open_substitute()
    session.events += substitute.failed(SonioxConnectionError("no route"), session.now)
    session.wait(1.0)
    (link,) = session.stream.links_to_open()
    assert session.stream.can_be_warm(link), "a new try of the session's own"
    assert substitute.closed


def test_a_substitute_upgraded_by_somebody_else() -> None:
    session = Session()
    end_of_stream(session)
    (link,) = session.stream.links_to_open()
    assert link.upgrade_request.headers() == [("Authorization", f"Bearer {API_KEY}")]
    assert link.endpoint == session.link.endpoint == ENDPOINT
    session.events += link.upgraded(session.now, {})
    assert session.messages(link) == [START]


# Keys that are asked for


def asking(**options: Any) -> Stream:
    return RealtimeSTTStream(URL, RAW, asks_for_key=True, **options)


def test_the_session_takes_the_key_of_the_connection() -> None:
    session = Session(asking)
    assert not session.link.asks_for_key
    assert session.link.upgrade_request.headers() == [("Authorization", f"Bearer {API_KEY}")]
    session.feed(frames.text(error(400, "invalid_request", f"no {API_KEY}")))
    assert API_KEY not in repr(session.events)


def test_a_substitute_asks_for_another_key() -> None:
    session = Session(asking)
    end_of_stream(session)
    (link,) = session.stream.links_to_open()
    assert link.asks_for_key
    with pytest.raises(SonioxValidationError):
        link.authenticate("not a key")
    link.authenticate("another-key-0123456789")
    assert not link.asks_for_key
    head, _ = frames.split_head(link.data_to_send())
    assert head.values("authorization") == ["Bearer another-key-0123456789"]


def asking_recovering(**options: Any) -> Stream:
    policy = ReconnectPolicy(jitter=False)
    return RecoveringSTTStream(URL, RAW, reconnect=policy, asks_for_key=True, **options)


@pytest.mark.parametrize("make", [asking, asking_recovering])
def test_neither_key_shows_in_what_the_service_says(make: Callable[..., Stream]) -> None:
    session = Session(make)
    end_of_stream(session)
    (link,) = session.stream.links_to_open()
    key = "another-key-0123456789"
    link.authenticate(key)
    answer = frames.switching_protocols(link.data_to_send())
    answer += frames.text(error(400, "invalid_request", f"neither {API_KEY} nor {key}"))
    answer += frames.close(1000)
    session.events += link.receive_data(answer, session.now)
    assert isinstance(session.stream.error, SonioxInvalidRequestError)
    assert "neither [API key] nor [API key]" in str(session.stream.error)
    for shown in (session.events, session.stream.error, session.stream.last_message):
        assert API_KEY not in repr(shown)
        assert key not in repr(shown)


# What the user does meanwhile


def test_a_sender_waits_before_too_much_is_kept() -> None:
    session = Session(max_pending=1000)
    session.stream.send_audio(bytes(2000), session.now)
    session.sent()
    assert session.stream.holds_too_much
    end_of_stream(session)
    assert session.stream.holds_too_much
    session.stream.send_audio(b"more", session.now)
    assert session.stream.holds_too_much
    link = session.accept()
    assert not session.stream.holds_too_much
    assert session.messages(link) == [START, bytes(2000), b"more"]


def test_a_sender_waits_no_longer_than_the_trial() -> None:
    session = Session(max_pending=10)
    assert not session.stream.holds_too_much
    session.pong()
    session.stream.send_audio(bytes(100), session.now)
    session.sent()
    assert not session.stream.holds_too_much


@BOTH
def test_closing_while_a_substitute_opens_ends_at_once(make: Callable[..., Stream]) -> None:
    session = Session(make)
    end_of_stream(session)
    link = session.open_substitute()
    session.stream.close(session.now)
    assert not session.stream.holds_too_much
    assert session.stream.next_timeout() is not None
    session.events += session.stream.handle_timeout(session.now)
    assert session.closed.outcome is Outcome.CLOSED_LOCALLY
    assert session.closed.error is None
    assert link.closed
    assert session.stream.closed


@pytest.mark.parametrize("end", [end_of_stream, broken, says(frames.close(1000))])
def test_closing_during_the_trial_makes_no_connection(end: Callable[[Session], None]) -> None:
    session = Session()
    session.stream.close(session.now)
    end(session)
    assert session.closed.outcome is Outcome.CLOSED_LOCALLY
    assert session.stream.links_to_open() in ([], ())


def test_closing_and_silence() -> None:
    session = Session()
    session.stream.close(session.now)
    session.wait(10.0)
    assert session.closed.outcome is Outcome.CLOSED_LOCALLY
    assert session.stream.links_to_open() in ([], ())


@pytest.mark.parametrize("substituted", [False, True])
def test_aborting(substituted: bool) -> None:
    session = Session()
    if substituted:
        end_of_stream(session)
    session.stream.abort(session.now)
    session.events += session.stream.handle_timeout(session.now)
    assert session.closed.outcome is Outcome.ABORTED
    assert session.stream.links_to_open() in ([], ())
    assert session.link.closed
    session.feed(frames.text(result("late")))
    session.wait(10.0)
    assert session.stream.next_timeout() is None


def test_failing_and_the_substitute() -> None:
    session = Session()
    end_of_stream(session)
    link = session.open_substitute()
    session.events += session.stream.fail(SonioxConnectionError("no"), session.now)
    assert session.closed.outcome is Outcome.LOST
    assert link.closed
    session.wait(20.0)
    assert session.stream.next_timeout() is None


def test_a_trial_rests_while_nobody_reads() -> None:
    session = Session()
    session.stream.pause_reading(session.now)
    session.wait(60.0)
    assert not session.link.closed
    session.stream.resume_reading(session.now)
    session.wait(TRIAL_SECONDS - 0.1)
    assert not session.link.closed
    session.wait(0.2)
    assert session.link.closed


def test_another_pong_proves_nothing() -> None:
    session = Session()
    session.feed(frames.pong(b"late, of the pool's"))
    session.wait(TRIAL_SECONDS)
    assert session.link.closed


def test_a_connection_that_was_waiting_is_upgraded_already() -> None:
    stream = WarmStream(asking())
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    warm = stream.warm(link, idle_link("other-key-0123456789"))
    warm.authenticate(API_KEY)
    assert kinds(warm.upgraded(0.0, {})) == [Opened]
    assert warm.upgrade_request.headers() == [("Authorization", f"Bearer {API_KEY}")]


def test_everything_else_is_the_session_s() -> None:
    session = Session()
    stream, now = session.stream, session.now
    stream.finalize(now, 100)
    stream.keep_alive(now)
    stream.pause(now, finalize=False)
    assert stream.paused
    stream.resume(now)
    assert stream.config == RAW
    assert (stream.outcome, stream.error, stream.last_message) == (None, None, None)
    assert stream.stats.sent_keepalives == 1
    assert session.link.open_by is None
    assert session.messages() == [
        START,
        '{"type":"finalize","trailing_silence_ms":100}',
        '{"type":"keepalive"}',
    ]
    assert isinstance(stream.stream, RealtimeSTTStream)


def test_a_session_can_do_without() -> None:
    stream = WarmStream(plain())
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    link.opened(0.0)
    request = link.data_to_send()
    assert kinds(link.receive_data(frames.switching_protocols(request), 0.0)) == [Opened]


@given(st.data())
def test_whenever_it_dies_everything_arrives_once_and_in_order(data: st.DataObject) -> None:
    """Sends audio in pieces, over a first connection that dies at any moment of its trial."""
    session = Session(data.draw(st.sampled_from([plain, recovering])))
    chunks = data.draw(
        st.lists(st.binary(min_size=2, max_size=8).map(lambda c: c[: len(c) // 2 * 2]))
    )
    dies_at = data.draw(st.integers(0, len(chunks)))
    opens_at = data.draw(st.integers(dies_at, len(chunks)))
    writes = data.draw(st.lists(st.booleans(), min_size=len(chunks), max_size=len(chunks)))
    link: Link | None = None
    arrived: list[str | bytes] = []
    for index in range(len(chunks) + 1):
        if index == dies_at:
            DEATHS[data.draw(st.sampled_from(list(DEATHS)))](session)
        if index == opens_at:
            link = session.accept()
            arrived += session.messages(link)
        if index < len(chunks):
            session.stream.send_audio(chunks[index], session.now)
            if writes[index]:
                session.link.data_to_send()
                if link is not None:
                    arrived += session.messages(link)
    session.stream.finish(session.now)
    assert link is not None
    arrived += session.messages(link)
    assert arrived[0] == START
    assert arrived[-1] == ""
    assert b"".join(piece for piece in arrived if isinstance(piece, bytes)) == b"".join(chunks)
    assert [piece for piece in arrived if isinstance(piece, str) and "keepalive" not in piece] == [
        START,
        "",
    ]
