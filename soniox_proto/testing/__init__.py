"""Test doubles for code that speaks to Soniox: a scripted server, a clock that jumps, messages.

Everything here is pure: no sockets, no threads, no waiting. A `ScriptedServer` is a conversation
written down; a `Simulation` joins it to a machine of the core. For sessions that run against it,
see `soniox_adapters.testing`. A `FaultPlan` says what a bad network does to a connection.
"""

from soniox_proto.testing.clock import VirtualClock
from soniox_proto.testing.factories import endpoint, error, finished, result, token
from soniox_proto.testing.faults import FAULT_KINDS, Direction, Fault, FaultKind, FaultPlan
from soniox_proto.testing.faulty_channel import FaultyChannel
from soniox_proto.testing.log import LogEntry, ScriptMismatchError
from soniox_proto.testing.recording import RecordedStream
from soniox_proto.testing.replaying import TraceMismatchError, replay
from soniox_proto.testing.script import Cue, Script
from soniox_proto.testing.scripted_connection import ScriptedConnection
from soniox_proto.testing.scripted_server import ScriptedServer
from soniox_proto.testing.simulation import Simulation
from soniox_proto.testing.trace import Trace

__all__ = [
    "FAULT_KINDS",
    "Cue",
    "Direction",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultyChannel",
    "LogEntry",
    "RecordedStream",
    "Script",
    "ScriptMismatchError",
    "ScriptedConnection",
    "ScriptedServer",
    "Simulation",
    "Trace",
    "TraceMismatchError",
    "VirtualClock",
    "endpoint",
    "error",
    "finished",
    "replay",
    "result",
    "token",
]
