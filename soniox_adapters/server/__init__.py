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

__all__ = [
    "AudioDecodeError",
    "LocalServer",
    "OwnProcess",
    "PocketsphinxRecognizer",
    "Recognizer",
    "RecognizerFactory",
    "Script",
    "ScriptedRecognizer",
    "load_pocketsphinx",
    "load_script",
    "pocketsphinx_installed",
    "run_in_thread",
    "scripted",
]
