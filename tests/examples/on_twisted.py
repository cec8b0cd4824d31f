"""Bytes on Twisted: a `Protocol` that feeds the core, and `callLater` for its timers."""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import react
from twisted.python.failure import Failure

from soniox_proto import (
    Event,
    Finished,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    Result,
    SonioxConnectionError,
)

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)
reactor: Any = installed_reactor


class Transcription(Protocol):
    """One session. `finished` fires with the final text, or with what ended it too early."""

    def __init__(self, connection: RealtimeSTTConnection, audio: bytes) -> None:
        self.finished: Deferred[str] = Deferred()
        self.connection = connection
        self.text = ""
        self.timer: Any = None
        connection.connect(time.monotonic())
        connection.send_audio(audio, time.monotonic())
        connection.finish(time.monotonic())

    def connectionMade(self) -> None:
        self.step([])

    def dataReceived(self, data: bytes) -> None:
        self.step(self.connection.receive_data(data, time.monotonic()))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.step(self.connection.receive_eof(time.monotonic()))
        self.stop_timer()
        error = self.connection.error
        if self.connection.outcome is Outcome.FINISHED:
            self.finished.callback(self.text)
        else:
            text = "closed before the transcript was complete"
            self.finished.errback(error or SonioxConnectionError(text))

    def step(self, events: list[Event]) -> None:
        """Handle events, write, and set the timer: the same after every call of the core."""
        for event in events:
            if isinstance(event, Result):
                self.text += "".join(t.text for t in event.message.tokens if t.is_final)
            elif isinstance(event, Finished):
                self.connection.close(time.monotonic())
        transport: Any = self.transport
        transport.write(self.connection.data_to_send())
        self.stop_timer()
        deadline = self.connection.next_timeout()
        if self.connection.closed:
            transport.loseConnection()
            # That waits until all is written, for which a server that reads no more has a second.
            self.timer = reactor.callLater(1.0, transport.abortConnection)
        elif deadline is not None:
            self.timer = reactor.callLater(max(0.0, deadline - time.monotonic()), self.expire)

    def stop_timer(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()

    def expire(self) -> None:
        self.step(self.connection.handle_timeout(time.monotonic()))


class Factory(ClientFactory):
    """Gives the one connection to the one session."""

    def __init__(self, transcription: Transcription) -> None:
        self.transcription = transcription

    def buildProtocol(self, addr: object) -> Transcription:
        return self.transcription

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.transcription.finished.errback(reason)


def main(_: object, url: str, api_key: str, seconds: str) -> Deferred[None]:
    connection = RealtimeSTTConnection(url, CONFIG, api_key=api_key)
    transcription = Transcription(connection, bytes(32_000 * int(seconds)))
    endpoint, factory = connection.endpoint, Factory(transcription)
    if endpoint.secure:
        from twisted.internet.ssl import optionsForClientTLS  # Needs `twisted[tls]`.

        options: Any = optionsForClientTLS(endpoint.server_hostname)
        reactor.connectSSL(endpoint.host, endpoint.port, factory, options)
    else:
        reactor.connectTCP(endpoint.host, endpoint.port, factory)
    return transcription.finished.addCallback(print)


if __name__ == "__main__":
    react(main, sys.argv[1:])
