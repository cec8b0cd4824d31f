"""Sessions with callbacks, in the manner of websocket-client's `WebSocketApp`."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import rel

from soniox_adapters import (
    Outcome,
    RealtimeEvent,
    RealtimeSTTApp,
    ReconnectPolicy,
    SessionState,
    SonioxAuthenticationError,
    SonioxConnectionError,
    SonioxHandshakeError,
    SonioxStateError,
    SonioxTimeoutError,
    SonioxValidationError,
)
from soniox_adapters.blocking.handover import MAX_WAITING_ACTIONS, Handover
from tests.support.adapters import endings
from tests.support.adapters import proxy as proxies
from tests.support.adapters.cutting_server import CuttingServer
from tests.support.adapters.listener import port_that_refuses
from tests.support.adapters.proxy import FakeProxy
from tests.support.adapters.server import PATIENCE, FakeServer, Peer, Script, obliging, silent
from tests.support.adapters.sessions import label
from tests.support.core import frames
from tests.support.core.messages import API_KEY, CONFIG, FINISHED, UNAUTHENTICATED, result
from tests.support.core.model_service import AUDIO_CONFIG, Word, audio


class Loop:
    """A dispatcher, as far as one is needed: it calls back while a socket is readable."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.threads: set[str] = set()

    def read(self, sock: socket.socket, callback: Callable[[], bool], /) -> None:
        self._selector.register(sock, selectors.EVENT_READ, callback)

    def run(self) -> None:
        with self._selector:
            while self._selector.get_map():
                ready = self._selector.select(PATIENCE)
                assert ready, "nothing happens any more"
                for key, _ in ready:
                    if not key.data():
                        self._selector.unregister(key.fd)


class Notes:
    """An app, and what its callbacks were called with."""

    def __init__(self, url: str, **options: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.threads: set[threading.Thread] = set()
        callbacks = {
            name: self._noting(name)
            for name in ("on_open", "on_event", "on_finished", "on_error", "on_close")
        }
        self.app = RealtimeSTTApp(
            url,
            CONFIG,
            options.pop("api_key", API_KEY),
            **{"close_timeout_sec": 0.2, "connect_timeout_sec": 5.0, **callbacks, **options},
        )

    def _noting(self, name: str) -> Callable[..., None]:
        def note(app: RealtimeSTTApp, *arguments: Any) -> None:
            assert app is self.app
            self.threads.add(threading.current_thread())
            shown = [label(it) if isinstance(it, RealtimeEvent) else it for it in arguments]
            self.calls.append((name, *shown))

        return note

    def run(self, dispatched: bool, **keywords: Any) -> bool:
        if not dispatched:
            return self.app.run_forever(**keywords)
        loop = Loop()
        errored = self.app.run_forever(dispatcher=loop, **keywords)
        if not errored:
            loop.run()
        return errored

    @property
    def error(self) -> Any:
        (error,) = [call[1] for call in self.calls if call[0] == "on_error"]
        return error

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


@pytest.fixture(params=[False, True], ids=["alone", "dispatcher"])
def dispatched(request: pytest.FixtureRequest) -> bool:
    """Whether a dispatcher makes the callbacks."""
    assert isinstance(request.param, bool)
    return request.param


def says(*messages: str, data: bytes = frames.close(1000)) -> Script:
    ending = endings.ends(*messages, data=data)

    def script(peer: Peer) -> None:
        peer.start()
        ending(peer)

    return script


def test_a_whole_session(dispatched: bool) -> None:
    with FakeServer(says(result("one"), FINISHED)) as server:
        notes = Notes(server.url)
        assert notes.run(dispatched) is False
        assert notes.calls == [
            ("on_open",),
            ("on_event", "one"),
            ("on_event", "finished"),
            ("on_finished", "finished"),
            ("on_close", 1000, ""),
        ]
        assert notes.threads == {threading.current_thread()}
        assert notes.app.outcome is Outcome.FINISHED
        assert notes.app.state is SessionState.CLOSED
        assert notes.app.last_message is not None
        assert notes.app.last_message.finished
        request = server.peer().request
        assert request is not None
        assert request.values("authorization") == [f"Bearer {API_KEY}"]


def test_audio_and_controls_from_another_thread(dispatched: bool) -> None:
    def send(app: RealtimeSTTApp) -> None:
        app.send_byte_chunk(b"one")
        app.finalize(trailing_silence_ms=100)
        app.pause(finalize=False)
        assert app.paused
        app.send_byte_chunk(b"dropped")
        app.keep_alive()
        app.resume()
        app.send_byte_chunk(b"two")
        app.finish()

    with FakeServer(obliging) as server:
        threads: list[threading.Thread] = []

        def start(app: RealtimeSTTApp) -> None:
            threads.append(threading.Thread(target=send, args=(app,)))
            threads[0].start()

        notes = Notes(server.url, on_open=start)
        assert notes.run(dispatched) is False
        threads[0].join()
        assert notes.names == ["on_event", "on_finished", "on_close"]
        assert server.peer().audio == b"onetwo"
        assert notes.app.stats.dropped_while_paused_bytes == len(b"dropped")


def test_an_error_message(dispatched: bool) -> None:
    with FakeServer(says(UNAUTHENTICATED)) as server:
        notes = Notes(server.url)
        notes.run(dispatched)
        assert notes.names == ["on_open", "on_event", "on_error", "on_close"]
        assert isinstance(notes.error, SonioxAuthenticationError)


def test_whether_an_error_ended_it() -> None:
    with FakeServer(says(UNAUTHENTICATED)) as server:
        assert Notes(server.url).run(dispatched=False) is True


def test_a_connection_that_is_lost(dispatched: bool) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.reset()

    with FakeServer(script) as server:
        notes = Notes(server.url)
        notes.run(dispatched)
        assert notes.names == ["on_open", "on_error", "on_close"]
        assert notes.calls[-1] == ("on_close", 1006, "")
        assert isinstance(notes.error, SonioxConnectionError)


def test_a_close_frame_of_the_server(dispatched: bool) -> None:
    with FakeServer(says(data=frames.close(1011, "why"))) as server:
        notes = Notes(server.url)
        notes.run(dispatched)
        assert notes.calls[-1] == ("on_close", 1011, "why")


def test_a_server_that_is_not_there(dispatched: bool) -> None:
    with port_that_refuses() as port:
        notes = Notes(f"ws://127.0.0.1:{port}")
        assert notes.run(dispatched) is True
        assert notes.names == ["on_error", "on_close"]
        assert notes.calls[-1] == ("on_close", None, "")
        assert isinstance(notes.error, SonioxConnectionError)


def test_a_refused_upgrade(dispatched: bool) -> None:
    with FakeServer(endings.refuses) as server:
        notes = Notes(server.url)
        assert notes.run(dispatched) is True
        assert isinstance(notes.error, SonioxHandshakeError)
        assert notes.error.status_code == 429
        assert notes.calls[-1] == ("on_close", None, "")


def test_pings_notice_a_dead_server(dispatched: bool) -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.watch()

    with FakeServer(script) as server:
        notes = Notes(server.url)
        notes.run(dispatched, ping_interval=0.05, ping_timeout=0.05)
        assert isinstance(notes.error, SonioxTimeoutError)
        assert notes.error.operation == "ping"


def test_pings_can_be_turned_off() -> None:
    with FakeServer(says(FINISHED)) as server:
        assert Notes(server.url).run(dispatched=False, ping_interval=0) is False


@pytest.mark.parametrize("call", ["close", "abort"])
def test_ended_by_a_callback(call: str, dispatched: bool) -> None:
    with FakeServer(silent) as server:
        notes = Notes(server.url, on_open=lambda app: getattr(app, call)())
        assert notes.run(dispatched) is False
        assert notes.names == ["on_close"]
        outcome = Outcome.CLOSED_LOCALLY if call == "close" else Outcome.ABORTED
        assert notes.app.outcome is outcome


def test_ended_by_another_thread(dispatched: bool) -> None:
    with FakeServer(silent) as server:
        timers: list[threading.Thread] = []

        def opened(app: RealtimeSTTApp) -> None:
            timers.append(threading.Thread(target=app.close))
            timers[0].start()

        notes = Notes(server.url, on_open=opened)
        assert notes.run(dispatched) is False
        timers[0].join()


@pytest.mark.parametrize("name", ["on_open", "on_event", "on_finished", "on_close"])
def test_what_a_callback_raises_goes_to_on_error(name: str, dispatched: bool) -> None:
    error = SonioxStateError("no failure of the session")

    def fail(*_: Any) -> None:
        raise error

    with FakeServer(says(result("one"), FINISHED)) as server:
        notes = Notes(server.url, **{name: fail})
        assert notes.run(dispatched) is False
        assert notes.names.count("on_error") == (2 if name == "on_event" else 1)
        assert {call[1] for call in notes.calls if call[0] == "on_error"} == {error}
        assert notes.app.outcome is Outcome.FINISHED


@pytest.mark.parametrize("name", ["on_open", "on_event", "on_close", "on_error"])
def test_without_on_error_it_is_raised(name: str, dispatched: bool) -> None:
    class DeliberateError(Exception):
        pass

    def fail(*_: Any) -> None:
        raise DeliberateError

    with FakeServer(says(UNAUTHENTICATED)) as server:
        notes = Notes(server.url, **{"on_error": None, name: fail})
        with pytest.raises(DeliberateError):
            notes.run(dispatched)
        assert notes.names.count("on_close") == (name != "on_close")
        assert notes.app.state is SessionState.CLOSED
        # It can run again.
        with pytest.raises(DeliberateError):
            notes.run(dispatched)


def test_ctrl_c_is_raised(dispatched: bool) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with FakeServer(says(result("one"), data=b"")) as server:
        notes = Notes(server.url, on_event=interrupt)
        with pytest.raises(KeyboardInterrupt):
            notes.run(dispatched)
        assert notes.names == ["on_open", "on_close"]
        assert notes.app.outcome is Outcome.ABORTED


def test_all_callbacks_may_be_left_out(dispatched: bool) -> None:
    for script in (says(result("one"), FINISHED), says(UNAUTHENTICATED)):
        with FakeServer(script) as server:
            silenced = dict.fromkeys(
                ("on_open", "on_event", "on_finished", "on_error", "on_close"), None
            )
            Notes(server.url, **silenced).run(dispatched)


def test_each_run_is_a_new_session(dispatched: bool) -> None:
    with FakeServer(says(FINISHED)) as server:
        notes = Notes(server.url)
        for _ in range(2):
            assert notes.run(dispatched) is False
        assert notes.names.count("on_close") == 2
        assert server.connections == 2


@pytest.mark.parametrize("name", ["on_open", "on_close"])
def test_one_run_at_a_time(name: str, dispatched: bool) -> None:
    refused: list[str] = []

    def run_again(app: RealtimeSTTApp, *_: Any) -> None:
        with pytest.raises(SonioxStateError, match="running already"):
            app.run_forever()
        refused.append("refused")

    with FakeServer(says(FINISHED)) as server:
        Notes(server.url, **{name: run_again}).run(dispatched)
    assert refused


def test_of_two_threads_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    one_is_refused = threading.Event()

    def on_open(app: RealtimeSTTApp) -> None:
        # Otherwise a slow second thread would find the first run over, and begin another.
        assert one_is_refused.wait(PATIENCE)
        app.finish()

    with FakeServer(obliging) as server:
        notes = Notes(server.url, on_open=on_open)
        make_session = notes.app._make_session

        def make_session_together(*arguments: Any) -> Any:
            # What each thread does before it can see that the other one is running.
            made = make_session(*arguments)
            both.wait(PATIENCE)
            return made

        monkeypatch.setattr(notes.app, "_make_session", make_session_together)
        refused: list[SonioxStateError] = []

        def run() -> None:
            try:
                notes.app.run_forever()
            except SonioxStateError as error:
                refused.append(error)
                one_is_refused.set()

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(refused) == 1
        assert server.connections == 1


# Dispatchers that are slow, are stopped, or do not work


def floods(peer: Peer) -> None:
    """Say more than waits for a dispatcher, then what ends a session."""
    peer.start()
    for _ in range(2 * MAX_WAITING_ACTIONS):
        peer.say(result("x"))
    endings.ends(FINISHED, data=frames.close(1000))(peer)


def wait_until_full(app: RealtimeSTTApp) -> None:
    handover = app._handover
    assert handover is not None
    deadline = time.monotonic() + PATIENCE
    while len(handover._actions) < MAX_WAITING_ACTIONS:
        assert time.monotonic() < deadline, "the session is not read"
        time.sleep(0.001)


def receivers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "soniox-app"]


def test_a_slow_dispatcher_gets_everything() -> None:
    waiting: list[int] = []

    def slow(app: RealtimeSTTApp, _: RealtimeEvent) -> None:
        if not waiting:
            wait_until_full(app)
        assert app._handover is not None
        count = len(app._handover._actions)
        # Once the session is over, the rest of what it holds waits too.
        waiting.append(0 if app.state is SessionState.CLOSED else count)

    with FakeServer(floods) as server:
        notes = Notes(server.url, on_event=slow)
        notes.run(dispatched=True)
        assert len(waiting) == 2 * MAX_WAITING_ACTIONS + 1
        assert max(waiting) <= MAX_WAITING_ACTIONS, "what waits is bounded"
        assert notes.app.outcome is Outcome.FINISHED


@pytest.mark.parametrize("end", ["raise", "close", "abort"])
def test_ended_by_a_slow_callback(end: str) -> None:
    class DeliberateError(Exception):
        pass

    def slow(app: RealtimeSTTApp, _: RealtimeEvent) -> None:
        if not ended:
            wait_until_full(app)
            ended.append(True)
            if end == "raise":
                raise DeliberateError
            getattr(app, end)()

    ended: list[bool] = []
    with FakeServer(floods) as server:
        notes = Notes(server.url, on_event=slow, on_error=None)
        if end == "raise":
            with pytest.raises(DeliberateError):
                notes.run(dispatched=True)
        else:
            notes.run(dispatched=True)
        assert notes.names.count("on_close") == 1
        assert receivers() == []


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_dispatcher_that_is_stopped(end: str) -> None:
    with FakeServer(floods, says(FINISHED)) as server:
        notes = Notes(server.url)
        stopped = Loop()
        notes.app.run_forever(dispatcher=stopped)
        wait_until_full(notes.app)
        getattr(notes.app, end)()
        notes.calls.clear()
        assert notes.run(dispatched=True) is False
        expected = ["on_open", "on_event", "on_finished", "on_close"]
        assert notes.names == expected
        stopped.run()
        assert notes.names == expected, "callbacks of the first run are dropped"
        assert receivers() == []


def test_on_close_is_known_to_be_the_last_callback() -> None:
    """It often stops the dispatcher, which then calls nothing any more."""
    handover, called = Handover(), list[str]()
    handover.put(lambda: called.append("event"))
    assert handover.act()
    handover.complete(lambda: called.append("close"))
    assert not handover.act()
    assert called == ["event", "close"]
    handover.close()
    handover.complete(lambda: called.append("too late"))
    assert not handover.act()
    assert called == ["event", "close"]
    handover.reader.close()


def test_rel() -> None:
    with FakeServer(floods) as server:
        notes = Notes(server.url, on_close=lambda *_: rel.abort())
        for _ in range(2):
            notes.calls.clear()
            assert notes.app.run_forever(dispatcher=rel) is False
            rel.dispatch()
            assert notes.names.count("on_event") == 2 * MAX_WAITING_ACTIONS + 1
            assert notes.app.outcome is Outcome.FINISHED
            assert notes.app._handover is not None
            assert notes.app._handover.reader.fileno() == -1
            assert receivers() == []


def test_no_socket_is_left_to_wake_the_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(24, "Too many open files")

    with FakeServer(says(FINISHED)) as server:
        notes = Notes(server.url)
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socketpair", fail)
            with pytest.raises(SonioxConnectionError, match="Too many open files"):
                notes.app.run_forever(dispatcher=Loop())
        assert notes.run(dispatched=True) is False


def test_a_stopped_dispatcher_while_the_session_is_open() -> None:
    with FakeServer(silent) as server:
        notes = Notes(server.url)
        stopped = Loop()
        notes.app.run_forever(dispatcher=stopped)
        with pytest.raises(SonioxStateError, match="running already"):
            notes.app.run_forever()
        notes.app.close()
        stopped.run()
        assert notes.names == ["on_open", "on_close"]


def test_a_dispatcher_that_fails() -> None:
    class DeliberateError(Exception):
        pass

    class Failing:
        def read(self, sock: socket.socket, callback: Callable[[], bool], /) -> None:
            raise DeliberateError

    with FakeServer(silent, says(FINISHED)) as server:
        notes = Notes(server.url)
        with pytest.raises(DeliberateError):
            notes.app.run_forever(dispatcher=Failing())
        assert notes.names == ["on_open", "on_close"]
        assert notes.app.state is SessionState.CLOSED
        assert notes.run(dispatched=True) is False


def test_what_is_no_dispatcher_is_refused() -> None:
    app = RealtimeSTTApp("ws://127.0.0.1:1", CONFIG)
    with pytest.raises(SonioxValidationError, match="dispatcher must have a function read"):
        app.run_forever(dispatcher=object())  # type: ignore[arg-type]


def test_pings_of_the_app_are_those_of_the_run_by_default() -> None:
    def script(peer: Peer) -> None:
        peer.start()
        peer.watch()

    with FakeServer(script) as server:
        notes = Notes(server.url, ping_interval_sec=0.05, ping_timeout_sec=0.05)
        notes.run(dispatched=False)
        assert isinstance(notes.error, SonioxTimeoutError)
        assert notes.error.operation == "ping"


def test_options_of_websocket_client() -> None:
    with (
        FakeServer(obliging) as server,
        FakeProxy(proxies.http_connect, scheme="http", server_port=server.port) as proxy,
    ):
        url = urlsplit(proxy.url())
        notes = Notes("ws://stt.example.test/path", on_open=RealtimeSTTApp.finish)
        errored = notes.app.run_forever(
            http_proxy_host=url.hostname,
            http_proxy_port=url.port,
            ping_payload="x",
            skip_utf8_validation=True,
            origin="https://own.example.test",
        )
        assert errored is False
        assert proxy.targets == [("stt.example.test", 80)]
        request = server.peer().request
        assert request is not None
        assert request.values("origin") == ["https://own.example.test"]


def test_an_app_survives_a_lost_connection() -> None:
    words = [Word(" one", 100, 400), Word(" two", 500, 900)]

    def send(app: RealtimeSTTApp) -> None:
        app.send_byte_chunk(audio(0, 1000))
        app.finish()

    with CuttingServer(words, [300]) as server:
        texts: list[str] = []
        app = RealtimeSTTApp(
            server.url,
            AUDIO_CONFIG,
            on_open=send,
            on_event=lambda _, event: texts.extend(t.text for t in event.tokens if t.is_final),
            reconnect=ReconnectPolicy(initial_delay=0.01),
        )
        assert app.run_forever() is False
    assert (app.outcome, app.stats.reconnects) == (Outcome.FINISHED, 1)
    assert "".join(texts) == " one two"


def test_an_app_does_not_show_its_key() -> None:
    app = RealtimeSTTApp("ws://127.0.0.1:1", CONFIG, API_KEY)
    assert API_KEY not in repr((app, vars(app)))


def test_mistakes_are_reported_at_once() -> None:
    url = "ws://127.0.0.1:1"
    with pytest.raises(SonioxValidationError, match="new transcript"):
        RealtimeSTTApp(url, CONFIG).run_forever(reconnect=5)
    with pytest.raises(SonioxValidationError, match="proxy is not an option"):
        RealtimeSTTApp(url, CONFIG, proxy=None)
    with pytest.raises(TypeError, match=r"^RealtimeSTTApp\(\) got .* 'ping_interval'"):
        RealtimeSTTApp(url, CONFIG, ping_interval=20)  # type: ignore[call-arg]
    with pytest.raises(SonioxValidationError):
        RealtimeSTTApp("http://localhost", CONFIG)
    with pytest.raises(SonioxValidationError, match="ping_interval_sec"):
        RealtimeSTTApp(url, CONFIG).run_forever(ping_interval=-1)
    app = RealtimeSTTApp(url, CONFIG)
    assert app.config is CONFIG
    with pytest.raises(SonioxStateError, match="not connected"):
        app.send_byte_chunk(b"early")
