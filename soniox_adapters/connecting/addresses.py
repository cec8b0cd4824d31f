"""Which of a host's addresses to try, and when (RFC 8305, "Happy Eyeballs").

A host often has an IPv6 and an IPv4 address, and on many networks one of the two silently drops
every packet. Trying one after the other could spend the whole connect timeout on the first.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from socket import AddressFamily, SocketKind

__all__ = [
    "ATTEMPT_DELAY",
    "Address",
    "AddressRace",
    "all_failed_error",
    "interleave",
    "numeric_addresses",
    "os_error",
]

Address: TypeAlias = "tuple[AddressFamily, SocketKind, int, str, tuple[Any, ...]]"
"""One of the entries that `socket.getaddrinfo` returns."""

ATTEMPT_DELAY: Final = 0.25
"""Seconds until the next address is tried alongside those in progress (RFC 8305 section 5)."""

MAX_FAILURES_LISTED: Final = 4


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Return each address once, alternating between the families (RFC 8305 section 4).

    The family of the resolver's first address begins; within a family its order is kept.
    """
    families: dict[int, list[Address]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(address[0], []).append(address)
    turns = zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


class AddressRace:
    """Says which address to try next and when. The first connection that succeeds wins."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._waiting = deque(interleave(addresses))
        self._under_way = 0
        self._next_start = float("-inf")
        self._failures: list[OSError] = []

    @property
    def alone(self) -> bool:
        """Whether there is only one address, so that there is no race."""
        return len(self._waiting) + self._under_way + len(self._failures) == 1

    @property
    def lost(self) -> bool:
        """Whether every address has failed."""
        return not self._waiting and not self._under_way

    def start(self, now: float) -> Address | None:
        """Return an address to connect to now, or None while none is due."""
        if not self._waiting or now < self._next_start:
            return None
        self._next_start = now + ATTEMPT_DELAY
        self._under_way += 1
        return self._waiting.popleft()

    def next_start(self) -> float | None:
        """Return when to call `start` again; None if every address has been started."""
        return self._next_start if self._waiting else None

    def failed(self, address: Address, error: OSError) -> None:
        """Record that connecting to `address` failed, which makes the next address due at once."""
        self._under_way -= 1
        self._next_start = float("-inf")
        self._failures.append(_located(error, address))

    def error(self) -> OSError:
        """Return the error to raise once every address has failed."""
        return all_failed_error(self._failures)


def all_failed_error(failures: list[OSError]) -> OSError:
    """Return one error for all addresses that were tried. Its text lists their failures."""
    if not failures:
        return OSError("the host name has no address")
    if len(failures) == 1:
        return failures[0]
    texts = [error.strerror or str(error) for error in failures[:MAX_FAILURES_LISTED]]
    if len(failures) > MAX_FAILURES_LISTED:
        texts.append(f"and {len(failures) - MAX_FAILURES_LISTED} more")
    text = f"none of its {len(failures)} addresses can be reached: {', '.join(texts)}"
    # If all have the same errno, keep it: it makes OSError choose the class, for example
    # ConnectionRefusedError.
    codes = {error.errno for error in failures}
    code = codes.pop() if len(codes) == 1 else None
    return OSError(text) if code is None else OSError(code, text)


def os_error(code: int) -> OSError:
    """Return the error for a result of `connect_ex` or `SO_ERROR`."""
    return OSError(code, os.strerror(code))


def numeric_addresses(host: str, port: int) -> list[Address]:
    """Return `host` as an address; an empty list if it is a name that has to be resolved."""
    import socket

    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return []
    return list(found)


def _located(error: OSError, address: Address) -> OSError:
    """Return the error with the address added to its text."""
    host, port = address[4][:2]
    where = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    text = f"{error.strerror or error} ({where})"
    return OSError(text) if error.errno is None else OSError(error.errno, text)
