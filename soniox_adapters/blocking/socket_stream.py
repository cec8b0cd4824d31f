"""A non-blocking socket, plain or TLS, with one way to read and write."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Final

__all__ = ["SocketStream"]

READ_SIZE: Final = 64 * 1024

MAX_BUFFERS: Final = 16
"""Buffers of one write at most; POSIX promises as many."""


class SocketStream:
    """Reads and writes without blocking. One thread at a time, but any number may `wait`."""

    __slots__ = ("_custom", "_socket", "read_waits_for_write", "write_waits_for_read")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        # A class of the user's, whose methods may raise anything.
        self._custom = type(connected) not in {socket.socket, ssl.SSLSocket}
        # TLS may have to write in order to read, and the other way (key updates).
        self.read_waits_for_write = False
        self.write_waits_for_read = False

    @property
    def secure(self) -> bool:
        """Whether this is TLS."""
        return isinstance(self._socket, ssl.SSLSocket)

    def read(self, size: int = READ_SIZE) -> bytes | None:
        """Return what has arrived, ``b""`` at the end of the stream, None if nothing has.

        Raises `OSError` when the connection failed.
        """
        self.read_waits_for_write = False
        try:
            return self._socket.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError, InterruptedError):
            return None
        except ssl.SSLWantWriteError:
            self.read_waits_for_write = True
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # Servers commonly leave out the closing alert; WebSocket has its own close frame.
            return b""
        except Exception as error:
            self._raise_custom(error)
            raise

    def has_more(self, data: bytes, size: int = READ_SIZE) -> bool:
        """Return whether another read may give more, right after one of `size` gave `data`."""
        if isinstance(self._socket, ssl.SSLSocket):
            return self._socket.pending() > 0
        return len(data) == size

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write what fits and return how many bytes that was.

        Raises `OSError` when the connection failed.
        """
        self.write_waits_for_read = False
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, InterruptedError):
            return 0
        except ssl.SSLWantReadError:
            self.write_waits_for_read = True
            return 0
        except Exception as error:
            self._raise_custom(error)
            raise

    def write_buffers(self, buffers: Sequence[bytes]) -> int:
        """Do as `write` with all of the buffers, without joining them where that can be."""
        if len(buffers) == 1:
            return self.write(buffers[0])
        if isinstance(self._socket, ssl.SSLSocket) or not hasattr(self._socket, "sendmsg"):
            return self.write(b"".join(buffers))
        try:
            return self._socket.sendmsg(buffers[:MAX_BUFFERS])
        except (BlockingIOError, InterruptedError):
            return 0
        except Exception as error:
            self._raise_custom(error)
            raise

    def shutdown(self) -> None:
        """End the connection both ways; whoever waits for it wakes up."""
        # Not SSLSocket.shutdown: it would drop the TLS state that another thread may hold. An
        # error says that the peer was first.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back."""
        try:
            self._socket.close()
        except Exception:
            if not self._custom:
                raise
            # The session is over, whatever the user's own class makes of that.
            socket.socket.close(self._socket)

    def fileno(self) -> int:
        """Return the descriptor, for a selector; -1 once it is closed."""
        return self._socket.fileno()

    def _raise_custom(self, error: Exception) -> None:
        """Raise whatever a class of the user's raised as a failure of the connection."""
        if self._custom:
            raise OSError(str(error) or repr(error)) from error
