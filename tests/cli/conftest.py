"""What the tests of the command line share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from soniox_adapters.server import LocalServer, run_in_thread

from .program import environment
from .servers import scripted_server


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A server that hears "one two" and "three four"."""
    with run_in_thread(scripted_server()) as running:
        yield running
