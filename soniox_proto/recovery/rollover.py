"""When a session moves to another connection before its present one ends.

The service ends a connection after 300 minutes of audio, and takes a configuration only at its
start. So before the first, and for a change of the second, a session rolls over: it opens another
connection while the present one goes on, and changes over between two utterances, where no word is
cut. There are two connections in turn beside the present one:

1. The standby is being opened, or is open and waits for an endpoint. The audio still goes to the
   present connection. If the standby is lost, another is opened; if the present connection is lost,
   the standby takes its place at once.
2. After the change the audio goes to what was the standby, beginning with what was not final yet.
   The connection before is draining: it has got end-of-audio, and is read up to its finished
   response. What the new one says is held until then, because it has to be compared with that.

`RollOver` keeps these two, and knows when what is due; `Succession` moves the audio.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from soniox_proto.errors import SonioxRealtimeError
from soniox_proto.messages import MARKERS, Token
from soniox_proto.recovery.attempts import Attempts
from soniox_proto.recovery.link import RecoverableLink
from soniox_proto.recovery.links import Links

__all__ = ["RollOver", "Step"]

SWITCH_WITHIN: Final = 30.0
"""Seconds to wait for an endpoint."""


class Step(Enum):
    """What a roll-over needs next."""

    OPEN = "open"
    """Open a standby."""
    SWITCH = "switch"
    """Send the audio to the standby from now on."""
    RELEASE = "release"
    """Stop waiting for the connection that is draining."""


class RollOver:
    """The connections beside the present one, and when to change over.

    Args:
        after: Seconds of a connection's age, or of its audio, at which it is replaced; None for
            never.
        drain_timeout: Seconds that the finished response of the connection before may take; None
            for no limit.
        attempts: Those to open a standby.
        links: Where a link is opened, and given up.
    """

    __slots__ = (
        "_after",
        "_asked_at",
        "_at_endpoint",
        "_attempts",
        "_drain_timeout",
        "_drained_by",
        "_given_up",
        "_is_required",
        "_links",
        "_rests_since",
        "_retry_at",
        "draining",
        "standby",
    )

    def __init__(
        self, after: float | None, drain_timeout: float | None, attempts: Attempts, links: Links
    ) -> None:
        self._after = after
        self._drain_timeout = drain_timeout
        self._attempts = attempts
        self._links = links
        # Whether no word has come since the last endpoint or answered finalize.
        self._at_endpoint = True
        self.draining: RecoverableLink | None = None
        """The connection before, while it is read to its end."""
        self._drained_by: float | None = None
        self._rests_since: float | None = None
        self.begin()

    def begin(self) -> None:
        """Begin anew, with a present connection that needs no replacement yet."""
        self.standby: RecoverableLink | None = None
        """The connection that will be the next one."""
        # Whether the configuration has changed, so that going on without is no choice.
        self._is_required = False
        self._attempts.restart()
        # When the roll-over was asked for; None if none is under way.
        self._asked_at: float | None = None
        self._retry_at = float("-inf")
        self._given_up = False

    def _ask(self, now: float) -> None:
        """Note that the present connection is to be replaced."""
        if self._asked_at is None:
            self._asked_at = now

    def require(self, now: float) -> None:
        """Note that the present connection has to be replaced, however often that fails."""
        self.drop_standby(now)
        self._is_required = True
        self._ask(now)

    @property
    def links(self) -> list[RecoverableLink]:
        """The connections beside the present one."""
        return [link for link in (self.standby, self.draining) if link is not None]

    def note_position(self, processed_ms: int | None, now: float) -> None:
        """Note how far the present connection is, on its own clock."""
        after = self._after
        if after is not None and processed_ms is not None and processed_ms >= after * 1000:
            self._ask(now)

    def note_tokens(self, tokens: list[Token]) -> None:
        """Note what was given out, on whatever connection it came.

        A translation is no word of its own: it mostly follows the endpoint.
        """
        words = [token for token in tokens if token.translation_status != "translation"]
        if words:
            self._at_endpoint = words[-1].text in MARKERS

    def open_standby(self, link: RecoverableLink, now: float) -> None:
        """Have a link opened that will be the next one."""
        self.standby = link
        self._links.want(link, now)

    def drop_standby(self, now: float) -> None:
        """Begin anew, with the present connection alone."""
        standby = self.standby
        self.begin()
        if standby is not None:
            self._links.abandon(standby, now)

    def replaces_standby(self, error: SonioxRealtimeError, now: float) -> bool:
        """Do without a standby that has ended; return False if the session ends with it."""
        standby, delay = self.standby, self._attempts.next_delay(error, now)
        assert standby is not None, "it has ended"
        if delay is not None:
            self._retry(now + delay)
        elif not self._is_required:
            # The session stays on the present connection until that ends.
            self.standby, self._given_up = None, True
        else:
            return False
        self._links.abandon(standby, now)
        return True

    def _retry(self, at: float) -> None:
        """Open another standby, not before the time `at`."""
        self.standby, self._retry_at = None, at

    def switch(self, link: RecoverableLink, now: float) -> RecoverableLink:
        """Return the standby, which is the present connection now; `link` is draining."""
        standby, timeout = self.standby, self._drain_timeout
        assert standby is not None, "it is open"
        self.begin()
        self.draining, self._drained_by = link, None if timeout is None else now + timeout
        return standby

    def release(self, now: float) -> RecoverableLink:
        """Return the connection that was draining, having given it up."""
        before, self.draining = self.draining, None
        assert before is not None, "something waited for it"
        self._links.abandon(before, now)
        return before

    def rest(self, now: float) -> None:
        """Note that nothing is read any more, so that nothing can be waited for."""
        standby = self.standby
        if standby is not None and standby.opened_at is None:
            self._links.abandon(standby, now)
            self._retry(now)
        if self._rests_since is None:
            self._rests_since = now

    def resume(self, now: float) -> None:
        """Note that everything is read again."""
        if self._rests_since is not None and self._drained_by is not None:
            self._drained_by += now - self._rests_since
        self._rests_since = None

    def next_timeout(self, link: RecoverableLink, *, possible: bool) -> float | None:
        """Return when a step becomes due if nothing else happens; None if none does.

        Args:
            link: The present connection.
            possible: Whether it may be replaced.
        """
        if self._rests_since is not None:
            return None
        if self.draining is not None:
            return self._drained_by
        if not possible or not link.is_open or self._given_up:
            return None
        if self._asked_at is None:
            assert link.opened_at is not None, "the link is open"
            return None if self._after is None else link.opened_at + self._after
        if self.standby is None:
            return self._retry_at
        if not self.standby.is_open:
            return None
        return self._retry_at if self._at_endpoint else self._asked_at + SWITCH_WITHIN

    def due(self, link: RecoverableLink, now: float, *, possible: bool) -> Step | None:
        """Return the step that is due now, if one is; the arguments are as for `next_timeout`."""
        at = self.next_timeout(link, possible=possible)
        if at is None or at > now:
            return None
        if self.draining is not None:
            return Step.RELEASE
        self._ask(now)
        if self.standby is not None:
            return Step.SWITCH
        return Step.OPEN
