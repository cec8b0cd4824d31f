"""What the async session needs of a byte stream, whichever event loop it is on.

asyncio calls back when bytes arrive; trio and anyio have tasks that await them. Without a common
interface the session would be written twice, or asyncio would pay for tasks that it does not need.

Transports therefore push: they call `TransportCallbacks` with what arrives, and take output at
once. `write` is not async on purpose. An await between the core making bytes and their being
written would let the bytes of another task overtake them, and a cancellation there would lose part
of a frame. Senders wait afterwards, if `writing_paused` says so.

TLS sits above the transport's plain bytes (`tls_stream.py`), so each transport handles ciphertext
in the same way, with the shared methods below.
"""

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
"""Unwritten bytes above which senders have to wait."""

CLOSE_GRACE: Final = 1.0
"""Seconds that the last steps of a close may take, such as writing a close frame."""


class TransportCallbacks(Protocol):
    """What a transport calls. No callback waits or raises."""

    def data_received(self, data: bytes) -> None:
        """Handle bytes that have arrived."""
        ...

    def eof_received(self) -> None:
        """Handle the end of the stream."""
        ...

    def connection_failed(self, error: OSError) -> None:
        """Handle a failure of the stream, after everything that arrived before it."""
        ...

    def writing_resumed(self) -> None:
        """Let senders go on: enough output has been written, or none ever will be."""
        ...

    def transport_closed(self) -> None:
        """Handle the release of the stream's resources, after which nothing more is called."""
        ...


@dataclass(slots=True)
class ConnectOptions:
    """How to open a stream."""

    endpoint: Endpoint
    timeout: float | None
    """Seconds; None for no limit."""
    ssl_context: ssl.SSLContext | None
    proxy: ProxyOption
    transport: object
    """A stream of the user's to run on; None to connect by TCP."""


class AsyncTransport(ABC):
    """One byte stream on one event loop. Only the async methods wait."""

    __slots__ = ("_callbacks", "_output_full", "_tls", "writing_paused")

    calls_between_checkpoints: ClassVar[int] = 1
    """Number of sends without a wait after which the session awaits `checkpoint`."""

    def __init__(self, callbacks: TransportCallbacks) -> None:
        self._callbacks = callbacks
        # None for a plain stream, and for one that brings TLS of its own.
        self._tls: TLSStream | None = None
        self._output_full = False
        self.writing_paused = False
        """Whether so much is unwritten that senders should wait for `writing_resumed`."""

    @property
    @abstractmethod
    def unwritten(self) -> int:
        """Bytes that wait to be written."""

    @abstractmethod
    async def open(self, options: ConnectOptions) -> None:
        """Open the stream: connect if none is given, and set up TLS if the endpoint asks for it.

        Raises `OSError` if that fails, `TimeoutError` if it takes longer than the options allow.
        """

    def hand_over(self, callbacks: TransportCallbacks) -> None:
        """Let somebody else use the open stream, with `callbacks` for what happens from now on."""
        self._callbacks = callbacks

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write at once what the kernel takes, and keep the rest; failures go to the callbacks."""

    def write_buffers(self, buffers: list[bytes]) -> None:
        """Write several buffers, without copying them into one where possible."""
        self.write(b"".join(buffers))

    @abstractmethod
    def pause_reading(self) -> None:
        """Stop reading; safe to repeat."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Start reading again; safe to repeat."""

    @abstractmethod
    def close(self) -> None:
        """Begin to close; unwritten output gets at most `CLOSE_GRACE` seconds. Safe to repeat."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until the stream's resources are released. Never depends on the peer."""

    @abstractmethod
    def release(self) -> None:
        """Release the stream's resources after its event loop has ended."""

    @abstractmethod
    async def checkpoint(self) -> None:
        """Check for cancellation, and let other tasks run, if not on every call."""

    # Inside

    @abstractmethod
    def _write_ciphertext(self, data: bytes) -> None:
        """Write bytes as `write` does, without encrypting them."""

    def _encrypted(self, tls: TLSStream, data: bytes) -> bytes:
        ciphertext = tls.send(data)
        if tls.blocked:
            self._update_writing()
        return ciphertext

    def _ciphertext_received(self, tls: TLSStream, data: bytes | memoryview) -> None:
        """Decrypt what has arrived and pass it on, followed by the end or the failure, if any."""
        plaintext = tls.receive(data)
        # TLS may have to answer on its own, for example to a key update.
        self._write_ciphertext(tls.data_to_send())
        if plaintext:
            self._callbacks.data_received(plaintext)
        if tls.error is not None:
            self._callbacks.connection_failed(tls.error)
        elif tls.ended:
            self._callbacks.eof_received()
        self._update_writing()

    def _update_writing(self) -> None:
        """Make senders wait or go on, depending on how much is unwritten."""
        paused = self._output_full or (self._tls is not None and self._tls.blocked)
        if paused is self.writing_paused:
            return
        self.writing_paused = paused
        if not paused:
            self._callbacks.writing_resumed()
