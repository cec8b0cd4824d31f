"""Starts a fuzz target under atheris, which need not be installed for anything else."""

from __future__ import annotations

import importlib
import sys

__all__ = ["fuzz"]

INSTRUMENTED = ("soniox_proto", "wsproto")


def fuzz(target: str) -> None:
    """Run `check` of the module `target` with the options of libFuzzer from the command line."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed; pip install atheris (Linux or macOS, CPython)")
    # They are imported already, but without the counters that show what an input reaches.
    for name in list(sys.modules):
        if name.split(".")[0] in INSTRUMENTED or name.startswith("tests."):
            del sys.modules[name]
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        module = importlib.import_module(target)
    atheris.Setup(sys.argv, module.check)
    atheris.Fuzz()
