"""Every state of a session, for the client and for the server, and every transition.

Each table maps a state to the inputs that it accepts, and each input to the next state. To see
what can happen in a state, read its row. To see whether an input is allowed, look for it in that
row: an input that is not listed is refused with `SonioxStateError` and changes nothing. Rows list
transitions to themselves too, so that "accepted without effect on the state" and "not accepted"
cannot be confused.

The machines (`protocol.py`, `server.py`) look up here whether they may go on, and take the next
state from here; nothing else changes a state. So a rule about order is changed by editing a row.
The tests drive the full product of states and inputs through the real machines to see that they
agree with the tables.

The life of a client session::

    IDLE --CONNECT--> CONNECTING --START--> OPEN --FINISH--> FINISHING
                                              |                  |
                                              +--------+---------+
                                                       | FINISHED, SERVER_ERROR, CLOSE
                                                       v
                                                    CLOSING --ENDED--> CLOSED

Besides, ABORT leads to CLOSED from everywhere, and ENDED from wherever a connection exists or is
being made. Three inputs are easily misread, because they are not messages but changes of the
connection:

- CONNECT: a WebSocket is being opened for this session. No message has been sent yet, but the user
  may already send; what they send is held.
- START: the WebSocket is open. The start message goes out, then everything held. A driver that
  was handed an open WebSocket skips CONNECT, hence the START in the row of IDLE.
- ENDED: the connection is gone or useless, whatever the cause: the peer's close frame, a refused
  upgrade, a broken transport, a protocol violation, a deadline. The cause decides the `Outcome`,
  not the state, which is why one input is enough.

What the tables leave out, because it is independent of the state, or would double the rows of
several states to change a single cell:

- Whether the session is paused. It is a flag: the user may pause before and after the WebSocket
  opens, and pausing decides only whether audio is dropped.
- Whether end-of-audio has been asked for. Once open, that is the state FINISHING. While
  CONNECTING it is a flag, because end-of-audio waits behind the start message; when START has
  led to OPEN, the protocol makes the transition FINISH at once. Until then
  `ENDED_BY_END_OF_AUDIO` withdraws the inputs that the row of FINISHING would. The same flag
  chooses between FINISH and FINISH_AGAIN. `close` sets it as well, where it ends the audio.
- Which end came first. CLOSING is reached by the finished response, an error message and `close`
  alike; the protocol remembers which one decides the outcome.
- Whether, and with which code, the WebSocket must be closed (`close_code`). CLOSING does not
  imply it: after the finished response or an error message the service closes, and we only wait.
- What an input does. CLOSE and ABORT, for example, are accepted in every state, so nobody looks
  them up; but `close` has a handshake to perform in OPEN and none in CONNECTING.
- How much may be held while CONNECTING. An input may be listed and its argument still refused:
  too much audio, a chunk that is not bytes, a negative number of ms.
- Calls that feed, where they come at the wrong time but not by the user's mistake. They must not
  raise because of the peer, so ENDED in IDLE is ignored, not refused.
- On the server, whether audio came before end-of-audio, and what was already wrong with the
  upgrade request. Both turn a message into REFUSE. Messages that arrive when they can no longer
  matter (after end-of-audio, an error or a close) never become inputs; they are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

__all__ = [
    "ENDED_BY_END_OF_AUDIO",
    "SERVER_TRANSITIONS",
    "TRANSITIONS",
    "WHY_NOT",
    "ServerInput",
    "ServerState",
    "SessionInput",
    "SessionState",
    "refusal",
]


class SessionState(Enum):
    """Where a client session is in its life. Whether it is paused is a separate flag."""

    IDLE = "idle"
    """Created; not connected yet."""
    CONNECTING = "connecting"
    """The WebSocket is being opened; whatever the user sends is held until it is."""
    OPEN = "open"
    """The start message is queued; audio and controls flow."""
    FINISHING = "finishing"
    """End-of-audio is queued; the service still owes the rest of the transcript."""
    CLOSING = "closing"
    """The finished response or an error arrived, or `close()` was called. What remains is the
    close handshake, bounded by `close_timeout`."""
    CLOSED = "closed"
    """Over for good: no transition leads to another state."""


class SessionInput(Enum):
    """What can happen to a client session.

    Inputs differ where the rules differ, not where the calls do: `finish` is one call and two
    inputs, since the first one ends the audio and any later one must be harmless.
    """

    # By the user, or by the driver on the user's behalf
    CONNECT = auto()
    """The WebSocket is being opened."""
    START = auto()
    """The WebSocket is open, so the start message can be sent."""
    AUDIO = auto()
    KEEP_ALIVE = auto()
    FINALIZE = auto()
    PAUSE = auto()
    RESUME = auto()
    FINISH = auto()
    """End-of-audio, for the first time."""
    FINISH_AGAIN = auto()
    """End-of-audio after it was queued or sent: no effect."""
    CLOSE = auto()
    ABORT = auto()
    # By the peer, the network and the timers
    RESULT = auto()
    """A message of the service, of any kind. One that ends the session is one of the next two as
    well."""
    FINISHED = auto()
    """The finished response."""
    SERVER_ERROR = auto()
    """An error message."""
    ENDED = auto()
    """There is no connection any more: closed, refused, lost, or given up at a deadline."""


def _stay(state: SessionState, *inputs: SessionInput) -> dict[SessionInput, SessionState]:
    return dict.fromkeys(inputs, state)


_I = SessionInput
_S = SessionState

TRANSITIONS: Final[Mapping[SessionState, Mapping[SessionInput, SessionState]]] = {
    _S.IDLE: {
        _I.CONNECT: _S.CONNECTING,
        # For drivers that are given an open WebSocket.
        _I.START: _S.OPEN,
        # No ENDED: before CONNECT or START there is nothing to lose. These two report no `Closed`
        # event either, since the session never began.
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
            # Held like the rest. FINISHING would be wrong: the start message is not out, and
            # messages of the service are still impossible.
            _I.FINISH,
            _I.FINISH_AGAIN,
        ),
        _I.START: _S.OPEN,
        # Without a WebSocket there is no close handshake to wait for, so CLOSING is skipped.
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
        # Not expected before end-of-audio, but final whenever it comes.
        _I.FINISHED: _S.CLOSING,
        _I.SERVER_ERROR: _S.CLOSING,
        _I.CLOSE: _S.CLOSING,
        _I.ABORT: _S.CLOSED,
        _I.ENDED: _S.CLOSED,
    },
    _S.FINISHING: {
        # RESUME no longer matters, but a program that resumes after it finished made no mistake.
        **_stay(_S.FINISHING, _I.RESUME, _I.FINISH_AGAIN, _I.RESULT),
        _I.FINISHED: _S.CLOSING,
        _I.SERVER_ERROR: _S.CLOSING,
        _I.CLOSE: _S.CLOSING,
        _I.ABORT: _S.CLOSED,
        _I.ENDED: _S.CLOSED,
    },
    _S.CLOSING: {
        # The service may have sent these before it saw our close frame, and a finished response
        # among them still completes the transcript.
        **_stay(_S.CLOSING, _I.FINISH_AGAIN, _I.RESULT, _I.FINISHED, _I.SERVER_ERROR, _I.CLOSE),
        _I.ABORT: _S.CLOSED,
        _I.ENDED: _S.CLOSED,
    },
    # Everything that can still arrive, and everything that a cleanup may call. Not audio and
    # controls: dropping those without a word would lose speech.
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
"""`TRANSITIONS[state][input]` is the next state; an input that is missing is refused."""


ENDED_BY_END_OF_AUDIO: Final = frozenset({_I.AUDIO, _I.KEEP_ALIVE, _I.FINALIZE, _I.PAUSE})
"""What the user may no longer do once end-of-audio is queued.

The row of FINISHING lacks these inputs too. They are named here for CONNECTING, where end-of-audio
is held and the row cannot show it: audio accepted behind it would go out after the end, and a
keepalive or a finalize would be about audio that is over.
"""


WHY_NOT: Final[Mapping[SessionState, str]] = {
    SessionState.IDLE: "the session is not connected",
    SessionState.CONNECTING: "the session is not open yet",
    SessionState.OPEN: "the session is already open",
    SessionState.FINISHING: "end-of-audio was already sent",
    SessionState.CLOSING: "the session is closing",
    SessionState.CLOSED: "the session is closed",
}
"""Why a state refuses what the user asks for."""


def refusal(state: SessionState, session_input: SessionInput, *, end_of_audio: bool) -> str | None:
    """Return why the user may not do this now; None if they may.

    Args:
        state: Where the session is in its life.
        session_input: What the user asks for.
        end_of_audio: Whether end-of-audio is queued or sent.
    """
    if session_input not in TRANSITIONS[state]:
        return WHY_NOT[state]
    if end_of_audio and session_input in ENDED_BY_END_OF_AUDIO:
        return WHY_NOT[SessionState.FINISHING]
    return None


class ServerState(Enum):
    """Where a session is in its life, as the server sees it."""

    IDLE = "idle"
    """Waiting for the upgrade request."""
    UPGRADING = "upgrading"
    """The upgrade request has arrived; answer with `accept` or `reject`."""
    STARTING = "starting"
    """The WebSocket is open; waiting for the start message."""
    STREAMING = "streaming"
    """Audio and controls come in, results go out."""
    FINISHING = "finishing"
    """End-of-audio has arrived; send the remaining results, then the finished response."""
    REFUSED = "refused"
    """The client made a mistake; answer with `send_error` or `close`."""
    CLOSING = "closing"
    """The close frame is queued; waiting for the client's."""
    CLOSED = "closed"
    """Over for good: no transition leads to another state."""


class ServerInput(Enum):
    """What can happen to a session, as the server sees it."""

    # By the client, the network and the timers
    REQUEST = auto()
    """The upgrade request."""
    START = auto()
    """A valid start message."""
    AUDIO = auto()
    KEEP_ALIVE = auto()
    FINALIZE = auto()
    END_OF_AUDIO = auto()
    REFUSE = auto()
    """A message that the protocol does not allow, or a deadline that the client missed."""
    ENDED = auto()
    """There is no connection any more: closed by the client, lost, or given up at a deadline."""
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
        # A client may connect before it has anything to say. The connection is authenticated from
        # the moment it opens (Soniox docs, "WebSocket authentication"), so keepalives may come
        # before the start message; nothing else may.
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
        # At most once: what the client sends after it is dropped.
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
    # No SEND_RESULT: after a mistake the service sends an error message and closes (Soniox docs,
    # "Error handling").
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
"""`SERVER_TRANSITIONS[state][input]` is the next state; an input that is missing is refused."""
