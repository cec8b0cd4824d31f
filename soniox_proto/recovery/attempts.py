"""Whether to try another link after an error, and after which delay.

A policy judges one error. What it is asked depends on what went before: on how many attempts in a
row have failed, and on whether the service refused a key that was asked for just now. The rule is
the same for the present link and for the standby of a roll-over, and each has a count of its own.
"""

from __future__ import annotations

from soniox_proto.errors import SonioxRealtimeError
from soniox_proto.recovery.policy import ReconnectPolicy, blames_key

__all__ = ["Attempts"]


class Attempts:
    """Attempts in a row, none of which has led to a link that works.

    Args:
        policy: What to try again, and when.
        keys_are_fresh: Whether each link asks for a key of its own, so that a refused key may have
            been too old, and another one may be accepted.
        endless: Whether to go on after `max_attempts`, as long as the errors are worth another try:
            a session can wait for its next link while the present one works.
    """

    __slots__ = ("_endless", "_key_refused", "_keys_are_fresh", "_policy", "number")

    def __init__(
        self, policy: ReconnectPolicy, *, keys_are_fresh: bool, endless: bool = False
    ) -> None:
        self._policy = policy
        self._keys_are_fresh = keys_are_fresh
        self._endless = endless
        self.restart()

    def restart(self) -> None:
        """Count from the start again: a link has proven itself, or another one is wanted."""
        self.number = 0
        """How many attempts were made."""
        self._key_refused = False

    def next_delay(self, error: SonioxRealtimeError, now: float) -> float | None:
        """Count another attempt and return the seconds to wait before it.

        None if there is to be none; then nothing is counted.

        Args:
            error: Why the last link ended.
            now: The time, in seconds.
        """
        number = self.number + 1
        stale_key = self._keys_are_fresh and blames_key(error)
        # Age explains that the service refuses a key; it does not explain it twice.
        new_key_helps = None if not stale_key else not self._key_refused
        if not self._retries(error, number, new_key_helps):
            return None
        self.number = number
        self._key_refused |= stale_key
        return 0.0 if new_key_helps else self._policy.delay(error, number, now)

    def _retries(self, error: SonioxRealtimeError, number: int, new_key_helps: bool | None) -> bool:
        if self._endless:
            number = min(number, max(1, self._policy.max_attempts))
        try:
            return self._policy.retries(error, number, new_key_helps)
        except Exception as raised:
            # A function of the user's must not break the session in the middle of a message.
            error.__context__ = raised
            return False
