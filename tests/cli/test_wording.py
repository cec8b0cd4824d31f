"""What a person reads."""

from __future__ import annotations

import errno

import pytest

from soniox_adapters.cli.wording import (
    describe_error,
    format_seconds,
    format_span,
    one_line,
    utterance_text,
)
from soniox_proto import (
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxDurationLimitError,
    SonioxError,
    SonioxHandshakeError,
    SonioxInvalidRequestError,
    SonioxProtocolError,
    SonioxQuotaError,
    SonioxRateLimitError,
    SonioxRealtimeError,
    SonioxServerError,
    SonioxServerTimeoutError,
    SonioxServiceUnavailableError,
    SonioxTimeoutError,
    SonioxValidationError,
    Token,
    Utterance,
)


def utterance(*tokens: Token) -> Utterance:
    return Utterance(tokens)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (0, "0.0"),
        (180, "0.2"),
        (59_949, "59.9"),
        (59_950, "1:00.0"),
        (64_500, "1:04.5"),
        (3_599_999, "1:00:00.0"),
        (3_725_040, "1:02:05.0"),
    ],
)
def test_times(milliseconds: int, expected: str) -> None:
    assert format_seconds(milliseconds) == expected


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "expected"),
    [(200, 3100, "0.2-3.1"), (None, 3100, "-3.1"), (200, None, "0.2-"), (None, None, "")],
)
def test_spans(start_ms: int | None, end_ms: int | None, expected: str) -> None:
    assert format_span(start_ms, end_ms) == expected


def test_text_stays_in_its_line_and_controls_nothing() -> None:
    assert one_line(" a\n\tb\r\n c\x1b[31m\x07\x9b1m\x00 ") == "a b c[31m1m"


def test_an_utterance_of_a_plain_stream_is_its_text() -> None:
    assert utterance_text(utterance(Token(text=" good"), Token(text=" day"))) == "good day"


def test_an_utterance_names_its_speaker_and_language() -> None:
    spoken = utterance(Token(text=" good day", speaker="2", language="en"))
    assert utterance_text(spoken) == "Speaker 2: [en] good day"


def test_a_translation_has_a_line_of_its_own() -> None:
    original = Token(text="good day", language="en", translation_status="original")
    translation = Token(text="buenos días", language="es", translation_status="translation")
    assert utterance_text(utterance(original, translation)) == (
        "[en] good day\n    [es] buenos días"
    )
    assert utterance_text(utterance(translation)) == "    [es] buenos días"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (SonioxAuthenticationError("x"), "check the API key (SONIOX_API_KEY) and its region"),
        (SonioxInvalidRequestError("x"), "check the options"),
        (SonioxQuotaError("x"), "add funds"),
        (SonioxRateLimitError("x"), "wait a little"),
        (SonioxServerTimeoutError("x"), "at the speed at which it was spoken"),
        (SonioxDurationLimitError("x"), "shorter parts"),
        (SonioxServiceUnavailableError("x"), "try again"),
        (SonioxServerError("x"), "try again"),
        (SonioxHandshakeError("x", status_code=401), "check the API key"),
        (SonioxHandshakeError("x", status_code=404), "check the URL, and the proxy"),
        (SonioxConnectionError("x"), "check the network and the URL"),
        (SonioxConnectionError("x", close_code=1006), "the transcript is not complete; try again"),
        (SonioxProtocolError("x"), "check that the URL is that of a Soniox service"),
        (SonioxTimeoutError("x", operation="connect"), "check the network and the URL, then"),
    ],
)
def test_errors_say_what_to_do(error: SonioxError, advice: str) -> None:
    text = describe_error(error)
    assert text.startswith("x; ")
    assert advice in text
    # Where the server is our own, nothing of that would help.
    assert describe_error(error, advise=False) == "x"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_the_network_is_not_to_blame_for_too_many_open_files(number: int) -> None:
    error = SonioxConnectionError("x")
    error.__cause__ = OSError(number, "Too many open files")
    assert describe_error(error) == "x; raise the limit of open files (ulimit -n)"


def test_an_error_that_says_it_all_gets_no_advice() -> None:
    assert describe_error(SonioxValidationError("no\nkey")) == "no key"


def test_a_source_that_failed_is_told_as_such() -> None:
    error = SonioxRealtimeError("the session was aborted")
    error.__cause__ = OSError(5, "Input/output error")
    assert describe_error(error) == "cannot read the audio: Input/output error"
    error.__cause__ = OSError("gone")
    assert describe_error(error) == "cannot read the audio: gone"
    error.__cause__ = SonioxValidationError("talk.wav has a bad WAV header")
    assert describe_error(error) == "talk.wav has a bad WAV header"
