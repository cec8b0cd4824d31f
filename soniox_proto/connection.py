"""The byte layer: a session over any byte stream, made of `RealtimeSTTProtocol` and a WebSocket.

It decides nothing about speech; `RealtimeSTTProtocol` does that (its module explains the life of a
session). What is added here is what needs a connection of our own: the upgrade request with the
API key, framing, and pings that notice a peer that is gone.

Pings and keepalives are easily confused. A keepalive is a message of Soniox's protocol. It shows
the service that the client is still there, and without it the service closes. A ping is a frame of
RFC 6455 (section 5.5.2). It shows *us* that the server is still there, since a TCP connection whose
far end has vanished looks just like an idle one. To the service, a ping is no keepalive.

Messages are framed as soon as the protocol queues them, so bytes leave in the order of the calls.
The API key is redacted from whatever the server says about the connection (headers, the body of a
refusal, error texts, close reasons), because some servers and proxies echo the request.

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
from typing import Any, Final, TypedDict

from wsproto import ConnectionType

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.credentials import (
    APIKey,
    Authentication,
    AuthenticationInput,
    HeadersInput,
    check_authentication,
    check_headers,
)
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import (
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.events import Event, Opened, Outcome, SessionStats
from soniox_proto.flight_recorder import FlightRecorder
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
from soniox_proto.upgrade import UpgradeRequest
from soniox_proto.websocket.connection import (
    Accepted,
    CloseReceived,
    PongReceived,
    Rejected,
    Violation,
    WebSocket,
    WebSocketEvent,
)

__all__ = ["ConnectionKeywords", "RealtimeSTTConnection"]

# Up to Python 3.11 looking up an enum member takes as long as a function call.
_IDLE: Final = SessionState.IDLE
_CLOSED: Final = SessionState.CLOSED


class ConnectionKeywords(TypedDict, total=False):
    """The keyword options of `RealtimeSTTConnection`, where they are explained."""

    authentication: AuthenticationInput
    connect_timeout: float | None
    close_timeout: float | None
    keepalive_interval: float | None
    ping_interval: float | None
    ping_timeout: float | None
    finalize_timeout: float | None
    max_message_size: int
    max_pending_audio: int
    additional_headers: HeadersInput | None
    compression: bool
    asks_for_key: bool


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
            `message`; see `Authentication`.
        connect_timeout: Seconds from `connect` to the accepted upgrade, or None for no limit.
        close_timeout: Seconds to wait for the peer's close frame before closing anyway, or None
            for no limit.
        keepalive_interval: Seconds without audio after which a keepalive goes out, paused or not;
            None for no keepalives. The service may close after 20 s without audio or keepalive.
        ping_interval: Seconds between WebSocket pings, or None for no pings.
        ping_timeout: Seconds that a pong may take before the session counts as lost, or None for no
            limit. A dead peer is noticed within `ping_interval` plus `ping_timeout`.
        finalize_timeout: Seconds that the service may take to answer a finalize, or None for no
            limit.
        max_message_size: Size of the largest message accepted, in bytes.
        max_pending_audio: Bytes of audio held before the session is open.
        additional_headers: Headers to add to the upgrade request.
        compression: Offer permessage-deflate (RFC 7692). Off by default: audio hardly compresses,
            and if the server agrees, every frame is handled the slow way.
        asks_for_key: Whether the key is not known yet. The driver then gives it with `authenticate`
            after `connect` and before the byte stream is used.

    Raises:
        SonioxValidationError: The URL, the configuration, the key, a header or an option cannot be
            used.
    """

    __slots__ = (
        "__weakref__",
        "_additional_headers",
        "_api_key",
        "_asks_for_key",
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
        authentication: AuthenticationInput = "header",
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
        asks_for_key: bool = False,
    ) -> None:
        form = check_authentication(authentication)
        self._asks_for_key = check_flag("asks_for_key", asks_for_key)
        if asks_for_key and api_key is not None:
            raise SonioxValidationError(
                "give api_key or asks_for_key, not both: a key that is known is not asked for"
            )
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
        """How the session ended; None until that is certain, and if it was never started."""
        return self._protocol.outcome

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if an error did."""
        return self._protocol.error

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The latest message of the service."""
        return self._protocol.last_message

    @property
    def stats(self) -> SessionStats:
        """Counters of the session so far."""
        return self._protocol.stats

    @property
    def flight_recorder(self) -> FlightRecorder:
        """What happened last. A session of several connections gives them one for all."""
        return self._protocol.flight_recorder

    @flight_recorder.setter
    def flight_recorder(self, recorder: FlightRecorder) -> None:
        self._protocol.flight_recorder = recorder

    def sent_position_ms(self, server_ms: float) -> int:
        """Return where a position of the service lies in the audio that was sent, in ms.

        Raises `SonioxValidationError` unless the audio format is a raw one.
        """
        return self._protocol.sent_position_ms(server_ms)

    def captured_at(self, position_ms: float) -> float | None:
        """Return when the audio at a position of the service was captured, in seconds.

        On the clock of the `captured_at` that was given with the audio, to within 50 ms; None
        where none was given.

        Raises `SonioxValidationError` unless the audio format is a raw one.
        """
        return self._protocol.captured_at(position_ms)

    # The byte stream

    @property
    def open_by(self) -> float | None:
        """When the upgrade must have been accepted; None for no limit, and once it was.

        A driver that opens the byte stream should give up at this time: nothing would come of it.
        """
        return self._protocol.connect_by

    @property
    def upgrade_request(self) -> UpgradeRequest:
        """What to put into an upgrade request that somebody else makes; see `upgraded`."""
        offer = self._websocket.offered_extensions()
        headers = [*self._additional_headers, *offer]
        return UpgradeRequest(self._api_key, self._authentication, headers)

    @property
    def asks_for_key(self) -> bool:
        """Whether `authenticate` has to be called before the byte stream is used."""
        return self._asks_for_key

    def authenticate(self, api_key: str | APIKey) -> None:
        """Give the API key that the connection asks for, and queue the upgrade request.

        Does nothing if the session has ended meanwhile.

        Raises:
            SonioxValidationError: The key cannot be sent.
            SonioxStateError: The connection does not ask for a key, or not yet.
        """
        key = APIKey.checked(api_key, self._authentication)
        if self._protocol.state is _CLOSED:
            return
        if not self._asks_for_key or self._protocol.state is not SessionState.CONNECTING:
            raise SonioxStateError(
                "the session takes an API key once, right after connect, and only if it was made "
                "with asks_for_key=True"
            )
        self._asks_for_key = False
        self._api_key = key
        self._protocol.authenticate(key, in_message=self._authentication is Authentication.MESSAGE)
        self._queue_upgrade_request()

    def opened(self, now: float) -> list[Event]:
        """Note that the byte stream is open. The upgrade request is queued already.

        Raises `SonioxStateError` if the connection still asks for its key.
        """
        if self._asks_for_key and self._protocol.state is SessionState.CONNECTING:
            raise SonioxStateError("the session asks for its API key; call authenticate first")
        self._advance(now)
        return []

    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        """Note that the byte stream is open, and a WebSocket already.

        For streams on which another library has made the upgrade, with what `upgrade_request`
        says. It takes the place of `opened`, and drops the upgrade request that `connect` queued.
        The next bytes to feed are those right after the head of the server's answer.

        Args:
            now: The time, in seconds.
            headers: Headers of the server's answer.

        Raises:
            SonioxStateError: The session is not connecting, or its own upgrade request is sent.
        """
        now = self._advance(now)
        if self._protocol.state is _CLOSED:
            return self._protocol.handle_timeout(now)
        # Taken first: it is the last thing that may be in the way.
        if self._protocol.state is not SessionState.CONNECTING or not self.data_to_send():
            raise SonioxStateError(
                "the session takes over an upgraded connection only right after connect, in place "
                "of sending its own upgrade request"
            )
        return self._flushed(self._handle(self._websocket.adopt(headers or {}), now))

    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        """Note that the byte stream could not be opened, or broke."""
        return self.fail(error, now)

    # Output and time

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, ``b""`` when there are none."""
        return self._websocket.data_to_send()

    def buffers_to_send(self) -> list[bytes]:
        """Return what `data_to_send` returns, as several buffers where that saves a copy.

        For drivers that can write several buffers with one call (`sendmsg`).
        """
        return self._websocket.buffers_to_send()

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running.

        Ask again after every other call, since each may change it.
        """
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
        # If the server has already refused the upgrade and only the body of its answer is
        # incomplete, its HTTP status explains more than a timeout would.
        if self._protocol.state is SessionState.CONNECTING and self._connect_is_overdue(now):
            events += self._receive_eof(now)
        events += self._protocol.handle_timeout(now)
        # Last, because the session may just have ended.
        if Timer.PING in due and self._websocket.open and not self._protocol.closed:
            self._send_ping(now)
        return self._flushed(events)

    # Calls by the user

    def connect(self, now: float) -> None:
        """Queue the upgrade request. Audio sent from now on is held until the session is open.

        The key travels in one place only: the service refuses a connection with two. If the
        connection asks for its key, the request is queued by `authenticate`.

        Raises `SonioxStateError` unless the connection is new.
        """
        self._protocol.connect(self._advance(now))
        if not self._asks_for_key:
            self._queue_upgrade_request()

    def send_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> None:
        """Queue a chunk of audio. An empty one is ignored; while paused, chunks are dropped.

        Args:
            chunk: The audio.
            now: The time, in seconds.
            captured_at: When the chunk's first sample was captured, in seconds on any clock; see
                `captured_at`. For raw audio formats only.

        Raises:
            TypeError: The chunk is not bytes.
            SonioxValidationError: The chunk is a memoryview that is not contiguous, or
                `captured_at` is no time or cannot be used with this audio format.
            SonioxStateError: The session is not connected, finished or closed, or more than
                `max_pending_audio` bytes would wait for it to open.
        """
        message = self._protocol.take_audio(chunk, now, captured_at)
        if message is not None:
            self._websocket.send_message(message)

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; a `Finalized` event is the answer.

        Every few seconds is often enough: the service may disconnect a client that does it too
        often (Soniox docs, "Manual finalization").

        Args:
            now: The time, in seconds.
            trailing_silence_ms: Silence already sent after the speech, in ms. The service then
                adds less of its own and answers sooner.

        Raises:
            SonioxStateError: The session is not connected, finished or closed.
            SonioxValidationError: `trailing_silence_ms` is not a whole number of 0 or more.
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
        """Queue end-of-audio; the service answers with the rest and the finished response.

        It is sent at most once. Calling this again has no effect, at any later time.

        Raises `SonioxStateError` if the session is not connected, or if it ended without
        end-of-audio.
        """
        self._protocol.finish(now)
        self._flush()

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on; with `finalize`, ask for outstanding tokens first.

        Keepalives continue. Safe to repeat.

        Raises `SonioxStateError` if the session is not connected, finished or closed.
        """
        self._protocol.pause(now, finalize)
        self._flush()

    def resume(self, now: float) -> None:
        """Send audio again. Safe to repeat.

        Raises `SonioxStateError` if the session is not connected or closed.
        """
        self._protocol.resume(now)

    def close(self, now: float) -> None:
        """End the session: queue end-of-audio if audio was sent without one, then a close frame.

        This does not wait for the rest of the transcript; to get it, call `finish` and wait for
        `Finished`. Whatever arrives before the server's close frame is still delivered. Safe to
        repeat, in any state.
        """
        self._protocol.close(now)
        self._flush()

    def abort(self, now: float) -> None:
        """End the session at once: a close frame if one can be sent, no waiting. Safe to repeat.

        The `Closed` event is returned by the next call that feeds.
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
        """Note that the driver reads again: deadlines continue with the time they had left.

        Safe to repeat; without a `pause_reading` before it nothing changes.
        """
        now = self._advance(now)
        self._timers.resume(now)
        self._protocol.resume_reading(now)

    # Calls that feed

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the server, cut anywhere, and return the events that they complete.

        Raises `SonioxStateError` before `connect`, when bytes can only be the driver's mistake.
        """
        protocol = self._protocol
        state = protocol.state
        if state is _IDLE:
            raise SonioxStateError("the session is not connected; call connect first")
        now = self._advance(now)
        # Bytes after the end are ignored, but a `Closed` that is still waiting is returned.
        if state is _CLOSED:
            return protocol.handle_timeout(now)
        events: list[Event] = []
        for event in self._websocket.receive_data(data):
            if type(event) is list:
                # Messages queue no output unless they end the session.
                events += protocol.receive_messages(event, now)
            else:
                events += self._handle(event, now)
                # After each event, not at the end: once a close frame further on in `data` has
                # been read, wsproto refuses to frame anything, even the start message.
                self._flush()
            if protocol.state is _CLOSED:
                self._flush()
                break
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """Note the end of the byte stream. Calling it again is harmless.

        Without a close frame before it the session is lost, however politely the transport ended:
        only a close frame says that the server meant to stop.
        """
        now = self._advance(now)
        if self._protocol.state is SessionState.IDLE:
            return []
        # The end may complete a refusal whose body had no length.
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
        """End the session because of `error`, a failure on our side or of the transport.

        With a `close_code`, a close frame with that code is queued. Without one, the transport
        failed or could not be opened, so nothing can be sent any more.
        """
        events = self._protocol.fail(error, self._advance(now), close_code=close_code)
        if close_code is None:
            self._websocket.data_to_send()
        return self._flushed(events)

    # Inside

    def _advance(self, now: float) -> float:
        # As in the protocol: time never goes backwards.
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
                # The answer echoes the code (RFC 6455 section 5.5.1), except for 1005, which stands
                # for "none" and must not be sent (section 7.4.1).
                self._websocket.send_close(1000 if event.code == 1005 else event.code)
                return self._protocol.receive_close(event.code, event.reason, now)
            case Rejected():
                refusal = self._request().refusal(event.status_code, event.headers, event.body)
                return self._protocol.fail(refusal, now)
            case Violation():
                error = self._request().violation(event)
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
        """Frame everything that the protocol has queued, then the close frame if it is time."""
        protocol, websocket = self._protocol, self._websocket
        for message in protocol.messages_to_send():
            websocket.send_message(message)
        close_code = protocol.close_code
        if close_code is not None and websocket.open:
            websocket.send_close(close_code)
        if protocol.state is _CLOSED:
            self._timers.stop_all()

    def _flushed(self, events: list[Event]) -> list[Event]:
        self._flush()
        return events

    def _send_ping(self, now: float) -> None:
        self._timers.start(Timer.PING, now, self._ping_interval)
        # A new ping would restart the deadline of one that is still unanswered, and with an
        # interval shorter than the timeout a dead peer would never be noticed.
        if self._ping_sent_at is None or self._ping_timeout is None:
            self._ping_count += 1
            self._ping_sent_at = now
            self._protocol.stats.sent_pings += 1
            self._websocket.send_ping(self._ping_count.to_bytes(4, "big"))
            self._timers.start(Timer.PONG, now, self._ping_timeout)

    def _receive_pong(self, payload: bytes, now: float) -> None:
        # A pong may also be unsolicited (RFC 6455 section 5.5.3); it proves nothing about our ping.
        if self._ping_sent_at is not None and payload == self._ping_count.to_bytes(4, "big"):
            self._protocol.stats.note_pong(now - self._ping_sent_at)
            self._ping_sent_at = None
            self._timers.stop(Timer.PONG)

    def _queue_upgrade_request(self) -> None:
        request = self._request()
        self._websocket.request_upgrade(
            host=self._endpoint.host_header,
            target=self._endpoint.target,
            headers=request.headers(),
            subprotocols=request.subprotocols(),
        )

    def _request(self) -> UpgradeRequest:
        return UpgradeRequest(self._api_key, self._authentication, self._additional_headers)

    def _redacted(self, text: str) -> str:
        """Return `text` of the server without the key, which some servers echo."""
        return text if self._api_key is None else self._api_key.redact(text)

    def _redacted_headers(self, headers: dict[str, str]) -> dict[str, str]:
        return {self._redacted(name): self._redacted(value) for name, value in headers.items()}
