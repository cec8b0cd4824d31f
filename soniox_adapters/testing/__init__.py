"""Sessions and clients for tests: the real ones, in memory and in virtual time.

The server is a `ScriptedServer` (`soniox_proto.testing`, whose names are here too). No sockets are
opened, and nothing waits: when every task or thread waits, time jumps. A `FaultInjector` is for the
opposite: real connections, on a network that is bad in a known way.
"""

from soniox_adapters.testing.fault_injector import FaultInjector
from soniox_adapters.testing.golden import GoldenTraces
from soniox_adapters.testing.recording import record
from soniox_adapters.testing.scripted import (
    ScriptedClient,
    ScriptedSession,
    scripted_client,
    scripted_session,
)
from soniox_proto.testing import (
    FAULT_KINDS,
    Cue,
    Direction,
    Fault,
    FaultKind,
    FaultPlan,
    FaultyChannel,
    LogEntry,
    RecordedStream,
    Script,
    ScriptedConnection,
    ScriptedServer,
    ScriptMismatchError,
    Simulation,
    Trace,
    TraceMismatchError,
    VirtualClock,
    endpoint,
    error,
    finished,
    replay,
    result,
    token,
)

__all__ = [
    "FAULT_KINDS",
    "Cue",
    "Direction",
    "Fault",
    "FaultInjector",
    "FaultKind",
    "FaultPlan",
    "FaultyChannel",
    "GoldenTraces",
    "LogEntry",
    "RecordedStream",
    "Script",
    "ScriptMismatchError",
    "ScriptedClient",
    "ScriptedConnection",
    "ScriptedServer",
    "ScriptedSession",
    "Simulation",
    "Trace",
    "TraceMismatchError",
    "VirtualClock",
    "endpoint",
    "error",
    "finished",
    "record",
    "replay",
    "result",
    "scripted_client",
    "scripted_session",
    "token",
]
