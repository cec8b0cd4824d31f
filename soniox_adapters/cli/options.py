"""The options of `soniox-rt transcribe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from soniox_adapters.cli.configuration import DEFAULT_MODEL
from soniox_adapters.cli.transcribe import OutputFormat, SubtitleTrack
from soniox_proto import API_KEY_ENVIRONMENT_VARIABLE, REGIONS

_SERVICE = "Service"
_AUDIO = "Audio"
_RECOGNITION = "Recognition"
_ENDPOINTS = "End of utterances"
_TRANSLATION = "Translation"
_OUTPUT = "Output"

AudioArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="Audio file, or - for audio from standard input.", show_default=False
    ),
]

ApiKeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar=API_KEY_ENVIRONMENT_VARIABLE,
        show_default=False,
        rich_help_panel=_SERVICE,
        help="Soniox API key. Prefer the environment variable: "
        "other users of this machine can see the options of a program.",
    ),
]
RegionOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="|".join(REGIONS),
        rich_help_panel=_SERVICE,
        show_default=False,
        help="Region that the API key belongs to; us if it is not given.",
    ),
]
UrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        rich_help_panel=_SERVICE,
        show_default=False,
        help="WebSocket URL of another service, such as that of 'soniox-rt serve'. "
        "The API key is sent to it if there is one.",
    ),
]
SyncOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--sync",
        rich_help_panel=_SERVICE,
        help="Use the library's blocking session instead of the async one.",
    ),
]
ReconnectOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--reconnect",
        rich_help_panel=_SERVICE,
        help="Make a new connection when one is lost, and send again what is missing.",
    ),
]
ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        rich_help_panel=_SERVICE,
        show_default=False,
        help="JSON file with fields of the configuration. Options override it.",
    ),
]
ClientReferenceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--client-reference-id",
        metavar="TEXT",
        rich_help_panel=_SERVICE,
        show_default=False,
        help="Identifier for your own records, 256 characters at most.",
    ),
]

AudioFormatOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--audio-format",
        metavar="NAME",
        rich_help_panel=_AUDIO,
        show_default=False,
        help="Format of the audio: auto, the default, looks at the file's header (wav, mp3, "
        "flac, ogg, ...); audio without a header needs a name such as pcm_s16le, and the two "
        "options below.",
    ),
]
SampleRateOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--sample-rate",
        metavar="HZ",
        rich_help_panel=_AUDIO,
        show_default=False,
        help="Samples per second, for audio without a header.",
    ),
]
ChannelsOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--num-channels",
        metavar="N",
        rich_help_panel=_AUDIO,
        show_default=False,
        help="Number of channels, for audio without a header.",
    ),
]
SpeedOption: TypeAlias = Annotated[
    float,
    typer.Option(
        "--speed",
        metavar="FACTOR",
        rich_help_panel=_AUDIO,
        help="Seconds of audio to send per second. The Soniox service expects about 1.",
    ),
]
ThrottleOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--throttle/--no-throttle",
        rich_help_panel=_AUDIO,
        help="Send the audio at --speed if its duration is known (wav, and formats without a "
        "header), or as fast as the server takes it.",
    ),
]

ModelOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        rich_help_panel=_RECOGNITION,
        show_default=False,
        help=f"Model to use; {DEFAULT_MODEL} if none is given.",
    ),
]
LanguageHintsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--language-hint",
        metavar="CODE",
        rich_help_panel=_RECOGNITION,
        show_default=False,
        help="Language to expect, such as en. Repeat it for more languages.",
    ),
]
HintsStrictOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--language-hints-strict/--no-language-hints-strict",
        rich_help_panel=_RECOGNITION,
        show_default=False,
        help="Recognize the hinted languages only.",
    ),
]
ContextOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="TEXT",
        rich_help_panel=_RECOGNITION,
        show_default=False,
        help="What the talk is about: topics, names, uncommon words.",
    ),
]
ContextFileOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--context-file",
        metavar="FILE",
        rich_help_panel=_RECOGNITION,
        show_default=False,
        help="The same from a text file, or from a .json file with general, text, terms and "
        "translation_terms.",
    ),
]
DiarizationOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--diarization/--no-diarization",
        rich_help_panel=_RECOGNITION,
        show_default=False,
        help="Tell speakers apart.",
    ),
]
LanguageIdentificationOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--language-identification/--no-language-identification",
        rich_help_panel=_RECOGNITION,
        show_default=False,
        help="Identify the language that is spoken.",
    ),
]

EndpointDetectionOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--endpoint-detection/--no-endpoint-detection",
        rich_help_panel=_ENDPOINTS,
        show_default=False,
        help="Detect when somebody has finished speaking.",
    ),
]
EndpointDelayOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--max-endpoint-delay-ms",
        metavar="MS",
        rich_help_panel=_ENDPOINTS,
        show_default=False,
        help="Maximum delay of the detection: 500 to 3000 milliseconds.",
    ),
]
EndpointSensitivityOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--endpoint-sensitivity",
        metavar="NUMBER",
        rich_help_panel=_ENDPOINTS,
        show_default=False,
        help="How readily an end is detected: -1.0 to 1.0.",
    ),
]
EndpointLatencyOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--endpoint-latency-adjustment-level",
        metavar="LEVEL",
        rich_help_panel=_ENDPOINTS,
        show_default=False,
        help="Trade-off between speed and accuracy: 0 to 3.",
    ),
]

TranslateToOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--translate-to",
        metavar="CODE",
        rich_help_panel=_TRANSLATION,
        show_default=False,
        help="Translate into this language.",
    ),
]
TranslateBetweenOption: TypeAlias = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--translate-between",
        metavar="CODE CODE",
        rich_help_panel=_TRANSLATION,
        show_default=False,
        help="Translate between two languages, each into the other.",
    ),
]

TraceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        rich_help_panel=_OUTPUT,
        show_default=False,
        help="Record the session to this file, for soniox-rt replay and inspect. The API key is "
        "never in it.",
    ),
]
TraceAudioOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--trace-audio/--no-trace-audio",
        rich_help_panel=_OUTPUT,
        help="Whether the trace holds the audio.",
    ),
]
TraceTextOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--trace-text/--no-trace-text",
        rich_help_panel=_OUTPUT,
        help="Whether the trace holds what was said, and the context.",
    ),
]
SpeakersOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--speakers",
        rich_help_panel=_OUTPUT,
        help="Tell speakers apart, and name them in subtitles too.",
    ),
]
FormatOption: TypeAlias = Annotated[
    OutputFormat,
    typer.Option(
        "--format",
        rich_help_panel=_OUTPUT,
        help="text: one utterance per line. srt, vtt: subtitles. json: a document with utterances, "
        "words and tokens. jsonl: each message of the service, as it arrives. csv, tsv: a table "
        "of utterances.",
    ),
]
OutputOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel=_OUTPUT,
        show_default=False,
        help="Write to this file, while the transcript grows, instead of to standard output.",
    ),
]
TrackOption: TypeAlias = Annotated[
    SubtitleTrack | None,
    typer.Option(
        "--track",
        rich_help_panel=_OUTPUT,
        show_default=False,
        help="Language of subtitles, if there is a translation; both if it is not given.",
    ),
]
