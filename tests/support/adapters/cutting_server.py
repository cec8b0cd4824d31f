"""The model of the service on real sockets, which cuts its connections where a test says so."""

from __future__ import annotations

import socket
import struct
import threading
import time
from types import TracebackType

from typing_extensions import Self

from tests.support.core.model_service import ModelService, Word

__all__ = ["CuttingServer"]

_FINAL_LAG_MS = 700
_RESET = struct.pack("ii", 1, 0)


class CuttingServer:
    """Serves sessions on 127.0.0.1, each connection until it is cut.

    Args:
        words: What is said in the audio.
        cuts_ms: For each connection, after how much audio it is cut; later ones are not. Every
            second cut is a reset, the others look like a clean end.
    """

    def __init__(self, words: list[Word], cuts_ms: list[int]) -> None:
        self._words = words
        self._cuts = list(cuts_ms)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._ending = False
        self.connections = 0
        self.services: list[ModelService] = []
        """One for each connection."""
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/transcribe-websocket"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            cut_ms = self._cuts.pop(0) if self._cuts else None
            self._start(self._serve, connected, cut_ms, self.connections % 2 == 0)

    def _serve(self, connected: socket.socket, cut_ms: int | None, resets: bool) -> None:
        service = ModelService(self._words)
        self.services.append(service)
        with connected:
            connected.settimeout(0.05)
            while not self._ending:
                service.now = time.monotonic()
                try:
                    data = connected.recv(65536)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not data:
                    return
                service.receive(data)
                if cut_ms is not None and len(service.heard) >= cut_ms:
                    if resets:
                        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    return
                self._answer(service)
                output, _ = service.take_output()
                try:
                    connected.sendall(output)
                except OSError:
                    return

    def _answer(self, service: ModelService) -> None:
        if service.finished:
            return
        if service.ended:
            service.finish()
        elif service.heard:
            while service.finalizes:
                service.answer_finalize()
            heard = len(service.heard)
            service.recognize(heard - _FINAL_LAG_MS, heard)
