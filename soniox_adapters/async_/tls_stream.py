"""TLS without I/O: ciphertext and plaintext in, plaintext and ciphertext out.

An event loop's own TLS stops reading as soon as a write fails, and loses what the server sent
before, such as the error message that explains why it hung up. With TLS as a layer above the plain
connection, the transport can read and decrypt everything that has arrived, and then report the
failure.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Final

__all__ = ["TLSStream"]

RECORD_SIZE: Final = 16 * 1024
"""Maximum bytes of plaintext in one record (RFC 8446, section 5.1)."""


class TLSStream:
    """The client's side of TLS on one connection.

    After every call, write what `data_to_send` returns (`send` returns it itself). No call raises
    because of the peer: check `error` and `ended`, after handling the plaintext that came before.
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
        # Plaintext that cannot be encrypted until the peer has done its part of a renegotiation.
        self._unsent = b""
        self.handshake_complete = False
        self.ended = False
        """Whether the peer has ended the stream."""
        self.error: OSError | None = None
        """Why the stream failed, if it did."""
        self._continue_handshake()

    @property
    def blocked(self) -> bool:
        """Whether the last `send` is stuck until the peer goes on with a renegotiation."""
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
        """Feed ciphertext, split anywhere, and return the plaintext that it completes."""
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
        """Handle the end of the connection underneath."""
        if self.handshake_complete or self.error is not None:
            # Many servers leave out TLS's closing alert. That is no loss here: WebSocket's close
            # frame already tells a complete stream from a truncated one.
            self.ended = True
        else:
            self.error = ConnectionResetError(
                "the server closed the connection during the TLS handshake"
            )

    def close(self) -> None:
        """Queue our closing alert, if the handshake got far enough."""
        # unwrap raises because the peer's alert has not arrived. Nobody needs that one.
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
                # Checking takes less time than catching the exception that says nothing is left.
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
