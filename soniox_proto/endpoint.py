"""Where a session connects to: URLs, regions, and what a URL consists of."""

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
"""WebSocket URL of each region of the service. API keys are bound to a region's project."""

DEFAULT_WEBSOCKET_URL: Final = REGIONS["us"]
"""WebSocket URL where none is given."""

# RFC 3986 section 3.2: urlsplit takes what stands before and behind the brackets as if it were not
# there, so `[::1]evil` would be `::1`.
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
    """Path and query for the request line; not shown, a query may hold a secret."""
    host_header: str
    """Value of the Host header."""

    @property
    def server_hostname(self) -> str:
        """Name for TLS: certificates and SNI know no trailing dot (RFC 6066 section 3)."""
        return self.host.removesuffix(".")

    @staticmethod
    def parse(url: str) -> Endpoint:
        """Take a `ws://` or `wss://` URL apart (RFC 6455 section 3).

        Raises `SonioxValidationError` for anything else, and for credentials or a fragment.
        """
        # urlsplit drops tabs and line ends silently; a URL that holds them is not what was meant.
        if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:  # pyright: ignore[reportUnnecessaryIsInstance]
            _refuse("must be printable ASCII without spaces; percent-encode other characters")
        return _parse(url)


@lru_cache(maxsize=8)
def _parse(url: str) -> Endpoint:
    # Kept, for a program has many sessions and few URLs.
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
    # RFC 6874 section 3: a zone means nothing to the server.
    literal = f"[{host.partition('%')[0]}]" if ":" in host else host
    host_header = literal if port in {None, default_port} else f"{literal}:{port}"
    # wsproto encodes the header's value as if it were a name only.
    if max(map(len, host_header.split("."))) > 63:
        _refuse("has a host whose last label is too long to stand beside a port")
    return Endpoint(
        host=host,
        port=port or default_port,
        secure=secure,
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        host_header=host_header,
    )


def websocket_url(region: str) -> str:
    """Return the WebSocket URL of a region; raises `SonioxValidationError` for an unknown one."""
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
    # Imported on first need: few URLs name an address of this kind.
    from ipaddress import IPv6Address

    # RFC 6874: a zone stands behind an encoded percent sign.
    number, percent, zone = address.replace("%25", "%").partition("%")
    address = number.lower() + percent + zone
    try:
        IPv6Address(address)
    except ValueError:
        _refuse("has brackets around what is no IPv6 address")
    return address


def _refuse(problem: str) -> NoReturn:
    # The URL itself stays out of the message: its query may hold a secret.
    raise SonioxValidationError(f"the WebSocket URL {problem}")
