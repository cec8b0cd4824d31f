"""Recording sessions, real and scripted ones."""

from __future__ import annotations

from typing import Any

from soniox_adapters.session.base import SessionBase
from soniox_proto import (
    Authentication,
    RealtimeSTTStream,
    RecoveringSTTStream,
    SessionState,
    SonioxValidationError,
)
from soniox_proto.credentials import check_headers
from soniox_proto.preconnect.warm_stream import WarmStream
from soniox_proto.testing import RecordedStream

__all__ = ["record"]


def record(session: SessionBase, *, audio: bool = True, text: bool = True) -> RecordedStream:
    """Record a session from now on; `trace()` of what this returns gives the trace so far.

    API keys are not recorded, nor are the values of additional headers.

    Args:
        session: A session of any kind that has not been entered yet.
        audio: Whether to record the audio, and not only its sizes.
        text: Whether to record what was said, and the context. Without it, every character of the
            transcript becomes an `x`. A session with several connections can then be inspected,
            but not replayed, because what it leaves out depends on the words.

    Raises `SonioxValidationError` if the session was entered before, or uses compression.
    """
    machine = session._machine  # pyright: ignore[reportPrivateUsage]
    if isinstance(machine, WarmStream):
        # What is recorded has to begin with the upgrade, on a connection of its own.
        machine = machine.stream
    options = session._options  # pyright: ignore[reportPrivateUsage]
    if session.state is not SessionState.IDLE or not isinstance(
        machine, (RealtimeSTTStream, RecoveringSTTStream)
    ):
        raise SonioxValidationError("a session can be recorded only before it is entered, and once")
    if options.compression:
        raise SonioxValidationError("a session with compression cannot be recorded")
    authentication = Authentication(options.authentication)
    core_options: dict[str, Any] = {
        "authentication": authentication.value,
        "max_message_size": options.max_message_size,
        "connect_timeout": options.connect_timeout_sec,
        "close_timeout": options.close_timeout_sec,
        "keepalive_interval": options.keepalive_interval_sec,
        "ping_interval": options.ping_interval_sec,
        "ping_timeout": options.ping_timeout_sec,
        "finalize_timeout": options.finalize_timeout_sec,
    }
    if session._key_function is not None:  # pyright: ignore[reportPrivateUsage]
        core_options["asks_for_key"] = True
    endpoint = machine.endpoint
    scheme = "wss" if endpoint.secure else "ws"
    recorded = RecordedStream(
        machine,
        url=f"{scheme}://{endpoint.host_header}{endpoint.target}",
        options=core_options,
        headers=[name for name, _ in check_headers(options.additional_headers, authentication)],
        reconnect=options.reconnect,
        audio=audio,
        text=text,
    )
    session._drive(recorded)  # pyright: ignore[reportPrivateUsage]
    return recorded
