"""A stand-in for the core that flow control speaks to."""

from __future__ import annotations


class FakeCore:
    """Keeps what it was told, and when."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def pause_reading(self, now: float) -> None:
        self.told.append(("pause", now))

    def resume_reading(self, now: float) -> None:
        self.told.append(("resume", now))
