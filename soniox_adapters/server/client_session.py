"""One client of the local server: the server's core on an asyncio transport.

Whatever happens, bytes, a timer, a result of the recognizer, the same steps follow: call the core,
answer the events that it returns, write its output and set its timer (`_pump`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from concurrent.futures import Future
from typing import Any, Final, cast
from uuid import uuid4

from soniox_adapters.server.recognition import Recognition, Work
from soniox_adapters.server.recognizer import AudioDecodeError, HeaderAwaitedError
from soniox_adapters.server.server_context import ServerContext
from soniox_proto import (
    AudioReceived,
    ClientClosed,
    EndOfAudioReceived,
    FinalizeReceived,
    KeepAliveReceived,
    RealtimeEvent,
    RequestRefused,
    ServerEvent,
    ServerState,
    SonioxValidationError,
    StartReceived,
    UpgradeReceived,
)
from soniox_proto.server_faults import (
    ConnectionFault,
    Fault,
    HalfOpen,
    RefuseUpgrade,
    SessionLimit,
    Stall,
    Unavailable,
)

__all__ = ["ClientSession"]

logger = logging.getLogger(__name__)

_FLUSH_TIMEOUT: Final = 5.0
"""Seconds that a client may take to read the last bytes after its session is over."""

_REFUSAL_DELAY: Final = 0.5
"""Seconds that a client about to be refused gets to send its start message. The official client
loses an error that arrives before that; the service, too, takes a moment to check a key."""

_MORE_INFO: Final = "https://soniox.com/docs/api-reference/errors#"


class ClientSession(asyncio.BufferedProtocol):
    """One connection of a client, from its first byte until its socket is closed."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._connection = context.new_connection()
        self._fault = ConnectionFault(None)
        # Whether a fault keeps this session from reading and writing.
        self._stalled = False
        self._stall_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._transport_closing = False
        self._transport_lost = False
        self._client_may_send_more = False
        self._refusal: RequestRefused | None = None
        self._refusal_timer: asyncio.TimerHandle | None = None
        self._recognition: Recognition | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reading = True
        self._no_timeout_before = -math.inf
        self._writable = asyncio.Event()
        self._writable.set()
        self._unread_results_timer: asyncio.TimerHandle | None = None
        self._name = "a client"
        self._ending = "left before its transcript was complete"
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done once the connection is gone and the recognizer is closed."""

    # For the server

    @property
    def active(self) -> bool:
        """Whether this session counts towards the limit of concurrent sessions."""
        return self._refusal is None and self._connection.state in _ACTIVE_STATES

    @property
    def streaming(self) -> bool:
        """Whether this session counts towards the limit of concurrent streams."""
        return self._recognition is not None and not self._over

    @property
    def running_call(self) -> Future[Any] | None:
        """The call of the recognizer that is running in a thread, if there is one."""
        return None if self._recognition is None else self._recognition.running_call

    def say_goodbye(self) -> None:
        """Begin to close, because the server is stopping."""
        if self._stalled:
            self._transport.abort()
            return
        self._connection.close(self._loop.time(), 1001, "the server is stopping")
        self._pump()

    def abort(self) -> None:
        """Drop the connection; a recognizer in the middle of a call is left behind."""
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the session, and the time in which the upgrade request has to arrive."""
        self._transport = cast("asyncio.Transport", transport)
        self._name = _name_of_peer(transport)
        logger.info("%s connected", self._name)
        self._context.sessions.add(self)
        if self._context.stopping:
            self._transport.abort()
            return
        self._connection.receive_data(b"", self._loop.time())
        self._pump()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into."""
        return self._context.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Feed the core the bytes that were read."""
        data = bytes(self._context.read_buffer[:nbytes])
        self._no_timeout_before = -math.inf
        self._handle(self._connection.receive_data(data, self._loop.time()))
        self._pump()

    def eof_received(self) -> None:
        """Feed the core the end of the stream."""
        self._handle(self._connection.receive_eof(self._loop.time()))
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session, whoever ended the connection."""
        self._transport_lost = True
        self._connection.receive_eof(self._loop.time())
        if self._recognition is not None:
            self._recognition.stop()
        timers = (
            self._timer,
            self._refusal_timer,
            self._unread_results_timer,
            self._stall_timer,
        )
        for timer in timers:
            if timer is not None:
                timer.cancel()
        self._writable.set()
        self._check_ended()

    def pause_writing(self) -> None:
        """Stop recognizing and reading: the client does not read its results."""
        self._writable.clear()
        self._adjust_reading()
        if self._context.idle_timeout is not None:
            self._unread_results_timer = self._loop.call_later(
                self._context.idle_timeout, self._transport.abort
            )

    def resume_writing(self) -> None:
        """Go on: the client reads again."""
        if self._unread_results_timer is not None:
            self._unread_results_timer.cancel()
        self._writable.set()
        self._pump()

    # After every call of the core

    @property
    def _over(self) -> bool:
        state = self._connection.state
        return state is ServerState.CLOSING or state is ServerState.CLOSED

    def _pump(self) -> None:
        if self._transport_lost or self._stalled:
            return
        data = self._connection.data_to_send()
        if data:
            self._transport.write(data)
        if self._over and self._recognition is not None:
            self._recognition.stop()
        self._adjust_reading()
        if self._connection.closed:
            self._close_transport()
        else:
            self._arm_timer()

    def _adjust_reading(self) -> None:
        """Stop reading while the recognizer is behind or the client does not read its results.

        TCP then slows the client down.
        """
        backlog = 0 if self._recognition is None else self._recognition.backlog_bytes
        limit = self._context.max_queued_audio
        reading = self._writable.is_set() and backlog <= (limit if self._reading else limit // 2)
        if not reading and self._over:
            # The client's close frame comes after everything that it has already sent.
            reading = True
        if reading is self._reading:
            return
        self._reading = reading
        # While we do not read, silence is not the client's fault.
        if reading:
            self._no_timeout_before = self._loop.time() + (self._context.idle_timeout or 0.0)
            self._transport.resume_reading()
        else:
            self._no_timeout_before = math.inf
            self._transport.pause_reading()

    def _close_transport(self) -> None:
        if self._transport_closing:
            return
        self._transport_closing = True
        if self._timer is not None:
            self._timer.cancel()
        # Both calls below take effect once everything is written, but the client may never read it.
        self._timer = self._loop.call_later(_FLUSH_TIMEOUT, self._transport.abort)
        if self._client_may_send_more and self._transport.can_write_eof():
            # Closing a socket with unread bytes resets the connection, and the client would lose
            # our last message.
            self._transport.write_eof()
        else:
            self._transport.close()

    def _next_timeout(self) -> float | None:
        limit = None if self._over else self._fault.next_timeout()
        deadline = self._core_timeout()
        return limit if deadline is None else min(deadline, limit or deadline)

    def _core_timeout(self) -> float | None:
        deadline = self._connection.next_timeout()
        if deadline is None or deadline >= self._no_timeout_before or self._over:
            return deadline
        return self._no_timeout_before

    def _arm_timer(self) -> None:
        deadline = self._next_timeout()
        # If the deadline has moved to a later time, the old timer is kept: audio moves it all the
        # time, and a new timer for each chunk costs more than a useless call now and then.
        if deadline is None or (self._timer is not None and self._timer.when() <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer, deadline)

    def _on_timer(self, armed_for: float) -> None:
        self._timer = None
        # asyncio may call a timer early, by up to the resolution of its clock.
        now = max(armed_for, self._loop.time())
        fault = None if self._over else self._fault.handle_timeout(now)
        if fault is not None:
            self._apply(fault)
        deadline = self._core_timeout()
        if deadline is not None and deadline <= now:
            self._handle(self._connection.handle_timeout(now))
            if self._connection.closed:
                # A client that no longer answers will not read either.
                self._transport.abort()
                return
        self._pump()

    # Answers to events

    def _handle(self, events: list[ServerEvent]) -> None:
        for event in events:
            match event:
                case ClientClosed():
                    self._client_may_send_more = event.code == 1006
                case _ if self._over:
                    # It arrived together with what ended the session.
                    pass
                case AudioReceived():
                    due = self._fault.audio_received(event.data)
                    if due is not None:
                        self._apply(due)
                    if not self._over:
                        self._put(event.data)
                case FinalizeReceived() | EndOfAudioReceived():
                    self._put(event)
                case KeepAliveReceived():
                    pass
                case UpgradeReceived():
                    self._welcome(event)
                case StartReceived():
                    self._start(event)
                case RequestRefused():
                    self._answer(event)

    def _put(self, work: Work) -> None:
        assert self._recognition is not None, "the core lets nothing come before the start"
        self._recognition.put(work)

    def _welcome(self, request: UpgradeReceived) -> None:
        self._fault = self._context.faults.next_connection()
        refused = self._fault.fault
        if isinstance(refused, RefuseUpgrade):
            logger.info("%s is refused with HTTP status %d", self._name, refused.status_code)
            self._connection.reject(refused.status_code, self._loop.time())
            return
        # Like the service, accept every upgrade and report what is wrong in an error message.
        self._connection.accept(self._loop.time())
        self._fault.accepted(self._loop.time())
        self._refusal = self._context.refusal_of_request(request)
        if self._refusal is not None:
            self._refusal_timer = self._loop.call_later(_REFUSAL_DELAY, self._refuse_newcomer)

    def _refuse_newcomer(self) -> None:
        if self._refusal is not None and not self._over:
            self._answer(self._refusal)
            self._pump()

    def _start(self, start: StartReceived) -> None:
        self._fault.started(start.config)
        refusal = self._refusal or self._context.refusal_of_start(start)
        if refusal is not None:
            self._answer(refusal)
        else:
            self._recognition = Recognition(
                self._context.recognizer,
                start.config,
                self._context.executor,
                answer_delay=self._context.answer_delay,
            )
            self._task = self._loop.create_task(self._serve(self._recognition))
            self._task.add_done_callback(lambda _: self._check_ended())

    def _apply(self, fault: Fault) -> None:
        """Make a fault happen."""
        self._ending = f"met a fault: {type(fault).__name__}"
        match fault:
            case Unavailable():
                text = "Cannot continue request (code 1). Please restart the request."
                self._refuse(503, "service_unavailable", text)
            case SessionLimit():
                text = "The session of the temporary API key has expired."
                self._refuse(403, "temp_api_key_session_expired", text)
            case Stall():
                self._stall()
                self._stall_timer = self._loop.call_later(fault.seconds, self._end_stall)
            case HalfOpen():
                self._stall()
            case _:
                # What was written before still arrives.
                self._pump()
                self._stalled = True
                self._transport.close()

    def _stall(self) -> None:
        self._pump()
        self._stalled = True
        if self._reading:
            self._reading = False
            self._transport.pause_reading()
        self._no_timeout_before = math.inf

    def _end_stall(self) -> None:
        self._stalled = False
        self._pump()

    def _answer(self, refusal: RequestRefused) -> None:
        self._refuse(refusal.error_code, refusal.error_type, refusal.error_message)

    def _refuse(
        self, error_code: int, error_type: str, message: str, *, request_id: str | None = None
    ) -> None:
        self._ending = "left after the error"
        logger.info("%s failed: %d %s: %s", self._name, error_code, error_type, message)
        self._connection.send_error(
            error_code,
            error_type,
            message,
            self._loop.time(),
            request_id=request_id or str(uuid4()),
            more_info=_MORE_INFO + error_type.replace("_", "-"),
        )

    # The stream

    async def _serve(self, recognition: Recognition) -> None:
        """Recognize until the stream ends, and send the client its ending."""
        # The recognizer of a stream that is over takes a moment to close, and may hold a process.
        # New streams wait for that, so that clients which come and go quickly cannot pile them up.
        async with self._context.recognizer_slots:
            if not recognition.stopped:
                await self._recognize(recognition)

    async def _recognize(self, recognition: Recognition) -> None:
        try:
            await self._send_all_results(recognition)
        except HeaderAwaitedError as error:
            if not recognition.stopped:
                self._refuse(408, "request_timeout", str(error))
        except (AudioDecodeError, SonioxValidationError) as error:
            if not recognition.stopped:
                self._refuse(400, "invalid_request", str(error))
        except Exception as error:
            request_id = str(uuid4())
            logger.error("request %s: the recognizer failed", request_id, exc_info=error)
            if not recognition.stopped:
                self._refuse(
                    500,
                    "internal_error",
                    "The recognizer failed; the log of the server says why",
                    request_id=request_id,
                )
        self._pump()
        await recognition.close()

    async def _send_all_results(self, recognition: Recognition) -> None:
        connection, loop = self._connection, self._loop
        max_duration_ms = self._context.max_duration_seconds * 1000
        await recognition.open()
        while (results := await recognition.next_results()) is not None:
            for result in results:
                connection.send_result(result, loop.time())
            if recognition.audio_ms > max_duration_ms:
                self._refuse(
                    413,
                    "max_duration_reached",
                    f"The stream has reached its maximum duration of "
                    f"{self._context.max_duration_seconds:g} s of audio; start a new one",
                )
                return
            if results or not self._reading:
                self._pump()
            await self._writable.wait()
        if not recognition.stopped:
            rest = RealtimeEvent(
                final_audio_proc_ms=recognition.final_audio_proc_ms,
                total_audio_proc_ms=recognition.total_audio_proc_ms,
            )
            self._context.sessions_served += 1
            self._ending = "has its whole transcript"
            connection.finish(rest, loop.time())

    def _check_ended(self) -> None:
        if self._transport_lost and (self._task is None or self._task.done()):
            self._context.sessions.discard(self)
            if not self.ended.done():
                self.ended.set_result(None)
                logger.info("%s %s", self._name, self._ending)


_ACTIVE_STATES: Final = {
    ServerState.STARTING,
    ServerState.STREAMING,
    ServerState.FINISHING,
    ServerState.REFUSED,
}


def _name_of_peer(transport: asyncio.BaseTransport) -> str:
    address: object = transport.get_extra_info("peername")
    if not isinstance(address, tuple):
        return "a client"
    host, port, *_ = cast("tuple[object, ...]", address)
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
