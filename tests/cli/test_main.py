"""Starting the program, whole and without the packages of its extra."""

from __future__ import annotations

import builtins
import runpy
import sys
from typing import Any

import pytest

import soniox_adapters.cli
from soniox_adapters.cli import main
from soniox_proto import __version__

from .program import ESCAPE, run_program


def without(monkeypatch: pytest.MonkeyPatch, package: str, error: BaseException) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == package:
            raise error
        return original(name, *arguments, **keywords)

    loaded = [
        name
        for name in sys.modules
        if name.startswith("soniox_adapters.cli.") or name.partition(".")[0] == package
    ]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_a_missing_extra_is_told_in_one_line(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, package, ModuleNotFoundError(f"No module {package}", name=package))
    assert main() == 1
    assert capsys.readouterr().err == (
        "soniox-rt: the command line is not installed completely; install it with: "
        "pip install 'soniox-proto[cli]'\n"
    )


def test_another_missing_module_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "typer", ModuleNotFoundError("No module named 'x'", name="x"))
    with pytest.raises(ModuleNotFoundError):
        main()


def test_ctrl_c_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "typer", KeyboardInterrupt())
    assert main() == 130


def test_the_module_is_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("soniox_adapters", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"soniox-rt {__version__}\n"


def test_importing_the_package_needs_no_extra() -> None:
    # The program is imported by `main` alone.
    assert not hasattr(soniox_adapters.cli, "run")


def test_without_arguments_it_shows_its_help() -> None:
    done = run_program()
    assert done.returncode == 0
    assert b"soniox-rt demo" in done.stdout
    assert done.stderr == b""
    assert ESCAPE not in done.stdout


def test_a_usage_error_is_one_line_with_status_2() -> None:
    done = run_program("transcribe", "x.wav", "--speed", "fast")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"soniox-rt: Invalid value for '--speed'")
    assert done.stderr.rstrip().endswith(b"(see: soniox-rt transcribe --help)")
