"""Our sessions and a server made by others: the `websockets` library."""

from __future__ import annotations

import http
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from soniox_adapters import (
    Outcome,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxHandshakeError,
)
from tests.support.adapters.leaks import join_threads, running_threads
from tests.support.adapters.server import PATIENCE
from tests.support.adapters.sessions import Kind, SessionDriver, label, open_session
from tests.support.core.messages import (
    API_KEY,
    CONFIG,
    FINALIZE,
    FINISHED,
    KEEPALIVE,
    UNAUTHENTICATED,
    result,
)

Handler: TypeAlias = Callable[[ServerConnection], None]

OPTIONS: dict[str, Any] = {"close_timeout_sec": 2.0}


class Record:
    """What the server saw of one client."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.request: Request | None = None
        self.close_code: int | None = None
        self.done = threading.Event()

    def wait(self) -> None:
        assert self.done.wait(PATIENCE), "the server's handler does not end"


def transcribes(connection: ServerConnection, record: Record) -> None:
    """Answer each chunk with its size, a finalize with its marker, the end with the end."""
    for message in connection:
        record.messages.append(message)
        if isinstance(message, bytes):
            connection.send(result(str(len(message))))
        elif message == "":
            connection.send(FINISHED)
            return
        elif message == FINALIZE:
            connection.send(result("<fin>"))


def listens(connection: ServerConnection, record: Record) -> None:
    """Keep what comes and say nothing."""
    for message in connection:
        record.messages.append(message)


@contextmanager
def serving(
    handler: Callable[[ServerConnection, Record], None] = transcribes, **options: Any
) -> Iterator[tuple[str, Record]]:
    """Serve one handler; yield the URL and what becomes of the first client.

    Leaving waits for the threads of all connections, which the server itself need not do.
    """
    record, others = Record(), running_threads()

    def handle(connection: ServerConnection) -> None:
        record.request = connection.request
        try:
            handler(connection, record)
            connection.close()
        except ConnectionClosed:
            pass
        finally:
            record.close_code = connection.close_code
            record.done.set()

    logger = logging.getLogger("tests.websockets")
    with serve(handle, "127.0.0.1", 0, logger=logger, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        try:
            yield f"ws://127.0.0.1:{port}/transcribe-websocket", record
        finally:
            server.shutdown()
            join_threads(others, PATIENCE)


def labels(driver: SessionDriver) -> list[str]:
    return [label(event) for event in driver.collect()]


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
def test_whole_stream(kind: Kind, compression: bool) -> None:
    chunks = [bytes([size % 256]) * size for size in (1, 125, 126, 3840, 65_535, 65_536, 300_000)]
    with (
        serving() as (url, record),
        open_session(kind, url, compression=compression, **OPTIONS) as driver,
    ):
        with driver.connected():
            driver.call("send_bytes", chunks, finish=False)
            driver.call("finalize")
            driver.call("keep_alive")
            driver.call("finish")
            assert labels(driver) == [*(str(len(chunk)) for chunk in chunks), "<fin>", "finished"]
        assert driver.outcome is Outcome.FINISHED
        record.wait()
        start = json.loads(record.messages[0])
        assert start == CONFIG.model_dump(exclude_none=True)
        assert record.messages[1:] == [*chunks, FINALIZE, KEEPALIVE, ""]
        assert record.close_code == 1000
        assert record.request is not None
        assert record.request.headers["Authorization"] == f"Bearer {API_KEY}"
        offered = record.request.headers.get("Sec-WebSocket-Extensions", "")
        assert ("permessage-deflate" in offered) is compression


def test_fragments_and_large_messages(kind: Kind) -> None:
    large = result("x" * 1_000_000)

    def handler(connection: ServerConnection, record: Record) -> None:
        connection.recv()
        connection.send(iter([large[:10], large[10:500_000], "", large[500_000:]]))
        connection.send(large)
        connection.send(result("zwei \N{GRINNING FACE}").encode(), text=True)
        connection.send(FINISHED)

    with serving(handler) as (url, _), open_session(kind, url, **OPTIONS) as driver:
        driver.enter()
        text = "x" * 1_000_000
        assert labels(driver) == [text, text, "zwei \N{GRINNING FACE}", "finished"]


def test_pings_of_the_server(kind: Kind) -> None:
    def handler(connection: ServerConnection, record: Record) -> None:
        connection.recv()
        for _ in range(3):
            assert connection.ping().wait(PATIENCE)
        record.messages.append("answered")
        connection.recv()

    with serving(handler) as (url, record), open_session(kind, url, **OPTIONS) as driver:
        driver.enter()
        receiver = driver.start("receive_event")
        driver.send(b"audio")
        assert receiver.result(PATIENCE) is None
        record.wait()
        assert record.messages == ["answered"]


def test_pings_of_the_session(kind: Kind) -> None:
    options = {**OPTIONS, "ping_interval_sec": 0.05, "ping_timeout_sec": 5.0}
    with serving() as (url, _), open_session(kind, url, **options) as driver:
        driver.enter()
        # The pong has to come before the second message, which is asked for after the ping.
        for _ in range(1000):
            driver.send(b"audio")
            assert driver.receive() is not None
            if driver.stats.latency is not None:
                break
        assert driver.stats.latency is not None
        assert driver.stats.latency > 0


def test_local_close(kind: Kind) -> None:
    with serving(listens) as (url, record), open_session(kind, url, **OPTIONS) as driver:
        with driver.connected():
            driver.send(b"audio")
        record.wait()
        assert record.messages[1:] == [b"audio", ""]
        assert record.close_code == 1000


def test_abort(kind: Kind) -> None:
    with serving() as (url, record), open_session(kind, url, **OPTIONS) as driver:
        driver.enter()
        driver.send(b"audio")
        assert driver.receive() is not None
        driver.abort()
        record.wait()
        assert record.messages[1:] == [b"audio"]
        assert record.close_code in {1001, 1006}


@pytest.mark.parametrize("code", [1011, 4000])
def test_server_closes(kind: Kind, code: int) -> None:
    def handler(connection: ServerConnection, record: Record) -> None:
        connection.recv()
        connection.send(result("one"))
        connection.close(code, "restarting")

    with serving(handler) as (url, _), open_session(kind, url, **OPTIONS) as driver:
        driver.enter()
        assert label(driver.first_event()) == "one"
        with pytest.raises(SonioxConnectionError) as lost:
            driver.receive()
        assert (lost.value.close_code, lost.value.reason) == (code, "restarting")


def test_wrong_key(kind: Kind) -> None:
    def handler(connection: ServerConnection, record: Record) -> None:
        connection.send(UNAUTHENTICATED)

    with serving(handler) as (url, _), open_session(kind, url, **OPTIONS) as driver:
        driver.enter()
        event = driver.receive()
        assert event is not None
        assert event.error_type == "unauthenticated"
        with pytest.raises(SonioxAuthenticationError):
            driver.receive()


def test_refused_upgrade(kind: Kind) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no such key\n")

    with serving(process_request=refuse) as (url, _), open_session(kind, url, **OPTIONS) as driver:
        with pytest.raises(SonioxHandshakeError) as refused:
            driver.enter()
        assert refused.value.status_code == 401
        assert refused.value.body == b"no such key\n"
        assert driver.outcome is Outcome.REJECTED


def test_subprotocol(kind: Kind) -> None:
    options = {**OPTIONS, "authentication": "subprotocol", "api_key": "temporary"}
    with (
        serving(subprotocols=["soniox-api-key"]) as (url, record),
        open_session(kind, url, **options) as driver,
    ):
        with driver.connected():
            driver.call("send_bytes", [b"audio"])
            assert labels(driver) == ["5", "finished"]
        assert record.request is not None
        assert record.request.headers["Sec-WebSocket-Protocol"] == "soniox-api-key, temporary"


def test_tls(kind: Kind, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with serving(ssl=server_tls) as (url, _):
        secure_url = url.replace("ws://127.0.0.1", "wss://localhost")
        with open_session(kind, secure_url, ssl_context=client_tls, **OPTIONS) as driver:
            driver.enter()
            driver.call("send_bytes", [bytes(100_000)])
            assert labels(driver) == ["100000", "finished"]
