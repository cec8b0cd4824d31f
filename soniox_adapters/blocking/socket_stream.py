"""A non-blocking socket, with one set of results for plain TCP, TLS and sockets of the user's.

"Nothing there yet" is an exception on every kind of socket, a different one on each, and the end
of a TLS stream has three forms. The rest of the session sees bytes, None, or `OSError`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Final

__all__ = ["SocketStream"]

READ_SIZE: Final = 64 * 1024

MAX_BUFFERS: Final = 16
"""Maximum number of buffers in one write. POSIX guarantees this many (`IOV_MAX`)."""


class SocketStream:
    """Reads and writes without blocking. One thread at a time; any number may poll `fileno()`."""

    __slots__ = ("_custom", "_socket", "read_waits_for_write", "write_waits_for_read")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        # The user's own subclass, whose methods may raise anything.
        self._custom = type(connected) not in {socket.socket, ssl.SSLSocket}
        # TLS may have to write before it can read, and the other way round (key updates). Polling
        # has to wait for the event that TLS needs, not for the one that the caller asked for.
        self.read_waits_for_write = False
        self.write_waits_for_read = False

    @property
    def secure(self) -> bool:
        """Whether this is TLS."""
        return isinstance(self._socket, ssl.SSLSocket)

    def read(self, size: int = READ_SIZE) -> bytes | None:
        """Return what has arrived, ``b""`` at the end of the stream, None if nothing has.

        Raises `OSError` if the connection failed.
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
            # Many servers leave out TLS's closing alert. That is no loss here: WebSocket's close
            # frame already tells a complete stream from a truncated one.
            return b""
        except Exception as error:
            self._raise_custom(error)
            raise

    def has_more(self, data: bytes, size: int = READ_SIZE) -> bool:
        """Return whether another read may give more, just after a read of `size` gave `data`.

        TLS decrypts whole records, so bytes may be left that polling the socket would not show.
        """
        if isinstance(self._socket, ssl.SSLSocket):
            return self._socket.pending() > 0
        return len(data) == size

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write as much as the kernel takes, and return how many bytes that was.

        Raises `OSError` if the connection failed.
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
        """Write several buffers as `write` does, without copying them into one where possible."""
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
        """Shut the connection down in both directions, which wakes the threads that poll it."""
        # Not SSLSocket.shutdown, which would drop TLS state that another thread may be using. An
        # error means that the peer was first.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        try:
            self._socket.close()
        except Exception:
            if not self._custom:
                raise
            # The user's own close failed, but the session is over, so the descriptor has to go.
            socket.socket.close(self._socket)

    def fileno(self) -> int:
        """Return the descriptor, for a selector; -1 once it is closed."""
        return self._socket.fileno()

    def _raise_custom(self, error: Exception) -> None:
        """Turn anything that the user's own socket class raised into an `OSError`."""
        if self._custom:
            raise OSError(str(error) or repr(error)) from error
