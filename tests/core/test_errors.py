from __future__ import annotations

import copy
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

import soniox_proto
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
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_proto.errors import fresh

PARENTS: dict[type[SonioxError], tuple[type[Exception], ...]] = {
    SonioxValidationError: (SonioxError, ValueError),
    SonioxRealtimeError: (SonioxError,),
    SonioxStateError: (SonioxRealtimeError,),
    SonioxConnectionError: (SonioxRealtimeError,),
    SonioxHandshakeError: (SonioxConnectionError,),
    SonioxTimeoutError: (SonioxRealtimeError, TimeoutError),
    SonioxProtocolError: (SonioxRealtimeError,),
    SonioxServerError: (SonioxRealtimeError,),
    SonioxAuthenticationError: (SonioxServerError,),
    SonioxInvalidRequestError: (SonioxServerError,),
    SonioxQuotaError: (SonioxServerError,),
    SonioxRateLimitError: (SonioxServerError,),
    SonioxServerTimeoutError: (SonioxServerError,),
    SonioxServiceUnavailableError: (SonioxServerError,),
    SonioxDurationLimitError: (SonioxServerError,),
}

AT_ONCE, LATER, UNKNOWN = 0.0, 10.0, None

# error_code, error_type, class, retryable, retry_after
SERVER_ERRORS: list[tuple[int | None, str | None, type[SonioxServerError], bool, float | None]] = [
    (400, "invalid_request", SonioxInvalidRequestError, False, UNKNOWN),
    (400, "model_not_available", SonioxInvalidRequestError, False, UNKNOWN),
    (401, "unauthenticated", SonioxAuthenticationError, False, UNKNOWN),
    (403, "permission_denied", SonioxAuthenticationError, False, UNKNOWN),
    (403, "temp_api_key_session_expired", SonioxAuthenticationError, True, AT_ONCE),
    (402, "organization_balance_exhausted", SonioxQuotaError, False, UNKNOWN),
    (402, "organization_monthly_budget_exhausted", SonioxQuotaError, False, UNKNOWN),
    (402, "project_monthly_budget_exhausted", SonioxQuotaError, False, UNKNOWN),
    (408, "request_timeout", SonioxServerTimeoutError, True, UNKNOWN),
    (413, "max_duration_reached", SonioxDurationLimitError, True, AT_ONCE),
    (429, "limit_exceeded", SonioxRateLimitError, True, LATER),
    (429, "max_concurrent_connections_reached", SonioxRateLimitError, True, LATER),
    (500, "internal_error", SonioxServiceUnavailableError, True, UNKNOWN),
    (503, "service_unavailable", SonioxServiceUnavailableError, True, AT_ONCE),
    # Without a type the code decides, as with a type that is new.
    (400, None, SonioxInvalidRequestError, False, UNKNOWN),
    (401, None, SonioxAuthenticationError, False, UNKNOWN),
    (402, None, SonioxQuotaError, False, UNKNOWN),
    (403, "brand_new", SonioxAuthenticationError, False, UNKNOWN),
    (408, None, SonioxServerTimeoutError, True, UNKNOWN),
    (413, None, SonioxDurationLimitError, True, AT_ONCE),
    (429, "brand_new", SonioxRateLimitError, True, LATER),
    (500, None, SonioxServiceUnavailableError, True, UNKNOWN),
    (503, "brand_new", SonioxServiceUnavailableError, True, AT_ONCE),
    (502, None, SonioxServiceUnavailableError, True, UNKNOWN),
    (504, "gateway_timeout", SonioxServiceUnavailableError, True, UNKNOWN),
    (599, None, SonioxServiceUnavailableError, True, UNKNOWN),
    (600, None, SonioxServerError, False, UNKNOWN),
    (-501, None, SonioxServerError, False, UNKNOWN),
    # The type is the stable one: it decides against the code.
    (400, "limit_exceeded", SonioxRateLimitError, True, LATER),
    (503, "invalid_request", SonioxInvalidRequestError, False, UNKNOWN),
    (None, "unauthenticated", SonioxAuthenticationError, False, UNKNOWN),
    # Nothing known.
    (418, "teapot", SonioxServerError, False, UNKNOWN),
    (418, None, SonioxServerError, False, UNKNOWN),
    (None, None, SonioxServerError, False, UNKNOWN),
]


def server_error(
    error_code: int | None,
    error_type: str | None,
    error_message: str | None = "Cannot continue.",
    request_id: str | None = None,
) -> SonioxServerError:
    return SonioxServerError.from_message(
        error_code=error_code,
        error_type=error_type,
        error_message=error_message,
        request_id=request_id,
        more_info="https://soniox.com/docs",
    )


def test_the_tree_is_the_documented_one() -> None:
    public = {
        value
        for name in soniox_proto.__all__
        if isinstance(value := getattr(soniox_proto, name), type)
        and issubclass(value, BaseException)
    }
    assert public == {SonioxError, *PARENTS}
    for error_class, parents in PARENTS.items():
        assert error_class.__bases__ == parents


@pytest.mark.parametrize(
    ("code", "error_type", "error_class", "retryable", "retry_after"), SERVER_ERRORS
)
def test_server_errors(
    code: int | None,
    error_type: str | None,
    error_class: type[SonioxServerError],
    retryable: bool,
    retry_after: float | None,
) -> None:
    error = server_error(code, error_type)
    assert type(error) is error_class
    assert (error.error_code, error.error_type) == (code, error_type)
    assert error.error_message == "Cannot continue."
    assert error.more_info == "https://soniox.com/docs"
    assert (error.retryable, error.retry_after) == (retryable, retry_after)


@pytest.mark.parametrize(
    ("code", "error_type", "message", "request_id", "text"),
    [
        (503, "service_unavailable", "Restart.", "r-1", "503 service_unavailable: Restart. (r"),
        (503, None, "Restart.", None, "error 503: Restart."),
        (None, "unauthenticated", None, None, "error unauthenticated: no description"),
    ],
)
def test_the_text_of_a_server_error_names_what_is_known(
    code: int | None,
    error_type: str | None,
    message: str | None,
    request_id: str | None,
    text: str,
) -> None:
    error = server_error(code, error_type, message, request_id)
    assert text in str(error)
    assert ("(request r-1)" in str(error)) is (request_id is not None)


class TestHandshakeError:
    @pytest.mark.parametrize(
        ("status_code", "retryable"),
        [
            (302, False),
            (400, False),
            (401, False),
            (402, False),
            (403, False),
            (404, False),
            (407, False),
            (408, True),
            (425, True),
            (426, False),
            (429, True),
            (500, True),
            (502, True),
            (503, True),
            (504, True),
            (507, True),
            (520, True),
            (0, False),
        ],
    )
    def test_status_tells_whether_to_retry(self, status_code: int, retryable: bool) -> None:
        headers = {"retry-after": "7"}
        error = SonioxHandshakeError("refused", status_code=status_code, headers=headers)
        assert error.retryable is retryable
        assert error.retry_after == (7.0 if retryable else None)
        assert error.close_code is None

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (None, None),
            ("0", 0.0),
            ("120", 120.0),
            ("9" * 400, 999999999.0),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("\u0663", None),
            ("Fri, 31 Dec 2027 23:59:59 GMT", None),
        ],
    )
    def test_retry_after(self, value: str | None, seconds: float | None) -> None:
        headers = {} if value is None else {"retry-after": value}
        error = SonioxHandshakeError("refused", status_code=503, headers=headers)
        assert error.retry_after == seconds

    def test_without_a_delay_a_rate_limit_is_waited_for_all_the_same(self) -> None:
        assert SonioxHandshakeError("refused", status_code=429).retry_after == LATER

    def test_headers_are_its_own(self) -> None:
        headers = {"server": "gateway"}
        error = SonioxHandshakeError("refused", status_code=401, headers=headers, body=b"why")
        headers.clear()
        assert error.headers == {"server": "gateway"}
        assert error.body == b"why"


class TestRetryable:
    @pytest.mark.parametrize(
        ("operation", "retryable"),
        [
            ("connect", True),
            ("finalize", True),
            ("ping", True),
            ("receive", False),
            ("send", False),
            ("close", False),
        ],
    )
    def test_timeouts(self, operation: str, retryable: bool) -> None:
        error = SonioxTimeoutError("too late", operation=operation)
        assert (error.operation, error.retryable, error.retry_after) == (operation, retryable, None)
        assert str(error) == "too late"

    @pytest.mark.parametrize(
        ("close_code", "retryable"),
        [
            *((code, False) for code in (1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003)),
            *((code, True) for code in (None, 1005, 1006, 1011, 1012, 1013, 3008, 4000, 4999)),
        ],
    )
    def test_close_codes(self, close_code: int | None, retryable: bool) -> None:
        error = SonioxConnectionError("lost", close_code=close_code)
        assert (error.retryable, error.retry_after) == (retryable, None)

    @pytest.mark.parametrize(
        ("error", "retryable"),
        [
            (SonioxRealtimeError("x"), False),
            (SonioxStateError("x"), False),
            (SonioxConnectionError("x", close_code=1006), True),
            (SonioxProtocolError("x", close_code=1002), False),
            (SonioxServerError("x"), False),
        ],
    )
    def test_others(self, error: SonioxRealtimeError, retryable: bool) -> None:
        assert (error.retryable, error.retry_after) == (retryable, None)


ERRORS: list[SonioxError] = [
    SonioxValidationError("bad"),
    SonioxStateError("closed"),
    SonioxConnectionError("lost", close_code=1011, reason="overload"),
    SonioxHandshakeError("refused", status_code=503, headers={"retry-after": "3"}, body=b"why"),
    SonioxTimeoutError("late", operation="ping"),
    SonioxProtocolError("garbage", close_code=1007),
    *(server_error(code, error_type) for code, error_type, *_ in SERVER_ERRORS),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_cross_process_boundaries_whole(error: SonioxError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


class UsersError(SonioxRealtimeError):
    """An error of a kind whose constructor knows nothing of ours."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one + two)
        self.two = two


class TestFresh:
    @pytest.mark.parametrize(
        "error", [*ERRORS, UsersError(1, 2)], ids=lambda error: type(error).__name__
    )
    def test_is_equal(self, error: SonioxError) -> None:
        cause, context = OSError("reset"), KeyError("key")
        error = copy.copy(error) if not isinstance(error, UsersError) else error
        error.__cause__, error.__context__ = cause, context
        for _ in range(3):
            with pytest.raises(type(error)) as caught:
                raise fresh(error)
            twin = caught.value
            assert twin is not error
            assert type(twin) is type(error)
            assert str(twin) == str(error)
            assert twin.args == error.args
            assert vars(twin) == vars(error)
            assert (twin.__cause__, twin.__context__) == (cause, context)
            assert twin.__suppress_context__ is error.__suppress_context__
            assert error.__traceback__ is None, "it does not grow with each"

    def test_its_traceback_begins_where_the_error_comes_from(self) -> None:
        with pytest.raises(UsersError) as kept:
            raise UsersError(1, 2)
        lengths = set()
        for _ in range(3):
            with pytest.raises(UsersError) as caught:
                raise fresh(kept.value)
            frames = traceback.extract_tb(caught.value.__traceback__)
            lengths.add(len(frames))
            assert frames[-1].line == "raise UsersError(1, 2)"
        assert len(lengths) == 1

    def test_notes_are_its_own(self) -> None:
        error = SonioxStateError("closed")
        vars(error)["__notes__"] = ["first"]
        twin = fresh(error)
        vars(twin)["__notes__"].append("second")
        assert vars(error)["__notes__"] == ["first"]


def test_the_text_of_an_error_is_of_bounded_length() -> None:
    long = "x" * 1_000_000
    error = server_error(10**4000, long, long, long)
    assert len(str(error)) < 5000
    assert error.error_message == long


@given(
    code=st.none() | st.integers(),
    error_type=st.none() | st.text(),
    message=st.none() | st.text(),
    request_id=st.none() | st.text(),
)
def test_any_error_message_becomes_an_error(
    code: int | None, error_type: str | None, message: str | None, request_id: str | None
) -> None:
    error = server_error(code, error_type, message, request_id)
    assert (error.error_code, error.error_message) == (code, message)
    assert (message or "no description") in str(error)
