"""What the sessions of one local server share, and which clients it accepts."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from soniox_adapters.server.recognizer import RecognizerFactory
from soniox_proto import (
    APIKey,
    RealtimeSTTServerConnection,
    RequestRefused,
    StartReceived,
    UpgradeReceived,
)
from soniox_proto.server_faults import FaultPlan

if TYPE_CHECKING:
    from soniox_adapters.server.client_session import ClientSession

__all__ = ["ServerContext"]

_READ_BUFFER_BYTES: Final = 64 * 1024

_TOO_MANY_REQUESTS: Final = "Your organization has exceeded max number of concurrent requests."
"""The service's text for both limits: of connections, and of streams."""

_TEMPORARY_KEY_PREFIXES: Final = ("snx_temp_", "temp:")


def _new_read_buffer() -> memoryview:
    return memoryview(bytearray(_READ_BUFFER_BYTES))


@dataclass(slots=True, eq=False)
class ServerContext:
    """What the sessions of one server share: its options, its threads, and who is connected."""

    new_connection: Callable[[], RealtimeSTTServerConnection]
    """Makes the core of a new session."""
    recognizer: RecognizerFactory
    """Makes the recognizer of a new stream."""
    executor: Executor
    """Threads for the recognizers."""
    api_key: APIKey | None
    """The key that clients must send; None accepts all clients."""
    idle_timeout: float | None
    """Seconds that a client may send nothing, or not read its results; None for no limit."""
    max_connections: int | None
    """Maximum number of concurrent sessions, or None."""
    max_streams: int | None
    """Maximum number of concurrent streams, or None."""
    max_duration_seconds: float
    """Maximum audio of one stream in seconds."""
    max_queued_audio: int
    """Bytes that may wait for one recognizer before the server stops reading from its client."""
    answer_delay: float = 0.0
    """Seconds after which a finalize or the end of the audio is answered, at the earliest."""
    faults: FaultPlan = field(default_factory=lambda: FaultPlan(()))
    """What goes wrong with which connection."""
    stopping: bool = False
    """Whether new clients are disconnected, because the server is stopping."""
    sessions: set[ClientSession] = field(default_factory=lambda: set["ClientSession"]())
    """Sessions whose connection or recognizer is still open."""
    recognizer_slots: AbstractAsyncContextManager[object] = field(init=False)
    """Each stream holds one while it has a recognizer."""
    sessions_served: int = 0
    """Number of sessions that have had their finished response."""
    read_buffer: memoryview = field(default_factory=_new_read_buffer)
    """Shared by all sessions for reading: each copies its bytes out before the next one reads."""

    def __post_init__(self) -> None:
        limit = self.max_streams
        self.recognizer_slots = nullcontext() if limit is None else asyncio.Semaphore(limit)

    def refusal_of_request(self, request: UpgradeReceived) -> RequestRefused | None:
        """Return the error for a client whose upgrade was just accepted; None if it may stay."""
        if request.refusal is not None:
            return request.refusal
        if request.api_key is not None and not self._is_right(request.api_key):
            return _unauthenticated(request.api_key)
        limit = self.max_connections
        if limit is not None and sum(session.active for session in self.sessions) > limit:
            return RequestRefused(429, "max_concurrent_connections_reached", _TOO_MANY_REQUESTS)
        return None

    def refusal_of_start(self, start: StartReceived) -> RequestRefused | None:
        """Return the error for a stream that is about to start; None if it may."""
        if not self._is_right(start.api_key):
            return _unauthenticated(start.api_key)
        limit = self.max_streams
        if limit is not None and sum(session.streaming for session in self.sessions) >= limit:
            return RequestRefused(429, "limit_exceeded", _TOO_MANY_REQUESTS)
        return None

    def _is_right(self, key: APIKey | None) -> bool:
        if self.api_key is None:
            return True
        return key is not None and hmac.compare_digest(_key_bytes(key), _key_bytes(self.api_key))


def _unauthenticated(key: APIKey | None) -> RequestRefused:
    if key is None:
        problem = "Missing API key."
    elif key.reveal().startswith(_TEMPORARY_KEY_PREFIXES):
        problem = "Invalid/expired temporary API key."
    else:
        problem = "Invalid API key."
    return RequestRefused(401, "unauthenticated", problem)


def _key_bytes(key: APIKey) -> bytes:
    # JSON can contain half of a surrogate pair, which strict UTF-8 refuses to encode.
    return key.reveal().encode("utf-8", "surrogatepass")
