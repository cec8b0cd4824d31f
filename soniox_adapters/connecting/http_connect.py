"""Asking an HTTP proxy for a tunnel, using h11, without I/O (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import base64
from typing import Final

import h11

from soniox_adapters.connecting.failures import ConnectError
from soniox_adapters.connecting.proxy import Proxy
from soniox_proto import Endpoint

__all__ = ["READ_SIZE", "HttpConnect"]

READ_SIZE: Final = 1
"""Bytes to read at a time. What follows the response head belongs to the tunnel, so it must stay
in the socket."""

MAX_HEAD_SIZE: Final = 64 * 1024
"""Maximum bytes of the proxy's response head, interim responses included."""

_START: Final = b"HTTP/"

_RETRYABLE_STATUS_CODES: Final = frozenset({408, 425, 429})
"""Statuses, besides 5xx, that may not come again. Others, such as 403 and 407, would."""


class HttpConnect:
    """One CONNECT exchange: send `request`, feed what is read until `receive_data` returns True."""

    def __init__(self, proxy: Proxy, endpoint: Endpoint) -> None:
        self._has_credentials = bool(proxy.username or proxy.password)
        self._size = 0
        self._start = b""
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_SIZE)
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        target = f"{host}:{endpoint.port}"
        headers = [("Host", target)]
        if self._has_credentials:
            pair = f"{proxy.username}:{proxy.password}".encode()
            headers.append(("Proxy-Authorization", f"Basic {base64.b64encode(pair).decode()}"))
        request = h11.Request(method="CONNECT", target=target, headers=headers)
        self.request: bytes = (self._connection.send(request) or b"") + (
            self._connection.send(h11.EndOfMessage()) or b""
        )

    def receive_data(self, data: bytes) -> bool:
        """Feed what was read, ``b""`` at the end of the stream; return whether the tunnel is open.

        Raises `ConnectError` if the proxy refuses.
        """
        if not data:
            raise ConnectError("the proxy closed the connection before it answered", retryable=True)
        if len(self._start) < len(_START):
            # Checked early, because servers of some protocols send a greeting and then wait (SSH,
            # SMTP), so that a complete HTTP response would never come.
            self._start = (self._start + data)[: len(_START)]
            if not _START.startswith(self._start):
                raise _not_http()
        self._size += len(data)
        if self._size > MAX_HEAD_SIZE:
            raise ConnectError("the proxy's answer does not end", retryable=False)
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise _not_http() from error
        if not isinstance(event, h11.Response):
            return False
        if not 200 <= event.status_code < 300:
            raise self._refusal(event)
        return True

    def _refusal(self, response: h11.Response) -> ConnectError:
        status = response.status_code
        reason = response.reason.decode("latin-1")[:100]
        text = f"the proxy refused the connection with HTTP status {status} {reason!r}"
        if status == 407:
            text += (
                "; check the user name and password in its URL"
                if self._has_credentials
                else "; its URL must hold a user name and a password"
            )
        return ConnectError(text, retryable=status >= 500 or status in _RETRYABLE_STATUS_CODES)


def _not_http() -> ConnectError:
    return ConnectError(
        "the proxy did not answer in HTTP; check its host, port and scheme", retryable=False
    )
