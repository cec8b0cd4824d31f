"""What servers do to end a session, or to keep it from opening: scripts for `FakeServer`."""

from __future__ import annotations

from tests.support.adapters.server import Peer, Script
from tests.support.core import frames
from tests.support.core.messages import FINISHED


def ends(*messages: str, data: bytes = b"") -> Script:
    """Return a script that sends messages, then raw bytes, and then does nothing."""

    def script(peer: Peer) -> None:
        peer.send(b"".join(map(frames.text, messages)) + data)
        peer.watch()

    return script


def cuts(peer: Peer) -> None:
    peer.cut()
    peer.watch()


def refuses(peer: Peer) -> None:
    peer.read_request()
    peer.send(
        frames.refusal("429 Too Many Requests", b"slow down", [("Retry-After", "7")]),
    )
    peer.read_to_the_end()


def answers_with_garbage(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    peer.drain()


def accepts_wrongly(peer: Peer) -> None:
    peer.read_request()
    token = frames.accept_token("another key entirely")
    headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", token)]
    peer.send(frames.http_head("HTTP/1.1 101 Switching Protocols", headers))
    peer.drain()


def leaves_before_the_answer(peer: Peer) -> None:
    peer.read_request()
    peer.cut()
    peer.drain()


def resets_before_the_answer(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def never_answers(peer: Peer) -> None:
    peer.read_request()
    peer.drain()


def drips(peer: Peer) -> None:
    peer.read_request()
    for byte in peer.accepting_bytes()[:-1]:
        if peer.over.wait(0.01):
            return
        peer.send(bytes([byte]))


def answers_the_close(peer: Peer) -> None:
    peer.read_to_the_end()


def finishes_while_closing(peer: Peer) -> None:
    peer.read_until_close()
    peer.say(FINISHED)
    peer.close()
    peer.read_to_the_end()
