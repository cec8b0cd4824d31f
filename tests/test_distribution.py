"""What is built for a package index, and the checks that are run before a commit."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

import soniox_proto

ROOT = Path(__file__).parent.parent
VERSION = soniox_proto.__version__
SHIPPED = {
    "soniox_proto/LICENSE",
    "soniox_proto/py.typed",
    "soniox_adapters/py.typed",
    "soniox_pytest.py",
    "soniox_adapters/server/samples/meeting.wav",
    "soniox_adapters/server/samples/two-speakers.wav",
}
SOURCES = {
    path.relative_to(ROOT).as_posix()
    for package in ("soniox_proto", "soniox_adapters")
    for path in (ROOT / package).glob("**/*.py")
    if path.name != "soniox_pytest.py"
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def in_wheel(built: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(built / f"soniox_proto-{VERSION}-py3-none-any.whl") as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


@pytest.fixture(scope="module")
def metadata(in_wheel: dict[str, bytes]) -> Message:
    return HeaderParser().parsestr(in_wheel[f"soniox_proto-{VERSION}.dist-info/METADATA"].decode())


def test_the_wheel_holds_the_packages_and_nothing_else(in_wheel: dict[str, bytes]) -> None:
    info = f"soniox_proto-{VERSION}.dist-info/"
    assert {name for name in in_wheel if not name.startswith(info)} == SHIPPED | SOURCES


def test_the_wheel_is_under_the_licence_that_it_holds(
    in_wheel: dict[str, bytes], metadata: Message
) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["soniox_proto/LICENSE"]
    text = in_wheel[f"soniox_proto-{VERSION}.dist-info/licenses/soniox_proto/LICENSE"]
    assert text == (ROOT / "soniox_proto" / "LICENSE").read_bytes()
    # PEP 639 forbids them beside an expression.
    assert "License ::" not in str(metadata)


def test_the_wheel_names_every_python_that_it_is_tested_on(metadata: Message) -> None:
    named = re.findall(r"^Classifier: .* :: Python :: (3\.\d+)$", str(metadata), re.M)
    assert metadata["Requires-Python"] == f">={named[0]}"
    oldest, newest = (int(version.removeprefix("3.")) for version in (named[0], named[-1]))
    assert named == [f"3.{minor}" for minor in range(oldest, newest + 1)]


def test_the_sdist_holds_what_the_tests_need_too(built: Path) -> None:
    with tarfile.open(built / f"soniox_proto-{VERSION}.tar.gz") as sdist:
        files = {name.partition("/")[2] for name in sdist.getnames()}
    assert files >= (SHIPPED - {"soniox_pytest.py"}) | SOURCES
    assert files >= {"pyproject.toml", "README.md", ".ci/run", "tests/conftest.py"}
    assert files >= {"benchmarks/results/latest.md", ".pre-commit-config.yaml"}


def test_the_hooks_before_a_commit_are_the_checks_of_ci() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "readme").read_text(encoding="utf-8")
    checks = re.findall(r"^(\.venv/bin/(?:ruff|mypy|pyright).*)", ci, re.M)
    assert len(checks) == 4
    assert re.findall(r"^ +entry: (.+)", hooks, re.M) == checks
