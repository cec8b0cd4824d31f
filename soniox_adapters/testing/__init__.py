"""Sessions and clients for tests: the real ones, in memory and in virtual time.

The server is a `ScriptedServer` (`soniox_proto.testing`, whose names are here too). No sockets are
opened, and nothing waits: when every task or thread waits, time jumps.
"""

from soniox_adapters.testing.scripted import (
    ScriptedClient,
    ScriptedSession,
    scripted_client,
    scripted_session,
)
from soniox_proto.testing import (
    Cue,
    LogEntry,
    Script,
    ScriptedConnection,
    ScriptedServer,
    ScriptMismatchError,
    Simulation,
    VirtualClock,
    endpoint,
    error,
    finished,
    result,
    token,
)

__all__ = [
    "Cue",
    "LogEntry",
    "Script",
    "ScriptMismatchError",
    "ScriptedClient",
    "ScriptedConnection",
    "ScriptedServer",
    "ScriptedSession",
    "Simulation",
    "VirtualClock",
    "endpoint",
    "error",
    "finished",
    "result",
    "scripted_client",
    "scripted_session",
    "token",
]
