"""What importing the package loads, and what it exports."""

from __future__ import annotations

import subprocess
import sys

import soniox_adapters
import soniox_proto

OPTIONAL = (
    "trio",
    "websocket",
    "rich",
    "typer",
    "numpy",
    "pocketsphinx",
    "soundfile",
    "soxr",
    "sounddevice",
    "python_socks",
    "soniox_adapters.cli",
    "soniox_adapters.server",
)


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_loads_nothing_optional() -> None:
    loaded = loaded_by("import soniox_adapters")
    assert "soniox_adapters.blocking" in loaded, "the check sees what is loaded"
    assert loaded.isdisjoint(OPTIONAL)


def test_making_clients_and_sessions_loads_nothing_optional() -> None:
    statement = (
        "import soniox_adapters as s; config = s.RealtimeSTTConfig(model='m'); "
        "s.SonioxClient(api_key='k').realtime.stt.connect(config=config); "
        "s.AsyncSonioxClient(api_key='k').realtime.stt.connect(config=config)"
    )
    assert loaded_by(statement).isdisjoint(OPTIONAL)


def test_running_on_asyncio_does_not_load_trio() -> None:
    statement = (
        "import asyncio, soniox_adapters as s; config = s.RealtimeSTTConfig(model='m'); "
        "session = s.AsyncRealtimeSTTSession('ws://127.0.0.1:1', config, proxy=None);\n"
        "async def use():\n"
        "    try:\n"
        "        await session.enter()\n"
        "    except s.SonioxConnectionError: pass\n"
        "asyncio.run(use())"
    )
    assert loaded_by(statement).isdisjoint(OPTIONAL)


def test_everything_of_the_core_is_exported() -> None:
    assert set(soniox_proto.__all__) <= set(soniox_adapters.__all__)
    for name in soniox_proto.__all__:
        assert getattr(soniox_adapters, name) is getattr(soniox_proto, name)


def test_exports_exist_and_are_unique() -> None:
    assert len(set(soniox_adapters.__all__)) == len(soniox_adapters.__all__)
    for name in soniox_adapters.__all__:
        assert hasattr(soniox_adapters, name)
