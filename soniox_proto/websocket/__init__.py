"""RFC 6455 alone: the handshake, frames and messages of one end of a WebSocket.

Nothing in here knows what the messages are about. `connection.py` is one end of a connection,
`framing.py` the fast path for ordinary frames, `http_head.py` finds the end of the handshake.
"""
