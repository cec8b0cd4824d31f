"""Recording: a machine that notes what goes into another one, and what comes out."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from typing_extensions import override

from soniox_proto.config import RealtimeSTTConfig
from soniox_proto.credentials import APIKey
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import SonioxRealtimeError
from soniox_proto.events import Event
from soniox_proto.messages import start_message
from soniox_proto.recovery.policy import ReconnectPolicy
from soniox_proto.stream import Link, Stream
from soniox_proto.testing.hiding import (
    hidden_frame,
    hiding,
    key_in,
    mapped,
    masked,
    start_without_words,
    without_text,
    without_values,
)
from soniox_proto.testing.sent_frames import NONCE, accept_token, nonce_of, sent_frames
from soniox_proto.testing.trace import TRACE_VERSION, Trace, class_name, described
from soniox_proto.upgrade import UpgradeRequest
from soniox_proto.wrapped_stream import WrappedStream

__all__ = ["RecordedStream"]

_NEVER_HIDDEN: Final = frozenset({"audio", "call", "event"})
"""Fields of a line that hold no text of the user's: a short key may be found in them by chance."""


class RecordedStream(WrappedStream):
    """A machine that records the one it drives. Give it to a session in place of that one.

    Args:
        stream: The machine, not connected yet.
        url: Its URL.
        options: Its keyword options, except for the additional headers.
        headers: The names of its additional headers.
        reconnect: The policy of a `RecoveringSTTStream`; None for other machines.
        audio: Whether to record the audio, and not only its sizes.
        text: Whether to record the words, both those of the transcript and those of the context.
            Without it, every character of theirs becomes an `x`.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        url: str,
        options: Mapping[str, Any] | None = None,
        headers: Sequence[str] = (),
        reconnect: ReconnectPolicy | None = None,
        audio: bool = True,
        text: bool = True,
    ) -> None:
        super().__init__(stream)
        self._url = url
        self._options = dict(options or {})
        self._headers = list(headers)
        self._reconnect = reconnect
        self._audio = audio
        self._text = text
        self._config = self._described(stream.config)
        self._entries: list[dict[str, Any]] = []
        # In the order in which they were used.
        self._keys: dict[str, None] = {}
        self._nonces: dict[int, str] = {}
        self._links = 0

    def trace(self) -> Trace:
        """Return what has been recorded so far."""
        hide = hiding(self._keys)
        header = {
            "trace": TRACE_VERSION,
            "url": hide(self._url),
            "config": mapped(self._config, hide),
            "options": self._options,
            "headers": self._headers,
            "key": next(map(masked, self._keys), None),
            "audio": self._audio,
            "text": self._text,
        }
        if self._reconnect is not None:
            header["reconnect"] = _policy_fields(self._reconnect)
        entries = [dict(entry) for entry in self._entries]
        for number in range(1, self._links + 1):
            self._clean_received([entry for entry in entries if entry.get("link") == number])
        return Trace(header, [self._cleaned(entry) for entry in entries])

    # What is recorded

    def note(self, now: float, entry: dict[str, Any], events: Sequence[Event] = ()) -> None:
        """Add a line, and those of the events that it caused."""
        self._entries.append({"t": now, **entry})
        self._entries += [{"t": now, **described(event)} for event in events]

    def note_sent(self, number: int, data: bytes) -> None:
        """Add what a link sent."""
        if not data:
            return
        if (nonce := nonce_of(data)) is not None:
            self._nonces[number] = nonce
        frames = sent_frames(data)
        for frame in frames:
            without_values(frame, self._headers)
            if (key := key_in(frame)) is not None:
                self.note_key(key)
            if not self._audio:
                frame.pop("crc32", None)
        now = self._entries[-1]["t"]
        self._entries.append({"t": now, "link": number, "sent": frames})

    def note_key(self, key: str) -> None:
        """Add an API key to those that the trace must not show."""
        self._keys[key] = None

    def note_given_key(self, number: int, key: str) -> None:
        """Add a line that a link was given its API key."""
        self.note_key(key)
        now = self._entries[-1]["t"]
        entry = {"t": now, "link": number, "call": "authenticate", "key": masked(key)}
        self._entries.append(entry)

    def _described(self, config: RealtimeSTTConfig) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(start_message(config))
        if not self._text:
            described.pop("context", None)
        return described

    def _clean_received(self, entries: list[dict[str, Any]]) -> None:
        """Clean what one link received. What is to go may be cut across several reads."""
        entries = [entry for entry in entries if "received" in entry]
        data = "".join(entry["received"] for entry in entries).encode("latin-1")
        number = entries[0]["link"] if entries else 0
        if number in self._nonces:
            found = accept_token(self._nonces[number]).encode()
            data = data.replace(found, accept_token(NONCE).encode(), 1)
        if not self._text:
            data = without_text(data)
        text = hiding(self._keys)(data.decode("latin-1"))
        for entry in entries:
            size = len(entry["received"])
            entry["received"], text = text[:size], text[size:]

    def _cleaned(self, entry: dict[str, Any]) -> dict[str, Any]:
        hide = hiding(self._keys)
        cleaned: dict[str, Any] = {}
        for name, value in entry.items():
            if name == "sent":
                frames = [hidden_frame(frame, hide) for frame in value]
                if not self._text:
                    for frame in frames:
                        start_without_words(frame)
                cleaned[name] = frames
            elif name in _NEVER_HIDDEN:
                cleaned[name] = value
            else:
                cleaned[name] = mapped(value, hide)
        if not self._text and "raw" in cleaned:
            cleaned["raw"] = without_text(cleaned["raw"].encode()).decode()
        return cleaned

    # As a Stream

    @override
    def links_to_open(self) -> Sequence[Link]:
        """Return the links that are wanted now, recorded."""
        links: list[Link] = []
        for link in super().links_to_open():
            self._links += 1
            links.append(_RecordedLink(self, link, self._links))
        return links

    @override
    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due at `now`."""
        deadline = super().next_timeout()
        events = super().handle_timeout(now)
        # Calling too early has no effect, and drivers do it often.
        if deadline is not None and deadline <= now:
            self.note(now, {"call": "handle_timeout"}, events)
        return events

    @override
    def connect(self, now: float) -> None:
        """Ask for the first link."""
        super().connect(now)
        self.note(now, {"call": "connect"})

    @override
    def send_audio(
        self,
        chunk: bytes | bytearray | memoryview,
        now: float,
        captured_at: float | None = None,
    ) -> None:
        """Queue a chunk of audio."""
        super().send_audio(chunk, now, captured_at)
        data = bytes(chunk)
        audio: dict[str, Any] = {"size": len(data)}
        if self._audio:
            audio = {"audio": base64.b64encode(data).decode()}
        self.note(now, {"call": "send_audio", **audio})

    @override
    def finalize(self, now: float, trailing_silence_ms: int | None = None) -> None:
        """Ask for all outstanding tokens to become final."""
        super().finalize(now, trailing_silence_ms)
        self.note(now, {"call": "finalize", "arguments": [trailing_silence_ms]})

    @override
    def keep_alive(self, now: float) -> None:
        """Queue a keepalive."""
        self._call(now, "keep_alive")

    @override
    def finish(self, now: float) -> None:
        """Queue end-of-audio."""
        self._call(now, "finish")

    @override
    def pause(self, now: float, finalize: bool = True) -> None:
        """Drop audio from now on."""
        super().pause(now, finalize)
        self.note(now, {"call": "pause", "arguments": [finalize]})

    @override
    def resume(self, now: float) -> None:
        """Send audio again."""
        self._call(now, "resume")

    @override
    def reconfigure(self, config: RealtimeSTTConfig | Mapping[str, Any], now: float) -> None:
        """Go on with another configuration, from the next endpoint on."""
        super().reconfigure(config, now)
        self.note(now, {"call": "reconfigure", "config": self._described(self.config)})

    @override
    def close(self, now: float) -> None:
        """End the session with the close handshake."""
        self._call(now, "close")

    @override
    def abort(self, now: float) -> None:
        """End the session at once."""
        self._call(now, "abort")

    @override
    def fail(
        self, error: SonioxRealtimeError, now: float, *, close_code: int | None = None
    ) -> list[Event]:
        """End the session because of `error`."""
        events = super().fail(error, now, close_code=close_code)
        entry = {"call": "fail", "error": _error_fields(error), "close_code": close_code}
        self.note(now, entry, events)
        return events

    @override
    def pause_reading(self, now: float) -> None:
        """Note that the driver stops reading."""
        self._call(now, "pause_reading")

    @override
    def resume_reading(self, now: float) -> None:
        """Note that the driver reads again."""
        self._call(now, "resume_reading")

    def _call(self, now: float, name: str) -> None:
        # A call that raises has changed nothing, so it need not be in the trace.
        getattr(self._stream, name)(now)
        self.note(now, {"call": name})


class _RecordedLink:
    """A link that records the one that it passes its calls to."""

    def __init__(self, stream: RecordedStream, link: Link, number: int) -> None:
        self._stream = stream
        self._link = link
        self._number = number

    @property
    def endpoint(self) -> Endpoint:
        return self._link.endpoint

    @property
    def open_by(self) -> float | None:
        return self._link.open_by

    @property
    def closed(self) -> bool:
        return self._link.closed

    def opened(self, now: float) -> list[Event]:
        return self._note(now, {"call": "opened"}, self._link.opened(now))

    @property
    def upgrade_request(self) -> UpgradeRequest:
        return self._link.upgrade_request

    @property
    def asks_for_key(self) -> bool:
        return self._link.asks_for_key

    def authenticate(self, api_key: str | APIKey) -> None:
        self._link.authenticate(api_key)
        key = api_key.reveal() if isinstance(api_key, APIKey) else api_key
        self._stream.note_given_key(self._number, key)

    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        self._note_request()
        entry = {"call": "upgraded", "headers": None if headers is None else dict(headers)}
        return self._note(now, entry, self._link.upgraded(now, headers))

    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
        if not self._link.asks_for_key:
            # What refused the upgrade may have quoted the key.
            self._note_request()
        entry = {"call": "failed", "error": _error_fields(error)}
        return self._note(now, entry, self._link.failed(error, now))

    def data_to_send(self) -> bytes:
        data = self._link.data_to_send()
        self._stream.note_sent(self._number, data)
        return data

    def buffers_to_send(self) -> list[bytes]:
        buffers = self._link.buffers_to_send()
        self._stream.note_sent(self._number, b"".join(buffers))
        return buffers

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        received = bytes(data).decode("latin-1")
        return self._note(now, {"received": received}, self._link.receive_data(data, now))

    def receive_eof(self, now: float) -> list[Event]:
        over = self._link.closed
        events = self._link.receive_eof(now)
        if over and not events:
            # Whether it comes before the driver stops reading is chance, and it changes nothing.
            return events
        return self._note(now, {"call": "eof"}, events)

    def _note_request(self) -> None:
        """Note the API key of a request that somebody else made."""
        key = self._link.upgrade_request.api_key
        if key is not None:
            self._stream.note_key(key.reveal())

    def _note(self, now: float, entry: dict[str, Any], events: list[Event]) -> list[Event]:
        self._stream.note(now, {"link": self._number, **entry}, events)
        return events


def _error_fields(error: SonioxRealtimeError) -> dict[str, Any]:
    """Return what it takes to make an error again: its class, its text and its attributes."""
    simple = {
        field: value
        for field, value in vars(error).items()
        if value is None or isinstance(value, (str, int, float))
    }
    return {"class": class_name(error), "text": str(error), "fields": simple}


def _policy_fields(policy: ReconnectPolicy) -> dict[str, Any]:
    """Return a policy as JSON; of the user's function only that there is one."""
    policy_fields = {
        field.name: getattr(policy, field.name) for field in dataclasses.fields(policy)
    }
    del policy_fields["on_event"]
    return {**policy_fields, "should_retry": policy.should_retry is not None}
