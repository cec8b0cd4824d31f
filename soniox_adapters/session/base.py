"""The half of a session that does no I/O, shared by the blocking and the async session.

The rules of the protocol are the core's; here stands what turns its events into the documented
methods: what waits for the user, in which order, and how the stream ends for whoever receives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from soniox_adapters.connecting.proxy import ProxyOption, find_proxy
from soniox_adapters.session.connect_options import check_connect_options
from soniox_adapters.session.flow_control import MAX_WAITING_MEMORY, FlowControl, message_memory
from soniox_proto import (
    Closed,
    Event,
    Finished,
    HeadersInput,
    Opened,
    Outcome,
    RealtimeControlType,
    RealtimeEvent,
    RealtimeSTTConfig,
    Result,
    ServerError,
    SessionState,
    SessionStats,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.errors import fresh
from soniox_proto.options import (
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_KEEPALIVE_INTERVAL,
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PING_TIMEOUT,
    check_flag,
    check_seconds,
)

if TYPE_CHECKING:
    import ssl

    from soniox_proto import RealtimeSTTConnection

__all__ = [
    "AudioChunk",
    "Inbox",
    "ProxyOption",
    "SessionBase",
    "checked_control_type",
    "not_audio",
    "receive_timeout_error",
]

AudioChunk: TypeAlias = "bytes | bytearray | memoryview"
"""Audio, as the configuration declares it."""


WRITE_SIZE: Final = 16 * 1024
"""Bytes of chunks, ready at once, that are worth one write."""


_NO_RESULTS: Final[deque[Result]] = deque(maxlen=0)
"""What an inbox has before its first message: a deque takes more memory than all the rest of it."""


class Inbox:
    """Messages that wait for the user, and how the stream ends behind them."""

    __slots__ = (
        "_closed",
        "_ended",
        "_flow",
        "_last",
        "_raise_on_error",
        "_results",
        "_server_error",
        "last_message",
        "opened",
        "ready",
    )

    def __init__(self, flow: FlowControl, *, raise_on_error: bool) -> None:
        self._flow = flow
        self._raise_on_error = raise_on_error
        self._results: deque[Result] = _NO_RESULTS
        # The message that ends the stream: the finished response, or an error.
        self._last: RealtimeEvent | None = None
        self._server_error: SonioxServerError | None = None
        self._closed: Closed | None = None
        # Set once that message has been handed out.
        self._ended = False
        self.opened = False
        self.ready = False
        """Whether `take` can be called: there is a message, or the end."""
        self.last_message: RealtimeEvent | None = None
        """The message that was handed out last."""

    def put(self, events: list[Event]) -> None:
        """Take events of the core, in order."""
        results = self._results
        messages = memory = 0
        for event in events:
            if type(event) is Result:
                if results is _NO_RESULTS:
                    results = self._results = deque()
                results.append(event)
                self.ready = True
                messages += 1
                memory += message_memory(event.raw)
            elif type(event) is Finished:
                self._last = self._last or event.message
            elif type(event) is ServerError:
                self._last = self._last or event.message
                self._server_error = self._server_error or event.error
            elif type(event) is Closed:
                self._closed = self._closed or event
                self.ready = True
            elif type(event) is Opened:
                self.opened = True
        if messages:
            self._flow.messages_added(messages, memory)

    def take(self) -> Result | None:
        """Return the next message, or None at the end of the stream.

        Raises the error that ended the stream, after every message before it was returned.
        """
        result = self.take_message()
        if result is None:
            self._end()
        return result

    def take_message(self) -> Result | None:
        """Return the next message, or None if none waits or the stream is at its end."""
        results = self._results
        if not results or self._ended:
            return None
        result = results.popleft()
        self._flow.message_taken(message_memory(result.raw))
        self.last_message = message = result.message
        if message is self._last:
            self._ended = True
        elif not results:
            self.ready = self._closed is not None
        return result

    def _end(self) -> None:
        """Raise the error that ended the stream, if it is to be raised."""
        closed = self._closed
        if not self._ended and closed is not None and closed.error is not None:
            if closed.outcome is not Outcome.SERVER_ERROR:
                raise fresh(closed.error)
            self._ended = True
        if self._server_error is not None and self._raise_on_error:
            raise fresh(self._server_error)


class SessionBase(ABC):
    """What both sessions have in common: construction, views, and the way their streams end.

    Args:
        url: `ws://` or `wss://` URL of the service.
        config: Configuration of the stream, or a mapping of its fields.
        api_key: API key; None sends none, for local servers.
        connect_timeout_sec: Seconds for name resolution, TCP, TLS and the upgrade together.
        close_timeout_sec: Seconds that `close()` waits for the server at most.
        keepalive_interval_sec: Seconds without audio after which a keepalive goes out, paused or
            not; None for none.
        ping_interval_sec: Seconds between WebSocket pings; None for none.
        ping_timeout_sec: Seconds a pong may take before the connection counts as lost; None for
            no limit.
        finalize_timeout_sec: Seconds that the service may take to answer a finalize; None for no
            limit.
        max_message_size: Bytes of the largest message taken.
        ssl_context: TLS settings; None for the system's trust store.
        proxy: URL of a proxy (`http`, `socks5`, `socks4`); True for what the environment says,
            `NO_PROXY` included; None or False for no proxy.
        additional_headers: Headers to add to the upgrade request.
        authentication: How the key travels: `header`, `subprotocol` (temporary keys), or the
            deprecated `message`.
        compression: Offer permessage-deflate; audio hardly compresses.
        raise_on_error: Whether an error message raises `SonioxServerError` after it was
            delivered; False ends the iteration there.
        transport: An open byte stream, or a function that opens one, instead of TCP. What the
            function raises becomes a `SonioxConnectionError`, which is retryable for an `OSError`
            and not for an error in its code, such as `TypeError`.

    Raises:
        SonioxValidationError: The URL, the configuration, the key, a header or an option cannot be
            used.
    """

    _asynchronous: ClassVar[bool] = False
    """Whether the transport may be an async function, or a stream of anyio or trio."""

    def __init__(
        self,
        url: str,
        config: RealtimeSTTConfig | Mapping[str, Any],
        api_key: str | None = None,
        *,
        connect_timeout_sec: float | None = DEFAULT_CONNECT_TIMEOUT,
        close_timeout_sec: float | None = DEFAULT_CLOSE_TIMEOUT,
        keepalive_interval_sec: float | None = DEFAULT_KEEPALIVE_INTERVAL,
        ping_interval_sec: float | None = DEFAULT_PING_INTERVAL,
        ping_timeout_sec: float | None = DEFAULT_PING_TIMEOUT,
        finalize_timeout_sec: float | None = None,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        ssl_context: ssl.SSLContext | None = None,
        proxy: ProxyOption = True,
        additional_headers: HeadersInput | None = None,
        authentication: str = "header",
        compression: bool = False,
        raise_on_error: bool = True,
        transport: object = None,
    ) -> None:
        # Loaded with the first session, and wsproto with it: it takes a quarter of all the time.
        from soniox_proto.connection import RealtimeSTTConnection

        self._machine: RealtimeSTTConnection = RealtimeSTTConnection(
            url,
            config,
            api_key=api_key,
            authentication=authentication,
            # Checked here too, so that errors name the parameter that the user gave.
            connect_timeout=check_seconds("connect_timeout_sec", connect_timeout_sec),
            close_timeout=check_seconds("close_timeout_sec", close_timeout_sec),
            keepalive_interval=check_seconds("keepalive_interval_sec", keepalive_interval_sec),
            ping_interval=check_seconds("ping_interval_sec", ping_interval_sec),
            ping_timeout=check_seconds("ping_timeout_sec", ping_timeout_sec),
            finalize_timeout=check_seconds("finalize_timeout_sec", finalize_timeout_sec),
            max_message_size=max_message_size,
            additional_headers=additional_headers,
            compression=compression,
        )
        check_connect_options(ssl_context, proxy, transport, asynchronous=self._asynchronous)
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._transport_option = transport
        self._flow = FlowControl(self._machine)
        self._inbox = Inbox(self._flow, raise_on_error=check_flag("raise_on_error", raise_on_error))
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """Make the state that only one kind of session has."""

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
        """The message that was received last, if any."""
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
        """Running account of the session."""
        return self._machine.stats

    def parse_event(self, raw: str | bytes) -> RealtimeEvent:
        """Parse a raw message; raises `SonioxProtocolError` for what is not one."""
        return RealtimeEvent.validate_event(raw)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value} at {id(self):#x}>"

    def _queue_audio(self, chunks: Iterator[AudioChunk], now: float) -> bool:
        """Queue as many chunks as are worth one write; return False if there were none."""
        before = self._machine.stats.sent_audio_bytes
        queued = False
        for chunk in chunks:
            self._machine.send_audio(chunk, now)
            queued = True
            if self._machine.stats.sent_audio_bytes - before >= WRITE_SIZE:
                break
        return queued

    def _require_started(self) -> None:
        if self._machine.state is SessionState.IDLE:
            raise SonioxStateError(
                "the session is not connected; enter it first, as a context manager or with enter()"
            )
        if self._machine.closed and self._machine.outcome is None:
            raise SonioxStateError("the session was closed before it was connected")

    def _require_opened(self) -> None:
        """Raise unless the session opened; one that is over by now still has its messages."""
        if not self._inbox.opened:
            error = self._machine.error
            if error is not None:
                raise fresh(error)
            raise SonioxStateError("the session was closed while connecting")

    def _abort_machine(self, cause: BaseException | None, now: float) -> list[Event]:
        """Abort the core, because of `cause` if there is one, and return its last events."""
        events: list[Event] = []
        if cause is not None:
            error = cause
            if not isinstance(error, SonioxRealtimeError):
                error = SonioxRealtimeError(f"the session was aborted: {cause!r}")
                error.__cause__ = cause
            events = self._machine.fail(error, now, close_code=1001)
        self._machine.abort(now)
        return events + self._machine.handle_timeout(now)

    def _connect_error(self, error: OSError) -> SonioxRealtimeError:
        """Return what to raise when no stream to the server could be opened, with its cause."""
        # Loaded where it is needed, as most connections can be opened.
        from soniox_adapters.connecting.failures import session_error

        endpoint = self._machine.endpoint
        proxy = find_proxy(self._proxy, endpoint) if self._transport_option is None else None
        return session_error(error, endpoint, proxy)

    def _lost_error(self, error: OSError) -> SonioxConnectionError:
        """Return the error for a stream that failed after it was open."""
        from soniox_adapters.connecting.failures import is_retryable

        failure = SonioxConnectionError(
            f"the connection was lost: {error.strerror or error}", close_code=1006
        )
        failure.__cause__ = error
        # Where the server wants a certificate, TLS 1.3 fails with the first read only.
        failure.retryable = is_retryable(error)
        return failure

    def _overflow_error(self) -> SonioxRealtimeError:
        """Return the error for a session that waits to send while nobody receives."""
        return SonioxRealtimeError(
            "the server takes no more audio before its messages are received, and those that wait "
            f"take {MAX_WAITING_MEMORY:,} bytes of memory already; receive while sending, for "
            "example in another thread or task"
        )

    def _why_not_sent(self) -> SonioxRealtimeError:
        """Return what to raise to a sender whose session ended before its message was out."""
        error = self._machine.error
        if error is not None and self._machine.outcome is Outcome.LOST:
            return fresh(error)
        failure = SonioxStateError(
            f"the session ended before the message was sent: {error or 'it was closed'}"
        )
        failure.__cause__ = error
        return failure


def receive_timeout_error(timeout: float) -> SonioxTimeoutError:
    """Return the error for a receive that took longer than `timeout` seconds."""
    return SonioxTimeoutError(f"no message came within {timeout:g} s", operation="receive")


def not_audio(chunks: object) -> TypeError:
    """Return the error for what `send_bytes` cannot send."""
    return TypeError(f"audio must be bytes or an iterable of bytes, not {type(chunks).__name__}")


def checked_control_type(value: RealtimeControlType | str) -> RealtimeControlType:
    """Return a control type; raises `SonioxValidationError` for what is none."""
    try:
        return RealtimeControlType(value)
    except ValueError:
        names = ", ".join(str(kind) for kind in RealtimeControlType)
        raise SonioxValidationError(f"control_type must be one of {names}, not {value!r}") from None
