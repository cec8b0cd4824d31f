"""A model of the service that knows what was said, for sessions whose connections are cut.

The audio says where it is from: raw 32-bit samples at 1000 Hz, each of them its own position in ms.
So the model hears exactly what reached it, and from where. Like the real service it hears a word
only from its start, ends final tokens inside words, pads its clock with each finalize, and counts
speakers anew on each connection.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from soniox_proto import (
    AudioReceived,
    ClientClosed,
    EndOfAudioReceived,
    FinalizeReceived,
    RealtimeSTTConfig,
    RealtimeSTTServerConnection,
    ServerEvent,
    StartReceived,
    UpgradeReceived,
)
from soniox_proto.wav import NotWavError, WavReader
from tests.support.wav_files import format_chunk, riff

__all__ = ["AUDIO_CONFIG", "WAV_HEADER", "ModelService", "Word", "audio"]

AUDIO_CONFIG = {
    "model": "stt-rt-v5",
    "audio_format": "pcm_s32le",
    "sample_rate": 1000,
    "num_channels": 1,
}

WAV_HEADER = riff(
    format_chunk(sample_rate=1000, block_bytes=4, bits=32),
    struct.pack("<4sI", b"data", 0xFFFF_FFFF),
)
"""What begins a WAV file with such audio, which may be of any length."""


def audio(begin_ms: int, end_ms: int) -> bytes:
    """Return audio from one position to another, which says where it is from."""
    return struct.pack(f"<{end_ms - begin_ms}i", *range(begin_ms, end_ms))


@dataclass(frozen=True)
class Word:
    """A word that was said."""

    text: str
    """With its leading space."""
    begin_ms: int
    end_ms: int
    speaker: str = "1"

    @property
    def samples(self) -> int:
        return self.end_ms - self.begin_ms


@dataclass
class ModelService:
    """The service's end of one connection."""

    words: list[Word]
    now: float = 0.0
    drop_at: int | None = None
    """Bytes to the client after which nothing more reaches it."""
    wav: WavReader | None = None
    """Set while the audio comes as a WAV file."""
    partial: bytes = b""
    formats: list[str] = field(default_factory=list[str])
    """What the client declared."""
    config: RealtimeSTTConfig | None = None
    """What the client asked for."""
    server: RealtimeSTTServerConnection = field(default_factory=RealtimeSTTServerConnection)
    heard: list[int] = field(default_factory=list[int])
    """Each sample that came, which is its position in the user's audio."""
    finalizes: list[int] = field(default_factory=list[int])
    """After how many samples each finalize came that is not answered yet."""
    ended: bool = False
    finished: bool = False
    output: bytes = b""
    sent: int = 0
    # Samples up to which everything is final, and the jumps of the clock so far.
    final_to: int = 0
    pads: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    speakers: dict[str, str] = field(default_factory=dict[str, str])

    def receive(self, data: bytes) -> None:
        """Take bytes of the client."""
        for event in self.server.receive_data(data, self.now):
            self._handle(event)

    def _handle(self, event: ServerEvent) -> None:
        match event:
            case UpgradeReceived():
                self.server.accept(self.now)
            case StartReceived(config):
                self.config = config
                self.formats.append(config.audio_format)
                if config.audio_format in {"auto", "wav"}:
                    self.wav = WavReader()
            case AudioReceived(chunk):
                if self.wav is not None:
                    try:
                        chunk = self.wav.feed(chunk)
                    except NotWavError:
                        self.wav = None
                self.hear(chunk)
            case FinalizeReceived():
                self.finalizes.append(len(self.heard))
            case EndOfAudioReceived():
                self.ended = True
            case ClientClosed() | _:
                pass

    def hear(self, chunk: bytes) -> None:
        """Take samples, which may be cut anywhere."""
        chunk = self.partial + chunk
        whole = len(chunk) // 4
        self.partial = chunk[4 * whole :]
        self.heard += struct.unpack(f"<{whole}i", chunk[: 4 * whole])

    def clock(self, sample: int) -> int:
        """Return the position on the service's clock after so many samples."""
        jump = 0
        for at, pad in self.pads:
            if sample > at:
                jump += pad
        return sample + jump

    def reached(self, sample: int) -> int:
        """Return how far the clock is after so many samples, pads there included."""
        return sample + sum(pad for at, pad in self.pads if at <= sample)

    def recognize(self, final_to: int, total_to: int) -> None:
        """Send a result: everything before `final_to` samples is final, the rest is not."""
        heard = len(self.heard)
        limit = self.finalizes[0] if self.finalizes else heard
        total_to = min(max(total_to, self.final_to), limit)
        final_to = min(max(final_to, self.final_to), total_to)
        tokens = self._tokens(self.final_to, final_to, final=True)
        tokens += self._tokens(final_to, total_to, final=False)
        self.final_to = final_to
        self._send(tokens, self.reached(final_to), self.reached(total_to))

    def answer_finalize(self) -> None:
        """Answer the oldest finalize: what came before it becomes final, and the clock jumps."""
        at = self.finalizes.pop(0)
        tokens = self._tokens(self.final_to, at, final=True)
        self.final_to = at
        tokens.append({"text": "<fin>", "is_final": True, "start_ms": 0, "end_ms": 0})
        before = self.reached(at)
        after = (before // 120 + 1) * 120
        self.pads.append((at, after - before))
        self._send(tokens, after, after)

    def endpoint(self) -> None:
        """Make everything final up to the oldest finalize, or up to here, and end the utterance."""
        limit = self.finalizes[0] if self.finalizes else len(self.heard)
        tokens = self._tokens(self.final_to, limit, final=True)
        self.final_to = limit
        tokens.append({"text": "<end>", "is_final": True})
        self._send(tokens, self.reached(limit), self.reached(limit))

    def finish(self) -> None:
        """Answer everything that is owed, then the end of the audio."""
        while self.finalizes:
            self.answer_finalize()
        tokens = self._tokens(self.final_to, len(self.heard), final=True)
        self.final_to = len(self.heard)
        position = self.reached(self.final_to)
        self.server.finish(
            {"tokens": tokens, "final_audio_proc_ms": position, "total_audio_proc_ms": position},
            self.now,
        )
        self.finished = True

    def error(self, code: int, kind: str, message: str) -> None:
        """End the connection with an error message."""
        self.server.send_error(code, kind, message, self.now)
        self.finished = True

    def take_output(self) -> tuple[bytes, bool]:
        """Return the bytes that reach the client, and whether the connection is cut after them."""
        data = self.server.data_to_send()
        if self.drop_at is not None and self.sent + len(data) >= self.drop_at:
            data = data[: max(0, self.drop_at - self.sent)]
            self.sent += len(data)
            return data, True
        self.sent += len(data)
        return data, False

    def _send(self, tokens: list[dict[str, Any]], final_ms: int, total_ms: int) -> None:
        self.server.send_result(
            {
                "tokens": tokens,
                "final_audio_proc_ms": final_ms,
                "total_audio_proc_ms": total_ms,
            },
            self.now,
        )

    def _tokens(self, begin: int, end: int, *, final: bool) -> list[dict[str, Any]]:
        """Return the tokens of the letters that end within these samples, a word in one piece."""
        tokens: list[dict[str, Any]] = []
        positions = {position: index for index, position in enumerate(self.heard)}
        for word in self.words:
            first, last = positions.get(word.begin_ms), positions.get(word.end_ms - 1)
            if first is None or (
                last is not None and last - first != word.end_ms - 1 - word.begin_ms
            ):
                continue
            length, letters = word.samples, len(word.text)
            # Letter k has been said once its last sample has come.
            ends = [first + length * (k + 1) // letters for k in range(letters)]
            said = [k for k, letter_end in enumerate(ends) if begin < letter_end <= end]
            if not said:
                continue
            starts_at = first if said[0] == 0 else ends[said[0] - 1]
            speaker = self.speakers.setdefault(word.speaker, str(len(self.speakers) + 1))
            tokens.append(
                {
                    "text": word.text[said[0] : said[-1] + 1],
                    # A word that begins where the clock jumped begins behind the jump.
                    "start_ms": self.clock(starts_at + 1) - 1,
                    "end_ms": self.clock(ends[said[-1]]),
                    "is_final": final,
                    "confidence": 0.9,
                    "speaker": speaker,
                }
            )
        return tokens
