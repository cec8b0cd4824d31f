"""Fuzz target of the message layer: JSON to models to events, at both ends.

The input is a line of text for each message, so the corpus can be read. The first byte tells who
speaks: the service if it is even (`0`), a client if it is odd (`1`). A line that begins with `+` is
a binary message. What is taken must be what JSON says, nothing but the documented errors may come
of the rest, and a message in frames, cut anywhere, must mean what it means without them.

To look for inputs that break a rule, with atheris (pip install atheris)::

    mkdir -p /tmp/messages
    python -m tests.fuzz.fuzz_messages -dict=tests/fuzz/messages.dict -max_total_time=300 \
        /tmp/messages tests/fuzz/corpus/messages

New inputs of interest are written to the first directory. What breaks a rule is written to a file
`crash-...` in the current one; `python -m tests.fuzz.fuzz_messages crash-...` runs it again.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError

from soniox_proto import (
    Closed,
    EndpointDetected,
    Event,
    Finalized,
    FinalizeReceived,
    Finished,
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    RealtimeSTTProtocol,
    RealtimeSTTServerConnection,
    RequestRefused,
    Result,
    ServerError,
    ServerEvent,
    SonioxError,
    SonioxProtocolError,
    SonioxValidationError,
    StartReceived,
    Token,
)
from soniox_proto.messages import is_error
from tests.fuzz.ends import describe
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import CLIENT_MASK
from tests.support.core.messages import CONFIG

__all__ = ["check"]

SHORT_ERROR: Final = 4000
"""Characters that an error may have whatever the message is; the rest must be the message's."""


def check(data: bytes) -> None:
    """Raise unless the core takes these messages as it is to take all messages."""
    lines = [_message(line) for line in data[1:].split(b"\n")]
    if data[:1] and data[0] % 2:
        _check_client(lines)
    else:
        _check_service(lines)


def _message(line: bytes) -> str | bytes:
    if line.startswith(b"+"):
        return line[1:]
    # A surrogate cannot come in a text frame, but whoever brings a WebSocket may hand it over.
    return line.decode("utf-8", "surrogateescape")


# What the service says


def _check_service(messages: list[str | bytes]) -> None:
    protocol = RealtimeSTTProtocol(CONFIG)
    protocol.start(0.0)
    protocol.finalize(0.0)
    protocol.messages_to_send()
    whole, bytewise = (Client().open() for _ in range(2))
    for client in (whole, bytewise):
        client.connection.finalize(0.0)
        client.drain()
        client.now = 1.0
    finalizes = 1
    over = decided = False
    for message in messages:
        event = _check_parsing(message)
        told = protocol.receive_message(message, 1.0)
        if over:
            assert told == [], "it goes on after its end"
            continue
        over = event is None
        finalizes -= _check_events(told, event, message, finalizes, decided=decided)
        # The first end is the only one.
        decided = decided or protocol.outcome is not None
        if isinstance(message, str) and not _is_unicode(message):
            return
        _check_framed(whole, bytewise, message, told)
    assert protocol.closed is over
    assert protocol.messages_to_send() == []


def _check_parsing(raw: str | bytes) -> RealtimeEvent | None:
    """Return the message, None if it is not one."""
    try:
        event = RealtimeEvent.validate_event(raw)
    except SonioxProtocolError as error:
        _check_error(error, raw)
        return None
    said = json.loads(raw)
    assert isinstance(said, dict)
    if _has_unexpected_kinds(raw):
        assert is_error(vars(event)) or said["tokens"] is None
        assert is_error(vars(event)) is is_error(said)
    else:
        _check_fields(event, said)
        for token, fields in zip(event.tokens, said.get("tokens", []), strict=True):
            _check_fields(token, fields)
    # What was taken can be written down and read again. What is no number becomes null.
    dumped = event.model_dump_json()
    assert RealtimeEvent.validate_event(dumped).model_dump_json() == dumped
    text = raw.encode("utf-8") if isinstance(raw, str) else raw.decode("utf-8")
    assert repr(RealtimeEvent.validate_event(text)) == repr(event), "text and bytes differ"
    return event


def _has_unexpected_kinds(raw: str | bytes) -> bool:
    try:
        RealtimeEvent.model_validate_json(raw)
    except ValidationError:
        return True
    return False


def _check_error(error: SonioxError, raw: str | bytes) -> None:
    assert isinstance(error.__cause__, ValidationError)
    assert len(str(error)) <= SHORT_ERROR + len(raw), "the error is longer than its cause"
    if isinstance(error, SonioxProtocolError):
        assert error.close_code == 1007


def _check_fields(model: RealtimeEvent | Token, said: dict[str, Any]) -> None:
    """Fail unless unknown fields are kept as they are, and known ones are taken from where."""
    fields = type(model).model_fields
    unknown = {name: value for name, value in said.items() if name not in fields}
    # NaN is not equal to itself, but its text is.
    assert json.dumps(model.model_extra, sort_keys=True) == json.dumps(unknown, sort_keys=True)
    assert model.model_fields_set == said.keys()
    for name in said.keys() & fields.keys():
        value = getattr(model, name)
        if isinstance(value, str):
            assert value == said[name]


def _check_events(
    told: list[Event],
    event: RealtimeEvent | None,
    raw: str | bytes,
    finalizes: int,
    *,
    decided: bool,
) -> int:
    """Fail unless the events are those of the message; return how many finalizes it answers."""
    if event is None:
        (end,) = told
        assert isinstance(end, Closed)
        assert isinstance(end.error, SonioxProtocolError) or end.outcome is not Outcome.LOST
        return 0
    first, *others = told
    assert isinstance(first, Result)
    assert first.raw == raw
    kinds: dict[str, type[Event]] = {"<end>": EndpointDetected, "<fin>": Finalized}
    final = [token.text for token in event.tokens if token.is_final]
    expected = [kinds[text] for text in final if text in kinds]
    if is_error(vars(event)):
        expected += [ServerError] * (not decided)
    elif event.finished:
        expected += [Finished] * (not decided)
    assert [type(item) for item in others] == expected
    answers = [item.finalize_index for item in others if isinstance(item, Finalized)]
    numbers: list[int | None] = list(range(1 - finalizes, 1))
    assert answers == (numbers + [None] * len(answers))[: len(answers)]
    return min(finalizes, len(answers))


def _check_framed(whole: Client, bytewise: Client, raw: str | bytes, told: list[Event]) -> None:
    """Fail unless the message in frames, whole and cut, means the same."""
    frame = frames.text(raw) if isinstance(raw, str) else frames.binary(raw)
    expected = list(map(describe, told))
    assert list(map(describe, whole.feed(frame))) == expected
    heard = [event for at in range(len(frame)) for event in bytewise.feed(frame[at : at + 1])]
    assert list(map(describe, heard)) == expected
    assert whole.connection.data_to_send()[:2] == bytewise.connection.data_to_send()[:2]


# What a client says


def _check_client(messages: list[str | bytes]) -> None:
    whole, bytewise = _Server(), _Server()
    for message in messages:
        if isinstance(message, str):
            if not _is_unicode(message):
                continue
            frame = frames.text(message, mask=CLIENT_MASK)
            _check_config(message)
        else:
            frame = frames.binary(message, mask=CLIENT_MASK)
        told = whole.feed([frame])
        assert told == bytewise.feed([frame[at : at + 1] for at in range(len(frame))])
        assert whole.output == bytewise.output
    frames.decode(whole.output, from_client=False)


class _Server:
    """A server with an accepted client, that answers what it refuses."""

    def __init__(self) -> None:
        self.connection = RealtimeSTTServerConnection()
        self.connection.receive_data(frames.upgrade_request(), 0.0)
        self.connection.accept(0.0)
        self.connection.data_to_send()
        self.output = b""

    def feed(self, pieces: list[bytes]) -> list[str]:
        events = [event for piece in pieces for event in self.connection.receive_data(piece, 1.0)]
        for event in events:
            self._take(event)
        self.output += self.connection.data_to_send()
        return list(map(describe, events))

    def _take(self, event: ServerEvent) -> None:
        match event:
            case StartReceived(config):
                protocol = RealtimeSTTProtocol(config)
                protocol.start(0.0)
                (start,) = protocol.messages_to_send()
                again = RealtimeSTTConfig.validate_config(json.loads(start))
                assert again.model_dump_json() == config.model_dump_json()
            case FinalizeReceived(silence):
                assert silence is None or silence >= 0
            case RequestRefused(code, error_type, message):
                self.connection.send_error(code, error_type, message, 1.0)
            case _:
                pass


def _check_config(text: str) -> None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return
    try:
        config = RealtimeSTTConfig.validate_config(values)
    except SonioxValidationError as error:
        _check_error(error, text)
    else:
        assert isinstance(values, dict)
        assert values["model"] == config.model


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    from tests.fuzz.with_atheris import fuzz

    fuzz("tests.fuzz.fuzz_messages")
