"""A server on 127.0.0.1 that does exactly what a test tells it to, right or wrong.

Each connection runs a script, a function of its `Peer`, in a thread of its own.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeAlias

from tests.support.adapters.peer import PATIENCE, ClientLeftError, Peer
from tests.support.core.frames import Opcode
from tests.support.core.messages import FINISHED

__all__ = ["PATIENCE", "ClientLeftError", "FakeServer", "Peer", "Script", "obliging", "silent"]

PATH: Final = "/transcribe-websocket"

Script: TypeAlias = Callable[[Peer], None]
"""What a server does with one connection."""


def obliging(peer: Peer) -> None:
    """Do what the service does with audio that holds no speech."""
    peer.start()
    while (frame := peer.read()).opcode is not Opcode.CLOSE:
        if not frame.payload:
            peer.say(FINISHED)
            peer.close()
    peer.close()
    peer.read_to_the_end()


def silent(peer: Peer) -> None:
    """Accept, read everything, answer pings and the close frame; say nothing else."""
    peer.start()
    peer.read_to_the_end()


class FakeServer:
    """Listens while it is entered. The scripts are for the first connections, the last for more.

    Leaving waits for the scripts and raises what they raised, `ClientLeftError` excepted.
    """

    def __init__(
        self,
        *scripts: Script,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._scripts = scripts
        self._tls = tls
        self._buffers = {socket.SO_RCVBUF: receive_buffer, socket.SO_SNDBUF: send_buffer}
        self._host = host
        self._over = threading.Event()
        self._accepted = threading.Condition()
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket
        self.port = 0

    @property
    def url(self) -> str:
        """URL for a session."""
        return f"{'wss' if self._tls else 'ws'}://{self._host}:{self.port}{PATH}"

    @property
    def connections(self) -> int:
        """How many connections came so far."""
        return len(self._peers)

    def peer(self, index: int = 0) -> Peer:
        """Return the peer of a connection, once it is there."""
        with self._accepted:
            came = self._accepted.wait_for(lambda: len(self._peers) > index, PATIENCE)
            assert came, "no client came"
            return self._peers[index]

    def adopt(self, connected: socket.socket) -> Peer:
        """Run the next script on a socket that is connected already."""
        connected.settimeout(PATIENCE)
        peer = Peer(connected, self._over)
        with self._accepted:
            script = self._scripts[min(len(self._peers), len(self._scripts) - 1)]
            self._peers.append(peer)
            self._accepted.notify_all()
        thread = threading.Thread(target=self._run, args=(peer, script), name="fake-server-script")
        self._threads.append(thread)
        thread.start()
        return peer

    def __enter__(self) -> FakeServer:
        self._listener = socket.socket()
        for option, size in self._buffers.items():
            if size is not None:
                self._listener.setsockopt(socket.SOL_SOCKET, option, size)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(256)
        self.port = self._listener.getsockname()[1]
        self._listening = threading.Thread(target=self._listen, name="fake-server")
        self._listening.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        # Wakes the listening thread wherever the platform would not.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._listening.join()
        self._listener.close()
        deadline = time.monotonic() + (PATIENCE if exc_value is None else 0.1)
        for peer, thread in zip(self._peers, self._threads, strict=True):
            if not peer.done.wait(max(0.0, deadline - time.monotonic())):
                peer.failure = AssertionError("the client did not end the connection")
                peer._shut_down()
            thread.join()
        failures = [peer.failure for peer in self._peers if peer.failure is not None]
        if failures and exc_value is None:
            raise failures[0]

    def _listen(self) -> None:
        while True:
            connected, _ = self._listener.accept()
            if self._over.is_set():
                connected.close()
                return
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.adopt(connected)

    def _run(self, peer: Peer, script: Script) -> None:
        try:
            if self._tls is None or peer.accept_tls(self._tls):
                script(peer)
        except ClientLeftError:
            pass
        except BaseException as error:
            peer.failure = error
        finally:
            peer._socket.close()
            peer.done.set()
