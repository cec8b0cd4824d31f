"""RFC 6455 alone: the handshake, frames and messages of one end of a WebSocket."""
