"""A resolver for tests: one name, with the addresses that a test wants it to have."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from tests.support.adapters.server import PATIENCE

__all__ = ["NAME", "FakeResolver"]

NAME = "stt.example.test"


class FakeResolver:
    """Resolves `NAME` to `addresses` wherever the process asks, once it is `released`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
        self.addresses = [("127.0.0.1", port) for port in ports]
        self.family: int = socket.AF_INET
        self.asked = threading.Event()
        self.released = threading.Event()
        self.released.set()
        self._system = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        if host not in {NAME, NAME.encode()}:
            return self._system(host, port, family, type, proto, flags)
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked.set()
        assert self.released.wait(PATIENCE)
        return [
            (self.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for address in self.addresses
        ]
