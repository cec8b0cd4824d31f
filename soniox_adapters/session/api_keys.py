"""API keys that are asked for when a connection is made, instead of given once.

Temporary keys live for a short time only, so a session that makes several connections may need a
new one for each. A function of the user's fetches it, from a server of theirs as a rule. It may
fail as a network does, or return anything, and what it raises may quote a key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from inspect import iscoroutine, iscoroutinefunction
from typing import TypeAlias, cast

from soniox_adapters.connecting.failures import ConnectError, is_fault_of_code
from soniox_proto import SonioxRealtimeError, SonioxValidationError

__all__ = ["APIKeyFunction", "APIKeySource", "asked_key", "check_api_key_function", "key_errors"]

APIKeyFunction: TypeAlias = "Callable[[], str | Awaitable[str]]"
"""A function that returns an API key; for async sessions it may be async."""

APIKeySource: TypeAlias = "str | APIKeyFunction"
"""An API key, or a function that is asked for one whenever a connection is made."""


def check_api_key_function(api_key: object, *, asynchronous: bool) -> APIKeyFunction | None:
    """Return `api_key` if it is a function, None if it is a key or there is none.

    Raises `SonioxValidationError` for an async function, unless the session is `asynchronous`.
    """
    if not callable(api_key):
        return None
    if iscoroutinefunction(api_key) and not asynchronous:
        raise SonioxValidationError(
            "api_key must be a key or a function that returns one, not an async function; those "
            "are for async sessions"
        )
    return cast("APIKeyFunction", api_key)


def asked_key(function: APIKeyFunction) -> str:
    """Return the key that a function returns, and not an awaitable of it."""
    key = function()
    if isinstance(key, Awaitable):
        if iscoroutine(key):
            key.close()
        raise SonioxValidationError("it returned an awaitable, which only async sessions await")
    return key


@contextmanager
def key_errors() -> Generator[None]:
    """Turn what asking for a key raises into `ConnectError`.

    The text names the class of the exception only, because its own text may quote a key.
    """
    asked = "the function given as api_key"
    try:
        yield
    except SonioxRealtimeError as error:
        raise ConnectError(str(error), retryable=error.retryable, error=error) from error
    except SonioxValidationError as error:
        text = f"{asked} returned no key that can be used: {error}"
        raise ConnectError(text, retryable=False) from error
    except Exception as error:
        text = f"{asked} raised {type(error).__name__}"
        raise ConnectError(text, retryable=not is_fault_of_code(error)) from error
