"""A session in as few words as possible, to be compared with the real one.

It knows what is to be on the wire and when something is due, and nothing of frames or bytes. All
options have their defaults, but for `MAX_PENDING_AUDIO`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.core.messages import FINALIZE, KEEPALIVE, START_MESSAGE

MAX_PENDING_AUDIO = 40


@dataclass
class Model:
    """The state of a session, and everything it has put on the wire."""

    state: str = "IDLE"
    outcome: str | None = None
    accepted: bool = False
    messages: list[str | bytes] = field(default_factory=list)
    """Sent; while connecting, held."""
    close_codes: list[int] = field(default_factory=list)
    pings: int = 0
    pongs: list[bytes] = field(default_factory=list)
    due: dict[str, float] = field(default_factory=dict)
    paused: bool = False
    end_of_audio: bool = False
    event_waits: bool = False
    ping_outstanding: bool = False
    dropped: int = 0
    unanswered_finalizes: int = 0

    @property
    def audio(self) -> bytes:
        return b"".join(message for message in self.messages if isinstance(message, bytes))

    @property
    def live(self) -> bool:
        """Whether there is a peer to talk to."""
        return self.state in {"OPEN", "FINISHING", "CLOSING"}

    @property
    def may_speak(self) -> bool:
        return self.state in {"CONNECTING", "OPEN"} and not self.end_of_audio

    @property
    def may_resume(self) -> bool:
        return self.state in {"CONNECTING", "OPEN", "FINISHING"}

    @property
    def may_finish(self) -> bool:
        return self.end_of_audio or self.state in {"CONNECTING", "OPEN"}

    @property
    def may_come_to_an_end(self) -> bool:
        """Whether a finished response or an error message is the first of its kind."""
        return self.outcome in {None, "CLOSED_LOCALLY"}

    # By the user; each only if it may

    def connect(self, now: float) -> None:
        self.state, self.due = "CONNECTING", {"connect": now + 10}

    def say(self, message: str | bytes, now: float) -> None:
        self.messages.append(message)
        if self.state == "OPEN" and message not in {FINALIZE, ""}:
            self.due["keepalive"] = now + 5

    def finish(self) -> None:
        if not self.end_of_audio:
            self.end_of_audio = True
            self.messages.append("")
            self.due.pop("keepalive", None)
            self.state = "FINISHING" if self.state == "OPEN" else self.state

    def close(self, now: float) -> None:
        if self.live:
            if self.state == "OPEN" and self.audio:
                self.finish()
            self.begin_closing("CLOSED_LOCALLY", now)
            self.send_close(1000)
        elif self.state == "IDLE":
            self.state = "CLOSED"
        else:
            self.event_waits |= self.end("CLOSED_LOCALLY")

    def abort(self) -> None:
        if self.outcome == "CLOSED_LOCALLY" and self.state != "CLOSED":
            self.outcome = None
        if self.live:
            self.send_close(1001)
        if self.state == "IDLE":
            self.state = "CLOSED"
        else:
            self.event_waits |= self.end("ABORTED")

    # By the peer and the clock

    def accept(self, now: float) -> None:
        self.accepted = True
        self.state = "FINISHING" if self.end_of_audio else "OPEN"
        self.messages.insert(0, START_MESSAGE)
        self.due = {"ping": now + 20} | ({} if self.end_of_audio else {"keepalive": now + 5})

    def begin_closing(self, outcome: str, now: float) -> None:
        if self.outcome in {None, "CLOSED_LOCALLY"}:
            self.outcome = outcome
        if self.state != "CLOSING":
            self.state = "CLOSING"
            self.due.pop("keepalive", None)
            self.due["close"] = now + 5

    def send_close(self, code: int) -> None:
        if not self.close_codes:
            self.close_codes.append(code)

    def end(self, outcome: str) -> bool:
        """Close, and return whether that is news."""
        if self.state == "CLOSED":
            return False
        self.state, self.outcome, self.due = "CLOSED", self.outcome or outcome, {}
        return True

    def tick(self, now: float) -> None:
        for name in ("connect", "pong", "close", "keepalive", "ping"):
            if self.due.get(name, now + 1) > now:
                continue
            del self.due[name]
            if name == "keepalive":
                self.say(KEEPALIVE, now)
            elif name == "ping":
                self.ping(now)
            else:
                if self.live:
                    self.send_close(1011 if name == "pong" else 1000)
                self.end("LOST")

    def ping(self, now: float) -> None:
        if self.close_codes:
            return
        self.due["ping"] = now + 20
        if not self.ping_outstanding:
            self.ping_outstanding = True
            self.pings += 1
            self.due["pong"] = now + 20
