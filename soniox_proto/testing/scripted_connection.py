"""One connection of a scripted server: a state machine that follows a script.

Framing, the order of messages, timeouts and the close handshake are those of
`RealtimeSTTServerConnection`, and positions are those of `ServerClock`. What is added here is the
script: which cue a message of the client sets off, what is left of it while it waits, and the
faults, which are made where the bytes leave and arrive.

The timings of the service's own answers were measured (in seconds): 0.13 to 0.19 from the end of
the audio to the finished response, about 0.18 from a finalize to its answer.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from soniox_proto.errors import SonioxStateError
from soniox_proto.messages import TOKEN_TEXT_FIN, RealtimeEvent, Token, start_message
from soniox_proto.server import (
    AudioReceived,
    ClientClosed,
    EndOfAudioReceived,
    FinalizeReceived,
    KeepAliveReceived,
    RealtimeSTTServerConnection,
    RequestRefused,
    ServerEvent,
    StartReceived,
    UpgradeReceived,
)
from soniox_proto.server_clock import ServerClock
from soniox_proto.testing import factories
from soniox_proto.testing.actions import (
    Accept,
    Action,
    AnswerFinalize,
    Close,
    Cut,
    Drop,
    Error,
    Finish,
    FinishStream,
    GoDark,
    Ignore,
    Refuse,
    Say,
    Send,
    SendBytes,
    Stall,
    Wait,
    replaces_the_answer,
)
from soniox_proto.testing.factories import end_of, natural_length_ms, timed
from soniox_proto.testing.log import Log
from soniox_proto.testing.script import Cue, Script, Trigger

__all__ = ["ScriptedConnection"]

FINALIZE_DELAY: Final = 0.18
"""Seconds until a finalize is answered."""

FINISH_DELAY: Final = 0.16
"""Seconds until the end of the audio is answered."""

_DELAYS: Final = {Trigger.FINALIZE: FINALIZE_DELAY, Trigger.END_OF_AUDIO: FINISH_DELAY}


@dataclass(slots=True)
class _Program:
    """What is left to do of a cue, and of the answer of the service."""

    actions: deque[tuple[Action, bool]]
    """Each with whether the script asked for it."""
    cue: Cue | None
    audio_ms: int | None
    """How much audio had come when it was set off; None to go by what has come since."""


class ScriptedConnection:
    """The server's end of one connection, with the run loop of the core's machines.

    Feed it with `receive_data`, `receive_eof` and `handle_timeout`; write what `data_to_send`
    returns until it returns nothing, and close the byte stream once it is `closed`.
    """

    def __init__(
        self,
        number: int,
        script: Script,
        log: Log,
        now: float,
        *,
        bytes_per_second: int,
        max_duration: float | None,
    ) -> None:
        self._number = number
        self._script = script
        self._log = log
        self._began_at = now
        self._assumed_rate = bytes_per_second
        self._rate = bytes_per_second
        self._max_duration = max_duration
        self._core = RealtimeSTTServerConnection()
        self._clock = ServerClock()
        self._agenda: list[tuple[float, int, _Program]] = []
        self._order = itertools.count()
        # Counted here, because the core's counter is ahead of the events that it returns.
        self._audio_bytes = 0
        # Tokens that are not final yet, and where the last final one ends.
        self._tail: list[Token] = []
        self._final_ms = 0
        # Faults
        self._dark = False
        self._dropped = False
        self._bytes_left: int | None = None
        self._cut_at: int | None = None
        self._stalled_until: float | None = None
        self._unread: list[bytes | None] = []
        self._pieces: deque[bytes] = deque()
        for cue in script.cues:
            if cue.trigger is Trigger.TIME:
                self._schedule(_Program(_asked(cue), cue, None), now + cue.seconds)

    # Views

    @property
    def closed(self) -> bool:
        """Whether the server has closed the byte stream; what it sent before is still to come."""
        return self._dropped or (self._core.closed and not self._dark and not self.stalled)

    @property
    def readable(self) -> bool:
        """Whether the client would read something now, be it the end of the stream."""
        return bool(self._pieces and not self.stalled) or self.closed

    @property
    def stalled(self) -> bool:
        """Whether the server reads nothing at the moment."""
        return self._stalled_until is not None

    @property
    def unread_bytes(self) -> int:
        """Bytes of the client that the server has not read yet, because it stalls."""
        return sum(len(data) for data in self._unread if data is not None)

    @property
    def audio_ms(self) -> int:
        """Audio received so far, in ms."""
        return self._audio_bytes * 1000 // self._rate

    # The run loop

    def data_to_send(self) -> bytes:
        """Return the next bytes to deliver, ``b""`` when there are none.

        Each call returns what the client is to get in one read.
        """
        if self.stalled or not self._pieces:
            return b""
        return self._pieces.popleft()

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when nothing is due."""
        times = [self._agenda[0][0]] if self._agenda else []
        if self._stalled_until is not None:
            times.append(self._stalled_until)
        elif not self._dark and not self._dropped:
            deadline = self._core.next_timeout()
            if deadline is not None:
                times.append(deadline)
        earliest = min(times, default=math.inf)
        return None if earliest == math.inf else earliest

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes of the client, cut anywhere."""
        self._take(data, now)

    def receive_eof(self, now: float) -> None:
        """Note the end of the client's byte stream."""
        self._take(None, now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`."""
        if self._stalled_until is not None and now >= self._stalled_until:
            self._stalled_until = None
            unread, self._unread = self._unread, []
            for data in unread:
                self._take(data, now)
        while self._agenda and self._agenda[0][0] <= now:
            _, _, program = heapq.heappop(self._agenda)
            self._run(program, now)
        if not self.stalled and not self._dark and not self._dropped:
            self._handle(self._core.handle_timeout(now), now)
        self._collect()

    def _take(self, data: bytes | None, now: float) -> None:
        if self._dark or self._dropped:
            return
        if self.stalled:
            self._unread.append(data)
            return
        core = self._core
        self._handle(core.receive_eof(now) if data is None else core.receive_data(data, now), now)
        self._collect()

    def _collect(self) -> None:
        """Take what the core wants to send, with the faults that apply to it."""
        self._emit(self._core.data_to_send())

    def _emit(self, data: bytes) -> None:
        if not data or self._dark or self._dropped:
            return
        if self._bytes_left is not None:
            data = data[: self._bytes_left]
            self._bytes_left -= len(data)
            self._dropped = not self._bytes_left
        if self._cut_at is not None:
            first, data = data[: self._cut_at], data[self._cut_at :]
            self._cut_at = None
            self._pieces.append(first)
        if data:
            self._pieces.append(data)

    # What the client does

    def _handle(self, events: list[ServerEvent], now: float) -> None:
        for event in events:
            match event:
                case UpgradeReceived():
                    self._note_client(now, f"upgrade {event.target}")
                    self._check(Trigger.UPGRADE, _fields_of_upgrade(event), now)
                    self._fire(Trigger.UPGRADE, now, Accept())
                case StartReceived():
                    self._begin(event, now)
                case AudioReceived():
                    self._hear(event, now)
                case KeepAliveReceived():
                    self._note_client(now, "keepalive")
                    self._check(Trigger.KEEPALIVE, {}, now)
                    self._fire(Trigger.KEEPALIVE, now)
                case FinalizeReceived():
                    self._note_client(now, "finalize")
                    fields = {"trailing_silence_ms": event.trailing_silence_ms}
                    self._check(Trigger.FINALIZE, fields, now)
                    self._fire(Trigger.FINALIZE, now, AnswerFinalize())
                case EndOfAudioReceived():
                    self._note_client(now, "end of audio")
                    self._check(Trigger.END_OF_AUDIO, {}, now)
                    self._fire(Trigger.END_OF_AUDIO, now, FinishStream())
                case RequestRefused():
                    self._note_client(now, f"mistake: {event.error_message}")
                    error = Error(
                        factories.error(event.error_code, event.error_type, event.error_message)
                    )
                    # The script may have ended the session already, for a message before this one.
                    self._run(_Program(deque([(error, False)]), None, None), now)
                case ClientClosed():  # pragma: no branch
                    self._note_client(now, f"close {event.code} {event.reason}".rstrip())
                    end = {"code": event.code, "reason": event.reason}
                    self._check(Trigger.CLOSE, end, now)

    def _begin(self, start: StartReceived, now: float) -> None:
        text = start_message(start.config)
        self._note_client(now, f"start {text}")
        self._rate = start.config.bytes_per_second or self._assumed_rate
        self._check(Trigger.START, {**json.loads(text), **start.unknown_fields}, now)
        if self._max_duration is not None:
            over: deque[tuple[Action, bool]] = deque([(Error(factories.error(413)), False)])
            self._schedule(_Program(over, None, None), now + self._max_duration)
        self._fire(Trigger.START, now)

    def _hear(self, audio: AudioReceived, now: float) -> None:
        self._note_client(now, f"audio, {len(audio.data)} bytes")
        self._audio_bytes += len(audio.data)
        received = self._audio_bytes
        for expectation in self._script.expectations:
            amount = expectation.audio
            if amount is not None and amount.in_bytes(self._rate) <= received:
                expectation.met = True
        due = [
            (cue.audio.in_bytes(self._rate), cue)
            for cue in self._script.cues
            if cue.audio is not None and not cue.reached
        ]
        for size, cue in sorted(due, key=lambda item: item[0]):
            if size <= received:
                cue.reached = True
                self._run(_Program(_asked(cue), cue, size * 1000 // self._rate), now)

    def _check(self, trigger: Trigger, fields: Mapping[str, object], now: float) -> None:
        """Compare what the client did with the next expectation of this kind, if there is one."""
        for expectation in self._script.expectations:
            if expectation.trigger is trigger and not expectation.met:
                expectation.met = True
                for name, expected in expectation.fields.items():
                    got = fields.get(name)
                    if got != expected:
                        if name == "api_key":
                            expected, got = "another one", "a key" if got else "none"
                        self._log.mismatch(
                            self._since(now),
                            self._number,
                            f"expected {trigger.value} with {name}={expected!r}, got {got!r}",
                        )
                return

    def _fire(self, trigger: Trigger, now: float, answer: Action | None = None) -> None:
        """Run the next cue of this kind, if there is one, and the answer of the service."""
        cue = next(
            (cue for cue in self._script.cues if cue.trigger is trigger and not cue.reached), None
        )
        actions: deque[tuple[Action, bool]] = deque()
        if cue is not None:
            cue.reached = True
            actions = _asked(cue)
            if trigger is Trigger.FINALIZE:
                for index, (action, _) in enumerate(actions):
                    if isinstance(action, Say):
                        actions[index] = (AnswerFinalize(action.tokens), True)
                        answer = None
                        break
        if answer is not None and not any(replaces_the_answer(action) for action, _ in actions):
            actions.append((answer, False))
        if actions and not isinstance(actions[0][0], Wait) and trigger in _DELAYS:
            actions.appendleft((Wait(_DELAYS[trigger]), False))
        audio_ms = self.audio_ms if trigger is Trigger.FINALIZE else None
        self._run(_Program(actions, cue, audio_ms), now)

    # What the server does

    def _schedule(self, program: _Program, when: float) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), program))

    def _run(self, program: _Program, now: float) -> None:
        cue = program.cue
        if cue is not None:
            cue.reached = True
        while program.actions:
            action, asked = program.actions.popleft()
            if asked and cue is not None:
                cue.done += 1
            if isinstance(action, Wait):
                if cue is not None and cue.trigger is Trigger.AUDIO:
                    program.audio_ms = None
                self._schedule(program, now + action.seconds)
                return
            try:
                self._do(action, program.audio_ms, now)
            except SonioxStateError as error:
                if asked:
                    self._log.mismatch(self._since(now), self._number, f"cannot {action}: {error}")
            else:
                self._collect()

    def _do(self, action: Action, audio_ms: int | None, now: float) -> None:
        core = self._core
        position = self.audio_ms if audio_ms is None else audio_ms
        words = str(action)
        match action:
            case Say():
                core.send_result(self._result(action.tokens, position), now)
            case AnswerFinalize():
                core.send_result(self._answer(action.tokens, position), now)
                words = "answer to the finalize"
            case Send():
                core.send_result(action.message, now)
            case SendBytes():
                self._collect()
                self._emit(action.data)
            case Error():
                message = action.message
                core.send_error(
                    message.error_code or 0,
                    message.error_type,
                    message.error_message or "",
                    now,
                    request_id=message.request_id,
                    more_info=message.more_info,
                )
            case Finish():
                core.finish(self._finished(), now)
            case FinishStream():
                if self._tail:
                    rest = tuple(_final(token) for token in self._tail)
                    core.send_result(self._result(rest, self.audio_ms), now)
                core.finish(self._finished(), now)
            case Close():
                core.close(now, action.code, action.reason)
            case Accept():
                core.accept(now)
            case Refuse():
                core.reject(action.status_code, now, headers=action.headers, body=action.body)
            case Drop():
                self._bytes_left = action.after_bytes
                self._dropped = not action.after_bytes
            case Cut():
                self._cut_at = action.at
            case Stall():
                self._stalled_until = math.inf if action.seconds is None else now + action.seconds
            case GoDark():
                self._dark = True
                self._pieces.clear()
            case Ignore() | Wait():  # pragma: no branch
                return
        self._log.note(self._since(now), self._number, "server", words)

    def _result(self, tokens: tuple[Token, ...], audio_ms: int) -> RealtimeEvent:
        placed = self._placed(tokens, audio_ms)
        self._tail = [token for token in placed if not token.is_final]
        return self._clock.message(self._message(placed, audio_ms))

    def _answer(self, tokens: tuple[Token, ...] | None, audio_ms: int) -> RealtimeEvent:
        settled = [_final(token) for token in (self._tail if tokens is None else tokens)]
        placed = self._placed(tuple(settled), audio_ms)
        self._tail = []
        if not any(token.text == TOKEN_TEXT_FIN for token in placed):
            placed.append(Token(text=TOKEN_TEXT_FIN, is_final=True))
        return self._clock.finalized_message(self._message(placed, audio_ms), audio_ms)

    def _finished(self) -> RealtimeEvent:
        return factories.finished(self._clock.position(self.audio_ms))

    def _placed(self, tokens: tuple[Token, ...], audio_ms: int) -> list[Token]:
        """Return tokens with times, the last of which ends where the audio is."""
        start = max(self._final_ms, audio_ms - natural_length_ms(tokens))
        placed = timed(tokens, start, audio_ms)
        self._final_ms = max(self._final_ms, end_of(token for token in placed if token.is_final))
        return placed

    def _message(self, tokens: list[Token], audio_ms: int) -> RealtimeEvent:
        return RealtimeEvent(
            tokens=tokens,
            final_audio_proc_ms=self._final_ms,
            total_audio_proc_ms=max(audio_ms, self._final_ms),
        )

    def _note_client(self, now: float, what: str) -> None:
        self._log.note(self._since(now), self._number, "client", what)

    def _since(self, now: float) -> float:
        return now - self._began_at


def _asked(cue: Cue) -> deque[tuple[Action, bool]]:
    return deque((action, True) for action in cue.actions)


def _final(token: Token) -> Token:
    return token if token.is_final else token.model_copy(update={"is_final": True})


def _fields_of_upgrade(request: UpgradeReceived) -> dict[str, object]:
    headers = {name.replace("-", "_"): value for name, value in request.headers.items()}
    key = None if request.api_key is None else request.api_key.reveal()
    return {**headers, "target": request.target, "api_key": key}
