"""Both ends of a connection behind the same few calls, for the fuzz target of the byte layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

from soniox_proto import (
    Event,
    RealtimeSTTConnection,
    RealtimeSTTServerConnection,
    ServerEvent,
    ServerState,
    SessionState,
    SonioxConnectionError,
)
from tests.fuzz.program import Do, Operation
from tests.support.core import frames
from tests.support.core.client import URL
from tests.support.core.frames import CLIENT_MASK, Frame, Headers, Opcode
from tests.support.core.messages import (
    API_KEY,
    CONFIG,
    FINALIZE,
    FINISHED,
    KEEPALIVE,
    START_MESSAGE,
    UNAUTHENTICATED,
    error,
    result,
    token,
)

__all__ = ["MAX_MESSAGE_SIZE", "ClientEnd", "End", "ServerEnd", "describe"]

MAX_MESSAGE_SIZE: Final = 400
MAX_PENDING_AUDIO: Final = 100

ACCEPT_TOKEN: Final = frames.accept_token("a2V5IGtleSBrZXkga2V5IA==")
"""Answer to the nonce that the fixed randomness of the target makes: `key key key key `."""

_DEFLATE: Final = ("Sec-WebSocket-Extensions", "permessage-deflate")

FROM_SERVICE: Final = (
    result("Hello", token(" wörld", is_final=False)),
    result("<end>", "<fin>"),
    FINISHED,
    UNAUTHENTICATED,
    error(503, None, "Cannot continue request (code 1)."),
    '{"tokens":"many"}',
    "",
    "x" * (MAX_MESSAGE_SIZE + 1),
)

FROM_CLIENT: Final = (
    START_MESSAGE,
    KEEPALIVE,
    FINALIZE,
    "",
    '{"type":"finalize","trailing_silence_ms":300}',
    '{"api_key":"k","model":"stt-rt-v5"}',
    "nonsense",
    "[" * MAX_MESSAGE_SIZE,
)


class End(ABC):
    """An end under test. Events come as text that tells all of them."""

    connection: RealtimeSTTConnection | RealtimeSTTServerConnection

    last_event: str
    """Name of the event that ends every connection."""

    mask: bytes | None
    """Mask of the peer's frames."""

    def data_to_send(self) -> bytes:
        return self.connection.data_to_send()

    def next_timeout(self) -> float | None:
        return self.connection.next_timeout()

    @property
    def closed(self) -> bool:
        return self.connection.closed

    @property
    def state(self) -> str:
        return self.connection.state.name

    @property
    @abstractmethod
    def started(self) -> bool:
        """Whether an end is to be told of."""

    def receive_data(self, data: bytes, now: float) -> list[str]:
        return list(map(describe, self.connection.receive_data(data, now)))

    def receive_eof(self, now: float) -> list[str]:
        return list(map(describe, self.connection.receive_eof(now)))

    def handle_timeout(self, now: float) -> list[str]:
        return list(map(describe, self.connection.handle_timeout(now)))

    @abstractmethod
    def use(self, operation: Operation, now: float) -> list[str]:
        """Make a call by the user."""

    @abstractmethod
    def may_refuse(self, operation: Operation) -> bool:
        """Return whether the call may raise in this state."""

    def encode(self, operation: Operation) -> bytes:
        """Return what the peer sends."""
        number = operation.number
        match operation.do:
            case Do.FRAME:
                return frames.encode(
                    number & 0x0F,
                    operation.payload,
                    final=bool(number & 0x80),
                    reserved=number >> 4 & 7,
                    mask=self.mask,
                )
            case Do.MESSAGE:
                return self._message(number)
            case Do.HANDSHAKE:
                return self._handshake(number)
            case _:
                return operation.payload

    @abstractmethod
    def _message(self, number: int) -> bytes: ...

    @abstractmethod
    def _handshake(self, number: int) -> bytes: ...

    @abstractmethod
    def check_output(self, output: bytes) -> None:
        """Fail unless this may be everything that a client, or a server, ever sent."""


class ClientEnd(End):
    """A client. The settings choose its options."""

    last_event = "Closed("
    mask = None

    def __init__(self, settings: int) -> None:
        self.compression = bool(settings & 0x02)
        self.connection: RealtimeSTTConnection = RealtimeSTTConnection(
            URL,
            CONFIG,
            api_key=None if settings & 0x04 else API_KEY,
            authentication="subprotocol" if settings & 0x08 else "header",
            finalize_timeout=3.0 if settings & 0x10 else None,
            keepalive_interval=None if settings & 0x20 else 5.0,
            ping_interval=2.0 if settings & 0x40 else 20.0,
            close_timeout=None if settings & 0x80 else 5.0,
            compression=self.compression,
            max_message_size=MAX_MESSAGE_SIZE,
            max_pending_audio=MAX_PENDING_AUDIO,
        )
        self._connected = False

    @property
    def started(self) -> bool:
        return self._connected

    def use(self, operation: Operation, now: float) -> list[str]:
        connection = self.connection
        match operation.do:
            case Do.CONNECT:
                connection.connect(now)
                self._connected = True
            case Do.SEND:
                connection.send_audio(operation.payload, now)
            case Do.FINALIZE:
                silence = operation.number
                connection.finalize(now, None if silence == 0 else silence - 1)
            case Do.KEEP_ALIVE:
                connection.keep_alive(now)
            case Do.FINISH:
                connection.finish(now)
            case Do.PAUSE:
                connection.pause(now, bool(operation.payload))
            case Do.RESUME:
                connection.resume(now)
            case Do.CLOSE:
                connection.close(now)
            case Do.ABORT:
                connection.abort(now)
            case Do.PAUSE_READING:
                connection.pause_reading(now)
            case Do.RESUME_READING:
                connection.resume_reading(now)
            case _:
                failure = SonioxConnectionError("the transport failed")
                code = 1001 if operation.number % 2 else None
                return list(map(describe, connection.fail(failure, now, close_code=code)))
        return []

    def may_refuse(self, operation: Operation) -> bool:
        if operation.do is Do.RAW:
            return self.connection.state is SessionState.IDLE
        return Do.CONNECT <= operation.do <= Do.RESUME

    def _message(self, number: int) -> bytes:
        message = FROM_SERVICE[number % len(FROM_SERVICE)]
        return frames.binary(message.encode()) if number & 0x80 else frames.text(message)

    def _handshake(self, number: int) -> bytes:
        upgraded: list[tuple[str, str]] = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
        accepting = [*upgraded, ("Sec-WebSocket-Accept", ACCEPT_TOKEN)]
        chunked = b"3\r\nwhy\r\n0\r\n\r\n"
        varieties = (
            _switching(accepting),
            _switching([*accepting, _DEFLATE]),
            _switching([*accepting, ("Sec-WebSocket-Protocol", "soniox-api-key")]),
            _switching([*upgraded, ("Sec-WebSocket-Accept", "wrong")]),
            frames.refusal("503 Busy", b"why", [("Retry-After", "7")]),
            frames.http_head("HTTP/1.1 401 No", [("Transfer-Encoding", "chunked")]) + chunked,
            frames.http_head("HTTP/1.1 403 No") + b"until the end",
            frames.http_head("HTTP/1.1 103 Early Hints"),
        )
        return varieties[number % len(varieties)]

    def check_output(self, output: bytes) -> None:
        if not output:
            return
        assert output.startswith(b"GET /transcribe-websocket HTTP/1.1\r\n")
        _, rest = frames.split_head(output)
        if not self.compression:
            sent = frames.decode(rest)
            _check_frames(sent)
            if sent:
                assert sent[0].message == START_MESSAGE, "the start message comes first"
            assert all(frame.opcode is not Opcode.BINARY or frame.payload for frame in sent)


class ServerEnd(End):
    """A server. It has no settings of its own."""

    last_event = "ClientClosed("
    mask = CLIENT_MASK

    def __init__(self, settings: int) -> None:
        self.connection: RealtimeSTTServerConnection = RealtimeSTTServerConnection(
            max_message_size=MAX_MESSAGE_SIZE,
            idle_timeout=None if settings & 0x02 else 20.0,
        )
        self._left = False

    @property
    def started(self) -> bool:
        return not self._left

    def use(self, operation: Operation, now: float) -> list[str]:
        connection = self.connection
        was_closed = connection.closed
        match operation.do:
            case Do.SEND:
                connection.send_result({"text": operation.payload.decode("latin-1")}, now)
            case Do.FINALIZE:
                connection.reject(400 + operation.number, now, body=b"why")
            case Do.KEEP_ALIVE:
                connection.accept(now)
            case Do.FINISH:
                connection.finish({"tokens": []}, now)
            case Do.PAUSE:
                text = operation.payload.decode("latin-1")
                connection.send_error(400, "invalid_request", text, now)
            case Do.CLOSE:
                connection.close(now, 1000 + operation.number)
            case _:
                return []
        # Who gives up before the WebSocket is open is not told that it is over.
        self._left = self._left or (connection.closed and not was_closed)
        return []

    def may_refuse(self, operation: Operation) -> bool:
        return operation.do >= Do.CONNECT

    def _message(self, number: int) -> bytes:
        message = FROM_CLIENT[number % len(FROM_CLIENT)]
        if number & 0x80:
            return frames.binary(message.encode(), mask=CLIENT_MASK)
        return frames.text(message, mask=CLIENT_MASK)

    def _handshake(self, number: int) -> bytes:
        request = frames.upgrade_request()
        offered = [("Sec-WebSocket-Protocol", "soniox-api-key, secret")]
        bearer = [("Authorization", "Bearer secret")]
        varieties = (
            request,
            frames.upgrade_request(headers=bearer),
            frames.upgrade_request(headers=offered),
            frames.upgrade_request(headers=[*offered, *bearer]),
            request.replace(b"GET", b"POST"),
            request.replace(b"Key", b"Lock"),
            request.replace(b"13", b"8"),
            request.replace(b"localhost", b"\xff"),
        )
        return varieties[number % len(varieties)]

    def check_output(self, output: bytes) -> None:
        if not output:
            return
        head, rest = frames.split_head(output)
        assert head.start_line.startswith("HTTP/1.1 ")
        if head.start_line.startswith("HTTP/1.1 101 "):
            _check_frames(frames.decode(rest, from_client=False))
        elif self.connection.state is not ServerState.CLOSED:
            raise AssertionError("it goes on although it refused")


def describe(event: Event | ServerEvent) -> str:
    """Return an event as text, and with it all that its error tells.

    But not the record of what happened before, which differs with the layers that were passed.
    """
    failure: Any = getattr(event, "error", None)
    if failure is None:
        return repr(event)
    told = {name: value for name, value in vars(failure).items() if name != "flight_record"}
    return f"{event!r} {told}"


def _switching(headers: Headers) -> bytes:
    return frames.http_head("HTTP/1.1 101 Switching Protocols", headers)


def _check_frames(sent: list[Frame]) -> None:
    opcodes = [frame.opcode for frame in sent]
    assert all(frame.final for frame in sent), "nothing is fragmented"
    assert Opcode.CONTINUATION not in opcodes
    assert Opcode.CLOSE not in opcodes[:-1], "nothing follows a close frame"
    for frame in sent:
        assert frame.opcode < Opcode.CLOSE or len(frame.payload) <= 125
        if frame.opcode is Opcode.TEXT:
            frame.payload.decode()
