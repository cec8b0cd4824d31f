"""The messages that a session's user has yet to receive, and how the stream ends after them.

A transcript must not look complete when it is not, and must not lose its last words to an error
that overtook them. So messages and the end go through one queue: whatever ended the stream is
raised only after every message that arrived before it has been returned.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from soniox_adapters.session.finalizing import Finalizes
from soniox_adapters.session.flow_control import FlowControl, message_memory
from soniox_proto import (
    Closed,
    Event,
    Finished,
    FlightRecorder,
    Measurement,
    Opened,
    Outcome,
    RealtimeEvent,
    Reconnected,
    Reconnecting,
    Result,
    RolledOver,
    ServerError,
    SessionStats,
    SonioxServerError,
)
from soniox_proto.errors import fresh

__all__ = ["Inbox"]

_Reported = TypeVar("_Reported")

_logger = logging.getLogger("soniox_adapters")

_NO_RESULTS: Final[deque[Result]] = deque(maxlen=0)
"""Shared by inboxes that have had no message yet: a deque takes more memory than all the rest."""


class Inbox:
    """A queue of messages that ends with the end of the stream, or the error that ended it."""

    __slots__ = (
        "_closed",
        "_ended",
        "_flow",
        "_last",
        "_logged",
        "_measurements",
        "_on_measurement",
        "_on_reconnect",
        "_raise_on_error",
        "_recorder",
        "_results",
        "_server_error",
        "_session_id",
        "finalizes",
        "last_message",
        "opened",
        "ready",
    )

    def __init__(
        self,
        flow: FlowControl,
        *,
        raise_on_error: bool,
        on_reconnect: Callable[[Reconnecting | Reconnected | RolledOver], object] | None = None,
        on_measurement: Callable[[Measurement], object] | None = None,
        recorder: FlightRecorder | None = None,
        session_id: int | None = None,
    ) -> None:
        self._flow = flow
        # Names the session in the log, as its repr does.
        self._session_id = id(self) if session_id is None else session_id
        self._recorder = FlightRecorder() if recorder is None else recorder
        # How many notes of the recorder have been logged.
        self._logged = 0
        self._on_reconnect = on_reconnect
        self._on_measurement = on_measurement
        # What the core measures and nobody has been told yet; None if nobody wants to know.
        self._measurements: list[Measurement] | None = None if on_measurement is None else []
        self._raise_on_error = raise_on_error
        self._results: deque[Result] = _NO_RESULTS
        # The message after which the stream ends: the finished response, or an error message.
        self._last: RealtimeEvent | None = None
        self._server_error: SonioxServerError | None = None
        self._closed: Closed | None = None
        # Whether that message has been returned.
        self._ended = False
        self.finalizes: Finalizes | None = None
        """The calls that wait for a finalize, which look at the messages on their way in."""
        self.opened = False
        self.ready = False
        """Whether `take` has something to return or raise: a message, or the end."""
        self.last_message: RealtimeEvent | None = None
        """The message that was returned last."""

    def put(self, events: list[Event]) -> None:
        """Add events of the core, in order. Of several ends, the first counts."""
        if self._recorder.count != self._logged:
            self.log()
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
            elif isinstance(event, (Reconnecting, Reconnected, RolledOver)):
                self._report(event)
        if messages:
            self._flow.messages_added(messages, memory)
            if self.finalizes is not None:
                self.finalizes.take(events)
        if self._measurements:
            self._report_measurements(self._measurements)

    def measure(self, stats: SessionStats) -> None:
        """Report what `stats` measures from now on, if anybody wants to know."""
        if self._measurements is not None:
            stats.measurements = self._measurements

    def log(self) -> None:
        """Log what the core has noted since the last time: state changes, controls, answers."""
        recorder, logged = self._recorder, self._logged
        self._logged = recorder.count
        if _logger.isEnabledFor(logging.DEBUG):
            for note in recorder.record(recorder.count - logged):
                _logger.debug("session %#x: %s", self._session_id, note)

    def _report(self, event: Reconnecting | Reconnected | RolledOver) -> None:
        if isinstance(event, Reconnecting):
            _logger.info(
                "session %#x: attempt %d to reconnect in %.2f s, after %s",
                self._session_id,
                event.attempt,
                event.delay,
                type(event.cause).__name__,
            )
        elif isinstance(event, RolledOver):
            _logger.info(
                "session %#x: rolled over to another connection; %d ms of audio sent again",
                self._session_id,
                event.replayed_ms,
            )
        else:
            _logger.info(
                "session %#x: reconnected after %.2f s; %d ms of audio sent again, %d ms lost",
                self._session_id,
                event.gap,
                event.replayed_ms,
                event.lost_ms,
            )
        if self._on_reconnect is not None:
            _call(self._on_reconnect, event, "the on_event function of a ReconnectPolicy")

    def _report_measurements(self, kept: list[Measurement]) -> None:
        measurements = kept.copy()
        # Emptied in place, because it belongs to the core too.
        kept.clear()
        if self._on_measurement is not None:
            for measurement in measurements:
                _call(self._on_measurement, measurement, "the function on_measurement")

    def take(self) -> Result | None:
        """Return the next message, None at the end of the stream.

        Raises the error that ended the stream, once every message before it has been returned.
        """
        result = self.take_message()
        if result is None:
            self._end()
        return result

    def take_message(self) -> Result | None:
        """Return the next message, None if there is none, be it for now or for good."""
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
        """Raise the error that ended the stream, if there is one and the options want it raised."""
        closed = self._closed
        if not self._ended and closed is not None and closed.error is not None:
            if closed.outcome is not Outcome.SERVER_ERROR:
                raise fresh(closed.error)
            self._ended = True
        if self._server_error is not None and self._raise_on_error:
            raise fresh(self._server_error)


def _call(function: Callable[[_Reported], object], reported: _Reported, name: str) -> None:
    """Call a function of the user's. Nobody waits for it, and the session must go on."""
    try:
        function(reported)
    except Exception:
        _logger.exception("%s raised", name)
