"""Recording: a machine that notes what goes into another one, and what comes out."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from typing_extensions import override

from soniox_proto.credentials import APIKey
from soniox_proto.endpoint import Endpoint
from soniox_proto.errors import SonioxRealtimeError
from soniox_proto.events import Event
from soniox_proto.messages import start_message
from soniox_proto.stream import Link, Stream
from soniox_proto.testing.sent_frames import NONCE, accept_token, nonce_of, sent_frames
from soniox_proto.testing.trace import TRACE_VERSION, Trace, class_name, described
from soniox_proto.upgrade import UpgradeRequest
from soniox_proto.wrapped_stream import WrappedStream

__all__ = ["RecordedStream", "start_without_words"]

_T = TypeVar("_T")

_TEXT_FIELD: Final = re.compile(rb'("text"\s*:\s*")((?:[^"\\]|\\.)*)"')
_PROTOCOLS: Final = "sec-websocket-protocol"
_MARKERS: Final = frozenset({b"<end>", b"<fin>"})


class RecordedStream(WrappedStream):
    """A machine that records the one it drives. Give it to a session in place of that one.

    Args:
        stream: The machine, not connected yet.
        url: Its URL.
        options: Its keyword options, except for the additional headers.
        headers: The names of its additional headers.
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
        audio: bool = True,
        text: bool = True,
    ) -> None:
        super().__init__(stream)
        self._url = url
        self._options = dict(options or {})
        self._headers = list(headers)
        self._audio = audio
        self._text = text
        self._entries: list[dict[str, Any]] = []
        self._key: str | None = None
        self._nonces: dict[int, str] = {}
        self._links = 0

    def trace(self) -> Trace:
        """Return what has been recorded so far."""
        hide = _hiding(self._key)
        config = json.loads(start_message(self.config))
        if not self._text:
            config.pop("context", None)
        header = {
            "trace": TRACE_VERSION,
            "url": hide(self._url),
            "config": config,
            "options": self._options,
            "headers": self._headers,
            "key": None if self._key is None else _masked(self._key),
            "audio": self._audio,
            "text": self._text,
        }
        entries = [dict(entry) for entry in self._entries]
        for number in range(1, self._links + 1):
            self._clean_received([entry for entry in entries if entry.get("link") == number])
        return Trace(header, [_mapped(self._without_words(entry), hide) for entry in entries])

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
            self.note_key(frame)
            if not self._audio:
                frame.pop("crc32", None)
        now = self._entries[-1]["t"]
        self._entries.append({"t": now, "link": number, "sent": frames})

    def note_key(self, frame: Mapping[str, Any]) -> None:
        """Look for the API key in what a client sent."""
        self._key = self._key or _key_in(frame)

    def _clean_received(self, entries: list[dict[str, Any]]) -> None:
        """Clean what one link received. What is to go may be cut across several reads."""
        entries = [entry for entry in entries if "received" in entry]
        data = "".join(entry["received"] for entry in entries).encode("latin-1")
        number = entries[0]["link"] if entries else 0
        if number in self._nonces:
            found = accept_token(self._nonces[number]).encode()
            data = data.replace(found, accept_token(NONCE).encode(), 1)
        if not self._text:
            data = _without_text(data)
        text = _hiding(self._key)(data.decode("latin-1"))
        for entry in entries:
            size = len(entry["received"])
            entry["received"], text = text[:size], text[size:]

    def _without_words(self, entry: dict[str, Any]) -> dict[str, Any]:
        if self._text:
            return entry
        if "raw" in entry:
            entry["raw"] = _without_text(entry["raw"].encode()).decode()
        for frame in entry.get("sent", ()):
            start_without_words(frame)
        return entry

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
        # Not recorded: the key is found in what is sent.
        self._link.authenticate(api_key)

    def upgraded(self, now: float, headers: Mapping[str, str] | None = None) -> list[Event]:
        # The request that had the key was made by somebody else.
        request = self._link.upgrade_request
        lines = [f"{name.lower()}: {value}" for name, value in request.headers()]
        self._stream.note_key({"http": lines})
        self._stream.note_key({"http": [f"{_PROTOCOLS}: {', '.join(request.subprotocols())}"]})
        entry = {"call": "upgraded", "headers": None if headers is None else dict(headers)}
        return self._note(now, entry, self._link.upgraded(now, headers))

    def failed(self, error: SonioxRealtimeError, now: float) -> list[Event]:
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
        return self._note(now, {"call": "eof"}, self._link.receive_eof(now))

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


def _key_in(frame: Mapping[str, Any]) -> str | None:
    """Return the API key that a client sent, wherever it may be."""
    for line in frame.get("http", ()):
        name, _, value = cast("str", line).partition(": ")
        if name == "authorization":
            return value.partition(" ")[2]
        if name == _PROTOCOLS and ", " in value:
            return value.rpartition(", ")[2]
    if "api_key" in frame.get("text", ""):
        key: object = json.loads(frame["text"]).get("api_key")
        return key if isinstance(key, str) else None
    return None


def _masked(key: str) -> str:
    """Return a key of the same form with none of its characters, so that it works like the key."""
    return re.sub("[0-9]", "0", re.sub("[A-Za-z]", "x", key))


def _hiding(key: str | None) -> Callable[[str], str]:
    """Return a function that masks a key in what it is given; the length does not change."""
    if key is None:
        return lambda text: text
    pattern = re.compile(re.escape(key), re.IGNORECASE)
    return lambda text: pattern.sub(lambda match: _masked(match.group()), text)


def _mapped(value: _T, function: Callable[[str], str]) -> _T:
    """Return a JSON value with a function applied to all of its strings."""
    if isinstance(value, str):
        return cast("_T", function(value))
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return cast("_T", {name: _mapped(item, function) for name, item in items})
    if isinstance(value, list):
        return cast("_T", [_mapped(item, function) for item in cast("list[Any]", value)])
    return value


def _without_text(data: bytes) -> bytes:
    """Return messages with the text of tokens replaced, byte by byte."""

    def replaced(match: re.Match[bytes]) -> bytes:
        text = match.group(2)
        if text in _MARKERS:
            return match.group()
        bare = text.lstrip(b" ")
        return match.group(1) + text[: len(text) - len(bare)] + b"x" * len(bare) + b'"'

    return _TEXT_FIELD.sub(replaced, data)


def start_without_words(frame: dict[str, Any]) -> None:
    """Take the context out of a frame, if that is the start message."""
    if frame.get("text", "").startswith('{"model"'):
        fields = json.loads(frame["text"])
        fields.pop("context", None)
        frame["text"] = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
