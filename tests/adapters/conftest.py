from __future__ import annotations

import os
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.adapter_sessions import ALL_KINDS, Kind

# Threads that stay for a while on purpose: the ticker, and idle workers of trio and anyio.
_LASTING_THREADS = ("soniox-ticker", "Trio thread", "AnyIO worker", "asyncio_")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "SONIOX_API_KEY":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """Fail a test that leaves a socket or a thread behind."""
    sockets, threads = _open_sockets(), _own_threads()
    yield
    assert _own_threads() <= threads, "a thread was left running"
    assert len(_open_sockets()) <= len(sockets), "a socket was left open"


def _own_threads() -> set[threading.Thread]:
    return {
        thread for thread in threading.enumerate() if not thread.name.startswith(_LASTING_THREADS)
    }


def _open_sockets() -> set[str]:
    if sys.platform != "linux":
        return set()
    found: set[str] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # The descriptor of the listing itself.
        if target.startswith("socket:"):
            found.add(target)
    return found


@pytest.fixture(params=ALL_KINDS, ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every kind of session."""
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody else trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """TLS settings of a server at `localhost`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """TLS settings of a client that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Libraries that run `async def` tests."""
    assert isinstance(request.param, str)
    return request.param
