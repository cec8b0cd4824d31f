"""The whole table of RFC 6455 cases, by name: `group/case`."""

from __future__ import annotations

from typing import Final

from tests.support import conformance_content, conformance_frames
from tests.support.conformance_case import Case

__all__ = ["CASES", "GROUPS"]

GROUPS: Final = {**conformance_frames.GROUPS, **conformance_content.GROUPS}

CASES: Final[dict[str, Case]] = {
    f"{group}/{case.name}": case for group, cases in GROUPS.items() for case in cases
}
