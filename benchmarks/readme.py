"""The table of the README: `python -m benchmarks.readme` copies it from the latest results."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["measured", "update", "written"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_README: Final = _ROOT / "README.md"
_LATEST: Final = _ROOT / "benchmarks" / "results" / "latest.md"

_BEGIN: Final = "<!-- measured -->\n"
_END: Final = "<!-- end of what was measured -->\n"


def measured() -> str:
    """Return what the latest results say: on what, and the table of the figures with a target."""
    latest = _LATEST.read_text(encoding="utf-8")
    surroundings = latest.partition("# What it costs\n\n")[2].partition("\n\n")[0]
    table = next(part for part in latest.split("\n\n") if part.startswith("| figure"))
    return f"{surroundings}\n\n{table}\n"


def written() -> str:
    """Return what the README says."""
    text = _README.read_text(encoding="utf-8")
    return text.partition(_BEGIN)[2].partition(_END)[0]


def update() -> None:
    """Write into the README what the latest results say."""
    text = _README.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    _README.write_text(f"{before}{_BEGIN}{measured()}{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    update()
