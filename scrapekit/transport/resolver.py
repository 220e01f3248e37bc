"""Resolver: aiohttp's way to addresses, by names that are believed once."""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from scrapekit.transport.dialling import KnownNames


class Resolver(AbstractResolver):
    """Resolves by another resolver, by default the system's, as far as KnownNames believes it."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or aiohttp.DefaultResolver()
        self._owns_inner = inner is None
        self._names = KnownNames()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return self._names.believed(host, await self._inner.resolve(host, port, family))

    async def close(self) -> None:
        if self._owns_inner:
            await self._inner.close()
