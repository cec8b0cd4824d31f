"""Bytes under gevent: a greenlet for each session, with sockets that let the others run."""

from __future__ import annotations

import sys
import time

import gevent
from gevent import socket

from soniox_proto import Finished, RealtimeSTTConfig, RealtimeSTTConnection, Result

CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5", audio_format="pcm_s16le", sample_rate=16_000, num_channels=1
)


def transcribe(url: str, api_key: str, audio: bytes) -> str:
    """Stream one recording, and return the final text; called in a greenlet."""
    connection = RealtimeSTTConnection(url, CONFIG, api_key=api_key)
    endpoint = connection.endpoint
    text = ""
    with socket.create_connection((endpoint.host, endpoint.port)) as stream:
        connection.connect(time.monotonic())
        connection.send_audio(audio, time.monotonic())
        connection.finish(time.monotonic())
        while True:
            stream.sendall(connection.data_to_send())
            if connection.closed:
                break
            deadline = connection.next_timeout()
            # A timeout of 0 would make the socket non-blocking.
            wait = None if deadline is None else max(0.001, deadline - time.monotonic())
            stream.settimeout(wait)
            try:
                data = stream.recv(65_536)
            except TimeoutError:
                events = connection.handle_timeout(time.monotonic())
            else:
                now = time.monotonic()
                events = connection.receive_data(data, now) if data else connection.receive_eof(now)
            for event in events:
                if isinstance(event, Result):
                    text += "".join(t.text for t in event.message.tokens if t.is_final)
                elif isinstance(event, Finished):
                    connection.close(time.monotonic())
    return text


if __name__ == "__main__":
    audio = bytes(32_000 * int(sys.argv[3]))
    greenlets = [gevent.spawn(transcribe, sys.argv[1], sys.argv[2], audio) for _ in range(3)]
    for greenlet in gevent.joinall(greenlets, raise_error=True):
        print(greenlet.value)
