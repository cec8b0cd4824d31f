"""The audio that may have to be sent again, within a bound."""

from __future__ import annotations

from collections import deque

__all__ = ["KeptAudio"]


class KeptAudio:
    """The latest part of a stream of audio. Positions are in bytes from the start of the stream.

    Args:
        limit: Bytes to keep, and at most one chunk more.
        frame: Bytes of one frame; nothing is cut but between frames.
    """

    __slots__ = ("_chunks", "_first_at", "_limit", "begins", "ends", "frame")

    def __init__(self, limit: int, frame: int) -> None:
        self._chunks: deque[bytes] = deque()
        # Where the first chunk begins: at `begins`, or before it.
        self._first_at = 0
        self._limit = max(limit, frame)
        self.frame = frame
        """Bytes of one frame."""
        self.begins = 0
        """Where the kept audio begins."""
        self.ends = 0
        """Where the stream ends so far."""

    @property
    def full(self) -> bool:
        """Whether as much is kept as may be."""
        return self.ends - self.begins >= self._limit

    def append(self, chunk: bytes) -> None:
        """Add audio. If it was `full` before, the oldest is dropped, down to the limit.

        So the chunk that fills it is kept whole, and a sender that waits while it is full loses
        nothing.
        """
        was_full = self.full
        self._chunks.append(chunk)
        self.ends += len(chunk)
        if was_full:
            # Up to a boundary of frames, so that what is left is audio.
            self.drop_before(-(-(self.ends - self._limit) // self.frame) * self.frame)

    def drop_before(self, position: int) -> None:
        """Drop the audio before a position, which is rounded down to a frame."""
        position = min(position, self.ends)
        self.begins = max(self.begins, position - position % self.frame)
        chunks = self._chunks
        while chunks and self._first_at + len(chunks[0]) <= self.begins:
            self._first_at += len(chunks.popleft())

    def from_position(self, position: int, size: int) -> bytes:
        """Return the audio from a position on: at most `size` bytes, or up to the end."""
        parts: list[bytes] = []
        at = self._first_at
        for chunk in self._chunks:
            if at + len(chunk) > position and size > 0:
                skipped = max(0, position - at)
                part = chunk[skipped : skipped + size]
                parts.append(part)
                size -= len(part)
            at += len(chunk)
        return b"".join(parts)
