"""`soniox-rt transcribe`: transcribe a recording, or live audio from a pipe."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import typer

from soniox_adapters.async_.session import AsyncRealtimeSTTSession
from soniox_adapters.blocking.session import RealtimeSTTSession
from soniox_adapters.cli.captions import Captions, announce_stop, output_console
from soniox_adapters.cli.output import say
from soniox_adapters.cli.output_file import OutputFile
from soniox_adapters.cli.reconnecting import Reconnections
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
    JSONWriter,
    Outcome,
    RealtimeEvent,
    RealtimeSTTConfig,
    SonioxError,
    SonioxServerError,
    Subtitles,
    TableWriter,
    TextWriter,
    Token,
    Transcript,
    TranscriptUpdate,
    TranscriptWriter,
)

__all__ = ["OutputFormat", "SubtitleTrack", "TranscribeRequest", "run_transcribe"]

_PAUSE_MS: Final = 1_000
"""Without endpoint detection, a pause of this length begins a new line."""


class OutputFormat(str, Enum):
    """What `transcribe` writes."""

    TEXT = "text"
    """The transcript, one utterance per line."""
    SRT = "srt"
    """Subtitles."""
    VTT = "vtt"
    """Subtitles, as WebVTT."""
    JSON = "json"
    """A single document with utterances, words and tokens."""
    JSON_LINES = "jsonl"
    """Each message of the service as it arrives, one per line."""
    CSV = "csv"
    """A table of utterances."""
    TSV = "tsv"
    """The same, with tabs."""


class SubtitleTrack(str, Enum):
    """Which language subtitles are in."""

    ORIGINAL = "original"
    """What was said."""
    TRANSLATION = "translation"
    """Its translation."""
    BOTH = "both"
    """One below the other."""


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
    format: OutputFormat = OutputFormat.TEXT
    """What to write."""
    output: Path | None = None
    """The file to write it to; None for standard output."""
    speakers: bool = False
    """Whether subtitles name the speakers."""
    track: SubtitleTrack | None = None
    """The language of subtitles; None for all that there are."""
    reconnect: bool = False
    """Whether to make a new connection when one is lost."""
    trace: str | None = None
    """File to record the session to."""
    trace_audio: bool = True
    """Whether to record the audio."""
    trace_text: bool = True
    """Whether to record the words."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.path}>"


def run_transcribe(request: TranscribeRequest) -> StreamEnd:
    """Transcribe, write the transcript, and return how the stream ended.

    Raises `SonioxError` if the recording cannot be opened, the output cannot be written, or an
    argument is invalid.
    """
    reconnections = Reconnections() if request.reconnect else None
    with (
        open_recording(request.path, request.config) as recording,
        nullcontext() if request.output is None else OutputFile(request.output) as file,
    ):
        transcription = _Transcription(request, recording, file)
        with transcription.captions or nullcontext():
            end = _stream(request, recording, transcription, reconnections)
        transcription.conclude(end)
    summary = None if reconnections is None else reconnections.summary(end.stats)
    if summary is not None:
        say(summary)
    return end


class _Transcription:
    """Writes the transcript of one stream, and shows it on a terminal."""

    def __init__(
        self, request: TranscribeRequest, recording: Recording, file: OutputFile | None
    ) -> None:
        self._format = request.format
        self._config = request.config
        self._file = file
        self._recording = recording
        self._writer = _writer(request)
        pause_ms = None if request.config.enable_endpoint_detection else _PAUSE_MS
        self._transcript = Transcript(pause_ms=pause_ms)
        self.captions = self._captions()
        # What would be mixed with captions on the same terminal is written when they are gone.
        self._held: list[str] = []
        self._holds = self._format is OutputFormat.JSON and file is None

    def message(self, raw: bytes, event: RealtimeEvent) -> None:
        """Write the message, or what it adds to the transcript."""
        self._take(self._transcript.feed(event, self._recording.played))
        if self._format is OutputFormat.JSON_LINES:
            # JSON may contain line breaks outside of its strings.
            self._write(raw.decode().replace("\n", " ").replace("\r", " ") + "\n")

    def stopping(self) -> None:
        """Report that the program is waiting for the rest."""
        if self.captions is not None:
            self.captions.announce_stop()
        else:
            announce_stop()

    def conclude(self, end: StreamEnd) -> None:
        """Write the rest."""
        self._take(self._transcript.finish())
        complete = end.outcome is Outcome.FINISHED and end.problem is None
        # A file stays what it was if the stream was cut off before anything was said.
        if complete or self._file is None or self._transcript.utterances:
            if complete and self._file is not None:
                # Not all formats have anything to write for a recording without a word.
                self._file.begin()
            if isinstance(self._writer, JSONWriter):
                self._write(self._writer.finish(**_document(self._transcript, end)))
            elif self._writer is not None:
                self._write(self._writer.finish())
        typer.echo("".join(self._held), nl=False)
        for wish in _wishes_not_met(self._config, self._transcript.tokens):
            say(f"the server did not {wish}; its recognizer cannot do that")

    def _captions(self) -> Captions | None:
        """Return captions, if standard output has nothing else to show while the stream lasts."""
        console = output_console()
        if self._file is None and self._format not in {OutputFormat.TEXT, OutputFormat.JSON}:
            return None
        if self._file is not None and not console.is_terminal:
            return None
        lines = self._file is not None or self._format is OutputFormat.TEXT
        return Captions(console, self._transcript, self._recording, lines=lines)

    def _take(self, update: TranscriptUpdate) -> None:
        if self.captions is not None:
            self.captions.show(update)
        if self._writer is not None:
            self._write(self._writer.feed(update))

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._file is not None:
            self._file.write(text)
        elif self._holds:
            self._held.append(text)
        else:
            typer.echo(text, nl=False)


def _writer(request: TranscribeRequest) -> TranscriptWriter | None:
    """Return what writes the format; None for captions and messages, which are written as such."""
    kind = request.format
    if kind is OutputFormat.JSON:
        return JSONWriter()
    if kind is OutputFormat.CSV or kind is OutputFormat.TSV:
        return TableWriter(kind.value)
    if kind is OutputFormat.SRT or kind is OutputFormat.VTT:
        track = request.track
        if track is None:
            translated = request.config.translation is not None
            track = SubtitleTrack.BOTH if translated else SubtitleTrack.ORIGINAL
        return Subtitles(kind.value, track=track.value, speakers=request.speakers)
    return TextWriter() if kind is OutputFormat.TEXT and request.output is not None else None


def _wishes_not_met(config: RealtimeSTTConfig, tokens: Sequence[Token]) -> list[str]:
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


def _stream(
    request: TranscribeRequest,
    recording: Recording,
    listener: Listener,
    reconnections: Reconnections | None,
) -> StreamEnd:
    url, config, key = request.url, request.config, request.api_key
    policy = None if reconnections is None else reconnections.policy
    if request.blocking:
        blocking_session = RealtimeSTTSession(url, config, key, reconnect=policy)
        with _recorded(blocking_session, request):
            return stream_blocking(blocking_session, recording, request.pace, listener)
    session = AsyncRealtimeSTTSession(url, config, key, reconnect=policy)
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
