"""Fixtures for pytest, installed with the package.

It is installed as a module of its own, outside of the packages, because pytest imports its plugins
at every start: nothing but pytest is imported here until a test asks for a fixture.

- `soniox_server`: a `ScriptedServer` in memory, checked at the end of the test.
- `soniox_local_server`: a `LocalServer` on a loopback address, with real recognition where the
  extra `local` is installed. One serves all tests of a run.
- `soniox_trace`: compares recorded sessions with golden traces; `--soniox-update-traces` writes
  them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from soniox_adapters.server import LocalServer
    from soniox_adapters.testing import GoldenTraces, ScriptedServer

__all__ = [
    "pytest_addoption",
    "pytest_runtest_makereport",
    "soniox_local_server",
    "soniox_server",
    "soniox_trace",
]

UPDATE_OPTION = "--soniox-update-traces"


PASSED: pytest.StashKey[bool] = pytest.StashKey()
"""Whether the body of a test ran to its end."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Note whether a test has passed, for the fixtures that it used."""
    if call.when == "call":
        item.stash[PASSED] = call.excinfo is None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes golden traces."""
    parser.getgroup("soniox").addoption(
        UPDATE_OPTION,
        action="store_true",
        help="write the golden traces of the tests that run, instead of comparing with them",
    )


@pytest.fixture
def soniox_server() -> Iterator[ScriptedServer]:
    """A server that follows a script, in memory; the script is checked at the end of the test.

    Connect to it with `scripted_session(soniox_server)` or `scripted_client(soniox_server)` of
    `soniox_adapters.testing`.
    """
    from soniox_adapters.testing import ScriptedServer

    server = ScriptedServer()
    yield server
    server.check()


@pytest.fixture(scope="session")
def soniox_local_server() -> Iterator[LocalServer]:
    """A server at a loopback address that takes any key; its `url` is for any client.

    It recognizes English where the extra `local` is installed, and plays a text elsewhere.
    """
    from soniox_adapters.server import LocalServer, run_in_thread

    with run_in_thread(LocalServer()) as server:
        yield server


@pytest.fixture
def soniox_trace(request: pytest.FixtureRequest) -> Iterator[GoldenTraces]:
    """Golden traces: call it with each session that is to go as it went before.

    The traces are in the folder `traces` beside the test's file, in a folder named after that file,
    and are named after the test. They are compared at the end of the test, or written with
    `--soniox-update-traces`.
    """
    from soniox_adapters.testing import GoldenTraces

    # With the class: another one in the same file may have a test of the same name.
    _, _, name = request.node.nodeid.partition("::")
    golden = GoldenTraces(
        request.path.parent / "traces" / request.path.stem,
        name,
        update=bool(request.config.getoption(UPDATE_OPTION)),
        hint=f"pytest {UPDATE_OPTION} writes it",
    )
    yield golden
    # What a test recorded that failed, or was left by a skip, is no example.
    if request.node.stash.get(PASSED, False):
        golden.check()
