"""The pytest plugin, as a project has it that installed the wheel and knows no repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PROJECT: Final = ROOT / "tests" / "user_project"

Pytest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed, without what it depends on."""
    wheels = tmp_path_factory.mktemp("dist")
    target = tmp_path_factory.mktemp("installed")
    build = ["hatchling", "build", "--target", "wheel", "--directory", str(wheels)]
    subprocess.run([sys.executable, "-m", *build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    # A wheel without scripts is installed by unpacking it, and not every environment has pip.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


@pytest.fixture
def run_pytest(installed: Path, tmp_path: Path) -> Pytest:
    """Run pytest in `tmp_path`, on the installed package."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST", "COV_", "SONIOX")) and "proxy" not in name.lower()
        }
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", *arguments],
            cwd=tmp_path,
            env={**variables, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )

    return run


def test_it_costs_nothing_until_a_fixture_is_asked_for() -> None:
    code = "import soniox_pytest, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    ours = {name for name in loaded if name.startswith("soniox_")}
    assert ours == {"soniox_pytest"}
    assert not {"pydantic", "wsproto", "anyio.to_thread"} & set(loaded)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_a_project_of_a_user(run_pytest: Pytest, tmp_path: Path, arguments: tuple[str]) -> None:
    shutil.copytree(PROJECT, tmp_path, dirs_exist_ok=True)
    finished = run_pytest(*arguments)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "10 passed" in finished.stdout


def test_a_script_that_is_not_followed_fails_the_test(run_pytest: Pytest, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from soniox_adapters.testing import scripted_session\n"
        "def test_it(soniox_server):\n"
        "    soniox_server.expect_finalize()\n"
        "    with scripted_session(soniox_server) as session:\n"
        "        session.send_byte_chunk(bytes(640))\n",
        encoding="utf-8",
    )
    finished = run_pytest()
    assert finished.returncode == 1
    assert "connection 1: expected a finalize, which did not come" in finished.stdout
    assert "client  audio, 640 bytes" in finished.stdout
    assert "1 passed, 1 error" in finished.stdout


GOLDEN: Final = """
import time
import pytest
from soniox_adapters.testing import scripted_client

@pytest.mark.parametrize("seconds", [6.0])
def test_it(soniox_server, soniox_trace, seconds):
    with scripted_client(soniox_server) as client:
        for _ in range(2):
            session = client.realtime.stt.connect(config={"model": "stt-rt-v5"})
            soniox_trace(session)
            with session:
                time.sleep(seconds)
"""


def test_golden_traces(run_pytest: Pytest, tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(GOLDEN, encoding="utf-8")
    missing = run_pytest()
    assert missing.returncode == 1
    assert "there is no golden trace" in missing.stdout
    assert "pytest --soniox-update-traces writes it" in missing.stdout
    assert run_pytest("--soniox-update-traces").returncode == 0
    paths = sorted(path.name for path in (tmp_path / "traces").iterdir())
    assert paths == ["test_it-6.0-1.jsonl", "test_it-6.0-2.jsonl"]
    again = run_pytest()
    assert again.returncode == 0, again.stdout

    path = tmp_path / "traces" / paths[1]
    path.write_text(path.read_text("utf-8").replace('{"t": 5000, ', '{"t": 4000, '), "utf-8")
    different = run_pytest()
    assert different.returncode == 1
    assert f"{paths[1]}, line 8:" in different.stdout
    assert 'before: {"t": 4000, "call": "handle_timeout"}' in different.stdout
    assert 'now:    {"t": 5000, "call": "handle_timeout"}' in different.stdout


def test_a_golden_trace_of_another_length(run_pytest: Pytest, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(GOLDEN, encoding="utf-8")
    run_pytest("--soniox-update-traces")
    path = tmp_path / "traces" / "test_it-6.0-1.jsonl"
    path.write_text(path.read_text("utf-8") + "{}\n", "utf-8")
    finished = run_pytest()
    assert "before: {}" in finished.stdout
    assert "now:    the end" in finished.stdout
