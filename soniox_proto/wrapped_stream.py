"""A stream that drives another one: what those have in common that add something to any stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.errors import SonioxRealtimeError
from soniox_proto.events import Event, Outcome, SessionStats
from soniox_proto.flight_recorder import FlightRecorder
from soniox_proto.messages import RealtimeEvent
from soniox_proto.state import SessionState
from soniox_proto.stream import Link, Stream

__all__ = ["WrappedStream"]


class WrappedStream:
    """A `Stream` that passes every call on to another one. Override what is to be different.

    Args:
        stream: The other one.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def stream(self) -> Stream:
        """The stream that this one drives."""
        return self._stream

    @property
    def config(self) -> RealtimeSTTConfig:
        """Configuration of the stream."""
        return self._stream.config

    @property
    def state(self) -> SessionState:
        """Where the session is in its life."""
        return self._stream.state

    @property
    def paused(self) -> bool:
        """Whether audio is being dropped."""
        return self._stream.paused

    @property
    def closed(self) -> bool:
        """Whether the session is over; all of its links are closed too."""
        return self._stream.closed

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain."""
        return self._stream.outcome

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if an error did."""
        return self._stream.error

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The latest message of the service."""
        return self._stream.last_message

    @property
    def stats(self) -> SessionStats:
        """Counters of the session so far."""
        return self._stream.stats

    @property
    def flight_recorder(self) -> FlightRecorder:
        """What happened last."""
        return self._stream.flight_recorder

    def sent_position_ms(self, server_ms: float) -> int:
        """Return where a position that was given out lies in the audio that was sent, in ms."""
        return self._stream.sent_position_ms(server_ms)

    def captured_at(self, position_ms: float) -> float | None:
        """Return when the audio at a position that was given out was captured, in seconds."""
        return self._stream.captured_at(position_ms)

    def connect(self, now: float) -> None:
        """Begin: ask for the first link."""
        self._stream.connect(now)

    def send_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> None:
        """Queue a chunk of audio, or hold it while no link is open."""
        self._stream.send_audio(chunk, now, captured_at)

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final."""
        self._stream.finalize(now, trailing_silence_ms)

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive."""
        self._stream.keep_alive(now)

    def finish(self, now: float) -> None:
        """Queue end-of-audio, at most once."""
        self._stream.finish(now)

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on; with `finalize`, ask for outstanding tokens first."""
        self._stream.pause(now, finalize)

    def resume(self, now: float) -> None:
        """Send audio again."""
        self._stream.resume(now)

    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any], now: float) -> None:
        """Go on with another configuration, from the next endpoint on."""
        self._stream.reconfigure(config, now)

    def abort(self, now: float) -> None:
        """End the session at once."""
        self._stream.abort(now)

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """End the session because of `error`, a failure that concerns no single link."""
        return self._stream.fail(error, now, close_code=close_code)

    def close(self, now: float) -> None:
        """End the session with the close handshake."""
        self._stream.close(now)

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, on every link; deadlines of the peer rest."""
        self._stream.pause_reading(now)

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        self._stream.resume_reading(now)

    @property
    def holds_too_much(self) -> bool:
        """Whether a sender that can wait should, because audio is held and no more can be kept."""
        return self._stream.holds_too_much

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        return self._stream.links_to_open()

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        return self._stream.next_timeout()

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        return self._stream.handle_timeout(now)
