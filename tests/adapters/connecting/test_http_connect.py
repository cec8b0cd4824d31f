"""The exchange with an HTTP proxy, without I/O."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_adapters.connecting.failures import ConnectError
from soniox_adapters.connecting.http_connect import MAX_HEAD_SIZE, HttpConnect
from soniox_adapters.connecting.proxy import parse_proxy
from soniox_proto import Endpoint

ENDPOINT = Endpoint.parse("wss://stt.example.test")
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"


def exchange(url: str = "http://proxy:3128", endpoint: Endpoint = ENDPOINT) -> HttpConnect:
    return HttpConnect(parse_proxy(url, "the parameter proxy"), endpoint)


def feed(connect: HttpConnect, answer: bytes) -> int:
    """Feed an answer byte by byte, and return how many bytes were taken until it was enough."""
    for taken in range(1, len(answer) + 1):
        if connect.receive_data(answer[taken - 1 : taken]):
            return taken
    raise AssertionError("the tunnel is not open")


def test_request() -> None:
    assert exchange().request == (
        b"CONNECT stt.example.test:443 HTTP/1.1\r\nHost: stt.example.test:443\r\n\r\n"
    )
    literal = exchange(endpoint=Endpoint.parse("ws://[::1]:8765"))
    assert literal.request.startswith(b"CONNECT [::1]:8765 HTTP/1.1\r\nHost: [::1]:8765\r\n")


@pytest.mark.parametrize(
    ("userinfo", "pair"),
    [
        ("user:secret", "user:secret"),
        ("user", "user:"),
        (":secret", ":secret"),
        ("us%40er:se%3Acr%C3%A9t%0D%0AX:%20y", "us@er:se:cr\u00e9t\r\nX: y"),
    ],
)
def test_credentials(userinfo: str, pair: str) -> None:
    lines = exchange(f"http://{userinfo}@proxy:3128").request.split(b"\r\n")
    expected = b"Proxy-Authorization: Basic " + base64.b64encode(pair.encode())
    assert lines[2:] == [expected, b"", b""]


@pytest.mark.parametrize(
    "answer",
    [
        ESTABLISHED,
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ESTABLISHED,
    ],
)
def test_tunnel_is_open_with_the_last_byte_of_the_head(answer: bytes) -> None:
    """What comes behind the head is the tunnel's."""
    assert feed(exchange(), answer + b"\x16\x03tunnel") == len(answer)


@given(st.lists(st.integers(1, len(ESTABLISHED) - 1), unique=True).map(sorted))
def test_answer_comes_in_any_number_of_segments(cuts: list[int]) -> None:
    connect = exchange()
    edges = [0, *cuts, len(ESTABLISHED)]
    pieces = [ESTABLISHED[start:end] for start, end in itertools.pairwise(edges)]
    opened = [connect.receive_data(piece) for piece in pieces]
    assert opened == [False] * len(cuts) + [True]


REFUSALS = dict.fromkeys([301, 400, 403, 404, 407], False)
REFUSALS |= dict.fromkeys([408, 429, 500, 502, 503, 504, 599], True)


@pytest.mark.parametrize(("status", "retryable"), REFUSALS.items())
def test_refusal(status: int, retryable: bool) -> None:
    with pytest.raises(ConnectError, match=f"status {status} 'Because I say so'") as refused:
        feed(exchange(), b"HTTP/1.1 %d Because I say so\r\nA: b\r\n\r\nbody" % status)
    assert refused.value.retryable is retryable


def test_refusal_says_what_to_do_about_credentials() -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    with pytest.raises(ConnectError, match="must hold a user name"):
        feed(exchange(), answer)
    with pytest.raises(ConnectError, match="check the user name and password") as refused:
        feed(exchange("http://user-name:secret@proxy:1"), answer)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xfe not HTTP at all\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 two hundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n" + b"x" * 10,
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_HEAD_SIZE,
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_SIZE // 20),
    ],
    ids=["bytes", "ssh", "status", "header", "switching", "endless-head", "endless-interim"],
)
def test_answers_that_are_none(answer: bytes) -> None:
    connect = exchange()
    with pytest.raises(ConnectError, match="proxy") as refused:
        feed(connect, answer)
    assert not refused.value.retryable


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\nVia: x", ESTABLISHED[:-1]])
def test_end_of_the_stream_before_the_answer(before: bytes) -> None:
    connect = exchange()
    assert not (before and connect.receive_data(before))
    with pytest.raises(ConnectError, match="closed the connection") as ended:
        connect.receive_data(b"")
    assert ended.value.retryable
