"""aiohttp's connection pool, with what it gets wrong put right.

- A connection that one request may open isn't for every other one.
- A connection that has sent nonsense goes back into the pool if the nonsense was framed well.
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
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection

from scrapekit.errors import BodyTruncated, ProtocolError, Refused
from scrapekit.reach import Reach, asking
from scrapekit.transport.wire import Limits, Wire


class HungUp(aiohttp.ClientConnectionError):
    """The server closed a fresh connection instead of answering. Not repeated by aiohttp."""


def broken_framing() -> ProtocolError:
    """The error for a body whose chunks are none."""
    return ProtocolError("the body breaks the framing of HTTP")


class Line:
    """One connection, from its making to the closing of its socket."""

    __slots__ = ("address", "content", "fresh", "transport")

    def __init__(self, transport: asyncio.Transport, address: str) -> None:
        self.transport = transport
        self.address = address
        """The IP address at the other end; "" if a proxy stands between."""
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
    """The pool. `lines` has every connection whose socket is open.

    `reach` says which requests may use a connection that another request has opened, `limits` what
    any connection may bring.
    """

    def __init__(self, *, reach: Reach | None = None, limits: Limits, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(Wire, limits, self._loop)  # type: ignore[assignment]
        self.lines: dict[ResponseHandler, Line] = {}
        self._reach = reach

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        connection = await super().connect(*args, **kwargs)
        while (wire := _wire(connection)) in self.lines and wire.should_close:
            connection.close()
            connection = await super().connect(*args, **kwargs)
        self._enlist(wire)
        if self._reach is not None:
            self._check(connection, self._reach)
        return connection

    def _check(self, connection: Connection, reach: Reach) -> None:
        line = self.lines.get(_wire(connection))
        try:
            reach.check_address(line.address if line else "", asking.get())
        except Refused:
            connection.release()
            raise

    def _enlist(self, wire: ResponseHandler) -> None:
        line = self.lines.get(wire)
        if line is not None:
            line.fresh = False
        elif wire.closed is not None and wire.transport is not None:
            # There is no name of a peer that has gone already.
            name = wire.transport.get_extra_info("peername")
            known = name and not asking.get().proxied
            self.lines[wire] = Line(wire.transport, name[0] if known else "")
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
        self.address = ""
        """The IP address it comes from; "" if a proxy stands between."""

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
        self.address = line.address
        return self

    def condemn(self) -> None:
        """Have the connection closed instead of used again, be it in the pool or busy by now."""
        if self._wire is not None:
            self._wire.force_close()

    def check_end(self) -> None:
        """Raise BodyTruncated if a body without a length ended with a broken connection."""
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            return
        if self._wire is not None and isinstance(self._wire.exception(), aiohttp.ClientOSError):
            raise BodyTruncated("the body ends early: the connection broke")
