"""Bytes under gevent: two greenlets for each session, with sockets that let the others run.

One of them writes. Writing waits while the server does not read, and must keep neither the timers
nor what the server says waiting.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

import gevent
from gevent import socket, ssl
from gevent.queue import Queue

from soniox_proto import (
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


def transcribe(url: str, api_key: str, audio: bytes) -> str:
    """Stream one recording, and return its final text; raises what ends the session too early."""
    connection = RealtimeSTTConnection(url, CONFIG, api_key=api_key)
    endpoint = connection.endpoint
    text = ""
    stream: Any = socket.create_connection((endpoint.host, endpoint.port), timeout=10)
    if endpoint.secure:
        # Not `create_default_context`, whose sockets would block all greenlets.
        context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        stream = context.wrap_socket(stream, server_hostname=endpoint.server_hostname)
    stream.settimeout(None)
    with stream:
        outgoing: Any = Queue()
        writer: Any = gevent.spawn(write, stream, outgoing)
        try:
            connection.connect(time.monotonic())
            connection.send_audio(audio, time.monotonic())
            connection.finish(time.monotonic())
            while True:
                if data := connection.data_to_send():
                    outgoing.put(data)
                if connection.closed:
                    break
                deadline = connection.next_timeout()
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                received = receive(stream, wait)
                now = time.monotonic()
                if received is None:
                    events = connection.handle_timeout(now)
                elif received:
                    events = connection.receive_data(received, now)
                else:
                    events = connection.receive_eof(now)
                for event in events:
                    if isinstance(event, Result):
                        text += "".join(t.text for t in event.message.tokens if t.is_final)
                    elif isinstance(event, Finished):
                        connection.close(time.monotonic())
            outgoing.put(b"")
            writer.join(timeout=1)  # The close frame, unless the server reads no more.
        finally:
            writer.kill()
    if connection.outcome is not Outcome.FINISHED:
        raise connection.error or SonioxConnectionError("closed before the transcript was complete")
    return text


def write(stream: Any, outgoing: Any) -> None:
    with suppress(OSError):  # Reading says why.
        while data := outgoing.get():
            stream.sendall(data)


def receive(stream: Any, wait: float | None) -> bytes | None:
    """Return what comes, ``b""`` at the end, None if nothing has come in time."""
    with gevent.Timeout(wait, False):
        try:
            return bytes(stream.recv(65_536))
        except OSError:
            return b""
    return None


if __name__ == "__main__":
    audio = bytes(32_000 * int(sys.argv[3]))
    greenlets = [gevent.spawn(transcribe, sys.argv[1], sys.argv[2], audio) for _ in range(3)]
    for greenlet in gevent.joinall(greenlets, raise_error=True):
        print(greenlet.value)
