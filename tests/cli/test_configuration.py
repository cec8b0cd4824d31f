"""The configuration from options and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soniox_adapters.cli.configuration import DEFAULT_MODEL, build_config, read_context
from soniox_proto import SonioxValidationError


def test_what_is_not_given_is_not_set() -> None:
    config = build_config({"model": None, "sample_rate": None})
    assert config.model_dump(exclude_none=True) == {"model": DEFAULT_MODEL, "audio_format": "auto"}


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    # With a byte order mark, as some editors write it.
    values = {"model": "from-file", "language_hints": ["de"], "enable_endpoint_detection": True}
    file.write_text("\ufeff" + json.dumps(values), encoding="utf-8")
    options = {"model": None, "language_hints": ["en"], "enable_endpoint_detection": False}
    config = build_config(options, config_file=file)
    assert config.model == "from-file"
    assert config.language_hints == ["en"]
    assert config.enable_endpoint_detection is False


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"sample_rat": 1}', "sample_rat: Extra inputs are not permitted"),
        ('{"audio_format": ["wav"]}', "unknown audio format ['wav']; choose one of auto, aac"),
        ('{"audio_format": "pcm_s16le"}', "needs sample_rate and num_channels"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(SonioxValidationError) as caught:
        build_config({}, config_file=file)
    assert problem in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SonioxValidationError, match=r"cannot read .*missing\.json"):
        build_config({}, config_file=tmp_path / "missing.json")
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9")
    with pytest.raises(SonioxValidationError, match="is not UTF-8 text"):
        read_context(file)


def test_context_is_json_where_the_file_is_called_so(tmp_path: Path) -> None:
    text = '{"terms": ["Soniox"]}'
    for name, expected in (("a.txt", text), ("a.JSON", {"terms": ["Soniox"]})):
        file = tmp_path / name
        file.write_text(text)
        assert read_context(file) == expected
