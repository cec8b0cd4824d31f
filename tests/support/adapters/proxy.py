"""Proxies on 127.0.0.1 for tests: HTTP CONNECT and SOCKS5, obliging or not."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

from tests.support.adapters.server import PATIENCE

__all__ = [
    "FakeProxy",
    "Greeting",
    "answers_with_garbage",
    "cuts",
    "drips",
    "http_connect",
    "http_connect_in_pieces",
    "refuses",
    "resets",
    "silent_proxy",
    "socks4",
    "socks5",
    "with_first_bytes",
]


class FakeProxy:
    """Listens while it is entered, greets each client as told, then joins it with `server_port`.

    Whatever host the client asks for, it gets 127.0.0.1; `targets` keeps what it asked for.
    """

    def __init__(
        self, greeting: Greeting, *, scheme: str, server_port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.over = threading.Event()
        self.targets: list[tuple[str, int]] = []
        self.credentials: list[str] = []
        self.left = threading.Event()
        """Set once a client has ended its connection."""
        self._greeting = greeting
        self._scheme = scheme
        self.server_port = server_port
        self._host = host
        self._threads: list[threading.Thread] = []
        self._clients: list[socket.socket] = []

    def url(self, credentials: str = "") -> str:
        """Return the URL of the proxy, with credentials such as `user:password@`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._scheme}://{credentials}{host}:{self._listener.getsockname()[1]}"

    def __enter__(self) -> FakeProxy:
        self._listener = socket.create_server(
            (self._host, 0), family=socket.AF_INET6 if ":" in self._host else socket.AF_INET
        )
        self._listening = threading.Thread(target=self._listen, name="fake-proxy")
        self._listening.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.over.set()
        socket.create_connection(self._listener.getsockname()[:2]).close()
        self._listening.join()
        self._listener.close()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self.over.is_set():
                client.close()
                return
            client.settimeout(PATIENCE)
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), name="fake-proxy-client")
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self._greeting(self, client):
                with socket.create_connection(("127.0.0.1", self.server_port)) as server:
                    _join(client, server)
        self.left.set()


Greeting: TypeAlias = Callable[[FakeProxy, socket.socket], bool]
"""Speaks with a client and tells whether to join it with its target."""


def read_head(client: socket.socket) -> bytes:
    """Read an HTTP head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _read(client, 1)
    return head


def wait_until_left(client: socket.socket) -> None:
    """Read until the client ends the connection."""
    while client.recv(4096):
        pass


ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def http_connect(proxy: FakeProxy, client: socket.socket) -> bool:
    read_connect(proxy, client)
    client.sendall(ESTABLISHED)
    return True


def http_connect_in_pieces(proxy: FakeProxy, client: socket.socket) -> bool:
    """Answer with an interim response, and then with one segment for each byte."""
    read_connect(proxy, client)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    for byte in ESTABLISHED:
        client.sendall(bytes([byte]))
        time.sleep(0.001)
    return True


def with_first_bytes(scheme: str) -> Greeting:
    """Return a greeting whose last segment also holds what the server said by then."""

    def greet(proxy: FakeProxy, client: socket.socket) -> bool:
        with socket.create_connection(("127.0.0.1", proxy.server_port)) as server:
            first = server.recv(4096)
            if scheme == "http":
                read_connect(proxy, client)
                client.sendall(ESTABLISHED + first)
            else:
                client.recv(100)
                client.sendall(b"\x05\x00")
                client.recv(100)
                client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00" + first)
            _join(client, server)
        return False

    return greet


def socks4(proxy: FakeProxy, client: socket.socket) -> bool:
    """Speak SOCKS4 with a host name (SOCKS4a)."""
    assert _read(client, 2) == b"\x04\x01"
    port = int.from_bytes(_read(client, 2), "big")
    assert _read(client, 4) == b"\0\0\0\x01"
    user, host = _read_text(client), _read_text(client)
    if user:
        proxy.credentials.append(user)
    proxy.targets.append((host, port))
    client.sendall(b"\x00\x5a" + bytes(6))
    return True


def read_connect(proxy: FakeProxy, client: socket.socket) -> None:
    """Read a CONNECT request and note what it asks for."""
    request_line, *headers = read_head(client).decode().split("\r\n")
    method, target, _ = request_line.split(" ")
    assert method == "CONNECT"
    host, _, port = target.rpartition(":")
    proxy.targets.append((host, int(port)))
    for header in headers:
        name, _, value = header.partition(": ")
        if name.lower() == "proxy-authorization":
            proxy.credentials.append(base64.b64decode(value.removeprefix("Basic ")).decode())


def socks5(proxy: FakeProxy, client: socket.socket) -> bool:
    """Speak SOCKS5 (RFC 1928), with a password (RFC 1929) if the client has one."""
    version, count = _read(client, 2)
    methods = _read(client, count)
    assert version == 5
    if 2 in methods:
        client.sendall(b"\x05\x02")
        _, size = _read(client, 2)
        user = _read(client, size).decode()
        password = _read(client, _read(client, 1)[0]).decode()
        proxy.credentials.append(f"{user}:{password}")
        client.sendall(b"\x01\x00")
    else:
        client.sendall(b"\x05\x00")
    _, command, _, kind = _read(client, 4)
    assert command == 1
    if kind == 3:
        host = _read(client, _read(client, 1)[0]).decode()
    else:
        family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
        host = socket.inet_ntop(family, _read(client, size))
    proxy.targets.append((host, int.from_bytes(_read(client, 2), "big")))
    client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
    return True


def refuses(proxy: FakeProxy, client: socket.socket) -> bool:
    read_head(client)
    client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    wait_until_left(client)
    return False


def answers_with_garbage(proxy: FakeProxy, client: socket.socket) -> bool:
    read_head(client)
    client.sendall(b"\xff\xfe not HTTP at all\r\n\r\n")
    wait_until_left(client)
    return False


def cuts(proxy: FakeProxy, client: socket.socket) -> bool:
    read_head(client)
    return False


def resets(proxy: FakeProxy, client: socket.socket) -> bool:
    read_head(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def silent_proxy(proxy: FakeProxy, client: socket.socket) -> bool:
    wait_until_left(client)
    return False


def drips(proxy: FakeProxy, client: socket.socket) -> bool:
    """Speak SOCKS5, a byte at a time, for six seconds."""
    long_name = b"\x05\x00\x00\x03" + bytes([110]) + b"x" * 110 + b"\x00\x00"
    for byte in b"\x05\x00" + long_name:
        if proxy.over.wait(0.05):
            break
        client.sendall(bytes([byte]))
    return False


def _read_text(client: socket.socket) -> str:
    text = b""
    while (byte := _read(client, 1)) != b"\0":
        text += byte
    return text.decode()


def _read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise ConnectionError("the client left")
        data += piece
    return data


def _join(client: socket.socket, server: socket.socket) -> None:
    """Pass bytes on in both directions until one side ends."""
    other = {client: server, server: client}
    while True:
        readable, _, _ = select.select([client, server], [], [], PATIENCE)
        for source in readable:
            data = source.recv(65536)
            if not data:
                return
            other[source].sendall(data)
        if not readable:
            return
