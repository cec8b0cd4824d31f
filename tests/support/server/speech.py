"""Real speech, and what a recognizer makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from soniox_adapters.server import pocketsphinx_recognizer
from soniox_adapters.server.pocketsphinx_recognizer import (
    PocketsphinxRecognizer,
    pocketsphinx_installed,
)
from soniox_adapters.server.recognizer import RecognizerFactory
from soniox_proto import RealtimeEvent, RealtimeSTTConfig

SAMPLES = Path(pocketsphinx_recognizer.__file__).parent / "samples"

needs_pocketsphinx = pytest.mark.skipif(
    not pocketsphinx_installed(), reason="pocketsphinx is not installed"
)


def config(audio_format: str = "pcm_s16le", **fields: object) -> RealtimeSTTConfig:
    return RealtimeSTTConfig.model_validate(
        {
            "model": "stt-rt-v5",
            "audio_format": audio_format,
            "sample_rate": 16_000,
            "num_channels": 1,
            **fields,
        }
    )


def pieces_of(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def heard(
    audio: Iterable[bytes],
    config: RealtimeSTTConfig,
    factory: RecognizerFactory = PocketsphinxRecognizer,
) -> list[RealtimeEvent]:
    """Return all messages that a stream brings."""
    stream = factory(config)
    try:
        messages = [message for piece in audio for message in stream.feed(piece)]
        return messages + stream.finish()
    finally:
        stream.close()
