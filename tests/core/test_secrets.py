"""The API key shows nowhere: in no repr, error, dump or pickle, however it travels."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    Authentication,
    Closed,
    Opened,
    RealtimeSTTConfig,
    RealtimeSTTProtocol,
    RealtimeSTTServerConnection,
    Result,
    SonioxError,
    SonioxHandshakeError,
    SonioxProtocolError,
    SonioxServerError,
    SonioxStateError,
    SonioxValidationError,
    StartReceived,
    UpgradeReceived,
)
from soniox_proto.messages import parse_event
from soniox_proto.websocket.http_head import MAX_BODY_SIZE
from tests.support.attributes import attributes
from tests.support.core import frames
from tests.support.core.client import Client
from tests.support.core.messages import API_KEY, CONFIG, UNAUTHENTICATED, error

FORMS = [form.value for form in Authentication]


def client_with(form: str, key: str = API_KEY) -> Client:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Client(authentication=form, api_key=key)


def shown(value: object) -> Iterator[str]:
    """Yield every text in which `value` may come before someone's eyes."""
    yield repr(value)
    yield str(value)
    yield repr(attributes(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield repr({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, BaseException):
        yield repr(value.args)
        yield "".join(traceback.format_exception(value))
        for linked in (value.__cause__, value.__context__):
            if linked is not None:
                yield from shown(linked)
    try:
        yield repr(pickle.dumps(value))
    except (TypeError, AttributeError, pickle.PicklingError) as refusal:
        yield str(refusal)


def assert_hidden(*values: object) -> None:
    for value in values:
        for text in shown(value):
            assert API_KEY not in text


class TestObjects:
    @pytest.mark.parametrize("form", FORMS)
    def test_of_a_client_in_every_state(self, form: str) -> None:
        client = client_with(form)
        connection = client.connection
        assert_hidden(connection, connection.endpoint, connection.config)
        client.connect()
        assert_hidden(connection)
        client.accept()
        client.drain()
        assert_hidden(connection, connection.stats, *client.events)
        client.receive(UNAUTHENTICATED)
        client.feed(frames.close())
        assert_hidden(connection, *client.events)
        with pytest.raises(SonioxStateError) as caught:
            connection.send_audio(b"more", client.now)
        assert_hidden(caught.value)

    def test_of_the_message_layer(self) -> None:
        with pytest.warns(DeprecationWarning, match="15 January 2027") as caught:
            protocol = RealtimeSTTProtocol(CONFIG, api_key=API_KEY)
        assert_hidden(protocol, *(warning.message for warning in caught))
        protocol.start(0.0)
        protocol.messages_to_send()
        assert_hidden(protocol)

    @pytest.mark.parametrize("form", FORMS)
    def test_of_a_server(self, form: str) -> None:
        client = client_with(form)
        client.connect()
        server = RealtimeSTTServerConnection()
        events = server.receive_data(client.request, 0.0)
        server.accept(0.0)
        client.feed(server.data_to_send())
        events += server.receive_data(client.connection.data_to_send(), 0.0)
        assert [type(event) for event in events] == [UpgradeReceived, StartReceived]
        assert_hidden(server, *events)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("take_along", [pickle.dumps, copy.deepcopy])
    def test_a_connection_takes_its_key_into_no_copy(
        self, form: str, take_along: Callable[[object], object]
    ) -> None:
        with pytest.raises(TypeError) as caught:
            take_along(client_with(form).connection)
        assert_hidden(caught.value)


class TestMistakes:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(
        "spoilt", [f"{API_KEY}\r\nX-Injected: 1", f" {API_KEY}", f"{API_KEY}é"]
    )
    def test_a_key_that_no_header_holds_is_refused_and_not_quoted(
        self, form: str, spoilt: str
    ) -> None:
        with pytest.raises(SonioxValidationError) as caught:
            client_with(form, spoilt)
        assert_hidden(caught.value)

    def test_a_key_within_the_url_is_not_quoted(self) -> None:
        for url in (f"wss://{API_KEY}@h/", f"wss://h/?key={API_KEY}#x", f"https://h/{API_KEY}"):
            with pytest.raises(SonioxValidationError) as caught:
                Client(url=url)
            assert_hidden(caught.value)

    def test_a_key_within_the_configuration_is_not_quoted(self) -> None:
        fields = {"model": "stt-rt-v5", "api_key": API_KEY}
        with pytest.raises(SonioxValidationError, match="api_key") as caught:
            RealtimeSTTConfig.validate_config(fields)
        assert_hidden_in_text(caught.value)
        with pytest.raises(ValueError, match="api_key") as bare:
            RealtimeSTTConfig.model_validate(fields)
        assert API_KEY not in str(bare.value)

    def test_a_key_within_an_additional_header_is_not_quoted(self) -> None:
        for headers in (
            {"Authorization": f"Bearer {API_KEY}"},
            {"X-Key": f"{API_KEY}\n"},
            {"Sec-WebSocket-Protocol": API_KEY},
        ):
            with pytest.raises(SonioxValidationError) as caught:
                Client(additional_headers=headers)
            assert_hidden(caught.value)


def assert_hidden_in_text(error: BaseException) -> None:
    """For errors of pydantic, whose structured form holds the input on purpose."""
    assert API_KEY not in "".join(traceback.format_exception(error))


def assert_no_part_is_shown(error: SonioxError | None) -> None:
    assert isinstance(error, SonioxHandshakeError)
    assert API_KEY[:8].encode() not in error.body
    assert API_KEY[:8] not in str(error)


class TestEchoes:
    """Some gateways repeat in their answer what they were asked."""

    @given(
        before=st.binary(max_size=300),
        after=st.binary(max_size=300),
        form=st.sampled_from(["header", "subprotocol"]),
    )
    def test_in_the_body_of_a_refusal(self, before: bytes, after: bytes, form: str) -> None:
        client = client_with(form)
        client.connect()
        client.feed(frames.refusal("403 Forbidden", before + API_KEY.encode() + after))
        error = client.closed.error
        assert isinstance(error, SonioxHandshakeError)
        assert API_KEY.encode() not in error.body
        assert_hidden(error, client.closed)

    @given(before=st.binary(max_size=300), shown_length=st.integers(0, len(API_KEY)))
    def test_in_a_body_that_ends_within_the_key(self, before: bytes, shown_length: int) -> None:
        client = Client()
        client.connect()
        said = before + API_KEY[:shown_length].encode()
        client.feed(frames.refusal("403 Forbidden", said + bytes(100))[:-100])
        client.eof()
        assert_no_part_is_shown(client.closed.error)

    @pytest.mark.parametrize("length", range(len(API_KEY) + 1))
    def test_in_a_body_that_is_too_large_to_be_kept(self, length: int) -> None:
        client = Client()
        client.connect()
        said = b" " * (MAX_BODY_SIZE - length) + API_KEY.encode() + bytes(100)
        client.feed(frames.refusal("403 Forbidden", said))
        assert_no_part_is_shown(client.closed.error)

    def test_in_the_headers_of_a_refusal(self) -> None:
        client = Client()
        client.connect()
        echo = ("X-Echo", f"Authorization: Bearer {API_KEY}")
        client.feed(frames.refusal("401 Unauthorized", b"", [echo]))
        error = client.closed.error
        assert isinstance(error, SonioxHandshakeError)
        assert error.headers["x-echo"] == "Authorization: Bearer [API key]"
        assert_hidden(error, client.closed)

    @pytest.mark.parametrize("selected", [API_KEY, f"soniox-api-key, {API_KEY}"])
    def test_in_the_selected_subprotocol(self, selected: str) -> None:
        client = client_with("subprotocol")
        client.connect()
        (event,) = client.accept([("Sec-WebSocket-Protocol", selected)])
        assert isinstance(event, (Opened, Closed))
        assert_hidden(event, client.connection.error)

    def test_in_the_headers_of_an_acceptance(self) -> None:
        client = Client()
        client.connect()
        (opened,) = client.accept([("X-Echo", f"Bearer {API_KEY}")])
        assert_hidden(opened)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize(
        "fields",
        [
            {"error_message": f"Incorrect API key provided: {API_KEY}."},
            {"error_type": API_KEY, "request_id": f"{API_KEY}-1", "more_info": f"/?k={API_KEY}"},
            {"error_message": {"key": [API_KEY, {API_KEY: API_KEY}]}, "error_code": "E-" + API_KEY},
            {"echo": {"authorization": f"Bearer {API_KEY}"}, "tokens": [{"text": API_KEY}]},
        ],
    )
    def test_in_an_error_message(self, form: str, fields: dict[str, object]) -> None:
        client = client_with(form)
        client.connect()
        client.accept()
        raw = json.dumps({"error_code": 401, "error_message": "No", **fields})
        client.receive(raw.replace(API_KEY, f"\\u{ord(API_KEY[0]):04x}{API_KEY[1:]}", 1))
        client.feed(frames.close())
        assert isinstance(client.connection.error, SonioxServerError)
        assert_hidden(client.connection, *client.events)
        result = next(event for event in client.events if isinstance(event, Result))
        assert parse_event(result.raw) == result.message, "what was received, but for the key"
        with pytest.raises(SonioxStateError) as caught:
            client.connection.send_audio(b"more", client.now)
        assert_hidden(caught.value)

    @pytest.mark.parametrize("form", FORMS)
    def test_in_the_reason_of_a_close(self, form: str) -> None:
        client = client_with(form)
        client.connect()
        client.accept()
        client.feed(frames.close(1008, f"bad key {API_KEY}"))
        assert client.closed.reason == "bad key [API key]"
        assert_hidden(client.connection, client.closed, client.connection.error)

    @pytest.mark.parametrize(
        "raw", [f'{{"tokens":"{API_KEY}"}}', f'{{"tokens":[{{"text":["{API_KEY}"]}}]}}']
    )
    def test_in_what_is_no_message(self, raw: str) -> None:
        client = Client()
        client.connect()
        client.accept()
        client.receive(raw)
        error = client.closed.error
        assert isinstance(error, SonioxProtocolError)
        assert API_KEY not in "".join(traceback.format_exception(error))

    def test_on_the_message_layer_for_whoever_sent_the_key_elsewhere(self) -> None:
        protocol = RealtimeSTTProtocol(CONFIG, hidden_key=API_KEY)
        protocol.start(0.0)
        assert API_KEY not in repr(protocol.messages_to_send())
        events = protocol.receive_message(error(401, None, f"Bad {API_KEY}").encode(), 1.0)
        assert_hidden(protocol, *events)

    @pytest.mark.parametrize("name", ["Sec-WebSocket-Extensions", "Upgrade", "Connection"])
    def test_in_an_acceptance_that_is_none(self, name: str) -> None:
        client = Client()
        client.connect()
        (closed,) = client.accept([(name, API_KEY)])
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, SonioxProtocolError)
        assert_hidden(closed, closed.error)


@given(value=st.text(max_size=20), place=st.sampled_from(["api_key", "header", "name", "url"]))
def test_nothing_is_injected_into_the_request(value: str, place: str) -> None:
    """Whatever is given is refused, or stays within the line that it belongs to."""
    try:
        if place == "api_key":
            client = Client(api_key=value)
        elif place == "url":
            client = Client(url=f"ws://localhost/{value}")
        else:
            headers = {"X-One": value} if place == "header" else {value: "1"}
            client = Client(additional_headers=headers)
    except SonioxError:
        return
    expected = 6 if place in {"api_key", "url"} else 7
    head = client.connect()
    assert len(head.headers) == expected
    assert client.request.count(b"\r\n") == client.request.count(b"\n") == expected + 2
