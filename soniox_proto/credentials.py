"""How a client authenticates: API keys, and the headers of the upgrade request.

The service takes a key in three places (Soniox docs, "WebSocket authentication" and "Migrate
WebSocket authentication"):

- in the `Authorization` header of the upgrade request. The default, for everything that can set
  headers;
- in the list of WebSocket subprotocols, after `soniox-api-key`. For browsers, which cannot set
  headers, with temporary keys;
- in the start message. Deprecated; from 15 January 2027 a connection that sends its key only there
  is refused.

A connection that sends a key in two of them is answered with an error, so exactly one is used.

A key must never show up where people look or paste: a repr, a log, a traceback, a pickle, an error
message. So it is wrapped in `APIKey` as early as possible, errors say what is wrong with a key
without quoting it, and what a server echoes is redacted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from html import escape
from typing import AnyStr, Final, Literal, NoReturn, TypeAlias, cast

from soniox_proto.errors import SonioxValidationError

__all__ = [
    "API_KEY_ENVIRONMENT_VARIABLE",
    "SUBPROTOCOL",
    "APIKey",
    "Authentication",
    "AuthenticationInput",
    "HeadersInput",
    "check_authentication",
    "check_headers",
]

API_KEY_ENVIRONMENT_VARIABLE: Final = "SONIOX_API_KEY"
"""Environment variable from which clients read the API key."""

SUBPROTOCOL: Final = "soniox-api-key"
"""WebSocket subprotocol that announces the next item in the list as a key. It is the one that the
server selects, so the key itself is not sent back."""

HeadersInput: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers as a mapping or as pairs of name and value."""

# RFC 9110 section 5.6.2 (token) and 5.5 (field value, but without obs-text, whose encoding is
# undefined).
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?)?")
_HEADER_KEY = re.compile(r"[\x21-\x7e]+")
# Keys shorter than this are placeholders for local servers. Real ones have 64 characters.
_SHORT_KEY = 16
# Fewer of the first characters of a key give nothing away.
_HEAD = 8
_UNESCAPED = re.compile(r"[0-9A-Za-z_.~-]+")
_PIECES = re.compile(r"[0-9A-Za-z_.~-]+|\\+|.")
_PLAIN_WORD = re.compile(r"[A-Za-z]+|.{1,3}")

_RESERVED_HEADERS = frozenset(
    {"host", "upgrade", "connection", "content-length", "transfer-encoding"}
)


class Authentication(str, Enum):
    """Where the API key is sent; never in two places at once, which the service refuses."""

    HEADER = "header"
    """`Authorization: Bearer <key>` on the upgrade request."""
    SUBPROTOCOL = "subprotocol"
    """As a WebSocket subprotocol after `soniox-api-key`: for temporary keys, in clients that cannot
    set headers."""
    MESSAGE = "message"
    """In the start message: deprecated, and refused by the service from 15 January 2027 (Soniox
    docs, "Migrate WebSocket authentication"). For old self-hosted endpoints."""


AuthenticationInput: TypeAlias = Authentication | Literal["header", "subprotocol", "message"]
"""Where to send the API key: a member of `Authentication`, or its value."""


class APIKey:
    """An API key that does not show up in a repr, a log, a traceback or a pickle.

    Its value can only be had by asking for it with `reveal`, which is easy to search for.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def checked(cls, value: str | APIKey, authentication: Authentication) -> APIKey:
        """Return `value` as a key that can be sent as `authentication` says.

        Raises `SonioxValidationError` for a key that is empty, or has characters that a header or a
        subprotocol cannot hold. Subprotocols must be RFC 9110 tokens (RFC 6455 section 4.1), which
        the older temporary keys (`temp:...`) are not because of their colon.
        """
        text = value.reveal() if isinstance(value, APIKey) else value
        if not isinstance(text, str) or not _HEADER_KEY.fullmatch(text):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SonioxValidationError(
                "the API key is empty or has characters that it cannot have; expected a str of "
                "visible ASCII without spaces or line ends: was it copied with something around "
                "it?"
            )
        if authentication is Authentication.SUBPROTOCOL and not _TOKEN.fullmatch(text):
            raise SonioxValidationError(
                "the API key has characters that it cannot have when sent as subprotocol, such as "
                "the colon of the older temporary keys (temp:...); send it in the Authorization "
                "header instead (authentication='header')"
            )
        return value if isinstance(value, APIKey) else cls(text)

    def reveal(self) -> str:
        """Return the key itself."""
        return self._value

    def redact(self, echo: AnyStr) -> AnyStr:
        """Return `echo`, something that a peer said, with the key replaced by `[API key]`.

        The key is found in any case, and percent-encoded, escaped for HTML, or escaped as in JSON
        and in a `repr`, even several times over. A key shorter than 16 characters is a placeholder
        such as `key-1`, and is replaced only where it stands as a whole word. A plain word such as
        `local`, or up to three characters, is not replaced at all: it hides no secret, and
        replacing it would garble the peer's text.

        What a peer says may be cut anywhere, by the peer or by a limit of ours. So in the last word
        the first eight characters of a key are enough, and what follows them is hidden too.
        """
        if isinstance(echo, str):
            return self._redacted(echo)
        # Any bytes can be decoded in this way. What is replaced is ASCII.
        return self._redacted(echo.decode("latin-1")).encode("latin-1")

    def _redacted(self, echo: str) -> str:
        echo = re.sub(self._echo_pattern(), "[API key]", echo, flags=re.IGNORECASE)
        last_word = (echo.rsplit(None, 1) or [""])[-1]
        cut = re.search(self._head_pattern(), last_word, flags=re.IGNORECASE)
        return echo if cut is None else echo[: echo.rindex(last_word) + cut.start()] + "[API key]"

    def masker(self, masked: Callable[[str], str]) -> Callable[[str], str]:
        """Return a function that hides the key in a text, as `redact` does, but keeps the length.

        Letters and digits are replaced by what `masked` makes of them. Other characters stay, and
        so do their escapes, so that JSON is still JSON. The first eight characters of a key are
        enough anywhere in the text.
        """
        pieces = _PIECES.findall(self._value)
        special = sorted({piece[0] for piece in pieces if not _UNESCAPED.fullmatch(piece)})
        spellings = "|".join([*map(_spellings, special), "([0-9A-Za-z_.~-])"])
        character = re.compile(spellings, re.IGNORECASE)
        begun = f"{self._head_pattern()}(?:{spellings})*"
        key = re.compile(f"{self._echo_pattern()}|{begun}", re.IGNORECASE)

        def mask(match: re.Match[str]) -> str:
            return masked(match.group()) if match.group(1) else match.group()

        return lambda text: key.sub(lambda found: character.sub(mask, found.group()), text)

    def _echo_pattern(self) -> str:
        pattern = "".join(map(_spellings, _PIECES.findall(self._value)))
        if len(self._value) >= _SHORT_KEY:
            return pattern
        if _PLAIN_WORD.fullmatch(self._value):
            return "(?!)"
        return rf"(?<![0-9A-Za-z_-])(?:{pattern})(?![0-9A-Za-z_-])"

    def _head_pattern(self) -> str:
        if len(self._value) < _SHORT_KEY:
            return "(?!)"
        return "".join(map(_spellings, _PIECES.findall(self._value[:_HEAD])))

    def __repr__(self) -> str:
        return "APIKey('[hidden]')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, APIKey) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; give it to the new process by other means")


def _spellings(piece: str) -> str:
    """Return a pattern for the ways in which a piece of a key may be written.

    The piece is one special character, a run of backslashes, or characters that nobody escapes.
    """
    if _UNESCAPED.fullmatch(piece):
        return re.escape(piece)
    count, code, character = len(piece), ord(piece[0]), piece[0]
    # Each escaping doubles the backslashes. Three may be on top of each other; without a bound, a
    # text of backslashes would take a time that grows with the square of its length.
    slashes = r"\\{0,7}"
    plain = rf"\\{{{count},{8 * count}}}" if character == "\\" else slashes + re.escape(character)
    named = escape(character)
    coded = [rf"%(?:25){{0,3}}{code:02x}", rf"{slashes}\\(?:u00|x){code:02x}"]
    coded += [rf"&#(?:0*{code}|x0*{code:x});", *([] if named == character else [named])]
    # `&` begins `&amp;`, so it is tried last.
    return rf"(?:(?:{'|'.join(coded)}){{{count}}}|{plain})"


def check_authentication(value: AuthenticationInput) -> Authentication:
    """Return the form of authentication; raises `SonioxValidationError` if there is none such."""
    try:
        return Authentication(value)
    except ValueError:
        forms = ", ".join(repr(form.value) for form in Authentication)
        raise SonioxValidationError(
            f"authentication must be one of {forms}, not {value!r}"
        ) from None


def check_headers(
    headers: HeadersInput | None, authentication: Authentication
) -> list[tuple[str, str]]:
    """Return additional headers as a list of pairs of name and value.

    Line ends in a name or a value would let it smuggle further headers into the request, so both
    are held to HTTP's grammar.

    Raises `SonioxValidationError` for anything but pairs of str, for names and values that HTTP
    does not allow, and for headers that the handshake sets itself. The message quotes no value,
    since it may be a secret.
    """
    try:
        pairs = [] if headers is None else _pairs(headers)
    except SonioxValidationError:
        raise
    except Exception as error:
        # A mapping or an iterable of the user's may raise anything.
        raise SonioxValidationError(
            f"additional_headers cannot be read: {type(headers).__name__} raised "
            f"{type(error).__name__}"
        ) from error
    for name, value in pairs:
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            raise SonioxValidationError(f"{name!r} is not a valid header name")
        if not _FIELD_VALUE.fullmatch(value):
            raise SonioxValidationError(
                f"the value of header {name!r} has characters that a header cannot hold; "
                "expected printable ASCII on one line, without spaces at its ends"
            )
        if lower in _RESERVED_HEADERS or lower.startswith("sec-websocket-"):
            raise SonioxValidationError(f"header {name!r} is set by the WebSocket handshake itself")
        if lower == "authorization" and authentication is Authentication.HEADER:
            raise SonioxValidationError(
                "header 'Authorization' carries the API key; give the key as api_key, or choose "
                "another form of authentication"
            )
    return pairs


def _pairs(headers: object) -> list[tuple[str, str]]:
    """Return headers of any kind as pairs of str, or refuse them."""
    pairs: list[tuple[str, str]] = []
    if isinstance(headers, Mapping):
        headers = cast("Mapping[object, object]", headers).items()
    if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
        _refuse_headers(headers)
    for pair in cast("Iterable[object]", headers):
        if not isinstance(pair, (tuple, list)):
            _refuse_headers(pair)
        match cast("tuple[object, ...] | list[object]", pair):
            case (str(name), str(value)):
                pairs.append((name, value))
            case items:
                _refuse_headers(*items)
    return pairs


def _refuse_headers(*items: object) -> NoReturn:
    kinds = " and ".join(type(item).__name__ for item in items[:3])
    raise SonioxValidationError(
        "additional_headers must be a mapping of str to str, or pairs of str "
        f"(name, value); found {kinds or 'an empty pair'}"
    )
