"""Names: the addresses to dial for a host, looked up once in a while and judged each time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from scrapekit import urls
from scrapekit.reach import asking, refused_as_rebound
from scrapekit.transport.dialling import AddressRefused, KnownNames

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, ResolveResult

Address = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
"""As getaddrinfo() gives it."""

TTL_S: Final = 300.0
_MAX_NAMES: Final = 10_000


class Names:
    """Looks names up by a resolver of aiohttp's kind, by default the system's.

    Those who ask for one name at the same time share one look-up. With `is_guarded`, no name is
    believed twice (`KnownNames`).
    """

    def __init__(self, resolver: AbstractResolver | None, *, is_guarded: bool) -> None:
        self._resolve = resolver.resolve if resolver is not None else _ask_system
        self._known = KnownNames() if is_guarded else None
        self._cache: dict[_Key, tuple[float, list[Address]]] = {}
        self._asking: dict[_Key, asyncio.Task[list[Address]]] = {}

    async def find(self, host: str, port: int) -> list[Address]:
        """Raises AddressRefused, and OSError for a name that leads nowhere."""
        if urls.is_address(host):
            return [_address(host.strip("[]"), port)]
        # The name of a proxy is believed, so it must not be found by who asks for a page there.
        key = (host, port, asking.get().proxied)
        until, found = self._cache.get(key, (0.0, []))
        if until > asyncio.get_running_loop().time():
            return found
        try:
            return await asyncio.shield(self._lookup(key))
        except AddressRefused as exc:
            # The error tells of the request that asked first.
            raise AddressRefused(refused_as_rebound(asking.get())) from exc

    def is_asking(self, host: str) -> bool:
        """Whether a name is being looked up."""
        return any(key[0] == host for key in self._asking)

    def _lookup(self, key: _Key) -> asyncio.Task[list[Address]]:
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._look_up(key))
            task.add_done_callback(self._settle(key))
        return task

    def _settle(self, key: _Key) -> Callable[[asyncio.Task[list[Address]]], None]:
        def settle(task: asyncio.Task[list[Address]]) -> None:
            del self._asking[key]
            if not task.cancelled():
                task.exception()  # whoever asked may have left, and asyncio would complain

        return settle

    async def _look_up(self, key: _Key) -> list[Address]:
        host, port, _ = key
        answers = await self._resolve(host, port, socket.AF_UNSPEC)
        if self._known is not None:
            answers = self._known.believed(host, answers)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        found = [_address(answer["host"], port) for answer in answers]
        if len(self._cache) >= _MAX_NAMES:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = asyncio.get_running_loop().time() + TTL_S, found
        return found

    async def aclose(self) -> None:
        """End what is looked up; a resolver that was given stays open."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_Key = tuple[str, int, bool]


def _address(host: str, port: int) -> Address:
    is_v6 = ":" in host
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    where = (host, port, 0, 0) if is_v6 else (host, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where


async def _ask_system(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
    )
    return [
        {
            "hostname": host,
            "host": _with_zone(where),
            "port": port,
            "family": kind,
            "proto": protocol,
            "flags": socket.AI_NUMERICHOST,
        }
        for kind, _, protocol, _, where in found
    ]


def _with_zone(where: tuple[Any, ...]) -> str:
    """The address, and for a link-local one the interface that it is reached by (RFC 4007, 11)."""
    zone = where[3] if len(where) > 3 else 0
    return f"{where[0]}%{zone}" if zone else str(where[0])
