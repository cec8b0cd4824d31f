"""Where a session connects to: the service's regions, and URLs taken apart and checked.

URLs are checked strictly and early. Whatever `urlsplit` makes of a strange URL ends up in a name
look-up, a TLS certificate check and a request line, and where those three disagree about the host,
somebody else may be connected to. Errors never quote the URL: its query may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NoReturn
from urllib.parse import SplitResult, urlsplit

from soniox_proto.errors import SonioxValidationError

__all__ = [
    "DEFAULT_WEBSOCKET_URL",
    "REGIONS",
    "Endpoint",
    "websocket_url",
]

REGIONS: Final[Mapping[str, str]] = {
    "us": "wss://stt-rt.soniox.com/transcribe-websocket",
    "eu": "wss://stt-rt.eu.soniox.com/transcribe-websocket",
    "jp": "wss://stt-rt.jp.soniox.com/transcribe-websocket",
    "in": "wss://stt-rt.in.soniox.com/transcribe-websocket",
}
"""WebSocket URL of each region of the service. An API key belongs to a project, and a project to a
region, so a key is valid in one region only."""

DEFAULT_WEBSOCKET_URL: Final = REGIONS["us"]
"""WebSocket URL used when none is given."""

# RFC 3986 section 3.2. urlsplit ignores whatever stands before and after the brackets, so that
# `[::1]evil` would become `::1`.
_AUTHORITY = re.compile(r"(\[(?P<address>[^\[\]]*)\]|[^\[\]:]*)(:[0-9]*)?")

_HOST_LABELS = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked WebSocket URL, taken apart."""

    host: str
    """Host name or address to connect to, without brackets."""
    port: int
    """TCP port to connect to."""
    secure: bool
    """Whether the connection is TLS (`wss`)."""
    target: str = field(repr=False)
    """Path and query for the request line. Not in the repr, since a query may hold a secret."""
    host_header: str
    """Value of the Host header."""

    @property
    def server_hostname(self) -> str:
        """Host name for TLS: certificates and SNI have no trailing dot (RFC 6066 section 3)."""
        return self.host.removesuffix(".")

    @staticmethod
    def parse(url: str) -> Endpoint:
        """Take a `ws://` or `wss://` URL apart (RFC 6455 section 3).

        Raises `SonioxValidationError` for anything else, and for credentials or a fragment.
        """
        # urlsplit drops tabs and line ends silently, and so would connect somewhere else than the
        # URL seems to say.
        if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:  # pyright: ignore[reportUnnecessaryIsInstance]
            _refuse("must be printable ASCII without spaces; percent-encode other characters")
        return _parse(url)


@lru_cache(maxsize=8)
def _parse(url: str) -> Endpoint:
    # Cached, because a program has many sessions and few URLs.
    parts, port = _split(url)
    if parts.scheme not in {"ws", "wss"}:
        _refuse("must begin with wss:// (or ws:// for an unencrypted server)")
    if "@" in parts.netloc:
        _refuse("must not hold credentials; give the key as api_key")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if authority is None:
        _refuse("has a host that is neither a host name nor an address")
    address = authority["address"]
    if "#" in url:
        _refuse("must not have a fragment (RFC 6455 section 3)")
    if port == 0:
        _refuse("has port 0; expected 1 to 65535")
    secure = parts.scheme == "wss"
    host = _checked_host(parts.hostname or "") if address is None else _checked_address(address)
    default_port = 443 if secure else 80
    # A zone identifier only has a meaning on this machine, so it is not sent (RFC 6874 section 3).
    literal = f"[{host.partition('%')[0]}]" if ":" in host else host
    host_header = literal if port in {None, default_port} else f"{literal}:{port}"
    # wsproto encodes the header's value as if all of it were a host name, port included, and a
    # label of a host name has at most 63 characters.
    if max(map(len, host_header.split("."))) > 63:
        _refuse("has a host whose last label is too long to be followed by a port")
    return Endpoint(
        host=host,
        port=port or default_port,
        secure=secure,
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        host_header=host_header,
    )


def websocket_url(region: str) -> str:
    """Return the WebSocket URL of a region, such as `eu`.

    Raises `SonioxValidationError` for an unknown region.
    """
    try:
        return REGIONS[region]
    except (KeyError, TypeError):
        raise SonioxValidationError(
            f"unknown region {region!r}; the regions are {', '.join(REGIONS)}"
        ) from None


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError as error:
        _refuse(f"is malformed: {error}")


def _checked_host(host: str) -> str:
    if not host:
        _refuse("has no host")
    if len(host) > 253 or not _HOST_LABELS.fullmatch(host):
        _refuse("has a host that is neither a host name nor an address")
    return host


def _checked_address(address: str) -> str:
    # Imported when needed: few URLs contain such an address.
    from ipaddress import IPv6Address

    # RFC 6874 section 2: the percent sign before a zone identifier is itself percent-encoded.
    number, percent, zone = address.replace("%25", "%").partition("%")
    address = number.lower() + percent + zone
    try:
        IPv6Address(address)
    except ValueError:
        _refuse("has brackets around something that is not an IPv6 address")
    return address


def _refuse(problem: str) -> NoReturn:
    # Without the URL itself, see above.
    raise SonioxValidationError(f"the WebSocket URL {problem}")
