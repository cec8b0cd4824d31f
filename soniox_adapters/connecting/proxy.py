"""Which proxy a session goes through: the parameter, or the environment variables."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias
from urllib.parse import unquote

from soniox_proto import Endpoint, SonioxValidationError

__all__ = ["Proxy", "ProxyOption", "find_proxy", "parse_proxy"]

ProxyOption: TypeAlias = str | bool | None
"""URL of a proxy; True to use the one that the environment names; None or False for none."""

PARAMETER: Final = "the parameter proxy"

_SCHEMES: Final = {
    "http": ("http", 80),
    "socks4": ("socks4", 1080),
    "socks4a": ("socks4", 1080),
    "socks5": ("socks5", 1080),
    "socks5h": ("socks5", 1080),
}
"""Protocol and default port for each scheme. The proxy always resolves host names, so socks4 and
socks5 mean the same as socks4a and socks5h."""

_NAMES: Final = {
    True: ("wss", "socks", "https", "all"),
    False: ("ws", "socks", "https", "http", "all"),
}
"""Kinds of proxy variables for connections with TLS (True) and without, best first."""

_VARIABLES: Final = {
    secure: tuple((f"{name}_proxy", f"{name}_proxy".upper()) for name in names)
    for secure, names in _NAMES.items()
}
"""The environment variables of each kind. If both exist, the lower-case one counts."""

_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<literal>[0-9a-fA-F:.]+(?:%[^\[\]]+)?)\]|(?P<name>[^\[\]:@\s]+))(?::(?P<port>[0-9]{0,5}))?"
)

_MAX_SOCKS_CREDENTIAL: Final = 255
"""Maximum bytes of a user name or a password (RFC 1929)."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and where its URL came from."""

    scheme: str
    """`http`, `socks4` or `socks5`."""
    host: str
    port: int
    source: str
    """The parameter or the environment variable that named it, for error texts."""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"the proxy {host}:{self.port} (from {self.source})"


def find_proxy(proxy: ProxyOption, endpoint: Endpoint) -> Proxy | None:
    """Return the proxy to use for `endpoint`, or None for a direct connection.

    With True, the environment decides: `wss_proxy` or `ws_proxy`, `socks_proxy`, `https_proxy` or
    `http_proxy`, `all_proxy`, unless `no_proxy` lists the host.

    Raises `SonioxValidationError` for the URL of a proxy that cannot be used.
    """
    if isinstance(proxy, str):
        return parse_proxy(proxy, PARAMETER) if proxy else None
    if not proxy:
        return None
    for variables in _VARIABLES[endpoint.secure]:
        variable = next((name for name in variables if name in os.environ), None)
        # In a CGI script, this variable holds whatever the client sent as its header "Proxy".
        if variable is None or (variable == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            continue
        if url := os.environ[variable].strip():
            return None if _is_excluded(endpoint) else parse_proxy(url, _environment(variable))
    return None


def _is_excluded(endpoint: Endpoint) -> bool:
    no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    if not no_proxy:
        return False
    # Imported here because few sessions use a proxy.
    from soniox_adapters.connecting.no_proxy import is_excluded

    return is_excluded(endpoint.host, endpoint.port, no_proxy)


def _environment(variable: str) -> str:
    return f"the environment variable {variable}"


def parse_proxy(url: str, source: str) -> Proxy:
    """Return the proxy that a URL names. Without a scheme, it is an HTTP proxy.

    Raises `SonioxValidationError` if it is not the URL of a proxy. The message names `source`, and
    no part of the URL, which may contain a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        scheme, rest = "http", scheme
    if scheme.lower() not in _SCHEMES:
        _refuse(source, "has a scheme other than http, socks5, socks5h, socks4 or socks4a")
    protocol, default_port = _SCHEMES[scheme.lower()]
    userinfo, _, authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        _refuse(
            source,
            "has no valid host and port; expected http://user:password@host:port, with special "
            "characters in the user name and the password percent-encoded",
        )
    port = int(parts["port"] or default_port)
    if not 0 < port < 65536:
        _refuse(source, "has a port that is not in the range 1 to 65535")
    username, _, password = userinfo.partition(":")
    proxy = Proxy(
        scheme=protocol,
        host=parts["literal"] or _encoded(parts["name"], source),
        port=port,
        source=source,
        username=unquote(username),
        password=unquote(password),
    )
    if protocol != "http":
        _check_socks_credentials(proxy)
    return proxy


def _encoded(name: str, source: str) -> str:
    try:
        encoded = name.encode("idna").decode()
    except UnicodeError:
        _refuse(source, "has a host that is neither a host name nor an address")
    return encoded


def _check_socks_credentials(proxy: Proxy) -> None:
    for text in (proxy.username, proxy.password):
        if not text.isascii() or len(text) > _MAX_SOCKS_CREDENTIAL:
            _refuse(
                proxy.source,
                "has a user name or a password that SOCKS cannot carry; expected at most "
                f"{_MAX_SOCKS_CREDENTIAL} ASCII characters",
            )


def _refuse(source: str, problem: str) -> NoReturn:
    raise SonioxValidationError(f"{source} is not the URL of a usable proxy: it {problem}")
