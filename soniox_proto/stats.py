"""What a session has done so far, in numbers.

The machines count as they go, on the clock of their callers. Nothing here is called for each chunk
of audio: the machines add to the fields themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple

from soniox_proto.clock_map import ClockMap
from soniox_proto.latency import Latency
from soniox_proto.messages import MARKERS, Token
from soniox_proto.send_times import NOTE_INTERVAL, SendTimes

__all__ = ["Measurement", "SessionStats"]

_NONE_YET: Final = Latency()
"""Shared by all that have measured nothing: most sessions never measure some of them."""


def _none_yet() -> Latency:
    return _NONE_YET


class Measurement(NamedTuple):
    """One measured duration."""

    name: str
    """What was measured: the name of a field of `SessionStats`."""
    seconds: float
    """How long it took."""


@dataclass(slots=True)
class SessionStats:
    """Counters and latencies of a session, updated in place.

    Seconds are on the session's clock, the one of `now`.
    """

    sent_audio_bytes: int = 0
    """Audio accepted for sending, in bytes. Some of it may still be queued."""
    sent_audio_chunks: int = 0
    """Audio messages accepted for sending."""
    dropped_while_paused_bytes: int = 0
    """Audio dropped because the session was paused, in bytes."""
    processed_audio_ms: int = 0
    """How far the service has processed the audio, in ms on its own clock."""
    sent_keepalives: int = 0
    """Keepalive messages sent, by the timer or by a call."""
    sent_finalizes: int = 0
    """Finalizes asked for. After the loss of a connection one may be sent more than once."""
    answered_finalizes: int = 0
    """Finalizes that the service has answered, or passed over by answering a later one."""
    finalized_audio_bytes: int = 0
    """Audio accepted before the latest finalize, in bytes."""
    sent_pings: int = 0
    """WebSocket pings sent."""
    received_messages: int = 0
    """Messages received from the service."""
    reconnects: int = 0
    """Connections made in place of lost ones."""
    replayed_audio_ms: int = 0
    """Audio sent again on those, in ms."""
    lost_audio_ms: int = 0
    """Audio lost because no more could be kept while a connection was missing, in ms."""
    open_time: float = 0.0
    """Seconds for which connections were open, which is what is billed, paused or not. As of the
    latest `update`; a session's own `stats` are always up to date."""
    latency: float | None = None
    """Round trip of the latest answered WebSocket ping, in seconds."""
    time_to_first_token: float | None = None
    """Seconds from the first audio to the first token that is no marker; None before."""
    finalize_latency: Latency = field(default_factory=_none_yet)
    """From a finalize to its answer."""
    endpoint_latency: Latency = field(default_factory=_none_yet)
    """From the end of speech to its `<end>`. Raw audio formats only: in others it is not known
    when the audio at a position was sent."""
    ping_latency: Latency = field(default_factory=_none_yet)
    """Round trips of WebSocket pings."""

    bytes_per_second: int | None = field(default=None, repr=False)
    """Bytes of audio in a second; None if the format does not say."""
    clock_map: ClockMap | None = field(default=None, repr=False, compare=False)
    """From the service's clock to the audio that was sent; None as long as they are the same."""
    measurements: list[Measurement] | None = field(default=None, repr=False)
    """What was measured, for somebody who takes it out and clears the list; None for nobody."""
    note_due: float = field(default=float("-inf"), repr=False)
    """When to call `note_audio` with the next chunk."""
    _audio_began: float | None = field(default=None, repr=False)
    _send_times: SendTimes | None = field(default=None, repr=False, compare=False)
    _open_links: int = field(default=0, repr=False)
    _open_before: float = field(default=0.0, repr=False)
    _counted_to: float = field(default=0.0, repr=False)

    @property
    def sent_audio_ms(self) -> float | None:
        """Audio accepted for sending, in ms; None if the format does not say."""
        rate = self.bytes_per_second
        return None if rate is None else self.sent_audio_bytes * 1000 / rate

    @property
    def lag_ms(self) -> float | None:
        """Audio that was sent and is not processed yet, in ms; None if the format does not say."""
        sent_ms = self.sent_audio_ms
        if sent_ms is None:
            return None
        return max(0.0, sent_ms - self._audio_ms(self.processed_audio_ms))

    def sent_at(self, position_ms: float) -> float | None:
        """Return when the audio at a position of the service was sent, in seconds.

        None before any audio, and if the format does not say how long it is.
        """
        if self._send_times is None:
            return None
        return self._send_times.at(self._audio_ms(position_ms))

    def _audio_ms(self, position_ms: float) -> float:
        return position_ms if self.clock_map is None else self.clock_map.audio_ms(position_ms)

    def as_dict(self) -> dict[str, float | None]:
        """Return all numbers by their names, those of latencies as `finalize_latency_p95`."""
        numbers: dict[str, float | None] = {}
        for name in _PUBLIC:
            value = getattr(self, name)
            if isinstance(value, Latency):
                numbers |= {f"{name}_{part}": of for part, of in value.as_dict().items()}
            else:
                numbers[name] = value
        return numbers

    # What the machines report

    def note_audio(self, now: float) -> None:
        """Take account of the audio counted so far; called whenever `note_due` has come."""
        if self._audio_began is None:
            self._audio_began = now
        sent_ms = self.sent_audio_ms
        if sent_ms is None:
            self.note_due = float("inf")
            return
        if self._send_times is None:
            self._send_times = SendTimes()
        self._send_times.note(sent_ms, now)
        self.note_due = now + NOTE_INTERVAL

    def note_finalized(self, round_trip: float, passed_over: int = 0) -> None:
        """Take account of the answer to a finalize, and of those before it that got none."""
        self.answered_finalizes += passed_over + 1
        self.measured("finalize_latency", round_trip)

    def note_endpoint(self, speech_ends_ms: int | None, now: float) -> None:
        """Take account of an `<end>`."""
        ended_at = None if speech_ends_ms is None else self.sent_at(speech_ends_ms)
        if ended_at is not None:
            self.measured("endpoint_latency", max(0.0, now - ended_at))

    def note_tokens(self, tokens: Iterable[Token], now: float) -> None:
        """Take account of tokens, as long as none has been: a marker is none."""
        if self._audio_began is not None and any(token.text not in MARKERS for token in tokens):
            self.time_to_first_token = now - self._audio_began
            self._report("time_to_first_token", self.time_to_first_token)

    def note_pong(self, round_trip: float) -> None:
        """Take account of an answered ping."""
        self.latency = round_trip
        self.measured("ping_latency", round_trip)

    def note_link_opened(self, now: float) -> None:
        """Begin to count the time of a connection."""
        self._links_changed(1, now)

    def note_link_closed(self, now: float) -> None:
        """Stop counting the time of a connection."""
        self._links_changed(-1, now)

    def _links_changed(self, by: int, now: float) -> None:
        self.update(now)
        self._open_before, self._counted_to = self.open_time, now
        self._open_links += by

    def update(self, now: float) -> None:
        """Bring `open_time` up to date."""
        # Not added to, because two threads may do this at once.
        since = self._open_links * max(0.0, now - self._counted_to)
        self.open_time = self._open_before + since

    def measured(self, name: str, seconds: float) -> None:
        """Add a measurement to the latency of this name."""
        latency: Latency = getattr(self, name)
        if latency is _NONE_YET:
            latency = Latency()
            setattr(self, name, latency)
        latency.add(seconds)
        self._report(name, seconds)

    def _report(self, name: str, seconds: float) -> None:
        if self.measurements is not None:
            self.measurements.append(Measurement(name, seconds))


_PUBLIC: Final = (
    *(each.name for each in fields(SessionStats) if each.repr),
    "sent_audio_ms",
    "lag_ms",
)
