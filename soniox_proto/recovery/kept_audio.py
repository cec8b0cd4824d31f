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

    __slots__ = ("_chunks", "_frame", "_limit", "begins", "ends")

    def __init__(self, limit: int, frame: int) -> None:
        self._chunks: deque[bytes] = deque()
        self._limit = max(limit, frame)
        self._frame = frame
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
            self.drop_before(-(-(self.ends - self._limit) // self._frame) * self._frame)

    def drop_before(self, position: int) -> None:
        """Drop the audio before a position, which is rounded down to a frame."""
        position = min(position, self.ends)
        position -= position % self._frame
        chunks = self._chunks
        while chunks and self.begins + len(chunks[0]) <= position:
            self.begins += len(chunks.popleft())
        if self.begins < position and chunks:
            chunks[0] = chunks[0][position - self.begins :]
            self.begins = position

    def from_position(self, position: int, size: int) -> bytes:
        """Return the audio from a position on: at most `size` bytes, or up to the end."""
        parts: list[bytes] = []
        at = self.begins
        for chunk in self._chunks:
            if at + len(chunk) > position and size > 0:
                part = chunk[max(0, position - at) :][:size]
                parts.append(part)
                size -= len(part)
            at += len(chunk)
        return b"".join(parts)
