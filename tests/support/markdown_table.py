"""Tables of the README that are made from data, between two comments."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parent.parent.parent / "README.md"


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"


def written(name: str) -> str:
    """Return the table as the README has it."""
    begin, end = marks(name)
    text = README.read_text(encoding="utf-8")
    return text.partition(begin)[2].partition(end)[0].strip("\n") + "\n"


def write(name: str, table: str) -> None:
    """Put the table into the README."""
    begin, end = marks(name)
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    README.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
