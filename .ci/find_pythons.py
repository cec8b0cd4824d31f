"""List the Pythons of this machine that the project supports, the oldest version first.

Prints a line for each version: the version and its interpreter, or `-` where the machine has none.
They are looked for in PATH and among pyenv's versions, and each is tried, because a pyenv shim may
be in PATH and not run, and a distribution's Python may be unable to make a virtual environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

TRIAL = """\
import ensurepip, sys, venv
assert sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
print("%d.%d" % sys.version_info[:2])
"""


def order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def declared() -> tuple[str, list[str]]:
    """Return the oldest version that pyproject.toml allows, and the versions that it names."""
    text = PYPROJECT.read_text(encoding="utf-8")
    oldest = re.search(r'^requires-python = ">=(3\.\d+)"', text, re.M)
    assert oldest is not None, "pyproject.toml does not say which Python it requires"
    return oldest[1], re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


def candidates() -> Iterator[Path]:
    """Yield what may be a Python, what `python3` runs first."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    yield from (folder / "python3" for folder in folders)
    if shutil.which("pyenv"):
        run = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True)
        folders += sorted(Path(run.stdout.strip()).glob("versions/*/bin"))
    for folder in folders:
        yield from sorted(folder.glob("python3.*"))


def version_of(python: Path) -> str | None:
    """Return the version of a Python that can make virtual environments, None for anything else."""
    if not re.fullmatch(r"python3(\.\d+)?", python.name) or not os.access(python, os.X_OK):
        return None
    run = subprocess.run([python, "-c", TRIAL], capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else None


def main() -> None:
    oldest, named = declared()
    found: dict[str, Path | None] = dict.fromkeys(named)
    for python in candidates():
        version = version_of(python)
        if version is not None and order(version) >= order(oldest) and found.get(version) is None:
            found[version] = python
    for version in sorted(found, key=order):
        print(version, found[version] or "-")


if __name__ == "__main__":
    main()
