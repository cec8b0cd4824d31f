"""The figures in the README: `python -m benchmarks.readme` copies them from the latest results."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["measured", "update", "written"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_README: Final = _ROOT / "README.md"
_LATEST: Final = _ROOT / "benchmarks" / "results" / "latest.md"

_BEGIN: Final = "<!-- measured -->\n"
_END: Final = "<!-- end of measured -->\n"

_FIGURES: Final = (
    "send a 640 B chunk, blocking, µs",
    "send a 640 B chunk, asyncio, µs",
    "send a 640 B chunk, trio, µs",
    "receive a 20-token event, blocking, µs",
    "receive a 20-token event, asyncio, µs",
    "receive a 20-token event, trio, µs",
    "open a session, blocking, ms",
    "open a session, asyncio, ms",
    "memory of an idle session, blocking: resident, KB",
    "memory of an idle session, asyncio: resident, KB",
    "import of the session classes, ms",
)
"""What matters most to a reader, whether we win or not; the results have the rest."""

_COLUMNS: Final = 4
"""The name, the other client's figure, ours, and the ratio, but not the target."""


def measured() -> str:
    """Return the machine of the latest results, and the figures from them for the README."""
    latest = _LATEST.read_text(encoding="utf-8")
    machine = latest.partition("# What it costs\n\n")[2].partition(";")[0]
    table = next(part for part in latest.split("\n\n") if part.startswith("| figure"))
    head, _, *rows = (_cells(line) for line in table.splitlines())
    by_figure = {row[0]: row for row in rows}
    shown = [head, ["---"] * _COLUMNS, *(by_figure[name] for name in _FIGURES if name in by_figure)]
    lines = [f"| {' | '.join(row)} |" for row in shown]
    return "\n".join([f"Measured {machine}.", "", *lines, ""])


def written() -> str:
    """Return the figures that are in the README now."""
    text = _README.read_text(encoding="utf-8")
    return text.partition(_BEGIN)[2].partition(_END)[0].strip("\n") + "\n"


def update() -> None:
    """Copy the figures of the latest results into the README."""
    text = _README.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    _README.write_text(f"{before}{_BEGIN}\n{measured()}\n{_END}{after}", encoding="utf-8")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")][:_COLUMNS]


if __name__ == "__main__":
    update()
