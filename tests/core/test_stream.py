"""A session that asks for its links, and the link that `RealtimeSTTStream` has for life."""

from __future__ import annotations

import pytest

from soniox_proto import (
    Closed,
    Link,
    Opened,
    Outcome,
    RealtimeSTTConnection,
    RealtimeSTTStream,
    SonioxConnectionError,
    SonioxStateError,
    Stream,
)
from tests.support.core import frames
from tests.support.core.client import URL, Client
from tests.support.core.messages import CONFIG


def test_it_is_a_connection_and_its_own_link_for_life() -> None:
    stream = RealtimeSTTStream(URL, CONFIG)
    assert isinstance(stream, RealtimeSTTConnection)
    stream.connect(0.0)
    assert list(stream.links_to_open()) == [stream]


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
