"""Proxies on 127.0.0.1 for tests: HTTP CONNECT and SOCKS5, obliging or not."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

from tests.support.adapter_server import PATIENCE

__all__ = [
    "FakeProxy",
    "Greeting",
    "answers_with_garbage",
    "cuts",
    "drips",
    "http_connect",
    "refuses",
    "silent_proxy",
    "socks5",
]


class FakeProxy:
    """Listens while it is entered, greets each client as told, then joins it with `server_port`.

    Whatever host the client asks for, it gets 127.0.0.1; `targets` keeps what it asked for.
    """

    def __init__(self, greeting: Greeting, *, scheme: str, server_port: int = 0) -> None:
        self.over = threading.Event()
        self.targets: list[tuple[str, int]] = []
        self.credentials: list[str] = []
        self.left = threading.Event()
        """Set once a client has ended its connection."""
        self._greeting = greeting
        self._scheme = scheme
        self._server_port = server_port
        self._threads: list[threading.Thread] = []
        self._clients: list[socket.socket] = []

    def url(self, credentials: str = "") -> str:
        """Return the URL of the proxy, with credentials such as `user:password@`."""
        return f"{self._scheme}://{credentials}127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> FakeProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
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
        socket.create_connection(self._listener.getsockname()).close()
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
                with socket.create_connection(("127.0.0.1", self._server_port)) as server:
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


def http_connect(proxy: FakeProxy, client: socket.socket) -> bool:
    request_line, *headers = read_head(client).decode().split("\r\n")
    method, target, _ = request_line.split(" ")
    assert method == "CONNECT"
    host, _, port = target.rpartition(":")
    proxy.targets.append((host, int(port)))
    for header in headers:
        name, _, value = header.partition(": ")
        if name.lower() == "proxy-authorization":
            proxy.credentials.append(base64.b64decode(value.removeprefix("Basic ")).decode())
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    return True


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
