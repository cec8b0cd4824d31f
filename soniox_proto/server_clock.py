"""The service's clock: positions in the audio, moved on by the silence that finalizing adds."""

from __future__ import annotations

from typing import Final

from soniox_proto.messages import TOKEN_TEXT_END, TOKEN_TEXT_FIN, RealtimeEvent, Token

__all__ = ["FINALIZE_STEP_MS", "ServerClock"]

FINALIZE_STEP_MS: Final = 120
"""Each finalize pads the audio with silence to strictly the next multiple of this."""

_MARKERS: Final = frozenset({TOKEN_TEXT_END, TOKEN_TEXT_FIN})


class ServerClock:
    """Turns positions in the audio that a client sent into positions on the service's clock.

    A recognizer counts the audio that it was given. The service also counts the silence that it
    adds at each finalize, so every later position of a stream is further on.
    """

    __slots__ = ("_finalized_at", "_padding_ms")

    def __init__(self) -> None:
        self._padding_ms = 0
        self._finalized_at = 0

    def position(self, audio_ms: int) -> int:
        """Return the position on the clock after `audio_ms` of the client's audio."""
        return max(self._finalized_at, audio_ms + self._padding_ms)

    def message(self, message: RealtimeEvent) -> RealtimeEvent:
        """Return a result with its positions and the times of its tokens moved onto the clock."""
        if not self._padding_ms:
            return message
        return self._moved(message, None)

    def finalize(self, audio_ms: int) -> int:
        """Pad the clock, after `audio_ms` of the client's audio, and return its position."""
        position = (self.position(audio_ms) // FINALIZE_STEP_MS + 1) * FINALIZE_STEP_MS
        self._padding_ms = position - audio_ms
        self._finalized_at = position
        return position

    def finalized_message(self, message: RealtimeEvent, audio_ms: int) -> RealtimeEvent:
        """Pad the clock and return the answer to a finalize, with its positions there.

        The tokens were spoken before the padding, so their times stand on the clock before it.
        """
        before = self._moved(message, self.position(audio_ms))
        position = self.finalize(audio_ms)
        return before.model_copy(
            update={"final_audio_proc_ms": position, "total_audio_proc_ms": position}
        )

    def _moved(self, message: RealtimeEvent, latest: int | None) -> RealtimeEvent:
        changes: dict[str, object] = {
            "tokens": [self._moved_token(token, latest) for token in message.tokens]
        }
        for name in ("final_audio_proc_ms", "total_audio_proc_ms"):
            position = getattr(message, name)
            if position is not None:
                changes[name] = self.position(position)
        return message.model_copy(update=changes)

    def _moved_token(self, token: Token, latest: int | None) -> Token:
        if token.text in _MARKERS or (token.start_ms is None and token.end_ms is None):
            return token
        changes = {
            name: self._moved_time(time, latest)
            for name, time in (("start_ms", token.start_ms), ("end_ms", token.end_ms))
            if time is not None
        }
        return token.model_copy(update=changes)

    def _moved_time(self, time_ms: int, latest: int | None) -> int:
        # A word that a finalize cut through ends, and its rest begins, at the cut.
        moved = self.position(time_ms)
        return moved if latest is None else min(moved, latest)
