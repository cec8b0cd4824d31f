"""The core does no I/O, reads no clock, draws nothing at random, and is documented."""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import soniox_proto

PACKAGE = Path(soniox_proto.__file__).parent
SOURCES = sorted(PACKAGE.glob("**/*.py"))

IMPURE_MODULES = {
    *("asyncio", "anyio", "trio", "threading", "multiprocessing", "concurrent", "queue"),
    *("select", "selectors", "socket", "ssl", "signal", "subprocess", "websocket", "websockets"),
    *("os", "io", "pathlib", "shutil", "tempfile", "sys", "getpass", "platform"),
    *("time", "datetime", "sched", "random", "secrets", "uuid"),
    *("logging", "http", "h11", "httpx", "requests", "soniox_adapters"),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}

# What is allowed all the same, with its reason.
EXCEPTIONS: dict[str, set[str]] = {
    # The one source of randomness, the same that wsproto draws from; tests replace it. And the
    # masking function in C that comes with websockets, where that is installed: it is pure.
    "websocket/framing.py": {"os", "websockets.speedups"},
}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> set[str]:
    """Return every module that a file imports, at whatever depth of its code."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
    return found


def closure_of(name: str) -> set[str]:
    """Return the modules of the core that a module imports, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += [
            imported.removeprefix("soniox_proto.")
            for imported in imports_of(path_of(module))
            if imported.startswith("soniox_proto.")
        ]
    return found


def path_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
class TestSources:
    def test_import_nothing_impure(self, path: Path) -> None:
        allowed = EXCEPTIONS.get(name_of(path), set())
        impure = {name for name in imports_of(path) if name.partition(".")[0] in IMPURE_MODULES}
        assert impure <= allowed

    def test_call_nothing_impure(self, path: Path) -> None:
        called = {
            node.func.id
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & IMPURE_CALLS

    def test_take_nothing_but_randomness_from_the_system(self, path: Path) -> None:
        attributes = {
            node.attr
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in {"os", "time", "sys"}
        }
        assert attributes <= {"urandom"}

    def test_have_no_mutable_state_of_the_module(self, path: Path) -> None:
        assert not [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Global)]

    def test_say_what_they_are_for(self, path: Path) -> None:
        assert ast.get_docstring(tree_of(path))


def test_the_message_layer_knows_no_websocket() -> None:
    modules = closure_of("protocol")
    assert not modules & {"connection", "server"}
    for module in modules:
        assert not module.startswith("websocket")
        assert "wsproto" not in {name.partition(".")[0] for name in imports_of(path_of(module))}


def test_the_websocket_layer_knows_no_speech() -> None:
    others = {
        module
        for module in closure_of("websocket.connection")
        if not module.startswith("websocket.")
    }
    assert others <= {"options", "errors", "flight_recorder", "retrying"}


def test_wsproto_is_known_to_the_websocket_layer_only() -> None:
    importing = {name_of(path): imports_of(path) for path in SOURCES}
    inside = {file for file, names in importing.items() if any("wsproto." in n for n in names)}
    roles = {file for file, names in importing.items() if "wsproto" in names}
    assert inside == {"websocket/connection.py"}
    allowed = {*inside, "connection.py", "server.py", "testing/simulation.py", "upgrade.py"}
    allowed.add("preconnect/idle_link.py")
    assert roles <= allowed, "for ConnectionType"


def test_importing_the_core_starts_nothing_of_the_adapters() -> None:
    unwanted = ["anyio", "trio", "websocket", "websockets", "rich", "typer", "soniox_adapters"]
    script = f"import sys, soniox_proto; print([n for n in {unwanted} if n in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert answer.stdout.strip() == "[]"


# Documentation


PUBLIC = [name for name in soniox_proto.__all__ if name != "__version__"]
CLASSES = [value for name in PUBLIC if inspect.isclass(value := getattr(soniox_proto, name))]


def test_all_names_exist_once_and_in_order() -> None:
    names = soniox_proto.__all__
    assert len(set(names)) == len(names)
    for name in names:
        assert hasattr(soniox_proto, name)
    public = {
        name
        for name, value in vars(soniox_proto).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(PUBLIC)


def is_documented(value: object) -> bool:
    """Whether `value` has a docstring of its own, not one that Python made up or passed on."""
    text = vars(value).get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)
    made_up = inspect.isclass(value) and str(text).startswith(f"{value.__name__}(")
    return bool(text) and not made_up


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_class_and_function_is_documented(name: str) -> None:
    value = getattr(soniox_proto, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert is_documented(value)


@pytest.mark.parametrize("value", CLASSES, ids=lambda value: value.__name__)
def test_every_public_method_and_property_is_documented(value: type) -> None:
    for name, member in vars(value).items():
        if name.startswith("_") or isinstance(member, enum.Enum):
            continue
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if isinstance(function, property) or inspect.isfunction(function):
            assert function.__doc__, f"{value.__name__}.{name}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_constant_is_documented(name: str) -> None:
    """Constants and aliases have the string below them, which only the source shows."""
    value = getattr(soniox_proto, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return
    documented = {
        target
        for path in SOURCES
        for first, second in itertools.pairwise(tree_of(path).body)
        if isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
        for target in targets_of(first)
    }
    assert name in documented


def targets_of(node: ast.stmt) -> list[str]:
    nodes = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return [target.id for target in nodes if isinstance(target, ast.Name)]
