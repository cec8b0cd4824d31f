"""A server for your own machine that speaks the protocol of the service, and its recognizers.

For tests, demos and offline work: point any client at `LocalServer.url`.
"""

from soniox_adapters.server.local_server import LocalServer, run_in_thread
from soniox_adapters.server.pocketsphinx_recognizer import (
    PocketsphinxRecognizer,
    load_pocketsphinx,
    pocketsphinx_installed,
)
from soniox_adapters.server.recognizer import AudioDecodeError, Recognizer, RecognizerFactory
from soniox_adapters.server.recognizer_process import OwnProcess
from soniox_adapters.server.scripted_recognizer import (
    Script,
    ScriptedRecognizer,
    load_script,
    scripted,
)
from soniox_proto.server_faults import (
    Drop,
    Fault,
    HalfOpen,
    RefuseUpgrade,
    SessionLimit,
    Stall,
    Unavailable,
    parse_fault,
)

__all__ = [
    "AudioDecodeError",
    "Drop",
    "Fault",
    "HalfOpen",
    "LocalServer",
    "OwnProcess",
    "PocketsphinxRecognizer",
    "Recognizer",
    "RecognizerFactory",
    "RefuseUpgrade",
    "Script",
    "ScriptedRecognizer",
    "SessionLimit",
    "Stall",
    "Unavailable",
    "load_pocketsphinx",
    "load_script",
    "parse_fault",
    "pocketsphinx_installed",
    "run_in_thread",
    "scripted",
]
