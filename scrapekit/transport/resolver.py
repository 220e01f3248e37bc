"""Resolver: aiohttp's way to addresses, by names that are believed once."""

from __future__ import annotations

import socket
from collections import Counter

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from scrapekit.transport.dialling import KnownNames


class Resolver(AbstractResolver):
    """Resolves by another resolver, by default the system's, as far as KnownNames believes it."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or aiohttp.DefaultResolver()
        self._owns_inner = inner is None
        self._names = KnownNames()
        self.under_way: Counter[str] = Counter()
        """The names that are being resolved, and how often."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.under_way[host] += 1
        try:
            answers = await self._inner.resolve(host, port, family)
        finally:
            self.under_way[host] -= 1
            if not self.under_way[host]:
                del self.under_way[host]
        return self._names.believed(host, answers)

    async def close(self) -> None:
        if self._owns_inner:
            await self._inner.close()
