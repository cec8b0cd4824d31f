"""A relay on asyncio: browsers talk to it without a key, and it talks to the service with one.

Towards a browser it has the server's end of the protocol, towards the service the client's. What
one end reports is said at the other.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress

from soniox_proto import (
    AudioReceived,
    ClientClosed,
    Closed,
    EndOfAudioReceived,
    Event,
    FinalizeReceived,
    Finished,
    Opened,
    RealtimeSTTConnection,
    RealtimeSTTServerConnection,
    RequestRefused,
    Result,
    ServerError,
    ServerEvent,
    SonioxStateError,
    StartReceived,
    UpgradeReceived,
)


class Relay:
    """One browser, and its connection to the service once the browser has said what it wants."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url, self.api_key = url, api_key
        self.browser = RealtimeSTTServerConnection()
        self.service: RealtimeSTTConnection | None = None
        self.writers: dict[object, asyncio.StreamWriter] = {}
        self.calling: asyncio.Task[None] | None = None
        # Clear while the service is being called. What the browser says has to wait then: a
        # connection that is not open yet holds a limited amount of audio.
        self.ready = asyncio.Event()
        self.ready.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one browser; a callback for `asyncio.start_server`."""
        try:
            await self.pump(self.browser, reader, writer)
            if self.service is not None and self.calling is not None:
                self.service.close(time.monotonic())
                self.write()
                await self.calling
        finally:
            if self.calling is not None:
                self.calling.cancel()
                await asyncio.wait([self.calling])
            for left in self.writers.values():
                left.close()

    async def call_service(self, service: RealtimeSTTConnection) -> None:
        host, port = service.endpoint.host, service.endpoint.port
        try:
            call = asyncio.open_connection(host, port, ssl=service.endpoint.secure or None)
            stream = await asyncio.wait_for(call, 10)
        except (OSError, asyncio.TimeoutError):
            with suppress(SonioxStateError):
                self.browser.send_error(503, None, "the service is away", time.monotonic())
            self.write()
        else:
            await self.pump(service, *stream)
        finally:
            self.ready.set()

    async def pump(
        self,
        end: RealtimeSTTServerConnection | RealtimeSTTConnection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Move the bytes of one end until it is closed, and say at the other what it reports."""
        self.writers[end] = writer
        self.write()
        while not end.closed:
            # The other end may change the timers meanwhile, so look at least once a second.
            deadline = end.next_timeout() or time.monotonic() + 1.0
            wait = min(1.0, max(0.0, deadline - time.monotonic()))
            data: bytes | None = b""
            with suppress(OSError):
                try:
                    data = await asyncio.wait_for(self.read(end, reader), wait)
                except asyncio.TimeoutError:
                    data = None
            now = time.monotonic()
            if data is None:
                events = end.handle_timeout(now)
            else:
                events = end.receive_data(data, now) if data else end.receive_eof(now)
            for event in events:
                with suppress(SonioxStateError):  # The other end is over already.
                    self.pass_on(event, now)
            self.write()
        self.writers.pop(end).close()

    async def read(self, end: object, reader: asyncio.StreamReader) -> bytes:
        """Read from one end, once the other one takes what this one said before."""
        if end is self.browser:
            await self.ready.wait()
        for other, writer in list(self.writers.items()):
            if other is not end:
                with suppress(OSError):
                    await writer.drain()
        return await reader.read(65_536)

    def write(self) -> None:
        for end, writer in self.writers.items():
            writer.write(end.data_to_send())  # type: ignore[attr-defined]

    def pass_on(self, event: ServerEvent | Event, now: float) -> None:
        browser, service = self.browser, self.service
        match event:
            # What the browser did.
            case UpgradeReceived():
                browser.accept(now)
            case StartReceived(config=config):
                self.service = RealtimeSTTConnection(self.url, config, api_key=self.api_key)
                self.service.connect(now)  # Audio is held until it is open.
                self.ready.clear()
                self.calling = asyncio.create_task(self.call_service(self.service))
            case RequestRefused(code, kind, message):
                browser.send_error(code, kind, message, now)
            case AudioReceived(data) if service is not None:
                service.send_audio(data, now)
            case FinalizeReceived(silence) if service is not None:
                service.finalize(now, silence)
            case EndOfAudioReceived() if service is not None:
                service.finish(now)
            case ClientClosed() if service is not None:
                service.close(now)
            # What the service did.
            case Opened():
                self.ready.set()
            case Finished(answer):
                browser.finish(answer, now)
            case ServerError(_, answer):
                code = answer.error_code or 500
                browser.send_error(code, answer.error_type, answer.error_message or "", now)
            case Result(answer) if not answer.finished and answer.error_code is None:
                browser.send_result(answer, now)
            case Closed(error=error) if not browser.closed:
                browser.close(now, 1000 if error is None else 1011)
            case _:
                pass  # Keepalives: the connection to the service sends its own.


async def main(url: str, port: int) -> None:
    key = os.environ["SONIOX_API_KEY"]
    server = await asyncio.start_server(lambda *s: Relay(url, key).serve(*s), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
