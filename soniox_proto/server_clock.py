"""The service's clock: positions in the audio, shifted by the silence that finalizing adds.

The service stamps tokens and progress with positions on its own clock, and that clock is not the
audio that the client sent. On a finalize the service adds silence and counts it, so all later
positions are ahead of the client's audio. A client that cuts its recording at `end_ms` cuts in the
wrong place after the first finalize, and each further one adds up to 120 ms to the error.

Soniox's documentation says only that `trailing_silence_ms` reduces the padding ("Manual
finalization"). The rest was measured in production, on `stt-rt-v5` with 16 kHz mono audio:

- A finalize moves the clock from `s` ms to `(s // 120 + 1) * 120`, strictly the next multiple of
  120 ms. So the pad is 1 to 120 ms long, and a full 120 ms where `s` is a multiple.
- The message with the `<fin>` has that position as both `final_audio_proc_ms` and
  `total_audio_proc_ms`.
- Keepalives and pauses do not move the clock.

This module is the server's half: it turns what a recognizer reports about the bare audio into what
the service would send, so that clients can be tested against the shifted clock.
"""

from __future__ import annotations

from typing import Final

from soniox_proto.messages import MARKERS, RealtimeEvent, Token

__all__ = ["FINALIZE_STEP_MS", "ServerClock"]

FINALIZE_STEP_MS: Final = 120
"""A finalize pads the audio with silence to strictly the next multiple of this many ms."""


class ServerClock:
    """Turns positions in the audio that a client sent into positions on the service's clock.

    A recognizer counts only the audio it was given. The service also counts the silence added by
    each finalize, so the difference grows over a stream and never shrinks. All positions are in ms.
    """

    __slots__ = ("_finalized_at", "_padding_ms")

    def __init__(self) -> None:
        self._padding_ms = 0
        self._finalized_at = 0

    def position(self, audio_ms: int) -> int:
        """Return the position on the clock after `audio_ms` of the client's audio."""
        return max(self._finalized_at, audio_ms + self._padding_ms)

    def message(self, message: RealtimeEvent) -> RealtimeEvent:
        """Return a result with its positions and the times of its tokens put on the clock."""
        if not self._padding_ms:
            return message
        return self._moved(message, None)

    def finalize(self, audio_ms: int) -> int:
        """Pad the clock after `audio_ms` of the client's audio; return its new position.

        Each call pads again, even without audio since the last one: an exact multiple is padded
        too.
        """
        position = (self.position(audio_ms) // FINALIZE_STEP_MS + 1) * FINALIZE_STEP_MS
        self._padding_ms = position - audio_ms
        self._finalized_at = position
        return position

    def finalized_message(self, message: RealtimeEvent, audio_ms: int) -> RealtimeEvent:
        """Pad the clock and return `message` as the answer to a finalize after `audio_ms` of audio.

        Its progress stands at the padded position. Its tokens were spoken before the pad, so their
        times are those of the clock before it.
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
        # The times of markers mean nothing, and translations have none.
        if token.text in MARKERS or (token.start_ms is None and token.end_ms is None):
            return token
        changes = {
            name: self._moved_time(time, latest)
            for name, time in (("start_ms", token.start_ms), ("end_ms", token.end_ms))
            if time is not None
        }
        return token.model_copy(update=changes)

    def _moved_time(self, time_ms: int, latest: int | None) -> int:
        # A finalize may cut through a word: the first part ends, and the rest begins, at the cut.
        moved = self.position(time_ms)
        return moved if latest is None else min(moved, latest)
