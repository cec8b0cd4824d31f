"""The README's table of what is worth retrying, made from the data that the core goes by.

`python -m tests.support.retry_table` writes it into the README.
"""

from __future__ import annotations

from itertools import groupby

from soniox_proto.retrying import (
    CLOSE_CODES,
    OTHER_CLOSE_CODES,
    OTHER_ERRORS,
    OTHER_STATUSES,
    SERVER_ERRORS,
    STATUSES,
    TIMEOUTS,
    Advice,
)
from tests.support import generated_part

NAME = "retrying"
HEAD = "| what ended the session | `retryable` | `retry_after` |"


def entries() -> list[tuple[str, Advice]]:
    found: list[tuple[str, Advice]] = []
    by_code = groupby(SERVER_ERRORS.items(), lambda item: (item[0][0], item[1]))
    for (code, advice), group in by_code:
        types = [kind for (_, kind), _ in group]
        shown = ", ".join("any other" if kind is None else f"`{kind}`" for kind in types)
        found.append((f"error message {code}: {shown}", advice))
    found += [(f"error message {n}xx: any other", advice) for n, advice in OTHER_ERRORS.items()]
    found.append(("any other error message", Advice(retryable=False)))
    found += [(f"HTTP status {status}", advice) for status, advice in STATUSES.items()]
    found += [(f"HTTP status {n}xx", advice) for n, advice in OTHER_STATUSES.items()]
    found.append(("any other HTTP status (3xx, 4xx)", Advice(retryable=False)))
    for advice, codes in groupby(CLOSE_CODES, CLOSE_CODES.__getitem__):
        found.append((f"close code {', '.join(map(str, codes))}", advice))
    found.append(("any other close code, or none; a connection lost", OTHER_CLOSE_CODES))
    for advice, operations in groupby(TIMEOUTS, TIMEOUTS.__getitem__):
        found.append((f"deadline: {', '.join(operations)}", advice))
    return found


def after(advice: Advice) -> str:
    if advice.retry_after is None:
        return "None"
    return "0.0 (at once)" if not advice.retry_after else f"{advice.retry_after}"


def table() -> str:
    """Return the table as Markdown."""
    lines = [HEAD, "| --- | --- | --- |"]
    lines += [
        f"| {what} | {'yes' if advice.retryable else 'no'} | {after(advice)} |"
        for what, advice in entries()
    ]
    return "\n".join(lines) + "\n"


def written_table() -> str:
    """Return the table as the README has it."""
    return generated_part.written(NAME)


if __name__ == "__main__":
    generated_part.write(NAME, table())
