"""An object of the user's that fails when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["UnreadableMapping"]


class UnreadableMapping(Mapping[str, Any]):
    """A mapping that says what it holds, and then does not give it."""

    def __getitem__(self, key: str) -> Any:
        raise LookupError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(["model"])

    def __len__(self) -> int:
        return 1
