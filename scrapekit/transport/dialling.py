"""Dialling: the addresses that names stand for, and the sockets that are made for them, guarded.

A resolver alone would guard nothing, because it is never asked about addresses that stand in URLs.
A socket is made for every connection, whatever the URL says.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp
import xxhash
from aiohttp.abc import AbstractResolver, ResolveResult

from scrapekit.addresses import Space, judge
from scrapekit.errors import Refused
from scrapekit.reach import Reach, asking, refused_as_rebound

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType

    SocketFactory = Callable[[AddrInfoType], socket.socket]


class AddressRefused(OSError):
    """Carries Refused through aiohttp, which lets only OSErrors out of resolver and factory."""

    def __init__(self, refused: Refused) -> None:
        # The same words each time: aiohttp keeps the first error only of several equal ones.
        super().__init__("address refused")
        self.refused = refused


def refusing(factory: SocketFactory) -> SocketFactory:
    """Make a socket factory that may raise Refused fit for aiohttp."""

    def make(address: AddrInfoType) -> socket.socket:
        try:
            return factory(address)
        except Refused as exc:
            raise AddressRefused(exc) from exc

    return make


def guarded(reach: Reach, factory: SocketFactory | None = None) -> SocketFactory:
    """A socket factory that makes none for an address where the request may not go."""
    factory = factory or _plain

    def make(address: AddrInfoType) -> socket.socket:
        reach.check_address(str(address[4][0]), asking.get())
        return factory(address)

    return make


def _plain(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


class Resolver(AbstractResolver):
    """Resolves by another resolver, by default the system's, and believes no name twice.

    Whoever owns a name chooses its addresses anew with each answer (DNS rebinding). So of an
    answer with public addresses those alone count, and a name that was public remains so.
    """

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or aiohttp.DefaultResolver()
        self._owns_inner = inner is None
        self._public: set[int] = set()
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
        if asking.get().proxied:
            return answers
        public = [answer for answer in answers if judge(answer["host"]).space == Space.PUBLIC]
        # Numbers, because a broad crawl meets millions of names.
        name = xxhash.xxh3_64_intdigest(host.lower().encode())
        if public:
            self._public.add(name)
            return public
        if answers and name in self._public:
            raise AddressRefused(refused_as_rebound(asking.get()))
        return answers

    async def close(self) -> None:
        if self._owns_inner:
            await self._inner.close()
