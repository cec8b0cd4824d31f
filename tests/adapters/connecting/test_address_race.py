"""A host with several addresses, some of which swallow or refuse every connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator

import anyio
import pytest

from soniox_adapters import Endpoint, Outcome, SonioxConnectionError
from soniox_adapters.connecting import addresses, on_asyncio
from soniox_adapters.connecting.addresses import Address
from soniox_adapters.connecting.on_asyncio import connect_on_asyncio
from tests.support.adapters.interruption import ways_to_interrupt
from tests.support.adapters.listener import listener_that_accepts_nobody, port_that_refuses
from tests.support.adapters.proxy import FakeProxy, http_connect
from tests.support.adapters.resolver import NAME, FakeResolver
from tests.support.adapters.scenarios import TIMES
from tests.support.adapters.server import FakeServer, obliging
from tests.support.adapters.sessions import Kind, label, open_session

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="full queues are refused elsewhere")

ENDPOINT = Endpoint.parse(f"ws://{NAME}")


@pytest.fixture(params=[Kind.BLOCKING, Kind.ASYNCIO, Kind.TRIO], ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Kinds of session that open their own connection."""
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
def silent_port() -> Iterator[int]:
    with listener_that_accepts_nobody() as port:
        yield port


@pytest.fixture
def refusing_port() -> Iterator[int]:
    with port_that_refuses() as port:
        yield port


def test_first_addresses_that_do_not_answer(
    kind: Kind, silent_port: int, refusing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer(obliging) as server:
        FakeResolver(monkeypatch, silent_port, refusing_port, silent_port, server.port)
        with open_session(kind, f"ws://{NAME}", **TIMES) as driver:
            with driver.connected():
                driver.call("send_bytes", [b"audio"])
                assert [label(event) for event in driver.collect()] == ["finished"]
            assert driver.outcome is Outcome.FINISHED


def test_later_addresses_are_left_alone(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer(obliging) as first, FakeServer(obliging) as second:
        FakeResolver(monkeypatch, first.port, second.port)
        with open_session(kind, f"ws://{NAME}", **TIMES) as driver, driver.connected():
            pass
        assert (first.connections, second.connections) == (1, 0)


def test_proxy_with_several_addresses(
    kind: Kind, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        FakeServer(obliging) as server,
        FakeProxy(http_connect, scheme="http", server_port=server.port) as proxy,
    ):
        FakeResolver(monkeypatch, silent_port, int(proxy.url().rpartition(":")[2]))
        options = {**TIMES, "proxy": f"http://{NAME}"}
        with open_session(kind, "ws://behind.test", **options) as driver, driver.connected():
            pass
        assert proxy.targets == [("behind.test", 80)]


def test_every_address_refuses(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(port_that_refuses()) for _ in range(6)]
        FakeResolver(monkeypatch, *ports)
        with (
            open_session(kind, f"ws://{NAME}", **TIMES) as driver,
            pytest.raises(SonioxConnectionError) as refused,
        ):
            driver.enter()
    text = str(refused.value)
    assert text.startswith(f"cannot connect to {NAME}:80: none of its 6 addresses can be reached: ")
    assert text.endswith("and 2 more")
    assert [str(port) in text for port in ports] == [True] * 4 + [False] * 2
    assert isinstance(refused.value.__cause__, ConnectionRefusedError)
    assert refused.value.retryable


def test_name_without_addresses(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeResolver(monkeypatch)
    with (
        open_session(kind, f"ws://{NAME}", **TIMES) as driver,
        pytest.raises(SonioxConnectionError, match=NAME),
    ):
        driver.enter()


def test_address_that_the_system_refuses_at_once(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer(obliging) as server:
        resolver = FakeResolver(monkeypatch, server.port)
        resolver.addresses.insert(0, ("255.255.255.255", 80))
        with open_session(kind, f"ws://{NAME}", **TIMES) as driver, driver.connected():
            pass


@pytest.mark.parametrize("count", [1, 2])
def test_addresses_of_an_unknown_family(
    kind: Kind, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No socket can be made for them, which is as good as a refusal."""
    resolver = FakeResolver(monkeypatch, *range(1, count + 1))
    resolver.family = 255
    with (
        open_session(kind, f"ws://{NAME}", **TIMES) as driver,
        pytest.raises(SonioxConnectionError, match="family not supported"),
    ):
        driver.enter()


# Cancelled at any point


def resolve(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Have `NAME` stand for ports of this host, on uvloop too, which has its own resolver."""
    resolver = FakeResolver(monkeypatch, *ports)

    def numeric_addresses(host: str, port: int) -> list[Address]:
        if host == NAME:
            return list(socket.getaddrinfo(host, port))
        return addresses.numeric_addresses(host, port)

    assert resolver.addresses
    monkeypatch.setattr(on_asyncio, "numeric_addresses", numeric_addresses)
    monkeypatch.setattr(addresses, "ATTEMPT_DELAY", 0.01)


def run(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    if loop == "uvloop":
        import uvloop

        anyio.run(main, backend_options={"loop_factory": uvloop.new_event_loop})
    else:
        anyio.run(main, backend=loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("through", ["directly", "http"])
def test_cancelled_anywhere(
    loop: str, through: str, silent_port: int, refusing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it returns a connection or is cancelled, it leaves no other socket behind."""
    if loop == "uvloop" and sys.platform == "win32":
        pytest.skip("there is no uvloop")

    async def main() -> None:
        if loop == "trio":
            from soniox_adapters.connecting.on_trio import connect_on_trio as connect
        else:
            connect = connect_on_asyncio
        opened: list[socket.socket] = []

        async def use() -> None:
            opened.append(await connect(ENDPOINT, option))

        for interrupt in ways_to_interrupt("trio" if loop == "trio" else "asyncio"):
            for at in range(1, 200):
                outcome = await interrupt(use, at)
                assert outcome.error is None
                for connected in opened:
                    connected.close()
                opened.clear()
                if not outcome.reached:
                    assert outcome.returned
                    break
                assert outcome.cancelled
            else:
                raise AssertionError("it has too many checkpoints")

    with (
        socket.create_server(("127.0.0.1", 0), backlog=256) as server,
        FakeProxy(http_connect, scheme="http", server_port=server.getsockname()[1]) as proxy,
    ):
        port, option = server.getsockname()[1], None
        if through == "http":
            option = f"http://{NAME}"
            resolve(monkeypatch, int(proxy.url().rpartition(":")[2]))
        else:
            resolve(monkeypatch, refusing_port, silent_port, port)
        run(loop, main)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_connections_that_lose_at_the_last_moment(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two succeed in the same turn of the loop: one is returned, the other closed."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        both = asyncio.Event()
        started: list[socket.socket] = []
        connect = running.sock_connect

        class Together:
            """The running loop, where connections wait for each other."""

            def __getattr__(self, name: str) -> object:
                return getattr(running, name)

            async def sock_connect(self, connected: socket.socket, address: object) -> None:
                await connect(connected, address)  # type: ignore[arg-type]
                started.append(connected)
                if len(started) == 2:
                    both.set()
                await both.wait()

        monkeypatch.setattr(asyncio, "get_running_loop", Together)
        winner = await connect_on_asyncio(ENDPOINT, None)
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: running)
        await asyncio.sleep(0)
        with winner:
            loser = next(each for each in started if each is not winner)
            assert loser.fileno() == -1

    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        resolve(monkeypatch, one.getsockname()[1], other.getsockname()[1])
        run(loop, main)
