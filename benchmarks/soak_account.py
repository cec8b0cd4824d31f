"""The accounts of the soak: what was planned, what happened, and whether the plan explains it."""

from __future__ import annotations

import enum
import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from soniox_adapters.server import Recognizer, RecognizerFactory, scripted
from soniox_adapters.testing import FAULT_KINDS, FaultInjector, FaultPlan
from soniox_proto import (
    TOKEN_TEXT_FIN,
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    SessionStats,
    SonioxConnectionError,
    SonioxError,
    SonioxTimeoutError,
)

__all__ = [
    "SCRIPTED_WORDS",
    "Account",
    "Ending",
    "Kind",
    "Plan",
    "ServerBooks",
    "account_table",
    "random_plan",
]

Kind = Literal["blocking", "asyncio", "trio"]

SCRIPTED_WORDS: Final = 25
"""Number of words in the transcript of every finished session."""

_MS_PER_WORD: Final = 200
_CHUNK_BYTES: Final = 6_400
"""200 ms of 16 kHz speech."""


class Ending(enum.Enum):
    """How a session is ended by its user."""

    FINISH = "finish"
    """Send end-of-audio, then receive everything."""
    CLOSE = "close"
    """Call `close()` in the middle, while another thread or task receives."""
    ABORT = "abort"
    """Call `abort()` in the middle."""
    LEAVE = "leave"
    """Leave the context in the middle, by an exception or a cancellation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a session does, and what happens to its connection."""

    number: int
    kind: Kind
    over_stream: bool
    """Whether an async session is given a stream of anyio, and not a socket."""
    faults: FaultPlan
    ending: Ending
    chunks: tuple[int, ...]
    """Bytes of each chunk of audio."""
    interval: float
    """Seconds between chunks."""
    pause_at: int
    """Index of the chunk before which the session pauses, for two chunks; -1 for none."""
    finalize_at: int
    """Index of the chunk before which a finalize is sent; -1 for none."""
    end_after: int
    """Number of chunks after which the session is ended, unless its ending is FINISH."""


def random_plan(seed: int, number: int, kind: Kind) -> Plan:
    """Return the plan of session `number`, always the same one for the same seed."""
    generator = random.Random(f"{seed} {number}")
    count = generator.randrange(5, 25)
    burst = generator.random() < 0.2
    return Plan(
        number=number,
        kind=kind,
        over_stream=generator.random() < 0.5,
        faults=FaultPlan.from_seed(f"{seed} {number}"),
        ending=generator.choices(list(Ending), weights=(6, 1, 1, 1))[0],
        chunks=tuple(
            generator.choice((_CHUNK_BYTES, _CHUNK_BYTES, generator.randrange(1, 20_000)))
            for _ in range(count)
        ),
        interval=0.0 if burst else generator.uniform(0.05, 0.2),
        pause_at=generator.randrange(count) if generator.random() < 0.2 else -1,
        finalize_at=generator.randrange(count) if generator.random() < 0.2 else -1,
        end_after=generator.randrange(count),
    )


@dataclass(slots=True)
class ServerAccount:
    """What the server saw of one session."""

    audio_bytes: int = 0
    finished: bool = False


class ServerBooks:
    """Makes the server's recognizers, and counts the audio that they get."""

    def __init__(self) -> None:
        self._accounts: dict[str, ServerAccount] = {}
        self._lock = threading.Lock()
        self._script: RecognizerFactory = scripted(
            [
                {
                    "tokens": [{"text": f" {number}", "is_final": True}],
                    "total_audio_proc_ms": (number + 1) * _MS_PER_WORD,
                }
                for number in range(SCRIPTED_WORDS)
            ]
        )

    def __call__(self, config: RealtimeSTTConfig) -> Recognizer:
        """Return the recognizer of a new stream. This makes the object a `RecognizerFactory`."""
        account = self.account(config.client_reference_id or "")
        return _CountingRecognizer(self._script(config), account)

    def account(self, reference: str) -> ServerAccount:
        """Return the account of the session with this client reference."""
        with self._lock:
            return self._accounts.setdefault(reference, ServerAccount())


class _CountingRecognizer:
    """A recognizer that passes everything on to another one, and counts it."""

    def __init__(self, recognizer: Recognizer, account: ServerAccount) -> None:
        self._recognizer = recognizer
        self._account = account

    @property
    def final_audio_proc_ms(self) -> int:
        return self._recognizer.final_audio_proc_ms

    @property
    def total_audio_proc_ms(self) -> int:
        return self._recognizer.total_audio_proc_ms

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        self._account.audio_bytes += len(audio)
        return self._recognizer.feed(audio)

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        return self._recognizer.finalize(trailing_silence_ms)

    def finish(self) -> list[RealtimeEvent]:
        self._account.finished = True
        return self._recognizer.finish()

    def close(self) -> None:
        self._recognizer.close()


@dataclass(slots=True)
class Account:
    """What happened to a session."""

    plan: Plan
    injector: FaultInjector
    words: list[str] = field(default_factory=list)
    """Words received, in order."""
    finalize_answers: int = 0
    """`<fin>` tokens received."""
    events: int = 0
    """Events received."""
    given_bytes: int = 0
    """Bytes of audio given to sends that returned."""
    sent_all: bool = False
    """Whether every send returned."""
    receiver_error: BaseException | None = None
    """The exception that ended receiving, or opening the session."""
    receiver_ended: bool = False
    """Whether the receiver reached the end of the stream without an error."""
    sender_error: BaseException | None = None
    """The exception that ended sending, or closing."""
    outcome: Outcome | None = None
    stats: SessionStats = field(default_factory=SessionStats)
    server: ServerAccount = field(default_factory=ServerAccount)

    @property
    def fault_happened(self) -> bool:
        """Whether the fault has happened that was planned."""
        return any(connection.happened for connection in self.injector.connections)

    def take(self, event: RealtimeEvent) -> None:
        """Record an event that was received."""
        self.events += 1
        for token in event.tokens:
            if token.text == TOKEN_TEXT_FIN:
                self.finalize_answers += 1
            else:
                self.words.append(token.text.strip())

    def unexplained(self) -> list[str]:
        """Return what neither the plan nor the fault explains."""
        return [*self._wrong_errors(), *self._wrong_outcome(), *self._wrong_contents()]

    def _wrong_errors(self) -> list[str]:
        problems: list[str] = []
        for who, error in (("receiver", self.receiver_error), ("sender", self.sender_error)):
            if error is not None and not isinstance(error, SonioxError):
                problems.append(f"the {who} was raised {error!r}, which is no SonioxError")
        if self.outcome is Outcome.LOST:
            if self.receiver_ended:
                problems.append("the connection was lost, and the receiver got a normal end")
            if not isinstance(
                self.receiver_error, (SonioxConnectionError, SonioxTimeoutError, type(None))
            ):
                problems.append(f"the connection was lost, and reported as {self.receiver_error!r}")
        elif self.outcome is Outcome.FINISHED and self.receiver_error is not None:
            problems.append(f"finished, but the receiver was raised {self.receiver_error!r}")
        return problems

    def _wrong_outcome(self) -> list[str]:
        fatal = self.fault_happened and self.plan.faults.fatal
        ending = self.plan.ending
        possible = {
            Ending.FINISH: {Outcome.FINISHED},
            # The server may be fast enough to finish before it sees the close frame.
            Ending.CLOSE: {Outcome.CLOSED_LOCALLY, Outcome.FINISHED},
            Ending.ABORT: {Outcome.ABORTED},
            Ending.LEAVE: {Outcome.ABORTED, Outcome.FINISHED},
        }[ending]
        if fatal:
            possible = possible | {Outcome.LOST}
        if self.outcome in possible:
            return []
        could_be = " or ".join(sorted(outcome.name for outcome in possible))
        return [f"the outcome is {self.outcome}, should be {could_be}; {self.receiver_error!r}"]

    def _wrong_contents(self) -> list[str]:
        problems: list[str] = []
        expected = [str(number) for number in range(SCRIPTED_WORDS)]
        if self.words != expected[: len(self.words)]:
            problems.append(f"words are missing, doubled or out of order: {self.words}")
        sent, received = self.stats.sent_audio_bytes, self.server.audio_bytes
        if received > sent:
            problems.append(f"the server received {received} bytes, the session sent {sent}")
        if self.outcome is not Outcome.FINISHED:
            return problems
        if received != sent:
            problems.append(f"the session sent {sent} bytes, the server received {received}")
        if self.sent_all and self.given_bytes != sent + self.stats.dropped_while_paused_bytes:
            problems.append(
                f"{self.given_bytes} bytes were given, {sent} sent and "
                f"{self.stats.dropped_while_paused_bytes} dropped while paused"
            )
        # A session that is closed or left early may not have received everything.
        if self.plan.ending is Ending.FINISH:
            if self.words != expected:
                problems.append(f"finished with {len(self.words)} of {SCRIPTED_WORDS} words")
            if self.finalize_answers != self.stats.sent_finalizes:
                problems.append(
                    f"{self.stats.sent_finalizes} finalizes, {self.finalize_answers} answers"
                )
            if self.events != self.stats.received_messages:
                problems.append(
                    f"{self.stats.received_messages} messages came, {self.events} were handed out"
                )
        return problems


def account_table(accounts: Iterable[Account]) -> str:
    """Return all accounts as a table: a row for each fault, and one for each kind of session."""
    everything = list(accounts)
    groups: list[tuple[str, list[Account]]] = [
        (f"fault: {kind}", [one for one in everything if kind in _kinds_of(one.plan.faults)])
        for kind in (*FAULT_KINDS, "none")
    ]
    kinds: tuple[Kind, ...] = ("blocking", "asyncio", "trio")
    groups += [(kind, [one for one in everything if one.plan.kind == kind]) for kind in kinds]
    groups += [
        (f"ending: {end.value}", [a for a in everything if a.plan.ending is end]) for end in Ending
    ]
    groups.append(("all", everything))
    outcomes = [
        outcome for outcome in (*Outcome, None) if any(one.outcome is outcome for one in everything)
    ]
    head = [
        "",
        "sessions",
        "faults",
        *(outcome.value if outcome else "none" for outcome in outcomes),
        "sent, bytes",
        "finished: sent",
        "server received",
        "events",
        "unexplained",
    ]
    rows = [head]
    for name, chosen in groups:
        counted = Counter(one.outcome for one in chosen)
        finished = [one for one in chosen if one.outcome is Outcome.FINISHED]
        rows.append(
            [
                name,
                str(len(chosen)),
                str(sum(one.fault_happened for one in chosen)),
                *(str(counted[outcome]) for outcome in outcomes),
                f"{sum(one.stats.sent_audio_bytes for one in chosen):,}",
                f"{sum(one.stats.sent_audio_bytes for one in finished):,}",
                f"{sum(one.server.audio_bytes for one in finished):,}",
                f"{sum(one.events for one in chosen):,}",
                str(sum(bool(one.unexplained()) for one in chosen)),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _kinds_of(plan: FaultPlan) -> list[str]:
    return [fault.kind for fault in plan.faults] or ["none"]
