"""What becomes of an attempt that the session has given up, wherever it has got to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import websocket

from soniox_adapters.connecting.upgrading import AbandonedError, Upgrading
from tests.support.adapters.server import PATIENCE
from tests.support.core.client import Client


@pytest.fixture
def upgrading() -> Upgrading:
    return Upgrading(Client().connection.upgrade_request, 0)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        far.settimeout(PATIENCE)
        yield near, far


def test_it_does_not_begin(upgrading: Upgrading) -> None:
    upgrading.abandon()
    with pytest.raises(AbandonedError):
        upgrading.begin(secure=False)


def test_a_socket_that_comes_later_is_closed(upgrading: Upgrading) -> None:
    upgrading.begin(secure=False)
    made = upgrading.make(websocket.WebSocket, {})
    upgrading.abandon()
    assert 0 < made.gettimeout() < 1, "nothing may take long any more"
    near, far = socket.socketpair()
    with far:
        with pytest.raises(AbandonedError):
            made.sock = near
        assert near.fileno() == -1
        assert far.recv(1) == b""


def test_nothing_is_sent_on_a_socket_that_is_there(
    upgrading: Upgrading, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    upgrading.begin(secure=False)
    made = upgrading.make(websocket.WebSocket, {})
    made.sock = near
    assert made.sock.send(b"x") == 1
    upgrading.abandon()
    with pytest.raises(AbandonedError):
        made.sock.send(b"y")
    assert far.recv(2) == b"x"
    assert far.recv(1) == b""


def test_a_socket_that_only_a_function_knows_is_shut_down(
    upgrading: Upgrading, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, _ = ends
    begun = threading.Event()

    def connect() -> None:
        connecting = near  # As in websocket-client, whose functions alone know it.
        upgrading.begin(secure=False)
        begun.set()
        assert connecting.recv(1) == b""

    thread = threading.Thread(target=connect)
    thread.start()
    assert begun.wait(PATIENCE)
    upgrading.abandon()
    thread.join(PATIENCE)
    assert not thread.is_alive()
