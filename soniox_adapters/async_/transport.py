"""What the async session needs of a byte stream, on whichever event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from soniox_adapters.connecting.proxy import ProxyOption
from soniox_proto import Endpoint

if TYPE_CHECKING:
    import ssl

    from soniox_adapters.async_.tls_stream import TLSStream

__all__ = ["AsyncTransport", "ConnectOptions", "TransportCallbacks"]

WRITE_BUFFER_SIZE: Final = 64 * 1024
"""Bytes that may wait to be written before a sender has to wait."""

CLOSE_GRACE: Final = 1.0
"""Seconds that the last bytes, usually a close frame, may take to be written."""


class TransportCallbacks(Protocol):
    """What a transport calls. None of it waits or raises."""

    def data_received(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        ...

    def eof_received(self) -> None:
        """Note that the stream has ended."""
        ...

    def connection_failed(self, error: OSError) -> None:
        """Note that the stream has failed."""
        ...

    def writing_resumed(self) -> None:
        """Note that what waited to be written is written, or never will be."""
        ...

    def transport_closed(self) -> None:
        """Note that the stream's resources are given back."""
        ...


@dataclass(slots=True)
class ConnectOptions:
    """How to open a stream."""

    endpoint: Endpoint
    timeout: float | None
    ssl_context: ssl.SSLContext | None
    proxy: ProxyOption
    transport: object


class AsyncTransport(ABC):
    """One byte stream on one event loop. Everything but `open` and the waits is immediate."""

    __slots__ = ("_callbacks", "_output_full", "_tls", "writing_paused")

    calls_between_checkpoints: ClassVar[int] = 1
    """After how many sends that need not wait `checkpoint` is to be awaited."""

    def __init__(self, callbacks: TransportCallbacks) -> None:
        self._callbacks = callbacks
        # Set once TLS is to be spoken on this stream.
        self._tls: TLSStream | None = None
        self._output_full = False
        self.writing_paused = False
        """Whether so much waits to be written that senders should wait for `writing_resumed`."""

    @property
    @abstractmethod
    def unwritten(self) -> int:
        """Bytes that wait to be written."""

    @abstractmethod
    async def open(self, options: ConnectOptions) -> None:
        """Open the stream.

        Raises `OSError` if that fails, `TimeoutError` if it takes longer than the options allow.
        """

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write, or keep for writing; nothing, for ``b""``."""

    def write_buffers(self, buffers: list[bytes]) -> None:
        """Write all of the buffers, without joining them where that can be."""
        self.write(b"".join(buffers))

    @abstractmethod
    def pause_reading(self) -> None:
        """Read no more; safe to repeat."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read again; safe to repeat."""

    @abstractmethod
    def close(self) -> None:
        """Close, dropping what the peer does not take at once; safe to repeat."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until the stream's resources are given back, which waits for no peer."""

    @abstractmethod
    def release(self) -> None:
        """Give the stream's resources back after the event loop has ended."""

    @abstractmethod
    async def checkpoint(self) -> None:
        """Let other tasks run, or do so once in a while, and notice cancellation."""

    # Inside

    @abstractmethod
    def _write_ciphertext(self, data: bytes) -> None:
        """Do as `write` with what TLS made."""

    def _encrypted(self, tls: TLSStream, data: bytes) -> bytes:
        ciphertext = tls.send(data)
        if tls.blocked:
            self._update_writing()
        return ciphertext

    def _ciphertext_received(self, tls: TLSStream, data: bytes | memoryview) -> None:
        """Decrypt what has arrived and hand it on, then how it ended, if it did."""
        plaintext = tls.receive(data)
        # The answer to a change of keys, for example.
        self._write_ciphertext(tls.data_to_send())
        if plaintext:
            self._callbacks.data_received(plaintext)
        if tls.error is not None:
            self._callbacks.connection_failed(tls.error)
        elif tls.ended:
            self._callbacks.eof_received()
        self._update_writing()

    def _update_writing(self) -> None:
        """Have senders wait or go on, as what waits to be written demands."""
        paused = self._output_full or (self._tls is not None and self._tls.blocked)
        if paused is self.writing_paused:
            return
        self.writing_paused = paused
        if not paused:
            self._callbacks.writing_resumed()
