"""The full product of state and input, driven through the real machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import pytest

from soniox_proto import (
    SERVER_TRANSITIONS,
    TRANSITIONS,
    RealtimeSTTProtocol,
    RealtimeSTTServerConnection,
    ServerInput,
    ServerState,
    SessionInput,
    SessionState,
    SonioxStateError,
)
from soniox_proto.timers import TimerTable
from tests.support.attributes import attributes
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.frames import CLIENT_MASK
from tests.support.core.messages import (
    CONFIG,
    FINALIZE,
    FINISHED,
    KEEPALIVE,
    START_MESSAGE,
    UNAUTHENTICATED,
    result,
)

S, I = SessionState, SessionInput  # noqa: E741
T, J = ServerState, ServerInput
NOW = 10.0


def unchanging(machine: object) -> dict[str, str]:
    """Return all that a machine knows, except what time it is."""
    known: dict[str, str] = {}
    for name, value in attributes(machine).items():
        if isinstance(value, TimerTable):
            known[name] = repr(dict(value.deadlines))
        elif name != "_now":
            known[name] = repr(value)
    return known


# The client


def idle() -> RealtimeSTTProtocol:
    return RealtimeSTTProtocol(CONFIG)


def connecting() -> RealtimeSTTProtocol:
    protocol = idle()
    protocol.connect(1.0)
    return protocol


def connecting_to_finish() -> RealtimeSTTProtocol:
    protocol = connecting()
    protocol.finish(1.0)
    return protocol


def opened() -> RealtimeSTTProtocol:
    protocol = connecting()
    protocol.start(2.0)
    protocol.send_audio(b"spoken", 2.0)
    return protocol


def finishing() -> RealtimeSTTProtocol:
    protocol = opened()
    protocol.finish(3.0)
    return protocol


def closing() -> RealtimeSTTProtocol:
    protocol = opened()
    protocol.close(3.0)
    return protocol


def closing_unspoken() -> RealtimeSTTProtocol:
    protocol = connecting()
    protocol.start(2.0)
    protocol.close(3.0)
    return protocol


def finished_and_closed() -> RealtimeSTTProtocol:
    protocol = finishing()
    protocol.abort(3.0)
    protocol.handle_timeout(3.0)
    return protocol


def closed() -> RealtimeSTTProtocol:
    protocol = opened()
    protocol.abort(3.0)
    protocol.handle_timeout(3.0)
    return protocol


IN_STATE: dict[SessionState, Callable[[], RealtimeSTTProtocol]] = {
    S.IDLE: idle,
    S.CONNECTING: connecting,
    S.OPEN: opened,
    S.FINISHING: finishing,
    S.CLOSING: closing,
    S.CLOSED: closed,
}

# The first end-of-audio, and any other, where another state than the one above is meant.
FOR_INPUT: dict[tuple[SessionState, SessionInput], Callable[[], RealtimeSTTProtocol]] = {
    (S.CLOSING, I.FINISH): closing_unspoken,
    (S.CONNECTING, I.FINISH_AGAIN): connecting_to_finish,
    (S.CLOSED, I.FINISH_AGAIN): finished_and_closed,
}
UNREACHABLE = {(S.FINISHING, I.FINISH), (S.IDLE, I.FINISH_AGAIN), (S.OPEN, I.FINISH_AGAIN)}


def in_state(state: SessionState, given: SessionInput) -> RealtimeSTTProtocol:
    """Return a session that can get this input in this state."""
    return FOR_INPUT.get((state, given), IN_STATE[state])()


USER_CALLS: dict[SessionInput, Callable[[Any], object]] = {
    I.CONNECT: lambda session: session.connect(NOW),
    I.START: lambda session: session.start(NOW),
    I.AUDIO: lambda session: session.send_audio(b"more", NOW),
    I.KEEP_ALIVE: lambda session: session.keep_alive(NOW),
    I.FINALIZE: lambda session: session.finalize(NOW),
    I.PAUSE: lambda session: session.pause(NOW),
    I.RESUME: lambda session: session.resume(NOW),
    I.FINISH: lambda session: session.finish(NOW),
    I.FINISH_AGAIN: lambda session: session.finish(NOW),
    I.CLOSE: lambda session: session.close(NOW),
    I.ABORT: lambda session: session.abort(NOW),
}

MESSAGES: dict[SessionInput, str] = {
    I.RESULT: result("hello"),
    I.FINISHED: FINISHED,
    I.SERVER_ERROR: UNAUTHENTICATED,
}


def product(table: Mapping[Any, object], inputs: type[Enum]) -> list[tuple[Any, Any]]:
    return [(state, given) for state in table for given in inputs]


def name_of(value: object) -> str | None:
    return value.name if isinstance(value, Enum) else None


class TestClientTable:
    @pytest.mark.parametrize(
        ("state", "given"),
        [pair for pair in product(TRANSITIONS, I) if pair not in UNREACHABLE],
        ids=name_of,
    )
    def test_every_state_takes_what_the_table_lists_and_nothing_else(
        self, state: SessionState, given: SessionInput
    ) -> None:
        protocol = in_state(state, given)
        assert protocol.state is state
        before = unchanging(protocol)
        if given in TRANSITIONS[state]:
            feed(protocol, given)
            assert protocol.state is TRANSITIONS[state][given]
        elif given is I.ENDED:
            assert protocol.receive_close(1006, "", NOW) == []
            assert unchanging(protocol) == before
        else:
            with pytest.raises(SonioxStateError):
                feed(protocol, given)
            assert unchanging(protocol) == before

    @pytest.mark.parametrize(
        ("state", "given"),
        [
            (state, given)
            for state in S
            for given in USER_CALLS
            if given is not I.START and (state, given) not in {*UNREACHABLE, *FOR_INPUT}
        ],
        ids=name_of,
    )
    def test_the_byte_layer_takes_and_refuses_the_same(
        self, state: SessionState, given: SessionInput
    ) -> None:
        client = client_in(state)
        assert client.connection.state is state
        deadline = client.connection.next_timeout()
        if given in TRANSITIONS[state]:
            USER_CALLS[given](client.connection)
            assert client.connection.state is TRANSITIONS[state][given]
        else:
            with pytest.raises(SonioxStateError):
                USER_CALLS[given](client.connection)
            assert client.connection.state is state
            assert client.connection.data_to_send() == b""
            assert client.connection.next_timeout() == deadline

    @pytest.mark.parametrize("given", [I.AUDIO, I.KEEP_ALIVE, I.FINALIZE, I.PAUSE], ids=name_of)
    def test_a_finish_that_waits_for_the_session_to_open_ends_the_input_already(
        self, given: SessionInput
    ) -> None:
        protocol = connecting()
        protocol.finish(NOW)
        before = unchanging(protocol)
        with pytest.raises(SonioxStateError, match="end-of-audio was already sent"):
            USER_CALLS[given](protocol)
        assert unchanging(protocol) == before
        protocol.finish(NOW)
        protocol.start(NOW)
        assert protocol.state is S.FINISHING
        assert protocol.messages_to_send() == [START_MESSAGE, ""]

    def test_messages_before_the_start_are_the_drivers_mistake(self) -> None:
        for make in (idle, connecting):
            with pytest.raises(SonioxStateError):
                make().receive_message(FINISHED, NOW)

    def test_bytes_before_the_connect_are_the_drivers_mistake(self) -> None:
        with pytest.raises(SonioxStateError, match="call connect first"):
            Client().feed(b"HTTP/1.1 200 OK\r\n\r\n")

    @pytest.mark.parametrize("given", TRANSITIONS[S.CLOSED], ids=name_of)
    def test_closed_is_for_good(self, given: SessionInput) -> None:
        protocol = in_state(S.CLOSED, given)
        before = unchanging(protocol)
        assert feed(protocol, given) in (None, [])
        assert unchanging(protocol) == before
        assert protocol.next_timeout() is None
        assert protocol.messages_to_send() == []


def feed(protocol: RealtimeSTTProtocol, given: SessionInput) -> object:
    """Give an input to the message layer; return what it returns."""
    if given in USER_CALLS:
        return USER_CALLS[given](protocol)
    if given is I.ENDED:
        return protocol.receive_close(1006, "", NOW)
    return protocol.receive_message(MESSAGES[given], NOW)


def client_in(state: SessionState) -> Client:
    client = Client()
    if state is S.IDLE:
        return client
    client.connect()
    if state is S.CONNECTING:
        return client
    client.accept()
    client.connection.send_audio(b"spoken", client.now)
    if state is S.FINISHING:
        client.connection.finish(client.now)
    elif state is S.CLOSING:
        client.connection.close(client.now)
    elif state is S.CLOSED:
        client.connection.abort(client.now)
        client.timeout()
    client.drain()
    return client


# The server


def client_text(content: str) -> bytes:
    return frames.text(content, mask=CLIENT_MASK)


AUDIO = frames.binary(b"spoken", mask=CLIENT_MASK)
END_OF_AUDIO = client_text("")


def server_in(state: ServerState) -> RealtimeSTTServerConnection:
    """Bring a server into `state` by what leads there."""
    server = RealtimeSTTServerConnection()
    if state is T.IDLE:
        return server
    server.receive_data(frames.upgrade_request(), 1.0)
    if state is T.UPGRADING:
        return server
    server.accept(1.0)
    if state is not T.STARTING:
        server.receive_data(client_text(START_MESSAGE) + AUDIO, 1.0)
    if state is T.FINISHING:
        server.receive_data(END_OF_AUDIO, 1.0)
    elif state is T.REFUSED:
        server.receive_data(client_text("{}"), 1.0)
    elif state in {T.CLOSING, T.CLOSED}:
        server.close(1.0)
    if state is T.CLOSED:
        server.receive_eof(1.0)
    server.data_to_send()
    return server


SERVER_CALLS: dict[ServerInput, Callable[[RealtimeSTTServerConnection], None]] = {
    J.ACCEPT: lambda server: server.accept(NOW),
    J.REJECT: lambda server: server.reject(503, NOW),
    J.SEND_RESULT: lambda server: server.send_result({"tokens": []}, NOW),
    J.SEND_ERROR: lambda server: server.send_error(500, "internal_error", "Oops", NOW),
    J.FINISH: lambda server: server.finish({"tokens": []}, NOW),
    J.CLOSE: lambda server: server.close(NOW),
}

CLIENT_DATA: dict[ServerInput, bytes] = {
    J.REQUEST: frames.upgrade_request(),
    J.START: client_text(START_MESSAGE),
    J.AUDIO: AUDIO,
    J.KEEP_ALIVE: client_text(KEEPALIVE),
    J.FINALIZE: client_text(FINALIZE),
    J.END_OF_AUDIO: END_OF_AUDIO,
    J.REFUSE: client_text("[]"),
}

# Where no WebSocket is open there are no messages, and where one is there is no request.
IMPOSSIBLE = {
    *[(state, given) for state in (T.IDLE, T.UPGRADING) for given in list(CLIENT_DATA)[1:]],
    *[(state, J.REQUEST) for state in T if state is not T.IDLE],
}
# These are not what the state waits for: the service would answer with an error.
OUT_OF_PLACE = {
    *[(T.STARTING, given) for given in (J.AUDIO, J.FINALIZE, J.END_OF_AUDIO)],
    (T.STREAMING, J.START),
}


class TestServerTable:
    @pytest.mark.parametrize(
        ("state", "given"),
        [pair for pair in product(SERVER_TRANSITIONS, J) if pair not in IMPOSSIBLE],
        ids=name_of,
    )
    def test_every_state_takes_what_the_table_lists_and_nothing_else(
        self, state: ServerState, given: ServerInput
    ) -> None:
        server = server_in(state)
        assert server.state is state
        before = unchanging(server)
        if given in SERVER_TRANSITIONS[state]:
            feed_server(server, given)
            assert server.state is SERVER_TRANSITIONS[state][given]
        elif given in SERVER_CALLS:
            with pytest.raises(SonioxStateError, match=f"the session is {state.value}"):
                feed_server(server, given)
            assert unchanging(server) == before
            assert server.data_to_send() == b""
        elif (state, given) in OUT_OF_PLACE:
            feed_server(server, given)
            assert server.state is T.REFUSED
        else:
            assert feed_server(server, given) == []
            assert unchanging(server) == before

    def test_what_is_listed_is_possible(self) -> None:
        listed = {(state, given) for state, row in SERVER_TRANSITIONS.items() for given in row}
        assert not listed & (IMPOSSIBLE | OUT_OF_PLACE)

    @pytest.mark.parametrize("given", SERVER_TRANSITIONS[T.CLOSED], ids=name_of)
    def test_closed_is_for_good(self, given: ServerInput) -> None:
        server = server_in(T.CLOSED)
        before = unchanging(server)
        assert feed_server(server, given) in (None, [])
        assert server.receive_data(AUDIO + frames.ping(mask=CLIENT_MASK), NOW) == []
        assert server.handle_timeout(NOW) == []
        assert unchanging(server) == before
        assert server.next_timeout() is None
        assert server.data_to_send() == b""


def feed_server(server: RealtimeSTTServerConnection, given: ServerInput) -> object:
    if given in SERVER_CALLS:
        return SERVER_CALLS[given](server)
    if given is J.ENDED:
        return server.receive_eof(NOW)
    return server.receive_data(CLIENT_DATA[given], NOW)


# Both tables


@pytest.mark.parametrize(
    ("table", "states", "inputs"),
    [(TRANSITIONS, S, I), (SERVER_TRANSITIONS, T, J)],
    ids=["client", "server"],
)
class TestTables:
    def test_every_state_has_a_row_and_every_input_is_used(
        self, table: Any, states: Any, inputs: Any
    ) -> None:
        assert list(table) == list(states)
        assert {given for row in table.values() for given in row} == set(inputs)

    def test_every_state_is_reachable(self, table: Any, states: Any, inputs: Any) -> None:
        reached = {states.IDLE}
        while new := {target for state in reached for target in table[state].values()} - reached:
            reached |= new
        assert reached == set(states)

    def test_nothing_leads_out_of_closed_and_everything_can_get_there(
        self, table: Any, states: Any, inputs: Any
    ) -> None:
        assert set(table[states.CLOSED].values()) == {states.CLOSED}
        for state in states:
            assert states.CLOSED in table[state].values()

    def test_nothing_leads_back(self, table: Any, states: Any, inputs: Any) -> None:
        order = list(states)
        for state, row in table.items():
            assert all(order.index(target) >= order.index(state) for target in row.values())
