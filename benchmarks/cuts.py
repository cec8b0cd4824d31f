"""Are the words of a recording the same wherever its connection is cut?

`python -m benchmarks.cuts` transcribes the samples with real recognition (the extra `local`), first
without a cut, then with one at each of twenty places, and prints a table. Audio is sent as fast as
it is recognized and no faster, so that some words are final when the connection is lost, whatever
the machine. Exits with 1 if any words differ, or any audio was lost.
"""

from __future__ import annotations

import argparse
import sys
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from typing import Final

from soniox_adapters import (
    RealtimeSTTSession,
    ReconnectPolicy,
    SonioxTimeoutError,
    Token,
    render_tokens,
)
from soniox_adapters.server import Drop, LocalServer, run_in_thread

__all__ = ["SAMPLES", "Cut", "cut_at", "main", "places", "row"]

SAMPLES: Final = ("meeting.wav", "two-speakers.wav")

_HEADINGS: Final = ("recording", "cut at", "connections", "sent again", "lost", "words")
_NEVER_MS: Final = 1e9

_CHUNK_MS: Final = 100
_AHEAD_MS: Final = 200
"""How far the audio may be ahead of its recognition."""
_PATIENCE: Final = 2.0
"""Seconds without a message after which audio is sent all the same: silence may have none."""


@dataclass(frozen=True)
class Cut:
    """What became of a session whose connection was cut."""

    sample: str
    at_ms: int
    text: str
    expected: str
    connections: int
    replayed_ms: int
    lost_ms: int

    @property
    def is_good(self) -> bool:
        """Whether nothing can be seen of the cut in the transcript."""
        return self.text == self.expected and self.connections == 2 and not self.lost_ms


def sample(name: str) -> bytes:
    """Return a recording that comes with the local server."""
    return (files("soniox_adapters.server") / "samples" / name).read_bytes()


def places(name: str, count: int) -> list[int]:
    """Return so many places in a recording, in ms, evenly apart."""
    with wave.open(BytesIO(sample(name))) as file:
        length_ms = file.getnframes() * 1000 // file.getframerate()
    return [length_ms * (number + 1) // (count + 1) for number in range(count)]


def cut_at(name: str, cuts: Sequence[int]) -> Iterator[Cut]:
    """Transcribe a recording without a cut, then once for each place, cut there."""
    faults = [Drop(after_ms=_NEVER_MS)]
    for at_ms in cuts:
        # The second connection of each session is not cut.
        faults += [Drop(after_ms=at_ms), Drop(after_ms=_NEVER_MS)]
    with run_in_thread(LocalServer(recognizer="pocketsphinx", faults=faults)) as server:
        expected, _ = _transcribed(server.url, name)
        for at_ms in cuts:
            text, session = _transcribed(server.url, name)
            stats = session.stats
            yield Cut(
                name,
                at_ms,
                text,
                expected,
                stats.reconnects + 1,
                stats.replayed_audio_ms,
                stats.lost_audio_ms,
            )


def _transcribed(url: str, name: str) -> tuple[str, RealtimeSTTSession]:
    config = {"model": "stt-rt-v5", "enable_endpoint_detection": True}
    policy = ReconnectPolicy(initial_delay=0.1)
    with RealtimeSTTSession(url, config, proxy=None, reconnect=policy) as session:
        tokens = _send_in_step(session, sample(name))
        session.finish()
        tokens += [token for event in session.receive_events() for token in event.tokens]
    return render_tokens([token for token in tokens if token.is_final], []), session


def _send_in_step(session: RealtimeSTTSession, audio: bytes) -> list[Token]:
    """Send audio no faster than it is recognized; return what came meanwhile."""
    tokens: list[Token] = []
    size = 32 * _CHUNK_MS
    heard_ms = 0
    for begins in range(0, len(audio), size):
        session.send_byte_chunk(audio[begins : begins + size])
        while heard_ms < begins // 32 - _AHEAD_MS:
            try:
                event = session.receive_event(_PATIENCE)
            except SonioxTimeoutError:
                break
            assert event is not None, "the audio is not over"
            tokens += event.tokens
            heard_ms = event.total_audio_proc_ms or heard_ms
    return tokens


def row(cut: Cut) -> str:
    """Return a row of the table."""
    words = "the same" if cut.text == cut.expected else f"other: {cut.text!r}"
    cells = (
        cut.sample,
        f"{cut.at_ms} ms",
        str(cut.connections),
        f"{cut.replayed_ms} ms",
        f"{cut.lost_ms} ms",
        words,
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a cut shows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuts", description=__doc__)
    parser.add_argument("--cuts", type=int, default=20, help="places in each recording")
    parser.add_argument("--sample", choices=SAMPLES, help="one recording only")
    options = parser.parse_args(arguments)
    print(f"| {' | '.join(_HEADINGS)} |")
    print("| --- " * len(_HEADINGS) + "|")
    bad = 0
    for name in [options.sample] if options.sample else SAMPLES:
        for cut in cut_at(name, places(name, options.cuts)):
            print(row(cut), flush=True)
            bad += not cut.is_good
    print(f"\n{bad} of them show")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
