"""A recognizer that knows what was said, because its audio says where it is from."""

from __future__ import annotations

from collections.abc import Sequence

from soniox_adapters.server import RecognizerFactory
from soniox_proto import RealtimeEvent, RealtimeSTTConfig
from tests.support.core.model_service import ModelService, Word

__all__ = ["TruthfulRecognizer", "truthful"]

_FINAL_LAG_MS = 700
"""How far the final tokens are behind."""


class TruthfulRecognizer:
    """Hears each word whose audio reached it from its start; see `model_service`."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._model = ModelService(list(words))

    @property
    def final_audio_proc_ms(self) -> int:
        return self._model.final_to

    @property
    def total_audio_proc_ms(self) -> int:
        return len(self._model.heard)

    def feed(self, audio: bytes) -> list[RealtimeEvent]:
        self._model.hear(audio)
        return [self._heard_until(len(self._model.heard) - _FINAL_LAG_MS)]

    def finalize(self, trailing_silence_ms: int | None = None) -> list[RealtimeEvent]:
        message = self._heard_until(len(self._model.heard))
        fin = {"text": "<fin>", "is_final": True}
        tokens = [*(token.model_dump() for token in message.tokens), fin]
        return [RealtimeEvent.model_validate({**message.model_dump(), "tokens": tokens})]

    def finish(self) -> list[RealtimeEvent]:
        return [self._heard_until(len(self._model.heard))]

    def close(self) -> None:
        """Nothing is held."""

    def _heard_until(self, final_to: int) -> RealtimeEvent:
        model = self._model
        final_to = max(final_to, model.final_to)
        tokens = model._tokens(model.final_to, final_to, final=True)
        tokens += model._tokens(final_to, len(model.heard), final=False)
        model.final_to = final_to
        return RealtimeEvent.model_validate(
            {
                "tokens": tokens,
                "final_audio_proc_ms": final_to,
                "total_audio_proc_ms": len(model.heard),
            }
        )


def truthful(words: Sequence[Word]) -> RecognizerFactory:
    """Return a factory of recognizers that all know these words."""

    def make_recognizer(config: RealtimeSTTConfig) -> TruthfulRecognizer:
        return TruthfulRecognizer(words)

    return make_recognizer
