"""Calls that wait for the answer to a finalize, and what they get.

The service answers finalizes in order, each with a `<fin>` token, and the core says which call an
answer belongs to. Everything else that such a call needs is decided here, for all sessions alike:

- One call asks, and those that come before its answer share it. The service may disconnect clients
  that finalize too often (Soniox docs, "Manual finalization").
- If no audio was sent since the last answer, nothing is left to become final, and the call returns
  at once. The service is not asked: it has nothing to say.
- A call whose time is up gives its finalize up. The next call does not share that one, but asks
  anew; a late answer still counts as the answer to the finalize that was given up. One that never
  comes is noticed by the core at the position of the next, if the audio format says positions.

The messages are only looked at. They stay in the inbox for those who receive.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soniox_proto import (
    TOKEN_TEXT_END,
    TOKEN_TEXT_FIN,
    Event,
    Finalized,
    Result,
    SessionState,
    SonioxRealtimeError,
    SonioxStateError,
    SonioxTimeoutError,
    Token,
)
from soniox_proto.errors import fresh
from soniox_proto.messages import finalize_message

if TYPE_CHECKING:
    from soniox_proto import Stream

__all__ = ["DEFAULT_FINALIZE_WAIT", "FinalizeResult", "FinalizeWait", "Finalizes"]

DEFAULT_FINALIZE_WAIT: Final = 5.0
"""Seconds that `finalize_and_wait` waits by default. The service usually takes 0.2."""


@dataclass(frozen=True, slots=True)
class FinalizeResult:
    """The answer to a finalize."""

    tokens: tuple[Token, ...]
    """What became final between the call and its answer, without markers."""
    round_trip: float
    """Seconds from the finalize to its answer; 0.0 if there was nothing to ask for."""

    @property
    def text(self) -> str:
        """What was said, without translations; ``""`` if nothing became final."""
        return "".join(token.text for token in self._originals()).strip()

    @property
    def translation(self) -> str | None:
        """Its translation, as far as it came with the answer; None if none did."""
        text = "".join(token.text for token in self.tokens if _is_translation(token))
        return text.strip() or None

    @property
    def start_ms(self) -> int | None:
        """The earliest start of its tokens, in ms; None if no token has a time."""
        times = (token.start_ms for token in self._originals() if token.start_ms is not None)
        return min(times, default=None)

    @property
    def end_ms(self) -> int | None:
        """The latest end of its tokens, in ms; None if no token has a time."""
        times = (token.end_ms for token in self._originals() if token.end_ms is not None)
        return max(times, default=None)

    def _originals(self) -> list[Token]:
        return [token for token in self.tokens if not _is_translation(token)]


class FinalizeWait:
    """One finalize that calls wait for."""

    __slots__ = ("callers", "index", "result")

    def __init__(self, index: int, result: FinalizeResult | None = None) -> None:
        self.index = index
        """Which finalize of the session it is, counted from 0."""
        self.callers = 1
        """How many calls share it."""
        self.result = result
        """Its answer, once there is one."""


class Finalizes:
    """The finalizes of one session that calls wait for."""

    __slots__ = ("_given_up", "_machine", "_tokens", "_waits")

    def __init__(self, machine: Stream) -> None:
        self._machine = machine
        self._waits: dict[int, FinalizeWait] = {}
        # What became final since the last answer, or since a call began to wait.
        self._tokens: list[Token] = []
        # The latest finalize for which the time ran out.
        self._given_up = -1

    def ask(self, now: float, trailing_silence_ms: int | None = None) -> FinalizeWait:
        """Begin a call: send a finalize, or share the one that is under way.

        Raises:
            SonioxStateError: The session is not connected, finished or closed.
            SonioxValidationError: `trailing_silence_ms` is not a whole number of 0 or more.
        """
        finalize_message(trailing_silence_ms)
        machine = self._machine
        stats, state = machine.stats, machine.state
        latest = stats.sent_finalizes - 1
        # In any other state the machine says why it is too early or too late.
        if state is SessionState.OPEN or state is SessionState.CONNECTING:
            if stats.answered_finalizes < stats.sent_finalizes:
                if latest > self._given_up:
                    return self._share(latest)
            elif state is SessionState.OPEN and (
                stats.finalized_audio_bytes == stats.sent_audio_bytes
            ):
                return FinalizeWait(latest, FinalizeResult((), 0.0))
        machine.finalize(now, trailing_silence_ms)
        return self._share(latest + 1)

    def _share(self, index: int) -> FinalizeWait:
        wait = self._waits.get(index)
        if wait is None:
            # The finalize of a plain `finalize()` or `pause()` is shared too.
            wait = self._waits[index] = FinalizeWait(index)
        else:
            wait.callers += 1
        return wait

    def take(self, events: list[Event]) -> None:
        """Take events of the core, before they are received."""
        if not self._waits:
            return
        # What became final before each `<fin>` of a message; the events for them follow it.
        settled: deque[list[Token]] = deque()
        for event in events:
            if type(event) is Result:
                for token in event.message.tokens:
                    if not token.is_final or token.text == TOKEN_TEXT_END:
                        continue
                    if token.text == TOKEN_TEXT_FIN:
                        settled.append(self._tokens)
                        self._tokens = []
                    else:
                        self._tokens.append(token)
            elif type(event) is Finalized:
                answer = FinalizeResult(tuple(settled.popleft()), event.round_trip or 0.0)
                if event.finalize_index is None:
                    continue
                # With a finalize, those before it that got no answer have what they asked for too.
                for index in [index for index in self._waits if index <= event.finalize_index]:
                    self._waits.pop(index).result = answer

    def leave(self, wait: FinalizeWait) -> None:
        """End a call. Without an answer, and without others that wait for it, give it up."""
        wait.callers -= 1
        if wait.result is None and not wait.callers:
            del self._waits[wait.index]
            self._given_up = max(self._given_up, wait.index)
        if not self._waits:
            self._tokens = []

    def result_of(self, wait: FinalizeWait, timeout: float | None) -> FinalizeResult:
        """Return the answer that a call has waited for, or raise the reason why there is none.

        Raises:
            SonioxTimeoutError: The time is up; the session goes on.
            SonioxStateError: The session ended, but not because of an error.
            SonioxRealtimeError: The error that ended the session.
        """
        if wait.result is not None:
            return wait.result
        if self._machine.error is not None:
            raise fresh(self._machine.error)
        error: SonioxRealtimeError
        if self._machine.closed:
            error = SonioxStateError("the session ended before the service answered the finalize")
        else:
            error = SonioxTimeoutError(
                f"the service did not answer the finalize within {timeout} s; the session goes on, "
                "and its messages can still be received",
                operation="finalize",
            )
            # Only the core's own deadline for finalizes means that the connection is of no use.
            error.retryable = False
        error.flight_record = self._machine.flight_recorder.record()
        raise error


def _is_translation(token: Token) -> bool:
    return token.translation_status == "translation"
