"""What a trace must not show: the API key, and on demand the words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar, cast

from soniox_proto.credentials import APIKey
from soniox_proto.messages import MARKERS

__all__ = [
    "hidden_frame",
    "hiding",
    "key_in",
    "mapped",
    "masked",
    "start_without_words",
    "without_text",
    "without_values",
]

_T = TypeVar("_T")

PROTOCOLS: Final = "sec-websocket-protocol"
"""The header that may hold the key as its last value."""

_TEXT_FIELD: Final = re.compile(rb'("text"\s*:\s*")((?:[^"\\]|\\.)*)"')


def key_in(frame: Mapping[str, Any]) -> str | None:
    """Return the API key that a client sent, wherever it may be."""
    for line in frame.get("http", ()):
        name, _, value = cast("str", line).partition(": ")
        if name == "authorization":
            return value.partition(" ")[2] or None
        if name == PROTOCOLS and ", " in value:
            return value.rpartition(", ")[2]
    if "api_key" in frame.get("text", ""):
        key: object = json.loads(frame["text"]).get("api_key")
        return key if isinstance(key, str) else None
    return None


def masked(key: str) -> str:
    """Return a key of the same form with none of its characters, so that it works like the key.

    Not with zeros, which also begin many a number that has nothing to do with the key.
    """
    return re.sub("[0-9]", "9", re.sub("[A-Za-z]", "x", key))


def hiding(keys: Collection[str]) -> Callable[[str], str]:
    """Return a function that masks keys in what it is given; the length does not change.

    Keys are found in the ways in which a session finds them in what a server says, so that both
    agree when the trace is run again.
    """
    longest_first = sorted(keys, key=len, reverse=True)
    maskers = [APIKey(key).masker(masked) for key in longest_first]

    def hide(text: str) -> str:
        for masker in maskers:
            text = masker(text)
        return text

    return hide


def mapped(value: _T, function: Callable[[str], str]) -> _T:
    """Return a JSON value with a function applied to its strings, but not to names of fields."""
    if isinstance(value, str):
        return cast("_T", function(value))
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return cast("_T", {name: mapped(item, function) for name, item in items})
    if isinstance(value, list):
        return cast("_T", [mapped(item, function) for item in cast("list[Any]", value)])
    return value


def hidden_frame(frame: Mapping[str, Any], hide: Callable[[str], str]) -> dict[str, Any]:
    """Return a frame of the client without keys.

    Where the key belongs it is masked whatever it is. Elsewhere only values are, where the user's
    may be: words of the protocol are needed to replay the trace.
    """
    if "http" in frame:
        return {"http": [_hidden_line(line, hide) for line in frame["http"]]}
    if _is_start(frame):
        fields = mapped(json.loads(frame["text"]), hide)
        if isinstance(fields.get("api_key"), str):
            fields["api_key"] = masked(key_in(frame) or "")
        return {**frame, "text": _dumped(fields)}
    return dict(frame)


def without_values(frame: dict[str, Any], headers: Collection[str]) -> None:
    """Take the values of the user's headers out of a frame, if that is the upgrade request."""
    names = {name.lower() for name in headers}
    if "http" in frame:
        lines = [(line, line.partition(": ")[0]) for line in frame["http"]]
        frame["http"] = [f"{name}: -" if name in names else line for line, name in lines]


def without_text(data: bytes) -> bytes:
    """Return messages with the text of tokens replaced, byte by byte."""

    def replaced(match: re.Match[bytes]) -> bytes:
        text = match.group(2)
        if _is_marker(text):
            return match.group()
        bare = text.lstrip(b" ")
        return match.group(1) + text[: len(text) - len(bare)] + b"x" * len(bare) + b'"'

    return _TEXT_FIELD.sub(replaced, data)


def start_without_words(frame: dict[str, Any]) -> None:
    """Take the context out of a frame, if that is the start message."""
    if _is_start(frame):
        fields = json.loads(frame["text"])
        fields.pop("context", None)
        frame["text"] = _dumped(fields)


def _is_marker(text: bytes) -> bool:
    """Return whether the inside of a JSON string is a marker, with or without escapes."""
    try:
        return json.loads(b'"' + text + b'"') in MARKERS
    except ValueError:
        return False


def _is_start(frame: Mapping[str, Any]) -> bool:
    return bool(frame.get("text", "").startswith('{"model"'))


def _dumped(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def _hidden_line(line: str, hide: Callable[[str], str]) -> str:
    name, separator, value = line.partition(": ")
    before, space, key = value.rpartition(" ")
    if space and name in {"authorization", PROTOCOLS}:
        return f"{name}: {before} {masked(key)}"
    return f"{name}{separator}{hide(value)}" if separator else hide(line)
