"""`soniox-rt transcribe`: transcribe a recording, or live audio from a pipe."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import typer

from soniox_adapters.async_.session import AsyncRealtimeSTTSession
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.cli.captions import Captions, announce_stop, output_console
from soniox_adapters.cli.output import say
from soniox_adapters.cli.recording import Recording, open_recording
from soniox_adapters.cli.streaming import (
    Listener,
    Pace,
    StreamEnd,
    stream_async,
    stream_blocking,
)
from soniox_adapters.cli.wording import one_line
from soniox_adapters.session.base import SessionBase
from soniox_proto import (
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    SonioxError,
    SonioxServerError,
    Token,
)
from soniox_proto.transcript import Transcript

__all__ = ["OutputFormat", "TranscribeRequest", "run_transcribe"]

_PAUSE_MS: Final = 1_000
"""Without endpoint detection, a pause of this length begins a new line."""


class OutputFormat(str, Enum):
    """What `transcribe` writes."""

    TEXT = "text"
    """The transcript, one utterance per line."""
    JSON_LINES = "jsonl"
    """Each message of the service as it arrives, one per line."""
    JSON = "json"
    """A single document at the end."""


@dataclass(frozen=True, slots=True)
class TranscribeRequest:
    """What to transcribe, where, and how."""

    path: str
    """A file; ``-`` for standard input."""
    url: str
    """URL of the service."""
    api_key: str | None
    """API key; None sends none."""
    config: RealtimeSTTConfig
    """Configuration of the stream."""
    pace: Pace
    """How fast to send the audio."""
    blocking: bool = False
    """Whether to use the blocking session."""
    output: OutputFormat = OutputFormat.TEXT
    """What to write."""
    trace: str | None = None
    """File to record the session to."""
    trace_audio: bool = True
    """Whether to record the audio."""
    trace_text: bool = True
    """Whether to record the words."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.path}>"


def run_transcribe(request: TranscribeRequest) -> StreamEnd:
    """Transcribe, write the transcript to standard output, and return how the stream ended.

    Raises `SonioxError` if the recording cannot be opened, or an argument is invalid.
    """
    with open_recording(request.path, request.config) as recording:
        transcription = _Transcription(request, recording)
        with transcription.captions or nullcontext():
            end = _stream(request, recording, transcription)
        transcription.conclude(end)
    return end


class _Transcription:
    """Writes the transcript of one stream."""

    def __init__(self, request: TranscribeRequest, recording: Recording) -> None:
        self._output = request.output
        self._config = request.config
        self._recording = recording
        pause_ms = None if request.config.enable_endpoint_detection else _PAUSE_MS
        self._transcript = Transcript(pause_ms=pause_ms)
        self.captions: Captions | None = None
        if self._output is not OutputFormat.JSON_LINES:
            self.captions = Captions(
                output_console(),
                self._transcript,
                recording,
                lines=self._output is OutputFormat.TEXT,
            )

    def message(self, raw: bytes, event: RealtimeEvent) -> None:
        """Write the message, or the utterances that it completes."""
        completed = self._transcript.add(event, self._recording.played)
        if self.captions is not None:
            self.captions.show(completed)
        else:
            # JSON may contain line breaks outside of its strings.
            typer.echo(raw.decode().replace("\n", " ").replace("\r", " "))

    def stopping(self) -> None:
        """Report that the program is waiting for the rest."""
        if self.captions is not None:
            self.captions.announce_stop()
        else:
            announce_stop()

    def conclude(self, end: StreamEnd) -> None:
        """Write the rest."""
        rest = self._transcript.complete()
        if self.captions is not None:
            self.captions.show(rest)
        if self._output is OutputFormat.JSON:
            document = _document(self._transcript, end)
            typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
        for wish in _wishes_not_met(self._config, self._transcript.tokens):
            say(f"the server did not {wish}; its recognizer cannot do that")


def _wishes_not_met(config: RealtimeSTTConfig, tokens: list[Token]) -> list[str]:
    """Return the features that the configuration asks for, but no token shows."""
    if not tokens:
        return []
    wishes = (
        (config.enable_speaker_diarization, "speaker", "tell speakers apart (--diarization)"),
        (
            config.enable_language_identification,
            "language",
            "tell which language is spoken (--language-identification)",
        ),
        (config.translation, "translation_status", "translate"),
    )
    return [
        wish
        for wanted, field, wish in wishes
        if wanted and all(getattr(token, field) is None for token in tokens)
    ]


def _stream(request: TranscribeRequest, recording: Recording, listener: Listener) -> StreamEnd:
    url, config, key = request.url, request.config, request.api_key
    if request.blocking:
        blocking_session = RealtimeSTTSession(url, config, key)
        with _recorded(blocking_session, request):
            return stream_blocking(blocking_session, recording, request.pace, listener)
    session = AsyncRealtimeSTTSession(url, config, key)
    with _recorded(session, request):
        return asyncio.run(stream_async(session, recording, request.pace, listener))


@contextmanager
def _recorded(session: SessionBase, request: TranscribeRequest) -> Generator[None, None, None]:
    """Record the session, if that is asked for, however it ends."""
    if request.trace is None:
        yield
        return
    from soniox_adapters.cli.traces import save_trace
    from soniox_adapters.testing import record

    recorded = record(session, audio=request.trace_audio, text=request.trace_text)
    # Before the audio is streamed, which would be in vain if the file cannot be written.
    save_trace(recorded.trace(), request.trace)
    try:
        yield
    finally:
        save_trace(recorded.trace(), request.trace)


def _document(transcript: Transcript, end: StreamEnd) -> dict[str, Any]:
    return {
        "outcome": (end.outcome or Outcome.ABORTED).value,
        "interrupted": end.interrupted,
        "error": None if end.problem is None else _error_fields(end.problem),
        "text": transcript.text,
        "utterances": [utterance.as_dict() for utterance in transcript.utterances],
        "tokens": [token.model_dump(exclude_none=True) for token in transcript.tokens],
    }


def _error_fields(error: SonioxError) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": type(error).__name__, "message": one_line(str(error))}
    if isinstance(error, SonioxServerError):
        fields |= {
            "error_code": error.error_code,
            "error_type": error.error_type,
            "request_id": error.request_id,
        }
    return fields
