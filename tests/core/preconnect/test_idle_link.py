"""One connection that waits: how it opens, what keeps it alive, and what ends it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from soniox_proto import (
    APIKey,
    Authentication,
    Endpoint,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxTimeoutError,
    UpgradeRequest,
)
from soniox_proto.preconnect.idle_link import KEPT_ALIVE_FOR, IdleLink
from tests.support.core import frames
from tests.support.core.client import URL
from tests.support.core.frames import Frame, Opcode
from tests.support.core.messages import API_KEY, result

ENDPOINT = Endpoint.parse(URL)
REQUEST = UpgradeRequest(APIKey(API_KEY), Authentication.HEADER, [("X-One", "1")])
KEEPALIVE = Frame(Opcode.TEXT, b'{"type":"keepalive"}')


class Idle:
    """An idle link with a clock."""

    def __init__(self, **options: Any) -> None:
        self.link = IdleLink(ENDPOINT, **options)
        self.link.connect(REQUEST)
        self.request = self.link.data_to_send()
        self.link.opened(0.0)

    def open(self, now: float = 0.0) -> Idle:
        self.link.receive_data(frames.switching_protocols(self.request), now)
        assert self.link.is_open
        return self

    def sent(self) -> list[Frame]:
        return frames.decode(self.link.data_to_send())

    def ping(self, now: float) -> bytes:
        """Let the link do what is due; return the payload of its ping."""
        self.link.handle_timeout(now)
        keepalive, ping = self.sent()
        assert keepalive == KEEPALIVE
        assert ping.opcode is Opcode.PING
        return ping.payload


def test_it_upgrades_and_sends_no_start_message() -> None:
    idle = Idle()
    head, _ = frames.split_head(idle.request)
    assert head.values("authorization") == [f"Bearer {API_KEY}"]
    assert head.values("x-one") == ["1"]
    assert not idle.link.is_open
    assert not idle.link.can_be_taken(0.0)
    idle.open(1.0)
    assert idle.link.opened_at == 1.0
    assert idle.link.can_be_taken(1.0)
    assert idle.sent() == []
    assert idle.link.endpoint == ENDPOINT
    assert API_KEY not in repr(idle.link)


def test_keepalives_and_pings_every_five_seconds() -> None:
    idle = Idle().open()
    for number in range(1, 200):
        now = 5.0 * number
        assert idle.link.next_timeout() == now
        idle.link.handle_timeout(now - 0.1)
        assert idle.sent() == []
        idle.link.receive_data(frames.pong(idle.ping(now)), now + 0.05)
        assert idle.link.can_be_taken(now + 4.9)
    assert idle.link.proven


def test_no_pong_by_the_next_keepalive_means_dead() -> None:
    idle = Idle().open()
    idle.ping(5.0)
    assert not idle.link.closed
    idle.link.handle_timeout(10.0)
    assert isinstance(idle.link.error, SonioxTimeoutError)
    assert idle.link.error.operation == "ping"
    assert idle.link.next_timeout() is None


def test_another_pong_is_no_answer() -> None:
    idle = Idle().open()
    idle.ping(5.0)
    idle.link.receive_data(frames.pong(b"other"), 6.0)
    idle.link.handle_timeout(10.0)
    assert idle.link.closed


def test_one_that_nobody_looked_after_is_not_handed_out() -> None:
    idle = Idle().open()
    assert idle.link.can_be_taken(KEPT_ALIVE_FOR)
    assert not idle.link.can_be_taken(KEPT_ALIVE_FOR + 0.1)


def test_one_in_the_middle_of_a_frame_is_not_handed_out() -> None:
    ping = frames.encode(Opcode.PING, b"payload")
    for cut in range(1, len(ping)):
        idle = Idle().open()
        idle.link.receive_data(ping[:cut], 1.0)
        assert not idle.link.can_be_taken(1.0)
        idle.link.receive_data(ping[cut:], 1.0)
        assert idle.link.can_be_taken(1.0)
        assert idle.sent() == [Frame(Opcode.PONG, b"payload")]


def error_message(code: int, text: str) -> bytes:
    return frames.text(json.dumps({"tokens": [], "error_code": code, "error_message": text}))


@pytest.mark.parametrize(
    ("received", "error", "text"),
    [
        (frames.close(1001, f"away {API_KEY}"), SonioxConnectionError, "code 1001"),
        (frames.close(None), SonioxConnectionError, "code 1005"),
        (error_message(401, f"no {API_KEY}"), SonioxAuthenticationError, "API key"),
        (frames.text(result("hello")), SonioxProtocolError, "before it got a start message"),
        (frames.text("nonsense"), SonioxProtocolError, "before it got a start message"),
        (b"\xff\xff", SonioxProtocolError, "broke the WebSocket protocol"),
    ],
)
def test_whatever_the_service_says_ends_it(received: bytes, error: type, text: str) -> None:
    idle = Idle().open()
    idle.link.receive_data(received + frames.text(result("more")), 1.0)
    assert idle.link.closed
    assert isinstance(idle.link.error, error)
    assert text in str(idle.link.error)
    assert API_KEY not in f"{idle.link.error} {vars(idle.link.error)}"
    assert [frame.opcode for frame in idle.sent()] == [Opcode.CLOSE]
    first = idle.link.error
    idle.link.receive_data(frames.close(1000), 2.0)
    idle.link.receive_eof(2.0)
    assert idle.link.error is first
    assert not idle.link.can_be_taken(2.0)


def test_the_end_of_the_stream_ends_it() -> None:
    idle = Idle().open()
    idle.link.receive_eof(1.0)
    assert isinstance(idle.link.error, SonioxConnectionError)
    assert idle.link.data_to_send() == b""


def test_a_refusal() -> None:
    idle = Idle()
    idle.link.receive_data(frames.refusal("401 Unauthorized", b"no " + API_KEY.encode()), 1.0)
    assert isinstance(idle.link.error, SonioxHandshakeError)
    assert idle.link.error.status_code == 401
    assert API_KEY.encode() not in idle.link.error.body


def test_a_refusal_that_ends_with_the_stream() -> None:
    idle = Idle()
    idle.link.receive_data(b"HTTP/1.1 503 Busy\r\n\r\nlater", 1.0)
    assert not idle.link.closed
    idle.link.receive_eof(1.0)
    assert isinstance(idle.link.error, SonioxHandshakeError)


def test_the_deadline_of_opening() -> None:
    idle = Idle(open_by=10.0)
    assert idle.link.open_by == idle.link.next_timeout() == 10.0
    idle.link.handle_timeout(9.0)
    assert not idle.link.closed
    idle.link.handle_timeout(10.0)
    assert isinstance(idle.link.error, SonioxTimeoutError)
    assert "the server did not accept the WebSocket upgrade in time" in str(idle.link.error)
    idle.link.connect(REQUEST)
    assert b"GET" not in idle.link.data_to_send()
    assert Idle().link.next_timeout() is None


def test_the_server_is_not_blamed_for_a_key_that_is_missing() -> None:
    link = IdleLink(ENDPOINT, open_by=10.0)
    link.handle_timeout(10.0)
    assert isinstance(link.error, SonioxTimeoutError)
    assert "api_key, a function, has not returned a key in time" in str(link.error)


def test_an_upgrade_by_somebody_else() -> None:
    link = IdleLink(ENDPOINT)
    link.connect(REQUEST)
    assert link.upgrade_request is REQUEST
    link.upgraded(1.0, {"Sec-WebSocket-Protocol": "soniox-api-key", "X-Node": "7"})
    assert link.is_open
    assert link.headers == {"x-node": "7", "sec-websocket-protocol": "soniox-api-key"}
    assert link.buffers_to_send() == []


def test_retiring_sends_a_close_frame() -> None:
    idle = Idle().open()
    idle.link.retire()
    assert idle.link.closed
    assert [frame.close_code for frame in idle.sent()] == [1000]
    unopened = Idle().link
    unopened.retire()
    assert unopened.closed
    assert unopened.data_to_send() == b""


def test_one_that_is_taken_has_no_timers() -> None:
    idle = Idle().open()
    assert not idle.link.taken
    idle.link.take()
    assert idle.link.taken
    assert idle.link.next_timeout() is None
    idle.link.handle_timeout(100.0)
    assert idle.sent() == []
