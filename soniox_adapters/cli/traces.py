"""`soniox-rt replay` and `soniox-rt inspect`: recorded sessions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer
from rich.live import Live
from rich.text import Text

from soniox_adapters.cli.captions import output_console
from soniox_adapters.cli.output import say
from soniox_adapters.testing import Trace, TraceMismatchError, replay
from soniox_proto import RealtimeEvent, Result, SonioxError, Token, render_tokens

__all__ = ["run_inspect", "run_replay", "save_trace"]

_LONGEST = 160
"""Characters of one line of the timeline."""


def save_trace(trace: Trace, path: str) -> None:
    """Write a trace to a file; raises `SonioxError` if that fails."""
    try:
        Path(path).write_text(trace.dumps(), encoding="utf-8")
    except OSError as error:
        raise SonioxError(f"cannot write the trace to {path}: {error.strerror}") from error


def run_replay(path: str, speed: float | None) -> int:
    """Run a trace again and write its transcript; return the exit status.

    Raises `SonioxError` if the file is not a trace.

    Args:
        path: The file.
        speed: How fast to show the captions, 1.0 for as they came; None for the transcript alone.
    """
    trace = _read_trace(path)
    try:
        events = replay(trace)
    except TraceMismatchError as error:
        typer.echo(str(error), err=True)
        return 1
    messages = [(when, event.message) for when, event in events if isinstance(event, Result)]
    _show(messages, speed)
    say(f"the session went as it was recorded: {len(events)} events")
    return 0


def run_inspect(path: str) -> None:
    """Write a timeline of a trace; raises `SonioxError` if the file is not one."""
    for line in _timeline(_read_trace(path)):
        typer.echo(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...")


def _read_trace(path: str) -> Trace:
    try:
        return Trace.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SonioxError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SonioxError(f"{path} is not a trace: it is not text") from error


def _show(messages: list[tuple[float, RealtimeEvent]], speed: float | None) -> None:
    console = output_console()
    live = None
    if speed is not None and console.is_terminal:
        live = Live(console=console, transient=True)
    final: list[Token] = []
    began = time.monotonic()
    with live or nullcontext():
        for when, message in messages:
            if speed is not None:
                time.sleep(max(0.0, began + (when - messages[0][0]) / speed - time.monotonic()))
            final += [token for token in message.tokens if token.is_final]
            if live is not None:
                provisional = [token for token in message.tokens if not token.is_final]
                live.update(Text(render_tokens(final, provisional)), refresh=True)
    typer.echo(render_tokens(final, []))


# The timeline


def _timeline(trace: Trace) -> Iterator[str]:
    header = trace.header
    yield f"{header['url']}  {_words(header['config'])}"
    began: float = trace.entries[0]["t"] if trace.entries else 0.0
    several = any(entry.get("link", 1) > 1 for entry in trace.entries)
    for mark, what, entries in _grouped(trace.entries, several=several):
        first, last = (entry["t"] - began for entry in (entries[0], entries[-1]))
        times = f" ({len(entries)} times, until {last:.3f} s)" if len(entries) > 1 else ""
        yield f"{first:10.3f}  {mark} {what}{times}"


def _grouped(
    entries: Iterable[dict[str, Any]], *, several: bool
) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Yield what happened, with repetitions of the same together.

    With `several` connections, marks have the number of theirs.
    """
    group: list[dict[str, Any]] = []
    latest = ("", "")
    for entry in entries:
        # Bytes are shown as the messages in them, which are events or have been sent.
        if "received" in entry or entry.get("call") in {"send_audio", "handle_timeout"}:
            continue
        link = str(entry.get("link", " ")) if several else ""
        for mark, what in _lines_of(entry):
            line = (f"{mark}{link}", what)
            if line != latest and group:
                yield latest[0], latest[1], group
                group = []
            latest = line
            group.append(entry)
    if group:
        yield latest[0], latest[1], group


def _lines_of(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a mark and a text for each thing that a line of a trace says."""
    if "sent" in entry:
        for frame in entry["sent"]:
            yield ">", _frame(frame)
    elif entry.get("event") == "Result":
        yield "<", _message(RealtimeEvent.validate_event(entry["raw"]))
    elif "event" in entry:
        fields = {name: value for name, value in entry.items() if name not in {"t", "event"}}
        yield "!", f"{entry['event']} {_words(fields)}".rstrip()
    else:
        yield "-", f"{entry['call']} {_words(entry.get('error', {}))}".rstrip()


def _frame(frame: Mapping[str, Any]) -> str:
    if "http" in frame:
        return str(frame["http"][0])
    if "text" in frame:
        return frame["text"] or "end of audio"
    if "binary" in frame:
        return f"audio, {frame['binary']} bytes"
    return _words(frame)


def _message(message: RealtimeEvent) -> str:
    if message.error_code is not None:
        return f"error {message.error_code} {message.error_type}: {message.error_message}"
    final = "".join(token.text for token in message.tokens if token.is_final)
    provisional = "".join(token.text for token in message.tokens if not token.is_final)
    words = [repr(final)] if final else []
    words += [f"({provisional!r})"] if provisional else []
    words += ["finished"] if message.finished else []
    return f"{' '.join(words) or 'progress'}  at {message.total_audio_proc_ms} ms"


def _words(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
