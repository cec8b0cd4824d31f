"""Every name of the documented realtime client, and the tests that show what it does.

Run as a module, this prints the table: `python -m tests.adapters.test_documented_names`.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Final

import pytest
import soniox.realtime.async_stt
import soniox.realtime.stt

import soniox_adapters

CLASSES: Final = {
    "RealtimeAPI": {
        "constructor": ["test_client.test_namespaces"],
        "stt": ["test_client.test_namespaces"],
    },
    "AsyncRealtimeAPI": {
        "constructor": ["test_client.test_async_namespaces"],
        "stt": ["test_client.test_async_namespaces"],
    },
    "RealtimeSTTClient": {
        "constructor": ["test_client.test_namespaces"],
        "connect()": [
            "test_client.test_connect_does_not_connect",
            "test_client.test_key_of_connect_wins",
            "test_client.test_missing_key_is_told_when_it_is_needed",
        ],
    },
    "AsyncRealtimeSTTClient": {
        "constructor": ["test_client.test_async_namespaces"],
        "connect()": [
            "test_client.test_connect_does_not_connect",
            "test_client.test_missing_key_is_told_when_it_is_needed",
        ],
    },
}

_SENDING: Final = "test_documented_sending"
_RECEIVING: Final = "test_documented_receiving"

SESSION: Final = {
    "constructor": [
        f"{_RECEIVING}.test_config",
        f"{_RECEIVING}.test_entering_returns_the_session",
        f"{_RECEIVING}.test_context_closes",
        f"{_RECEIVING}.test_context_aborts_on_an_exception",
    ],
    "config": [f"{_RECEIVING}.test_config"],
    "paused": [
        f"{_RECEIVING}.test_paused_is_false_at_first",
        f"{_SENDING}.test_pause_drops_audio_and_counts_it",
    ],
    "last_message": [f"{_RECEIVING}.test_last_message"],
    "close()": [
        f"{_SENDING}.test_close_sends_end_of_audio_if_it_is_owed",
        f"{_SENDING}.test_close_without_audio_sends_no_end_of_audio",
        f"{_SENDING}.test_close_after_the_finished_response",
        f"{_SENDING}.test_close_before_entering",
    ],
    "send_byte_chunk()": [
        f"{_SENDING}.test_send_byte_chunk",
        f"{_SENDING}.test_send_byte_chunk_of_any_contiguous_buffer",
        f"{_SENDING}.test_send_byte_chunk_takes_a_copy",
        f"{_SENDING}.test_audio_that_is_no_audio_is_refused",
        f"{_SENDING}.test_empty_chunk_is_never_sent",
        f"{_SENDING}.test_sending_before_entering_raises",
    ],
    "send_bytes()": [
        f"{_SENDING}.test_send_bytes_of_an_iterable_finishes",
        f"{_SENDING}.test_send_bytes_of_bytes_does_not_finish",
        f"{_SENDING}.test_send_bytes_finish_wins",
        f"{_SENDING}.test_send_bytes_of_nothing_finishes",
        f"{_SENDING}.test_send_bytes_passes_on_what_the_iterable_raises",
        f"{_SENDING}.test_audio_that_is_no_audio_is_refused",
    ],
    "send_control_message()": [
        f"{_SENDING}.test_send_control_message",
        f"{_SENDING}.test_send_control_message_refuses_an_unknown_one",
        f"{_SENDING}.test_sending_before_entering_raises",
    ],
    "finish()": [
        f"{_SENDING}.test_finish_sends_end_of_audio_once",
        f"{_SENDING}.test_finish_while_paused",
    ],
    "keep_alive()": [
        f"{_SENDING}.test_keep_alive",
        f"{_SENDING}.test_keepalives_flow_by_themselves_when_idle",
        f"{_SENDING}.test_keepalives_can_be_switched_off",
        f"{_SENDING}.test_keepalives_stop_with_end_of_audio",
    ],
    "finalize()": [f"{_SENDING}.test_finalize"],
    "recv_bytes()": [
        f"{_RECEIVING}.test_recv_bytes",
        f"{_RECEIVING}.test_recv_bytes_raises_like_receive_event",
        f"{_RECEIVING}.test_receiving_before_entering_raises",
    ],
    "parse_event()": [f"{_RECEIVING}.test_parse_event"],
    "receive_event()": [
        f"{_RECEIVING}.test_receive_event",
        f"{_RECEIVING}.test_receive_event_keeps_unknown_fields",
        f"{_RECEIVING}.test_receiving_before_entering_raises",
        "test_scenarios.test_ending",
    ],
    "receive_events()": [
        f"{_RECEIVING}.test_receive_events",
        f"{_RECEIVING}.test_receive_events_delivers_the_error_then_raises_it",
        f"{_RECEIVING}.test_receive_events_can_be_left_and_taken_up_again",
    ],
    "handle_events()": [
        f"{_RECEIVING}.test_handle_events",
        f"{_RECEIVING}.test_handle_events_passes_on_what_the_handler_raises",
    ],
    "pause()": [
        f"{_SENDING}.test_pause_drops_audio_and_counts_it",
        f"{_SENDING}.test_pause_without_finalize",
        f"{_SENDING}.test_pause_keeps_the_session_alive_while_nobody_receives",
        f"{_SENDING}.test_sending_before_entering_raises",
    ],
    "resume()": [
        f"{_SENDING}.test_pause_drops_audio_and_counts_it",
        f"{_SENDING}.test_sending_before_entering_raises",
    ],
}

_KINDS: Final = {"RealtimeSTTSession": "blocking", "AsyncRealtimeSTTSession": "asyncio, trio"}

_ASYNC_ONLY: Final = {"send_bytes()": f"{_SENDING}.test_send_bytes_of_an_async_iterable_finishes"}


def documented_names() -> dict[str, list[str]]:
    """Return every documented name with the tests that show what it does."""
    table = {
        f"{class_name}.{name}": tests
        for class_name, names in CLASSES.items()
        for name, tests in names.items()
    }
    for class_name, kinds in _KINDS.items():
        for name, tests in SESSION.items():
            shown_by = [f"{test}[{kinds}]" for test in tests]
            if class_name.startswith("Async") and name in _ASYNC_ONLY:
                shown_by.append(f"{_ASYNC_ONLY[name]}[{kinds}]")
            table[f"{class_name}.{name}"] = shown_by
    return table


TABLE: Final = documented_names()


@pytest.mark.parametrize("name", TABLE)
def test_documented_name_exists(name: str) -> None:
    class_name, _, member = name.partition(".")
    documented = getattr(soniox_adapters, class_name)
    if member == "constructor":
        assert inspect.isclass(documented)
    else:
        attribute = inspect.getattr_static(documented, member.removesuffix("()"))
        assert callable(attribute) is member.endswith("()")


@pytest.mark.parametrize("name", TABLE)
def test_documented_name_is_shown_by_tests(name: str) -> None:
    assert TABLE[name]
    for test in TABLE[name]:
        module_name, _, function = test.partition("[")[0].partition(".")
        module = importlib.import_module(f"tests.adapters.{module_name}")
        assert inspect.isfunction(getattr(module, function)), test


@pytest.mark.parametrize(
    "official",
    [
        soniox.realtime.RealtimeAPI,
        soniox.realtime.AsyncRealtimeAPI,
        soniox.realtime.stt.RealtimeSTTClient,
        soniox.realtime.stt.RealtimeSTTSession,
        soniox.realtime.async_stt.AsyncRealtimeSTTClient,
        soniox.realtime.async_stt.AsyncRealtimeSTTSession,
    ],
    ids=lambda official: official.__name__,
)
def test_table_has_every_name_of_the_official_classes(official: type) -> None:
    # Text to speech is another API; the aliases of entering are shown with the constructor.
    names = {name for name in dir(official) if not name.startswith("_")}
    names -= {"tts", "enter", "aenter"}
    shown = {
        name.partition(".")[2].removesuffix("()")
        for name in TABLE
        if name.partition(".")[0] == official.__name__
    }
    assert names <= shown


def print_table() -> None:
    for name, tests in TABLE.items():
        for test in tests:
            sys.stdout.write(f"{name:50} {test}\n")
            name = ""


if __name__ == "__main__":
    print_table()
