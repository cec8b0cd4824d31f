"""A session that asks for its links, and the link that `RealtimeSTTStream` has for life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    Closed,
    Link,
    Opened,
    Outcome,
    RealtimeSTTConnection,
    RealtimeSTTStream,
    SessionState,
    SonioxConnectionError,
    SonioxError,
    SonioxStateError,
    Stream,
)
from tests.support.core import frames
from tests.support.core.client import URL, Client
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, UNAUTHENTICATED, result


class StreamClient(Client):
    """Drives a `RealtimeSTTStream` and its link with the calls of `Client`.

    What belongs to the session is asked of the stream, what belongs to the byte stream of the link.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.stream: Stream = RealtimeSTTStream(URL, CONFIG, api_key=API_KEY, **options)
        self.connection = Both(self.stream)  # type: ignore[assignment]


class Both:
    """A stream, with what its link has beside it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._link: Link | None = None

    def connect(self, now: float) -> None:
        self._stream.connect(now)
        (self._link,) = self._stream.links_to_open()
        assert self._link.opened(now) == []

    def data_to_send(self) -> bytes:
        return b"" if self._link is None else self._link.data_to_send()

    def __getattr__(self, name: str) -> Any:
        owner: object = self._stream
        if name in {"receive_data", "receive_eof", "endpoint"}:
            owner = self._link
            if owner is None:
                raise SonioxStateError("the session is not connected; call connect first")
        return getattr(owner, name)


VIEWS = ("state", "paused", "closed", "outcome", "error", "last_message", "stats", "config")

STEPS: dict[str, Callable[[Client], object]] = {
    "connect": lambda client: client.connect(),
    "accept": lambda client: client.accept() if client.request else None,
    "pause": lambda client: client.connection.pause(client.now, finalize=False),
    "pause and finalize": lambda client: client.connection.pause(client.now),
    "resume": lambda client: client.connection.resume(client.now),
    "finalize": lambda client: client.connection.finalize(client.now),
    "keep alive": lambda client: client.connection.keep_alive(client.now),
    "finish": lambda client: client.connection.finish(client.now),
    "close": lambda client: client.connection.close(client.now),
    "abort": lambda client: client.connection.abort(client.now),
    "ping": lambda client: client.feed(frames.ping(b"now")),
    "result": lambda client: client.receive(result("word")),
    "audio": lambda client: client.connection.send_audio(b"audio", client.now),
    "fail": lambda client: client.connection.fail(SonioxConnectionError("x"), client.now),
    "read no further": lambda client: client.connection.pause_reading(client.now),
    "read on": lambda client: client.connection.resume_reading(client.now),
    "closed": lambda client: client.feed(frames.close()),
    "finished": lambda client: client.receive(FINISHED),
    "refused": lambda client: client.receive(UNAUTHENTICATED),
    "lost": lambda client: client.eof(),
    "earlier": lambda client: setattr(client, "now", client.now - 1.0),
    "wait": lambda client: client.wait(6.0),
}


def attempt(call: Callable[..., object], *arguments: object) -> str:
    try:
        return repr(call(*arguments))
    except SonioxError as error:
        return repr(error)


@given(
    steps=st.lists(st.sampled_from([name for name in STEPS if name != "lost"]), max_size=12),
    opened=st.booleans(),
)
def test_it_is_its_connection_for_life(steps: list[str], opened: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.urandom", lambda size: b"key!" * (size // 4))
        one, two = Client(), StreamClient()
        for step in [*(["connect", "accept"] if opened else []), *steps]:
            call = STEPS[step]
            if one.connection.state is SessionState.IDLE and step in {"ping", "closed", "finished"}:
                continue
            attempt(call, one), attempt(call, two)
            for view in VIEWS:
                ours, theirs = getattr(one.connection, view), getattr(two.stream, view)
                assert repr(ours) == repr(theirs), view
            assert one.connection.next_timeout() == two.stream.next_timeout()
        assert repr(one.events) == repr(two.events)
        if one.request:
            assert frames.decode(one.connection.data_to_send()) == frames.decode(
                two.connection.data_to_send()
            )


def test_each_link_is_asked_for_once() -> None:
    stream = RealtimeSTTStream(URL, CONFIG)
    assert list(stream.links_to_open()) == []
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    assert list(stream.links_to_open()) == []
    assert link.endpoint == stream.endpoint
    with pytest.raises(SonioxStateError):
        stream.connect(1.0)
    assert list(stream.links_to_open()) == []


def test_none_is_asked_for_once_the_session_is_over() -> None:
    stream = RealtimeSTTStream(URL, CONFIG)
    stream.connect(0.0)
    stream.abort(0.0)
    assert list(stream.links_to_open()) == []


@pytest.mark.parametrize(("timeout", "open_by"), [(10.0, 15.0), (None, None)])
def test_a_link_says_when_it_has_to_be_open(timeout: float | None, open_by: float | None) -> None:
    client = Client(now=5.0, connect_timeout=timeout)
    assert client.connection.open_by is None
    client.connect()
    assert client.connection.open_by == open_by
    client.accept()
    assert client.connection.open_by is None


def test_a_link_that_cannot_be_opened_ends_the_session() -> None:
    stream = RealtimeSTTStream(URL, CONFIG)
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    error = SonioxConnectionError("refused")
    (closed,) = link.failed(error, 1.0)
    assert closed == Closed(Outcome.LOST, None, "", error)
    assert stream.closed
    assert link.closed
    assert link.buffers_to_send() == []


def test_the_run_loop_of_a_driver() -> None:
    stream: Stream = RealtimeSTTStream(URL, CONFIG, keepalive_interval=5.0)
    stream.connect(0.0)
    (link,) = stream.links_to_open()
    assert link.opened(0.1) == []
    answer = frames.switching_protocols(link.data_to_send())
    (opened,) = link.receive_data(answer, 0.2)
    assert isinstance(opened, Opened)
    assert stream.next_timeout() == 5.2
    link.buffers_to_send()
    assert stream.handle_timeout(5.2) == []
    assert len(frames.decode(b"".join(link.buffers_to_send()))) == 1
    (closed,) = link.receive_eof(6.0)
    assert isinstance(closed, Closed)
    assert stream.closed


def test_a_connection_is_a_link() -> None:
    link: Link = RealtimeSTTConnection(URL, CONFIG)
    assert not link.closed
