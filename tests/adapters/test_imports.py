"""What importing the package loads, and what it exports."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import soniox_adapters
import soniox_proto
import soniox_proto.server

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
    assert "soniox_adapters.blocking.session" in loaded, "the check sees what is loaded"
    assert loaded.isdisjoint(OPTIONAL)


def test_making_clients_and_sessions_loads_nothing_optional() -> None:
    statement = (
        "import soniox_adapters as s; config = s.RealtimeSTTConfig(model='m'); "
        "s.SonioxClient(api_key='k').realtime.stt.connect(config=config); "
        "s.AsyncSonioxClient(api_key='k').realtime.stt.connect(config=config)"
    )
    assert loaded_by(statement).isdisjoint(OPTIONAL)


def test_the_test_kit_loads_nothing_optional() -> None:
    statement = "import soniox_adapters.testing as t; t.scripted_session(t.ScriptedServer())"
    assert loaded_by(statement).isdisjoint({*OPTIONAL, "pytest"})


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


def test_importing_loads_no_event_loop_no_tls_no_websocket_and_no_server() -> None:
    statement = "import soniox_adapters as s; s.RealtimeSTTSession, s.AsyncRealtimeSTTSession"
    not_needed_yet = {"asyncio", "ssl", "anyio", "wsproto", "soniox_proto.server"}
    assert loaded_by(statement).isdisjoint(not_needed_yet)


def test_whoever_has_a_websocket_loads_no_other() -> None:
    statement = "import soniox_proto as s; s.RealtimeSTTProtocol(s.RealtimeSTTConfig(model='m'))"
    assert "wsproto" not in loaded_by(statement)


def test_every_name_can_be_had_by_whoever_asks_for_it_first() -> None:
    for name in ("AudioReceived", "RealtimeSTTConnection", "AsyncSonioxClient"):
        statement = f"from soniox_adapters import {name} as found; import soniox_proto.server"
        assert "soniox_proto.server" in loaded_by(f"{statement}; assert found.__name__ == {name!r}")


def test_everything_can_be_imported_at_once() -> None:
    for package in ("soniox_adapters", "soniox_proto"):
        check = f"import {package}; missing = set({package}.__all__) - set(globals())"
        assert loaded_by(f"from {package} import *; {check}; assert not missing, missing")


@pytest.mark.parametrize("package", [soniox_adapters, soniox_proto])
def test_everything_is_listed(package: ModuleType) -> None:
    assert set(package.__all__) <= set(dir(package))
    check = f"import {package.__name__} as p; assert 'RealtimeSTTConnection' in dir(p)"
    assert "wsproto" not in loaded_by(check)


@pytest.mark.parametrize("package", [soniox_adapters, soniox_proto])
def test_a_name_that_is_not_exported_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nix'"):
        package.nix  # noqa: B018
    assert not hasattr(package, "__nix__")
    with pytest.raises(ImportError):
        exec(f"from {package.__name__} import nix")


@pytest.mark.parametrize("package", [soniox_adapters, soniox_proto])
def test_a_name_is_looked_up_once(package: ModuleType) -> None:
    assert package.StartReceived is vars(package)["StartReceived"]
    assert package.StartReceived is soniox_proto.server.StartReceived
