"""The half of a session that does no I/O, shared by the blocking and the async session.

The rules of the protocol are in the core. What is here belongs to the documented session classes
and must not differ between them: their construction, their properties, and the errors that their
users get when a link fails or a call comes at the wrong time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, TypeVar

from typing_extensions import Unpack

from soniox_adapters.connecting.proxy import find_proxy
from soniox_adapters.connecting.websocket_client import WebSocketClient
from soniox_adapters.session.api_keys import APIKeySource, check_api_key_function
from soniox_adapters.session.finalizing import Finalizes
from soniox_adapters.session.flow_control import MAX_WAITING_MEMORY, FlowControl
from soniox_adapters.session.inbox import Inbox
from soniox_adapters.session.options import (
    SessionKeywords,
    SessionOptions,
    Transport,
    check_keywords,
    takes_options,
)
from soniox_adapters.session.utterances import PendingUtterances
from soniox_proto import (
    Event,
    Outcome,
    RealtimeControlType,
    RealtimeEvent,
    RealtimeSTTConfig,
    SessionState,
    SessionStats,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.errors import fresh

if TYPE_CHECKING:
    from soniox_adapters.session.preconnect import IdleConnectionsBase
    from soniox_proto import Link, Stream, Transcript

__all__ = [
    "AudioChunk",
    "SessionBase",
    "checked_control_type",
    "not_audio",
    "receive_timeout_error",
]

_RealtimeErrorT = TypeVar("_RealtimeErrorT", bound=SonioxRealtimeError)

AudioChunk: TypeAlias = "bytes | bytearray | memoryview"
"""Audio in the format that the configuration declares."""


WRITE_SIZE: Final = 16 * 1024
"""Bytes of audio to collect for one write, if that many are at hand."""


class SessionBase(ABC):
    """The base of both sessions: construction, properties, and errors.

    Args:
        url: `ws://` or `wss://` URL of the service.
        config: Configuration of the stream, or a mapping of its fields.
        api_key: API key; None sends none, for local servers. Or a function without arguments that
            returns one, and is asked whenever a connection is made, within the time for that: see
            `connect_timeout_sec`. In an async session it may be async. What it raises ends the
            session as a failed connection would.
        options: See `SessionOptions`, which lists and explains them.

    Raises:
        SonioxValidationError: The URL, the configuration, the key, a header or an option is
            invalid.
    """

    _clock: Callable[[], float]
    """Returns the time of the session, in seconds."""
    _runs_here: Callable[[], bool] = staticmethod(lambda: True)
    """Returns whether the caller runs where the session does."""

    _asynchronous: ClassVar[bool] = False
    """Whether `transport` may be an async function, or a stream of anyio or trio."""
    _idle_connections: IdleConnectionsBase | None = None
    """Where connections may be waiting for this session."""
    _pending_utterances: PendingUtterances | None = None
    """What the latest iteration over utterances has not handed out yet."""

    @takes_options
    def __init__(
        self,
        url: str,
        config: RealtimeSTTConfig | Mapping[str, Any],
        api_key: APIKeySource | None = None,
        **options: Unpack[SessionKeywords],
    ) -> None:
        check_keywords(type(self).__name__, options)
        self._options = SessionOptions(**options)
        self._options.check_transport(asynchronous=self._asynchronous)
        self._key_function = check_api_key_function(api_key, asynchronous=self._asynchronous)
        self._drive(
            self._options.make_stream(
                url,
                config,
                None if callable(api_key) else api_key,
                asks_for_key=self._key_function is not None,
            )
        )

    def _drive(self, machine: Stream) -> None:
        """Make `machine` the core of this session. It may ask for any number of links."""
        self._machine = machine
        self._flow = FlowControl(machine)
        policy = self._options.reconnect
        self._inbox = Inbox(
            self._flow,
            raise_on_error=self._options.raise_on_error,
            on_reconnect=None if policy is None else policy.on_event,
            on_measurement=self._options.on_measurement,
            recorder=machine.flight_recorder,
            session_id=id(self),
        )
        self._inbox.measure(machine.stats)
        # Whether a sender may have to wait until audio that is held has gone.
        self._waits_for_room = policy is not None
        # Whether a byte stream given as transport has been used: it serves for one link only.
        self._transport_taken = False
        self._set_up()

    def start_warm(self, idle_connections: IdleConnectionsBase) -> None:
        """Use connections that were opened beforehand, where there are any that fit.

        To be called before the session is entered.
        """
        if not idle_connections.may_serve(self._options):
            return
        from soniox_proto.preconnect.warm_stream import WarmStream

        timeout = self._options.connect_timeout_sec
        self._drive(WarmStream(self._machine, connect_timeout=timeout))
        self._idle_connections = idle_connections
        self._waits_for_room = True

    def _may_be_warm(self, link: Link) -> bool:
        """Return whether a link may be on a connection that was opened beforehand."""
        if self._idle_connections is None:
            return False
        from soniox_proto.preconnect.warm_stream import WarmStream

        return isinstance(self._machine, WarmStream) and self._machine.can_be_warm(link)

    @abstractmethod
    def _set_up(self) -> None:
        """Create the state that only this kind of session has."""

    @property
    def config(self) -> RealtimeSTTConfig:
        """The configuration of this session."""
        return self._machine.config

    @property
    def paused(self) -> bool:
        """Whether the session is paused: audio is dropped, keepalives flow."""
        return self._machine.paused

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The message that the user received last; None before the first."""
        return self._inbox.last_message

    @property
    def state(self) -> SessionState:
        """Where the session is in its life."""
        return self._machine.state

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain."""
        return self._machine.outcome

    @property
    def stats(self) -> SessionStats:
        """Counters and latencies of the session so far."""
        stats = self._machine.stats
        # Elsewhere there may be no clock to ask.
        if self._runs_here():
            stats.update(self._clock())
        return stats

    def sent_position_ms(self, server_ms: float) -> int:
        """Return where a time of a token lies in the audio that was sent, in ms.

        The service's clock runs ahead of the audio: each finalize adds up to 120 ms of silence to
        it. With a `ReconnectPolicy` the session has taken that out already, and this changes
        nothing. Audio that was dropped while paused was not sent.

        Raises:
            SonioxValidationError: The audio format is not a raw one.
        """
        return self._machine.sent_position_ms(server_ms)

    def captured_at(self, position_ms: float) -> float | None:
        """Return when the audio at a token's time was captured, in seconds.

        On the clock of the `captured_at` that was given to `send_byte_chunk`, to within 50 ms,
        whatever was left out, dropped while paused or added by a finalize in between. None where
        no `captured_at` was given. Where capture was broken off, the position belongs to the audio
        that follows.

        Args:
            position_ms: A time as this session gives it out, such as `token.start_ms`.

        Raises:
            SonioxValidationError: The audio format is not a raw one.
        """
        return self._machine.captured_at(position_ms)

    def parse_event(self, raw: str | bytes) -> RealtimeEvent:
        """Parse a raw message; raises `SonioxProtocolError` if it is not valid."""
        return RealtimeEvent.validate_event(raw)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value} at {id(self):#x}>"

    def _queue_audio(self, chunks: Iterator[AudioChunk], now: float) -> bool:
        """Queue chunks up to `WRITE_SIZE` bytes; return False if there were none left."""
        before = self._machine.stats.sent_audio_bytes
        queued = False
        for chunk in chunks:
            self._machine.send_audio(chunk, now)
            queued = True
            if self._machine.stats.sent_audio_bytes - before >= WRITE_SIZE:
                break
        return queued

    @property
    def _finalizes(self) -> Finalizes:
        """The calls that wait for a finalize. Made by the first one: most sessions have none."""
        finalizes = self._inbox.finalizes
        if finalizes is None:
            finalizes = self._inbox.finalizes = Finalizes(self._machine)
        return finalizes

    def _utterances_in(self, transcript: Transcript | None) -> PendingUtterances:
        """Return what an iteration has to hand out: first what the one before it left, if it goes
        on with its transcript."""
        pending = self._pending_utterances
        if pending is None or pending.transcript is not transcript or not pending.complete:
            pending = PendingUtterances(transcript, self._machine.stats)
            self._pending_utterances = pending
        return pending

    def _require_started(self) -> None:
        if self._machine.state is SessionState.IDLE:
            raise self._recorded(
                SonioxStateError(
                    "the session is not connected; enter it first, as a context manager or with "
                    "enter()"
                )
            )
        if self._machine.closed and self._machine.outcome is None:
            raise self._recorded(SonioxStateError("the session was closed before it was connected"))

    def _require_opened(self) -> None:
        """Raise unless the session opened, even if it is over by now: its messages are waiting."""
        if not self._inbox.opened:
            error = self._machine.error
            if error is not None:
                raise fresh(error)
            raise self._recorded(SonioxStateError("the session was closed while connecting"))

    def _abort_machine(self, cause: BaseException | None, now: float) -> list[Event]:
        """Abort the core, with `cause` as the error if given, and return its last events."""
        events: list[Event] = []
        if cause is not None:
            error = cause
            if not isinstance(error, SonioxRealtimeError):
                error = SonioxRealtimeError(f"the session was aborted: {cause!r}")
                error.__cause__ = cause
            events = self._machine.fail(error, now, close_code=1001)
        self._machine.abort(now)
        return events + self._machine.handle_timeout(now)

    def _transport_for_link(self) -> Transport | None:
        """Return the transport option for one more link.

        Raises `ConnectError` if it is a byte stream and an earlier link has used it.
        """
        transport = self._options.transport
        if not (transport is None or callable(transport) or isinstance(transport, WebSocketClient)):
            if self._transport_taken:
                from soniox_adapters.connecting.failures import ConnectError

                raise ConnectError(
                    "the byte stream given as transport is used up; give a function that opens one",
                    retryable=False,
                )
            self._transport_taken = True
        return transport

    def _connect_error(self, error: OSError, link: Link) -> SonioxRealtimeError:
        """Return the session's error for a link that could not be opened, with its cause."""
        # Imported here because most connections succeed.
        from soniox_adapters.connecting.failures import session_error

        own = self._options.transport is None
        proxy = find_proxy(self._options.proxy, link.endpoint) if own else None
        return session_error(error, link.endpoint, proxy)

    def _unusable_error(self, error: BaseException) -> SonioxRealtimeError:
        """Return the error for a link whose opening raised what no network can be blamed for."""
        if isinstance(error, SonioxRealtimeError):
            return error
        failure = SonioxConnectionError(f"cannot connect: {error}")
        failure.retryable = False
        failure.__cause__ = error
        return failure

    def _overflow_error(self) -> SonioxRealtimeError:
        """Return the error for a session that is blocked sending while nobody receives."""
        return SonioxRealtimeError(
            "the server takes no more audio before its messages are received, and those that wait "
            f"take {MAX_WAITING_MEMORY:,} bytes of memory already; receive while sending, for "
            "example in another thread or task"
        )

    def _why_not_sent(self) -> SonioxRealtimeError:
        """Return the error for a sender whose session ended before its message was written."""
        error = self._machine.error
        if error is not None and self._machine.outcome is Outcome.LOST:
            return fresh(error)
        failure = SonioxStateError(
            f"the session ended before the message was sent: {error or 'it was closed'}"
        )
        failure.__cause__ = error
        return self._recorded(failure)

    def _recorded(self, error: _RealtimeErrorT) -> _RealtimeErrorT:
        """Return an error with what happened in the session before. The core does so with its."""
        error.flight_record = self._machine.flight_recorder.record()
        return error


def lost_error(error: OSError) -> SonioxConnectionError:
    """Return the error for a byte stream that failed after it was open."""
    from soniox_adapters.connecting.failures import is_retryable

    failure = SonioxConnectionError(
        f"the connection was lost: {error.strerror or error}", close_code=1006
    )
    failure.__cause__ = error
    # TLS 1.3 rejects a missing client certificate only after the handshake, at the first read;
    # trying again does not help then.
    failure.retryable = is_retryable(error)
    return failure


def receive_timeout_error(timeout: float) -> SonioxTimeoutError:
    """Return the error for a receive that took longer than `timeout` seconds."""
    return SonioxTimeoutError(f"no message came within {timeout:g} s", operation="receive")


def not_audio(chunks: object) -> TypeError:
    """Return the error for an argument that `send_bytes` cannot send."""
    return TypeError(f"audio must be bytes or an iterable of bytes, not {type(chunks).__name__}")


def checked_control_type(value: RealtimeControlType | str) -> RealtimeControlType:
    """Return `value` as a control type; raises `SonioxValidationError` if there is no such type."""
    try:
        return RealtimeControlType(value)
    except ValueError:
        names = ", ".join(str(kind) for kind in RealtimeControlType)
        raise SonioxValidationError(f"control_type must be one of {names}, not {value!r}") from None
