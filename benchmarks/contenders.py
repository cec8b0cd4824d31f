"""The libraries to compare: names, packages, versions, and which are installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final, Protocol, TypeVar

from benchmarks.harness import OURS, SONIOX

__all__ = [
    "BARE_SOCKET",
    "PACKAGES",
    "installed",
    "installed_version",
    "label",
    "missing_packages",
]

BARE_SOCKET: Final = "bare socket"
"""One system call per operation, with frames made in advance and nothing parsed: the lower limit
for any client."""

PACKAGES: Final = {
    OURS: "soniox-proto",
    SONIOX: "soniox",
    "websockets": "websockets",
    "websocket-client": "websocket-client",
    "aiohttp": "aiohttp",
    "picows": "picows",
    "trio-websocket": "trio-websocket",
    "uvloop": "uvloop",
}
"""The package of each library, by its name in the tables."""


class Contender(Protocol):
    """A client library."""

    @property
    def name(self) -> str:
        """Name in the tables."""
        ...

    @property
    def module(self) -> str:
        """Module that exists only if the library is installed."""
        ...


_Contender = TypeVar("_Contender", bound=Contender)


def installed(contenders: Iterable[_Contender]) -> list[_Contender]:
    """Return those contenders whose library is installed."""
    return [contender for contender in contenders if find_spec(contender.module) is not None]


def installed_version(name: str) -> str | None:
    """Return the version of a contender's package, or None if it is not installed."""
    try:
        return version(PACKAGES.get(name, name))
    except PackageNotFoundError:
        return None


def missing_packages() -> list[str]:
    """Return the packages that are not installed; their contenders are left out."""
    return [package for name, package in PACKAGES.items() if installed_version(name) is None]


def label(name: str) -> str:
    """Return a contender's name with its version, for the head of a table."""
    if name == OURS or name not in PACKAGES:
        return name
    return f"{name} {installed_version(name) or '(not installed)'}"
