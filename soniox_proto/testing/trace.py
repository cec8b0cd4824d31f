"""Traces: whole sessions as text, one JSON object in each line.

A trace holds everything that went into the machine of a session, with its times, and everything
that came out of it. So it can be run again (`replaying.py`), and it is the same whoever recorded it
and whenever: what is random (the nonce of the handshake, the masks of frames) is left out.

The first line describes the session::

    {"trace": 1, "url": "wss://...", "config": {...}, "options": {...}, "headers": [...],
     "key": "xxxx", "audio": true, "text": true}

`key` has the form of the API key, but not its characters; so have all places where a key was. Of
additional headers only the names are kept. A session that reconnects has its policy in `reconnect`.
Each further line is one of these, in the order in which
they happened; `t` is the time in seconds on the clock of the session, `link` the number of a
connection:

============================================  ======================================================
line                                          what happened
============================================  ======================================================
``{"t": 0.0, "call": "finish"}``              a call by the user, or a timer (`handle_timeout`);
                                              with `arguments`, or `audio` (base64) or `size`
``{"t": 0.0, "link": 1, "call": "opened"}``   a byte stream was opened, `failed`, ended (`eof`) or
                                              was given an API key of its own (`authenticate`)
``{"t": 0.0, "link": 1, "received": "..."}``  bytes of the server, each as the character with its
                                              number (Latin-1)
``{"t": 0.0, "link": 1, "sent": [...]}``      what was sent: frames, and the upgrade request
``{"t": 0.0, "event": "Result", ...}``        an event that a line before it caused
============================================  ======================================================
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from soniox_proto import errors
from soniox_proto.errors import SonioxRealtimeError, SonioxValidationError
from soniox_proto.events import (
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    Finished,
    Opened,
    Reconnected,
    Reconnecting,
    Result,
    RolledOver,
    ServerError,
)
from soniox_proto.messages import RealtimeEvent

__all__ = ["TRACE_VERSION", "Trace", "class_name", "described"]

TRACE_VERSION: Final = 1
"""The version of the format."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded session; see `soniox_proto/testing/trace.py` for the format."""

    header: dict[str, Any]
    """The first line."""
    entries: Sequence[dict[str, Any]] = field(repr=False)
    """The other lines."""

    def dumps(self) -> str:
        """Return the trace as text."""
        lines = [self.header, *self.entries]
        return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)

    @classmethod
    def loads(cls, text: str) -> Trace:
        """Return the trace in a text.

        Raises `SonioxValidationError` for a text that is not a trace, or of another version.
        """
        lines: list[dict[str, Any]] = []
        # Not splitlines, which also splits at characters that may occur inside JSON strings.
        for number, line in enumerate(text.rstrip("\n").split("\n"), start=1):
            try:
                value: object = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SonioxValidationError(
                    f"line {number} of the trace is not JSON: {error}"
                ) from error
            if not isinstance(value, dict):
                raise SonioxValidationError(f"line {number} of the trace is not a JSON object")
            lines.append(value)  # pyright: ignore[reportUnknownArgumentType]
        header, *entries = lines
        if header.get("trace") != TRACE_VERSION:
            raise SonioxValidationError(
                f"not a trace of version {TRACE_VERSION}: its first line has "
                f'"trace": {json.dumps(header.get("trace"))}'
            )
        return cls(header, entries)

    @property
    def messages(self) -> list[tuple[float, RealtimeEvent]]:
        """Every message of the service in the trace, with its time."""
        return [
            (entry["t"], RealtimeEvent.validate_event(entry["raw"]))
            for entry in self.entries
            if entry.get("event") == "Result"
        ]


def class_name(error: SonioxRealtimeError) -> str:
    """Return the name of an error's class, or of its nearest base if that is the user's own."""
    names = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return next(names)


def described(event: Event) -> dict[str, Any]:
    """Return an event as the line of a trace, without its time."""
    match event:
        case Opened():
            fields: dict[str, Any] = {
                "subprotocol": event.subprotocol,
                "headers": dict(event.headers),
            }
        case Result():
            raw = event.raw
            fields = {"raw": raw if isinstance(raw, str) else raw.decode()}
        case EndpointDetected():
            fields = {"token_index": event.token_index, "position_ms": event.position_ms}
        case Finalized():
            fields = {
                "token_index": event.token_index,
                "finalize_index": event.finalize_index,
                "round_trip": event.round_trip,
            }
        case Finished():
            fields = {}
        case ServerError():
            fields = {"error": str(event.error)}
        case Reconnecting():
            fields = {"attempt": event.attempt, "delay": event.delay, "cause": str(event.cause)}
        case Reconnected() | RolledOver():
            fields = dataclasses.asdict(event)
        case Closed():  # pragma: no branch
            error = event.error
            fields = {
                "outcome": event.outcome.name,
                "code": event.code,
                "reason": event.reason,
                "error": None if error is None else f"{class_name(error)}: {error}",
            }
    return {"event": type(event).__name__, **fields}
