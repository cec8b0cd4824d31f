"""TLS without I/O: ciphertext and plaintext in, plaintext and ciphertext out.

The TLS of an event loop stops reading as soon as a write fails, and whatever the server said
before that is lost. With TLS as a layer of its own above the plain connection, the transport
decides: it reads and decrypts everything that has arrived, then reports the failure.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Final

__all__ = ["TLSStream"]

RECORD_SIZE: Final = 16 * 1024
"""Bytes of plaintext that one record holds at most (RFC 8446, section 5.1)."""


class TLSStream:
    """The client's side of TLS on one connection.

    After every call, write `data_to_send` (`send` returns it). No call raises for what the peer
    did: look at `error` and `ended` once the plaintext that came before has been handled.
    """

    __slots__ = (
        "_incoming",
        "_object",
        "_outgoing",
        "_unsent",
        "ended",
        "error",
        "handshake_complete",
    )

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        # Plaintext that cannot be encrypted before the peer has done its part of a renegotiation.
        self._unsent = b""
        self.handshake_complete = False
        self.ended = False
        """Whether the peer has ended the stream."""
        self.error: OSError | None = None
        """Why the stream failed, if it did."""
        self._continue_handshake()

    @property
    def blocked(self) -> bool:
        """Whether what was sent last waits for the peer to go on with a renegotiation."""
        return bool(self._unsent)

    def data_to_send(self) -> bytes:
        """Return the ciphertext to write now, ``b""`` when there is none."""
        return self._outgoing.read()

    def send(self, data: bytes) -> bytes:
        """Encrypt `data` and return the ciphertext to write now."""
        if data and self.error is None:
            self._unsent = self._encrypt(self._unsent + data if self._unsent else data)
        return self._outgoing.read()

    def receive(self, ciphertext: bytes | memoryview) -> bytes:
        """Take ciphertext, cut anywhere, and return the plaintext that it completes."""
        if self.ended or self.error is not None:
            return b""
        self._incoming.write(ciphertext)
        if not self.handshake_complete:
            self._continue_handshake()
            if not self.handshake_complete:
                return b""
        plaintext = self._decrypt()
        if self._unsent and self.error is None:
            self._unsent = self._encrypt(self._unsent)
        return plaintext

    def receive_eof(self) -> None:
        """Take the end of the connection underneath."""
        if self.handshake_complete or self.error is not None:
            # Servers commonly leave out the closing alert; WebSocket has its own close frame.
            self.ended = True
        else:
            self.error = ConnectionResetError(
                "the server closed the connection during the TLS handshake"
            )

    def close(self) -> None:
        """End our side: queue the closing alert, if there is anything to close."""
        # It would like to wait for the peer's alert, which nobody needs.
        with suppress(ssl.SSLError):
            self._object.unwrap()

    def _continue_handshake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self.error = error
        else:
            self.handshake_complete = True

    def _decrypt(self) -> bytes:
        read, incoming, pending = self._object.read, self._incoming, self._object.pending
        pieces: list[bytes] = []
        try:
            while piece := read(RECORD_SIZE):
                pieces.append(piece)
                # Asking takes less time than an exception that says nothing is left.
                if not (incoming.pending or pending()):
                    break
            else:
                self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except OSError as error:
            self.error = error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _encrypt(self, data: bytes) -> bytes:
        """Encrypt what can be encrypted now, and return the rest."""
        write = self._object.write
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[write(rest) :]
        except ssl.SSLWantReadError:
            return bytes(rest)
        except OSError as error:
            self.error = error
        return b""
