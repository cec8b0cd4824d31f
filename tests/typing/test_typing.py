"""The checks of this folder, run by mypy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def test_types_of_the_public_api() -> None:
    checks = [str(path) for path in sorted(HERE.glob("check_*.py"))]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", *checks],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"no issues found in {len(checks)} source files" in run.stdout
