"""The server's end of the protocol, as a state machine of the same shape as the client's.

It exists so that clients can be tested against the service's rules without the service: the local
server and the test doubles are built on it, and joined to a client machine in memory it needs no
network at all. It is therefore strict where the service is strict and lenient where the service is
lenient, even where a stricter server would be more helpful.

The run-loop is that of the client: feed what was received, write `data_to_send`, call
`handle_timeout` at `next_timeout`, stop when `closed`. Events report what the client did
(`server_events.py`); the calls answer it. `state.py` has the order of both.

How the service treats a client, and this machine with it:

- Mistakes are rarely an HTTP status. The service completes the upgrade even with a wrong key, or
  with one sent twice, then sends an error message and closes with code 1000. A client that only
  looks at the handshake misses the error. A mistake is reported as `RequestRefused`, with the code,
  type and text that the service uses. Nothing is answered automatically: the user of this class
  passes it to `send_error`, or tests what a client does with something else.
- After a mistake, end-of-audio or a close, the client's messages are read and dropped. They may
  have been under way before it could know.
- The connection is authenticated once it opens and may then stay idle as long as keepalives come
  (Soniox docs, "WebSocket authentication"). From the start message on, 20 s without audio or
  keepalive end the session with error 408 ("Connection keepalive").
- End-of-audio is an empty *text* message. An empty binary message is a chunk without audio: it
  ends nothing and does not count as a sign of life, so a client that means it as the end runs into
  408. (Measured live; Soniox's documentation of 2025 said otherwise.)
- Unknown fields of the start message are ignored; unknown types of control messages are refused.

There is no recognizer here and no opinion on keys. Both belong to the user of this class, as do
the results; `server_clock.py` puts their positions on the service's clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from pydantic import ValidationError
from wsproto import ConnectionType

from soniox_proto.config import RealtimeSTTConfig, describe_validation_error
from soniox_proto.credentials import SUBPROTOCOL, APIKey, Authentication, check_headers
from soniox_proto.errors import SonioxStateError, SonioxValidationError
from soniox_proto.messages import RealtimeEvent
from soniox_proto.options import (
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_MAX_MESSAGE_SIZE,
    check_seconds,
    check_size,
)
from soniox_proto.server_events import (
    AudioReceived,
    ClientClosed,
    EndOfAudioReceived,
    FinalizeReceived,
    KeepAliveReceived,
    RequestRefused,
    ServerEvent,
    StartReceived,
    UpgradeReceived,
)
from soniox_proto.start_request import (
    MAX_START_REQUEST_CHARACTERS,
    START_REQUEST_MALFORMED,
    read_start_request,
)
from soniox_proto.state import SERVER_TRANSITIONS, ServerInput, ServerState
from soniox_proto.timers import Timer, TimerTable
from soniox_proto.websocket.connection import (
    CloseReceived,
    PongReceived,
    UpgradeRequested,
    Violation,
    WebSocket,
    WebSocketEvent,
    close_code_may_be_sent,
)

__all__ = [
    "AudioReceived",
    "ClientClosed",
    "EndOfAudioReceived",
    "FinalizeReceived",
    "KeepAliveReceived",
    "RealtimeSTTServerConnection",
    "RequestRefused",
    "ServerEvent",
    "StartReceived",
    "UpgradeReceived",
]

DEFAULT_IDLE_TIMEOUT: Final = 20.0
"""Seconds without audio or keepalive after which the service gives up (Soniox docs, "Connection
keepalive")."""

_MAX_CONTROL_CHARACTERS: Final = 4096
"""Many times the length of any real control message. Longer ones are refused unparsed, so a client
cannot make the server spend time and memory on JSON that would be refused anyway."""

_MAX_SILENCE_MS: Final = 24 * 60 * 60 * 1000
"""A day: longer than any stream (300 minutes), so a larger number is a mistake."""


class RealtimeSTTServerConnection:
    """One client's session, seen from the server, as a pure state machine over a byte stream.

    Times are seconds (float) on any monotonic clock. Calls by the user raise if the user made a
    mistake, and then change nothing. Calls that feed never raise because of the client: they
    return events, the last of which is one `ClientClosed`. There is none for a session that the
    user rejects, or closes before it is open.

    Args:
        connect_timeout: Seconds that the upgrade request may take, from the first data on, or None
            for no limit.
        start_timeout: Seconds from the accepted upgrade, or from the latest keepalive, to the start
            message, or None for no limit.
        idle_timeout: Seconds without audio or keepalive, or None for no limit.
        close_timeout: Seconds that the client may take to answer a close frame, or None for no
            limit.
        max_message_size: Size of the largest message accepted, in bytes.

    Raises:
        SonioxValidationError: A number is out of range.
    """

    def __init__(
        self,
        *,
        connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT,
        start_timeout: float | None = DEFAULT_IDLE_TIMEOUT,
        idle_timeout: float | None = DEFAULT_IDLE_TIMEOUT,
        close_timeout: float | None = DEFAULT_CLOSE_TIMEOUT,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
    ) -> None:
        self._connect_timeout = check_seconds("connect_timeout", connect_timeout)
        self._start_timeout = check_seconds("start_timeout", start_timeout)
        self._idle_timeout = check_seconds("idle_timeout", idle_timeout)
        self._close_timeout = check_seconds("close_timeout", close_timeout)
        self._websocket = WebSocket(
            ConnectionType.SERVER,
            max_message_size=check_size("max_message_size", max_message_size),
        )
        self._state = ServerState.IDLE
        self._now = float("-inf")
        self._timers = TimerTable()
        self._api_key: APIKey | None = None
        self._refusal: RequestRefused | None = None
        self._subprotocol: str | None = None
        self._config: RealtimeSTTConfig | None = None
        self._received_audio_bytes = 0

    # Views

    @property
    def state(self) -> ServerState:
        """Where the session is in its life."""
        return self._state

    @property
    def closed(self) -> bool:
        """Whether the session is over and the transport may be closed."""
        return self._state is ServerState.CLOSED

    @property
    def config(self) -> RealtimeSTTConfig | None:
        """Configuration of the stream; None until the start message has arrived."""
        return self._config

    @property
    def received_audio_bytes(self) -> int:
        """Bytes of audio received so far."""
        return self._received_audio_bytes

    # Output and time

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, ``b""`` when there are none."""
        return self._websocket.data_to_send()

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        # A client may send data before its upgrade is accepted. `accept` returns no events, so that
        # data is due at once, for the next call that feeds.
        return self._now if self._websocket.pending else self._timers.next_timeout()

    def handle_timeout(self, now: float) -> list[ServerEvent]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        now = self._advance(now)
        # Data that was kept goes first: it may be what a timer is waiting for.
        events = self._receive(b"", now)
        for timer in self._timers.expire(now):
            if timer is Timer.START:
                events.append(self._refused(408, "request_timeout", "Start request timeout"))
            elif timer is Timer.IDLE:
                problem = (
                    "Request timeout."
                    if self._received_audio_bytes
                    else "Timed out while waiting for the first audio chunk"
                )
                events.append(self._refused(408, "request_timeout", problem))
            else:
                events += self._end(1006, "the client took too long")
        return events

    # Calls by the user

    def accept(self, now: float, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Accept the upgrade, selecting the subprotocol `soniox-api-key` if the client offers it.

        RFC 6455 section 4.1 makes a client fail the connection over a subprotocol that it did not
        offer, and browsers do the same if they offered some and none was selected.

        Raises:
            SonioxStateError: No upgrade request is waiting.
            SonioxValidationError: A header is invalid, or is set by the handshake itself.
        """
        self._require(ServerInput.ACCEPT)
        pairs = check_headers(headers, Authentication.MESSAGE)
        now = self._advance(now)
        self._websocket.accept(subprotocol=self._subprotocol, headers=pairs)
        self._enter(ServerInput.ACCEPT)
        self._timers.stop_all()
        self._timers.start(Timer.START, now, self._start_timeout)

    def reject(
        self,
        status_code: int,
        now: float,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        """Refuse the upgrade with an HTTP status. The session is closed then, without an event.

        The service itself prefers `accept` and `send_error`. This is what proxies and gateways in
        front of it do.

        Raises:
            SonioxStateError: No upgrade request is waiting.
            SonioxValidationError: The status is not that of an error (400 to 599), or a header is
                invalid or is set by the handshake itself.
        """
        self._require(ServerInput.REJECT)
        if not 400 <= status_code <= 599:
            raise SonioxValidationError(f"status_code must be 400 to 599, not {status_code!r}")
        pairs = check_headers(headers, Authentication.MESSAGE)
        self._advance(now)
        self._websocket.reject(status_code, headers=pairs, body=body)
        self._enter(ServerInput.REJECT)
        self._timers.stop_all()

    def send_result(self, message: RealtimeEvent | Mapping[str, Any], now: float) -> None:
        """Send a result. A mapping is sent as it is, including unknown fields.

        That allows a test to send what the service might send one day, or should never send.

        Raises `SonioxStateError` unless the stream has started and has not ended.
        """
        self._require(ServerInput.SEND_RESULT)
        self._advance(now)
        self._websocket.send_message(_encode(message))
        self._enter(ServerInput.SEND_RESULT)

    def send_error(
        self,
        error_code: int,
        error_type: str | None,
        error_message: str,
        now: float,
        *,
        request_id: str | None = None,
        more_info: str | None = None,
    ) -> None:
        """Send an error message, then the close frame with code 1000, as the service does.

        Args:
            error_code: Number of the error, with the meaning of an HTTP status.
            error_type: Stable name of the error, or None to leave it out.
            error_message: Description for a person.
            now: The time, in seconds.
            request_id: Identifier of the request, or None to leave it out.
            more_info: URL of a page about the error, or None to leave it out.

        Raises:
            SonioxStateError: The WebSocket is not open, or is closing.
        """
        self._require(ServerInput.SEND_ERROR)
        error = RealtimeEvent(
            error_code=error_code,
            error_type=error_type,
            error_message=_sendable(error_message),
            request_id=request_id,
            more_info=more_info,
        )
        self._websocket.send_message(_encode(error))
        self._close(ServerInput.SEND_ERROR, self._advance(now), 1000, "")

    def finish(self, message: RealtimeEvent | Mapping[str, Any], now: float) -> None:
        """Send `message` as the finished response, then the close frame with code 1000.

        `finished` is set whether or not `message` has it.

        Raises:
            SonioxStateError: The stream has not started, or has ended.
            SonioxValidationError: The mapping is not a message of the protocol.
        """
        self._require(ServerInput.FINISH)
        fields = message.model_dump() if isinstance(message, RealtimeEvent) else message
        try:
            finished = RealtimeEvent.model_validate({**fields, "finished": True})
        except ValidationError as error:
            raise SonioxValidationError(describe_validation_error(error)) from error
        self._websocket.send_message(_encode(finished))
        self._close(ServerInput.FINISH, self._advance(now), 1000, "")

    def close(self, now: float, code: int = 1000, reason: str = "") -> None:
        """Send the close frame, or give up a connection that is not open yet. Safe to repeat.

        Raises `SonioxValidationError` for a code that must not be sent in a close frame (RFC 6455
        section 7.4).
        """
        if not close_code_may_be_sent(code):
            raise SonioxValidationError(f"{code!r} is not a code for a close frame (RFC 6455)")
        now = self._advance(now)
        if self._websocket.open and not self.closed:
            self._close(ServerInput.CLOSE, now, code, reason)
        else:
            self._enter(ServerInput.CLOSE)
            if self.closed:
                self._timers.stop_all()

    # Calls that feed

    def receive_data(self, data: bytes, now: float) -> list[ServerEvent]:
        """Take bytes of the client, cut anywhere, and return the events that they complete."""
        now = self._advance(now)
        if self._state is ServerState.IDLE and self._timers.next_timeout() is None:
            self._timers.start(Timer.CONNECT, now, self._connect_timeout)
        return self._receive(data, now)

    def receive_eof(self, now: float) -> list[ServerEvent]:
        """Note the end of the byte stream. Calling it again is harmless."""
        events = self._receive(b"", self._advance(now))
        # Nobody is left to read what is still queued.
        self._websocket.data_to_send()
        return events + self._end(1006, "the connection was lost")

    # Inside

    def _advance(self, now: float) -> float:
        # As in the client's machine: time never goes backwards.
        if now > self._now:
            self._now = now
        return self._now

    def _receive(self, data: bytes, now: float) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        if not self.closed:
            for event in self._websocket.receive_data(data):
                events += self._handle(event, now)
        return events

    def _enter(self, server_input: ServerInput) -> None:
        self._state = SERVER_TRANSITIONS[self._state][server_input]

    def _require(self, server_input: ServerInput) -> None:
        if server_input not in SERVER_TRANSITIONS[self._state]:
            raise SonioxStateError(
                f"{server_input.name.lower()} is not possible: the session is {self._state.value}"
            )

    def _close(self, server_input: ServerInput, now: float, code: int, reason: str) -> None:
        self._websocket.send_close(code, reason)
        self._enter(server_input)
        self._timers.stop_all()
        self._timers.start(Timer.CLOSE, now, self._close_timeout)

    def _end(self, code: int, reason: str) -> list[ServerEvent]:
        self._timers.stop_all()
        if self.closed:
            return []
        self._enter(ServerInput.ENDED)
        return [ClientClosed(code, reason)]

    def _refused(self, error_code: int, error_type: str, message: str) -> RequestRefused:
        self._enter(ServerInput.REFUSE)
        self._timers.stop_all()
        return RequestRefused(error_code, error_type, message)

    def _bad_request(self, message: str) -> list[ServerEvent]:
        return [self._refused(400, "invalid_request", message)]

    def _handle(self, event: WebSocketEvent, now: float) -> list[ServerEvent]:
        match event:
            case list():
                events: list[ServerEvent] = []
                for message in event:
                    events += self._receive_message(message, now)
                return events
            case UpgradeRequested():
                return [self._receive_request(event)]
            case CloseReceived():
                # The answer echoes the code (RFC 6455 section 5.5.1), except for 1005, which stands
                # for "none" and must not be sent (section 7.4.1).
                self._websocket.send_close(1000 if event.code == 1005 else event.code)
                return self._end(event.code, event.reason)
            case Violation():
                return self._end(1006, event.message)
            case PongReceived():
                return []
            case _:  # pragma: no cover
                raise AssertionError(f"a server got {type(event).__name__}")

    def _receive_request(self, event: UpgradeRequested) -> UpgradeReceived:
        """Find the key, in the header or behind `soniox-api-key` in the list of subprotocols.

        It is taken out of what the event shows, so that logging the event is safe. A key in both
        places is refused only after the upgrade, where a browser can read why.
        """
        self._enter(ServerInput.REQUEST)
        self._timers.stop(Timer.CONNECT)
        headers, subprotocols = dict(event.headers), list(event.subprotocols)
        scheme, _, credentials = headers.pop("authorization", "").partition(" ")
        key = credentials.strip() if scheme.lower() == "bearer" else ""
        if SUBPROTOCOL in subprotocols:
            self._subprotocol = SUBPROTOCOL
            position = subprotocols.index(SUBPROTOCOL) + 1
            if position < len(subprotocols):
                if key:
                    self._refusal = RequestRefused(400, "invalid_request", _KEY_SENT_TWICE)
                key = subprotocols.pop(position)
        self._api_key = APIKey(key) if key else None
        return UpgradeReceived(event.target, headers, subprotocols, self._api_key, self._refusal)

    def _receive_message(self, message: str | bytes, now: float) -> list[ServerEvent]:
        if self._state is ServerState.STARTING:
            return self._receive_start(message, now)
        # After a mistake, end-of-audio or a close the client's messages are of no interest, and may
        # have been under way before.
        if self._state is not ServerState.STREAMING:
            return []
        if isinstance(message, bytes):
            return self._receive_audio(message, now)
        if message:
            return self._receive_control(message, now)
        if not self._received_audio_bytes:
            return self._bad_request("No audio received.")
        self._enter(ServerInput.END_OF_AUDIO)
        self._timers.stop(Timer.IDLE)
        return [EndOfAudioReceived()]

    def _receive_audio(self, chunk: bytes, now: float) -> list[ServerEvent]:
        if not chunk:
            # No audio, so it does not postpone the idle timeout either.
            return []
        self._enter(ServerInput.AUDIO)
        self._received_audio_bytes += len(chunk)
        self._timers.start(Timer.IDLE, now, self._idle_timeout)
        return [AudioReceived(chunk)]

    def _receive_start(self, message: str | bytes, now: float) -> list[ServerEvent]:
        if self._refusal is not None:
            return self._bad_request(self._refusal.error_message)
        if isinstance(message, bytes):
            return self._bad_request("Start request must be a text message.")
        if len(message) > MAX_START_REQUEST_CHARACTERS:
            return self._bad_request(
                f"Start request is too long (max length {MAX_START_REQUEST_CHARACTERS})."
            )
        fields = _parse_object(message)
        if fields is None:
            return self._bad_request(START_REQUEST_MALFORMED)
        if fields.get("type") == "keepalive":
            # A connection that is held open until it is needed.
            self._enter(ServerInput.KEEP_ALIVE)
            self._timers.start(Timer.START, now, self._start_timeout)
            return [KeepAliveReceived()]
        # The deprecated place for the key, which the service takes until 15 January 2027 (Soniox
        # docs, "Migrate WebSocket authentication").
        key = fields.pop("api_key", None)
        if key is not None and self._api_key is not None:
            return self._bad_request(_KEY_SENT_TWICE)
        if key is not None and not isinstance(key, str):
            return self._bad_request(f"{START_REQUEST_MALFORMED} (api_key must be a string)")
        try:
            self._config, unknown_fields = read_start_request(fields)
        except SonioxValidationError as error:
            return self._bad_request(str(error))
        self._enter(ServerInput.START)
        self._timers.stop(Timer.START)
        self._timers.start(Timer.IDLE, now, self._idle_timeout)
        return [StartReceived(self._config, APIKey(key) if key else self._api_key, unknown_fields)]

    def _receive_control(self, message: str, now: float) -> list[ServerEvent]:
        fields = _parse_object(message) if len(message) <= _MAX_CONTROL_CHARACTERS else None
        kind = None if fields is None else fields.get("type")
        if fields is None or not isinstance(kind, str):
            return self._bad_request(_CONTROL_REQUEST_MALFORMED)
        if kind == "keepalive":
            self._enter(ServerInput.KEEP_ALIVE)
            self._timers.start(Timer.IDLE, now, self._idle_timeout)
            return [KeepAliveReceived()]
        if kind != "finalize":
            return self._bad_request("Control request invalid type.")
        # `type(...) is int`, because True is an int to `isinstance`.
        silence = fields.get("trailing_silence_ms")
        if silence is None or (type(silence) is int and 0 <= silence <= _MAX_SILENCE_MS):
            self._enter(ServerInput.FINALIZE)
            return [FinalizeReceived(silence)]
        return self._bad_request(_CONTROL_REQUEST_MALFORMED)


_KEY_SENT_TWICE: Final = "The API key was sent in two places"
_CONTROL_REQUEST_MALFORMED: Final = "Control request is malformed."


def _parse_object(message: str) -> dict[str, object] | None:
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _sendable(text: str) -> str:
    """Return `text` with lone surrogates replaced, which UTF-8 cannot encode.

    An error message may quote the client, whose JSON can contain them as escapes.
    """
    return text.encode("utf-8", "replace").decode()


def _encode(message: RealtimeEvent | Mapping[str, Any]) -> str:
    if isinstance(message, RealtimeEvent):
        # The service sends `finished` only when it is true.
        left_out = None if message.finished else {"finished"}
        return message.model_dump_json(exclude_none=True, exclude=left_out)
    return json.dumps(message, ensure_ascii=False)
