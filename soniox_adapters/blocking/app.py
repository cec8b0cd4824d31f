"""Sessions in the manner of websocket-client's `WebSocketApp`: callbacks, and `run_forever`.

websocket-client opens the connection and makes the upgrade, with the options of `run_forever`. The
frames and the timers are those of every session: websocket-client alone sends no pings while a
callback runs, blocks in the middle of a frame, and checks UTF-8 in Python, which costs more than
all the rest of a message.

Without a dispatcher the thread in `run_forever` receives and makes the callbacks. With one,
`run_forever` returns once the session is open. A thread then receives, and a socket wakes the
dispatcher, whose own thread makes the callbacks.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from typing_extensions import Unpack

from soniox_adapters.blocking.handover import Action, Handover
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.connecting.websocket_client import websocket_client
from soniox_adapters.session.api_keys import APIKeySource
from soniox_adapters.session.base import AudioChunk
from soniox_adapters.session.options import SessionKeywords, check_keywords
from soniox_proto import (
    APIKey,
    Closed,
    Event,
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    SessionState,
    SessionStats,
    SonioxConnectionError,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxValidationError,
)

__all__ = ["Dispatcher", "RealtimeSTTApp"]

_Emit: TypeAlias = Callable[[Action], object]

_NO_EFFECT: Final = ("ping_payload", "skip_utf8_validation")
"""Keywords of `WebSocketApp.run_forever` that are taken and mean nothing here."""


def _at_once(action: Action) -> None:
    action()


class _Unset(Enum):
    """Stands for an argument that was not given, where None is a value."""

    UNSET = "unset"


class Dispatcher(Protocol):
    """What `run_forever` needs of a dispatcher, such as the module `rel`."""

    def read(self, sock: socket.socket, callback: Callable[[], bool], /) -> object:
        """Call `callback` whenever the socket is readable, until it returns False."""
        ...


class RealtimeSTTApp:
    """A realtime transcription stream with callbacks, in the manner of `websocket.WebSocketApp`.

    The callbacks are made one after the other, by the thread of `run_forever` or of its dispatcher.
    Every other method may be called from any thread, and from callbacks. An exception of a
    callback goes to `on_error`; without `on_error`, or from it, `run_forever` raises it, or the
    dispatcher does. Ctrl-C ends the session and is raised too.

    Args:
        url: `ws://` or `wss://` URL of the service.
        config: Configuration of the stream, or a mapping of its fields.
        api_key: API key; None sends none, for local servers. Or a function that returns one, as for
            `RealtimeSTTSession`.
        on_open: Called with the app when the session is open.
        on_event: Called with the app and each `RealtimeEvent`, in order.
        on_finished: Called with the app and the finished response, after `on_event`.
        on_error: Called with the app and the error that ended the session, if one did.
        on_close: Called with the app, the close code and the reason, last and once for each run.
            The code is None if there was no WebSocket, 1006 if it ended without a close frame.
        options: Those of `RealtimeSTTSession`, but for `transport`, `proxy` and `raise_on_error`.

    Raises:
        SonioxValidationError: Something cannot be used, or websocket-client is not installed.
    """

    def __init__(
        self,
        url: str,
        config: RealtimeSTTConfig | Mapping[str, Any],
        api_key: APIKeySource | None = None,
        *,
        on_open: Callable[[RealtimeSTTApp], object] | None = None,
        on_event: Callable[[RealtimeSTTApp, RealtimeEvent], object] | None = None,
        on_finished: Callable[[RealtimeSTTApp, RealtimeEvent], object] | None = None,
        on_error: Callable[[RealtimeSTTApp, Exception], object] | None = None,
        on_close: Callable[[RealtimeSTTApp, int | None, str], object] | None = None,
        **options: Unpack[SessionKeywords],
    ) -> None:
        check_keywords(type(self).__name__, options)
        for name in ("transport", "proxy", "raise_on_error"):
            if name in options:
                raise SonioxValidationError(
                    f"{name} is not an option of RealtimeSTTApp; proxies are arguments of "
                    "run_forever, and errors go to on_error"
                )
        self.on_open = on_open
        self.on_event = on_event
        self.on_finished = on_finished
        self.on_error = on_error
        self.on_close = on_close
        self._url, self._config = url, config
        self._api_key = APIKey(api_key) if isinstance(api_key, str) else api_key
        self._options = options
        # Held while a run begins: of two threads only one may.
        self._starting = threading.Lock()
        self._running = False
        self._handover: Handover | None = None
        self._errored = False
        self._close_reported = False
        # Made now, so that mistakes are reported now, and to refuse calls before `run_forever`.
        self._session = self._make_session(options, {})

    def _make_session(self, options: SessionKeywords, keywords: Mapping[str, Any]) -> _AppSession:
        options = {**options, "transport": websocket_client(**keywords)}
        return _AppSession(
            self._url,
            self._config,
            # Not in a variable, which would show up with a traceback.
            self._api_key.reveal() if isinstance(self._api_key, APIKey) else self._api_key,
            **options,
        )

    # Running

    def run_forever(
        self,
        *,
        dispatcher: Dispatcher | None = None,
        ping_interval: float | _Unset | None = _Unset.UNSET,
        ping_timeout: float | _Unset | None = _Unset.UNSET,
        reconnect: int | None = None,
        **keywords: Any,
    ) -> bool:
        """Connect, and make callbacks until the session is over. May be called again then.

        Args:
            dispatcher: An event loop such as `rel`, which makes the callbacks. This method then
                returns as soon as the session is open; run the dispatcher next. If you stop it
                before `on_close`, call `close` or `abort`: the app can run again after that, and
                callbacks that were not made by then are dropped.
            ping_interval: Seconds between pings; 0 or None for none. By default what the app was
                given as `ping_interval_sec`.
            ping_timeout: Seconds that a pong may take; None for no limit. By default what the app
                was given as `ping_timeout_sec`.
            reconnect: Not possible here: a new run begins a new transcript. Give the app a
                `ReconnectPolicy` as its option `reconnect`.
            keywords: Other arguments of `WebSocketApp.run_forever`, such as `sslopt`, `sockopt`
                and those for proxies. `ping_payload` and `skip_utf8_validation` have no effect.

        Returns:
            Whether an error ended the session. With a dispatcher: whether it could not be opened.

        Raises:
            SonioxStateError: It is running already.
            SonioxValidationError: An argument cannot be used.
            SonioxConnectionError: There is no socket left to wake the dispatcher.
        """
        if reconnect:
            raise SonioxValidationError(
                "a number of seconds as reconnect would begin a new transcript with each "
                "connection; give RealtimeSTTApp a ReconnectPolicy as its option reconnect"
            )
        if dispatcher is not None and not callable(getattr(dispatcher, "read", None)):
            raise SonioxValidationError(
                "dispatcher must have a function read(socket, callback), as the module rel does, "
                f"not {type(dispatcher).__name__}"
            )
        for name in _NO_EFFECT:
            keywords.pop(name, None)
        options = self._options.copy()
        if not isinstance(ping_interval, _Unset):
            options["ping_interval_sec"] = ping_interval or None
        if not isinstance(ping_timeout, _Unset):
            options["ping_timeout_sec"] = ping_timeout
        session = self._make_session(options, keywords)
        with self._starting:
            if self._running and not (self._handover and self._handover.retire()):
                raise SonioxStateError("run_forever is running already")
            # First, because it may fail.
            handover = None if dispatcher is None else _handover()
            self._running, self._errored, self._close_reported = True, False, False
            self._session, self._handover = session, handover
        if dispatcher is not None and handover is not None:
            return self._hand_over(dispatcher, handover)
        try:
            if self._open():
                self._end(self._receive(_at_once))
        except BaseException:
            self._leave()
            raise
        finally:
            self._running = False
        return self._errored

    def _leave(self) -> None:
        """End the session after an exception that `run_forever` or the dispatcher is to raise."""
        self._session.abort()
        self._call_on_close()

    def _open(self) -> bool:
        """Connect; return whether the session is open."""
        try:
            self._session.enter()
        except SonioxRealtimeError as error:
            self._end(error)
            return False
        self._call(self.on_open)
        return True

    def _receive(self, emit: _Emit) -> SonioxRealtimeError | None:
        """Receive to the end of the session; return what ended it too early.

        Args:
            emit: Calls what delivers an event, now or later.
        """
        failure: SonioxRealtimeError | None = None
        while True:
            # What callbacks raise is not the session's failure, so they are outside of the `try`.
            try:
                event = self._session.receive_event()
            except SonioxRealtimeError as error:
                failure = error
                break
            if event is None:
                break
            emit(partial(self._deliver, event))
        self._session.close()
        return failure

    def _end(self, failure: SonioxRealtimeError | None) -> None:
        if failure is not None:
            self._errored = True
            self._report(failure)
        self._call_on_close()

    # Callbacks

    def _deliver(self, event: RealtimeEvent) -> None:
        self._call(self.on_event, event)
        if event.finished:
            self._call(self.on_finished, event)

    def _call(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        if callback is None:
            return
        try:
            callback(self, *arguments)
        except Exception as error:
            if self.on_error is None:
                raise
            self._report(error)

    def _report(self, error: Exception) -> None:
        if self.on_error is not None:
            self.on_error(self, error)

    def _call_on_close(self) -> None:
        if self._close_reported:
            return
        self._close_reported = True
        closed = self._session.closed_event
        code, reason = (None, "") if closed is None else (closed.code, closed.reason)
        self._call(self.on_close, code, reason)

    # With a dispatcher

    def _hand_over(self, dispatcher: Dispatcher, handover: Handover) -> bool:
        self._session.on_closed = handover.lift_limit

        def receive() -> None:
            failure: SonioxRealtimeError | None = None
            try:
                failure = self._receive(handover.put)
            finally:
                handover.complete(partial(self._end, failure))

        receiver = threading.Thread(target=receive, name="soniox-app", daemon=True)

        def end() -> None:
            # Closed before waiting: the thread may be waiting for the dispatcher, which is here.
            handover.close()
            if receiver.ident is not None:
                # The session is over, so this does not wait.
                receiver.join()
            self._running = False

        def react() -> bool:
            """Make the callbacks that wait; called by the dispatcher."""
            try:
                goes_on = handover.act()
            except BaseException:
                try:
                    self._leave()
                finally:
                    end()
                    handover.reader.close()
                raise
            if not goes_on:
                # A run that was replaced by the next one has ended already.
                if self._handover is handover:
                    end()
                handover.reader.close()
            return goes_on

        watched = False
        try:
            succeeded = self._open()
            if succeeded:
                dispatcher.read(handover.reader, react)
                watched = True
                receiver.start()
            else:
                end()
        except BaseException:
            try:
                self._leave()
            finally:
                end()
            raise
        finally:
            if not watched:
                handover.reader.close()
        return not succeeded

    # Calls of the session

    def send_byte_chunk(self, chunk: AudioChunk, *, captured_at: float | None = None) -> None:
        """Send one chunk of audio, as `RealtimeSTTSession.send_byte_chunk` does."""
        self._session.send_byte_chunk(chunk, captured_at=captured_at)

    def finish(self) -> None:
        """Send end-of-audio: the rest of the transcript follows, then the end. Safe to repeat."""
        self._session.finish()

    def finalize(self, *, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final; the session stays open."""
        self._session.finalize(trailing_silence_ms=trailing_silence_ms)

    def keep_alive(self) -> None:
        """Send a keepalive. Rarely needed: they are sent by themselves while no audio flows."""
        self._session.keep_alive()

    def pause(self, *, finalize: bool = True) -> None:
        """Drop audio until `resume`; keepalives keep the session open. Safe to repeat."""
        self._session.pause(finalize=finalize)

    def resume(self) -> None:
        """Send audio again. Safe to repeat."""
        self._session.resume()

    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any]) -> None:
        """Go on with another configuration, as `RealtimeSTTSession.reconfigure` does.

        The next run begins with the configuration that the app was made with.
        """
        self._session.reconfigure(config)

    def close(self) -> None:
        """End the session with the close handshake, which takes `close_timeout_sec` at most."""
        self._session.close()

    def abort(self) -> None:
        """End the session at once."""
        self._session.abort()

    # Views

    @property
    def config(self) -> RealtimeSTTConfig:
        """The configuration of the stream."""
        return self._session.config

    @property
    def state(self) -> SessionState:
        """Where the session is in its life; that of the last run."""
        return self._session.state

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain."""
        return self._session.outcome

    @property
    def paused(self) -> bool:
        """Whether the session is paused."""
        return self._session.paused

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The event that came last; None before the first."""
        return self._session.last_message

    @property
    def stats(self) -> SessionStats:
        """Counters of the session so far."""
        return self._session.stats


def _handover() -> Handover:
    try:
        return Handover()
    except OSError as error:
        raise SonioxConnectionError(
            f"there is no socket left to wake the dispatcher: {error.strerror}"
        ) from error


class _AppSession(RealtimeSTTSession):
    """A session that keeps its last event, which says how the connection was closed."""

    closed_event: Closed | None = None
    on_closed: Action | None = None
    """Called when the session is over, by any thread that notices."""

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Closed):
                self.closed_event = event
                if self.on_closed is not None:
                    self.on_closed()
        super()._deliver(events)
