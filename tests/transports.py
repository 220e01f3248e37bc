"""Both transports, for the tests that each of them has to pass.

A test that asks for the fixture `each_transport` runs once with each: crawls behave as if their
settings asked for it, and `make_transport` makes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from scrapekit import api
from scrapekit.settings import Settings
from scrapekit.transport.base import Transport
from scrapekit.transport.fast.line import Line
from scrapekit.transport.fast.transport import FastTransport
from scrapekit.transport.http import HttpTransport

AnyTransport = HttpTransport | FastTransport
KINDS: Final[dict[str, type[HttpTransport | FastTransport]]] = {
    "aiohttp": HttpTransport,
    "fast": FastTransport,
}
_chosen: dict[str, str] = {"name": "aiohttp"}


def make_transport(settings: Settings, **options: Any) -> AnyTransport:
    """The transport that the test runs with."""
    return KINDS[_chosen["name"]](settings, **options)


def switch(patch: pytest.MonkeyPatch, name: str) -> None:
    """Run the test with that transport."""
    make = api._http

    def make_chosen(settings: Settings) -> Transport:
        return make(msgspec.structs.replace(settings, transport=name))

    patch.setitem(_chosen, "name", name)
    patch.setattr(api, "_http", make_chosen)


class _Overheard(asyncio.BufferedProtocol):
    """Stands before a connection's protocol."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.get_buffer = line.get_buffer  # type: ignore[method-assign]
        self.buffer_updated = line.buffer_updated  # type: ignore[method-assign]
        self.eof_received = line.eof_received  # type: ignore[method-assign]
        self.connection_lost = line.connection_lost  # type: ignore[method-assign]


def overhear(
    transport: AnyTransport,
    *,
    arrived: Callable[[], None] = lambda: None,
    losing: Callable[[], None] = lambda: None,
) -> None:
    """Be told of the only connection: after bytes have arrived, and before it is lost."""
    protocol: Any
    if isinstance(transport, HttpTransport):
        (protocol,) = transport._connector.lines  # type: ignore[union-attr]
        takes = "data_received"
    else:
        (protocol,) = map(_Overheard, transport._pool.lines)  # type: ignore[union-attr]
        takes = "buffer_updated"
    receive, lose = getattr(protocol, takes), protocol.connection_lost

    def receive_and_tell(data: Any) -> None:
        receive(data)
        arrived()

    def tell_and_lose(exc: BaseException | None) -> None:
        losing()
        lose(exc)

    setattr(protocol, takes, receive_and_tell)
    protocol.connection_lost = tell_and_lose
    if isinstance(protocol, _Overheard):
        protocol.line.transport.set_protocol(protocol)  # uvloop looks at what it has by now
