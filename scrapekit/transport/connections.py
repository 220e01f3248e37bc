"""aiohttp's connection pool, with what it gets wrong put right.

- A pooled connection may hold bytes that nobody asked for: a whole response, planted for the next
  request. aiohttp 3.14 would hand it out; here such a connection is closed.
- A chunk that breaks the framing, when it arrives later than the header, leaves aiohttp's reader
  waiting for ever, read timeout or not; here the loss of the connection ends the wait.
- A body without a length ends with its connection; aiohttp takes a reset for that end too.
- aiohttp repeats an idempotent request when the server hangs up. That is right for a connection
  which died while idle (RFC 9112, 9.3.1), but on a fresh one it is a second visit behind the back
  of retry and politeness.
- Closing the pool forgets the connections that are just closing, and with them their sockets.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection

from scrapekit.errors import BodyTruncated, ProtocolError, Refused

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType

    SocketFactory = Callable[[AddrInfoType], socket.socket]


class HungUp(aiohttp.ClientConnectionError):
    """The server closed a fresh connection instead of answering. Not repeated by aiohttp."""


class AddressRefused(OSError):
    """Carries Refused through aiohttp, which lets only OSErrors out of a socket factory."""

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


def broken_framing() -> ProtocolError:
    """The error for a body whose chunks are none."""
    return ProtocolError("the body breaks the framing of HTTP")


class Line:
    """One connection, from its making to the closing of its socket."""

    __slots__ = ("content", "fresh", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.fresh = True
        """No request went out on it before this one."""
        self.content: aiohttp.StreamReader | None = None
        """The latest body that came through."""

    def lost(self) -> None:
        """End the wait for a body that aiohttp has given up without telling its reader."""
        content = self.content
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(broken_framing())


class Connector(aiohttp.TCPConnector):
    """The pool. `lines` has every connection whose socket is open."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lines: dict[ResponseHandler, Line] = {}

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        connection = await super().connect(*args, **kwargs)
        while (wire := _wire(connection)) in self.lines and wire.should_close:
            connection.close()
            connection = await super().connect(*args, **kwargs)
        self._enlist(wire)
        return connection

    def _enlist(self, wire: ResponseHandler) -> None:
        line = self.lines.get(wire)
        if line is not None:
            line.fresh = False
        elif wire.closed is not None and wire.transport is not None:
            self.lines[wire] = Line(wire.transport)
            wire.closed.add_done_callback(lambda closed: self._strike(wire, closed))

    def _strike(self, wire: ResponseHandler, closed: asyncio.Future[None]) -> None:
        if not closed.cancelled():
            closed.exception()  # asyncio complains about errors that nobody looks at
        self.lines.pop(wire).lost()

    def abort(self) -> list[asyncio.Future[None]]:
        """Cut every connection; the futures are done when the sockets are closed."""
        for line in self.lines.values():
            line.transport.abort()
        return [wire.closed for wire in self.lines if wire.closed is not None]


current_session: Final[ContextVar[str]] = ContextVar("current_session", default="")
"""Whose request is sent: it shares connections with those of the same session alone."""


class SessionRequest(ClientRequest):
    """Keeps the connections of named sessions apart: a server may tie a login to a connection
    (as NTLM does), or tell by it who is the same visitor.
    """

    @property
    def connection_key(self) -> ConnectionKey:
        key = super().connection_key
        name = current_session.get()
        # The one field that is free: a number that aiohttp compares and doesn't read.
        return key._replace(proxy_headers_hash=hash(name)) if name else key


def _wire(connection: Connection) -> ResponseHandler:
    assert connection.protocol is not None  # only a closed one has none
    return connection.protocol


class Answer(aiohttp.ClientResponse):
    """A response that knows its connection."""

    def __init__(self, lines: Mapping[ResponseHandler, Line], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines = lines
        self._wire: ResponseHandler | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self._wire = _wire(connection)
        line = self._lines.get(self._wire)
        if line is None:
            raise HungUp("the connection broke as soon as it was made")
        try:
            await super().start(connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
            if line.fresh:
                raise HungUp(str(exc)) from exc
            raise
        line.content = self.content
        return self

    def check_end(self) -> None:
        """Raise BodyTruncated if a body without a length ended with a broken connection."""
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            return
        if self._wire is not None and isinstance(self._wire.exception(), aiohttp.ClientOSError):
            raise BodyTruncated("the body ends early: the connection broke")
