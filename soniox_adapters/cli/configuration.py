"""Building the configuration of a stream from options and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast, get_args

from soniox_proto import (
    RealtimeSTTConfig,
    RealtimeSTTHeaderFormat,
    RealtimeSTTRawFormat,
    SonioxValidationError,
)

__all__ = ["AUDIO_FORMATS", "DEFAULT_MODEL", "build_config", "read_context"]

DEFAULT_MODEL: Final = "stt-rt-v5"
"""The model if none is chosen."""

AUDIO_FORMATS: Final[tuple[str, ...]] = (
    "auto",
    *get_args(RealtimeSTTHeaderFormat),
    *get_args(RealtimeSTTRawFormat),
)
"""Every audio format that can be declared."""


def build_config(
    options: Mapping[str, object], *, config_file: Path | None = None
) -> RealtimeSTTConfig:
    """Return the configuration in `config_file`, overridden by the options that are not None.

    Raises `SonioxValidationError` if the file cannot be read or the result is invalid.
    """
    values: dict[str, object] = {"model": DEFAULT_MODEL}
    if config_file is not None:
        values |= _read_fields(config_file)
    values |= {name: value for name, value in options.items() if value is not None}
    audio_format = values.get("audio_format", "auto")
    if audio_format not in AUDIO_FORMATS:
        raise SonioxValidationError(
            f"unknown audio format {audio_format!r}; choose one of {', '.join(AUDIO_FORMATS)}"
        )
    try:
        return RealtimeSTTConfig.validate_config(values)
    except SonioxValidationError as error:
        # A class name means nothing to the user of a command line.
        text = str(error).replace(RealtimeSTTConfig.__name__, "configuration")
        text = text.replace("Value error, ", "")
        raise SonioxValidationError(text) from error


def read_context(path: Path) -> Any:
    """Return the context in a file: parsed JSON if its name ends in .json, else text.

    Raises `SonioxValidationError` if the file cannot be read.
    """
    text = _read_text(path)
    return _parse_json(text, path) if path.suffix.lower() == ".json" else text


def _read_fields(path: Path) -> dict[str, object]:
    values = _parse_json(_read_text(path), path)
    if not isinstance(values, dict):
        raise SonioxValidationError(
            f"{path} must hold a JSON object with the fields of the configuration"
        )
    return cast("dict[str, object]", values)


def _parse_json(text: str, path: Path) -> object:
    try:
        return cast("object", json.loads(text))
    except ValueError as error:
        raise SonioxValidationError(f"{path} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise SonioxValidationError(f"{path} is nested too deeply") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SonioxValidationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SonioxValidationError(f"{path} is not UTF-8 text") from error
