"""The table of endings, `tests/adapters/endings.md`, made from the scenarios that the tests run.

`python -m tests.support.outcome_table` writes it.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.support import generated_part
from tests.support.adapters.scenarios import HEADER, rows

NAME = "endings"
DOCUMENT = Path(__file__).parent.parent / "adapters" / "endings.md"
COLUMNS = ("ending", "then", "a blocked sender", "outcome")
CODE = "close frame with code "
HEAD = (
    "| what ends the session | the receiver gets, after every message before it "
    "| a blocked sender gets | `session.outcome` |"
)


def table() -> str:
    """Return the table as Markdown, a line for each group of endings that are alike."""
    entries: list[tuple[str, ...]] = []
    for row in rows():
        cells = dict(zip(HEADER, row, strict=True))
        if cells["the user"] != "receives to the end":
            cells["ending"] = f"the user {cells['the user']}; {cells['ending']}"
        entries.append(tuple(cells[column] for column in COLUMNS))
    lines = [HEAD, "| --- | --- | --- | --- |"]
    for (numbered, *rest), group in groupby(entries, lambda entry: (CODE in entry[0], *entry[1:])):
        endings = [entry[0] for entry in group]
        codes = [ending.removeprefix(CODE) for ending in endings]
        if numbered and all(map(str.isdecimal, codes)):
            endings = [CODE + ", ".join(codes)]
        shown = [f"`{cell}`" if cell[0].isupper() else cell for cell in map(str, rest)]
        lines += [f"| {ending} | {' | '.join(shown)} |" for ending in endings]
    return "\n".join(lines) + "\n"


def written_table() -> str:
    """Return the table as the document has it."""
    return generated_part.written(NAME, DOCUMENT)


if __name__ == "__main__":
    generated_part.write(NAME, table(), DOCUMENT)
