"""The socket as websocket-client sees it while it makes the upgrade, and what may end that.

websocket-client reads answers in its own way: it takes an interim answer for the last one, reads a
body of any size if it has a length, and none otherwise. So the head of each answer is read here,
and it gets to see those that it has to handle, upgrades and redirects. A refusal is read as on a
connection of the session's own.

It also logs what it sends, if asked to, and puts it into exceptions. So it gets a placeholder, and
the session's headers, with the API key, take its place when the request is sent.

It has no way to be stopped either. Its socket is known here once the connection stands. Before
that, while a proxy or TLS is asked, only its own functions know it, and it is taken from there.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, ClassVar, Final

from soniox_proto import SonioxRealtimeError
from soniox_proto.upgrade import RefusalReader, UpgradeRequest
from soniox_proto.websocket.http_head import MAX_HEAD_SIZE, HeadScanner, is_interim_answer

__all__ = ["AbandonedError", "RefusedError", "Upgrading"]

_READ_SIZE: Final = 4096
_SOON: Final = 0.01
"""Seconds that a step may take after the session has given up."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
_LOCATION: Final = re.compile(rb"^[ \t]*location:[ \t]*([^ \t\r\n]+)", re.IGNORECASE | re.MULTILINE)
_REDIRECTS: Final = frozenset({b"301", b"302", b"303", b"307", b"308"})


class AbandonedError(Exception):
    """The session has given up; nothing more may be sent."""


class RefusedError(Exception):
    """The answer is no upgrade; `Upgrading.refusal` says what it is."""


class Upgrading:
    """What one attempt to connect and to upgrade does: call `abandon` in any thread.

    Args:
        request: What the session wants in the request.
        redirect_limit: How many redirects are followed.
        subprotocols: What to offer besides the subprotocols of the session, if it has any.
    """

    placeholder: ClassVar = "X-Headers-Of-The-Session: none"
    """The line of the request to give to websocket-client in place of the session's headers."""

    def __init__(
        self, request: UpgradeRequest, redirect_limit: int, subprotocols: Iterable[str] = ()
    ) -> None:
        self._request = request
        self._subprotocols = tuple(subprotocols)
        self._redirect_limit = redirect_limit
        self._secure = False
        self._thread: int | None = None
        self._made: Any = None
        self._abandoned = False
        self._upgraded = False
        self._connected: socket.socket | None = None
        # Guards the reader, which both threads may ask, and the number of the thread.
        self._lock = threading.Lock()
        self._reader: RefusalReader | None = None
        self.redirected_to: list[str] = []
        """Where redirects led, as far as they were followed."""

    # For the thread that connects

    def begin(self, *, secure: bool) -> None:
        """Note that this thread connects, with TLS if `secure`, which redirects have to keep."""
        self._secure = secure
        self._thread = threading.get_ident()
        if self._abandoned:
            raise AbandonedError

    def end(self) -> None:
        """Note that this thread connects no more. Another one may get its number now."""
        with self._lock:
            self._thread = None

    def make(self, kind: type[Any], options: dict[str, Any]) -> Any:
        """Return a WebSocket of a class of websocket-client, whose socket is watched."""
        self._made = _watched_class(kind, self)(**options)
        return self._made

    def watch(self, connected: socket.socket | None, timeout: float | None) -> Any:
        """Return what websocket-client is to use in place of a socket that it has connected.

        Raises `ValueError` for one without TLS where the key was to travel with it.
        """
        if connected is None or self._upgraded:
            return connected
        self._connected = connected
        if self._abandoned:
            connected.close()
            raise AbandonedError
        if self._secure and not isinstance(connected, ssl.SSLSocket):
            connected.close()
            raise ValueError("the connection would have no TLS")
        # A library for proxies may have left it without a timeout.
        connected.settimeout(timeout)
        return _WatchedSocket(connected, self)

    def upgraded(self) -> socket.socket | None:
        """Stop watching the socket; return it."""
        self._upgraded = True
        return self._connected

    def send(self, connected: socket.socket, data: bytes) -> int:
        """Send what fits; raises `AbandonedError` once the session has given up."""
        if self._abandoned:
            raise AbandonedError
        placeholder = f"{self.placeholder}\r\n".encode()
        if placeholder not in data:
            return connected.send(data)
        # All at once, because a part would not be a part of `data`.
        connected.sendall(data.replace(placeholder, self._headers()))
        return len(data)

    def _headers(self) -> bytes:
        headers, subprotocols = self._request.headers(), self._request.subprotocols()
        if subprotocols:
            offered = ", ".join((*subprotocols, *self._subprotocols))
            headers.append(("Sec-WebSocket-Protocol", offered))
        return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("ascii")

    def read_head(self, connected: socket.socket) -> bytes:
        """Return the head of an answer for websocket-client, ``b""`` if there is none.

        Raises `RefusedError` if it is no upgrade, and no redirect that is to be followed.
        """
        scanner, head = HeadScanner(), b""
        while not scanner.complete:
            # One byte, because frames may follow.
            byte = connected.recv(1)
            if not byte:
                return b""
            head += byte
            scanner.scan(byte)
            if scanner.complete and is_interim_answer(head) and not scanner.too_large:
                scanner, head = HeadScanner(), b""
            elif scanner.too_large:
                break
        found = _STATUS.match(head)
        status = found and found[1]
        if len(head) <= MAX_HEAD_SIZE and (status == b"101" or self._follows(status, head)):
            return head
        self._read_refusal(connected, head)
        raise RefusedError

    def _follows(self, status: bytes | None, head: bytes) -> bool:
        locations = _LOCATION.findall(head)
        if status not in _REDIRECTS or not locations:
            return False
        # Of several, websocket-client goes to the last one.
        target = locations[-1].decode("ascii", "replace")
        # The key was to travel with TLS.
        kept = not self._secure or target.lower().startswith("wss:")
        if not kept or len(self.redirected_to) >= self._redirect_limit:
            return False
        self.redirected_to.append(self._request.redact(target))
        return True

    def _read_refusal(self, connected: socket.socket, data: bytes) -> None:
        with self._lock:
            self._reader = RefusalReader(self._request)
            error = self._reader.receive_data(data)
        while error is None:
            data = b""
            with suppress(OSError):
                data = connected.recv(_READ_SIZE)
            with self._lock:
                error = self._reader.receive_data(data) if data else self._reader.receive_eof()
            if not data:
                break

    # For any thread

    def refusal(self) -> SonioxRealtimeError | None:
        """Return what a refusal says, as far as it has come; None if there is none."""
        with self._lock:
            return None if self._reader is None else self._reader.receive_eof()

    def abandon(self) -> None:
        """Let nothing more be sent, and make the thread that connects give up."""
        self._abandoned = True
        # With the lock the thread cannot end meanwhile.
        with self._lock:
            known = () if self._connected is None else (self._connected,)
            found = [one for one in (*known, *_sockets_of(self._thread)) if one.fileno() != -1]
            if not found and self._made is not None:
                # It still looks for addresses. This is for the socket that it makes then.
                self._made.settimeout(_SOON)
            for connected in found:
                with suppress(OSError):
                    # Not the method of TLS sockets, whose state the other thread may be using.
                    socket.socket.shutdown(connected, socket.SHUT_RDWR)


class _WatchedSocket:
    """A socket of websocket-client, but for what is sent and received during the upgrade."""

    def __init__(self, connected: socket.socket, upgrading: Upgrading) -> None:
        self._socket = connected
        self._upgrading = upgrading
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def send(self, data: bytes) -> int:
        return self._upgrading.send(self._socket, data)

    def recv(self, size: int) -> bytes:
        if not self._head:
            self._head = self._upgrading.read_head(self._socket)
        piece, self._head = self._head[:size], self._head[size:]
        return piece


def _watched_class(kind: type[Any], upgrading: Upgrading) -> type[Any]:
    """Return a class like `kind`, of websocket-client, whose socket is watched."""

    class UpgradingWebSocket(kind):  # type: ignore[misc]
        _watched: Any = None

        @property
        def sock(self) -> Any:
            return self._watched

        @sock.setter
        def sock(self, connected: Any) -> None:
            timeout = None if connected is None else self.gettimeout()
            self._watched = upgrading.watch(connected, timeout)

    return UpgradingWebSocket


def _sockets_of(thread: int | None) -> Iterator[socket.socket]:
    """Yield the sockets in the variables of the functions that a thread is in."""
    frame = None if thread is None else sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        for value in list(frame.f_locals.values()):
            # A library for proxies wraps its socket.
            for candidate in (value, getattr(value, "_socket", None)):
                if isinstance(candidate, socket.socket):
                    yield candidate
        frame = frame.f_back
