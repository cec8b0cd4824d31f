"""The three ways in which a key travels, and that it never travels twice."""

from __future__ import annotations

import json
import warnings

import pytest

from soniox_proto import (
    APIKey,
    Authentication,
    RealtimeSTTProtocol,
    RealtimeSTTServerConnection,
    SonioxValidationError,
    StartReceived,
    UpgradeReceived,
)
from tests.support.core.client import Client
from tests.support.core.messages import API_KEY, CONFIG

FORMS = [form.value for form in Authentication]


def client_with(form: str, key: str | None = API_KEY) -> Client:
    """Return a client; only the deprecated form warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if form == "message" else "error", DeprecationWarning)
        return Client(authentication=form, api_key=key)


def test_the_header_is_the_default() -> None:
    head = Client().connect()
    assert head.values("authorization") == [f"Bearer {API_KEY}"]
    assert head.values("sec-websocket-protocol") == []


def test_the_subprotocol_comes_beside_its_marker_and_only_the_marker_is_selected() -> None:
    client = client_with("subprotocol")
    head = client.connect()
    assert head.values("authorization") == []
    assert head.values("sec-websocket-protocol") == [f"soniox-api-key, {API_KEY}"]
    (opened,) = client.accept([("Sec-WebSocket-Protocol", "soniox-api-key")])
    assert "subprotocol='soniox-api-key'" in repr(opened)


def test_the_message_holds_the_key_only_if_told_so() -> None:
    client = client_with("message")
    head = client.connect()
    assert API_KEY not in str(head)
    client.accept()
    (start,) = client.messages
    assert json.loads(start) == {
        "api_key": API_KEY,
        "model": "stt-rt-v5",
        "audio_format": "auto",
    }


@pytest.mark.parametrize("form", FORMS)
def test_the_key_leaves_exactly_once(form: str) -> None:
    client = client_with(form)
    client.connect()
    client.accept()
    client.connection.send_audio(b"spoken", client.now)
    client.wait(60.0)
    client.connection.close(client.now)
    client.drain()
    everything = client.request + b"".join(frame.payload for frame in client.frames)
    assert everything.count(API_KEY.encode()) == 1


@pytest.mark.parametrize("form", FORMS)
def test_without_a_key_none_is_sent(form: str) -> None:
    client = client_with(form, None)
    head = client.connect()
    assert head.values("authorization") == []
    assert head.values("sec-websocket-protocol") == []
    client.accept()
    assert "api_key" not in json.loads(client.messages[0])


@pytest.mark.parametrize("form", FORMS)
def test_the_server_core_understands_each(form: str) -> None:
    client = client_with(form)
    client.connect()
    server = RealtimeSTTServerConnection()
    (upgrade,) = server.receive_data(client.request, 0.0)
    assert isinstance(upgrade, UpgradeReceived)
    assert upgrade.api_key == (None if form == "message" else APIKey(API_KEY))
    server.accept(0.0)
    client.feed(server.data_to_send())
    (start,) = server.receive_data(client.connection.data_to_send(), 0.0)
    assert start == StartReceived(CONFIG, APIKey(API_KEY))


class TestDeprecation:
    """The service refuses keys in messages from 15 January 2027."""

    def test_the_byte_layer_warns_its_caller_when_it_is_made(self) -> None:
        with pytest.warns(DeprecationWarning, match="15 January 2027") as caught:
            Client(authentication="message")
        assert [warning.filename.rpartition("/")[2] for warning in caught] == ["client.py"]

    @pytest.mark.parametrize("key", [API_KEY])
    def test_the_message_layer_warns_its_caller_when_it_is_made(self, key: str) -> None:
        with pytest.warns(DeprecationWarning, match="15 January 2027") as caught:
            protocol = RealtimeSTTProtocol(CONFIG, api_key=key)
        assert [warning.filename for warning in caught] == [__file__]
        protocol.start(0.0)
        assert API_KEY in str(protocol.messages_to_send())

    def test_a_warning_made_an_error_leaves_nothing_half_done(self) -> None:
        with pytest.raises(DeprecationWarning):
            Client(authentication="message")

    def test_a_bad_key_is_refused_before_the_warning(self) -> None:
        with pytest.raises(SonioxValidationError):
            Client(authentication="message", api_key="with space")

    @pytest.mark.parametrize("form", ["header", "subprotocol"])
    def test_the_other_forms_do_not_warn(self, form: str) -> None:
        client_with(form)
