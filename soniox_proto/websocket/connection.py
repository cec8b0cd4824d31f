"""One end of a WebSocket connection (RFC 6455), built on wsproto: bytes to messages and back.

It serves both roles and knows nothing of speech. It answers pings, joins fragments, bounds
everything it keeps, and reports any fault of the peer as one `Violation`.

Messages are framed when they are sent, not when `data_to_send` is called. So the bytes leave in
the order of the calls, and cutting the input elsewhere does not change the output.

That last property is worth a lot. A network may cut the stream anywhere, and a client that then
behaves differently has errors that nobody can reproduce. The tests feed sessions whole, cut in two
at every place, and byte by byte. It explains several oddities below: the head of the handshake is
measured here and not by h11, errors of decoders are reported without their positions, and text is
checked as it arrives.

wsproto performs the handshake and parses unusual frames. Ordinary data messages, pings and pongs
are framed directly (`framing.py`), which takes a tenth of the time. Where wsproto behaves in a
surprising way, a comment says so; `tests/core/websocket/test_wsproto_traps.py` shows each case.

One connection goes through these stages:

1. The handshake (`_receive_head`). wsproto gets the bytes up to the empty line and no further.
2. Frames. If no extension is in use, `FrameReader` reads what it can and passes the rest to
   wsproto frame by frame (`_receive_slowly`). With an extension wsproto reads everything.
3. The end (`_over`), after a close frame of the peer, a refusal or a violation. Further input is
   ignored. `open` is false from the first close frame on, ours or theirs, since nothing but the
   answering close frame may follow it (RFC 6455 section 5.5.1).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.events import Event as WSProtoEvent
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.handshake import client_extensions_handshake
from wsproto.utilities import RemoteProtocolError

from soniox_proto.options import DEFAULT_MAX_MESSAGE_SIZE
from soniox_proto.websocket.framing import (
    BINARY_FRAME,
    LARGE_MESSAGE,
    PING_FRAME,
    PONG_FRAME,
    TEXT_FRAME,
    FrameReader,
    FrameWriter,
)
from soniox_proto.websocket.http_head import (
    MAX_BODY_SIZE,
    MAX_HEAD_SIZE,
    HeadScanner,
    is_interim_answer,
)

__all__ = [
    "Accepted",
    "CloseReceived",
    "PongReceived",
    "Rejected",
    "UpgradeRequested",
    "Violation",
    "WebSocket",
    "WebSocketEvent",
    "close_code_may_be_sent",
]

MAX_EMPTY_FRAGMENTS: Final = 64
"""Empty fragments that one message may have. `max_message_size` never ends a message that consists
of them, yet each one takes time to parse."""

_HANDSHAKE_HEADERS: Final = frozenset(
    {"connection", "upgrade"}
    | {f"sec-websocket-{name}" for name in ("accept", "extensions", "protocol")}
)
"""Headers of an answer that concern the handshake alone; wsproto leaves them out too."""

_NOT_UTF_8 = "payload is not valid UTF-8"

_SLICE = 1024
"""Bytes that wsproto is given at a time. It turns its whole input into events before any of them
can be checked: a compressed frame may inflate a thousandfold, and the events of a body that comes
in tiny chunks take many times its size."""

_HeaderList: TypeAlias = "list[tuple[bytes, bytes]]"


@dataclass(slots=True)
class UpgradeRequested:
    """Server: a client asks for the upgrade."""

    target: str
    """Path and query of the request."""
    headers: dict[str, str]
    """Headers of the request, names in lower case."""
    subprotocols: list[str]
    """Subprotocols that the client offers."""


@dataclass(slots=True)
class Accepted:
    """Client: the server accepted the upgrade."""

    subprotocol: str | None
    """The subprotocol that the server selected, if any."""
    headers: dict[str, str]
    """Headers of the answer, names in lower case."""


@dataclass(slots=True)
class Rejected:
    """Client: the server refused the upgrade."""

    status_code: int
    """HTTP status code of the answer."""
    headers: dict[str, str]
    """Headers of the answer, names in lower case."""
    body: bytes
    """The body, at most `MAX_BODY_SIZE` bytes of it, or what came before the stream ended."""


@dataclass(slots=True)
class PongReceived:
    """The answer to a ping, or an unsolicited pong (RFC 6455 section 5.5.3)."""

    payload: bytes
    """That of the ping, if this is its answer."""


@dataclass(slots=True)
class CloseReceived:
    """The peer's close frame. Answer it with `send_close`."""

    code: int
    """Close code; 1005 if the frame has none (RFC 6455 section 7.1.5)."""
    reason: str
    """Reason in the frame, or ``""``."""


@dataclass(slots=True)
class Violation:
    """The peer broke the protocol. A close frame is queued, and nothing that follows is read."""

    code: int
    """Close code that names the violation (RFC 6455 section 7.4.1)."""
    message: str
    """What the peer did, for a person."""


WebSocketEvent: TypeAlias = (
    list[str | bytes]
    | UpgradeRequested
    | Accepted
    | Rejected
    | PongReceived
    | CloseReceived
    | Violation
)
"""What `WebSocket.receive_data` yields; a list holds whole messages, in order."""


def close_code_may_be_sent(code: int) -> bool:
    """Return whether `code` may stand in a close frame (RFC 6455 section 7.4)."""
    return code in _SENDABLE_CODES or 3000 <= code <= 4999


# 1004 is reserved; 1005, 1006 and 1015 are for reporting only and must not be sent.
_SENDABLE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})


class WebSocket:
    """One end of a WebSocket connection.

    Feed it with `receive_data` and `receive_eof`, write what `data_to_send` returns, and call
    nothing else before the upgrade is accepted (`open`). It never raises because of the peer.

    Args:
        role: Client or server.
        max_message_size: Size of the largest message accepted, in bytes after decompression.
        compression: Client: offer permessage-deflate (RFC 7692).
    """

    direct_framing: ClassVar[bool] = True
    """Handle whole data messages without wsproto. False gives the same results more slowly; tests
    compare the two."""

    __slots__ = (
        "_answer",
        "_body",
        "_early",
        "_empty_fragments",
        "_extensions",
        "_fragments",
        "_frame_is_empty",
        "_head",
        "_max_message_size",
        "_output",
        "_over",
        "_parser",
        "_reader",
        "_rejection",
        "_requested",
        "_role",
        "_writer",
        "open",
    )

    def __init__(
        self,
        role: ConnectionType,
        *,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        compression: bool = False,
    ) -> None:
        self._role = role
        # None from the handshake on, until there is a frame that cannot be handled directly.
        self._parser: WSConnection | Connection | None = WSConnection(role)
        self._max_message_size = max_message_size
        self._extensions: list[Extension] = [PerMessageDeflate()] if compression else []
        self._output: list[bytes] = []
        # Made when the WebSocket opens. They stay None if an extension is in use, because it
        # changes the frames.
        self._writer: FrameWriter | None = None
        self._reader: FrameReader | None = None
        self._head = HeadScanner()
        # Client: the head of the server's answer until it is complete.
        self._answer = b""
        # Server: whether the request has arrived, and what followed it before it was answered.
        self._requested = False
        self._early = bytearray()
        # The message that wsproto is handing out piece by piece.
        self._fragments = bytearray()
        self._frame_is_empty = True
        self._empty_fragments = 0
        self._rejection: Rejected | None = None
        self._body = bytearray()
        # Whether to ignore further input. wsproto carries on after its own errors, so this cannot
        # be derived from its state.
        self._over = False
        self.open = False
        """Whether messages can be sent."""

    # Output

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, ``b""`` when there are none."""
        output = self._output
        if not output:
            return b""
        self._output = []
        return output[0] if len(output) == 1 else b"".join(output)

    def buffers_to_send(self) -> list[bytes]:
        """Return the bytes to write now, as several buffers if that saves copying them.

        Small ones are joined all the same: for those the copy costs less than a longer list does
        in the system call.
        """
        output, self._output = self._output, []
        if len(output) > 1 and max(map(len, output)) < LARGE_MESSAGE:
            return [b"".join(output)]
        return output

    def request_upgrade(
        self,
        *,
        host: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        subprotocols: Sequence[str],
    ) -> None:
        """Client: queue the upgrade request (RFC 6455 section 4.1).

        Header values must be ASCII without line ends; `check_headers` has made sure.
        """
        self._send(
            Request(
                host=host,
                target=target,
                extra_headers=_encode_headers(headers),
                subprotocols=list(subprotocols),
                extensions=self._extensions,
            )
        )

    def offered_extensions(self) -> list[tuple[str, str]]:
        """Client: return the header with which the upgrade request offers extensions, if any."""
        offers = [f"{extension.name}; {extension.offer()}" for extension in self._extensions]
        return [("Sec-WebSocket-Extensions", ", ".join(offers))] if offers else []

    def adopt(self, headers: Mapping[str, str]) -> Accepted | Violation:
        """Client: take over a connection that somebody else has upgraded.

        Nothing may have been read after the head of the answer, whose headers these are. It has
        been checked, but for the extensions: whether they can be used is known here alone.
        """
        kept = {name.lower(): value for name, value in headers.items()}
        accepted = [item.strip() for item in kept.get("sec-websocket-extensions", "").split(",")]
        accepted = [item for item in accepted if item]
        try:
            extensions = client_extensions_handshake(accepted, self._extensions)
        except (RemoteProtocolError, ValueError, IndexError):
            self._parser = Connection(ConnectionType.CLIENT)
            return self._violated(1010, "not a WebSocket handshake: unexpected extensions")
        self._opened(Connection(ConnectionType.CLIENT, extensions))
        subprotocol = kept.get("sec-websocket-protocol")
        return Accepted(
            subprotocol, {name: kept[name] for name in kept if name not in _HANDSHAKE_HEADERS}
        )

    def accept(self, *, subprotocol: str | None, headers: Sequence[tuple[str, str]]) -> None:
        """Server: accept the upgrade (RFC 6455 section 4.2.2)."""
        self._send(
            AcceptConnection(
                subprotocol=subprotocol,
                extensions=self._extensions,
                extra_headers=_encode_headers(headers),
            )
        )
        self._opened(self._connection())

    def reject(
        self, status_code: int, *, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        """Server: refuse the upgrade with an HTTP status and a body."""
        # With a length the client knows where the body ends without waiting for the stream to end.
        length = [("content-length", str(len(body))), ("connection", "close")]
        self._send(
            RejectConnection(
                status_code=status_code,
                headers=_encode_headers([*headers, *length]),
                has_body=True,
            )
        )
        self._send(RejectData(data=body))
        self._end()

    def _connection(self) -> Connection:
        """Return the part of wsproto that is left after its own handshake."""
        assert isinstance(self._wsproto, WSConnection), "a WebSocket opens once"
        assert self._wsproto.connection is not None, "the upgrade was accepted"
        return self._wsproto.connection

    def _opened(self, connection: Connection) -> None:
        """Leave the handshake behind, and read and write frames directly if possible."""
        self.open = True
        if self.direct_framing and not any(extension.enabled() for extension in self._extensions):
            client = self._role is ConnectionType.CLIENT
            self._parser = None
            self._writer = FrameWriter(masked=client)
            self._reader = FrameReader(masked=not client, max_message_size=self._max_message_size)
        else:
            self._parser = connection

    @property
    def _wsproto(self) -> WSConnection | Connection:
        """The part of wsproto in use.

        Once frames are handled directly, it is made when first needed. Most sessions need it only
        to close, and it would take a sixth of the memory of an idle session.
        """
        if self._parser is None:
            self._parser = Connection(self._role)
        return self._parser

    def send_message(self, message: str | bytes) -> None:
        """Queue one message, text for `str`, binary for `bytes`. Dropped unless `open`.

        Dropping is right, since the caller cannot know when the peer's close frame arrives.
        """
        writer = self._writer
        if not self.open:
            return
        if writer is None:
            self._send(TextMessage(message) if isinstance(message, str) else BytesMessage(message))
        elif isinstance(message, str):
            self._output.append(writer.frame(TEXT_FRAME, message.encode()))
        elif len(message) < LARGE_MESSAGE:
            self._output.append(writer.frame(BINARY_FRAME, message))
        else:
            self._output += writer.frame_in_parts(BINARY_FRAME, message)

    def send_ping(self, payload: bytes) -> None:
        """Queue a ping (RFC 6455 section 5.5.2). Dropped unless `open`."""
        self._send_control(PING_FRAME, payload)

    def _send_control(self, first_byte: int, payload: bytes) -> None:
        # wsproto still reports pings after our close frame, but refuses to frame the pong.
        if not self.open:
            return
        if self._writer is None:
            self._send(Ping(payload) if first_byte == PING_FRAME else Pong(payload))
        else:
            self._output.append(self._writer.frame(first_byte, payload))

    def send_close(self, code: int, reason: str = "") -> None:
        """Queue a close frame, or the answer to the peer's, unless one has been sent.

        Nothing happens during the handshake either: without a WebSocket there is none to close.
        """
        if self._wsproto.state in {ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING}:
            self._send(CloseConnection(code, reason))

    def _send(self, event: WSProtoEvent) -> None:
        self._output.append(self._wsproto.send(event))
        self._note_state()

    def _note_state(self) -> None:
        # Cached, because asking wsproto costs a third of the time of sending a message.
        self.open = not self._over and self._wsproto.state is ConnectionState.OPEN

    def _end(self) -> None:
        self._over = True
        self.open = False

    # Input

    def receive_data(self, data: bytes) -> Iterator[WebSocketEvent]:
        """Yield what `data` completes: whole messages as lists, everything else one by one.

        Act on each event before asking for the next. wsproto changes its state during the
        iteration, and after a close frame it frames no answer to what came before.
        """
        # What came too early is read once the server has accepted, before anything newer.
        if self._early and self.open:
            data, self._early = bytes(self._early) + data, bytearray()
        if self._reader is None:
            data = yield from self._receive_head(data)
        reader = self._reader
        if reader is None or self._over:
            return
        messages = reader.read(data)
        if messages:
            yield messages
        # The reader stops at every frame that is not a whole data message. Handle that one, then
        # let it go on.
        while reader.stopped and not self._over:
            if reader.invalid_text:
                yield self._violated(1007, _NOT_UTF_8)
                return
            control = reader.read_control()
            if control is None:
                yield from self._receive_slowly(bytes(reader.read_delegated()))
            else:
                yield from self._handle_ping_or_pong(*control)
            if not self._over and (messages := reader.read()):
                yield messages

    def _handle_ping_or_pong(self, first_byte: int, payload: bytes) -> Iterator[PongReceived]:
        if first_byte == PONG_FRAME:
            yield PongReceived(payload)
        else:
            self._send_control(PONG_FRAME, payload)

    def _receive_head(self, data: bytes) -> Generator[WebSocketEvent, None, bytes]:
        """Yield the events of the handshake and of frames that only wsproto can read.

        Returns the bytes after the handshake once frames can be read directly. The first message
        often shares a segment with the handshake, and so would be given to wsproto with it.
        """
        position, end = 0, len(data)
        while position < end and not self._over and self._reader is None:
            piece = data[position : position + _SLICE]
            if self._wsproto.state is ConnectionState.CONNECTING:
                if self._requested:
                    yield from self._keep_early(data[position:])
                    return b""
                piece = piece[: self._head.scan(piece)]
                if self._head.too_large:
                    yield self._handshake_failed(
                        f"the head is larger than {MAX_HEAD_SIZE} bytes", RejectConnection(431)
                    )
                    return b""
                if self._role is ConnectionType.CLIENT:
                    position += len(piece)
                    yield from self._receive_answer(piece)
                    continue
            position += len(piece)
            yield from self._receive_slowly(piece)
        return data[position:]

    def _receive_answer(self, piece: bytes) -> Iterator[WebSocketEvent]:
        """Client: collect the head of an answer, and skip interim ones."""
        self._answer += piece
        if self._head.complete:
            answer, self._answer = self._answer, b""
            # wsproto would treat an interim answer (1xx) as a refusal.
            if not is_interim_answer(answer):
                yield from self._receive_slowly(answer)

    @property
    def between_frames(self) -> bool:
        """Whether frames are read directly, and the last byte received ended one."""
        return self._reader is not None and self._reader.between_frames

    @property
    def pending(self) -> bool:
        """Whether `receive_data` would yield something even without more data."""
        return bool(self._early) and self.open

    def _keep_early(self, data: bytes) -> Iterator[WebSocketEvent]:
        """Keep what a client sends before its request is answered.

        A client must not (RFC 6455 section 4.1), but some do. The amount is bounded, because the
        answer may take a while.
        """
        self._early += data
        if len(self._early) > MAX_HEAD_SIZE:
            yield self._handshake_failed("data before the answer", RejectConnection(400))

    def _handshake_failed(self, reason: str, answer: WSProtoEvent | None) -> Violation:
        # A server can answer a bad request with an HTTP status; a client can only leave.
        if answer is not None and self._role is ConnectionType.SERVER:
            self._send(answer)
        return self._violated(1002, f"not a WebSocket handshake: {reason}")

    def _receive_slowly(self, data: bytes) -> Iterator[WebSocketEvent]:
        """Give bytes to wsproto, and yield what it makes of them, event by event."""
        # Never call this with b"", which wsproto takes for the end of the stream during the
        # handshake, nor after both close frames, when wsproto refuses all input.
        failure = ""
        hint: WSProtoEvent | None = None
        try:
            self._wsproto.receive_data(data)
        except RemoteProtocolError as error:
            failure, hint = str(error), error.event_hint
        except (ValueError, IndexError):
            # wsproto cannot decode a header. The text of its exception would repeat the header.
            failure = "malformed header"
        # Events from before the failure still count.
        for event in self._wsproto.events():
            self._note_state()
            yield from self._handle(event)
            if self._over:
                return
        if failure and self._rejection is not None:
            # The HTTP status is more useful than what is wrong with its body.
            yield self._rejected(self._rejection)
        elif failure:
            yield self._handshake_failed(failure, hint)

    def receive_eof(self) -> Iterator[WebSocketEvent]:
        """Yield the refusal whose body ends with the stream, if there is one.

        wsproto is not told about the end. It would report a close frame that never came, even after
        a clean close, and during the handshake only that the HTTP message is bad.
        """
        if self._rejection is not None:
            yield self._rejected(self._rejection)

    def _handle(self, event: WSProtoEvent) -> Iterator[WebSocketEvent]:
        match event:
            case TextMessage() | BytesMessage():
                yield from self._join(event)
            case Ping():
                self._send_control(PONG_FRAME, bytes(event.payload))
            case Pong():
                yield PongReceived(bytes(event.payload))
            case CloseConnection():
                # A close frame changes the state of wsproto; a framing error does not.
                if self._wsproto.state in {ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED}:
                    self._end()
                    yield CloseReceived(int(event.code), event.reason or "")
                else:
                    # wsproto reports a framing error of the peer as if the peer had closed. Its
                    # text for bad UTF-8 contains a position, which depends on where reads end.
                    reason = _NOT_UTF_8 if event.code == 1007 else event.reason
                    yield self._violated(int(event.code), reason or "protocol error")
            case AcceptConnection():
                self._opened(self._connection())
                yield Accepted(event.subprotocol, _decode_headers(event.extra_headers))
            case RejectConnection():
                # A body follows: without one are interim answers only, which are skipped.
                self._rejection = Rejected(event.status_code, _decode_headers(event.headers), b"")
            case RejectData() if self._rejection is not None:
                self._body += event.data[: MAX_BODY_SIZE - len(self._body)]
                if event.body_finished or len(self._body) == MAX_BODY_SIZE:
                    yield self._rejected(self._rejection)
            case Request():
                self._requested = True
                headers = _decode_headers(event.extra_headers)
                headers["host"] = event.host
                yield UpgradeRequested(event.target, headers, list(event.subprotocols))
            case _:  # pragma: no cover
                raise AssertionError(f"unexpected event of wsproto: {type(event).__name__}")

    def _join(self, event: TextMessage | BytesMessage) -> Iterator[WebSocketEvent]:
        """Yield the whole message when its last piece arrives.

        wsproto limits neither the size of a frame nor the number of fragments, so both limits are
        here. They are checked for each piece: waiting for the whole would be too late.
        """
        text = isinstance(event, TextMessage)
        piece = event.data.encode() if isinstance(event, TextMessage) else event.data
        if len(self._fragments) + len(piece) > self._max_message_size:
            yield self._violated(
                1009, f"message larger than max_message_size ({self._max_message_size} bytes)"
            )
            return
        # One frame may arrive as several events.
        self._frame_is_empty = self._frame_is_empty and not piece
        if event.frame_finished:
            self._empty_fragments += self._frame_is_empty
            self._frame_is_empty = True
        if self._empty_fragments > MAX_EMPTY_FRAGMENTS:
            yield self._violated(
                1008, f"more than {MAX_EMPTY_FRAGMENTS} empty fragments in one message"
            )
            return
        # One buffer, because a list of tiny fragments would take many times their size.
        self._fragments += piece
        if event.message_finished:
            self._empty_fragments = 0
            message, self._fragments = bytes(self._fragments), bytearray()
            yield [message.decode() if text else message]

    def _rejected(self, rejection: Rejected) -> Rejected:
        self._rejection = None
        self._end()
        rejection.body = bytes(self._body)
        return rejection

    def _violated(self, code: int, message: str) -> Violation:
        self._end()
        self._fragments = bytearray()
        # Without a reason: a message of ours may quote the peer.
        self.send_close(code, "")
        return Violation(code, message)


def _encode_headers(headers: Sequence[tuple[str, str]]) -> _HeaderList:
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]


def _decode_headers(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers with names in lower case; repeated ones are joined (RFC 9110 section 5.3)."""
    decoded: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        decoded[name] = f"{decoded[name]}, {value}" if name in decoded else value
    return decoded
