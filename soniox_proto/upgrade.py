"""What a session wants in its upgrade request, for those who make the upgrade themselves.

A connection makes its own upgrade request as a rule. Another WebSocket library may do that instead,
with proxies, TLS settings or cookies of its own, and hand over the upgraded connection
(`RealtimeSTTConnection.upgraded`). It then has to send what the session would have sent, and its
failures have to come out in the same words, without the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from wsproto import ConnectionType

from soniox_proto.credentials import SUBPROTOCOL, APIKey, Authentication
from soniox_proto.errors import SonioxHandshakeError, SonioxProtocolError, SonioxRealtimeError
from soniox_proto.websocket.connection import Rejected, Violation, WebSocket, WebSocketEvent
from soniox_proto.websocket.http_head import MAX_BODY_SIZE

__all__ = ["RefusalReader", "UpgradeRequest"]

_EXCERPT: Final = 200
"""Characters of a refused upgrade's body that the error message quotes. The whole body, as far as
it is kept, is in the error's `body`."""


class UpgradeRequest:
    """The headers and subprotocols of a session's upgrade request.

    They hold the API key, so they are methods: attributes show up where a key must not.
    """

    __slots__ = ("_additional_headers", "_api_key", "_authentication")

    def __init__(
        self,
        api_key: APIKey | None,
        authentication: Authentication,
        additional_headers: list[tuple[str, str]],
    ) -> None:
        self._api_key = api_key
        self._authentication = authentication
        self._additional_headers = additional_headers

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers to add to those of the handshake itself, as pairs of name and value.

        With `authentication="header"` the API key is among them.
        """
        headers = list(self._additional_headers)
        if self._api_key is not None and self._authentication is Authentication.HEADER:
            headers.append(("Authorization", f"Bearer {self._api_key.reveal()}"))
        return headers

    def subprotocols(self) -> list[str]:
        """Return the subprotocols to offer: the API key, with `authentication="subprotocol"`."""
        if self._api_key is None or self._authentication is not Authentication.SUBPROTOCOL:
            return []
        return [SUBPROTOCOL, self._api_key.reveal()]

    @property
    def api_key(self) -> APIKey | None:
        """The API key, wherever it is sent; None if none is."""
        return self._api_key

    def with_key(self, api_key: str | APIKey) -> UpgradeRequest:
        """Return the same request with another key.

        Raises `SonioxValidationError` if the key cannot be sent.
        """
        key = APIKey.checked(api_key, self._authentication)
        return UpgradeRequest(key, self._authentication, self._additional_headers)

    def redact(self, text: str) -> str:
        """Return `text` of a server or a library without the key, which some servers echo."""
        return text if self._api_key is None else self._api_key.redact(text)

    def refusal(
        self, status_code: int, headers: Mapping[str, str], body: bytes
    ) -> SonioxHandshakeError:
        """Return the error for an answer that refused the upgrade, without the key."""
        # Redacted before it is cut, which might leave half of the key.
        body = (body if self._api_key is None else self._api_key.redact(body))[:MAX_BODY_SIZE]
        # Cut before decoding: only the beginning of a body of up to 64 KiB is quoted.
        excerpt = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())[:_EXCERPT]
        text = f"the server refused the WebSocket upgrade with HTTP status {status_code}"
        return SonioxHandshakeError(
            f"{text}: {excerpt}" if excerpt else text,
            status_code=status_code,
            headers={self.redact(name): self.redact(value) for name, value in headers.items()},
            body=body,
        )

    def violation(self, found: Violation) -> SonioxProtocolError:
        """Return the error for an answer, or for frames, that break the WebSocket protocol."""
        return SonioxProtocolError(
            f"the server broke the WebSocket protocol: {self.redact(found.message)}",
            close_code=found.code,
        )


class RefusalReader:
    """Reads an answer that is no upgrade, from its first byte, as a connection of its own would.

    For those who make the upgrade with another library, which may read less of a refusal, or more:
    bodies that are cut short, come in chunks, or are too large to keep.
    """

    def __init__(self, request: UpgradeRequest) -> None:
        self._request = request
        self._websocket = WebSocket(ConnectionType.CLIENT)
        # An answer can only be read after a request. This one is not sent.
        self._websocket.request_upgrade(host="refused", target="/", headers=(), subprotocols=())
        self._error: SonioxRealtimeError | None = None

    def receive_data(self, data: bytes) -> SonioxRealtimeError | None:
        """Return the error that the answer means, None until it is complete."""
        return self._judge(self._websocket.receive_data(data))

    def receive_eof(self) -> SonioxRealtimeError | None:
        """Note that no more will come; return the error, None if there is no answer so far."""
        return self._judge(self._websocket.receive_eof())

    def _judge(self, events: Iterator[WebSocketEvent]) -> SonioxRealtimeError | None:
        for event in events:
            if isinstance(event, Rejected):
                self._error = self._request.refusal(event.status_code, event.headers, event.body)
            else:
                # An answer that accepts an upgrade accepts another one: the nonce is not its own.
                assert isinstance(event, Violation), "this request was never sent"
                self._error = self._request.violation(event)
        return self._error
