"""Every way in which a session can end, as data: what happens, and what everybody gets.

`tests/adapters/test_scenarios.py` runs the table on every kind of session. It imports nothing but
the library and the fake server, so a document can be generated from it too (`rows`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from soniox_adapters import (
    Outcome,
    SonioxConnectionError,
    SonioxError,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxServerError,
    SonioxServiceUnavailableError,
    SonioxStateError,
    SonioxTimeoutError,
)
from tests.support.adapters import endings
from tests.support.adapters.server import Peer, Script
from tests.support.core import frames
from tests.support.core.messages import FINISHED, error, result

__all__ = ["HEADER", "SCENARIOS", "TIMES", "Scenario", "User", "rows"]

ONE, TWO = result("one"), result("two")
RESTART = error(503, "service_unavailable", "Cannot continue request (code 1).", request_id="r-1")

TIMES: Final[Mapping[str, Any]] = {
    "connect_timeout_sec": 5.0,
    "close_timeout_sec": 0.2,
    "ping_interval_sec": None,
}
"""Options of every session, unless the scenario has its own."""


class User(Enum):
    """What the user does."""

    RECEIVES = "receives to the end"
    CLOSES = "calls close()"
    ABORTS = "calls abort()"
    ABORTS_WITH_CAUSE = "calls abort(cause)"
    RAISES = "leaves the context by an exception"
    IS_CANCELLED = "leaves the context by a cancellation"


@dataclass(frozen=True)
class Scenario:
    """One ending. Before it the server sends the results `one` and `two`, unless it never opens."""

    name: str
    ending: str
    """What happens, for a reader."""
    server: Script
    """What the server does after `one` and `two`; or, if `connects` is False, from the start."""
    outcome: Outcome
    receives: tuple[str, ...] = ("one", "two")
    """What the receiver gets, in order, before the end."""
    raises: type[SonioxError] | None = None
    """What the receiver, or entering the session, raises then; None: the iteration ends."""
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    """Attributes of that error."""
    told: int | None = None
    """Close code that the server is told; None: no close frame can reach it."""
    connects: bool = True
    """Whether the session can be entered."""
    blocked_sender: type[SonioxError] | None = SonioxStateError
    """What a sender raises that was blocked by a full buffer at the end."""
    later_send: type[SonioxError] = SonioxStateError
    later_receive: type[SonioxError] | None = None
    """What another receive raises; None: it tells of the end again."""
    user: User = User.RECEIVES
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


def _closed_with(code: int) -> Scenario:
    return Scenario(
        f"close-code-{code}",
        f"close frame with code {code}",
        endings.ends(data=frames.close(code, "why")),
        Outcome.LOST,
        told=code,
        raises=SonioxConnectionError,
        details={"close_code": code, "reason": "why"},
        blocked_sender=SonioxConnectionError,
        later_receive=SonioxConnectionError,
    )


def _illegal_code(code: int) -> Scenario:
    return _violated(f"illegal-close-code-{code}", f"close frame with code {code}", code)


def _violated(name: str, ending: str, wrong: int | bytes, close_code: int = 1002) -> Scenario:
    """Return the scenario of a server that breaks a rule and is told so with `close_code`."""
    return Scenario(
        name,
        ending,
        endings.ends(data=frames.close(wrong) if isinstance(wrong, int) else wrong),
        Outcome.LOST,
        told=close_code,
        raises=SonioxProtocolError,
        details={"close_code": close_code},
        blocked_sender=SonioxProtocolError,
        later_receive=SonioxProtocolError,
    )


def _never_opens(
    name: str,
    ending: str,
    server: Script,
    raises: type[SonioxError] = SonioxConnectionError,
    outcome: Outcome = Outcome.LOST,
    *,
    details: Mapping[str, object] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Scenario:
    return Scenario(
        name,
        ending,
        server,
        outcome,
        receives=(),
        raises=raises,
        details=details or {},
        connects=False,
        blocked_sender=None,
        later_receive=raises,
        options=options or {},
    )


_CONNECT_TIMEOUT: Final[Mapping[str, Any]] = {"connect_timeout_sec": 0.2}
_ERROR_DETAILS: Final = {"error_code": 503, "request_id": "r-1", "retryable": True}
_UNKNOWN_OPCODE: Final = frames.encode(3, b"?")

SCENARIOS: Final[tuple[Scenario, ...]] = (
    # The service says that it is over.
    Scenario(
        "finished",
        "finished response, then close 1000",
        endings.ends(FINISHED, data=frames.close(1000)),
        Outcome.FINISHED,
        told=1000,
        receives=("one", "two", "finished"),
    ),
    Scenario(
        "finished-without-close",
        "finished response, then silence",
        endings.ends(FINISHED),
        Outcome.FINISHED,
        told=1000,
        receives=("one", "two", "finished"),
    ),
    Scenario(
        "error-message",
        "error message, then close 1000",
        endings.ends(RESTART, data=frames.close(1000)),
        Outcome.SERVER_ERROR,
        told=1000,
        receives=("one", "two", "error 503"),
        raises=SonioxServiceUnavailableError,
        details=_ERROR_DETAILS,
        later_receive=SonioxServiceUnavailableError,
    ),
    Scenario(
        "error-message-not-raised",
        "error message, then close 1000, with raise_on_error=False",
        endings.ends(RESTART, data=frames.close(1000)),
        Outcome.SERVER_ERROR,
        told=1000,
        receives=("one", "two", "error 503"),
        options={"raise_on_error": False},
    ),
    Scenario(
        "error-message-without-close",
        "error message, then silence",
        endings.ends(RESTART),
        Outcome.SERVER_ERROR,
        told=1001,
        receives=("one", "two", "error 503"),
        raises=SonioxServerError,
        details=_ERROR_DETAILS,
        later_receive=SonioxServerError,
    ),
    *(
        Scenario(
            f"close-code-{code}",
            f"close frame with code {code}, nothing finished",
            endings.ends(data=frames.close(code)),
            Outcome.CLOSED_BY_SERVER,
            told=code,
        )
        for code in (1000, 1001)
    ),
    # The session never opens.
    _never_opens(
        "refused-upgrade",
        "HTTP status 429 instead of the upgrade",
        endings.refuses,
        SonioxHandshakeError,
        Outcome.REJECTED,
        details={
            "status_code": 429,
            "body": b"slow down",
            "retryable": True,
            "retry_after": 7.0,
        },
    ),
    _never_opens(
        "no-websocket",
        "bytes that are not HTTP",
        endings.answers_with_garbage,
        SonioxProtocolError,
    ),
    _never_opens(
        "wrong-accept",
        "101 with a wrong Sec-WebSocket-Accept",
        endings.accepts_wrongly,
        SonioxProtocolError,
    ),
    _never_opens(
        "end-of-stream-while-connecting",
        "end of the stream before the upgrade is answered",
        endings.leaves_before_the_answer,
    ),
    _never_opens(
        "reset-while-connecting",
        "TCP reset before the upgrade is answered",
        endings.resets_before_the_answer,
    ),
    _never_opens(
        "connect-timeout",
        "the upgrade is never answered",
        endings.never_answers,
        SonioxTimeoutError,
        details={"operation": "connect", "retryable": True},
        options=_CONNECT_TIMEOUT,
    ),
    _never_opens(
        "connect-timeout-dripping",
        "the upgrade is answered byte by byte, too slowly",
        endings.drips,
        SonioxTimeoutError,
        details={"operation": "connect"},
        options=_CONNECT_TIMEOUT,
    ),
    # The connection is lost.
    *(_closed_with(code) for code in (1002, 1003, *range(1007, 1014), 3000, 4000, 4999)),
    *(_illegal_code(code) for code in (1004, 1005, 1006, 1014, 1015, 2999, 5000)),
    Scenario(
        "close-without-code",
        "close frame without a code",
        endings.ends(data=frames.close(None)),
        Outcome.LOST,
        told=1000,
        raises=SonioxConnectionError,
        details={"close_code": 1005},
        blocked_sender=SonioxConnectionError,
        later_receive=SonioxConnectionError,
    ),
    Scenario(
        "end-of-stream",
        "end of the stream without a close frame",
        endings.cuts,
        Outcome.LOST,
        raises=SonioxConnectionError,
        details={"close_code": 1006, "retryable": True},
        blocked_sender=SonioxConnectionError,
        later_receive=SonioxConnectionError,
    ),
    Scenario(
        "reset",
        "TCP reset",
        Peer.reset,
        Outcome.LOST,
        raises=SonioxConnectionError,
        details={"close_code": 1006, "retryable": True},
        blocked_sender=SonioxConnectionError,
        later_receive=SonioxConnectionError,
    ),
    Scenario(
        "ping-timeout",
        "pings are not answered",
        Peer.watch,
        Outcome.LOST,
        told=1011,
        raises=SonioxTimeoutError,
        details={"operation": "ping", "retryable": True},
        blocked_sender=SonioxTimeoutError,
        later_receive=SonioxTimeoutError,
        options={"ping_interval_sec": 0.1, "ping_timeout_sec": 0.1},
    ),
    # The server breaks the rules.
    _violated("framing-violation", "frame with an unknown opcode", _UNKNOWN_OPCODE),
    _violated("masked-frame", "masked frame", frames.text(ONE, mask=b"mask")),
    _violated("invalid-utf-8", "text that is not UTF-8", frames.encode(1, b"\xff"), 1007),
    _violated("invalid-json", "message that is not JSON", frames.text('{"tokens": ['), 1007),
    _violated("wrong-json", "JSON that is no message", frames.text('["tokens"]'), 1007),
    Scenario(
        "oversized-message",
        "message over max_message_size",
        endings.ends(result("long" * 100)),
        Outcome.LOST,
        told=1009,
        raises=SonioxProtocolError,
        details={"close_code": 1009},
        blocked_sender=SonioxProtocolError,
        later_receive=SonioxProtocolError,
        options={"max_message_size": 200},
    ),
    # The user ends it.
    Scenario(
        "local-close",
        "the server answers the close frame",
        endings.answers_the_close,
        Outcome.CLOSED_LOCALLY,
        told=1000,
        user=User.CLOSES,
    ),
    Scenario(
        "local-close-unanswered",
        "the server does not answer the close frame",
        Peer.watch,
        Outcome.CLOSED_LOCALLY,
        told=1000,
        user=User.CLOSES,
    ),
    Scenario(
        "finished-while-closing",
        "the finished response comes before the answer to the close frame",
        endings.finishes_while_closing,
        Outcome.FINISHED,
        told=1000,
        receives=("one", "two", "finished"),
        blocked_sender=None,
        user=User.CLOSES,
    ),
    Scenario(
        "abort",
        "nothing more from the server",
        Peer.watch,
        Outcome.ABORTED,
        told=1001,
        user=User.ABORTS,
    ),
    Scenario(
        "abort-with-cause",
        "nothing more from the server",
        Peer.watch,
        Outcome.LOST,
        told=1001,
        raises=SonioxError,
        blocked_sender=SonioxError,
        later_receive=SonioxError,
        user=User.ABORTS_WITH_CAUSE,
    ),
    Scenario(
        "exception",
        "nothing more from the server",
        Peer.watch,
        Outcome.ABORTED,
        told=1001,
        blocked_sender=None,
        user=User.RAISES,
    ),
    Scenario(
        "cancellation",
        "nothing more from the server",
        Peer.watch,
        Outcome.ABORTED,
        told=1001,
        blocked_sender=None,
        user=User.IS_CANCELLED,
    ),
)

HEADER: Final = (
    "ending",
    "the user",
    "receives",
    "then",
    "a blocked sender",
    "later receive",
    "later send",
    "the server is told",
    "outcome",
)


def rows() -> list[tuple[str, ...]]:
    """Return the table as text, a row for each ending, with the columns of `HEADER`."""
    return [
        (
            scenario.ending,
            scenario.user.value,
            ", ".join(scenario.receives) or "-",
            _raised(scenario.raises, "the end" if scenario.connects else "-"),
            _raised(scenario.blocked_sender, "-"),
            _raised(scenario.later_receive, "the end"),
            _raised(scenario.later_send, "-"),
            "-" if scenario.told is None else str(scenario.told),
            scenario.outcome.name,
        )
        for scenario in SCENARIOS
    ]


def _raised(kind: type[SonioxError] | None, otherwise: str) -> str:
    return otherwise if kind is None else kind.__name__
