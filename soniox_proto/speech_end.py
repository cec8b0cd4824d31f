"""Where speech ended in the audio, by the tokens that came so far."""

from __future__ import annotations

from soniox_proto.messages import RealtimeEvent, Token
from soniox_proto.received_model import fields_of

__all__ = ["SpeechEnd"]


class SpeechEnd:
    """Follows the end of the last final original token.

    That is where speech ended before an endpoint: the marker's own times may be 0, absent, or that
    end, and translations have none.
    """

    __slots__ = ("_final_ms", "position_ms")

    def __init__(self) -> None:
        # The `final_audio_proc_ms` of the message that was last looked at closely.
        self._final_ms: int | None = None
        self.position_ms: int | None = None
        """Where speech ended, in ms of audio; None before the first final token with a time."""

    def follow(self, message: RealtimeEvent, final_ms: int | None) -> None:
        """Take a message that holds no marker, whose `final_audio_proc_ms` is `final_ms`."""
        tokens = message.tokens
        if not tokens:
            return
        # Most messages only repeat the provisional tail. Nothing became final if the position has
        # not moved and both ends of the list are provisional (final tokens come first: Soniox docs,
        # "Real-time transcription"). Looking closer would cost a tenth of the time of parsing.
        if (
            final_ms is not None
            and final_ms == self._final_ms
            and not tokens[0].is_final
            and not tokens[-1].is_final
        ):
            return
        self._final_ms = final_ms
        for token in reversed(tokens):
            if self.take(token):
                return

    def take(self, token: Token) -> bool:
        """Take one token that is no marker; return whether speech ended where it ends."""
        fields = fields_of(token)
        end_ms: int | None = fields.get("end_ms")
        if (
            not fields.get("is_final")
            or end_ms is None
            or fields.get("translation_status") == "translation"
        ):
            return False
        self.position_ms = end_ms
        return True
