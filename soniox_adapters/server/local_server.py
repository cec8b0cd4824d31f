"""A server on this machine that speaks the protocol of the service.

It runs in an event loop, or in a thread of its own for code that has no event loop::

    async with LocalServer() as server:
        ...  # clients connect to server.url

    with run_in_thread(LocalServer()) as server:
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import ssl
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Literal

from anyio.from_thread import start_blocking_portal
from typing_extensions import Self

from soniox_adapters.server.client_session import ClientSession
from soniox_adapters.server.pocketsphinx_recognizer import (
    PocketsphinxRecognizer,
    pocketsphinx_installed,
)
from soniox_adapters.server.recognizer import RecognizerFactory
from soniox_adapters.server.recognizer_process import OwnProcess
from soniox_adapters.server.scripted_recognizer import scripted
from soniox_adapters.server.server_context import ServerContext
from soniox_proto import (
    APIKey,
    Authentication,
    RealtimeSTTServerConnection,
    SonioxConnectionError,
    SonioxStateError,
    SonioxValidationError,
)
from soniox_proto.server_faults import Fault, FaultPlan

__all__ = ["LocalServer", "run_in_thread"]

logger = logging.getLogger(__name__)

_DEFAULT_SCRIPT: Final = (
    "This is the local server with its scripted recognizer. "
    "It does not listen, it plays this text as your audio comes in. "
    "Install soniox-proto with the extra local, and it will hear what you say."
)

_DEFAULT_MAX_DURATION: Final = 300 * 60.0
"""Seconds: the limit of the service."""

_DEFAULT_MAX_QUEUED_AUDIO: Final = 1024 * 1024
"""Bytes: half a minute of 16 kHz speech."""

_DEFAULT_MAX_MESSAGE_SIZE: Final = 16 * 1024 * 1024
"""Bytes: minutes of audio in one message."""

_DEFAULT_MAX_PROCESSES: Final = 4
"""With pocketsphinx these take half a gigabyte."""

_DEFAULT_ANSWER_DELAY: Final = 0.18
"""Seconds. The service answers a finalize in about 180 ms, the end of the audio in 130 to 190 ms
(measured by users)."""

_LISTEN_BACKLOG: Final = 1024
"""Connections that may wait to be accepted when very many come at once."""

_DEFAULT_STOP_TIMEOUT: Final = 5.0
"""Seconds that `stop` waits for clients if `close_timeout` sets no limit."""

_ABORT_TIMEOUT: Final = 1.0
"""Seconds that an aborted session may take to end."""


class LocalServer:
    """An asyncio WebSocket server that answers as the service does, with a recognizer of yours.

    An async context manager that can be used once; `start` and `stop` do the same by hand. Every
    path is served, and every upgrade is accepted: like the service, the server reports what is
    wrong with a request in an error message. Recognizers work in threads, with one call per stream
    at a time. While a recognizer is behind, up to `max_queued_audio` bytes wait for it; then the
    server stops reading from that client until half of that is done.

    Args:
        recognizer: Makes the recognizer of each stream: a `RecognizerFactory`, `"pocketsphinx"`
            (in separate processes, because it holds the interpreter's lock) or `"scripted"` (a
            fixed text). None means pocketsphinx if it is installed, else scripted.
        host: Address or name to listen on; `""` means every address of this machine.
        port: TCP port to listen on; 0 picks a free one.
        api_key: Key that clients must send; None accepts all clients.
        ssl_context: Context of a TLS server; None means no TLS.
        connect_timeout: Seconds for the upgrade request, and for the TLS handshake; None for no
            limit, here and below.
        start_timeout: Seconds from the upgrade to the start message (then 408), or None.
        idle_timeout: Seconds without audio or keepalive (then 408), or None. A client that does not
            read its results for that long is disconnected.
        close_timeout: Seconds that a client may take to answer a close frame, or None.
        max_connections: Maximum number of concurrent sessions (beyond: 429), or None.
        max_streams: Maximum number of concurrent streams (beyond: 429), or None. `"auto"` means 4
            if each stream has its own process, as with pocketsphinx, else no limit.
        max_duration_seconds: Maximum audio of one stream in seconds, as counted by its recognizer
            (beyond: 413).
        max_message_size: Maximum size of a received message in bytes.
        max_queued_audio: Bytes that may wait for the recognizer of one stream.
        recognizer_threads: Maximum number of recognizers working at the same time; None means a few
            more than there are processors.
        answer_delay: Seconds from a finalize or the end of the audio to its answer, unless the
            recognizer takes longer. By default about what users have measured on the service.
        faults: What goes wrong, to test clients: each connection gets the next fault. See `Drop`,
            `Unavailable`, `Stall`, `HalfOpen`, `RefuseUpgrade` and `SessionLimit`.

    Raises:
        SonioxValidationError: An option is out of range, the key cannot be sent in a header, or
            pocketsphinx is asked for but not installed.
    """

    def __init__(
        self,
        *,
        recognizer: RecognizerFactory | Literal["pocketsphinx", "scripted"] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout: float | None = 10.0,
        start_timeout: float | None = 20.0,
        idle_timeout: float | None = 20.0,
        close_timeout: float | None = 5.0,
        max_connections: int | None = None,
        max_streams: int | Literal["auto"] | None = "auto",
        max_duration_seconds: float = _DEFAULT_MAX_DURATION,
        max_message_size: int = _DEFAULT_MAX_MESSAGE_SIZE,
        max_queued_audio: int = _DEFAULT_MAX_QUEUED_AUDIO,
        recognizer_threads: int | None = None,
        answer_delay: float = _DEFAULT_ANSWER_DELAY,
        faults: Sequence[Fault] = (),
    ) -> None:
        if not 0 <= port <= 65_535:
            raise SonioxValidationError(f"port must be 0 to 65535, not {port!r}")
        at_least_1 = {
            "max_connections": max_connections,
            "max_streams": None if max_streams == "auto" else max_streams,
            "max_queued_audio": max_queued_audio,
            "recognizer_threads": recognizer_threads,
        }
        for name, value in at_least_1.items():
            if value is not None and value < 1:
                raise SonioxValidationError(f"{name} must be 1 or more, not {value!r}")
        if not max_duration_seconds > 0:
            raise SonioxValidationError(
                f"max_duration_seconds must be greater than zero, not {max_duration_seconds!r}"
            )
        if not 0 <= answer_delay < math.inf:
            raise SonioxValidationError(
                f"answer_delay must be a number of seconds, 0 or more, not {answer_delay!r}"
            )
        new_connection = functools.partial(
            RealtimeSTTServerConnection,
            connect_timeout=connect_timeout,
            start_timeout=start_timeout,
            idle_timeout=idle_timeout,
            close_timeout=close_timeout,
            max_message_size=max_message_size,
        )
        # Makes the core check its options now, not when the first client connects.
        new_connection()
        self._host = host
        self._requested_port = port
        self._ssl_context = ssl_context
        self._connect_timeout = connect_timeout
        self._stop_timeout = (close_timeout or _DEFAULT_STOP_TIMEOUT) + _ABORT_TIMEOUT
        self._executor = ThreadPoolExecutor(
            recognizer_threads, thread_name_prefix="soniox-recognizer"
        )
        factory = _recognizer_factory(recognizer)
        self._own_process: OwnProcess | None = None
        if isinstance(factory, OwnProcess) and factory is not recognizer:
            # Otherwise the caller made it, and is the one to preload and close it.
            self._own_process = factory
        if max_streams == "auto":
            max_streams = _DEFAULT_MAX_PROCESSES if isinstance(factory, OwnProcess) else None
        self._context = ServerContext(
            new_connection=new_connection,
            recognizer=factory,
            executor=self._executor,
            api_key=None if api_key is None else APIKey.checked(api_key, Authentication.HEADER),
            idle_timeout=idle_timeout,
            max_connections=max_connections,
            max_streams=max_streams,
            max_duration_seconds=max_duration_seconds,
            max_queued_audio=max_queued_audio,
            answer_delay=answer_delay,
            faults=FaultPlan(faults),
        )
        self._started = False
        self._listener: asyncio.Server | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        """TCP port that the server listens on. Raises `SonioxStateError` before `start`."""
        if self._port is None:
            raise SonioxStateError("the server has no port before it is started")
        return self._port

    @property
    def url(self) -> str:
        """URL for clients on this machine. Raises `SonioxStateError` before `start`."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        scheme = "ws" if self._ssl_context is None else "wss"
        literal = f"[{host}]" if ":" in host else host
        return f"{scheme}://{literal}:{self.port}/transcribe-websocket"

    @property
    def connections(self) -> int:
        """Number of clients, including those whose recognizer is still being closed."""
        return len(self._context.sessions)

    @property
    def sessions_served(self) -> int:
        """Number of sessions that have had their finished response."""
        return self._context.sessions_served

    async def start(self) -> None:
        """Load pocketsphinx, if it was chosen by name or by default, and begin to listen.

        Raises:
            SonioxStateError: The server has been started before.
            SonioxConnectionError: It cannot listen there, for example because the port is in use.
            SonioxError: pocketsphinx cannot be loaded.
        """
        if self._started:
            raise SonioxStateError("a LocalServer runs once; make a new one")
        self._started = True
        try:
            if self._own_process is not None:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._executor, self._own_process.preload)
            listener = await self._listen(self._requested_port)
            ports = _ports(listener)
            if len(ports) > 1:
                # With port 0 each address got a different port, but the URL needs one for all.
                listener.close()
                listener = await self._listen(ports[0])
            self._listener = listener
        except (OSError, UnicodeError) as error:
            raise SonioxConnectionError(
                f"cannot listen on host {self._host!r}, port {self._requested_port}: {error}; "
                "choose an address of this machine and a port that is free (0 picks one)"
            ) from error
        finally:
            if self._listener is None:
                await self._release([])
        self._port = ports[0]

    async def stop(self) -> None:
        """Close every session with code 1001, and release everything. Safe to repeat.

        Clients have `close_timeout` to answer, then they are disconnected. Processes of recognizers
        are ended, whatever they are doing. A recognizer in a thread that has not returned by then
        is left running in its thread.
        """
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        self._context.stopping = True
        sessions = self._context.sessions
        try:
            # asyncio calls connection_made for clients just accepted in its next iterations.
            for _ in range(3):
                await asyncio.sleep(0)
            for session in list(sessions):
                session.say_goodbye()
            await _wait_until_ended(list(sessions), self._stop_timeout)
        finally:
            await self._release(list(sessions))

    async def _release(self, sessions: Iterable[ClientSession]) -> None:
        try:
            left = [session for session in sessions if not session.ended.done()]
            for session in left:
                session.abort()
            await _wait_until_ended(left, _ABORT_TIMEOUT)
            if self._own_process is not None:
                self._own_process.kill()
                await _wait_for_calls(left, _ABORT_TIMEOUT)
        finally:
            busy = sum(session.running_call is not None for session in sessions)
            if busy:
                logger.warning("%d recognizers did not return; their threads are left", busy)
            self._executor.shutdown(wait=not busy, cancel_futures=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _listen(self, port: int) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: ClientSession(self._context),
            self._host,
            port,
            ssl=self._ssl_context,
            ssl_handshake_timeout=None if self._ssl_context is None else self._connect_timeout,
            backlog=_LISTEN_BACKLOG,
        )


@contextmanager
def run_in_thread(server: LocalServer) -> Generator[LocalServer, None, None]:
    """Run `server` during a `with` block, in a thread with its own event loop.

    For code that has no event loop, such as tests of blocking clients. Raises what
    `LocalServer.start` raises.
    """
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(server):
        yield server


async def _wait_until_ended(sessions: Iterable[ClientSession], timeout: float) -> None:
    ended = [session.ended for session in sessions]
    if ended:
        await asyncio.wait(ended, timeout=timeout)


async def _wait_for_calls(sessions: Iterable[ClientSession], timeout: float) -> None:
    calls = [call for session in sessions if (call := session.running_call) is not None]
    if calls:
        waiting = asyncio.gather(*map(asyncio.wrap_future, calls), return_exceptions=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(waiting, timeout)


def _ports(listener: asyncio.Server) -> list[int]:
    return list(dict.fromkeys(socket.getsockname()[1] for socket in listener.sockets))


def _recognizer_factory(
    recognizer: RecognizerFactory | Literal["pocketsphinx", "scripted"] | None,
) -> RecognizerFactory:
    if recognizer is None:
        recognizer = "pocketsphinx" if pocketsphinx_installed() else "scripted"
    if recognizer == "scripted":
        return scripted(_DEFAULT_SCRIPT)
    if recognizer == "pocketsphinx":
        if not pocketsphinx_installed():
            raise SonioxValidationError(
                "the recognizer 'pocketsphinx' is not installed; install it with: "
                "pip install 'soniox-proto[local]', or choose 'scripted'"
            )
        return OwnProcess(PocketsphinxRecognizer)
    if isinstance(recognizer, str):
        raise SonioxValidationError(
            f"recognizer must be 'pocketsphinx', 'scripted' or a factory, not {recognizer!r}"
        )
    return recognizer
