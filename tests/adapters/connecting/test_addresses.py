"""Which address is tried when: the decisions of RFC 8305, without sockets."""

from __future__ import annotations

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_adapters.connecting.addresses import (
    ATTEMPT_DELAY,
    MAX_FAILURES_LISTED,
    Address,
    AddressRace,
    all_failed_error,
    interleave,
    numeric_addresses,
)

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def v4(number: int) -> Address:
    where = (f"192.0.2.{number}", 80)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where


def v6(number: int) -> Address:
    where = (f"2001:db8::{number}", 80, 0, 0)
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where


ADDRESSES = st.lists(st.builds(v4, st.integers(1, 5)) | st.builds(v6, st.integers(1, 5)))


def test_families_take_turns() -> None:
    found = [v6(1), v6(2), v6(1), v6(3), v4(1)]
    assert interleave(found) == [v6(1), v4(1), v6(2), v6(3)]
    assert interleave([v4(1), v4(2), v6(1), v6(2)]) == [v4(1), v6(1), v4(2), v6(2)]
    assert interleave([]) == []


@given(ADDRESSES)
def test_every_address_is_kept_once_in_the_order_of_its_family(found: list[Address]) -> None:
    result = interleave(found)
    assert sorted(result) == sorted(set(found))
    for family in (socket.AF_INET, socket.AF_INET6):
        expected = [address for address in dict.fromkeys(found) if address[0] == family]
        assert [address for address in result if address[0] == family] == expected
    assert result[:1] == found[:1]


def test_next_address_starts_after_a_delay() -> None:
    race = AddressRace([v6(1), v4(1), v4(2)])
    assert race.next_start() is not None
    assert race.start(100.0) == v6(1)
    assert race.next_start() == 100.0 + ATTEMPT_DELAY
    assert race.start(100.0) is None
    assert race.start(100.0 + ATTEMPT_DELAY / 2) is None
    assert race.start(100.0 + ATTEMPT_DELAY) == v4(1)
    assert race.start(101.0) == v4(2)
    assert race.next_start() is None
    assert race.start(200.0) is None
    assert not race.lost


def test_next_address_starts_at_once_when_one_failed() -> None:
    race = AddressRace([v6(1), v4(1), v4(2)])
    assert race.start(100.0) == v6(1)
    race.failed(v6(1), REFUSED)
    next_start = race.next_start()
    assert next_start is not None
    assert next_start <= 100.0
    assert race.start(100.0) == v4(1)
    assert race.start(100.0) is None, "one failure brings one address forward"


def test_race_is_lost_with_the_last_failure() -> None:
    race = AddressRace([v6(1), v4(1)])
    assert not race.alone
    race.start(0.0)
    race.start(1.0)
    race.failed(v4(1), OSError(errno.ENETUNREACH, "Network is unreachable"))
    assert not race.lost
    race.failed(v6(1), REFUSED)
    assert race.lost
    assert str(race.error()) == (
        "none of its 2 addresses can be reached: Network is unreachable (192.0.2.1:80), "
        "Connection refused ([2001:db8::1]:80)"
    )


def test_single_address() -> None:
    race = AddressRace([v4(1)])
    assert race.alone
    race.start(0.0)
    assert race.alone
    race.failed(v4(1), REFUSED)
    error = race.error()
    assert isinstance(error, ConnectionRefusedError)
    assert error.strerror == "Connection refused (192.0.2.1:80)"


def test_no_address() -> None:
    race = AddressRace([])
    assert race.lost
    assert race.start(0.0) is None
    assert "no address" in str(race.error())


def test_error_without_a_number() -> None:
    race = AddressRace([v4(1)])
    race.start(0.0)
    race.failed(v4(1), OSError("odd"))
    assert str(race.error()) == "odd (192.0.2.1:80)"


def test_list_of_failures_is_bounded() -> None:
    error = all_failed_error([REFUSED] * 100)
    assert isinstance(error, ConnectionRefusedError)
    assert str(error).count("Connection refused") == MAX_FAILURES_LISTED
    assert str(error).endswith("and 96 more")
    assert "none of its 100 addresses" in str(error)


@given(ADDRESSES, st.lists(st.tuples(st.floats(0.0, 0.3), st.booleans())))
def test_every_address_is_started_once_whatever_happens(
    found: list[Address], steps: list[tuple[float, bool]]
) -> None:
    race = AddressRace(found)
    started: list[Address] = []
    under_way: list[Address] = []
    now, last_start = 0.0, float("-inf")
    for step, failed in [*steps, *[(ATTEMPT_DELAY, False)] * len(found)]:
        now += step
        if failed and under_way:
            race.failed(under_way.pop(), REFUSED)
        if address := race.start(now):
            assert failed or now - last_start >= ATTEMPT_DELAY * 0.999
            started.append(address)
            under_way.append(address)
            last_start = now
    assert started == interleave(found)
    assert race.lost is (not under_way)


@pytest.mark.parametrize(
    ("host", "family"),
    [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("localhost", None)],
)
def test_numeric_addresses(host: str, family: socket.AddressFamily | None) -> None:
    found = numeric_addresses(host, 80)
    assert [address[0] for address in found] == ([] if family is None else [family])
    assert [address[4][:2] for address in found] == ([] if family is None else [(host, 80)])
