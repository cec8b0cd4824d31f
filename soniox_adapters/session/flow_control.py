"""When a session reads its sockets, and when it has buffered too much. All sessions share this.

Messages that the user has not received yet take memory, so a session whose user falls behind stops
reading; TCP then slows the server down. Applied without exception, that rule would hang sessions:

- A sender that is blocked because the server does not read must go on reading. The server may be
  blocked in the same way, writing results that nobody takes, and neither would ever move again.
- A session that is closing must read past unreceived messages to find the server's close frame.

In both cases memory has another limit, `too_much`, at which the session ends instead of growing.
Replies to pings are bounded as well: a peer that sends pings but reads nothing would make us
collect pongs without end.

A session that has stopped reading cannot see answers that have already arrived. Its core's
deadlines for pongs, finalizes and the close would pass, and a healthy connection would be declared
dead. So the core is told when reading stops and when it goes on. It is told from here alone, so
that no session can forget to.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = [
    "CLOSING_MEMORY",
    "MAX_UNSENT_REPLIES",
    "MAX_WAITING_MEMORY",
    "MAX_WAITING_MESSAGES",
    "FlowControl",
    "UnsentReplies",
    "message_memory",
]

MAX_WAITING_MESSAGES: Final = 256
"""Unreceived messages at which reading stops: those of some seconds of speech."""

FULL_MEMORY: Final = 16 * 1024 * 1024
"""Bytes of memory taken by unreceived messages at which reading stops."""

MAX_WAITING_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of memory taken by unreceived messages at which the session ends, because a blocked sender
made it read beyond `FULL_MEMORY`."""

CLOSING_MEMORY: Final = 4 * 1024 * 1024
"""Bytes of memory that messages arriving during a close may take. What the service still sends by
then takes a fraction of this."""

MAX_UNSENT_REPLIES: Final = 1024 * 1024
"""Bytes of unwritten replies to pings at which reading stops."""

_MEMORY_OF_A_MESSAGE: Final = 512
"""Bytes that the smallest message takes once parsed: the text, the event, its dictionary."""

_MEMORY_OF_A_CHARACTER: Final = 8
"""Bytes per character of a message. Measured: 6.3 to 6.6 for results of 1 to 60 tokens, and up to
45 for a message of tiny unknown fields, which the service never sends."""


def message_memory(raw: str | bytes) -> int:
    """Return an estimate of the bytes of memory that a parsed message takes, with its raw text."""
    return _MEMORY_OF_A_MESSAGE + _MEMORY_OF_A_CHARACTER * len(raw)


class Listener(Protocol):
    """The core of a session, as far as flow control needs it."""

    def pause_reading(self, now: float) -> None:
        """Stop counting time against the server: nothing is read from now on."""
        ...

    def resume_reading(self, now: float) -> None:
        """Count time against the server again."""
        ...


class FlowControl:
    """Decides whether a session may read, given what is waiting to be received and to be sent.

    The session reports each change through the methods and counters, then calls `update`.
    """

    __slots__ = (
        "_core",
        "_listening",
        "_memory_before_close",
        "closing",
        "full",
        "unsent_replies",
        "waiting_memory",
        "waiting_messages",
        "waiting_senders",
    )

    def __init__(self, core: Listener) -> None:
        self._core = core
        self._listening = True
        self._memory_before_close = 0
        self.waiting_messages = 0
        """Messages that the user has not received yet."""
        self.waiting_memory = 0
        """Bytes of memory that those messages take, as `message_memory` estimates."""
        self.waiting_senders = 0
        """Calls that are blocked until the server takes what they send."""
        self.unsent_replies = 0
        """Bytes of replies to the server that are not written yet."""
        self.closing = 0
        """Reasons to read to the end, however much is waiting: the session is closing, or a link
        takes no more output."""
        self.full = False
        """Whether enough messages are waiting. Cleared once half of them are received, because
        toggling on every message costs more."""

    def messages_added(self, messages: int, memory: int) -> None:
        """Count messages that were put into the inbox."""
        self.waiting_messages += messages
        self.waiting_memory += memory
        if self.waiting_messages >= MAX_WAITING_MESSAGES or self.waiting_memory >= FULL_MEMORY:
            self.full = True

    def message_taken(self, memory: int) -> None:
        """Count a message that the user received."""
        self.waiting_messages -= 1
        self.waiting_memory -= memory
        if (
            self.full
            and self.waiting_messages <= MAX_WAITING_MESSAGES // 2
            and self.waiting_memory <= FULL_MEMORY // 2
        ):
            self.full = False

    def begin_closing(self) -> None:
        """Keep reading, however much is waiting, because the end of a link has to be found.

        Calls nest: the session may be closing while the write of a link fails.
        """
        if not self.closing:
            self._memory_before_close = self.waiting_memory
        self.closing += 1

    def end_closing(self) -> None:
        """Undo one `begin_closing`: that link has ended, and the session goes on without it."""
        self.closing -= 1

    @property
    def is_strained(self) -> bool:
        """Whether a limit may be near. If not, `update` returns true and `too_much` is false."""
        return self.full or self.closing > 0 or self.unsent_replies > 0

    @property
    def too_much(self) -> bool:
        """Whether so much is waiting that the session has to end."""
        limit = MAX_WAITING_MEMORY
        if self.closing:
            limit = min(limit, self._memory_before_close + CLOSING_MEMORY)
        # The size of a single message is limited by `max_message_size` alone.
        return self.waiting_messages > 1 and self.waiting_memory >= limit

    def update(self, now: float) -> bool:
        """Tell the core if reading has stopped or goes on, and return whether to read.

        The core's deadlines go on while reading has stopped for unsent replies alone: a peer that
        takes none of them has itself to blame.
        """
        listening = not self.full or self.waiting_senders > 0 or self.closing > 0
        if listening is not self._listening:
            self._listening = listening
            if listening:
                self._core.resume_reading(now)
            else:
                self._core.pause_reading(now)
        return listening and self.unsent_replies < MAX_UNSENT_REPLIES


class UnsentReplies:
    """The replies that one link has not written yet: its share of `FlowControl.unsent_replies`."""

    __slots__ = ("_flow", "_size")

    def __init__(self, flow: FlowControl) -> None:
        self._flow = flow
        self._size = 0

    def add(self, size: int) -> None:
        """Count bytes that the server has not taken."""
        self._size += size
        self._flow.unsent_replies += size

    def clear(self) -> None:
        """Count none: they are written, or never will be."""
        self._flow.unsent_replies -= self._size
        self._size = 0
