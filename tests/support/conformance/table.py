"""The whole table of RFC 6455 cases, by name: `group/case`."""

from __future__ import annotations

from typing import Final

from tests.support.conformance import content, frames
from tests.support.conformance.case import Case

__all__ = ["CASES", "GROUPS"]

GROUPS: Final = {**frames.GROUPS, **content.GROUPS}

CASES: Final[dict[str, Case]] = {
    f"{group}/{case.name}": case for group, cases in GROUPS.items() for case in cases
}
