"""When a session reads its socket, and when it has kept too much: one rule for every world.

A session whose user does not receive stops reading; TCP then slows the server down. Two things
override that. A sender that waits for the server must go on reading, because a server that waits
for its own messages to be taken reads nothing either. And a session that closes reads on to find
the server's close frame. What is kept in the meantime is bounded too, by `too_much`.

The core is told from here, and from nowhere else, when reading stops and goes on, so that no
deadline of the server passes while its answer waits unread.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = [
    "CLOSING_MEMORY",
    "MAX_UNSENT_REPLIES",
    "MAX_WAITING_MEMORY",
    "MAX_WAITING_MESSAGES",
    "FlowControl",
    "message_memory",
]

MAX_WAITING_MESSAGES: Final = 256
"""Messages that wait for the user before the socket is read no further: seconds of speech."""

FULL_MEMORY: Final = 16 * 1024 * 1024
"""Bytes of memory that waiting messages may take before the socket is read no further."""

MAX_WAITING_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of memory that waiting messages may take while a blocked sender has to read on."""

CLOSING_MEMORY: Final = 4 * 1024 * 1024
"""Bytes of memory that messages may take that arrive during a close: whatever the service still
has to say by then is a fraction of it."""

MAX_UNSENT_REPLIES: Final = 1024 * 1024
"""Bytes of answers to pings that may wait to be written before the socket is read no further: they
would pile up for a peer that sends but does not read."""

_MEMORY_OF_A_MESSAGE: Final = 512
"""Bytes that the smallest message takes once it is parsed: the text, the event, its dictionary."""

_MEMORY_OF_A_CHARACTER: Final = 8
"""Bytes that each character of a message takes. Results of 1 to 60 tokens take 6.3 to 6.6 bytes;
one that consists of tiny unknown fields, which the service never sends, takes up to 45."""


def message_memory(raw: str | bytes) -> int:
    """Return about how many bytes of memory a parsed message takes, its raw text included."""
    return _MEMORY_OF_A_MESSAGE + _MEMORY_OF_A_CHARACTER * len(raw)


class Listener(Protocol):
    """What is told whether anybody reads: the core of a session."""

    def pause_reading(self, now: float) -> None:
        """Note that nothing is read from now on."""
        ...

    def resume_reading(self, now: float) -> None:
        """Note that reading goes on."""
        ...


class FlowControl:
    """Decides whether a session may read, from what waits on either side of it.

    Change what has changed, then call `update`; it returns whether to read.
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
        """Messages that wait for the user."""
        self.waiting_memory = 0
        """Bytes of memory that they take, as `message_memory` estimates."""
        self.waiting_senders = 0
        """Calls that wait until the server takes what they send."""
        self.unsent_replies = 0
        """Bytes of answers to the server that wait to be written."""
        self.closing = 0
        """Ends that are read to: of a session that is closed, of links that take no more."""
        self.full = False
        """Whether enough waits for the user. Cleared at half of it, because stopping and going on
        with every message would cost more than reading."""

    def messages_added(self, messages: int, memory: int) -> None:
        """Count messages that wait for the user from now on."""
        self.waiting_messages += messages
        self.waiting_memory += memory
        if self.waiting_messages >= MAX_WAITING_MESSAGES or self.waiting_memory >= FULL_MEMORY:
            self.full = True

    def message_taken(self, memory: int) -> None:
        """Count a message that the user took."""
        self.waiting_messages -= 1
        self.waiting_memory -= memory
        if (
            self.full
            and self.waiting_messages <= MAX_WAITING_MESSAGES // 2
            and self.waiting_memory <= FULL_MEMORY // 2
        ):
            self.full = False

    def begin_closing(self) -> None:
        """Read on from now on to the end of what a server has to say, its close frame for example.

        Several ends may be read to at a time.
        """
        if not self.closing:
            self._memory_before_close = self.waiting_memory
        self.closing += 1

    def end_closing(self) -> None:
        """Note that one of the ends that were read to is reached, and the session goes on."""
        self.closing -= 1

    @property
    def may_read(self) -> bool:
        """Whether to read the socket now."""
        return self.unsent_replies < MAX_UNSENT_REPLIES and self._has_listener

    @property
    def too_much(self) -> bool:
        """Whether nothing more may be kept at all, so that the session has to end."""
        limit = MAX_WAITING_MEMORY
        if self.closing:
            limit = min(limit, self._memory_before_close + CLOSING_MEMORY)
        # One large message alone is the business of `max_message_size`.
        return self.waiting_messages > 1 and self.waiting_memory >= limit

    def update(self, now: float) -> bool:
        """Tell the core if reading stops or goes on, and return whether to read.

        A peer that does not take our answers gets no rest: that is its own fault.
        """
        listening = self._has_listener
        if listening is not self._listening:
            self._listening = listening
            if listening:
                self._core.resume_reading(now)
            else:
                self._core.pause_reading(now)
        return listening and self.unsent_replies < MAX_UNSENT_REPLIES

    @property
    def _has_listener(self) -> bool:
        return not self.full or self.waiting_senders > 0 or self.closing > 0
