"""TLS without I/O, joined in memory with the server's side of the standard library."""

from __future__ import annotations

import random
import ssl
from contextlib import suppress
from typing import Any, cast

import pytest
import trustme

from soniox_adapters.async_.tls_stream import TLSStream


class Server:
    """The server's side, in memory too."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def handshake(self, client: TLSStream) -> None:
        while not client.handshake_complete and client.error is None:
            self._incoming.write(client.data_to_send())
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            client.receive(self.output())
        if client.error is None:
            self.feed(client.data_to_send())
            assert self.read_ready() == b""

    def output(self) -> bytes:
        return self._outgoing.read()

    def read_ready(self) -> bytes:
        received = b""
        try:
            while piece := self.tls.read(1 << 16):
                received += piece
        except ssl.SSLWantReadError:
            pass
        return received

    def feed(self, data: bytes) -> None:
        self._incoming.write(data)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def joined(
    request: pytest.FixtureRequest, authority: trustme.CA, client_tls: ssl.SSLContext
) -> tuple[TLSStream, Server]:
    """A client and a server after their handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = request.param
    authority.issue_cert("localhost").configure_cert(context)
    client, server = TLSStream(client_tls, "localhost"), Server(context)
    server.handshake(client)
    assert client.handshake_complete
    return client, server


def test_both_directions(joined: tuple[TLSStream, Server]) -> None:
    client, server = joined
    server.feed(client.send(b"there"))
    assert server.read_ready() == b"there"
    assert client.send(b"") == b""
    server.tls.write(b"back")
    assert client.receive(server.output()) == b"back"
    assert not client.blocked


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 300_000])
def test_many_records_however_they_are_cut(joined: tuple[TLSStream, Server], size: int) -> None:
    client, server = joined
    data = random.Random(size).randbytes(size)
    server.feed(client.send(data))
    assert server.read_ready() == data
    server.tls.write(data)
    ciphertext = server.output()
    for step in (1 if size < 1000 else 4999, 16 * 1024, len(ciphertext)):
        received = b"".join(
            client.receive(memoryview(ciphertext)[start : start + step])
            for start in range(0, len(ciphertext), step)
        )
        assert received == data
        server.tls.write(data)
        ciphertext = server.output()


def test_what_came_before_the_end_is_returned(joined: tuple[TLSStream, Server]) -> None:
    client, server = joined
    server.tls.write(b"last ")
    server.tls.write(b"words")
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    assert client.receive(server.output()) == b"last words"
    assert client.ended
    assert client.error is None
    assert client.receive(b"whatever follows") == b""


def test_what_came_before_a_broken_record_is_returned(joined: tuple[TLSStream, Server]) -> None:
    client, server = joined
    server.tls.write(b"words")
    good = server.output()
    server.tls.write(b"more")
    broken = bytearray(server.output())
    broken[-1] ^= 1
    assert client.receive(good + bytes(broken)) == b"words"
    assert isinstance(client.error, ssl.SSLError)
    assert str(client.error)
    assert client.receive(good) == b""
    client.data_to_send()
    assert client.send(b"in vain") == b""


def test_closing_sends_the_alert_and_waits_for_none(joined: tuple[TLSStream, Server]) -> None:
    client, server = joined
    data = client.send(b"bye")
    client.close()
    server.feed(data + client.data_to_send())
    assert server.tls.read(100) == b"bye"
    assert server.tls.read(100) == b"", "the closing alert"
    client.close()
    assert client.data_to_send() == b"", "once is enough"


def test_the_servers_alert_after_ours(joined: tuple[TLSStream, Server]) -> None:
    client, server = joined
    client.close()
    server.feed(client.data_to_send())
    assert server.tls.read(100) == b""
    server.tls.unwrap()
    assert client.receive(server.output()) == b""
    assert client.ended


def test_end_of_the_connection(joined: tuple[TLSStream, Server]) -> None:
    client, _ = joined
    client.receive_eof()
    assert client.ended
    assert client.error is None


def test_end_of_the_connection_during_the_handshake(client_tls: ssl.SSLContext) -> None:
    client = TLSStream(client_tls, "localhost")
    client.close()
    client.receive_eof()
    assert isinstance(client.error, ConnectionResetError)
    assert "during the TLS handshake" in str(client.error)


def test_untrusted_server_gets_the_alert(server_tls: ssl.SSLContext) -> None:
    client, server = TLSStream(ssl.create_default_context(), "localhost"), Server(server_tls)
    server.handshake(client)
    assert isinstance(client.error, ssl.SSLCertVerificationError)
    assert not client.handshake_complete


def test_server_that_speaks_no_tls(client_tls: ssl.SSLContext) -> None:
    client = TLSStream(client_tls, "localhost")
    assert client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n") == b""
    assert isinstance(client.error, ssl.SSLError)


def test_request_for_a_certificate_after_the_handshake(authority: trustme.CA) -> None:
    """A message of TLS itself between the data, which has to be answered."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.minimum_version = ssl.TLSVersion.TLSv1_3
    server_context.verify_mode = ssl.CERT_OPTIONAL
    server_context.post_handshake_auth = True
    client_context = ssl.create_default_context()
    client_context.post_handshake_auth = True
    for context in (server_context, client_context):
        authority.configure_trust(context)
    authority.issue_cert("localhost").configure_cert(server_context)
    authority.issue_cert("client@example.test").configure_cert(client_context)
    client, server = TLSStream(client_context, "localhost"), Server(server_context)
    server.handshake(client)
    server.tls.verify_client_post_handshake()
    server.tls.write(b"who are you?")
    assert client.receive(server.output()) == b"who are you?"
    answer = client.data_to_send()
    assert answer
    server.feed(answer + client.send(b"me"))
    assert server.read_ready() == b"me"


class Renegotiating:
    """Stands in for OpenSSL in the middle of a renegotiation: it must read before it can write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.blocked = False
        self.room = 1 << 20
        self.failure: OSError | None = None

    def do_handshake(self) -> None:
        pass

    def pending(self) -> int:
        return 0

    def read(self, size: int) -> bytes:
        raise ssl.SSLWantReadError

    def write(self, data: memoryview) -> int:
        if self.failure is not None:
            raise self.failure
        if self.blocked:
            raise ssl.SSLWantReadError
        self.written.append(bytes(data[: self.room]))
        return len(self.written[-1])


class RenegotiatingContext:
    def __init__(self) -> None:
        self.tls = Renegotiating()

    def wrap_bio(self, *_: object, server_hostname: str) -> Renegotiating:
        return self.tls


def test_data_waits_for_a_renegotiation_and_keeps_its_order() -> None:
    context = RenegotiatingContext()
    client = TLSStream(cast("Any", context), "localhost")
    context.tls.room = 2
    context.tls.blocked = True
    for piece in (b"one", b"two"):
        client.send(piece)
        assert client.blocked
    client.receive(b"half of the server's part")
    assert client.blocked
    context.tls.blocked = False
    client.receive(b"the rest")
    assert not client.blocked
    assert b"".join(context.tls.written) == b"onetwo"
    context.tls.failure = ssl.SSLError("broken")
    client.send(b"three")
    assert client.error is context.tls.failure
