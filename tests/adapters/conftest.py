from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import pytest
import trustme

from soniox_adapters.blocking.waiting import LONGEST_SLEEP
from tests.support.adapters.leaks import join_threads, open_sockets, running_threads
from tests.support.adapters.sessions import ALL_KINDS, Kind


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "SONIOX_API_KEY":
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """Fail a test that leaves a socket or a thread behind."""
    sockets, threads = open_sockets(), running_threads()
    yield
    # One that was told to end takes a moment on a busy machine, and one that was not looks for
    # itself later.
    join_threads(threads, LONGEST_SLEEP - 0.1)
    assert len(open_sockets()) <= len(sockets), "a socket was left open"


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
