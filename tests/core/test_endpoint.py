from __future__ import annotations

import copy
import html
import json
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    API_KEY_ENVIRONMENT_VARIABLE,
    DEFAULT_WEBSOCKET_URL,
    REGIONS,
    APIKey,
    Authentication,
    Endpoint,
    SonioxValidationError,
    websocket_url,
)
from soniox_proto.credentials import check_headers
from tests.support.core.client import Client
from tests.support.unreadable import UnreadableMapping


class TestRegions:
    def test_urls_are_the_documented_ones(self) -> None:
        assert REGIONS == {
            "us": "wss://stt-rt.soniox.com/transcribe-websocket",
            "eu": "wss://stt-rt.eu.soniox.com/transcribe-websocket",
            "jp": "wss://stt-rt.jp.soniox.com/transcribe-websocket",
            "in": "wss://stt-rt.in.soniox.com/transcribe-websocket",
        }
        assert websocket_url("us") == DEFAULT_WEBSOCKET_URL
        assert API_KEY_ENVIRONMENT_VARIABLE == "SONIOX_API_KEY"

    @pytest.mark.parametrize("region", REGIONS)
    def test_each_can_be_connected_to(self, region: str) -> None:
        endpoint = Endpoint.parse(websocket_url(region))
        assert (endpoint.secure, endpoint.port) == (True, 443)
        assert endpoint.target == "/transcribe-websocket"
        assert endpoint.host_header == endpoint.host

    @pytest.mark.parametrize("region", ["", "US", "mars"])
    def test_others_are_refused_with_the_choice(self, region: str) -> None:
        with pytest.raises(SonioxValidationError, match="the regions are us, eu, jp, in"):
            websocket_url(region)


class TestURL:
    @pytest.mark.parametrize(
        ("url", "host", "port", "secure", "target", "host_header"),
        [
            ("wss://example.com/a/b?c=d", "example.com", 443, True, "/a/b?c=d", "example.com"),
            ("wss://example.com", "example.com", 443, True, "/", "example.com"),
            ("wss://example.com?c", "example.com", 443, True, "/?c", "example.com"),
            ("wss://example.com:443/", "example.com", 443, True, "/", "example.com"),
            ("wss://example.com:80/", "example.com", 80, True, "/", "example.com:80"),
            ("ws://example.com/", "example.com", 80, False, "/", "example.com"),
            ("ws://example.com:80/", "example.com", 80, False, "/", "example.com"),
            ("ws://localhost:8765/x", "localhost", 8765, False, "/x", "localhost:8765"),
            ("WSS://Example.COM:/", "example.com", 443, True, "/", "example.com"),
            ("ws://127.0.0.1:65535/", "127.0.0.1", 65535, False, "/", "127.0.0.1:65535"),
            ("ws://[::1]/", "::1", 80, False, "/", "[::1]"),
            ("ws://[::1]:8765/", "::1", 8765, False, "/", "[::1]:8765"),
            ("ws://my_host.local./", "my_host.local.", 80, False, "/", "my_host.local."),
            ("ws://h/a%20b;c?d=%C3%A9", "h", 80, False, "/a%20b;c?d=%C3%A9", "h"),
            (f"ws://{'a' * 63}/", "a" * 63, 80, False, "/", "a" * 63),
            ("ws://[2001:DB8::1]:80/", "2001:db8::1", 80, False, "/", "[2001:db8::1]"),
            ("ws://[::ffff:1.2.3.4]/", "::ffff:1.2.3.4", 80, False, "/", "[::ffff:1.2.3.4]"),
            ("ws://[fe80::1%25eth0]:81/", "fe80::1%eth0", 81, False, "/", "[fe80::1]:81"),
        ],
    )
    def test_is_taken_apart(
        self, url: str, host: str, port: int, secure: bool, target: str, host_header: str
    ) -> None:
        endpoint = Endpoint.parse(url)
        assert (endpoint.host, endpoint.port, endpoint.secure) == (host, port, secure)
        assert (endpoint.target, endpoint.host_header) == (target, host_header)
        head = Client(url=url).connect()
        assert head.start_line == f"GET {target} HTTP/1.1"
        assert head.values("host") == [host_header]

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("", "must begin with wss://"),
            ("stt-rt.soniox.com", "must begin with wss://"),
            ("https://stt-rt.soniox.com/", "must begin with wss://"),
            ("//stt-rt.soniox.com/", "must begin with wss://"),
            ("wss:/stt-rt.soniox.com/", "has no host"),
            ("wss://", "has no host"),
            ("wss://:443/", "has no host"),
            ("wss://key@example.com/", "must not hold credentials"),
            ("wss://user:password@example.com/", "must not hold credentials"),
            ("wss://example.com/#", "must not have a fragment"),
            ("wss://example.com/#part", "must not have a fragment"),
            ("wss://example.com:0/", "has port 0"),
            ("wss://example.com:65536/", "is malformed"),
            ("wss://example.com:http/", "is malformed"),
            ("wss://[::1/", "is malformed"),
            ("ws://[::1]evil:80/", "neither a host name nor an address"),
            ("ws://evil[::1]:80/", "is malformed|neither a host name nor an address"),
            ("ws://[::1][::2]/", "is malformed|neither a host name nor an address"),
            ("ws://::1/", "is malformed|neither a host name nor an address"),
            ("ws://[]/", "is malformed|not an IPv6 address"),
            ("ws://[example.com]/", "is malformed|not an IPv6 address"),
            ("ws://[127.0.0.1]/", "is malformed|not an IPv6 address"),
            ("ws://[v1.x]/", "is malformed|not an IPv6 address"),
            ("ws://[::12345]/", "is malformed|not an IPv6 address"),
            ("wss://exa mple.com/", "without spaces"),
            ("wss://example.com/a b", "without spaces"),
            ("wss://example.com/\r\nX-Injected: 1", "printable ASCII"),
            ("wss://example.com/\tx", "printable ASCII"),
            ("wss://example.com/\x00", "printable ASCII"),
            ("wss://m\u00fcnchen.example/", "printable ASCII"),
            (None, "printable ASCII"),
            (b"wss://example.com/", "printable ASCII"),
            ("wss://exa!mple.com/", "neither a host name nor an address"),
            ("wss://example..com/", "neither a host name nor an address"),
            (f"wss://{'a' * 64}/", "neither a host name nor an address"),
            (f"wss://{'a.' * 127}/", "neither a host name nor an address"),
            (f"wss://{'a' * 63}:8765/", "too long to be followed by a port"),
        ],
    )
    def test_what_cannot_be_connected_to_is_refused(self, url: Any, problem: str) -> None:
        with pytest.raises(SonioxValidationError, match=problem):
            Endpoint.parse(url)

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("wss://example.com/", "example.com"),
            ("wss://example.com./", "example.com"),
            ("wss://[::1]/", "::1"),
        ],
    )
    def test_tls_knows_no_trailing_dot(self, url: str, name: str) -> None:
        assert Endpoint.parse(url).server_hostname == name

    @given(url=st.text() | st.text().map("wss://".__add__) | st.text().map("ws://h/".__add__))
    def test_any_text_is_refused_or_makes_one_clean_request(self, url: str) -> None:
        try:
            client = Client(url=url)
        except SonioxValidationError:
            return
        head = client.connect()
        assert head.start_line == f"GET {client.connection.endpoint.target} HTTP/1.1"
        assert {name.lower() for name, _ in head.headers} == {
            "host",
            "upgrade",
            "connection",
            "sec-websocket-key",
            "sec-websocket-version",
            "authorization",
        }

    def test_its_query_is_not_shown(self) -> None:
        assert "secret" not in repr(Endpoint.parse("wss://example.com/?token=secret"))
        with pytest.raises(SonioxValidationError) as caught:
            Endpoint.parse("wss://example.com/?token=secret#")
        assert "secret" not in str(caught.value)


class TestAdditionalHeaders:
    @pytest.mark.parametrize(
        "headers", [{"X-One": "1", "X-Two": ""}, [("X-One", "1"), ("X-Two", "")], None, {}, ()]
    )
    def test_may_be_a_mapping_or_pairs(self, headers: Any) -> None:
        head = Client(additional_headers=headers).connect()
        expected = ["1"] if headers else []
        assert head.values("x-one") == expected

    def test_pairs_may_repeat_a_name_and_come_from_an_iterator(self) -> None:
        pairs = iter([("Cookie", "a=1"), ("Cookie", "b=2")])
        assert Client(additional_headers=pairs).connect().values("cookie") == ["a=1", "b=2"]

    @pytest.mark.parametrize(
        "name",
        ["", "X One", "X:One", "X\r\nY", "X\x00", "\u00dc", "X-One ", "(x)"],
    )
    def test_names_that_are_none_are_refused(self, name: str) -> None:
        with pytest.raises(SonioxValidationError, match="not a valid header name"):
            Client(additional_headers={name: "1"})

    @pytest.mark.parametrize(
        "value",
        ["a\r\nX-Injected: 1", "a\nb", "a\rb", "a\x00b", "\x7f", "gr\u00fcn", " zz", "zz ", "\t"],
    )
    def test_values_that_no_header_holds_are_refused_and_not_quoted(self, value: str) -> None:
        with pytest.raises(SonioxValidationError, match="cannot hold") as caught:
            Client(additional_headers={"X-One": value})
        assert value not in str(caught.value)

    @pytest.mark.parametrize(
        "name",
        [
            "Host",
            "UPGRADE",
            "connection",
            "Content-Length",
            "Transfer-Encoding",
            "Sec-WebSocket-Key",
            "sec-websocket-protocol",
        ],
    )
    def test_headers_of_the_handshake_are_refused(self, name: str) -> None:
        with pytest.raises(SonioxValidationError, match="set by the WebSocket handshake itself"):
            Client(additional_headers={name: "1"})

    @pytest.mark.parametrize("name", ["Authorization", "AUTHORIZATION"])
    def test_a_second_authorization_is_refused(self, name: str) -> None:
        with pytest.raises(SonioxValidationError, match="carries the API key"):
            Client(additional_headers={name: "Bearer other"})

    def test_a_gateway_may_have_its_own_authorization_beside_the_subprotocol(self) -> None:
        client = Client(
            additional_headers={"Authorization": "Basic dXNlcg=="}, authentication="subprotocol"
        )
        assert client.connect().values("authorization") == ["Basic dXNlcg=="]

    @given(name=st.text(max_size=8), value=st.text(max_size=8))
    def test_any_header_is_refused_or_sent_as_it_is(self, name: str, value: str) -> None:
        try:
            pairs = check_headers([(name, value)], Authentication.HEADER)
        except SonioxValidationError:
            return
        assert (name, value) in Client(additional_headers=pairs).connect().headers


def unreadable_pairs() -> Iterator[tuple[str, str]]:
    yield "X-One", "1"
    raise LookupError


class TestHeadersOfAnotherKind:
    @pytest.mark.parametrize(
        ("headers", "found"),
        [
            (5, "int"),
            ("X-One: 1", "str"),
            (b"X-One", "bytes"),
            (["X-One: 1"], "str"),
            ([b"X-One"], "bytes"),
            ([("X-One",)], "str"),
            ([()], "an empty pair"),
            ([("X-One", "1", "2")], "str and str and str"),
            ([("X-One", b"1")], "str and bytes"),
            ([(b"X-One", "1")], "bytes and str"),
            ([("X-One", None)], "str and NoneType"),
            ([{"X-One", "1"}], "set"),
            ({"X-One": 1}, "str and int"),
            ({5: "1"}, "int and str"),
            (object(), "object"),
        ],
    )
    def test_are_refused_by_the_constructor(self, headers: Any, found: str) -> None:
        with pytest.raises(SonioxValidationError, match="must be a mapping of str to str") as error:
            Client(additional_headers=headers)
        assert str(error.value).endswith(f"found {found}")

    @pytest.mark.parametrize("headers", [UnreadableMapping(), unreadable_pairs()])
    def test_that_cannot_be_read_are_refused(self, headers: Any) -> None:
        message = f"additional_headers cannot be read: {type(headers).__name__} raised LookupError"
        with pytest.raises(SonioxValidationError, match=message) as error:
            Client(additional_headers=headers)
        assert isinstance(error.value.__cause__, LookupError)

    def test_any_iterable_of_pairs_will_do(self) -> None:
        head = Client(additional_headers=iter([["X-One", "1"], ("X-Two", "2")])).connect()
        assert head.values("x-one") + head.values("x-two") == ["1", "2"]


KEY_CHARACTERS = [chr(code) for code in range(0x21, 0x7F)]


class TestAPIKey:
    @given(st.text(alphabet=KEY_CHARACTERS, min_size=1))
    def test_visible_ascii_goes_into_a_header(self, key: str) -> None:
        for form in (Authentication.HEADER, Authentication.MESSAGE):
            assert APIKey.checked(key, form).reveal() == key

    @pytest.mark.parametrize("form", Authentication)
    @pytest.mark.parametrize(
        "key", ["", " ", "a b", " key", "key\n", "key\r\nX: 1", "k\u00e9y", "\x7f", 5, b"key"]
    )
    def test_anything_else_is_refused_and_not_quoted(self, key: Any, form: Authentication) -> None:
        with pytest.raises(SonioxValidationError, match="the API key is empty or has") as caught:
            APIKey.checked(key, form)
        assert repr(key) not in str(caught.value)

    @pytest.mark.parametrize(
        "key", ["a,b", "a/b", "a=b", 'a"b', "a(b", "temp:WYJ67RBEFUWQXXPKYPD2"]
    )
    def test_a_subprotocol_holds_less_than_a_header(self, key: str) -> None:
        APIKey.checked(key, Authentication.HEADER)
        with pytest.raises(SonioxValidationError, match=r"sent as subprotocol.*'header'") as caught:
            APIKey.checked(key, Authentication.SUBPROTOCOL)
        assert key not in str(caught.value)

    def test_may_be_given_wrapped(self) -> None:
        assert APIKey.checked(APIKey("key"), Authentication.HEADER) == APIKey("key")

    def test_compares_by_value(self) -> None:
        assert APIKey("a") == APIKey("a")
        assert APIKey("a") != APIKey("b")
        assert APIKey("a") != "a"
        assert len({APIKey("a"), APIKey("a"), APIKey("b")}) == 2

    def test_shows_nowhere(self) -> None:
        key = APIKey("sk-secret")
        assert "secret" not in f"{key!r} {key!s} {key} {[key]}"
        assert not hasattr(key, "__dict__")
        for take_along in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not pickled") as caught:
                take_along(key)
            assert "secret" not in str(caught.value)

    def test_is_taken_out_of_what_a_peer_echoes(self) -> None:
        assert APIKey("sk-1").redact(b"no sk-1, sk-1!") == b"no [API key], [API key]!"

    @pytest.mark.parametrize(
        ("key", "echo", "expected"),
        [
            # Of the length that keys have: wherever it stands, however it is written.
            ("0123456789abcdef", "x0123456789ABCDEFx", "x[API key]x"),
            ("temp:0123456789abcdef", "?k=temp%3A0123456789abcdef", "?k=[API key]"),
            ("temp/0123456789abcdef", r"temp\/0123456789abcdef", "[API key]"),
            ("temp/0123456789abcdef", "temp%252f0123456789abcdef", "[API key]"),
            ("temp<0123456789abcdef", r"temp\u003c0123456789abcdef", "[API key]"),
            ("temp<0123456789abcdef", r"temp\\x3C0123456789abcdef", "[API key]"),
            ("temp<0123456789abcdef", "temp&#060;0123456789abcdef", "[API key]"),
            (r"\\0123456789abcdef", r"\x5c\x5c0123456789abcdef", "[API key]"),
            # The text is cut within it.
            ("0123456789abcdef", "no 01234567", "no [API key]"),
            ("0123456789abcdef", "no (0123456789ABCDE...)\n", "no ([API key]"),
            ("temp/0123456789abcdef", r"no temp\/012345", "no [API key]"),
            ("0123456789abcdef", "0123456 or 01234567 it is", "0123456 or 01234567 it is"),
            ("key-0123456789", "key-0123456", "key-0123456"),
            # Short ones are placeholders: only where the whole word is the key.
            ("sk-1", "sk-1 sk-12 sk-1-2 ask-1 (sk-1)", "[API key] sk-12 sk-1-2 ask-1 ([API key])"),
            ("k.*y", "key k.*y", "key [API key]"),
            # These would garble what is said.
            ("a", "a bad request", "a bad request"),
            ("key", "Invalid API key.", "Invalid API key."),
            ("local", "no local server", "no local server"),
            ("123", "code 123", "code 123"),
        ],
    )
    def test_is_hidden_without_garbling_the_rest(self, key: str, echo: str, expected: str) -> None:
        assert APIKey(key).redact(echo) == expected
        assert APIKey(key).redact(echo.encode()) == expected.encode()

    @given(before=st.text(), after=st.text(), key=st.text(KEY_CHARACTERS, min_size=16))
    def test_of_full_length_is_hidden_everywhere(self, before: str, after: str, key: str) -> None:
        assert key not in APIKey(key).redact(before + key + after)

    @given(
        key=st.text(st.sampled_from("ab\\'\"/&<:%"), min_size=16),
        escapes=st.sampled_from([[partial(quote, safe="")], [html.escape]])
        | st.lists(st.sampled_from([repr, json.dumps]), max_size=3),
    )
    def test_is_hidden_in_escaped_text(self, key: str, escapes: list[Callable[[str], str]]) -> None:
        escaped = key
        for escape in escapes:
            escaped = escape(escaped)
        # What is left are the quotes that were put around it, and their own escaping.
        left = APIKey(key).redact(escaped).replace("[API key]", "")
        assert set(left) <= set("'\"\\")
