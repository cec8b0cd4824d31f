"""The interface between a session and the code that does its I/O, and the session that has it.

A session may need several connections in its life, one after the other or two at a time, and only
the protocol knows when. So opening a connection is an output of the machine, just as bytes are. A
**link** is anything with a byte stream of its own. The machine says which links it wants
(`links_to_open`); its driver opens a byte stream for each and moves the bytes of all of them::

    stream = RealtimeSTTStream(url, config, api_key=key)
    stream.connect(now)
    while not stream.closed:
        for link in stream.links_to_open():
            ...  # open a byte stream to link.endpoint, then call link.opened or link.failed
        for link in links:
            ...  # write link.buffers_to_send(); close the byte stream once link.closed
        # wait until one is readable, or until stream.next_timeout()
        events = link.receive_data(data, now)  # or link.receive_eof, or stream.handle_timeout

Two ends must not be confused. `link.closed` means that this byte stream may be closed;
`stream.closed` means that the session is over. A stream that is closed has closed all of its links,
but links close without it: a driver that takes the first for the second ends the session whenever a
connection is replaced.

The interfaces are `typing.Protocol`s, so that drivers depend on neither class: the machines that
tests use for awkward sequences of links share no code with the real one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from typing_extensions import Unpack

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.connection import ConnectionKeywords, RealtimeSTTConnection
from soniox_proto.credentials import APIKey
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import SonioxRealtimeError, SonioxStateError
from soniox_proto.events import Event, Outcome, SessionStats
from soniox_proto.flight_recorder import FlightRecorder
from soniox_proto.messages import RealtimeEvent
from soniox_proto.state import SessionState
from soniox_proto.upgrade import UpgradeRequest

__all__ = ["Link", "RealtimeSTTStream", "Stream"]


class Link(Protocol):
    """Anything with a byte stream of its own, for example `RealtimeSTTConnection`.

    Times are seconds (float) on any monotonic clock, the same for all links of a stream.
    """

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect the byte stream to."""
        ...

    @property
    def open_by(self) -> float | None:
        """When to give up opening the byte stream; None for no limit.

        The machine gives up at this time too, by its own timer, and the link is `closed` then.
        """
        ...

    @property
    def closed(self) -> bool:
        """Whether the byte stream may be closed, or need not be opened any more."""
        ...

    @property
    def upgrade_request(self) -> UpgradeRequest:
        """What to put into an upgrade request that somebody else makes; see `upgraded`."""
        ...

    @property
    def asks_for_key(self) -> bool:
        """Whether `authenticate` has to be called before the byte stream is used."""
        ...

    def authenticate(self, api_key: str | APIKey) -> None:
        """Give the API key that the link asks for."""
        ...

    def opened(self, now: float) -> list[Event]:
        """Note that the byte stream is open."""
        ...

    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        """Note that the byte stream is open, and a WebSocket already, made by somebody else.

        `headers` are those of the server's answer; nothing that follows them may be read yet.
        """
        ...

    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        """Note that the byte stream could not be opened, or broke, because of `error`.

        Whether that ends the session is for the machine to decide.
        """
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
        """Note the end of the byte stream."""
        ...


class Stream(Protocol):
    """A session, however many links it takes; the sessions of `soniox_adapters` drive one.

    Times are seconds (float) on any monotonic clock. Calls by the user raise if the user made a
    mistake, and then change nothing. Calls that feed, on the stream and on its links, return
    events, and the last event of every session is one `Closed`.
    """

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
        """The error that ended the session, if an error did."""
        ...

    @property
    def last_message(self) -> RealtimeEvent | None:
        """The latest message of the service."""
        ...

    @property
    def stats(self) -> SessionStats:
        """Counters of the session so far."""
        ...

    def sent_position_ms(self, server_ms: float) -> int:
        """Return where a position that was given out lies in the audio that was sent, in ms.

        Raises `SonioxValidationError` unless the audio format is a raw one.
        """
        ...

    def captured_at(self, position_ms: float) -> float | None:
        """Return when the audio at a position that was given out was captured, in seconds.

        None where it was sent without `captured_at`.

        Raises `SonioxValidationError` unless the audio format is a raw one.
        """
        ...

    @property
    def flight_recorder(self) -> FlightRecorder:
        """What happened last."""
        ...

    @property
    def holds_too_much(self) -> bool:
        """Whether a sender that can wait should, because audio is held and no more can be kept."""
        ...

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once.

        Ask again after every other call, since each may make the machine want one: except
        `send_audio`, which is called too often to be followed by a question.
        """
        ...

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`, in seconds, or None when no timer is running."""
        ...

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`. Calling it too early, too late or too often is harmless."""
        ...

    def connect(self, now: float) -> None:
        """Begin: ask for the first link."""
        ...

    def send_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> None:
        """Queue a chunk of audio, or hold it while no link is open.

        `captured_at` is when its first sample was captured, in seconds on any clock.
        """
        ...

    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final.

        `trailing_silence_ms` is the silence already sent after the speech, in ms.
        """
        ...

    def keep_alive(self, now: float) -> None:
        """Queue a keepalive."""
        ...

    def finish(self, now: float) -> None:
        """Queue end-of-audio, at most once."""
        ...

    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on; with `finalize`, ask for outstanding tokens first."""
        ...

    def resume(self, now: float) -> None:
        """Send audio again."""
        ...

    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any], now: float) -> None:
        """Go on with another configuration, from the next endpoint on.

        Raises `SonioxStateError` if this session cannot have another connection.
        """
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
        """End the session because of `error`, a failure that concerns no single link.

        With a `close_code`, a close frame with that code is sent where one can be.
        """
        ...

    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading, on every link; deadlines of the peer rest."""
        ...

    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again; the deadlines continue with the time they had left."""
        ...


class RealtimeSTTStream(RealtimeSTTConnection):
    """One speech-to-text session that asks for the connections it needs.

    It is its own only link, for life. What it adds to `RealtimeSTTConnection` is that `connect`
    asks for the byte stream (`links_to_open`), instead of leaving it to the caller to have one.

    Args:
        url: `ws://` or `wss://` URL of the service (see `REGIONS`).
        config: Configuration of the stream, or a mapping of its fields.
        api_key: API key; None sends none (local servers).
        options: The keyword options of `RealtimeSTTConnection`, with the same meaning.

    Raises:
        SonioxValidationError: The URL, the configuration, the key or an option cannot be used.
    """

    __slots__ = ("_link_wanted",)

    def __init__(
        self,
        url: str,
        config: RealtimeSTTConfig | Mapping[str, Any],
        *,
        api_key: str | APIKey | None = None,
        **options: Unpack[ConnectionKeywords],
    ) -> None:
        super().__init__(url, config, api_key=api_key, **options)
        self._link_wanted = False

    @property
    def holds_too_much(self) -> bool:
        """False: audio that is too much before the session is open is refused."""
        return False

    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any], now: float) -> None:
        """Raise `SonioxStateError`: the service takes a configuration only when it is connected."""
        raise SonioxStateError(
            "the service takes another configuration only on another connection, which this "
            "session cannot have; open it with reconnect=ReconnectPolicy()"
        )

    def connect(self, now: float) -> None:
        """Ask for the link. Audio sent from now on is held until the session is open.

        Raises `SonioxStateError` unless the session is new.
        """
        super().connect(now)
        self._link_wanted = True

    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now; each is returned once."""
        if not self._link_wanted:
            return ()
        self._link_wanted = False
        return () if self.closed else (self,)
