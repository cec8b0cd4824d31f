"""Parts of documents that are made from data, between two comments."""

from __future__ import annotations

from pathlib import Path

__all__ = ["README", "write", "written"]

README = Path(__file__).parent.parent.parent / "README.md"


def written(name: str, document: Path = README) -> str:
    """Return the part as the document has it."""
    _, part, _ = _split(name, document)
    return part.strip("\n") + "\n"


def write(name: str, part: str, document: Path = README) -> None:
    """Put the part into the document."""
    before, _, after = _split(name, document)
    document.write_text(f"{before}\n{part}\n{after}", encoding="utf-8")


def _split(name: str, document: Path) -> tuple[str, str, str]:
    """Return what is above the part, the part, and what is below it, each with its comment."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    text = document.read_text(encoding="utf-8")
    assert text.count(begin) == text.count(end) == 1, f"{document.name} has no place for {name!r}"
    above, _, rest = text.partition(begin)
    part, _, below = rest.partition(end)
    return above + begin, part, end + below
