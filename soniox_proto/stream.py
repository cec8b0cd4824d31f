"""A session that asks for its connections: what a driver with I/O drives.

A session may need several connections in its life, one after the other or two at a time. Opening
one is therefore an output of the machine, like bytes. A **link** is what has a byte stream of its
own; the machine says which links it wants (`links_to_open`), and its driver opens a stream for each
and moves the bytes of every link that is open::

    stream = RealtimeSTTStream(url, config, api_key=key)
    stream.connect(now)
    while not stream.closed:
        for link in stream.links_to_open():
            ...  # open a byte stream to link.endpoint, then call link.opened or link.failed
        for link in links:
            ...  # write link.buffers_to_send(); close the byte stream once link.closed
        # wait until one is readable, or until stream.next_timeout()
        events = link.receive_data(data, now)  # or link.receive_eof, or stream.handle_timeout

Two ends must not be confused: `link.closed` means that this byte stream may go, `stream.closed`
that the session is over. A stream that is closed has closed all of its links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from typing_extensions import Unpack

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.connection import ConnectionKeywords, RealtimeSTTConnection
from soniox_proto.credentials import APIKey
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import SonioxRealtimeError
from soniox_proto.events import Event, Outcome, SessionStats
from soniox_proto.messages import RealtimeEvent
from soniox_proto.state import SessionState

__all__ = ["Link", "RealtimeSTTStream", "Stream"]


class Link(Protocol):
    """What has a byte stream of its own. `RealtimeSTTConnection` is one."""

    @property
    def endpoint(self) -> Endpoint:
        """Where the byte stream has to lead to."""
        ...

    @property
    def open_by(self) -> float | None:
        """When the byte stream has to be open; None for no limit.

        The machine gives up on the link then, which is `closed` from there on.
        """
        ...

    @property
    def closed(self) -> bool:
        """Whether the byte stream may be closed, or need not be opened any more."""
        ...

    def opened(self, now: float) -> list[Event]:
        """Take the news that the byte stream is open."""
        ...

    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        """Take the news that the byte stream could not be opened, or broke."""
        ...

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, ``b""`` when there are none."""
        ...

    def buffers_to_send(self) -> list[bytes]:
        """Return what `data_to_send` returns, as several buffers where that saves a copy."""
        ...

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the server, cut anywhere."""
        ...

    def receive_eof(self, now: float) -> list[Event]:
        """Take the end of the byte stream."""
        ...


class Stream(Protocol):
    """A session, however many links it takes: what the sessions of `soniox_adapters` drive."""

    @property
    def config(self) -> RealtimeSTTConfig:
        """Configuration of the stream."""
        ...

    @property
    def state(self) -> SessionState:
        """Where the session is in its life."""
        ...

    @property
    def paused(self) -> bool:
        """Whether audio is being dropped."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the session is over; all of its links are closed too."""
        ...

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain."""
        ...

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if it was one."""
        ...

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The newest message of the service."""
        ...

    @property
    def stats(self) -> SessionStats:
        """Running account of the session."""
        ...

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now and were not returned before."""
        ...

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is to be called, or None when no timer is armed."""
        ...

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        ...

    def connect(self, now: float) -> None:
        """Begin: ask for the first link."""
        ...

    def send_audio(self, chunk: bytes | bytearray | memoryview, now: float) -> None:
        """Queue a chunk of audio."""
        ...

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final."""
        ...

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive."""
        ...

    def finish(self, now: float) -> None:
        """Queue end-of-audio, once."""
        ...

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on."""
        ...

    def resume(self, now: float) -> None:
        """Send audio again."""
        ...

    def close(self, now: float) -> None:
        """End the session with the close handshake."""
        ...

    def abort(self, now: float) -> None:
        """End the session at once."""
        ...

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """End the session with `error`, which is neither the server's doing nor a link's."""
        ...

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, on every link."""
        ...

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        ...


class RealtimeSTTStream:
    """One speech-to-text session that asks for the connections it needs.

    It has one link for life, so it ends where its connection does.

    Args:
        url: `ws://` or `wss://` URL of the service (see `REGIONS`).
        config: Configuration of the stream, or a mapping of its fields.
        api_key: API key; None sends none (local servers).
        options: Those of `RealtimeSTTConnection`.

    Raises:
        SonioxValidationError: The URL, the configuration, the key or an option cannot be used.
    """

    __slots__ = ("__weakref__", "_link", "_wanted")

    def __init__(
        self,
        url: str,
        config: RealtimeSTTConfig | Mapping[str, Any],
        *,
        api_key: str | APIKey | None = None,
        **options: Unpack[ConnectionKeywords],
    ) -> None:
        self._link = RealtimeSTTConnection(url, config, api_key=api_key, **options)
        self._wanted: tuple[RealtimeSTTConnection, ...] = ()

    # Views

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect to."""
        return self._link.endpoint

    @property
    def config(self) -> RealtimeSTTConfig:
        """Configuration of the stream."""
        return self._link.config

    @property
    def state(self) -> SessionState:
        """Where the session is in its life."""
        return self._link.state

    @property
    def paused(self) -> bool:
        """Whether audio is being dropped."""
        return self._link.paused

    @property
    def closed(self) -> bool:
        """Whether the session is over, and every byte stream may be closed."""
        return self._link.closed

    @property
    def outcome(self) -> Outcome | None:
        """How the session ended; None until that is certain, and for one that never started."""
        return self._link.outcome

    @property
    def error(self) -> SonioxRealtimeError | None:
        """The error that ended the session, if it was one."""
        return self._link.error

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The newest message of the service."""
        return self._link.last_message

    @property
    def stats(self) -> SessionStats:
        """Running account of the session."""
        return self._link.stats

    # Output and time

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        wanted, self._wanted = self._wanted, ()
        return wanted

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is to be called, or None when no timer is armed."""
        return self._link.next_timeout()

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        return self._link.handle_timeout(now)

    # Calls by the user

    def connect(self, now: float) -> None:
        """Ask for the link. Audio sent from now on is held until the session is open.

        Raises `SonioxStateError` unless the session is new.
        """
        self._link.connect(now)
        self._wanted = (self._link,)

    def send_audio(self, chunk: bytes | bytearray | memoryview, now: float) -> None:
        """Queue a chunk of audio, as `RealtimeSTTConnection.send_audio` does."""
        self._link.send_audio(chunk, now)

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final, as `RealtimeSTTConnection` does.

        Args:
            now: The time, in seconds.
            trailing_silence_ms: Silence already sent after the speech, in ms.
        """
        self._link.finalize(now, trailing_silence_ms)

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive, as `RealtimeSTTConnection.keep_alive` does."""
        self._link.keep_alive(now)

    def finish(self, now: float) -> None:
        """Queue end-of-audio, once, as `RealtimeSTTConnection.finish` does."""
        self._link.finish(now)

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on, as `RealtimeSTTConnection.pause` does."""
        self._link.pause(now, finalize)

    def resume(self, now: float) -> None:
        """Send audio again, as `RealtimeSTTConnection.resume` does."""
        self._link.resume(now)

    def close(self, now: float) -> None:
        """End the session with the close handshake, as `RealtimeSTTConnection.close` does."""
        self._link.close(now)

    def abort(self, now: float) -> None:
        """End the session at once, as `RealtimeSTTConnection.abort` does."""
        self._link.abort(now)

    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """End the session with `error`, which is neither the server's doing nor a link's."""
        return self._link.fail(error, now, close_code=close_code)

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading; deadlines of the server rest until it goes on."""
        self._link.pause_reading(now)

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        self._link.resume_reading(now)
