"""The pytest plugin, as a project has it that installed the wheel and knows no repository.

pytest takes its time to start, so it runs twice for all tests: in two processes, where golden
traces are written, and in one, where some of the project's tests have to fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PROJECT: Final = ROOT / "tests" / "user_project"

MORE_TESTS: Final = """
import time
import pytest
from soniox_adapters.testing import scripted_client, scripted_session

def test_of_a_script(soniox_server):
    soniox_server.expect_finalize()
    with scripted_session(soniox_server) as session:
        session.send_byte_chunk(bytes(640))
        FINALIZE

@pytest.mark.parametrize("name", ["same", "different", "longer", "missing"])
def test_golden(soniox_server, soniox_trace, name):
    with scripted_client(soniox_server) as client:
        for _ in range(2):
            session = client.realtime.stt.connect(config={"model": "stt-rt-v5"})
            soniox_trace(session)
            with session:
                time.sleep(6.0)

class TestOther:
    @pytest.mark.parametrize("name", ["same"])
    def test_golden(self, soniox_server, soniox_trace, name):
        with scripted_client(soniox_server) as client:
            session = client.realtime.stt.connect(config={"model": "stt-rt-v5"})
            soniox_trace(session)
            with session:
                time.sleep(11.0)
"""


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


def run_pytest(installed: Path, project: Path, *arguments: str) -> tuple[int, str]:
    """Run the tests of a project on the installed package; return the status and the output."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "COV_", "SONIOX")) and "proxy" not in name.lower()
    }
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", *arguments],
        cwd=project,
        env={**variables, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    return finished.returncode, finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the user's project, with some more tests."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
    more = MORE_TESTS.replace("FINALIZE", "session.finalize()")
    (folder / "test_more.py").write_text(more, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def updated(installed: Path, project: Path) -> tuple[int, str]:
    """What pytest says in several processes, where golden traces are written."""
    return run_pytest(installed, project, "-n", "2", "--soniox-update-traces")


@pytest.fixture(scope="module")
def compared(installed: Path, project: Path, updated: tuple[int, str]) -> tuple[int, str]:
    """What pytest says in one process, after the script and some traces were changed."""
    assert updated[0] == 0, updated[1]
    more = MORE_TESTS.replace("FINALIZE", "")
    (project / "test_more.py").write_text(more, encoding="utf-8")
    different, longer, missing = (
        project / "traces" / "test_more" / f"test_golden-{name}.jsonl"
        for name in ("different-2", "longer-1", "missing-1")
    )
    text = different.read_text("utf-8")
    different.write_text(text.replace('{"t": 5000, ', '{"t": 4000, '), "utf-8")
    longer.write_text(longer.read_text("utf-8") + "{}\n", "utf-8")
    missing.unlink()
    return run_pytest(installed, project)


def test_it_costs_nothing_until_a_fixture_is_asked_for() -> None:
    code = "import soniox_pytest, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    ours = {name for name in loaded if name.startswith("soniox_")}
    assert ours == {"soniox_pytest"}
    assert not {"pydantic", "wsproto", "anyio.to_thread"} & set(loaded)


def test_a_project_of_a_user_under_xdist(updated: tuple[int, str]) -> None:
    status, output = updated
    assert status == 0, output
    assert "2 workers" in output
    assert "16 passed" in output


def test_golden_traces_are_written(updated: tuple[int, str], project: Path) -> None:
    status, output = updated
    assert status == 0, output
    traces = project / "traces"
    names = {path.relative_to(traces).as_posix() for path in traces.glob("*/*")}
    golden = "test_voice_agent/test_the_conversation_goes_as_before.jsonl"
    numbered = {
        f"test_more/test_golden-{name}-{number}.jsonl"
        for name in ("same", "different", "longer", "missing")
        for number in (1, 2)
    }
    others = {"test_more/TestOther-test_golden-same.jsonl", "test_more/test_golden-missing-1.jsonl"}
    # All are there before the next test changes some of them, whichever runs first.
    assert names | others == {golden, *others, *numbered}
    assert "test_more/TestOther-test_golden-same.jsonl" in names
    before, now = ((folder / "traces" / golden).read_text("utf-8") for folder in (PROJECT, project))
    assert before == now


def test_a_project_of_a_user_in_one_process(compared: tuple[int, str]) -> None:
    status, output = compared
    assert status == 1
    assert "16 passed, 4 errors" in output
    errors = [line.split(" - ")[0] for line in output.splitlines() if line.startswith("ERROR ")]
    assert sorted(errors) == [
        "ERROR test_more.py::test_golden[different]",
        "ERROR test_more.py::test_golden[longer]",
        "ERROR test_more.py::test_golden[missing]",
        "ERROR test_more.py::test_of_a_script",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("connection 1: expected a finalize, which did not come", "client  audio, 640 bytes"),
        ("there is no golden trace", "pytest --soniox-update-traces writes it"),
        (
            "test_golden-different-2.jsonl, line 8:",
            'before: {"t": 4000, "call": "handle_timeout"}',
            'now:    {"t": 5000, "call": "handle_timeout"}',
        ),
        ("test_golden-longer-1.jsonl, line ", "before: {}", "now:    the end"),
    ],
    ids=["script", "missing", "different", "longer"],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], compared: tuple[int, str]) -> None:
    for part in words:
        assert part in compared[1]


def test_a_test_that_does_not_pass_has_no_golden_trace(installed: Path, tmp_path: Path) -> None:
    """No trace is written for it, and none is missed."""
    failing = """
import pytest
from soniox_adapters.testing import scripted_client

@pytest.mark.parametrize(
    "how", ["fail", "skip", "xfail", pytest.param("marked", marks=pytest.mark.xfail(strict=True))]
)
def test_failing(soniox_server, soniox_trace, how):
    with scripted_client(soniox_server) as client:
        session = client.realtime.stt.connect(config={"model": "stt-rt-v5"})
        soniox_trace(session)
        with session:
            getattr(pytest, how, pytest.fail)("")
"""
    (tmp_path / "test_failing.py").write_text(failing, encoding="utf-8")
    for arguments in (["--soniox-update-traces"], []):
        status, output = run_pytest(installed, tmp_path, *arguments)
        assert (status, "1 failed, 1 skipped, 2 xfailed in" in output) == (1, True), output
    assert not (tmp_path / "traces").exists()
