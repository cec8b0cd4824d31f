"""Connections that are opened before a session needs them.

Opening a connection takes TCP, TLS and the upgrade: three to four round trips before the first
audio can leave. The service accepts a connection that is upgraded and then waits, as long as
keepalives come (Soniox docs, "WebSocket authentication"), so those round trips can be made
beforehand:

- `idle_link.py`: one such connection, and what keeps it alive.
- `pool.py`: how many there should be, when to replace them, and which one to hand out.
- `warm_stream.py`: a session that starts on one, and survives if it turns out to be dead.
"""
