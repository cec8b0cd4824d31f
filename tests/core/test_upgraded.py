"""Taking over a connection that another library has upgraded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    Closed,
    Finished,
    Opened,
    Outcome,
    Result,
    SessionState,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxStateError,
    SonioxTimeoutError,
)
from soniox_proto.upgrade import RefusalReader
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import Frame, Opcode
from tests.support.core.messages import API_KEY, FINISHED, START_MESSAGE, result
from tests.support.core.protocol import kinds

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate"}


def adopting(headers: dict[str, str] | None = None, **options: object) -> Client:
    client = Client(**options)  # type: ignore[arg-type]
    client.connection.connect(client.now)
    client.events += client.connection.upgraded(client.now, headers)
    return client


def test_the_start_message_is_the_first_thing_sent() -> None:
    client = adopting()
    assert client.events == [Opened(None, {})]
    assert client.drain() == [Frame(Opcode.TEXT, START_MESSAGE.encode())]


def test_audio_held_while_connecting_follows_the_start_message() -> None:
    client = Client()
    client.connection.connect(client.now)
    client.connection.send_audio(b"first words", client.now)
    client.connection.upgraded(client.now)
    assert client.messages == [START_MESSAGE, b"first words"]


def test_headers_of_the_answer_are_in_the_event() -> None:
    client = adopting(
        {
            "X-Served-By": "node-7",
            "X-Echo": f"Bearer {API_KEY}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": "token",
            "Sec-WebSocket-Protocol": "soniox-api-key",
        }
    )
    headers = {"x-served-by": "node-7", "x-echo": "Bearer [API key]"}
    assert client.events == [Opened("soniox-api-key", headers)]


@given(st.data())
def test_what_follows_the_head_may_be_cut_anywhere(data: st.DataObject) -> None:
    rest = frames.text(result("hello")) + frames.text(FINISHED) + frames.close(1000)
    cut = data.draw(st.integers(0, len(rest)))
    client = adopting()
    for piece in (rest[:cut], rest[cut:]):
        client.feed(piece)
    assert kinds(client.events) == [Opened, Result, Result, Finished, Closed]
    assert client.closed == Closed(Outcome.FINISHED, 1000, "", None)
    assert client.close_codes == [1000]


def test_the_deadline_of_connecting_ends_and_pings_begin() -> None:
    client = adopting(connect_timeout=1.0, ping_interval=2.0, keepalive_interval=None)
    assert client.wait(1.5) == []
    client.drain()
    client.wait(1.0)
    assert [frame.opcode for frame in client.drain()] == [Opcode.PING]


def test_compression_that_was_offered_is_used() -> None:
    client = Client(compression=True)
    client.connection.connect(client.now)
    ((name, offer),) = (
        pair for pair in client.connection.upgrade_request.headers() if "Extensions" in pair[0]
    )
    assert name == "Sec-WebSocket-Extensions"
    assert offer.startswith("permessage-deflate; ")
    client.connection.upgraded(client.now, DEFLATE)
    first_byte = client.connection.data_to_send()[0]
    assert first_byte == 0xC1, "a text frame whose RSV1 bit says that it is compressed"


@pytest.mark.parametrize("value", ["permessage-deflate", "permessage-deflate; x", "secret-sauce"])
def test_extensions_that_were_not_offered_are_a_violation(value: str) -> None:
    client = adopting({"sec-websocket-extensions": value})
    assert isinstance(client.closed.error, SonioxProtocolError)
    assert "extensions" in str(client.closed.error)
    assert client.close_codes == [1010]


def test_parameters_that_make_no_sense_are_a_violation() -> None:
    value = "permessage-deflate; server_max_window_bits=many"
    client = adopting({"sec-websocket-extensions": value}, compression=True)
    assert isinstance(client.closed.error, SonioxProtocolError)


def test_only_right_after_connect() -> None:
    client = Client()
    with pytest.raises(SonioxStateError, match="right after connect"):
        client.connection.upgraded(client.now)
    client.connect()
    with pytest.raises(SonioxStateError, match="own upgrade request"):
        client.connection.upgraded(client.now)
    client.accept()
    with pytest.raises(SonioxStateError):
        client.connection.upgraded(client.now)
    assert client.connection.state is SessionState.OPEN


def test_too_late_is_no_mistake() -> None:
    client = Client(connect_timeout=1.0)
    client.connection.connect(client.now)
    client.wait(2.0)
    assert client.connection.upgraded(client.now) == []
    assert isinstance(client.closed.error, SonioxTimeoutError)
    client = Client()
    client.connection.connect(client.now)
    client.connection.abort(client.now)
    assert kinds(client.connection.upgraded(client.now)) == [Closed]


class TestRequest:
    def test_with_the_key_in_a_header(self) -> None:
        request = Client(additional_headers={"X-One": "1"}).connection.upgrade_request
        assert request.headers() == [("X-One", "1"), ("Authorization", f"Bearer {API_KEY}")]
        assert request.subprotocols() == []

    def test_with_the_key_as_subprotocol(self) -> None:
        request = Client(authentication="subprotocol").connection.upgrade_request
        assert (request.headers(), request.subprotocols()) == ([], ["soniox-api-key", API_KEY])

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_with_the_key_elsewhere(self) -> None:
        for options in ({"authentication": "message"}, {"api_key": None}):
            request = Client(**options).connection.upgrade_request
            assert (request.headers(), request.subprotocols()) == ([], [])

    def test_refusals_are_bounded_and_without_the_key(self) -> None:
        request = Client().connection.upgrade_request
        body = f"no {API_KEY} here ".encode() * 10_000
        refusal = request.refusal(401, {API_KEY: API_KEY}, body)
        assert isinstance(refusal, SonioxHandshakeError)
        assert refusal.status_code == 401
        assert refusal.headers == {"[API key]": "[API key]"}
        assert len(refusal.body) == 64 * 1024
        assert b"sk-" not in refusal.body, "not even a part of the key"
        assert str(refusal).startswith("the server refused the WebSocket upgrade with HTTP")
        assert request.redact(f"a {API_KEY}") == "a [API key]"

    def test_without_a_key_there_is_nothing_to_redact(self) -> None:
        request = Client(api_key=None).connection.upgrade_request
        assert request.redact("text") == "text"
        assert request.refusal(503, {}, b"").body == b""


class TestRefusalReader:
    """Answers that another library found to be refusals end as on a connection of one's own."""

    @pytest.mark.parametrize(
        "answer",
        [
            frames.refusal("401 Unauthorized", f"no {API_KEY}".encode(), [("X-Echo", API_KEY)]),
            b"HTTP/1.1 402 Payment\r\n\r\nno length",
            b"HTTP/1.1 402 Payment\r\nContent-Length: 100\r\n\r\ncut short",
            b"HTTP/1.1 402 Payment\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            f"HTTP/1.1 Bearer {API_KEY}\r\n\r\n".encode(),
        ],
        ids=["whole", "no length", "cut short", "chunked", "violation"],
    )
    def test_is_no_different(self, answer: bytes) -> None:
        client = Client()
        client.connect()
        client.feed(answer)
        client.eof()
        (closed,) = client.events
        assert isinstance(closed, Closed)
        for size in (1, len(answer)):
            reader = RefusalReader(client.connection.upgrade_request)
            for index in range(0, len(answer), size):
                reader.receive_data(answer[index : index + size])
            found = reader.receive_eof()
            assert type(found) is type(closed.error)
            assert str(found) == str(closed.error)
            assert API_KEY not in str(found)
            assert getattr(found, "body", None) == getattr(closed.error, "body", None)

    def test_without_an_answer_there_is_none(self) -> None:
        reader = RefusalReader(Client().connection.upgrade_request)
        assert reader.receive_data(b"HTTP/1.1 401") is None
        assert reader.receive_eof() is None
