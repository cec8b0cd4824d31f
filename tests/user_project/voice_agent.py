"""A voice agent: listens until its user has finished a turn, then answers."""

from __future__ import annotations

from collections.abc import Callable

from soniox_adapters import AsyncRealtimeSTTSession, SonioxClient, SonioxRealtimeError


class VoiceAgent:
    """Collects the words of a turn; a short answer interrupts nobody."""

    def __init__(self, session: AsyncRealtimeSTTSession) -> None:
        self.session = session
        self.heard: list[str] = []

    async def turn(self) -> str:
        """Return what the user said, once an endpoint comes."""
        words: list[str] = []
        while (event := await self.session.receive_event()) is not None:
            for token in event.tokens:
                if token.text == "<end>":
                    self.heard.append("".join(words).strip())
                    return self.heard[-1]
                if token.is_final:
                    words.append(token.text)
        raise EOFError("the session ended in the middle of a turn")


def transcribe(client: SonioxClient, chunks: list[bytes], pause: Callable[[float], None]) -> str:
    """Return the text of some audio, beginning again after errors that are worth it."""
    config = {
        "model": "stt-rt-v5",
        "audio_format": "pcm_s16le",
        "sample_rate": 16_000,
        "num_channels": 1,
    }
    for attempt in range(5):
        text: list[str] = []
        try:
            with client.realtime.stt.connect(config=config) as session:
                session.send_bytes(chunks)
                for event in session.receive_events():
                    text += [token.text for token in event.tokens if token.is_final]
        except SonioxRealtimeError as error:
            if not error.retryable:
                raise
            pause(2.0**attempt if error.retry_after is None else error.retry_after)
        else:
            return "".join(text)
    raise RuntimeError("it did not get better")
