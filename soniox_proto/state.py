"""All states of a session, of either end, and every transition between them.

The tables are data: nothing else in the library changes a state or decides which input a state
takes. An input that a state does not list is refused and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

__all__ = [
    "ENDED_BY_END_OF_AUDIO",
    "SERVER_TRANSITIONS",
    "TRANSITIONS",
    "ServerInput",
    "ServerState",
    "SessionInput",
    "SessionState",
]


class SessionState(Enum):
    """Where a client session is in its life. Pausing is a flag beside it."""

    IDLE = "idle"
    """Nothing happened yet."""
    CONNECTING = "connecting"
    """The upgrade was requested; what the user sends is held."""
    OPEN = "open"
    """The start message is out; audio and controls flow."""
    FINISHING = "finishing"
    """End-of-audio is out; the rest of the transcript is awaited."""
    CLOSING = "closing"
    """The finished response or an error came, or `close()` was called; the end is near."""
    CLOSED = "closed"
    """Over. Nothing leads out of here."""


class SessionInput(Enum):
    """What can happen to a client session."""

    # By the user
    CONNECT = auto()
    START = auto()
    """The WebSocket is open: the start message may go."""
    AUDIO = auto()
    KEEP_ALIVE = auto()
    FINALIZE = auto()
    PAUSE = auto()
    RESUME = auto()
    FINISH = auto()
    """End-of-audio, for the first time."""
    FINISH_AGAIN = auto()
    """End-of-audio when it was queued or sent before: no effect."""
    CLOSE = auto()
    ABORT = auto()
    # By the peer, the network and the timers
    RESULT = auto()
    """A message that ends nothing."""
    FINISHED = auto()
    """The finished response."""
    SERVER_ERROR = auto()
    """An error message."""
    ENDED = auto()
    """The connection is over: closed, refused, lost, or given up."""


def _stay(state: SessionState, *inputs: SessionInput) -> dict[SessionInput, SessionState]:
    return dict.fromkeys(inputs, state)


_I = SessionInput
_S = SessionState

TRANSITIONS: Final[Mapping[SessionState, Mapping[SessionInput, SessionState]]] = {
    _S.IDLE: {
        _I.CONNECT: _S.CONNECTING,
        # Whoever brings an open WebSocket starts right away.
        _I.START: _S.OPEN,
        _I.CLOSE: _S.CLOSED,
        _I.ABORT: _S.CLOSED,
    },
    _S.CONNECTING: {
        **_stay(
            _S.CONNECTING,
            _I.AUDIO,
            _I.KEEP_ALIVE,
            _I.FINALIZE,
            _I.PAUSE,
            _I.RESUME,
            # Held with the rest: the transition to FINISHING is made when it goes out.
            _I.FINISH,
            _I.FINISH_AGAIN,
        ),
        _I.START: _S.OPEN,
        # No WebSocket yet, so no close handshake either.
        _I.CLOSE: _S.CLOSED,
        _I.ABORT: _S.CLOSED,
        _I.ENDED: _S.CLOSED,
    },
    _S.OPEN: {
        **_stay(
            _S.OPEN,
            _I.AUDIO,
            _I.KEEP_ALIVE,
            _I.FINALIZE,
            _I.PAUSE,
            _I.RESUME,
            _I.RESULT,
        ),
        _I.FINISH: _S.FINISHING,
        _I.FINISHED: _S.CLOSING,
        _I.SERVER_ERROR: _S.CLOSING,
        _I.CLOSE: _S.CLOSING,
        _I.ABORT: _S.CLOSED,
        _I.ENDED: _S.CLOSED,
    },
    _S.FINISHING: {
        **_stay(_S.FINISHING, _I.RESUME, _I.FINISH_AGAIN, _I.RESULT),
        _I.FINISHED: _S.CLOSING,
        _I.SERVER_ERROR: _S.CLOSING,
        _I.CLOSE: _S.CLOSING,
        _I.ABORT: _S.CLOSED,
        _I.ENDED: _S.CLOSED,
    },
    _S.CLOSING: {
        # What the server sent before it saw our close still counts.
        **_stay(_S.CLOSING, _I.FINISH_AGAIN, _I.RESULT, _I.FINISHED, _I.SERVER_ERROR, _I.CLOSE),
        _I.ABORT: _S.CLOSED,
        _I.ENDED: _S.CLOSED,
    },
    _S.CLOSED: _stay(
        _S.CLOSED,
        _I.FINISH_AGAIN,
        _I.CLOSE,
        _I.ABORT,
        _I.RESULT,
        _I.FINISHED,
        _I.SERVER_ERROR,
        _I.ENDED,
    ),
}
"""`TRANSITIONS[state][input]` is the next state."""


ENDED_BY_END_OF_AUDIO: Final = frozenset({_I.AUDIO, _I.KEEP_ALIVE, _I.FINALIZE, _I.PAUSE})
"""What the user may no longer do once end-of-audio is queued. The row of FINISHING says the same;
this holds while CONNECTING too, where end-of-audio is held and the table cannot show it."""


class ServerState(Enum):
    """Where the server's end of a session is in its life."""

    IDLE = "idle"
    """The upgrade request is awaited."""
    UPGRADING = "upgrading"
    """The upgrade request is here; `accept` or `reject` answers it."""
    STARTING = "starting"
    """The WebSocket is open; the start message is awaited."""
    STREAMING = "streaming"
    """Audio and controls come in, results go out."""
    FINISHING = "finishing"
    """End-of-audio is here; the rest of the results and the finished response go out."""
    REFUSED = "refused"
    """The client did something wrong; `send_error` or `close` answers it."""
    CLOSING = "closing"
    """The close frame is out."""
    CLOSED = "closed"
    """Over. Nothing leads out of here."""


class ServerInput(Enum):
    """What can happen to the server's end of a session."""

    # By the client, the network and the timers
    REQUEST = auto()
    START = auto()
    AUDIO = auto()
    KEEP_ALIVE = auto()
    FINALIZE = auto()
    END_OF_AUDIO = auto()
    REFUSE = auto()
    """A message that the protocol does not allow, or a deadline of the client that passed."""
    ENDED = auto()
    # By the user
    ACCEPT = auto()
    REJECT = auto()
    SEND_RESULT = auto()
    SEND_ERROR = auto()
    FINISH = auto()
    CLOSE = auto()


_J = ServerInput
_T = ServerState

SERVER_TRANSITIONS: Final[Mapping[ServerState, Mapping[ServerInput, ServerState]]] = {
    _T.IDLE: {
        _J.REQUEST: _T.UPGRADING,
        _J.CLOSE: _T.CLOSED,
        _J.ENDED: _T.CLOSED,
    },
    _T.UPGRADING: {
        _J.ACCEPT: _T.STARTING,
        _J.REJECT: _T.CLOSED,
        _J.CLOSE: _T.CLOSED,
        _J.ENDED: _T.CLOSED,
    },
    _T.STARTING: {
        # A connection may be held open before its first message.
        _J.KEEP_ALIVE: _T.STARTING,
        _J.START: _T.STREAMING,
        _J.REFUSE: _T.REFUSED,
        _J.SEND_ERROR: _T.CLOSING,
        _J.CLOSE: _T.CLOSING,
        _J.ENDED: _T.CLOSED,
    },
    _T.STREAMING: {
        _J.AUDIO: _T.STREAMING,
        _J.KEEP_ALIVE: _T.STREAMING,
        _J.FINALIZE: _T.STREAMING,
        _J.SEND_RESULT: _T.STREAMING,
        _J.END_OF_AUDIO: _T.FINISHING,
        _J.REFUSE: _T.REFUSED,
        _J.SEND_ERROR: _T.CLOSING,
        _J.FINISH: _T.CLOSING,
        _J.CLOSE: _T.CLOSING,
        _J.ENDED: _T.CLOSED,
    },
    _T.FINISHING: {
        _J.SEND_RESULT: _T.FINISHING,
        _J.SEND_ERROR: _T.CLOSING,
        _J.FINISH: _T.CLOSING,
        _J.CLOSE: _T.CLOSING,
        _J.ENDED: _T.CLOSED,
    },
    _T.REFUSED: {
        _J.SEND_ERROR: _T.CLOSING,
        _J.CLOSE: _T.CLOSING,
        _J.ENDED: _T.CLOSED,
    },
    _T.CLOSING: {
        _J.CLOSE: _T.CLOSING,
        _J.ENDED: _T.CLOSED,
    },
    _T.CLOSED: {
        _J.CLOSE: _T.CLOSED,
        _J.ENDED: _T.CLOSED,
    },
}
"""`SERVER_TRANSITIONS[state][input]` is the next state."""
