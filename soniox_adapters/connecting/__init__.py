"""How a connection to the server is opened: name resolution, addresses, proxy, TLS.

Every decision that needs no I/O has a module of its own, which all sessions share. `blocking`,
`on_asyncio` and `on_trio` do the I/O.
"""
