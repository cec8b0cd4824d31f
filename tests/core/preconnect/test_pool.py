"""The pool: how many links it wants, when it replaces them, and which one it hands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniox_proto import (
    APIKey,
    Authentication,
    Endpoint,
    RealtimeSTTServerConnection,
    RequestRefused,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxValidationError,
    UpgradeReceived,
    UpgradeRequest,
)
from soniox_proto.options import check_pool_options
from soniox_proto.preconnect.idle_link import IdleLink
from soniox_proto.preconnect.pool import ConnectionPool
from tests.support.core.client import URL
from tests.support.core.messages import API_KEY

ENDPOINT = Endpoint.parse(URL)
REQUEST = UpgradeRequest(APIKey(API_KEY), Authentication.HEADER, [])
NETWORK = SonioxConnectionError("the network is down")
REFUSED = SonioxHandshakeError("no", status_code=401, headers={}, body=b"")


class World:
    """A pool whose links lead to server cores, under a clock that jumps.

    Every link is opened at once, by `opens`: it may let one fail, or never answer.
    """

    def __init__(self, size: int = 2, **options: Any) -> None:
        self.pool = ConnectionPool(ENDPOINT, size=size, **options)
        self.now = 0.0
        self.opened: list[tuple[float, IdleLink]] = []
        self.servers: dict[IdleLink, RealtimeSTTServerConnection] = {}
        self.closed: list[tuple[float, IdleLink]] = []
        self.opens: Callable[[IdleLink], None] = self.accept
        self.deaf: set[IdleLink] = set()
        """Links of which the server's end has vanished."""

    def accept(self, link: IdleLink) -> None:
        link.connect(REQUEST)
        link.opened(self.now)
        self.servers[link] = RealtimeSTTServerConnection()

    def fail(self, error: Any = NETWORK) -> Callable[[IdleLink], None]:
        return lambda link: void(link.failed(error, self.now))

    def settle(self) -> None:
        """Open what is wanted, and move bytes until none are left."""
        moved = True
        while moved:
            moved = False
            for link in self.pool.links_to_open(self.now):
                self.opened.append((self.now, link))
                self.opens(link)
                moved = True
            for link, server in tuple(self.servers.items()):
                moved |= self.exchange(link, server)

    def exchange(self, link: IdleLink, server: RealtimeSTTServerConnection) -> bool:
        up = link.data_to_send()
        if link.closed:
            self.closed.append((self.now, link))
            del self.servers[link]
            return True
        if link in self.deaf:
            return False
        for event in server.receive_data(up, self.now) + server.handle_timeout(self.now):
            match event:
                case UpgradeReceived():
                    server.accept(self.now)
                case RequestRefused(code, error_type, message):
                    server.send_error(code, error_type, message, self.now)
                case _:
                    pass
        down = server.data_to_send()
        if down:
            link.receive_data(down, self.now)
        if server.closed:
            link.receive_eof(self.now)
        return bool(up or down)

    def run(self, seconds: float) -> World:
        """Let time pass, and serve every deadline when it is due."""
        end = self.now + seconds
        self.settle()
        while (due := self.pool.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.pool.handle_timeout(self.now)
            self.settle()
        self.now = end
        return self

    def take(self) -> IdleLink | None:
        link = self.pool.take(self.now)
        if link is not None:
            del self.servers[link]
        self.settle()
        return link

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.opened]


def void(_: object) -> None:
    """Give nothing."""


def test_it_opens_as_many_as_it_should_have() -> None:
    world = World(3)
    assert world.pool.ready == 0
    world.run(1.0)
    assert world.pool.ready == len(world.opened) == 3
    assert not world.pool.opening


def test_links_live_to_their_time_and_each_has_a_successor_before() -> None:
    world = World(2, max_lifetime=600.0, refresh_before=60.0).run(2000.0)
    assert world.times == [0.0, 0.0, 540.0, 540.0, 1080.0, 1080.0, 1620.0, 1620.0]
    assert [time for time, _ in world.closed] == [540.0, 540.0, 1080.0, 1080.0, 1620.0, 1620.0]
    assert world.pool.ready == 2


def test_without_a_successor_a_link_is_used_to_the_end_of_its_time() -> None:
    world = World(1).run(100.0)
    world.opens = world.fail()
    world.run(450.0)
    assert world.pool.ready == 1
    assert world.pool.opening is False
    world.run(49.0)
    assert world.pool.ready == 1
    world.run(1.5)
    assert world.pool.ready == 0
    assert [time for time, _ in world.closed] == [600.0]


def test_each_is_handed_out_once_and_replaced() -> None:
    world = World(2).run(10.0)
    taken = [world.run(0.1).take() for _ in range(5)]
    world.run(0.1)
    assert None not in taken
    assert len(set(map(id, taken))) == 5
    assert all(link is not None and link.taken and not link.closed for link in taken)
    assert taken[:2] == [link for _, link in world.opened[:2]], "the oldest first"
    assert world.pool.ready == 2


def test_an_aging_link_is_handed_out_before_its_successor() -> None:
    world = World(1).run(100.0)
    first = world.opened[0][1]
    world.opens = void
    world.run(445.0)
    assert len(world.opened) == 2
    assert world.pool.opening
    assert world.take() is first


def test_another_is_opened_a_moment_later() -> None:
    world = World(1).run(10.0)
    assert world.take() is not None
    assert world.pool.next_timeout() == 10.05
    world.run(0.04)
    assert len(world.opened) == 1
    world.pool.hurry(world.now)
    world.settle()
    assert len(world.opened) == 2
    assert world.take() is not None
    world.run(0.05)
    assert len(world.opened) == 3


def test_a_failure_can_be_tried_again_at_once() -> None:
    world = World(1)
    world.opens = world.fail(REFUSED)
    world.run(1.0)
    assert world.pool.next_timeout() == 60.0
    world.opens = world.accept
    world.pool.hurry(world.now)
    world.settle()
    assert world.pool.ready == 1


def test_whoever_cannot_wait_hears_nothing_of_earlier_failures() -> None:
    world = World(1).run(10.0)
    # It broke, and nobody has looked since.
    world.opened[0][1].failed(NETWORK, world.now)
    world.pool.hurry(world.now)
    world.settle()
    assert world.take() is not None
    assert world.pool.ready == 0
    assert world.pool.last_error is None


def test_none_is_handed_out_while_they_open() -> None:
    world = World(2)
    world.opens = void
    world.run(1.0)
    assert world.take() is None
    assert world.pool.opening


def test_dead_ones_are_replaced() -> None:
    world = World(2).run(12.0)
    first = world.opened[0][1]
    world.deaf.add(first)
    world.run(10.0)
    assert [link for _, link in world.closed] == [first]
    assert world.times == [0.0, 0.0, 20.0], "at once: it had been of use"
    assert world.pool.ready == 2


def test_one_that_ended_unnoticed_is_due() -> None:
    world = World(1).run(12.0)
    world.opened[0][1].failed(NETWORK, world.now)
    due = world.pool.next_timeout()
    assert due is not None
    assert due <= world.now
    world.run(0.0)
    assert world.times == [0.0, 12.0]


def test_the_service_keeps_those_that_are_kept_alive() -> None:
    world = World(1, max_lifetime=100_000.0, refresh_before=1.0).run(50_000.0)
    assert world.times == [0.0]


def test_failures_are_tried_again_ever_more_slowly() -> None:
    world = World(3)
    world.opens = world.fail()
    world.run(200.0)
    assert sorted(set(world.times)) == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]
    assert world.pool.last_error is NETWORK
    world.opens = world.accept
    world.run(60.0)
    assert world.pool.ready == 3
    world.opens = world.fail()
    world.take()
    world.run(0.1)
    assert world.times[-1] == 260.05, "one that worked ends the delay"


def test_hopeless_failures_are_tried_again_once_a_minute() -> None:
    world = World(1)
    world.opens = world.fail(REFUSED)
    world.run(130.0)
    assert world.times == [0.0, 60.0, 120.0]


def test_the_service_says_when_to_come_again() -> None:
    world = World(1)
    error = SonioxHandshakeError("no", status_code=429, headers={"retry-after": "17"}, body=b"")
    world.opens = world.fail(error)
    world.run(20.0)
    assert world.times == [0.0, 17.0]


def test_opening_has_a_deadline() -> None:
    world = World(1, connect_timeout=4.0)
    world.opens = void
    world.run(6.0)
    assert world.times == [0.0, 5.0]
    unlimited = World(1, connect_timeout=None)
    unlimited.opens = void
    assert unlimited.run(1e6).times == [0.0]


def test_closing_ends_all_and_wants_no_more() -> None:
    world = World(2).run(545.0)
    world.pool.close()
    assert world.pool.closed
    world.settle()
    assert len(world.closed) == 4
    assert world.pool.links_to_open(world.now) == []
    assert world.pool.take(world.now) is None
    assert world.pool.next_timeout() is None
    world.pool.close()


@given(
    size=st.integers(1, 4),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["take", "deaf", "fail", "accept", "ignore", "wait"]),
            st.floats(0.0, 120.0),
        ),
        max_size=30,
    ),
)
def test_whatever_happens(size: int, steps: list[tuple[str, float]]) -> None:
    world = World(size)
    taken: list[IdleLink] = []
    for what, seconds in steps:
        match what:
            case "take":
                link = world.take()
                if link is not None:
                    assert link.can_be_taken(world.now)
                    taken.append(link)
            case "deaf":
                world.deaf |= set(list(world.servers)[:1])
            case "fail":
                world.opens = world.fail()
            case "accept":
                world.opens = world.accept
            case "ignore":
                world.opens = void
            case _:
                pass
        world.run(seconds)
        alive = [link for _, link in world.opened if not (link.closed or link.taken)]
        assert len(alive) <= 2 * size, "as many as it should have, and their successors"
        for link in alive:
            assert link.opened_at is None or world.now - link.opened_at <= 600.0
    assert len(set(map(id, taken))) == len(taken), "none is handed out twice"
    # Whatever it was, it ends: after the longest delay the pool is full again.
    world.opens = world.accept
    world.deaf.clear()
    world.run(75.0)
    assert world.pool.ready >= size


@pytest.mark.parametrize(
    ("size", "lifetime", "refresh", "named"),
    [
        (-1, 600.0, 60.0, "stt_connection_pool_size"),
        (1.0, 600.0, 60.0, "stt_connection_pool_size"),
        (True, 600.0, 60.0, "stt_connection_pool_size"),
        (1001, 600.0, 60.0, "stt_connection_pool_size"),
        (1, 0.0, 60.0, "stt_idle_max_lifetime_sec"),
        (1, None, 60.0, "stt_idle_max_lifetime_sec"),
        (1, 600.0, "60", "stt_idle_refresh_before_sec"),
        (1, 600.0, None, "stt_idle_refresh_before_sec"),
        (1, 600.0, 600.0, "less than stt_idle_max_lifetime_sec"),
    ],
)
def test_options_that_make_no_sense(size: Any, lifetime: Any, refresh: Any, named: str) -> None:
    with pytest.raises(SonioxValidationError, match=named) as caught:
        check_pool_options(size, lifetime, refresh)
    assert "or None" not in str(caught.value)
