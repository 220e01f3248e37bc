"""Transports: how a Request becomes a Response.

`base` holds the protocol, `http` the real thing, `fake` the one for tests. Nothing is imported
here, so that asking for the protocol doesn't load an HTTP client.
"""
