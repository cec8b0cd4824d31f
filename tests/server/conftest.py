"""What the tests of the local server share."""

from __future__ import annotations

import wave

import pytest

from tests.support.server.speech import SAMPLES


@pytest.fixture
def anyio_backend() -> str:
    """The local server is a server on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def meeting() -> bytes:
    """The PCM of the recording with two sentences."""
    with wave.open(str(SAMPLES / "meeting.wav")) as file:
        frames: bytes = file.readframes(file.getnframes())
    return frames
