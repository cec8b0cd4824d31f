"""Sessions of the command line that reconnect, and what they say about it afterwards."""

from __future__ import annotations

from soniox_proto import Reconnected, Reconnecting, ReconnectPolicy, RolledOver, SessionStats

__all__ = ["Reconnections"]


class Reconnections:
    """Counts the attempts of one session to make a new connection."""

    def __init__(self) -> None:
        self.policy = ReconnectPolicy(on_event=self._note)
        """The policy of the session."""
        self.attempts = 0
        """Attempts so far."""

    def _note(self, event: Reconnecting | Reconnected | RolledOver) -> None:
        if isinstance(event, Reconnecting):
            self.attempts += 1

    def summary(self, stats: SessionStats) -> str | None:
        """Return what happened in one line; None if no connection was lost."""
        if not self.attempts:
            return None
        attempts = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        times = {0: "never", 1: "once", 2: "twice"}.get(
            stats.reconnects, f"{stats.reconnects} times"
        )
        return (
            f"{attempts} to reconnect, {times} with success: {stats.replayed_audio_ms} ms of audio "
            f"sent again, {stats.lost_audio_ms} ms lost"
        )
