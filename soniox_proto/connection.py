"""The byte layer: a session over any byte stream, made of `RealtimeSTTProtocol` and a WebSocket.

It decides nothing about speech; `RealtimeSTTProtocol` does. It owns the upgrade request with the
API key, frames what the protocol has to say, and keeps the connection alive with pings.

The run-loop, for your own socket, pipe or event loop::

    connection = RealtimeSTTConnection(url, config, api_key=key)
    connection.connect(now)
    while True:
        write(connection.data_to_send())
        if connection.closed:
            break
        # wait until readable, or until connection.next_timeout()
        events = connection.receive_data(data, now)  # or receive_eof, or handle_timeout
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wsproto import ConnectionType

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.credentials import (
    SUBPROTOCOL,
    APIKey,
    Authentication,
    HeadersInput,
    check_headers,
)
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import (
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.events import Event, Opened, Outcome, SessionStats
from soniox_proto.messages import RealtimeEvent
from soniox_proto.options import (
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_KEEPALIVE_INTERVAL,
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_MAX_PENDING_AUDIO,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PING_TIMEOUT,
    check_flag,
    check_seconds,
    check_size,
)
from soniox_proto.protocol import RealtimeSTTProtocol
from soniox_proto.state import SessionState
from soniox_proto.timers import Timer, TimerTable
from soniox_proto.websocket.connection import (
    Accepted,
    CloseReceived,
    PongReceived,
    Rejected,
    Violation,
    WebSocket,
    WebSocketEvent,
)

__all__ = ["RealtimeSTTConnection"]

_EXCERPT: Final = 200
"""Characters of a refused upgrade's body that its error message quotes."""


class RealtimeSTTConnection:
    """One speech-to-text session as a pure state machine over a byte stream.

    Times are seconds (float) on any monotonic clock; the machine never reads one itself. Calls by
    the user raise if the user made a mistake, and then change nothing. Calls that feed never raise
    because of the peer: they return events, and the last event of every session is one `Closed`.
    After every call, write `data_to_send()` and ask for `next_timeout()` again.

    Args:
        url: `ws://` or `wss://` URL of the service (see `REGIONS`).
        config: Configuration of the stream, or a mapping of its fields.
        api_key: API key, sent as `authentication` says; None sends none (local servers).
        authentication: `header` (default), `subprotocol` for temporary keys, or the deprecated
            `message`.
        connect_timeout: Seconds from `connect` to the accepted upgrade, or None for no limit.
        close_timeout: Seconds to wait for the peer's close frame before closing anyway, or None.
        keepalive_interval: Seconds without audio after which a keepalive goes out, or None.
        ping_interval: Seconds between WebSocket pings, or None for none.
        ping_timeout: Seconds a pong may take before the session counts as lost, or None.
        finalize_timeout: Seconds that the service may take to answer a finalize, or None.
        max_message_size: Bytes of the largest message taken.
        max_pending_audio: Bytes of audio held before the session is open.
        additional_headers: Headers to add to the upgrade request.
        compression: Offer permessage-deflate (RFC 7692); audio hardly compresses.

    Raises:
        SonioxValidationError: The URL, the configuration, the key, a header or an option cannot be
            used.
    """

    __slots__ = (
        "__weakref__",
        "_additional_headers",
        "_api_key",
        "_authentication",
        "_endpoint",
        "_now",
        "_ping_count",
        "_ping_interval",
        "_ping_sent_at",
        "_ping_timeout",
        "_protocol",
        "_timers",
        "_websocket",
    )

    def __init__(
        self,
        url: str,
        config: RealtimeSTTConfig | Mapping[str, Any],
        *,
        api_key: str | APIKey | None = None,
        authentication: str = Authentication.HEADER.value,
        connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT,
        close_timeout: float | None = DEFAULT_CLOSE_TIMEOUT,
        keepalive_interval: float | None = DEFAULT_KEEPALIVE_INTERVAL,
        ping_interval: float | None = DEFAULT_PING_INTERVAL,
        ping_timeout: float | None = DEFAULT_PING_TIMEOUT,
        finalize_timeout: float | None = None,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_pending_audio: int = DEFAULT_MAX_PENDING_AUDIO,
        additional_headers: HeadersInput | None = None,
        compression: bool = False,
    ) -> None:
        form = _authentication(authentication)
        self._endpoint = Endpoint.parse(url)
        self._api_key = None if api_key is None else APIKey.checked(api_key, form)
        self._authentication = form
        self._additional_headers = check_headers(additional_headers, form)
        self._ping_interval = check_seconds("ping_interval", ping_interval)
        self._ping_timeout = check_seconds("ping_timeout", ping_timeout)
        self._protocol = RealtimeSTTProtocol(
            config,
            api_key=self._api_key if form is Authentication.MESSAGE else None,
            hidden_key=self._api_key,
            connect_timeout=connect_timeout,
            close_timeout=close_timeout,
            keepalive_interval=keepalive_interval,
            finalize_timeout=finalize_timeout,
            max_pending_audio=max_pending_audio,
        )
        self._websocket = WebSocket(
            ConnectionType.CLIENT,
            max_message_size=check_size("max_message_size", max_message_size),
            compression=check_flag("compression", compression),
        )
        self._timers = TimerTable()
        self._now = float("-inf")
        self._ping_count = 0
        self._ping_sent_at: float | None = None

    # Views

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect to."""
        return self._endpoint

    @property
    def config(self) -> RealtimeSTTConfig:
        """Configuration of the stream."""
        return self._protocol.config

    @property
    def state(self) -> SessionState:
        """Where the session is in its life."""
        return self._protocol.state

    @property
    def paused(self) -> bool:
        """Whether audio is being dropped."""
        return self._protocol.paused

    @property
    def closed(self) -> bool:
        """Whether the session is over and the transport may be closed."""
        return self._protocol.closed

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain, and for one that never started."""
        return self._protocol.outcome

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if it was one."""
        return self._protocol.error

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The newest message of the service."""
        return self._protocol.last_message

    @property
    def stats(self) -> SessionStats:
        """Running account of the session."""
        return self._protocol.stats

    # Output and time

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, ``b""`` when there are none."""
        return self._websocket.data_to_send()

    def buffers_to_send(self) -> list[bytes]:
        """Return what `data_to_send` returns, as several buffers where that saves a copy.

        For drivers that can write several at once (`sendmsg`).
        """
        return self._websocket.buffers_to_send()

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is to be called, or None when no timer is armed."""
        mine, protocol = self._timers.next_timeout(), self._protocol.next_timeout()
        if mine is None or protocol is None:
            return protocol if mine is None else mine
        return min(mine, protocol)

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        now = self._advance(now)
        events: list[Event] = []
        due = list(self._timers.expire(now))
        if Timer.PONG in due:
            error = SonioxTimeoutError(
                f"the peer did not answer a ping within {self._ping_timeout} s",
                operation="ping",
            )
            events += self._protocol.fail(error, now, close_code=1011)
        # If the server has already answered with an HTTP status, report that, not a timeout.
        if self._protocol.state is SessionState.CONNECTING and self._connect_is_overdue(now):
            events += self._receive_eof(now)
        events += self._protocol.handle_timeout(now)
        # Pings come last: the session may just have ended.
        if Timer.PING in due and self._websocket.open and not self._protocol.closed:
            self._send_ping(now)
        return self._flushed(events)

    # Calls by the user

    def connect(self, now: float) -> None:
        """Queue the upgrade request. Audio sent from now on is held until the session is open.

        Raises `SonioxStateError` unless the connection is new.
        """
        self._protocol.connect(self._advance(now))
        headers = list(self._additional_headers)
        subprotocols: list[str] = []
        if self._api_key is not None:
            if self._authentication is Authentication.HEADER:
                headers.append(("Authorization", f"Bearer {self._api_key.reveal()}"))
            elif self._authentication is Authentication.SUBPROTOCOL:
                subprotocols = [SUBPROTOCOL, self._api_key.reveal()]
        self._websocket.request_upgrade(
            host=self._endpoint.host_header,
            target=self._endpoint.target,
            headers=headers,
            subprotocols=subprotocols,
        )

    def send_audio(self, chunk: bytes | bytearray | memoryview, now: float) -> None:
        """Queue a chunk of audio. An empty one is ignored; while paused, chunks are dropped.

        Raises:
            TypeError: The chunk is not bytes.
            SonioxValidationError: The chunk is a memoryview that is not contiguous.
            SonioxStateError: The session is not connected, finished or closed, or more than
                `max_pending_audio` bytes would wait for it to open.
        """
        self._protocol.send_audio(chunk, now)
        self._flush()

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; `Finalized` answers.

        Args:
            now: The time, in seconds.
            trailing_silence_ms: Silence already sent after the speech, in ms.

        Raises:
            SonioxStateError: The session is not connected, finished or closed.
            SonioxValidationError: `trailing_silence_ms` is not a whole number from 0.
        """
        self._protocol.finalize(now, trailing_silence_ms)
        self._flush()

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive now. The session sends them by itself whenever they are due.

        Raises `SonioxStateError` if the session is not connected, finished or closed.
        """
        self._protocol.keep_alive(now)
        self._flush()

    def finish(self, now: float) -> None:
        """Queue end-of-audio, once: the service sends the rest and the finished response.

        Raises `SonioxStateError` if the session is not connected or closed.
        """
        self._protocol.finish(now)
        self._flush()

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on, after a finalize if `finalize`. Keepalives go on.

        Raises `SonioxStateError` if the session is not connected, finished or closed.
        """
        self._protocol.pause(now, finalize)
        self._flush()

    def resume(self, now: float) -> None:
        """Send audio again.

        Raises `SonioxStateError` if the session is not connected or closed.
        """
        self._protocol.resume(now)

    def close(self, now: float) -> None:
        """End the session: end-of-audio if audio was sent without one, then the close handshake.

        Does not wait for the rest of the transcript (use `finish` and await `Finished` for that),
        but what comes before the server's answer is delivered. Safe to repeat.
        """
        self._protocol.close(now)
        self._flush()

    def abort(self, now: float) -> None:
        """End the session at once: a close frame if one can be sent, no waiting. Safe to repeat.

        The `Closed` event is returned by the next feeding call.
        """
        self._protocol.abort(now)
        self._flush()

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, as backpressure. Safe to repeat.

        What the server owes us (a pong, the answer to a finalize, a close frame) may be waiting
        in the socket, so its deadlines rest until `resume_reading`.
        """
        now = self._advance(now)
        self._timers.rest(now)
        self._protocol.pause_reading(now)

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again: deadlines go on with the time they had left.

        Safe to repeat; without a `pause_reading` before it nothing changes.
        """
        now = self._advance(now)
        self._timers.resume(now)
        self._protocol.resume_reading(now)

    # Calls that feed

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the server, cut anywhere.

        Raises `SonioxStateError` before `connect`: nobody can have sent them.
        """
        protocol = self._protocol
        if protocol.state is SessionState.IDLE:
            raise SonioxStateError("the session is not connected; call connect first")
        now = self._advance(now)
        if protocol.closed:
            return protocol.handle_timeout(now)
        events: list[Event] = []
        for event in self._websocket.receive_data(data):
            if type(event) is list:
                events += protocol.receive_messages(event, now)
            else:
                events += self._handle(event, now)
            # After each event: once a close frame that comes later in `data` is read, wsproto
            # refuses to frame anything.
            self._flush()
            if protocol.closed:
                break
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """Take the end of the stream. A second one is harmless."""
        now = self._advance(now)
        if self._protocol.state is SessionState.IDLE:
            return []
        events = self._receive_eof(now)
        text = "the connection was lost"
        if self._protocol.state is SessionState.CONNECTING:
            error = SonioxConnectionError(
                f"{text} before the server answered the WebSocket upgrade"
            )
        else:
            error = SonioxConnectionError(f"{text} without a close frame", close_code=1006)
        events += self._protocol.fail(error, now)
        # Nobody is left to read what is still queued.
        self._websocket.data_to_send()
        self._timers.stop_all()
        return events

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """End the session with `error`, which is not the server's doing.

        With a `close_code`, a close frame with it is queued for the server. Without one, the
        transport itself failed or could not be opened, and nothing can be sent any more.
        """
        events = self._protocol.fail(error, self._advance(now), close_code=close_code)
        if close_code is None:
            self._websocket.data_to_send()
        return self._flushed(events)

    # Inside

    def _advance(self, now: float) -> float:
        if now > self._now:
            self._now = now
        return self._now

    def _handle(self, event: WebSocketEvent, now: float) -> list[Event]:
        match event:
            case Accepted():
                self._protocol.start(now)
                self._timers.start(Timer.PING, now, self._ping_interval)
                subprotocol = event.subprotocol and self._redacted(event.subprotocol)
                return [Opened(subprotocol, self._redacted_headers(event.headers))]
            case PongReceived():
                self._receive_pong(event.payload, now)
                return []
            case CloseReceived():
                self._websocket.send_close(1000 if event.code == 1005 else event.code)
                return self._protocol.receive_close(event.code, event.reason, now)
            case Rejected():
                return self._protocol.fail(self._handshake_error(event), now)
            case Violation():
                error = SonioxProtocolError(
                    f"the server broke the WebSocket protocol: {self._redacted(event.message)}",
                    close_code=event.code,
                )
                return self._protocol.fail(error, now, close_code=event.code)
            case _:  # pragma: no cover
                raise AssertionError(f"a client got {type(event).__name__}")

    def _receive_eof(self, now: float) -> list[Event]:
        events: list[Event] = []
        for event in self._websocket.receive_eof():
            events += self._handle(event, now)
        return events

    def _connect_is_overdue(self, now: float) -> bool:
        deadline = self._protocol.next_timeout()
        return deadline is not None and deadline <= now

    def _flush(self) -> None:
        """Frame what the protocol has to say, in order."""
        protocol, websocket = self._protocol, self._websocket
        for message in protocol.messages_to_send():
            websocket.send_message(message)
        if protocol.close_code is not None and websocket.open:
            websocket.send_close(protocol.close_code)
        if protocol.closed:
            self._timers.stop_all()

    def _flushed(self, events: list[Event]) -> list[Event]:
        self._flush()
        return events

    def _send_ping(self, now: float) -> None:
        self._timers.start(Timer.PING, now, self._ping_interval)
        # While one ping is unanswered, another would only put off its deadline.
        if self._ping_sent_at is None or self._ping_timeout is None:
            self._ping_count += 1
            self._ping_sent_at = now
            self._websocket.send_ping(self._ping_count.to_bytes(4, "big"))
            self._timers.start(Timer.PONG, now, self._ping_timeout)

    def _receive_pong(self, payload: bytes, now: float) -> None:
        if self._ping_sent_at is not None and payload == self._ping_count.to_bytes(4, "big"):
            self._protocol.stats.latency = now - self._ping_sent_at
            self._ping_sent_at = None
            self._timers.stop(Timer.PONG)

    def _handshake_error(self, event: Rejected) -> SonioxHandshakeError:
        body = event.body if self._api_key is None else self._api_key.redact(event.body)
        excerpt = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())[:_EXCERPT]
        text = f"the server refused the WebSocket upgrade with HTTP status {event.status_code}"
        return SonioxHandshakeError(
            f"{text}: {excerpt}" if excerpt else text,
            status_code=event.status_code,
            headers=self._redacted_headers(event.headers),
            body=body,
        )

    def _redacted(self, text: str) -> str:
        """Return `text` of the server without the key: some servers echo the request."""
        return text if self._api_key is None else self._api_key.redact(text)

    def _redacted_headers(self, headers: dict[str, str]) -> dict[str, str]:
        return {self._redacted(name): self._redacted(value) for name, value in headers.items()}


def _authentication(value: str) -> Authentication:
    try:
        return Authentication(value)
    except ValueError:
        forms = ", ".join(repr(form.value) for form in Authentication)
        raise SonioxValidationError(
            f"authentication must be one of {forms}, not {value!r}"
        ) from None
