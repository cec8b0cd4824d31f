"""How a connection to the server is opened: name, addresses, proxy, TLS.

What can be decided without I/O stands in modules of its own and is shared. `blocking`,
`on_asyncio` and `on_trio` move the bytes, each in its own world.
"""
