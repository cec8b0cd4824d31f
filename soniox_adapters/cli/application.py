"""The commands of `soniox-rt`, their options, and what happens when they fail."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from soniox_adapters.cli import options
from soniox_adapters.cli.configuration import build_config, read_context
from soniox_adapters.cli.demo import run_demo
from soniox_adapters.cli.help_page import GroupedHelpCommand
from soniox_adapters.cli.output import PROGRAM, conclude_output, prepare_streams, say
from soniox_adapters.cli.serve import RecognizerChoice, run_serve
from soniox_adapters.cli.streaming import Pace, StreamEnd
from soniox_adapters.cli.traces import run_inspect, run_replay
from soniox_adapters.cli.transcribe import OutputFormat, TranscribeRequest, run_transcribe
from soniox_adapters.cli.wording import describe_error
from soniox_proto import (
    API_KEY_ENVIRONMENT_VARIABLE,
    DEFAULT_WEBSOCKET_URL,
    SonioxError,
    SonioxValidationError,
    __version__,
    websocket_url,
)

__all__ = ["app", "run"]

_COMMANDS: Final = {"demo", "transcribe", "serve", "replay", "inspect"}

_SLOWEST: Final = 0.01
_FASTEST: Final = 1000.0

TraceArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE", help="A trace, recorded with transcribe --trace.")
]

# Without typer's own tracebacks, which show the values of variables, the API key among them.
app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status."""
    prepare_streams()
    try:
        status = _run(arguments)
        written = conclude_output()
    except OSError as error:
        # It can only come from writing the output, because all others become `SonioxError`.
        status, written = 1, conclude_output(error)
    return status if written else status or 1


def _run(arguments: Sequence[str]) -> int:
    try:
        status = app(args=list(arguments) or ["--help"], prog_name=PROGRAM, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except SystemExit as stop:
        # typer exits like this if the reader of its output has gone away.
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        # A usage error has no class that can be imported from all versions of typer.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        command = next((name for name in arguments if name in _COMMANDS), None)
        page = " ".join(filter(None, (PROGRAM, command, "--help")))
        say(f"{message()} (see: {page})")
        return 2
    return status if isinstance(status, int) else 0


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def soniox_rt(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Speech to text while you speak, with the Soniox realtime service or on this machine.

    New here? Run soniox-rt demo: it needs no API key and no network.
    """


@app.command()
def demo(
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            metavar="FILE",
            show_default=False,
            help="A wav recording of English to use instead of the sample.",
        ),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", metavar="FACTOR", help="How fast to play the recording.")
    ] = 1.0,
    sync: Annotated[
        bool,
        typer.Option("--sync", help="Use the library's blocking session instead of the async one."),
    ] = False,
    drop_at: Annotated[
        float | None,
        typer.Option(
            "--drop-at",
            metavar="SECONDS",
            min=0.0,
            show_default=False,
            help="End the connection after so much of the recording, and see the captions go on.",
        ),
    ] = None,
) -> None:
    """Watch speech become text: no API key, no network.

    Starts a local server, plays a short recording to it as a microphone would, and shows the text
    as it arrives: dim while it may still change, bright once it is final.
    """
    _check_speed(speed)
    with _errors_reported():
        end = run_demo(path=file, speed=speed, blocking=sync, drop_at=drop_at)
        _exit(end, advise=False)


@app.command(cls=GroupedHelpCommand)
def transcribe(
    file: options.AudioArgument,
    api_key: options.ApiKeyOption = None,
    region: options.RegionOption = None,
    url: options.UrlOption = None,
    sync: options.SyncOption = False,
    reconnect: options.ReconnectOption = False,
    config: options.ConfigOption = None,
    client_reference_id: options.ClientReferenceOption = None,
    audio_format: options.AudioFormatOption = None,
    sample_rate: options.SampleRateOption = None,
    num_channels: options.ChannelsOption = None,
    speed: options.SpeedOption = 1.0,
    throttle: options.ThrottleOption = True,
    model: options.ModelOption = None,
    language_hint: options.LanguageHintsOption = None,
    language_hints_strict: options.HintsStrictOption = None,
    context: options.ContextOption = None,
    context_file: options.ContextFileOption = None,
    diarization: options.DiarizationOption = None,
    language_identification: options.LanguageIdentificationOption = None,
    endpoint_detection: options.EndpointDetectionOption = None,
    max_endpoint_delay_ms: options.EndpointDelayOption = None,
    endpoint_sensitivity: options.EndpointSensitivityOption = None,
    endpoint_latency_adjustment_level: options.EndpointLatencyOption = None,
    translate_to: options.TranslateToOption = None,
    translate_between: options.TranslateBetweenOption = None,
    format: options.FormatOption = OutputFormat.TEXT,
    output: options.OutputOption = None,
    speakers: options.SpeakersOption = False,
    track: options.TrackOption = None,
    trace: options.TraceOption = None,
    trace_audio: options.TraceAudioOption = True,
    trace_text: options.TraceTextOption = True,
) -> None:
    """Transcribe a recording, or audio from a pipe.

    Uses the Soniox realtime service, which needs an API key in the environment variable
    SONIOX_API_KEY. Ctrl-C ends the audio and waits for the rest of the text; pressed again, it
    stops at once.

    soniox-rt transcribe talk.wav

    arecord -f S16_LE -r 16000 | soniox-rt transcribe - --endpoint-detection
    """
    _check_speed(speed)
    if region is not None and url is not None:
        raise typer.BadParameter("give --region or --url, not both")
    if url is not None and not url.strip():
        raise typer.BadParameter("--url is empty")
    if context is not None and context_file is not None:
        raise typer.BadParameter("give --context or --context-file, not both")
    if translate_to is not None and translate_between is not None:
        raise typer.BadParameter("give --translate-to or --translate-between, not both")
    if output in {kind.value for kind in OutputFormat}:
        raise typer.BadParameter(
            f"--output names a file, --format {output} the format (a file of that name: ./{output})"
        )
    translation: dict[str, str] | None = None
    if translate_to is not None:
        translation = {"type": "one_way", "target_language": translate_to}
    elif translate_between is not None:
        first, second = translate_between
        translation = {"type": "two_way", "language_a": first, "language_b": second}
    with _errors_reported(advise=True):
        fields: dict[str, object] = {
            "model": model,
            "audio_format": audio_format,
            "sample_rate": sample_rate,
            "num_channels": num_channels,
            # typer passes an empty list if the option is not given.
            "language_hints": language_hint or None,
            "language_hints_strict": language_hints_strict,
            "context": context if context_file is None else read_context(context_file),
            # Speakers can be named only if they are told apart.
            "enable_speaker_diarization": speakers or diarization,
            "enable_language_identification": language_identification,
            "enable_endpoint_detection": endpoint_detection,
            "max_endpoint_delay_ms": max_endpoint_delay_ms,
            "endpoint_sensitivity": endpoint_sensitivity,
            "endpoint_latency_adjustment_level": endpoint_latency_adjustment_level,
            "translation": translation,
            "client_reference_id": client_reference_id,
        }
        if url is None and not api_key:
            raise SonioxValidationError(
                f"no API key: set the environment variable {API_KEY_ENVIRONMENT_VARIABLE}; "
                f"to try without one: {PROGRAM} demo"
            )
        request = TranscribeRequest(
            path=file,
            url=url or (DEFAULT_WEBSOCKET_URL if region is None else websocket_url(region)),
            api_key=api_key or None,
            config=build_config(fields, config_file=config),
            pace=Pace(speed if throttle else None),
            blocking=sync,
            format=format,
            output=None if output is None else Path(output),
            speakers=speakers,
            track=track,
            reconnect=reconnect,
            trace=trace,
            trace_audio=trace_audio,
            trace_text=trace_text,
        )
        _exit(run_transcribe(request), advise=True)


@app.command()
def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="PORT", min=0, max=65_535, help="Port to listen on; 0 picks one."
        ),
    ] = 8765,
    recognizer: Annotated[
        RecognizerChoice | None,
        typer.Option(
            "--recognizer",
            show_default=False,
            help="pocketsphinx: real recognition of English, offline; the default if it is "
            "installed. scripted: plays a text.",
        ),
    ] = None,
    script: Annotated[
        Path | None,
        typer.Option(
            "--script",
            metavar="FILE",
            show_default=False,
            help="What the scripted recognizer plays: a text, or messages of the service "
            "(.json or .jsonl).",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            metavar="KEY",
            envvar="SONIOX_LOCAL_SERVER_KEY",
            show_default=False,
            help="Key that clients must send; without it, all clients are accepted.",
        ),
    ] = None,
    max_streams: Annotated[
        int | None,
        typer.Option(
            "--max-streams",
            metavar="N",
            min=1,
            show_default=False,
            help="Maximum number of concurrent streams; others are refused. By default 4 with "
            "pocketsphinx, which needs 130 MB for each, else no limit.",
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="FAULT",
            show_default=False,
            help="Something to go wrong with the next connection, to test clients; may be "
            "repeated. drop@5000: ends after 5 s of audio. unavailable@5000: error 503. "
            "stall@5000:3: neither reads nor answers for 3 s. half-open@5000: never again. "
            "refuse: HTTP status 503. limit:60: error 403 after 60 s. With *3: three connections "
            "in a row; with *all: every one.",
        ),
    ] = None,
) -> None:
    """Serve the protocol of Soniox on this machine.

    Any client of the realtime service can connect to it. Prints its URL when it listens. Ctrl-C
    stops it.
    """
    if script is not None and recognizer is RecognizerChoice.POCKETSPHINX:
        raise typer.BadParameter("--script needs the scripted recognizer, not pocketsphinx")
    with _errors_reported():
        run_serve(
            host=host,
            port=port,
            recognizer=recognizer,
            script=script,
            api_key=api_key or None,
            max_streams=max_streams,
            faults=fault or (),
        )


@app.command(name="replay")
def replay_trace(
    file: TraceArgument,
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed",
            metavar="FACTOR",
            show_default=False,
            help="Show the captions as they came, so many times as fast; by default only the "
            "transcript.",
        ),
    ] = None,
) -> None:
    """Run a recorded session again, and check that everything happens as it did.

    Exits with status 1, and shows the first difference, if it does not.
    """
    if speed is not None:
        _check_speed(speed)
    with _errors_reported():
        status = run_replay(file, speed)
    raise typer.Exit(status)


@app.command(name="inspect")
def inspect_trace(file: TraceArgument) -> None:
    """Show a timeline of a recorded session."""
    with _errors_reported():
        run_inspect(file)


def _check_speed(speed: float) -> None:
    if not _SLOWEST <= speed <= _FASTEST:
        raise typer.BadParameter(f"--speed must be between {_SLOWEST:g} and {_FASTEST:g}")


def _exit(end: StreamEnd, *, advise: bool) -> None:
    if end.problem is not None:
        say(describe_error(end.problem, advise=advise))
    raise typer.Exit(end.exit_status)


@contextmanager
def _errors_reported(*, advise: bool = False) -> Generator[None, None, None]:
    """Report errors; with `advise`, add what to do, which makes sense for a remote server."""
    try:
        yield
    except SonioxError as error:
        say(describe_error(error, advise=advise))
        raise typer.Exit(1) from error
