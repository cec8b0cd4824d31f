"""Any number of sessions in one thread: bytes on non-blocking sockets, and one selector."""

from __future__ import annotations

import selectors
import socket
import ssl
import sys
import time

from soniox_proto import (
    Event,
    Finished,
    Outcome,
    RealtimeSTTConfig,
    RealtimeSTTConnection,
    Result,
    SonioxConnectionError,
    SonioxRealtimeError,
)

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)

WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Session:
    """A connection of the core and its socket."""

    def __init__(
        self, url: str, api_key: str, audio: bytes, tls: ssl.SSLContext | None = None
    ) -> None:
        self.connection = RealtimeSTTConnection(url, CONFIG, api_key=api_key)
        endpoint = self.connection.endpoint
        # Connecting blocks here for the sake of brevity.
        self.socket = socket.create_connection((endpoint.host, endpoint.port), timeout=10)
        if endpoint.secure:
            context = tls or ssl.create_default_context()
            name = endpoint.server_hostname
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self.socket.setblocking(False)
        self.unsent = b""
        self.text = ""
        now = time.monotonic()
        self.connection.connect(now)
        self.connection.send_audio(audio, now)  # Held until the session is open.
        self.connection.finish(now)

    def write(self) -> int:
        """Write what fits; return the events to wait for."""
        self.unsent += self.connection.data_to_send()
        try:
            if self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except WAITS:
            pass
        except OSError:
            self.unsent = b""  # Reading says what has happened.
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)

    def read(self) -> None:
        """Read all there is: what TLS has decrypted already does not make the socket readable."""
        while not self.connection.closed:
            try:
                data = self.socket.recv(65_536)
            except WAITS:
                return
            except OSError:
                data = b""
            now = time.monotonic()
            connection = self.connection
            self.take(connection.receive_data(data, now) if data else connection.receive_eof(now))

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Result):
                self.text += "".join(t.text for t in event.message.tokens if t.is_final)
            elif isinstance(event, Finished):
                self.connection.close(time.monotonic())

    @property
    def result(self) -> str | SonioxRealtimeError:
        if self.connection.outcome is Outcome.FINISHED:
            return self.text
        error = self.connection.error
        return error or SonioxConnectionError("closed before the transcript was complete")


def transcribe(
    url: str, api_key: str, recordings: list[bytes], tls: ssl.SSLContext | None = None
) -> list[str | SonioxRealtimeError]:
    """Stream all recordings at once; return for each the final text, or what ended it too early."""
    sessions = [Session(url, api_key, audio, tls) for audio in recordings]
    with selectors.DefaultSelector() as selector:
        for session in sessions:
            selector.register(session.socket, session.write(), session)
        while selector.get_map():
            deadlines = [s.connection.next_timeout() for s in sessions if not s.connection.closed]
            soonest = min((d for d in deadlines if d is not None), default=None)
            wait = None if soonest is None else max(0.0, soonest - time.monotonic())
            for key, events in selector.select(wait):
                if events & selectors.EVENT_READ:
                    key.data.read()
            for key in list(selector.get_map().values()):
                session = key.data
                session.take(session.connection.handle_timeout(time.monotonic()))
                events = session.write()
                # A close frame that does not fit is not waited for: who closed may read no more.
                if session.connection.closed:
                    selector.unregister(session.socket)
                    session.socket.close()
                elif events != key.events:
                    selector.modify(session.socket, events, session)
    return [session.result for session in sessions]


if __name__ == "__main__":
    print(transcribe(sys.argv[1], sys.argv[2], [bytes(64_000)] * 100))
