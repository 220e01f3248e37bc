"""A small internet on loopback: names that resolve as a test says, and public addresses that lead
to a server of its own. Nothing public is ever dialled.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from scrapekit.settings import Settings
from tests.transports import AnyTransport, make_transport

CANARY = "127.0.0.77"
"""Where nobody may ever connect to."""

PUBLIC = "8.8.8.8"
"""An address that counts as public; its connections go to 127.0.0.1."""

Answers = Callable[[str], list[str]]


class Names(AbstractResolver):
    """Resolves by a function: name in, addresses out, or an exception."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._answers(host)
        ]

    async def close(self) -> None: ...


class _Socket(socket.socket):
    """One that reaches 127.0.0.1 and says it reached PUBLIC."""

    def connect(self, address: Any) -> None:
        super().connect(("127.0.0.1", address[1]))

    def getpeername(self) -> Any:
        return PUBLIC, super().getpeername()[1]


def make_socket(address: Any) -> socket.socket:
    """A socket factory: whoever dials PUBLIC gets what pretends to be that."""
    family, kind, protocol, _, (host, *_rest) = address
    made = _Socket if host == PUBLIC else socket.socket
    return made(family, kind, protocol)


def internet(answers: Answers, settings: Settings) -> AnyTransport:
    """The real transport in this internet."""
    return make_transport(settings, resolver=Names(answers), socket_factory=make_socket)


class Canary:
    """Counts who connects."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    def connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@asynccontextmanager
async def listening(host: str = CANARY) -> AsyncIterator[Canary]:
    canary = Canary()
    server = await asyncio.start_server(canary.connected, host, 0)
    canary.port = server.sockets[0].getsockname()[1]
    try:
        yield canary
    finally:
        server.close()
        await server.wait_closed()
