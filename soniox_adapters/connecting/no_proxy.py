"""The `NO_PROXY` environment variable: hosts to connect to directly.

There is no standard for its syntax, so all common forms are accepted.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

__all__ = ["is_excluded"]

_WITH_PORT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[0-9]{1,5})")
"""`host:port` or `[::1]:port`. An IPv6 address without brackets has no port."""


def is_excluded(host: str, port: int, no_proxy: str) -> bool:
    """Return whether `no_proxy` lists a host.

    Entries are separated by commas or spaces. An entry is a host name, which includes its
    subdomains, with or without a leading dot; an address; a network such as ``10.0.0.0/8``; or `*`
    for all hosts. Each may be followed by a port.
    """
    name = host.lower().rstrip(".")
    address = _address(name)
    entries = no_proxy.lower().replace(",", " ").split()
    return any(_matches(entry, name, address, port) for entry in entries)


def _matches(entry: str, name: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    if with_port := _WITH_PORT.fullmatch(entry):
        if int(with_port["port"]) != port:
            return False
        entry = with_port["host"]
    entry = entry.removeprefix("*.").strip(".")
    if entry == "*":
        return True
    if address is not None:
        network = _network(entry)
        return network is not None and address in network
    return bool(entry) and (name == entry or name.endswith(f".{entry}"))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    host, slash, prefix = entry.partition("/")
    # The zone of a link-local address (its network interface) is ignored.
    host = host.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        return ip_network(f"{_address(host) or host}{slash}{prefix}", strict=False)
    except ValueError:
        return None
