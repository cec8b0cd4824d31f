"""Replaying: a trace is run again, and each output compared with what was recorded."""

from __future__ import annotations

import base64
import json
import warnings
from collections import deque
from collections.abc import Mapping
from typing import Any

from soniox_proto import errors
from soniox_proto.errors import SonioxError, SonioxRealtimeError, SonioxValidationError
from soniox_proto.events import Event
from soniox_proto.recovery.audio_input import MAY_BE_WAV
from soniox_proto.recovery.policy import ReconnectPolicy
from soniox_proto.recovery.stream import RecoveringSTTStream
from soniox_proto.start_request import read_start_request
from soniox_proto.stream import Link, RealtimeSTTStream, Stream
from soniox_proto.testing.hiding import start_without_words
from soniox_proto.testing.sent_frames import NONCE, accept_token, nonce_of, sent_frames
from soniox_proto.testing.trace import Trace, described

__all__ = ["TraceMismatchError", "replay"]


class TraceMismatchError(AssertionError):
    """A session went differently from its trace; the message shows the first difference."""


def replay(trace: Trace) -> list[tuple[float, Event]]:
    """Run a trace again, and return its events, with their times.

    Raises:
        TraceMismatchError: The events or the output are not those of the trace.
        SonioxValidationError: The trace is not one of a session that is possible.
    """
    return _Replay(trace).run()


class _Replay:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._done = 0
        try:
            with warnings.catch_warnings():
                # The key in the start message is deprecated, but that is what was recorded.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._stream = self._make_stream(trace.header)
        except SonioxError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SonioxValidationError(f"the trace cannot be replayed: {error!r}") from error
        self._links: list[Link] = []
        self._received: dict[int, deque[bytes]] = {}
        self._pending: deque[Event] = deque()
        self._events: list[tuple[float, Event]] = []

    def _make_stream(self, header: Mapping[str, Any]) -> Stream:
        config, unknown = read_start_request(dict(header["config"]))
        if unknown:
            config = config.model_copy(update={"extra_fields": unknown})
        options: dict[str, Any] = dict(header["options"])
        options["additional_headers"] = [(name, "-") for name in header["headers"]]
        # Links that ask for a key get it by a call of their own.
        options["api_key"] = None if options.get("asks_for_key") else header["key"]
        policy: dict[str, Any] | None = header.get("reconnect")
        if policy is None:
            return RealtimeSTTStream(header["url"], config, **options)
        self._check_what_was_left_out(config.audio_format)
        policy_fields: dict[str, Any] = {**policy, "should_retry": self._tried_again}
        if not policy["should_retry"]:
            del policy_fields["should_retry"]
        reconnect = ReconnectPolicy(**policy_fields)
        return RecoveringSTTStream(header["url"], config, reconnect=reconnect, **options)

    def _check_what_was_left_out(self, audio_format: str) -> None:
        """Raise if a session that reconnects decided something by what is not in the trace."""
        header = self._trace.header
        reason = ""
        if not header["audio"] and audio_format in MAY_BE_WAV:
            reason = f"audio of format {audio_format!r} is looked into, and it was left out"
        elif not header["text"] and any(entry.get("link", 1) > 1 for entry in self._trace.entries):
            reason = "the words of several connections are compared, and they were left out"
        if reason:
            raise SonioxValidationError(
                f"the trace can be inspected, but not replayed: the session reconnects, so {reason}"
            )

    def _tried_again(self, error: SonioxRealtimeError, attempt: int) -> bool:
        """Return what the user's `should_retry` answered, as what followed shows."""
        for entry in self._trace.entries[self._done :]:
            if entry.get("event") in {"Reconnecting", "Closed"}:
                return entry.get("attempt") == attempt
        return False

    def run(self) -> list[tuple[float, Event]]:
        for number, entry in enumerate(self._trace.entries, start=2):
            try:
                self._do(entry, number)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                raise SonioxValidationError(
                    f"line {number} of the trace cannot be replayed: {error!r}"
                ) from error
            self._done += 1
            self._links += self._stream.links_to_open()
        if self._pending:
            last = len(self._trace.entries) + 1
            raise self._mismatch(last, {"t": 0.0}, "the end", described(self._pending[0]))
        return self._events

    def _do(self, entry: Mapping[str, Any], number: int) -> None:
        now: float = entry["t"]
        if "event" in entry:
            if not self._pending:
                raise self._mismatch(number, entry, _bare(entry), "no event")
            event = self._pending.popleft()
            if described(event) != _bare(entry):
                raise self._mismatch(number, entry, _bare(entry), described(event))
            self._events.append((now, event))
            return
        if self._pending:
            raise self._mismatch(number, entry, _bare(entry), described(self._pending[0]))
        if "sent" in entry:
            frames = self._sent(entry)
            if frames != entry["sent"]:
                raise self._mismatch(number, entry, entry["sent"], frames)
        elif "received" in entry:
            data = self._received[entry["link"]].popleft()
            self._pending += self._link(entry).receive_data(data, now)
        else:
            try:
                self._call(entry, now)
            except SonioxError as error:
                raise self._mismatch(number, entry, _bare(entry), repr(error)) from error

    def _call(self, entry: Mapping[str, Any], now: float) -> None:
        stream = self._stream
        match entry["call"]:
            case "send_audio":
                audio = entry.get("audio")
                stream.send_audio(
                    bytes(entry["size"]) if audio is None else base64.b64decode(audio), now
                )
            case "fail":
                self._pending += stream.fail(
                    _error(entry["error"]), now, close_code=entry["close_code"]
                )
            case "failed":
                self._pending += self._link(entry).failed(_error(entry["error"]), now)
            case "opened":
                self._pending += self._link(entry).opened(now)
            case "authenticate":
                self._link(entry).authenticate(entry["key"])
            case "upgraded":
                link = self._link(entry)
                self._prepare_received(entry["link"], NONCE)
                self._pending += link.upgraded(now, entry["headers"])
            case "eof":
                self._pending += self._link(entry).receive_eof(now)
            case name:
                self._pending += getattr(stream, name)(now, *entry.get("arguments", ())) or []

    def _link(self, entry: Mapping[str, Any]) -> Link:
        number: int = entry["link"]
        return self._links[number - 1]

    def _sent(self, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
        data = self._link(entry).data_to_send()
        if (nonce := nonce_of(data)) is not None:
            self._prepare_received(entry["link"], nonce)
        frames = sent_frames(data)
        for frame in frames:
            if not self._trace.header["audio"]:
                frame.pop("crc32", None)
            if not self._trace.header["text"]:
                start_without_words(frame)
        return frames

    def _prepare_received(self, number: int, nonce: str) -> None:
        """Make the recorded answer to the handshake fit this one's nonce."""
        pieces = [
            entry["received"]
            for entry in self._trace.entries
            if entry.get("link") == number and "received" in entry
        ]
        text = "".join(pieces).replace(accept_token(NONCE), accept_token(nonce), 1)
        data = text.encode("latin-1")
        self._received[number] = deque()
        for piece in pieces:
            self._received[number].append(data[: len(piece)])
            data = data[len(piece) :]

    def _mismatch(
        self, number: int, entry: Mapping[str, Any], recorded: object, replayed: object
    ) -> TraceMismatchError:
        return TraceMismatchError(
            f"line {number} of the trace, at {entry['t']:.3f} s:\n"
            f"  recorded: {_text(recorded)}\n"
            f"  replayed: {_text(replayed)}"
        )


def _bare(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "t"}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _error(fields: Mapping[str, Any]) -> SonioxRealtimeError:
    """Make an error again, without its constructor, whose arguments are not those recorded."""
    kind: type[SonioxRealtimeError] = getattr(errors, fields["class"])
    error = kind.__new__(kind, fields["text"])
    error.args = (fields["text"],)
    vars(error).update(fields["fields"])
    return error
