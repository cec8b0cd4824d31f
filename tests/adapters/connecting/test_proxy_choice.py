"""Which proxy a session uses: the parameter, the environment, and the URLs that they hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_adapters import Endpoint, SonioxValidationError
from soniox_adapters.connecting.no_proxy import is_excluded
from soniox_adapters.connecting.proxy import Proxy, ProxyOption, find_proxy, parse_proxy

PLAIN = Endpoint.parse("ws://stt.example.test:8765")
SECURE = Endpoint.parse("wss://stt.example.test")


def chosen(option: ProxyOption, endpoint: Endpoint) -> str | None:
    """Return scheme, host and port of the proxy that is found."""
    proxy = find_proxy(option, endpoint)
    return None if proxy is None else f"{proxy.scheme}://{proxy.host}:{proxy.port}"


def test_no_proxy_by_default() -> None:
    options: list[ProxyOption] = [None, False, "", True]
    for nothing in options:
        assert find_proxy(nothing, PLAIN) is None
        assert find_proxy(nothing, SECURE) is None


def test_the_parameter_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://environment:1")
    monkeypatch.setenv("no_proxy", "*")
    assert chosen("socks5://given:1080", PLAIN) == "socks5://given:1080"
    assert find_proxy(None, PLAIN) is None
    assert find_proxy(False, PLAIN) is None


@pytest.mark.parametrize(
    ("variables", "plain", "secure"),
    [
        ({"http_proxy": "http://h:1"}, "http://h:1", None),
        ({"https_proxy": "http://s:1"}, "http://s:1", "http://s:1"),
        ({"HTTPS_PROXY": "http://s:1"}, "http://s:1", "http://s:1"),
        ({"https_proxy": "http://l:1", "HTTPS_PROXY": "http://u:1"}, "http://l:1", "http://l:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://u:1"}, None, None),
        ({"https_proxy": " ", "all_proxy": "http://a:1"}, "http://a:1", "http://a:1"),
        ({"all_proxy": "http://a:1"}, "http://a:1", "http://a:1"),
        ({"all_proxy": "http://a:1", "https_proxy": "http://s:1"}, "http://s:1", "http://s:1"),
        ({"socks_proxy": "socks5://k:1", "https_proxy": "http://s:1"},) + ("socks5://k:1",) * 2,
        ({"ws_proxy": "http://w:1", "http_proxy": "http://h:1"}, "http://w:1", None),
        ({"wss_proxy": "http://ws:1", "https_proxy": "http://s:1"}, "http://s:1", "http://ws:1"),
        ({"HTTP_PROXY": "http://h:1"}, "http://h:1", None),
        ({"HTTP_PROXY": "http://h:1", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "http://h:1", "REQUEST_METHOD": "GET"}, "http://h:1", None),
        ({"https_proxy": ""}, None, None),
        ({"https_proxy": "http://s:1", "no_proxy": "example.test"}, None, None),
        ({"https_proxy": "http://s:1", "NO_PROXY": "other,stt.example.test"}, None, None),
        ({"https_proxy": "http://s:1", "no_proxy": "stt.example.test:8765"}, None, "http://s:1"),
        ({"https_proxy": "http://s:1", "no_proxy": "elsewhere"}, "http://s:1", "http://s:1"),
        ({"no_proxy": "elsewhere"}, None, None),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    plain: str | None,
    secure: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert chosen(True, PLAIN) == plain
    assert chosen(True, SECURE) == secure


@pytest.mark.parametrize(
    ("no_proxy", "included", "excluded"),
    [
        ("*", [], ["stt.example.test", "10.0.0.1", "::1"]),
        ("other, *", [], ["stt.example.test"]),
        ("example.test", ["ample.test", "example.test.org"], ["example.test", "a.b.example.test"]),
        (".example.test", ["other.test"], ["stt.example.test", "example.test"]),
        ("*.example.test", ["other.test"], ["stt.example.test"]),
        ("EXAMPLE.Test.", ["test"], ["example.test", "STT.example.test."]),
        ("a.test b.test\tc.test,,d.test", ["e.test"], ["a.test", "b.test", "c.test", "d.test"]),
        ("stt.example.test:80", ["example.test"], ["stt.example.test"]),
        ("stt.example.test:81", ["stt.example.test"], []),
        ("127.0.0.1", ["127.0.0.2", "::1"], ["127.0.0.1", "::ffff:127.0.0.1"]),
        ("127.0.0.1:80", ["127.0.0.2"], ["127.0.0.1"]),
        ("127.0.0.1:81", ["127.0.0.1"], []),
        ("0.0.1", ["127.0.0.1"], []),
        ("10.0.0.0/8", ["11.0.0.1", "fd00::1", "stt.example.test"], ["10.1.2.3"]),
        ("10.9.8.7/8", ["11.0.0.1"], ["10.1.2.3"]),
        ("::1", ["::2", "127.0.0.1"], ["::1", "0:0::1"]),
        ("[::1]", ["::2"], ["::1"]),
        ("[::1]:80", ["::2"], ["::1"]),
        ("[::1]:81", ["::1"], []),
        ("0:0:0:0:0:0:0:1", ["::2"], ["::1"]),
        ("fd00::/8", ["fe80::1", "10.0.0.1"], ["fd12::1"]),
        ("FD00::/8", [], ["fd12::1"]),
        ("[fd00::]/8", ["fe80::1"], ["fd12::1"]),
        ("fe80::1%eth0", ["fe80::2%eth0"], ["fe80::1%eth0", "fe80::1"]),
        ("10.0.0.0/99, /8, :80, [, .", ["10.0.0.1", "stt.example.test", "::1"], []),
        ("xn--bcher-kva.test", [], ["xn--bcher-kva.test"]),
    ],
)  # fmt: skip
def test_hosts_that_no_proxy_lists(no_proxy: str, included: list[str], excluded: list[str]) -> None:
    assert [host for host in included + excluded if is_excluded(host, 80, no_proxy)] == excluded


@given(st.text(max_size=40), st.sampled_from(["stt.example.test", "10.0.0.1", "fd00::1"]))
def test_no_proxy_may_hold_anything(no_proxy: str, host: str) -> None:
    is_excluded(host, 443, no_proxy)


# URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:3128", ("http", "host", 3128, "", "")),
        ("host:3128", ("http", "host", 3128, "", "")),
        ("user:secret@host:3128", ("http", "host", 3128, "user", "secret")),
        ("host", ("http", "host", 80, "", "")),
        ("  HTTP://host:3128/path?query#part ", ("http", "host", 3128, "", "")),
        ("http://host:", ("http", "host", 80, "", "")),
        ("http://us%40er:se%3Acret@host", ("http", "host", 80, "us@er", "se:cret")),
        ("http://user@host", ("http", "host", 80, "user", "")),
        ("http://us@er:secret@host", ("http", "host", 80, "us@er", "secret")),
        ("http://[::1]:3128", ("http", "::1", 3128, "", "")),
        ("[::1]:3128", ("http", "::1", 3128, "", "")),
        ("http://[fe80::1%eth0]", ("http", "fe80::1%eth0", 80, "", "")),
        ("http://b\u00fccher.test:1", ("http", "xn--bcher-kva.test", 1, "", "")),
        ("socks5://host", ("socks5", "host", 1080, "", "")),
        ("socks5h://host:1", ("socks5", "host", 1, "", "")),
        ("socks4://host", ("socks4", "host", 1080, "", "")),
        ("socks4a://user@host", ("socks4", "host", 1080, "user", "")),
        ("http://us\u00e9r:s\u00e9cret@host", ("http", "host", 80, "us\u00e9r", "s\u00e9cret")),
    ],
)
def test_url_of_a_proxy(url: str, expected: tuple[Any, ...]) -> None:
    proxy = parse_proxy(url, "source")
    found = (proxy.scheme, proxy.host, proxy.port, proxy.username, proxy.password)
    assert found == expected


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("gopher://user:secret@host:1", "scheme"),
        ("https://user:secret@host:1", "scheme"),
        ("://user:secret@host:1", "scheme"),
        ("http://", "host"),
        ("http://user:secret@", "host"),
        ("http://user:secret@:80", "host"),
        ("http://user:secret@host:port", "host"),
        ("http://user:secret@host:1:2", "host"),
        ("http://user:sec/ret@host:1", "host"),
        ("http://user:sec#ret@host:1", "host"),
        ("http://user:secret@[::1]evil:80", "host"),
        ("http://user:secret@[::1", "host"),
        ("http://user:secret@ho st:1", "host"),
        ("http://user:secret@host..name", "host"),
        (f"http://user:secret@{'x' * 64}.test", "host"),
        ("http://user:secret@host:0", "port"),
        ("http://user:secret@host:65536", "port"),
        ("http://user:secret@host:" + "9" * 5000, "host"),
        ("socks5://us\u00e9r:secret@host", "ASCII"),
        (f"socks5://user:{'secret' * 50}@host", "255"),
    ],
)
def test_url_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, url: str, problem: str) -> None:
    """The message says where the URL came from, and nothing that is in it."""
    with pytest.raises(SonioxValidationError, match=rf"^the parameter proxy .*{problem}") as given:
        find_proxy(url, PLAIN)
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(SonioxValidationError, match="environment variable HTTPS_PROXY") as found:
        find_proxy(True, SECURE)
    for refused in (given, found):
        assert "sec" not in str(refused.value)
        assert "user:" not in str(refused.value).replace("http://user:password@host:port", "")
        assert refused.value.__cause__ is None


def test_credentials_show_nowhere() -> None:
    proxy = Proxy("http", "::1", 3128, "the parameter proxy", "user-name", "secret")
    assert str(proxy) == "the proxy [::1]:3128 (from the parameter proxy)"
    for text in (repr(proxy), str(proxy)):
        assert "secret" not in text
        assert "user-name" not in text
