"""What may import what: layers without an arrow upwards, modules without a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

import soniox_adapters
import soniox_proto

LAYERS: Final = (
    # What is said, and when.
    {
        "soniox_proto.retrying",
        "soniox_proto.errors",
        "soniox_proto.options",
        "soniox_proto.latency",
        "soniox_proto.flight_recorder",
    },
    {
        "soniox_proto.endpoint",
        "soniox_proto.credentials",
        "soniox_proto.config",
        "soniox_proto.received_model",
        "soniox_proto.messages",
        "soniox_proto.events",
        "soniox_proto.server_events",
        "soniox_proto.audio_clock",
        "soniox_proto.clock_map",
        "soniox_proto.server_clock",
        "soniox_proto.send_times",
        "soniox_proto.stats",
        "soniox_proto.server_faults",
        "soniox_proto.speech_end",
        "soniox_proto.start_request",
        "soniox_proto.state",
        "soniox_proto.timers",
        "soniox_proto.rendering",
        "soniox_proto.transcript",
        "soniox_proto.upgrade",
        "soniox_proto.wav",
        "soniox_proto.websocket",
    },
    {"soniox_proto.subtitles"},
    {"soniox_proto.writers"},
    # The machines.
    {"soniox_proto.protocol"},
    {"soniox_proto.connection", "soniox_proto.server"},
    {"soniox_proto.stream"},
    {"soniox_proto.wrapped_stream"},
    {"soniox_proto.recovery", "soniox_proto.preconnect"},
    {"soniox_proto"},
    {"soniox_proto.testing"},
    # What moves their bytes.
    {"soniox_adapters.connecting"},
    {"soniox_adapters.session"},
    {"soniox_adapters.async_", "soniox_adapters.blocking"},
    {"soniox_adapters.audio"},
    {"soniox_adapters.client"},
    {"soniox_adapters"},
    {"soniox_adapters.testing"},
    # Programs.
    {"soniox_adapters.server"},
    {"soniox_adapters.cli"},
    {"soniox_adapters.__main__"},
    {"soniox_adapters.testing.plugin.soniox_pytest"},
)
"""From the bottom to the top; a package stands for all of its modules."""

ROOTS: Final = tuple(
    Path(str(package.__file__)).parent for package in (soniox_proto, soniox_adapters)
)


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    name = ".".join(parts[parts.index(path_root(path).name) :])
    return name.removesuffix(".__init__")


def path_root(path: Path) -> Path:
    return next(root for root in ROOTS if path.is_relative_to(root))


MODULES: Final = {module_of(path): path for root in ROOTS for path in sorted(root.rglob("*.py"))}


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run: not those for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for branch in child.orelse if not isinstance(child.test, ast.UnaryOp) else child.body:
                yield branch
                yield from run_time_nodes(branch)
            continue
        yield child
        yield from run_time_nodes(child)


def imports_of(module: str) -> set[str]:
    """Return the modules of ours that a module imports at run time, at once or later."""
    found: set[str] = set()
    for node in run_time_nodes(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & MODULES.keys()) or {node.module}
    return {name for name in found if name in MODULES and name != module}


IMPORTS: Final = {module: imports_of(module) for module in MODULES}


def layer_of(module: str) -> int:
    names = [module]
    while "." in names[-1]:
        names.append(names[-1].rpartition(".")[0])
    return next(index for name in names for index, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("module", MODULES)
def test_no_arrow_points_upwards(module: str) -> None:
    upwards = {name for name in IMPORTS[module] if layer_of(name) > layer_of(module)}
    assert not upwards


def test_there_are_no_circles() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_test_sees_imports() -> None:
    assert "soniox_proto.connection" in IMPORTS["soniox_proto.stream"]
    assert "soniox_adapters.connecting.failures" in IMPORTS["soniox_adapters.session.base"]
    assert (
        "soniox_adapters.blocking.socket_stream" not in IMPORTS["soniox_adapters.blocking.waiting"]
    )
    assert layer_of("soniox_proto.websocket.framing") == layer_of("soniox_proto.websocket")
    assert all(name in MODULES for layer in LAYERS for name in layer)
